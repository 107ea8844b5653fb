//! The pages and the schema are made from the tables that drive the reader.

use std::path::PathBuf;

use asof_model::{Project, json_schema, reference_page};
use serde_json::Value;

use crate::shop::{CONFIG, FEATURES, file};

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/definitions.md")
}

#[test]
fn the_reference_page_is_up_to_date() {
    let written = std::fs::read_to_string(page()).unwrap_or_default();
    assert!(
        written == reference_page(),
        "docs/reference/definitions.md is old: cargo nextest run -p asof-model --run-ignored only -E 'test(write_the_reference_page)'"
    );
}

#[test]
#[ignore = "writes docs/reference/definitions.md"]
fn write_the_reference_page() {
    std::fs::create_dir_all(page().parent().unwrap()).unwrap();
    std::fs::write(page(), reference_page()).unwrap();
}

#[test]
fn every_example_of_the_page_is_read() {
    let page = reference_page();
    let examples: Vec<&str> =
        page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 6);
    let documents: Vec<&str> = examples
        .iter()
        .copied()
        .filter(|it| {
            ["entity:", "source:", "view:", "derived:", "service:"].iter().any(|kind| it.starts_with(kind))
        })
        .collect();
    assert_eq!(documents.len(), 5);
    let text: String = documents.iter().map(|it| format!("---\n{it}")).collect();
    let (_, found) = Project::read(&[file("asof.yaml", examples[0]), file("features/a.yaml", &text)]);
    assert!(found.is_empty(), "{found:#?}");
}

/// A small reading of JSON Schema: what the schema of definitions uses of it.
fn accepts(schema: &Value, root: &Value, value: &Value) -> bool {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return accepts(root.pointer(&reference[1..]).unwrap(), root, value);
    }
    let any = |key: &str| schema.get(key).and_then(Value::as_array);
    let kind = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "boolean",
        Value::Number(it) if it.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::Null => "null",
    };
    let is = |name: &str| name == kind || name == "number" && kind == "integer";
    let good_type = match schema.get("type") {
        Some(Value::String(name)) => is(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(is),
        _ => true,
    };
    let good_properties = value.as_object().is_none_or(|fields| {
        fields.iter().all(|(key, value)| {
            match schema.pointer(&format!("/properties/{key}")).or_else(|| schema.get("additionalProperties"))
            {
                Some(Value::Bool(allowed)) => *allowed,
                Some(schema) => accepts(schema, root, value),
                None => true,
            }
        })
    });
    let good_items = match (value.as_array(), schema.get("items")) {
        (Some(items), Some(schema)) => items.iter().all(|item| accepts(schema, root, item)),
        _ => true,
    };
    let required = any("required").into_iter().flatten().filter_map(Value::as_str);
    let has_required = required.into_iter().all(|key| value.get(key).is_some());
    good_type
        && good_properties
        && good_items
        && has_required
        && any("enum").is_none_or(|words| words.contains(value))
        && schema.get("const").is_none_or(|word| word == value)
        && any("anyOf").is_none_or(|ways| ways.iter().any(|way| accepts(way, root, value)))
        && any("oneOf").is_none_or(|ways| ways.iter().filter(|way| accepts(way, root, value)).count() == 1)
}

