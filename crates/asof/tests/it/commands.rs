//! Every command on a small project, without a node and with one.

use crate::project::{DEFINITIONS, Project, files_below};

#[test]
fn a_project_goes_from_plan_to_a_served_value() {
    let project = Project::shop();
    let plan = project.json(&["plan"]);
    assert_eq!(plan[0]["project"], "shop");
    assert_eq!(plan[0]["changes"].as_array().unwrap().len(), 4);
    assert_eq!(plan[0]["changes"][0]["action"], "created");
    // Of a CSV file it is an estimate from its bytes.
    assert_eq!(plan[0]["rows_to_materialize"][0]["view"], "seller_profile");
    assert!((2..=8).contains(&plan[0]["rows_to_materialize"][0]["rows"].as_u64().unwrap()));
    // A feature without an owner has its view's.
    assert_eq!(plan[0]["without_owner"], serde_json::json!([]));
    let applied = project.json(&["apply", "--yes"]);
    assert_eq!(applied[0]["revision"], 1);
    assert!(project.well(&["plan"]).contains("up to date"));
    let again = project.json(&["apply", "--yes"]);
    assert_eq!(again[0]["revision"], 1, "nothing changed");

    project.well(&["train", "pricing", "--spine", "spine.csv", "--out", "train.csv"]);
    insta::assert_snapshot!("training_set", project.read("train.csv"));
    let event = project.run_with(
        &["train", "pricing", "--spine", "/dev/stdin", "--out", "-", "--question", "event"],
        &project.read("spine.csv"),
    );
    assert_eq!(event.code, Some(0), "{}", event.err);
    assert_eq!(event.out.lines().count(), 7);
    let shown = project.well(&["train", "pricing", "--spine", "spine.csv"]);
    assert!(shown.contains("name_length"), "{shown}");
    // A pipe is read once only.
    let piped = project.run_with(
        &["train", "pricing", "--spine", "/dev/fd/0", "--spine-format", "csv", "--out", "piped.csv"],
        &project.read("spine.csv"),
    );
    assert_eq!(piped.code, Some(0), "{}", piped.err);
    assert_eq!(project.read("piped.csv"), project.read("train.csv"));
    // However often a spine is asked with, it is kept once.
    let kept = std::fs::read_dir(project.path().join(".asof/spines")).unwrap().count();
    assert_eq!(kept, 1);

    let sets = project.json(&["list", "training-sets"]);
    assert_eq!(sets.len(), 4);
    let id = sets[3]["id"].as_str().unwrap();
    project.well(&["train", "--rebuild", id, "--out", "again.csv"]);
    assert_eq!(project.read("again.csv"), project.read("train.csv"));

    let materialized = project.json(&["materialize"]);
    assert_eq!(materialized[0]["rows_read"], 4);
    let status = project.json(&["status"]);
    assert_eq!(status[0]["state"], "ready");
    let got = project.json(&["get", "pricing", "seller_id=1", "--as-of", "2024-01-10T00:00:00Z"]);
    assert_eq!(got[0]["columns"][0]["values"][0], "basic");
    assert_eq!(got[0]["readings"][0]["event_time"][0], "2024-01-01T00:00:00.000000Z");
    let got = project.json(&["get", "pricing", "seller_id=1", "seller_id=9007199254740993", "seller_id=7"]);
    assert_eq!(got[0]["columns"][0]["values"], serde_json::json!(["gold", "gold", null]));
    assert_eq!(got[0]["columns"][1]["values"], serde_json::json!([4.75, 0.1, null]));
    assert_eq!(got[0]["readings"][0]["status"], serde_json::json!(["present", "present", "not_found"]));

    let rows = project.json(&["sql", "select seller_id, tier from profiles order by seller_id, updated_at"]);
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[3]["seller_id"].to_string(), "9007199254740993");
    assert_eq!(project.json(&["list"]).len(), 4);
    assert_eq!(project.json(&["list", "views"])[0]["name"], "seller_profile");
    let shown = project.well(&["show", "seller_profile"]);
    let whole = &project.json(&["show", "seller_profile"])[0];
    assert_eq!(whole["sample"]["rows"], 4);
    assert_eq!(whole["used_by"][0]["name"], "shop.pricing");
    assert!(project.json(&["show", "pricing"])[0].get("sample").is_none());
    assert!(project.json(&["show", "profiles", "--no-sample"])[0].get("sample").is_none());
    for part in ["tier", "char_length(name)", "service shop.pricing", "Sample"] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
    assert_eq!(project.json(&["search", "rating"])[0]["name"], "shop.seller_profile.rating");
    assert!(project.well(&["explain", "seller_profile"]).contains("last one answers"));
    assert!(project.well(&["explain", "bad_row"]).contains("quarantine"));
    assert!(project.json(&["explain"]).len() > 200);
    assert!(project.well(&["schema"]).contains("\"$schema\""));
    assert!(project.well(&["doctor"]).contains("no node runs"));
    assert!(project.well(&["diff"]).is_empty());
}

