//! Kill -9 in the middle of commits: all that was acknowledged is there, and no half of a batch.

use std::path::Path;
use std::time::Duration;

use asof_model::Timestamp;
use asof_online::{Commit, GenerationId, Horizon};
use asof_testkit::{Child, kill_rounds};

use crate::fixture::{answer, batch, generation, opened, row};

const FOLDER: &str = "ASOF_TEST_FOLDER";
const ACKNOWLEDGED: &str = "ASOF_TEST_ACKNOWLEDGED";
const KEYS: i64 = 40;

/// The child's work: batch after batch, each over all keys, each acknowledged on stdout.
#[test]
#[ignore = "run by `acknowledged_commits_survive_kill_9` as its child"]
fn commits_until_killed() {
    #[expect(clippy::disallowed_methods, reason = "the parent test hands the folder over")]
    let folder = std::env::var(FOLDER).unwrap();
    let store = opened(folder.as_ref());
    let progress = store.snapshot().unwrap().progress(GenerationId(1)).unwrap();
    let done =
        progress.first().map_or(0, |(_, said)| i64::from_le_bytes(said.as_slice().try_into().unwrap()));
    for n in done + 1.. {
        let rows: Vec<_> = (0..KEYS).map(|key| row(&format!("k{key}"), n, n, &n.to_string())).collect();
        // Every third batch asks for all history, so that rows are added and removed.
        let horizon = if n % 3 == 0 { Horizon::ALL } else { Horizon(Timestamp(n - 2)) };
        store
            .commit(&Commit {
                generations: &[generation(1)],
                rows: Some(&batch(1, &rows)),
                horizon,
                progress: &[(GenerationId(1), b"done", &n.to_le_bytes())],
                ..Commit::default()
            })
            .unwrap();
        println!("\nacknowledged {n}");
    }
}

#[test]
fn acknowledged_commits_survive_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut highest = 0;
    // Rounds as asked; on a busy machine more, each longer, until the child did its work between kills.
    for round in 0_u64.. {
        if round >= kill_rounds() && highest > 50 {
            break;
        }
        assert!(round < 10 * kill_rounds(), "the child hardly ran: {highest} commits");
        let environment = [(FOLDER, folder.path().as_os_str())];
        let child = Child::begin("crash::commits_until_killed", &environment).unwrap();
        std::thread::sleep(Duration::from_micros(15_000 + round * 7_919 % (45_000 + 500 * round.min(500))));
        let said = child.kill().unwrap();
        let mut said =
            said.iter().rev().filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<i64>().ok());
        let acknowledged = said.next().unwrap_or(highest);

        let done = whole(folder.path());
        // One commit may have been made and not acknowledged.
        assert!(
            done == acknowledged || done == acknowledged + 1,
            "round {round}: {acknowledged} then {done}"
        );
        assert!(done >= highest, "round {round}");
        highest = done;
    }
}

/// The last commit of a store, of which every key has its row.
fn whole(folder: &Path) -> i64 {
    let store = opened(folder);
    let progress = store.snapshot().unwrap().progress(GenerationId(1)).unwrap();
    let done =
        progress.first().map_or(0, |(_, said)| i64::from_le_bytes(said.as_slice().try_into().unwrap()));
    for key in 0..KEYS {
        let found = answer(store.as_ref(), 1, &format!("k{key}"), i64::MAX - 1);
        let expected = (done > 0).then(|| (done, done.to_string()));
        assert_eq!(found, expected, "key {key} of a half batch");
    }
    done
}

/// What a campaign asks of the copy of a disk.
#[test]
#[ignore = "run by `cargo xtask campaign power-loss`"]
fn verify() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the campaign hands over the folder and what was acknowledged"
    )]
    let (folder, acknowledged) = (std::env::var(FOLDER).unwrap(), std::env::var(ACKNOWLEDGED).unwrap());
    let last = acknowledged.split(',').filter_map(|n| n.parse::<i64>().ok()).max().unwrap_or(0);
    let done = whole(folder.as_ref());
    assert!(done >= last, "commit {last} was acknowledged, {done} is there");
}

/// Killed while it makes its store, and made from what an earlier one left of one.
#[test]
fn a_store_that_is_half_made_is_made_again() {
    let mut without = 0;
    for round in 0..40_u64 {
        let folder = tempfile::tempdir().unwrap();
        if round == 0 {
            std::fs::write(folder.path().join("rows.redb.new"), [0; 4096]).unwrap();
        }
        let environment = [(FOLDER, folder.path().as_os_str())];
        let child = Child::begin("crash::commits_until_killed", &environment).unwrap();
        // From the moment at which its folder is touched on.
        while !folder.path().join("LOCK").exists() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(round * 250));
        child.kill().unwrap();
        without += u64::from(!folder.path().join("rows.redb").exists());
        let store = opened(folder.path());
        store.commit(&Commit { generations: &[generation(1)], ..Commit::default() }).unwrap();
    }
    assert!(without > 0, "no round was killed before its store was made");
}