#[test]
fn the_schema_accepts_what_the_reader_reads_and_refuses_unknown_keys() {
    let schema = json_schema();
    for (document, good) in [
        (serde_json::json!({"project": "shop", "memory": "8GB", "threads": 4}), true),
        (serde_json::json!({"entity": "seller", "keys": {"seller_id": "int64"}, "tags": ["a"]}), true),
        (serde_json::json!({"source": "s", "path": "s.parquet", "event_time": "t", "store": true}), true),
        (
            serde_json::json!({"source": "s", "path": "s.parquet", "event_time": {"column": "t", "unit": "s"}}),
            true,
        ),
        (serde_json::json!({"view": "v", "entity": "e", "source": "s", "features": "*", "ttl": "90d"}), true),
        (
            serde_json::json!({"view": "v", "entity": "e", "source": "s", "features": ["a"], "history": "all"}),
            true,
        ),
        (
            serde_json::json!({"view": "v", "entity": "e", "source": "s", "features":
                {"a": 1, "b": {"expr": "x", "sensitivity": "pii"}}}),
            true,
        ),
        (
            serde_json::json!({"service": "s", "features": ["a.b", {"from": "a", "keys": {"k": "l"}, "as": "c"}]}),
            true,
        ),
        (
            serde_json::json!({"view": "v", "entity": "e", "source": "s", "windows": ["1h", "all", {"length": "7d", "offset": "7d", "as": "before"}],
                "features": {"a": {"agg": "count(*)", "windows": ["1d"], "default": 0}}}),
            true,
        ),
        (
            serde_json::json!({"view": "v", "entity": "e", "source": "s", "windows": [7], "features": {"a": {"agg": "count(*)"}}}),
            false,
        ),
        (
            serde_json::json!({"view": "v", "entity": "e", "source": "s", "features": {"a": {"agg": "count(*)", "expr": "b"}}}),
            false,
        ),
        (
            serde_json::json!({"service": "s", "features": ["a.b"], "labels": [{"from": "a.b", "after": "7d", "as": "c"}]}),
            true,
        ),
        (serde_json::json!({"service": "s", "features": ["a.b"], "labels": ["a.b"]}), false),
        (
            serde_json::json!({"derived": "d", "request": {"price": "float64"}, "features": {"a": "price", "b": {"expr": "v.a"}}}),
            true,
        ),
        (serde_json::json!({"derived": "d", "features": {"a": {"agg": "count(*)"}}}), false),
        (
            serde_json::json!({"source": "s", "push": true, "event_time": "t", "id": "n", "schema": {"t": "timestamp"}}),
            true,
        ),
        (
            serde_json::json!({"source": "s", "push": true, "event_time": "t", "past": {"path": "a.csv", "until": "2020-01-01"}}),
            true,
        ),
        (serde_json::json!({"source": "s", "push": true, "path": "a", "event_time": "t"}), false),
        (serde_json::json!({"source": "s", "event_time": "t"}), false),
        (serde_json::json!({"source": "s", "path": "a", "sql": "b", "event_time": "t"}), false),
        (serde_json::json!({"source": "s", "path": "a", "event_time": {"unit": "s"}}), false),
        (serde_json::json!({"view": "v", "entity": "e", "source": "s"}), false),
        (serde_json::json!({"entity": "e", "keys": {"a": 5}}), false),
        (serde_json::json!({"project": "shop", "port": 1}), false),
    ] {
        assert_eq!(accepts(&schema, &schema, &document), good, "{document}");
    }
}

#[test]
fn the_schema_has_the_keys_of_the_reader() {
    let schema = json_schema();
    let page = reference_page();
    for kind in [
        "entity",
        "source",
        "past",
        "time",
        "view",
        "feature",
        "window",
        "service",
        "service_feature",
        "asof_yaml",
    ] {
        let keys = schema.pointer(&format!("/$defs/{kind}/properties")).unwrap().as_object().unwrap();
        for key in keys.keys() {
            assert!(page.contains(&format!("| `{key}`")), "{kind}.{key}");
            // The reader knows each: an unknown one would be told so.
            if let Some(head) = [
                "entity",
                "source",
                "past",
                "time",
                "view",
                "feature",
                "window",
                "derived",
                "derived_feature",
                "service",
                "service_feature",
                "label",
                "asof_yaml",
            ]
            .iter()
            .find(|head| **head == kind)
            {
                let text = format!("{head}: x\n{key}: [[]]\n");
                let (_, found) = Project::read(&[file("asof.yaml", CONFIG), file("features/a.yaml", &text)]);
                assert!(!found.iter().any(|it| it.code == "unknown_key"), "{kind}.{key}");
            }
        }
    }
    assert!(!FEATURES.is_empty());
}