#[test]
fn a_sample_is_shown_and_what_is_sensitive_is_not() {
    let project = Project::shop();
    let text = project.read("features/shop.yaml");
    let text =
        text.replace("  rating: rating\n", "  rating: rating\n  who: {expr: name, sensitivity: pii}\n");
    project.write("features/shop.yaml", &text);
    project.well(&["apply", "--yes"]);

    let view = &project.json(&["show", "seller_profile"])[0]["sample"];
    assert_eq!(view["rows"], 4);
    let columns: Vec<&str> =
        view["columns"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["seller_id", "event_time", "tier", "rating", "who", "name_length"]);
    assert_eq!(
        view["columns"][0]["values"].to_string(),
        "[1,1,2,9007199254740993]",
        "integers keep their digits"
    );
    assert_eq!(view["columns"][1]["values"][0], "2024-01-01T00:00:00.000000Z");
    assert_eq!(view["columns"][3]["values"][3], 0.1);
    assert_eq!(view["columns"][4]["values"], serde_json::json!(["***", "***", "***", "***"]));
    assert_eq!(view["columns"][4]["masked"], "pii");

    let source = project.json(&["show", "profiles"]);
    assert_eq!(source[0]["sample"]["columns"][4]["name"], "name");
    assert_eq!(source[0]["sample"]["columns"][4]["masked"], "pii");
    assert_eq!(source[0]["columns"][4]["sensitivity"], "pii");

    let feature = &project.json(&["show", "seller_profile.tier"])[0]["sample"];
    assert_eq!(feature["columns"].as_array().unwrap().len(), 3);
    assert_eq!(feature["columns"][2]["values"], serde_json::json!(["basic", "gold", "basic", "gold"]));
    assert!(project.json(&["show", "seller_profile.who"])[0].to_string().contains("***"));
    assert!(project.json(&["show", "pricing"])[0]["sample"].is_null());
    assert!(project.json(&["show", "seller_profile", "--no-sample"])[0]["sample"].is_null());

    for thing in ["seller_profile", "profiles", "seller_profile.who"] {
        let shown = project.run(&["show", thing]);
        assert!(shown.out.contains("Sample") && shown.out.contains("***"), "{}", shown.out);
        assert!(shown.err.contains("Not shown, being sensitive"), "{}", shown.err);
        assert!(!shown.out.contains("Bertil") && !shown.err.contains("Bertil"), "{}", shown.out);
    }

    let node = project.up(&[], &[]);
    node.wait_ready();
    let ask = |query: &str| node.get(&format!("/v1/projects/shop/things/seller_profile{query}"));
    let rows = |query: &str| -> serde_json::Value {
        let (status, body) = ask(query);
        assert_eq!(status, 200, "{body}");
        assert!(!body.contains("Bertil"), "{body}");
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["sample"]["rows"].clone()
    };
    assert_eq!(rows(""), 4);
    assert_eq!(rows("?sample=2"), 2);
    assert!(rows("?sample=0").is_null());
    for query in ["?sample=101", "?sample=-1", "?sample=all", "?rows=3"] {
        assert_eq!(ask(query).0, 400, "{query}");
    }
    // Where the data cannot be read all else is still said, and why there is no sample.
    project.write("data/profiles.csv", "seller_id,updated_at,tier,rating,name\n1,soon,gold,1,Ann\n");
    let (status, body) = ask("");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["owner"]), (200, &serde_json::json!("marketplace")));
    let problem = body["sample"]["problem"].as_str().unwrap();
    assert!(problem.contains("data/profiles.csv, row 1") && !problem.contains("soon"), "{problem}");
    drop(node);
    let shown = project.run(&["show", "seller_profile"]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    assert!(shown.err.contains("No sample: source `profiles`"), "{}", shown.err);
}

