//! The JSON Schema that editors check and complete definitions with, made from the key tables.

use serde_json::{Map, Value, json};

use crate::DataType;
use crate::keys::{self, Key, Table, Takes};

/// A JSON Schema (draft 2020-12) of `asof.yaml` and of every document below `features/`.
pub fn json_schema() -> Value {
    let mut definitions = Map::new();
    for table in keys::ALL {
        definitions.insert(table_name(table), table_schema(table));
    }
    definitions.insert("name".to_owned(), json!({"type": "string", "pattern": "^[a-z][a-z0-9_]{0,62}$"}));
    let reference = json!({"type": "string", "pattern": "^([a-z][a-z0-9_]{0,62}\\.)?[a-z][a-z0-9_]{0,62}$"});
    definitions.insert("reference".to_owned(), reference);
    definitions
        .insert("length".to_owned(), json!({"type": "string", "pattern": "^[0-9]+(w|d|h|m|s|ms|us)$"}));
    let types: Vec<&str> = DataType::names().filter(|name| !name.contains(['(', '<'])).collect();
    definitions.insert(
        "type".to_owned(),
        json!({"anyOf": [
            {"enum": types},
            {"type": "string", "pattern": "^(decimal\\([0-9]+, ?[0-9]+\\)|list<.+>|struct<.+>)$"},
        ]}),
    );
    let expression =
        json!({"type": ["string", "number", "boolean"], "description": "A SQL expression over one row."});
    definitions.insert("expression".to_owned(), expression);
    let kinds: Vec<Value> =
        ["entity", "source", "view", "derived", "service", "asof_yaml"].iter().map(|kind| to(kind)).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Asof definitions",
        "oneOf": kinds,
        "$defs": definitions,
    })
}

fn table_name(table: &Table) -> String {
    table.thing.replace([' ', '.'], "_")
}

fn to(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn table_schema(table: &Table) -> Value {
    let built = table.keys.iter().filter(|key| !matches!(key.takes, Takes::NotYet(_)));
    let properties: Map<String, Value> =
        built.clone().map(|key| (key.name.to_owned(), described(key))).collect();
    let required: Vec<&str> = built.filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "description": table.about,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    let one_of: &[&str] = match table.thing {
        "source" => &["path", "sql", "push"],
        "feature" => &["expr", "agg"],
        _ => &[],
    };
    if let Value::Object(fields) = &mut schema
        && !one_of.is_empty()
    {
        let ways: Vec<Value> = one_of.iter().map(|key| json!({"required": [key]})).collect();
        fields.insert("oneOf".to_owned(), ways.into());
    }
    schema
}

fn described(key: &Key) -> Value {
    let mut value = takes(key.takes);
    if let Value::Object(fields) = &mut value {
        fields.insert("description".to_owned(), key.about.into());
    }
    value
}

fn takes(takes: Takes) -> Value {
    let texts = json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}});
    match takes {
        Takes::Name => to("name"),
        Takes::Reference => to("reference"),
        Takes::Text | Takes::Query => json!({"type": ["string", "number"]}),
        Takes::Texts => {
            json!({"type": "array", "items": {"type": ["string", "number"]}, "uniqueItems": true})
        }
        Takes::Expression => to("expression"),
        Takes::Length => to("length"),
        Takes::History => json!({"anyOf": [to("length"), {"enum": ["all", "none"]}]}),
        Takes::WindowLength => json!({"anyOf": [to("length"), {"const": "all"}]}),
        Takes::Resolution => json!({"anyOf": [to("length"), {"const": "none"}]}),
        Takes::Windows => json!({
            "type": "array", "minItems": 1,
            "items": {"anyOf": [to("length"), {"const": "all"}, to("window")]},
        }),
        Takes::Call => json!({"type": "string", "description": "A call of an aggregate."}),
        Takes::Constant => json!({"type": ["string", "number", "boolean"]}),
        Takes::Bool => json!({"type": "boolean"}),
        Takes::Choice(words) => json!({"enum": words}),
        Takes::Past => json!({"anyOf": [{"type": "string"}, to("past")]}),
        Takes::Instant => json!({"type": "string"}),
        Takes::Time | Takes::EventTime => json!({"anyOf": [{"type": "string"}, to("time")]}),
        Takes::KeyTypes => json!({
            "type": "object", "minProperties": 1,
            "propertyNames": to("name"), "additionalProperties": to("type"),
        }),
        Takes::ColumnTypes => json!({"type": "object", "additionalProperties": to("type")}),
        Takes::KeyColumns => json!({
            "type": "object", "propertyNames": to("name"), "additionalProperties": {"type": "string"},
        }),
        Takes::KeyNames => json!({
            "type": "object", "propertyNames": to("name"), "additionalProperties": to("name"),
        }),
        Takes::Features => json!({"anyOf": [
            {"const": "*"},
            {"type": "array", "minItems": 1, "items": to("name"), "uniqueItems": true},
            {"type": "object", "minProperties": 1, "propertyNames": to("name"),
             "additionalProperties": {"anyOf": [to("expression"), to("feature")]}},
        ]}),
        Takes::DerivedFeatures => json!({
            "type": "object", "minProperties": 1, "propertyNames": to("name"),
            "additionalProperties": {"anyOf": [to("expression"), to("derived_feature")]},
        }),
        Takes::Labels => json!({"type": "array", "minItems": 1, "items": to("label")}),
        Takes::Picks => json!({
            "type": "array", "minItems": 1,
            "items": {"anyOf": [
                {"type": "string", "pattern": "^([a-z][a-z0-9_]*\\.)?[a-z][a-z0-9_]*\\.([a-z][a-z0-9_]*|\\*)$"},
                to("service_feature"),
            ]},
        }),
        Takes::Options => texts,
        Takes::Size => json!({"type": ["string", "integer"]}),
        Takes::Count => json!({"type": "integer", "minimum": 1, "maximum": 4096}),
        Takes::Share => json!({"type": "number", "minimum": 0, "maximum": 1}),
        Takes::NotYet(_) => json!(false),
    }
}
