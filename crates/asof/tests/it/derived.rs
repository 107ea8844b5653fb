//! Derived features and labels from definitions to values: what is trained on is what is served.

use serde_json::{Value, json};

use crate::project::Project;

const DEFINITIONS: &str = "\
entity: seller
keys: {seller_id: int64}
---
source: profiles
path: data/profiles.csv
event_time: updated_at
---
view: seller_profile
entity: seller
source: profiles
history: all
features:
  tier: tier
  rating: rating
  updated_at: updated_at
---
derived: quote
request: {price: float64, is_new: bool}
features:
  per_rating: price / nullif(seller_profile.rating, 0)
  logarithm: ln(abs(quote.per_rating)) * sqrt(coalesce(seller_profile.rating, 2))
  hours: date_part('hour', request_time) + date_part('day', request_time) * 24
  is_fresh: request_time < seller_profile.updated_at + interval '20 days' and not is_new
  word: concat(upper(seller_profile.tier), '-', cast(price as string))
---
derived: clock
features:
  year: date_part('year', request_time)
---
service: pricing
features:
  - quote.*
  - seller_profile.tier
labels:
  - {from: seller_profile.rating, after: 10d, as: rating_later}
";

/// Of times that are asked of three sellers, one of them unknown, and prices of every kind.
const SPINE: &str = "\
seller_id,at,price,is_new
1,2024-01-10T01:00:00Z,0.1,false
1,2024-02-10T00:00:00Z,-17.25,false
1,2024-02-25T13:00:00Z,3,true
2,2024-01-15T00:00:00Z,1e300,false
2,2024-03-01T23:59:59.999999Z,,false
3,2024-03-01T00:00:00Z,12.5,false
,2024-03-01T00:00:00Z,0,false
1,2024-01-22T00:00:00Z,0.30000000000000004,
1,2024-01-22T00:00:00.000001Z,7,false
";

fn shop() -> Project {
    let project = Project::shop();
    project.write("features/shop.yaml", DEFINITIONS);
    project.write("spine.csv", SPINE);
    project.well(&["apply", "--yes"]);
    project
}

const DERIVED: [&str; 6] = ["per_rating", "logarithm", "hours", "is_fresh", "word", "tier"];

#[test]
fn what_is_served_is_what_was_trained() {
    let project = shop();
    project.well(&["train", "pricing", "--spine", "spine.csv", "--out", "train.ndjson"]);
    let trained: Vec<Value> =
        project.read("train.ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(trained.len(), 9);
    project.well(&["materialize"]);
    let node = project.up(&[], &[]);
    node.wait_ready();
    for row in &trained {
        let asked = json!({
            "service": "pricing", "as_of": row["at"],
            "entities": {"seller_id": [row["seller_id"]]},
            "request": {"price": [row["price"]], "is_new": [row["is_new"]]},
        });
        let (status, answer) = node.post("/v1/features", &asked.to_string());
        assert_eq!(status, 200, "{asked}: {answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["question"], "known");
        let columns = answer["columns"].as_array().unwrap();
        let names: Vec<&str> = columns.iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names, DERIVED, "labels are not served");
        for column in columns {
            let name = column["name"].as_str().unwrap();
            // Both write the shortest text that reads back as the same float.
            let (online, offline) = (column["values"][0].to_string(), row[name].to_string());
            assert_eq!(online, offline, "{name} of {row}");
        }
    }
    // All entities as one batch come to what each came to.
    let now: Vec<&Value> = trained.iter().filter(|row| row["at"] == "2024-03-01T00:00:00Z").collect();
    assert_eq!(now.len(), 2);
    let all = |key: &str| now.iter().map(|row| row[key].clone()).collect::<Vec<Value>>();
    let asked = json!({
        "service": "pricing", "as_of": "2024-03-01T00:00:00Z", "entities": {"seller_id": all("seller_id")},
        "request": {"price": all("price"), "is_new": all("is_new")},
    });
    let (_, answer) = node.post("/v1/features", &asked.to_string());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    for (at, name) in DERIVED.iter().enumerate() {
        assert_eq!(answer["columns"][at]["values"], json!(all(name)), "{name}");
    }
    // What hangs on the time alone needs no entity.
    let asked = json!({"features": ["clock.year"], "entities": {}, "as_of": "2024-03-01T00:00:00Z"});
    let (_, answer) = node.post("/v1/features", &asked.to_string());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["columns"][0]["values"], json!([2024]), "{answer}");
}

