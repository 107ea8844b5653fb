//! Kill -9 in the middle of a materialisation: what readers see is whole, and the next one ends where
//! an undisturbed one does.

use std::time::Duration;

use asof_testkit::{Child, kill_rounds};

use crate::fixture::{Answer, Node, Row, Shape, plain_rule, row};

const FOLDER: &str = "ASOF_TEST_FLOW_FOLDER";
const ITEMS: i64 = 300;
const ROWS: i64 = 6_000;

fn file(number: i64) -> Vec<Row> {
    (0..ROWS)
        .map(|n| {
            let item = (n * 7 + number) % ITEMS;
            Row {
                gone: n % 97 == 0,
                ..row(item, number * 10 + n * 10 / ROWS, number * ROWS + n, number * 1_000_000 + n)
            }
        })
        .collect()
}

fn opened(folder: &std::path::Path) -> Node {
    let mut node = Node::open(folder);
    node.flow = node.flow.clone().with_batch_bytes(100_000);
    node.clock.set(1_000_000);
    node
}

/// The child's work: materialise what is there.
#[test]
#[ignore = "run by `a_kill_leaves_nothing_half_done` as its child"]
fn materializes_until_killed() {
    #[expect(clippy::disallowed_methods, reason = "the parent test hands the folder over")]
    let folder = std::env::var(FOLDER).unwrap();
    let node = opened(folder.as_ref());
    println!("\nready");
    node.materialize().unwrap();
    println!("\ndone");
}

#[test]
fn a_kill_leaves_nothing_half_done() {
    let folder = tempfile::tempdir().unwrap();
    let items: Vec<Option<i64>> = (0..ITEMS).map(Some).collect();
    let mut rows: Vec<Row> = Vec::new();
    let expected = |rows: &[Row]| -> Vec<Answer> {
        items.iter().map(|item| plain_rule(rows, *item, 1_000_000, None)).collect()
    };
    opened(folder.path()).apply(&Shape::default());
    let mut files = 0;
    let mut killed = 0;
    let mut before: Option<Vec<Answer>> = None;
    for round in 0..kill_rounds() {
        // Every fifth round changes a file that was read, so that a rebuild is cut off as well.
        if round % 5 == 4 {
            let first = file(0);
            rows.retain(|row| row.n >= ROWS);
            let changed: Vec<Row> =
                first.iter().map(|row| Row { price: row.price.map(|p| p + round as i64), ..*row }).collect();
            std::fs::write(folder.path().join("data/0.csv"), crate::fixture::csv(&changed)).unwrap();
            rows.extend(changed);
        } else if files < 12 {
            std::fs::create_dir_all(folder.path().join("data")).unwrap();
            std::fs::write(
                folder.path().join(format!("data/{files}.csv")),
                crate::fixture::csv(&file(files)),
            )
            .unwrap();
            rows.extend(file(files));
            files += 1;
        }
        let environment = [(FOLDER, folder.path().as_os_str())];
        let child = Child::begin("killed::materializes_until_killed", &environment).unwrap();
        assert!(child.says("ready"), "round {round}: the child did not come up");
        std::thread::sleep(Duration::from_micros(round * 7_919 % 90_000));
        let done = child.kill().unwrap().iter().any(|line| line == "done");
        killed += u64::from(!done);

        let node = opened(folder.path());
        let live = {
            let records = node.store.snapshot().unwrap().generations().unwrap();
            records.iter().any(|record| record.state == asof_online::GenerationState::Live)
        };
        if live {
            // Either as before or as after this round; with one new file there is nothing between.
            let found = node.answers(&node.reader(), &items, None);
            let after = expected(&rows);
            assert!(
                found == after || before.as_ref() == Some(&found),
                "round {round}: a reader sees half of a materialisation"
            );
            assert!(!done || found == after, "round {round}: acknowledged and not there");
        }
        node.materialize().unwrap();
        let after = node.answers(&node.reader(), &items, None);
        assert_eq!(after, expected(&rows), "round {round}");
        let records = node.store.snapshot().unwrap().generations().unwrap();
        assert_eq!(records.len(), 1, "round {round}: something was left behind");
        before = Some(after);
    }
    assert!(killed >= 10, "only {killed} rounds were cut off");
}
