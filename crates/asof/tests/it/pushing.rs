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
    assert!(project.well(&["status"]).contains("live store: up to position "));
}

/// A delete that names no event is none for a window, whichever came first.
#[test]
fn windows_and_deletes_without_an_id_do_not_meet() {
    const PLAIN: &str = "\
entity: buyer
keys: {buyer: int64}
---
source: orders
push: true
schema: {buyer: int64, at: timestamp, amount: float64}
event_time: at
---
view: last
entity: buyer
source: orders
features: {amount: amount}
";
    const WINDOWS: &str = "---
view: spent
entity: buyer
source: orders
windows: [7d]
features: {total: {agg: sum(amount)}}
";
    let (row, delete) = (["buyer=1", "at=2024-01-01", "amount=2"], ["--delete", "buyer=1", "at=2024-01-02"]);
    let project = Project::empty();
    project.write("asof.yaml", "project: shop\n");
    project.write("features/shop.yaml", PLAIN);
    project.well(&["apply", "--yes"]);
    push(&project, &row);
    project.write("features/shop.yaml", &format!("{PLAIN}{WINDOWS}"));
    project.well(&["apply", "--yes"]);
    let refused = project.run(&[&["push", "orders"], &delete[..]].concat());
    assert!(refused.err.contains("without an id") && refused.err.contains("`spent`"), "{}", refused.err);
    // Without the windows it is taken, and then they do not come back.
    project.write("features/shop.yaml", PLAIN);
    project.well(&["apply", "--yes", "--allow-remove"]);
    assert_eq!(push(&project, &delete)["accepted"], 1);
    project.write("features/shop.yaml", &format!("{PLAIN}{WINDOWS}"));
    let refused = project.run(&["apply", "--yes"]);
    assert_ne!(refused.code, Some(0));
    for part in ["deletes_without_id", "view `spent`", "source `orders`", "carry an `id`", "shop.yaml:"] {
        assert!(refused.err.contains(part), "{part} in {}", refused.err);
    }
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

/// What intake refuses of a file is told by the file's rows, and goes to the quarantine where it may.
#[test]
fn what_intake_refuses_of_a_file_goes_to_the_quarantine() {
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
schema: {id: string, buyer: int64, at: timestamp, amount: int64, gone: bool}
event_time: at
id: id
delete_when: gone
null_keys: refuse
---
view: spend
entity: buyer
source: orders
windows: [all]
features: {orders: {agg: count(*)}, shares: {agg: sum(100 / amount)}}
",
    );
    project.well(&["apply", "--yes"]);
    let good = |id: u32| format!(r#"{{"id": "{id}", "buyer": 1, "at": "2024-01-01", "amount": 2}}"#);
    let mut rows: Vec<String> = (1..10_000).map(good).collect();
    // Past the rows that are read at once.
    rows[9_000] = r#"{"id": "n", "at": "2024-01-01", "amount": 2}"#.to_owned();
    rows[9_001] = r#"{"id": "z", "buyer": 1, "at": "2024-01-01", "amount": 0}"#.to_owned();
    rows[9_002] = r#"{"buyer": 1, "at": "2024-01-01", "gone": true}"#.to_owned();
    rows[9_003] = r#"{"id": "5", "at": "2024-01-01", "gone": true}"#.to_owned();
    for (row, said) in
        [(9_001, "key column `buyer` is null"), (9_002, "view `spend`"), (9_003, "without an id")]
    {
        project.write("rows.ndjson", &rows.join("\n"));
        let ended = project.run(&["load", "orders", "rows.ndjson"]);
        assert_eq!(ended.code, Some(1), "{}", ended.err);
        let place = format!("rows.ndjson, row {row}: ");
        assert!(ended.err.contains(&place) && ended.err.contains(said), "{}", ended.err);
        assert!(ended.err.contains("--on-bad-row quarantine"), "{}", ended.err);
        if row < 9_003 {
            rows[row - 1] = good(20_000 + row as u32);
        }
    }
    rows[9_000] = r#"{"id": "n", "at": "2024-01-01", "amount": 2}"#.to_owned();
    rows[9_001] = r#"{"id": "z", "buyer": 1, "at": "2024-01-01", "amount": 0}"#.to_owned();
    project.write("rows.ndjson", &rows.join("\n"));
    let loaded = project.json(&["load", "orders", "rows.ndjson", "--on-bad-row", "quarantine"]);
    assert_eq!((&loaded[0]["rows"], &loaded[0]["quarantined"]), (&json!(9_996), &json!(3)), "{loaded:?}");
    project.well(&["materialize"]);
    let answer = project.json(&["get", "--features", "spend.*", "buyer=1"]);
    assert_eq!(answer[0]["columns"][0]["values"], json!([9_994]), "one was withdrawn: {answer:?}");
}

#[test]
fn what_is_not_pushed_so_is_told() {
    let project = shop();
    project.write("rows.csv", "id,at\n1,2024-01-01\n");
    let ended = project.run(&["push", "orders", "rows.csv"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("`asof load orders rows.csv` takes it"), "{}", ended.err);
    // No rows are visible at no time.
    project.write("none.json", "[]");
    assert_eq!(push(&project, &["none.json"])["visible_at"], Value::Null);
    // One object over several lines is one row, whatever it is read from.
    project.write("one.txt", "{\n  \"id\": \"1\",\n  \"at\": \"2024-01-01\"\n}\n");
    assert_eq!(push(&project, &["one.txt"])["accepted"], json!(1));
    assert!(push(&project, &["none.json"])["visible_at"].is_string());
    // Two of them are neither one nor an object a line.
    project.write("two.txt", "{\n  \"id\": \"2\"\n}\n{\n  \"id\": \"3\"\n}\n");
    let ended = project.run(&["push", "orders", "two.txt"]);
    assert!(ended.code == Some(1) && ended.err.contains("an object a line"), "{}", ended.err);
}

const SHOWN: &str = "\
entity: buyer
keys: {buyer: int64}
---
source: orders
path: orders.csv
event_time: at
available_at: at
id: id
delete_when: amount = 0
---
source: visits
push: true
schema: {buyer: int64, at: timestamp, pages: int64}
event_time: at
---
view: spend
entity: buyer
source: orders
history: all
windows: [{length: 7d, as: recent}, {length: 7d, offset: 7d, as: week_before}]
features: {spent: {agg: sum(amount)}}
---
view: visits_seen
entity: buyer
source: visits
windows: [1h]
features: {visits: {agg: count(*)}, pages: {agg: sum(pages)}}
---
derived: ratio
request: {price: float64}
features:
  share: price / spend.spent_recent
  change: spend.spent_recent - spend.spent_week_before + visits_seen.pages_1h
";

/// What is explained is what happens, also of a source whose rows are versions and that nobody pushes to.
#[test]
fn views_are_explained_as_they_are() {
    let project = Project::empty();
    project.write("asof.yaml", "project: shop\n");
    project.write("orders.csv", "id,buyer,at,amount\n1,7,2024-01-01,3\n");
    project.write("features/shop.yaml", SHOWN);
    project.well(&["apply", "--yes"]);
    project.well(&["materialize"]);
    let spent = |as_of: &str| {
        project.json(&["get", "--features", "spend.spent_recent", "--as-of", as_of, "buyer=7"])[0]["columns"]
            [0]["values"][0]
            .clone()
    };
    assert_eq!([spent("2024-01-02T00:00:00Z"), spent("2024-01-04T00:00:00Z")], [json!(3), json!(3)]);
    // A correction in another file: read with all the others.
    project.write("orders.csv", "id,buyer,at,amount\n1,7,2024-01-01,3\n1,7,2024-01-03,5\n2,7,2024-01-03,4\n");
    let ended = project.run(&["materialize"]);
    assert!(ended.err.contains("rebuilt: file `orders.csv` changed"), "{}", ended.err);
    assert_eq!([spent("2024-01-02T00:00:00Z"), spent("2024-01-04T00:00:00Z")], [json!(3), json!(9)]);
    let spend = project.well(&["explain", "spend"]);
    for said in [
        "Window recent: rows that happened at or after 7d before t, and before t.",
        "Window week_before: rows that happened at or after 14d before t, and before 7d before t.",
        "withdraws the event that its `id` names",
        "Online it can be asked as of any time in the past.",
    ] {
        assert!(spend.contains(said), "{said} in\n{spend}");
    }
    let ratio = project.well(&["explain", "ratio"]);
    for said in [
        "The request brings `price` (float64)",
        "`change` (int64) is `spend.spent_recent - spend.spent_week_before + visits_seen.pages_1h`",
        "`spent_week_before` of view shop.spend, `pages_1h` of view shop.visits_seen.",
    ] {
        assert!(ratio.contains(said), "{said} in\n{ratio}");
    }
    let shown = project.well(&["show", "ratio"]);
    assert!(shown.contains("view shop.spend, view shop.visits_seen\n"), "{shown}");
    let shown = project.run(&["show", "visits_seen"]);
    assert!(shown.err.contains("it has values of an entity at a time, and no rows to list"), "{}", shown.err);
    let ended = project.run(&["sql", "select * from visits_seen"]);
    assert!(ended.err.contains("asof get"), "{}", ended.err);
}

/// A new column begins a table of its own: what it leaves behind is told with the way over, which is gone here.
#[test]
fn a_changed_schema_says_what_it_leaves_behind_and_how_to_bring_it_over() {
    let project = shop();
    push(&project, &ROW);
    push(&project, &["id=8", "buyer=43", "at=2024-01-02", "amount=1.5"]);
    let count = || project.json(&["sql", "select count(*) as n from orders"])[0]["n"].clone();
    assert_eq!(count(), json!(2));
    let invalidated = |definitions: &str| {
        project.write("features/shop.yaml", definitions);
        project.json(&["plan"])[0]["changes"][0]["invalidates"].to_string()
    };
    let told = invalidated(&DEFINITIONS.replace("id: id\n", "id: id\ndescription: what is bought\n"));
    assert!(!told.contains("pushed rows"), "they share a table: {told}");
    let wider = |definitions: &str| definitions.replace("state: string}", "state: string, colour: string}");
    // Which of its versions of an event is the newest, nobody could tell who has their values.
    let told = invalidated(&wider(DEFINITIONS));
    assert!(told.contains("its 2 pushed rows: they stay below `offline/shop/orders/"), "{told}");
    assert!(told.contains("again from where they came from") && !told.contains("asof load"), "{told}");

    let without_id = DEFINITIONS.replace("id: id\n", "");
    project.write("features/shop.yaml", &without_id);
    let applied = project.run(&["apply", "--yes"]);
    let said = applied.out + &applied.err;
    assert!(applied.code == Some(0) && said.contains("its 2 pushed rows: they stay"), "{said}");
    assert_eq!(count(), json!(0));
    push(&project, &ROW);
    let told = invalidated(&wider(&without_id));
    let ways =
        ["asof sql 'select * from orders' --format ndjson > orders.ndjson", "asof load orders orders.ndjson"];
    assert!(ways.iter().all(|way| told.contains(way)), "{told}");
    let exported = project.well(&["sql", "select * from orders", "--format", "ndjson"]);
    project.write("orders.ndjson", &exported);
    project.well(&["apply", "--yes"]);
    assert_eq!(count(), json!(0));
    project.well(&["load", "orders", "orders.ndjson"]);
    assert_eq!(
        project.json(&["sql", "select buyer, amount, colour from orders"]),
        [json!({"buyer": 42, "amount": 199.5})],
        "a column that is null is left out"
    );
}

/// A row that is older than a view keeps online is counted wherever a node is asked how it stands.
#[test]
fn rows_past_retention_are_told_everywhere() {
    let project = Project::empty();
    project.write("asof.yaml", "project: shop\n");
    project.write("features/shop.yaml", SHOWN);
    project.write("orders.csv", "id,buyer,at,amount\n1,7,2024-01-01,3\n");
    project.well(&["apply", "--yes"]);
    let node = project.up(&[], &[]);
    node.wait_ready();
    let rows =
        r#"[{"buyer": 1, "at": "2024-01-01", "pages": 1}, {"buyer": 1, "at": "2024-01-02", "pages": 2}]"#;
    assert_eq!(posted(&node, "/v1/push/visits", "content-type: application/json\r\n", rows).0, 200);
    let of = |views: &[Value]| -> Value {
        let found = views.iter().find(|view| view["view"] == json!("visits_seen"));
        found.map_or(Value::Null, |view| view["past_retention"].clone())
    };
    let answer: Value = serde_json::from_str(&node.get("/v1/status?project=shop").1).unwrap();
    assert_eq!(of(answer["views"].as_array().unwrap()), json!(2), "{answer}");
    assert_eq!(of(&project.json(&["status"])), json!(2));
    let said = project.well(&["status"]);
    assert!(
        said.contains("visits_seen: rows older than it keeps online: 2; they are kept offline"),
        "{said}"
    );
    let metrics = node.get("/metrics").1;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("asof_view_rows_past_retention{") && line.contains("visits_seen"));
    assert!(line.is_some_and(|line| line.ends_with(" 2")), "{line:?}");
    assert_eq!(node.stop(), Some(0));
}