#[test]
fn changes_are_planned_described_and_applied() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let text = project.read("features/shop.yaml");
    project.write("features/shop.yaml", &text.replace("rating: rating", "rating: rating * 2"));
    let plan = project.json(&["plan"]);
    let changed: Vec<String> = plan[0]["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            let head = format!("{} {} {}", change["action"], change["kind"], change["name"]);
            let invalid = change["invalidates"].as_array().unwrap();
            invalid.iter().fold(head, |text, one| format!("{text}\n    invalidates {one}"))
        })
        .collect();
    insta::assert_snapshot!("changed", changed.join("\n"));
    assert!(project.well(&["diff"]).contains("rating * 2"));
    project.well(&["apply"]);
    let without_service = text.split("---\nservice").next().unwrap().to_owned();
    project.write("features/shop.yaml", &without_service);
    let refused = project.run(&["apply", "--yes"]);
    assert_eq!(refused.code, Some(4), "{}", refused.err);
    assert!(refused.err.contains("--allow-remove"), "{}", refused.err);
    project.well(&["apply", "--yes", "--allow-remove"]);
    assert_eq!(project.json(&["list"]).len(), 3);
}

#[test]
fn commands_speak_to_the_node_that_runs() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let node = project.up(&[], &[]);
    node.wait_ready();
    let doctor = project.json(&["doctor"]);
    let node_check = &doctor[0]["checks"][3];
    assert!(node_check["text"].as_str().unwrap().contains(&node.address), "{node_check}");
    let got = project.json(&["get", "pricing", "seller_id=2"]);
    assert_eq!(got[0]["columns"][0]["values"][0], "basic");
    project.well(&["train", "pricing", "--spine", "spine.csv", "--out", "train.parquet"]);
    let (status, body) =
        node.post("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": [1]}}"#);
    assert_eq!(status, 200, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["columns"][0]["values"][0], "gold");
    assert!(body.get("readings").is_none(), "not asked for");
    let (status, metrics) = node.get("/metrics");
    assert_eq!(status, 200);
    for part in [
        "asof_requests_total{endpoint=\"/v1/features\",status=\"200\"}",
        "asof_view_rows_online{project=\"shop\",view=\"seller_profile\"} 4",
    ] {
        assert!(metrics.contains(part), "{part} in\n{metrics}");
    }
    for path in ["/health", "/openapi.json", "/docs"] {
        assert_eq!(node.get(path).0, 200, "{path}");
    }
    assert!(node.get("/docs").1.contains("/v1/features"));
    assert_eq!(node.stop(), Some(0));
    assert!(!project.path().join(".asof/node.json").exists());
    project.well(&["status"]);
}