#[test]
fn what_requests_bring_is_checked() {
    let project = shop();
    project.well(&["materialize"]);
    let node = project.up(&[], &[]);
    node.wait_ready();
    let mut told = String::new();
    for request in [
        json!({"price": [1.5]}),
        json!({"price": [1.5], "is_new": [true], "prize": [2]}),
        json!({"price": [1.5], "is_new": [true], "seller_id": [2]}),
        json!({"price": [1.5, 2], "is_new": [true]}),
        json!({"price": ["zebra"], "is_new": [true]}),
        json!({"price": [1.5], "is_new": [1]}),
        json!({"price": 1.5, "is_new": [true]}),
    ] {
        let asked = json!({"service": "pricing", "entities": {"seller_id": [1]}, "request": request});
        let (status, answer) = node.post("/v1/features", &asked.to_string());
        let error: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(status, 400, "{answer}");
        assert!(!answer.contains("zebra"), "{answer}");
        let error = &error["error"];
        told.push_str(&format!(
            "{request}\n    {}: {} ({})\n",
            error["code"], error["message"], error["hint"]
        ));
    }
    let misplaced =
        json!({"service": "pricing", "entities": {"seller_id": [1], "price": [1], "is_new": [true]}});
    let (_, answer) = node.post("/v1/features", &misplaced.to_string());
    told.push_str(&answer);
    let nothing = json!({"service": "pricing", "entities": {"seller_id": [1]}});
    let (_, answer) = node.post("/v1/features", &nothing.to_string());
    told.push_str(&answer);
    insta::assert_snapshot!(told);
    // Labels are no features, and a value that cannot be computed says which feature it was.
    let label = json!({"features": ["pricing.rating_later"], "entities": {"seller_id": [1]}});
    assert_eq!(node.post("/v1/features", &label.to_string()).0, 404);
}

#[test]
fn the_command_line_brings_what_features_read() {
    let project = shop();
    project.well(&["materialize"]);
    let asked =
        ["get", "pricing", "seller_id=1", "price=9", "is_new=false", "--as-of", "2024-02-10T00:00:00Z"];
    let got = project.json(&asked);
    assert_eq!(got[0]["columns"][0]["values"], json!([9.0 / 4.75]));
    assert_eq!(got[0]["columns"][3]["values"], json!([true]));
    let table = project.well(&asked);
    assert!(table.contains("GOLD-9.0") && table.contains("per_rating"), "{table}");
    // Several entities, each with its own.
    let got = project.json(&[
        "get",
        "--features",
        "quote.per_rating",
        "seller_id=1",
        "price=1",
        "seller_id=2",
        "price=6.5",
    ]);
    assert_eq!(got[0]["columns"][0]["values"], json!([1.0 / 4.75, 2.0]));
    let missing = project.run(&["get", "pricing", "seller_id=1", "price=9"]);
    assert_ne!(missing.code, Some(0));
    assert!(missing.err.contains("is_new") && missing.err.contains("is_new=VALUE"), "{}", missing.err);
    let wrong = project.run(&["get", "pricing", "seller_id=1", "price=cheap", "is_new=no"]);
    assert!(wrong.err.contains("price") && !wrong.err.contains("cheap"), "{}", wrong.err);
}

#[test]
fn immature_rows_are_counted_or_dropped() {
    let project = shop();
    let kept = project.run(&["train", "pricing", "--spine", "spine.csv", "--out", "kept.csv"]);
    assert_eq!(kept.code, Some(0), "{}", kept.err);
    assert_eq!(project.read("kept.csv").lines().count(), 10);
    let counts = |text: &str| -> String {
        let line = text.lines().find(|line| line.starts_with("rating_later")).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    // The last profile is of 1 February, the 22 January ten days before it.
    assert_eq!(counts(&kept.err), "rating_later seller_profile 3 0 0 0 0 6", "{}", kept.err);
    let mut args = vec!["train", "pricing", "--spine", "spine.csv", "--out", "dropped.csv"];
    args.extend(["--immature", "drop"]);
    let dropped = project.run(&args);
    assert_eq!(counts(&dropped.err), "rating_later seller_profile 3 0 0 0 0 6", "{}", dropped.err);
    assert!(dropped.err.contains("6 rows in all"), "{}", dropped.err);
    let all = project.read("kept.csv");
    let mature: Vec<&str> = all.lines().filter(|line| !line.ends_with(',')).collect();
    let found = project.read("dropped.csv");
    assert_eq!(found.lines().collect::<Vec<_>>(), mature);
    assert_eq!(mature.len(), 4, "{found}");
    let sets = project.json(&["list", "training-sets"]);
    let id = sets[0]["id"].as_str().unwrap();
    project.well(&["train", "--rebuild", id, "--out", "again.csv"]);
    assert_eq!(project.read("again.csv"), found);
}
