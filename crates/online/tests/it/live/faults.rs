//! What a disk does to a store: fsyncs that fail, and no space left. By tools of the system, on the program
//! as it is; where these are not permitted the test says so and passes.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use asof_model::{Explain, Kind};
use asof_online::Error;
use asof_online::live::{Durability, LiveOptions, LiveStore, open};
use asof_testkit::is_permitted;

use super::{Hand, opened, options, push_as, rows};

const FOLDER: &str = "ASOF_TEST_FOLDER";
const MEMORY: &str = "ASOF_TEST_MEMORY";

fn child(test: &str) -> [String; 6] {
    let program = std::env::current_exe().unwrap().display().to_string();
    let test = format!("live::faults::{test}");
    ["--exact", &test, "--ignored", "--nocapture", "--test-threads=1"]
        .iter()
        .fold(vec![program], |mut words, word| {
            words.push((*word).to_owned());
            words
        })
        .try_into()
        .unwrap()
}

fn name(n: usize) -> String {
    format!("{n:04}{}", "x".repeat(600))
}

/// The child's work: pushes, whatever is answered.
#[test]
#[ignore = "run by `whichever_fsync_fails` as its child"]
fn pushes_on() {
    #[expect(clippy::disallowed_methods, reason = "the parent test hands the folder over")]
    let folder = std::env::var(FOLDER).unwrap();
    let clock = Hand::at(1_000);
    let store =
        match open(folder.as_ref(), &LiveOptions { memory: 10_000, log_file: 10_000, ..options(&clock) }) {
            Ok(store) => store,
            Err(error) => {
                println!("\nfailed {}", error.code());
                return;
            }
        };
    for n in 0..60 {
        match push_as(&*store, &[&name(n)], None, Durability::Durable) {
            Ok(_) => println!("\nacknowledged {n}"),
            Err(error) => println!("\nfailed {}", error.code()),
        }
        // Tables are written and merged in the meantime.
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn said<'a>(output: &'a Output, word: &str) -> Vec<(usize, &'a str)> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().enumerate().filter_map(|(at, line)| Some((at, line.strip_prefix(word)?.trim()))).collect()
}

#[test]
fn whichever_fsync_fails() {
    if !is_permitted("strace", &["-o", "/dev/null", "true"]) {
        return;
    }
    let mut failures = 0;
    for call in ["fdatasync", "fsync"] {
        let mut quiet = 0;
        // Counted by thread. The first ones are each of another place; of those after, some.
        for failing in (1..10).chain((10..).step_by(7)) {
            let folder = tempfile::tempdir().unwrap();
            let output = Command::new("strace")
                .args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"])
                .arg(format!("inject={call}:error=EIO:when={failing}"))
                .args(child("pushes_on"))
                .env(FOLDER, folder.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{call} {failing}: {output:?}");
            let (acknowledged, failed) = (said(&output, "acknowledged "), said(&output, "failed "));
            if let Some((at, _)) = failed.first() {
                failures += 1;
                assert!(acknowledged.iter().all(|(ack, _)| ack < at), "{call} {failing}: acknowledged after");
            }
            let codes = ["live_store_stopped", "online_store_unavailable"];
            assert!(failed.iter().all(|(_, code)| codes.contains(code)), "{call} {failing}: {failed:?}");
            let store = opened(folder.path(), &Hand::at(1));
            let found: Vec<String> =
                rows(&*store.read().unwrap()).into_iter().map(|(_, name)| name).collect();
            for (_, n) in &acknowledged {
                let name = name(n.parse().unwrap());
                let times = found.iter().filter(|found| **found == name).count();
                assert_eq!(times, 1, "{call} {failing}: {n} was acknowledged");
            }
            assert!(found.len() <= acknowledged.len() + 1, "{call} {failing}");
            assert!(acknowledged.len() + failed.len() == 60 || acknowledged.is_empty());
            quiet = if failed.is_empty() { quiet + 1 } else { 0 };
            if quiet == 2 || failing > 40 {
                break;
            }
        }
    }
    assert!(failures > 5, "{failures} runs in which an fsync failed");
}

fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    while file.write_all(&[1]).is_ok() {}
}

/// Pushes until the disk is full; how many were accepted.
fn push_until_full(store: &dyn LiveStore, accepted: &mut Vec<usize>) {
    for n in accepted.len().. {
        match push_as(store, &[&name(n)], None, Durability::Durable) {
            Ok(_) => accepted.push(n),
            Err(error) => {
                assert!(matches!(error, Error::Full { .. }), "{error}");
                assert_eq!(error.kind(), Kind::Exhausted);
                return;
            }
        }
    }
}

fn are_there(store: &dyn LiveStore, accepted: &[usize]) {
    let expected: Vec<String> = accepted.iter().map(|n| name(*n)).collect();
    let found: Vec<String> = rows(&*store.read().unwrap()).into_iter().map(|(_, name)| name).collect();
    assert!(found == expected, "{} accepted, {} there", expected.len(), found.len());
}

/// The child's work, on a disk of a few megabytes.
#[test]
#[ignore = "run by `a_full_disk_is_said_and_passes` as its child"]
fn fills_the_disk() {
    #[expect(clippy::disallowed_methods, reason = "the parent test hands over the folder")]
    let (folder, memory) = (std::env::var(FOLDER).unwrap(), std::env::var(MEMORY).unwrap().parse().unwrap());
    let folder = Path::new(&folder);
    let clock = Hand::at(1_000);
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let store_folder = folder.join("store");
    let mut store = open(&store_folder, &LiveOptions { memory, ..options(&clock) }).unwrap();
    let mut accepted = Vec::new();
    for round in 0..2 {
        push_until_full(&*store, &mut accepted);
        assert!(accepted.len() > 100, "{}", accepted.len());
        are_there(&*store, &accepted);
        // Nothing at all is left: reads go on, and T as well.
        fill(&folder.join("rest"));
        for step in 0..20 {
            clock.set(1_000_000 * (100 * round + step + 1));
            are_there(&*store, &accepted);
            assert!(store.read().unwrap().answer_time().0 >= 1_000_000 * (step + 1));
            let refused = push_as(&*store, &["x"], None, Durability::Durable).unwrap_err();
            assert!(matches!(refused, Error::Full { .. }), "{refused}");
        }
        // Space is freed: it goes on without being opened again.
        std::fs::remove_file(folder.join("rest")).unwrap();
        if round == 0 {
            std::fs::remove_file(&ballast).unwrap();
        } else {
            let end = store.log().unwrap().end();
            store.trim(end).unwrap();
        }
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let n = accepted.len();
            match push_as(&*store, &[&name(n)], None, Durability::Durable) {
                Ok(_) => {
                    accepted.push(n);
                    break;
                }
                // What a full disk cut short is cleared away first.
                Err(Error::Full { .. }) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        are_there(&*store, &accepted);
        drop(store);
        store = open(&store_folder, &LiveOptions { memory, ..options(&clock) }).unwrap();
        are_there(&*store, &accepted);
    }
    println!("\nsurvived {}", accepted.len());
}

#[test]
fn a_full_disk_is_said_and_passes() {
    let mounted = "mount -t tmpfs -o size=4m tmpfs \"$0\" && exec \"$@\"";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    if !is_permitted("unshare", &["-m", "sh", "-c", mounted, path, "true"]) {
        return;
    }
    // With room kept for what memory holds, and with next to none, so that every write meets the end.
    for memory in ["65536", "2000"] {
        let output = Command::new("unshare")
            .args(["-m", "sh", "-c", mounted, path])
            .args(child("fills_the_disk"))
            .env(FOLDER, path)
            .env(MEMORY, memory)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{memory}: {text} {}", String::from_utf8_lossy(&output.stderr));
        assert!(!said(&output, "survived ").is_empty(), "{memory}: {text}");
    }
}