#[test]
fn a_backup_is_restored_where_nothing_stands() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    project.well(&["materialize"]);
    project.well(&["train", "pricing", "--spine", "spine.csv", "--out", "train.csv"]);
    let node = project.up(&[], &[]);
    node.wait_ready();
    project.well(&["backup", "copy"]);
    // What a node owns is not written over.
    let owned = project.run(&["restore", "copy"]);
    assert_eq!(owned.code, Some(4), "{}", owned.err);
    assert!(owned.err.contains("`asof up`"), "{}", owned.err);
    assert_eq!(project.json(&["get", "pricing", "seller_id=1"])[0]["columns"][0]["values"][0], "gold");
    assert_eq!(node.stop(), Some(0));
    let twice = project.run(&["backup", "copy"]);
    assert_eq!(twice.code, Some(4), "{}", twice.err);
    let refused = project.run(&["restore", "copy"]);
    assert_eq!(refused.code, Some(4), "{}", refused.err);
    std::fs::rename(project.path().join(".asof"), project.path().join("lost")).unwrap();
    project.well(&["restore", "copy"]);
    assert_eq!(project.read(".asof/.gitignore"), "*\n");
    let got = project.json(&["get", "pricing", "seller_id=1"]);
    assert_eq!(got[0]["columns"][0]["values"][0], "gold");
    let sets = project.json(&["list", "training-sets"]);
    project.well(&["train", "--rebuild", sets[0]["id"].as_str().unwrap(), "--out", "again.csv"]);
    assert_eq!(project.read("again.csv"), project.read("train.csv"));
    // A byte that is not what it was is found.
    let registry = project.path().join("copy/registry.db");
    let mut bytes = std::fs::read(&registry).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&registry, bytes).unwrap();
    let damaged = project.run(&["restore", "copy", "--data-dir", "elsewhere"]);
    assert_eq!(damaged.code, Some(10), "{}", damaged.err);
    assert!(!project.path().join("elsewhere").exists());
    assert!(files_below(project.path()).iter().all(|path| !path.to_string_lossy().contains(".partial")));
}

/// A table that lost a file, or a part of its log, is never said to be backed up.
#[test]
fn a_backup_of_a_table_that_is_not_whole_is_refused() {
    let project = Project::shop();
    project.write(
        "features/shop.yaml",
        &DEFINITIONS.replace("event_time: updated_at\n", "event_time: updated_at\nstore: true\n"),
    );
    project.well(&["apply", "--yes"]);
    project.well(&["load", "profiles"]);
    project.well(&["backup", "whole"]);
    let named = |part: &str| {
        let all = files_below(&project.path().join(".asof/offline"));
        all.into_iter()
            .find(|path| {
                path.to_string_lossy().contains(part) && path.extension().is_some_and(|it| it != "lock")
            })
            .unwrap()
    };
    for part in [".parquet", "00000001.json"] {
        let path = named(part);
        let bytes = std::fs::read(&path).unwrap();
        if part == ".parquet" {
            std::fs::remove_file(&path).unwrap();
        } else {
            // Of its making no word is left.
            std::fs::rename(&path, project.path().join("log")).unwrap();
            std::fs::remove_file(named("00000000.json")).unwrap();
            std::fs::write(path.with_file_name("00000000000000000002.json"), &bytes).unwrap();
        }
        let refused = project.run(&["backup", "broken"]);
        assert_eq!(refused.code, Some(4), "{part}: {}{}", refused.out, refused.err);
        assert!(refused.err.contains("table `shop/profiles/"), "{part}: {}", refused.err);
        assert!(!project.path().join("broken").exists(), "{part}");
        std::fs::write(&path, bytes).unwrap();
    }
}

/// The registry's own record is SQL's to read, whoever opens the stores.
#[test]
fn the_record_is_queried_with_and_without_a_node() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    project.well(&["train", "pricing", "--spine", "spine.csv", "--out", "train.csv"]);
    let queries = [
        "select kind, name, owner from things order by kind, name",
        "select view, name, type from features order by name",
        "select name, action, standing from versions order by name",
        "select kind, subject, state from runs",
        "select rows from training_sets",
        "select count(*) as n from system.things t join system.versions v on v.name = t.name",
    ];
    let ask = || -> Vec<_> { queries.iter().map(|query| project.json(&["sql", query])).collect() };
    let alone = ask();
    let counts: Vec<usize> = alone.iter().map(Vec::len).collect();
    assert_eq!(counts, [4, 3, 4, 1, 1, 1], "{alone:?}");
    assert_eq!(alone[0][0], serde_json::json!({"kind": "entity", "name": "seller", "owner": "marketplace"}));
    assert_eq!(alone[4][0]["rows"], 6);
    let node = project.up(&[], &[]);
    node.wait_ready();
    assert_eq!(ask(), alone);
}
