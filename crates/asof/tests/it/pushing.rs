//! Rows pushed by the command and over HTTP, with a node and without one.

use serde_json::{Value, json};

use crate::project::{Project, Up};

const DEFINITIONS: &str = "\
entity: buyer
keys: {buyer: int64}
---
source: orders
push: true
schema: {id: string, buyer: int64, at: timestamp, amount: float64, state: string}
event_time: at
id: id
delete_when: state = 'void'
";

pub(crate) fn shop() -> Project {
    let project = Project::empty();
    project.write("asof.yaml", "project: shop\n");
    project.write("features/shop.yaml", DEFINITIONS);
    project.well(&["apply", "--yes"]);
    project
}

pub(crate) fn push(project: &Project, args: &[&str]) -> Value {
    let mut all = vec!["push", "orders"];
    all.extend(args);
    project.json(&all).remove(0)
}

fn position(answer: &Value) -> i64 {
    answer["first"].as_i64().unwrap()
}

const ROW: [&str; 4] = ["id=7", "buyer=42", "at=2024-01-01T12:00:00Z", "amount=199.5"];

#[test]
fn rows_are_pushed_from_words_files_and_pipes() {
    let project = shop();
    let first = push(&project, &ROW);
    assert_eq!((&first["source"], &first["accepted"]), (&json!("shop.orders"), &json!(1)));
    assert_eq!((&first["durable"], &first["repeated"]), (&json!(true), &json!(false)));
    // Each command opened the stores by itself, and found what the one before had acknowledged.
    let again = push(&project, &ROW);
    assert_eq!(
        (&again["accepted"], &again["already_there"], &again["first"]),
        (&json!(0), &json!([1]), &Value::Null)
    );
    let deleted = push(&project, &["--delete", "id=7", "at=2024-01-01"]);
    assert!(position(&deleted) > position(&first));
    project.write(
        "more.ndjson",
        "{\"id\": \"8\", \"at\": \"2024-01-02\"}\n{\"id\": \"9\", \"at\": \"2024-01-03\"}\n",
    );
    assert_eq!(push(&project, &["more.ndjson", "--relaxed"])["durable"], false);
    project.write("more.json", "[{\"at\": \"2024-01-04\"}]");
    let keyed = push(&project, &["more.json", "--idempotency-key", "one"]);
    let repeated = push(&project, &["more.json", "--idempotency-key", "one"]);
    assert_eq!((&repeated["first"], &repeated["repeated"]), (&keyed["first"], &json!(true)));
    let piped = project.run_with(&["push", "orders", "-"], "{\"at\": \"2024-01-05\"}\n");
    assert_eq!((piped.code, piped.out.as_str()), (Some(0), ""), "{}", piped.err);
    assert!(piped.err.contains("Pushed 1 row to shop.orders"), "{}", piped.err);
    let piped = project.run_with(&["push", "orders", "-", "--format", "json"], "{\"at\": \"2024-01-05\"}");
    assert_eq!(piped.code, Some(0), "{}", piped.err);
    let status = project.json(&["status"]);
    assert!(status[0]["intake"]["accepted"].as_i64().unwrap() > position(&keyed));
    assert!(project.well(&["status"]).contains("pushed rows: up to position "));
}

#[test]
fn wrong_pushes_say_what_to_do() {
    let project = shop();
    project.write(
        "bad.ndjson",
        "{\"id\": \"8\", \"at\": \"2024-01-02\"}\n{\"id\": \"9\"}\n{\"at\": \"zebra\"}\n",
    );
    let mut told = String::new();
    for args in [
        &["push", "orders", "bad.ndjson"][..],
        &["push", "orders", "missing.ndjson"],
        &["push", "orders", "at=x", "at=y"],
        &["push", "orders", "bad.ndjson", "at=y"],
        &["push", "orders", "price=3", "at=2024-01-01"],
        &["push", "orders", "amount=zebra", "at=2024-01-01"],
        &["push", "order", "at=2024-01-01"],
        &["push", "Orders", "at=2024-01-01"],
        &["push", "orders", "at=2024-01-01", "--idempotency-key", ""],
        &["push", "orders", "at=2024-01-01", "--idempotency-key", "a\nb"],
    ] {
        let ended = project.run(args);
        assert!(
            ended.out.is_empty() && !ended.err.contains("zebra") || args.concat().contains("zebra"),
            "{}",
            ended.err
        );
        told += &format!("$ asof {}\n{}exit {}\n\n", args.join(" "), ended.err, ended.code.unwrap());
    }
    insta::assert_snapshot!(told);
    assert_eq!(project.json(&["status"]), Vec::<Value>::new(), "nothing of them was stored");
}

pub(crate) fn posted(node: &Up, path: &str, head: &str, body: &str) -> (u16, Value) {
    let (status, text) = node.send(&format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{head}content-length: {}\r\n\r\n{body}",
        body.len()
    ));
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

