//! What a node answers over HTTP when its disk is full, and when it fails.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use asof_testkit::{is_permitted, skip};
use serde_json::{Value, json};

use crate::project::{Project, Up};
use crate::pushing::posted;

const DEFINITIONS: &str = "\
entity: buyer
keys: {buyer: int64}
---
source: orders
push: true
schema: {buyer: int64, at: timestamp, text: string}
event_time: at
---
view: all_time
entity: buyer
source: orders
windows: [all]
features: {orders: {agg: count(*)}}
";

fn shop(project: Project) -> Project {
    project.write("asof.yaml", "project: shop\n");
    project.write("features/shop.yaml", DEFINITIONS);
    project.well(&["apply", "--yes"]);
    project
}

/// Pushes a row of some kilobytes.
fn push(node: &Up, key: &str) -> (u16, Value) {
    let row = json!([{"buyer": 1, "at": "2024-01-01T00:00:00Z", "text": "x".repeat(4_000)}]);
    let head = format!("content-type: application/json\r\nidempotency-key: {key}\r\n");
    posted(node, "/v1/push/orders", &head, &row.to_string())
}

/// How many orders there are, by what is answered.
fn orders(node: &Up) -> Value {
    let (status, answer) =
        node.post("/v1/features", r#"{"features": ["all_time.orders_all"], "entities": {"buyer": [1]}}"#);
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["columns"][0]["values"][0].clone()
}

#[test]
fn a_full_disk_is_answered_507_and_reads_go_on() {
    let mounted = "mount -t tmpfs -o size=512m tmpfs \"$0\" && exec \"$@\"";
    let project = shop(Project::empty());
    let kept = project.path().join(".asof");
    if !is_permitted("unshare", &["-m", "sh", "-c", mounted, kept.to_str().unwrap(), "true"]) {
        return;
    }
    // A node that alone sees a small disk where it keeps things.
    let script = project.path().join("on-a-small-disk");
    let (program, kept) = (env!("CARGO_BIN_EXE_asof"), kept.display());
    let aside = project.path().join("before");
    let mounted = format!(
        "cp -r '{kept}' '{aside}' && mount -t tmpfs -o size=512m tmpfs '{kept}' && cp -r '{aside}/.' '{kept}' && \
         exec '{program}' \"$@\"",
        aside = aside.display()
    );
    std::fs::write(&script, format!("#!/bin/sh\nexec unshare -m sh -c {} asof \"$@\"\n", quoted(&mounted)))
        .unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = project.path().to_owned();
    let project = project.with_program(Some(script.display().to_string()));
    let node = project.up(&[], &[]);
    node.wait_ready();
    assert_eq!(push(&node, "first").0, 200);
    // Its own view of the disk.
    let rest = PathBuf::from(format!("/proc/{}/root{}/.asof/rest", node.child.id(), path.display()));
    fill(&rest);
    let mut taken = 1;
    let refused = loop {
        let (status, answer) = push(&node, &format!("full {taken}"));
        if status != 200 {
            break (status, answer);
        }
        taken += 1;
        assert!(taken < 100_000, "the disk is never full");
    };
    assert_eq!((refused.0, &refused.1["error"]["code"]), (507, &json!("disk_full")), "{refused:?}");
    assert!(refused.1["error"]["message"].as_str().unwrap().contains("disk"), "{refused:?}");
    assert_eq!(orders(&node), json!(taken), "reads go on, and what was refused is not there");
    assert_eq!(push(&node, "again").0, 507);
    std::fs::remove_file(&rest).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while push(&node, &format!("full {taken}")).0 == 507 {
        assert!(Instant::now() < until, "still full");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(orders(&node), json!(taken + 1));
    assert_eq!(node.stop(), Some(0));
}

/// In one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn fill(rest: &Path) {
    let mut file = std::fs::File::create(rest).unwrap();
    for piece in [1 << 20, 1 << 12, 1] {
        while file.write_all(&vec![1; piece]).is_ok() {}
    }
}

#[test]
fn after_a_failed_fsync_a_push_is_answered_503() {
    let project = shop(Project::empty());
    let node = project.up(&[], &[]);
    node.wait_ready();
    assert_eq!(push(&node, "first").0, 200);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
    strace.args(["-e", "inject=fsync,fdatasync:error=EIO", "-p", &node.child.id().to_string()]);
    let mut attached = match strace.stderr(Stdio::piped()).spawn() {
        Ok(attached) => attached,
        Err(error) => return skip(&format!("strace is not installed: {error}")),
    };
    let mut told = BufReader::new(attached.stderr.take().unwrap());
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    if !line.contains("attached") {
        return skip(&format!("strace is not permitted here: {line}"));
    }
    let drained = std::thread::spawn(move || told.read_to_string(&mut String::new()));
    for again in ["lost", "lost", "other"] {
        let (status, answer) = push(&node, again);
        assert_eq!((status, &answer["error"]["code"]), (503, &json!("live_store_stopped")), "{answer}");
        let hint = answer["error"]["hint"].as_str().unwrap_or_default();
        assert!(hint.contains("restart"), "{answer}");
    }
    node.stop();
    attached.wait().unwrap();
    drained.join().unwrap().unwrap();
    let node = project.up(&[], &[]);
    node.wait_ready();
    // What was acknowledged is there; what was not is sent again, and there once.
    assert_eq!(push(&node, "lost").0, 200);
    assert_eq!(orders(&node), json!(2));
    assert_eq!(push(&node, "first").1["repeated"], json!(true));
    assert_eq!(orders(&node), json!(2));
    assert_eq!(node.stop(), Some(0));
}
