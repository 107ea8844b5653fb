//! Definitions that change under a materialisation, and callers that go away in the middle of one.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use asof_engine::{Progress, no_progress};
use asof_flow::FlowError;
use asof_model::{Explain, Kind, Principal};
use asof_online::GenerationState;
use asof_registry::RunState;

use crate::fixture::{Node, Row, Shape, name, plain_rule, row};

fn live(node: &Node) -> Vec<(String, String)> {
    let records = node.store.snapshot().unwrap().generations().unwrap();
    assert!(records.iter().all(|record| record.state == GenerationState::Live), "{records:?}");
    records.iter().map(|record| (record.view.name.to_string(), record.version.to_string())).collect()
}

/// Does something at the first word of progress.
fn once(node: &Arc<Node>, then: impl Fn(&Node) + Send + Sync + 'static) -> Progress {
    let (node, done): (Weak<Node>, _) = (Arc::downgrade(node), AtomicBool::new(false));
    Arc::new(move |_| {
        if !done.swap(true, Ordering::AcqRel) {
            then(&node.upgrade().unwrap());
        }
    })
}

#[test]
fn a_version_applied_meanwhile_is_the_one_that_is_materialized() {
    let folder = tempfile::tempdir().unwrap();
    let node = Arc::new(Node::open(folder.path()));
    node.write("data/a.csv", &[row(1, 10, 1, 100)]);
    let second = Shape { version: "2", double: "price + price", ..Shape::default() };
    node.apply_views(&[("aside", &Shape::default()), ("price", &Shape::default())]);
    let now = second.clone();
    // While `aside` is read, `price` changes and its new version comes up.
    let progress = once(&node, move |node| {
        node.apply_views(&[("aside", &Shape::default()), ("price", &now)]);
        let only = [name("price")];
        let (owner, shop) = (Principal::owner(), name("shop"));
        let done = node.flow.materialize(&owner, &shop, Some(&only), no_progress());
        assert_eq!(node.runtime.block_on(done).unwrap()[0].version, "viewprice2");
    });
    let (owner, shop) = (Principal::owner(), name("shop"));
    let done = node.runtime.block_on(node.flow.materialize(&owner, &shop, None, progress)).unwrap();
    let versions: Vec<_> = done.iter().map(|report| (report.version.as_str(), report.units)).collect();
    assert_eq!(versions, [("viewaside1", 1), ("viewprice2", 0)]);
    let expected = [("aside", "viewaside1"), ("price", "viewprice2")];
    assert_eq!(live(&node), expected.map(|(view, version)| (view.to_owned(), version.to_owned())));
    assert_eq!(node.answers(&node.reader(), &[Some(1)], None), [("present", Some(10), Some(100), Some(200))]);
}

#[test]
fn a_version_that_stands_again_keeps_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let node = Arc::new(Node::open(folder.path()));
    node.write("data/a.csv", &[row(1, 10, 1, 100)]);
    let other = Shape { version: "2", double: "price + price", ..Shape::default() };
    node.apply(&Shape::default());
    node.materialize().unwrap();
    // While the changed view is built, the change is taken back.
    node.apply(&other);
    let progress = once(&node, |node| node.apply(&Shape::default()));
    let (owner, shop) = (Principal::owner(), name("shop"));
    node.runtime.block_on(node.flow.materialize(&owner, &shop, None, progress)).unwrap();
    assert_eq!(node.answers(&node.reader(), &[Some(1)], None), [("present", Some(10), Some(100), Some(200))]);
    // And the other one's rows go with the next turn.
    assert_eq!(node.materialize().unwrap().units, 0);
    assert_eq!(live(&node), [("price".to_owned(), "viewprice1".to_owned())]);
}

#[test]
fn a_view_that_is_removed_before_its_turn_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let node = Arc::new(Node::open(folder.path()));
    node.write("data/a.csv", &[row(1, 10, 1, 100)]);
    node.apply_views(&[("aside", &Shape::default()), ("price", &Shape::default())]);
    let progress = once(&node, |node| node.remove_view("price"));
    let (owner, shop) = (Principal::owner(), name("shop"));
    let error = node.runtime.block_on(node.flow.materialize(&owner, &shop, None, progress)).unwrap_err();
    assert_eq!(error.to_string(), "view `shop.price`: view `price` not found");
    assert_eq!(
        (error.kind(), error.hint().unwrap().as_str()),
        (Kind::NotFound, "it was removed before its turn came")
    );
}

/// Waits for the end of some work, or drops it: after its first step, or after a while. Whether it was
/// waited for.
async fn left_alone(work: impl Future, after: Option<Duration>) -> bool {
    match after {
        Some(after) => tokio::time::timeout(after, work).await.is_ok(),
        None => {
            let mut work = pin!(work);
            let first = std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context)));
            first.await.is_ready()
        }
    }
}

