//! A node that is busy: as many long operations as it may do at once, as many more waiting as may.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::project::{DEFINITIONS, Project, Up};

/// A training whose answer is far larger than what a connection holds that nobody reads.
fn long_training(node: &Up) -> TcpStream {
    let sql = "select cast(1 as bigint) as seller_id, timestamp '2024-03-01T00:00:00Z' as at, \
               repeat('x', 100) as pad, value from generate_series(1, 300000)";
    let sql = sql.replace(' ', "%20").replace('\'', "%27").replace(',', "%2C");
    let mut stream = connection(node);
    let path = format!("/v1/train?project=shop&service=pricing&format=csv&sql={sql}");
    write!(stream, "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n").unwrap();
    let mut head = [0; 64];
    stream.read_exact(&mut head).unwrap();
    let head = String::from_utf8_lossy(&head).into_owned();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    stream
}

fn connection(node: &Up) -> TcpStream {
    TcpStream::connect(node.address.split_once("://").unwrap().1).unwrap()
}

/// Asks, and does not wait for the answer.
fn asked(node: &Up, path: &str, body: &str) -> TcpStream {
    let mut stream = connection(node);
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    write!(stream, "{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    stream
}

fn answered(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The value of a metric, once it is this.
fn wait_for(node: &Up, metric: &str, wanted: u64) {
    let mut found = None;
    for _ in 0..1_200 {
        let metrics = node.get("/metrics").1;
        let value = metrics.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse::<u64>().ok());
        if value == Some(wanted) {
            return;
        }
        found = value;
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    panic!("{metric} is {found:?} and not {wanted}");
}

const MATERIALIZE: &str = r#"{"project": "shop"}"#;

#[test]
fn a_busy_node_lets_wait_and_refuses_what_is_long_and_nothing_else() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let node = project.up(&["--operations", "1"], &[]);
    node.wait_ready();
    let running = |operation: &str| format!("asof_operations_running{{operation=\"{operation}\"}}");
    let waiting = |operation: &str| format!("asof_operations_waiting{{operation=\"{operation}\"}}");
    let training = long_training(&node);
    wait_for(&node, &running("train"), 1);
    let three: Vec<TcpStream> = (0..3).map(|_| asked(&node, "/v1/materialize", MATERIALIZE)).collect();
    wait_for(&node, &waiting("materialize"), 3);
    // What is short does not wait, nor does who writes definitions.
    let body = r#"{"service": "pricing", "entities": {"seller_id": [1]}}"#;
    assert_eq!(node.post("/v1/features", body).0, 200);
    assert!(project.well(&["sql", "select count(*) as sellers from seller_profile"]).contains("sellers"));
    let files = serde_json::json!([
        {"path": "asof.yaml", "text": "project: shop\n"}, {"path": "features/shop.yaml", "text": DEFINITIONS},
    ]);
    let plan = serde_json::json!({"root": project.path(), "files": files}).to_string();
    assert_eq!(node.post("/v1/plan", &plan).0, 200);
    project.well(&["apply", "--yes"]);
    let status = project.well(&["status"]);
    let first = status.lines().next().unwrap();
    assert_eq!(first, "operations: 1 of 1 at once (train 1), 3 waiting (materialize 3)");
    let status = project.json(&["status"]);
    let expected = serde_json::json!({"at_once": 1, "running": {"train": 1}, "waiting": {"materialize": 3}});
    assert_eq!(status.last().unwrap()["operations"], expected);
    // So many wait that no more may.
    let more: Vec<TcpStream> = (0..61).map(|_| asked(&node, "/v1/materialize", MATERIALIZE)).collect();
    wait_for(&node, &waiting("materialize"), 64);
    let refused = answered(asked(&node, "/v1/load?project=shop&source=profiles", r#"{"files": []}"#));
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert!(refused.to_lowercase().contains("\r\nretry-after: "), "{refused}");
    let runs_before = node.get("/v1/runs?project=shop").1;
    let train = project.run(&["train", "pricing", "--spine", "spine.csv", "--out", "out.parquet"]);
    assert_eq!(train.code, Some(7), "{}", train.err);
    insta::assert_snapshot!(train.err, @r"
    error: the node does as many long operations at once as it may (1), and 64 more wait for their turn: this one (train) was not begun
       hint: ask again when some have ended, which `asof status` shows; `operations` in asof.yaml says how many go on at once
    ");
    assert!(!project.path().join("out.parquet").exists());
    assert_eq!(node.get("/v1/runs?project=shop").1, runs_before, "what was refused is no run");
    let backup = project.run(&["backup", "backups/one"]);
    assert_eq!(backup.code, Some(7), "{}", backup.err);
    wait_for(&node, "asof_operations_refused_total", 3);
    // Who goes away waits no longer, and who is first come is first to go on.
    drop(more);
    wait_for(&node, &waiting("materialize"), 3);
    drop(training);
    for stream in three {
        let answer = answered(stream);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    wait_for(&node, &running("train"), 0);
    wait_for(&node, &running("materialize"), 0);
    project.well(&["train", "pricing", "--spine", "spine.csv", "--out", "out.parquet"]);
}