#[test]
fn a_node_takes_rows_over_http_and_keeps_them() {
    let project = shop();
    let node = project.up(&[], &[]);
    node.wait_ready();
    let json_type = "content-type: application/json\r\n";
    let rows = r#"{"rows": [{"id": "1", "at": "2024-01-01"}, {"id": "2", "at": "2024-01-01", "buyer": 9007199254740993}]}"#;
    let (status, answer) = posted(&node, "/v1/push/orders", json_type, rows);
    assert_eq!((status, &answer["accepted"]), (200, &json!(2)), "{answer}");
    let keyed = format!("{json_type}idempotency-key: k1\r\n");
    let (_, first) = posted(&node, "/v1/push/orders?project=shop", &keyed, "[{\"at\": \"2024-01-02\"}]");
    let (_, again) = posted(&node, "/v1/push/orders?project=shop", &keyed, "[{\"at\":\"2024-01-02\"}]");
    assert_eq!((&again["first"], &again["repeated"]), (&first["first"], &json!(true)));
    let (status, other) = posted(&node, "/v1/push/orders", &keyed, "[{\"at\": \"2024-01-03\"}]");
    assert_eq!((status, &other["error"]["code"]), (409, &json!("idempotency_key_reused")));
    let lines = "content-type: application/x-ndjson; charset=utf-8\r\n";
    let (status, relaxed) = posted(
        &node,
        "/v1/push/orders?durability=relaxed&op=delete",
        lines,
        "{\"id\": \"1\", \"at\": \"2024-01-01\"}\n",
    );
    assert_eq!((status, &relaxed["durable"], &relaxed["accepted"]), (200, &json!(false), &json!(1)));
    for (path, head, body, status, code) in [
        ("/v1/push/orders", "", "[]", 415, "bad_content_type"),
        ("/v1/push/orders", "content-type: text/plain\r\n", "[]", 415, "bad_content_type"),
        ("/v1/push/orders", json_type, "[{\"at\": 1}]", 400, "bad_rows"),
        ("/v1/push/orders", json_type, "[{\"zzz\": 1}]", 400, "new_column"),
        ("/v1/push/orders", json_type, "[", 400, "bad_json"),
        ("/v1/push/orders?durability=none", json_type, "[]", 400, "bad_query"),
        ("/v1/push/orders?project=other", json_type, "[]", 404, "project_not_found"),
        ("/v1/push/other", json_type, "[]", 404, "not_found"),
        ("/v1/push/Other", json_type, "[]", 400, "bad_name"),
        (
            "/v1/push/orders",
            "content-type: application/json\r\nidempotency-key: a\r\nidempotency-key: b\r\n",
            "[]",
            400,
            "bad_idempotency_key",
        ),
    ] {
        let (found, answer) = posted(&node, path, head, body);
        assert_eq!(
            (found, &answer["error"]["code"]),
            (status, &json!(code)),
            "{path} {head} {body}: {answer}"
        );
    }
    // The command speaks to the node.
    let last = push(&project, &ROW);
    let metrics = node.get("/metrics").1;
    for line in [
        "asof_pushed_rows_total{project=\"shop\",source=\"orders\"} 5",
        &format!("asof_live_position {}", position(&last)),
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    let copy = project.path().join("copy");
    project.well(&["backup", copy.to_str().unwrap()]);
    assert_eq!(node.stop(), Some(0));
    assert_eq!(push(&project, &ROW)["already_there"], json!([1]));

    // What was backed up is restored, and goes on from there.
    std::fs::remove_dir_all(project.path().join(".asof")).unwrap();
    project.well(&["restore", copy.to_str().unwrap()]);
    assert_eq!(push(&project, &ROW)["already_there"], json!([1]));
    assert!(position(&push(&project, &["at=2024-01-01"])) > position(&last));
}

/// Killed at any moment, a node has every row that it acknowledged, once.
#[test]
fn a_killed_node_keeps_what_it_acknowledged() {
    let project = shop();
    let mut last = 0;
    for round in 0..3 {
        let mut node = project.up(&[], &[]);
        node.wait_ready();
        for at in 0..20 {
            let body =
                format!("[{{\"id\": \"{round}-{at}\", \"at\": \"2024-01-01\"}}, {{\"at\": \"2024-01-01\"}}]");
            let (status, answer) =
                posted(&node, "/v1/push/orders", "content-type: application/json\r\n", &body);
            assert_eq!(status, 200, "{answer}");
            assert!(position(&answer) > last, "no position is given twice");
            last = position(&answer) + 1;
        }
        node.child.kill().unwrap();
        node.child.wait().unwrap();
        for at in 0..20 {
            assert_eq!(
                push(&project, &[&format!("id={round}-{at}"), "at=2024-01-01"])["already_there"],
                json!([1])
            );
            if at == 2 {
                break;
            }
        }
    }
}

/// A pushed number comes out of a window as it went in: to the last digit, through two readings of JSON.
#[test]
fn a_pushed_number_is_served_to_the_last_digit() {
    let project = Project::empty();
    project.write("asof.yaml", "project: shop\n");
    project.write(
        "features/shop.yaml",
        "\
entity: buyer
keys: {buyer: int64}
---
source: orders
push: true
schema: {buyer: int64, at: timestamp, amount: float64}
event_time: at
---
view: spend
entity: buyer
source: orders
windows: [all]
features: {total: {agg: sum(amount)}, orders: {agg: count(*)}}
",
    );
    project.well(&["apply", "--yes"]);
    project.well(&["materialize"]);
    // Read by the nearest double of its digits alone, not by a product of powers, which is one bit off.
    let amount = "10.845933014354067";
    project
        .write("rows.ndjson", &format!("{{\"buyer\": 7, \"at\": \"2024-01-01\", \"amount\": {amount}}}\n"));
    push(&project, &["rows.ndjson"]);
    let shown = project.well(&["get", "--features", "spend.*", "buyer=7", "--json"]);
    assert!(shown.contains(amount), "{shown}");
}