#[test]
fn a_caller_that_goes_away_leaves_nothing_half_done() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::open(folder.path());
    node.flow = node.flow.clone().with_batch_bytes(10_000);
    node.clock.set(1_000_000);
    node.apply(&Shape::default());
    let (owner, shop) = (Principal::owner(), name("shop"));
    let mut rows: Vec<Row> = Vec::new();
    let mut gone = 0;
    for round in 0..24_i64 {
        // Rounds of three: a new file, another one, and one of them changed.
        let price = |n: i64| row(n % 50, round * 10 + n % 10, round * 1_000 + n, n);
        let path = format!("data/{}.csv", round - round % 3 / 2);
        let file: Vec<Row> = (0..500).map(price).collect();
        if round % 3 == 2 {
            rows.retain(|row| row.n < (round - 1) * 1_000);
        }
        node.write(&path, &file);
        rows.extend(file);
        let after = (round % 2 > 0).then(|| Duration::from_micros(round as u64 * 7_919 % 20_000));
        let asked = node.flow.materialize(&owner, &shop, None, no_progress());
        gone += i64::from(!node.runtime.block_on(left_alone(asked, after)));
        let report = node.materialize().unwrap();
        let items: Vec<Option<i64>> = (0..50).map(Some).collect();
        let expected: Vec<_> = items.iter().map(|item| plain_rule(&rows, *item, 1_000_000, None)).collect();
        assert_eq!(node.answers(&node.reader(), &items, None), expected, "round {round}");
        assert_eq!((live(&node).len(), report.keys), (1, 50), "round {round}");
    }
    assert!(gone >= 12, "only {gone} of 24 were left");
    // Runs that were left end too, and say how.
    node.runtime.block_on(node.flow.close());
    let runs = node.runtime.block_on(node.registry.runs(&shop, 1_000)).unwrap();
    assert!(runs.len() >= 24);
    assert!(runs.iter().all(|run| run.state != RunState::Running), "{runs:?}");
}

#[test]
fn a_closed_flow_ends_what_goes_on_and_begins_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = Arc::new(Node::open(folder.path()));
    node.write("data/a.csv", &[row(1, 10, 1, 100)]);
    node.apply(&Shape::default());
    let before = node.materialize().unwrap();
    node.write("data/b.csv", &[row(1, 20, 2, 200)]);
    let (sender, closing) = tokio::sync::oneshot::channel();
    let sender = std::sync::Mutex::new(Some(sender));
    let progress = once(&node, move |node| {
        let flow = node.flow.clone();
        let closed = node.runtime.spawn(async move { flow.close().await });
        drop(sender.lock().unwrap().take().unwrap().send(closed));
        // The reading has more to say than this, or has ended: either is well.
        std::thread::sleep(Duration::from_millis(20));
    });
    let (owner, shop) = (Principal::owner(), name("shop"));
    let ended = node.runtime.block_on(node.flow.materialize(&owner, &shop, None, progress));
    node.runtime.block_on(async { closing.await.unwrap().await.unwrap() });
    if let Err(error) = ended {
        assert!(matches!(error, FlowError::Stopping), "{error}");
    }
    let error = node.materialize().unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Unavailable, "stopping"));
    let runs = node.runtime.block_on(node.registry.runs(&shop, 10)).unwrap();
    assert_eq!(runs.len(), 2);
    assert!(runs.iter().all(|run| run.state != RunState::Running), "{runs:?}");
    let records = node.store.snapshot().unwrap().generations().unwrap();
    assert_eq!(records.iter().map(|record| record.id.0).collect::<Vec<_>>(), [before.generation]);
}

/// What rows were let go of by is durable with the first of them: a node that is killed and whose clock
/// goes back must not take an earlier T for the present.
#[test]
fn half_a_unit_says_at_which_time_its_rows_were_judged() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::open(folder.path());
    node.flow = node.flow.clone().with_batch_bytes(1);
    node.write("data/a.csv", &[row(1, 10, 1, 100), row(1, 20, 2, 200)]);
    node.apply(&Shape::default());
    let node = Arc::new(node);
    let progress = once(&node, |node| {
        let records = node.store.snapshot().unwrap().generations().unwrap();
        let said: Vec<_> =
            records.iter().map(|record| (record.state, record.judged_at.0, record.horizon.0)).collect();
        assert_eq!(said, [(GenerationState::Building, 1_000, 1_000)]);
    });
    let (owner, shop) = (Principal::owner(), name("shop"));
    let report = node.runtime.block_on(node.flow.materialize(&owner, &shop, None, progress)).unwrap();
    assert_eq!((report[0].rows_read, report[0].rows), (2, 1));
}
