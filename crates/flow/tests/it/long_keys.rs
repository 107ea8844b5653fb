//! Ids and keys of any length: what is taken can be withdrawn, what cannot be stored is refused by name, and asking for
//! it finds nothing.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::Int64Type;
use asof_engine::intake::BodyFormat;
use asof_flow::{FlowError, PushReport, PushRequest};
use asof_model::{Ask, Explain, Kind, Principal};
use asof_serve::EntityColumns;

use crate::fixture::name;
use crate::node::{Node, resolved};

const DEFINITIONS: &str = "\
entity: person
keys: {who: string}
---
source: orders
push: true
schema: {id: string, who: string, at: timestamp, n: int64, gone: bool}
event_time: at
id: id
delete_when: gone
---
view: newest
entity: person
source: orders
features: {n: n}
---
view: all_time
entity: person
source: orders
windows: [all]
features: {orders: {agg: count(*)}}
---
service: asked
features: [newest.n, all_time.orders_all]
";

fn push(node: &Node, id: &str, who: &str, gone: bool) -> Result<PushReport, FlowError> {
    let row = serde_json::json!({"id": id, "who": who, "at": "2026-01-01T00:00:00Z", "n": 7, "gone": gone});
    let request = PushRequest::new(row.to_string(), BodyFormat::Json);
    let (owner, shop, source) = (Principal::owner(), name("shop"), name("orders"));
    node.runtime.block_on(node.flow.push(&owner, &shop, &source, request))
}

/// The latest `n`, and how many orders there are.
fn ask(node: &Node, who: &str) -> (Option<i64>, i64) {
    let catalog = node.registry.catalog();
    let service = Ask::Service("asked".to_owned());
    let prepared = node.reader.prepare(&catalog, &name("shop"), &service, false).unwrap();
    let keys = Arc::new(StringArray::from(vec![who]));
    let entities = EntityColumns::new(vec![("who".to_owned(), keys)]).unwrap();
    let found = node.reader.read(&prepared, &entities, None).unwrap();
    let values: Vec<Option<i64>> = found
        .columns()
        .map(|column| {
            let array = column.array().unwrap();
            let array = array.as_primitive::<Int64Type>();
            array.is_valid(0).then(|| array.value(0))
        })
        .collect();
    (values[0], values[1].unwrap())
}

#[test]
fn what_is_taken_can_be_withdrawn_and_what_is_too_long_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    // 2026-03-01.
    let node = Node::open(folder.path(), 1_772_323_200_000_000);
    node.put(resolved(&node.runtime, &node.engine, folder.path(), DEFINITIONS));
    node.materialize();
    let lengths = [1, 32_000, 60_000, 65_400, 65_440, 65_450, 65_480, 65_499, 65_500, 65_530, 65_536, 70_000];
    for (column, fill) in [("id", "x"), ("id", "\0"), ("who", "x"), ("who", "\0")] {
        let (mut taken, mut refused) = (0, 0);
        for length in lengths {
            let long = fill.repeat(length);
            let short = format!("{column} {} {length}", fill.escape_debug());
            let (id, who) = if column == "id" { (&long, &short) } else { (&short, &long) };
            match push(&node, id, who, false) {
                Ok(_) => {
                    assert_eq!(ask(&node, who), (Some(7), 1), "{short}");
                    push(&node, id, who, true).unwrap();
                    taken += 1;
                }
                Err(error) => {
                    assert_eq!((error.code(), error.kind()), ("online_row_too_long", Kind::Invalid));
                    let text = error.to_string();
                    assert!(text.contains("source `orders`: row 1 of the batch: its "), "{text}");
                    assert!(text.contains(&format!("`{column}`")) && text.contains("65499"), "{text}");
                    refused += 1;
                }
            }
            assert_eq!(ask(&node, who), (None, 0), "{short}");
        }
        assert!(taken >= 2 && refused >= 4, "{column}: {taken} taken, {refused} refused");
    }
}
