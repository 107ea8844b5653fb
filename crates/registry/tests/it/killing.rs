//! Kill -9 while applying: nothing acknowledged is lost, nothing half-done is visible.
//!
//! The child is this very test binary, asked to run [`the_child_that_is_killed`], which applies one
//! change after the other and prints each revision once it is acknowledged.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use asof_model::{Revision, ThingKind};
use asof_testkit::kill_rounds;

use crate::fixture::{about, apply, by, entity, name, open};

const FOLDER: &str = "ASOF_TEST_FOLDER";
const ACKNOWLEDGED: &str = "ASOF_TEST_ACKNOWLEDGED";
/// Entities of one change: all of them or none.
const TOGETHER: u64 = 5;

#[expect(clippy::disallowed_methods, reason = "how the parent test tells its child where to write")]
fn file_of_the_child() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(|folder| PathBuf::from(folder).join("registry.db"))
}

#[test]
fn the_child_that_is_killed() {
    let Some(path) = file_of_the_child() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let registry = open(&path).await;
        loop {
            let base = registry.catalog().revision;
            let next = base.0 + 1;
            // The same five every time, each with another description: their count tells nothing, their words do.
            let put = (0..TOGETHER)
                .map(|i| entity("shop", &format!("thing{i}"), about("", &format!("at {next}"), &[])))
                .collect();
            let revision = registry.apply(&by("child"), apply("shop", base, put)).await.unwrap();
            println!("acknowledged {}", revision.0);
        }
    });
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_half_done_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut before = 0;
    let mut unanswered = 0;
    for round in 0..kill_rounds() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killing::the_child_that_is_killed", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Not before it has acknowledged something, then at another moment every round.
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains("acknowledged") {
            assert!(output.read_line(&mut text).unwrap() > 0, "the child ended by itself: {text}");
        }
        std::thread::sleep(Duration::from_micros(round * 791 % 20_000));
        child.kill().unwrap();
        child.wait().unwrap();
        output.read_to_string(&mut text).unwrap();
        let acknowledged = text
            .lines()
            .filter_map(|line| line.split_once("acknowledged ")?.1.parse::<u64>().ok())
            .max()
            .unwrap();
        assert!(acknowledged > before);

        let found = runtime.block_on(whole(&path));
        assert!(found == acknowledged || found == acknowledged + 1, "{found} after {acknowledged}");
        unanswered += found - acknowledged;
        before = found;
    }
    println!("{} kills, {before} changes, {unanswered} of them unanswered and there", kill_rounds());
}

/// The revision of a registry all of whose changes are there, once and whole.
async fn whole(path: &Path) -> u64 {
    let registry = open(path).await;
    let catalog = registry.catalog();
    let Revision(found) = catalog.revision;
    let entities = catalog.projects.get(&name("shop")).map(|state| &state.entities);
    assert_eq!(entities.map_or(0, |found| found.len()) as u64, if found == 0 { 0 } else { TOGETHER });
    for version in entities.into_iter().flat_map(|found| found.values()) {
        assert_eq!(version.definition.about.description, Some(format!("at {found}")));
    }
    let history =
        registry.history(&name("shop"), ThingKind::Entity, &name("thing0")).await.unwrap_or_default();
    assert_eq!(history.len() as u64, found, "every change is there once");
    assert!(history.iter().rev().zip(1..).all(|(it, revision)| it.revision == Revision(revision)));
    registry.close().await;
    found
}

/// What a campaign asks of the copy of a disk.
#[test]
#[ignore = "run by `cargo xtask campaign power-loss`"]
fn verify() {
    #[expect(clippy::disallowed_methods, reason = "how the campaign says what was acknowledged")]
    let acknowledged = std::env::var(ACKNOWLEDGED).unwrap();
    let last = acknowledged.split(',').filter_map(|n| n.parse::<u64>().ok()).max().unwrap_or(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(whole(&file_of_the_child().unwrap()));
    assert!(found >= last, "revision {last} was acknowledged, {found} is there");
}
