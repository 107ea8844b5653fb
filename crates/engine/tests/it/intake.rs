//! Pushed bodies: what is taken of them, what is refused and how it is told, and what views get.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Float64Type, Int64Type};
use asof_compute::{KeyEncoder, Op, Position};
use asof_engine::Error;
use asof_engine::intake::{
    BodyFormat, Intake, IntakeBatch, KEPT_FORMAT, KeptKey, KeyBinding, PushedOp, kept_key,
};
use asof_model::{Explain, Timestamp};

use crate::looking::applied;
use crate::project::{Folder, name, said};

const ENTITIES: &str = "entity: shop\nkeys: {shop: int64}\n---\nentity: buyer\nkeys: {buyer: string}\n---\n";

const SALES: &str = "\
source: sales
push: true
schema: {shop: int64, buyer: string, at: timestamp, price: float64, kind: string, tags: list<string>, note: json}
event_time: at
order_by: price
delete_when: kind = 'gone'
---
view: latest
entity: buyer
source: sales
where: price <> 13 or price is null
features: {price: price, double: price * 2, tag: \"tags[1]\"}
";

const EVENTS: &str = "\
source: events
push: true
schema: {n: string, shop: int64, at: timestamp, price: int64}
event_time: at
id: n
delete_when: price = 0
---
view: activity
entity: shop
source: events
where: price <> 13 or price is null
windows: [1h, 1d]
features:
  sum: {agg: sum(price)}
  most: {agg: max(price)}
  big: {agg: count(*) filter (where price > 5)}
  spread: {agg: \"sum(price * price) filter (where price > 5)\"}
---
view: newest
entity: shop
source: events
features: {price: price}
";

/// What `definitions` say of a source is compiled with all views over it.
pub(crate) fn intake(folder: &Folder, definitions: &str, source: &str) -> Intake {
    let catalog = applied(folder, &format!("{ENTITIES}{definitions}"));
    let address = asof_model::Address { project: name("shop"), name: name(source) };
    let views: Vec<_> = catalog.views().filter(|view| view.source == address).cloned().collect();
    let source = Arc::clone(catalog.source(&address).unwrap());
    folder.runtime.block_on(folder.engine.intake(&source, &views)).unwrap()
}

fn json(intake: &Intake, body: &str) -> Result<IntakeBatch, Error> {
    intake.pushed(body.as_bytes(), BodyFormat::Json, PushedOp::AsWritten)
}

/// The rows that the log would keep, read back as accepted with this `v` from this `s` on.
fn read_back(intake: &Intake, batch: &IntakeBatch) -> RecordBatch {
    let mut reader = intake.live_rows().reader(batch.len()).unwrap();
    reader.take(&batch.log_rows(0..batch.len(), None), Timestamp(77), Position(5), Position(0)).unwrap();
    reader.finish().unwrap()
}

const ROWS: &str = r#"[
  {"shop": 1, "buyer": "a\"\u00e4", "at": "2024-01-01T00:00:00Z", "price": 1.5, "tags": ["x", null], "note": {"deep":[1]}},
  {"at": "2024-01-01T01:00:00+01:00", "buyer": "b", "kind": "gone"},
  {"price": 13, "at": "2024-01-02", "buyer": "c", "tags": []},
  {"shop": null, "at": "2024-01-03T00:00:00.000001Z", "price": -0.0, "price": 4}
]"#;

#[test]
fn json_ndjson_and_arrow_say_the_same() {
    let folder = Folder::new();
    let intake = intake(&folder, SALES, "sales");
    let one = json(&intake, ROWS).unwrap();
    let wrapped = json(&intake, &format!("\u{feff} {{\"rows\": {ROWS}}}")).unwrap();
    let values: Vec<serde_json::Value> = serde_json::from_str(ROWS).unwrap();
    let lines: String = values.iter().map(|row| format!("{row}\n\n")).collect();
    let lines = intake.pushed(lines.as_bytes(), BodyFormat::Ndjson, PushedOp::AsWritten).unwrap();
    let rows = read_back(&intake, &one);
    // Other columns, in another order, in other layouts.
    let mut sent: Vec<(&str, ArrayRef)> = Vec::new();
    for column in ["kind", "note", "at", "tags", "buyer", "price", "shop"] {
        sent.push((column, Arc::clone(rows.column_by_name(column).unwrap())));
    }
    sent[2].1 = arrow::compute::cast(
        &sent[2].1,
        &arrow::datatypes::DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None),
    )
    .unwrap();
    sent[0].1 = arrow::compute::cast(&sent[0].1, &arrow::datatypes::DataType::LargeUtf8).unwrap();
    let sent = RecordBatch::try_from_iter_with_nullable(sent.into_iter().map(|(n, a)| (n, a, true))).unwrap();
    let arrow =
        intake.pushed(&stream(&[sent.slice(0, 1), sent.slice(1, 3)]), BodyFormat::Arrow, PushedOp::AsWritten);
    let arrow = arrow.unwrap();
    for other in [&wrapped, &lines, &arrow] {
        assert_eq!(read_back(&intake, other), rows);
        assert_eq!(other.content_of_all(), one.content_of_all());
        let rows = |batch: &IntakeBatch| {
            (0..4).map(|row| (batch.digest(row), batch.content(row))).collect::<Vec<_>>()
        };
        assert_eq!(rows(other), rows(&one));
    }
    insta::assert_snapshot!(crate::project::table(&rows));
    // One object is one row, and what stands under a key of the name `rows` is one where it is a column.
    assert_eq!(json(&intake, r#"{"at": "2024-01-01", "shop": 3}"#).unwrap().len(), 1);
    assert_eq!(json(&intake, "[]").unwrap().len(), 0);
}

fn stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.into_inner().unwrap()
}

/// As answers give bytes and keys of requests take them; JSON in Arrow is JSON.
#[test]
fn bytes_are_base64_and_json_is_json() {
    const THINGS: &str = "\
source: things
push: true
schema: {at: timestamp, raw: bytes, note: json, all: list<bytes>}
event_time: at
";
    let folder = Folder::new();
    let intake = intake(&folder, THINGS, "things");
    let batch = json(
        &intake,
        r#"[{"at": "2024-01-01", "raw": "AP8=", "all": ["", null]}, {"at": "2024-01-01", "raw": "\u0041P8="}, {"at": "2024-01-01"}]"#,
    );
    let rows = read_back(&intake, &batch.unwrap());
    let raw: Vec<Option<&[u8]>> = rows.column_by_name("raw").unwrap().as_binary::<i32>().iter().collect();
    assert_eq!(raw, [Some(&[0, 255][..]), Some(&[0, 255]), None]);
    let bad = json(&intake, r#"[{"at": "2024-01-01", "raw": "zebra!"}, {"at": "2024-01-01", "raw": 7}]"#);
    let bad = said(&bad.unwrap_err());
    assert!(bad.contains("row 1: ") && bad.contains("base64") && bad.contains("row 2: "), "{bad}");
    assert!(!bad.contains("zebra"), "{bad}");
    let sent = |notes: Vec<Option<&str>>| {
        let at: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![0; notes.len()]).with_timezone("UTC"));
        let notes: ArrayRef = Arc::new(StringArray::from(notes));
        let notes = arrow::compute::cast(&notes, &arrow::datatypes::DataType::LargeUtf8).unwrap();
        let rows =
            RecordBatch::try_from_iter_with_nullable([("at", at, true), ("note", notes, true)]).unwrap();
        intake.pushed(&stream(&[rows]), BodyFormat::Arrow, PushedOp::AsWritten)
    };
    assert_eq!(sent(vec![Some("{\"a\": 1.0}"), None, Some("[1]")]).unwrap().len(), 3);
    let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
    let bad = said(&sent(vec![Some("1"), Some("not json"), None, Some(&deep), Some("\"x\"")]).unwrap_err());
    for said in ["2 of 5 rows", "row 2: column `note` is not JSON", "row 4: column `note` nests deeper"] {
        assert!(bad.contains(said), "{said} in {bad}");
    }
}

#[test]
fn damaged_arrow_is_refused() {
    let folder = Folder::new();
    let intake = intake(&folder, SALES, "sales");
    let rows = read_back(&intake, &json(&intake, ROWS).unwrap());
    let sent: Vec<&str> = vec!["shop", "buyer", "at", "price", "kind", "tags", "note"];
    let sent: Vec<usize> = sent.iter().map(|name| rows.schema().index_of(name).unwrap()).collect();
    let rows = rows.project(&sent).unwrap();
    let mut whole = stream(std::slice::from_ref(&rows));
    let taken = |body: &[u8]| intake.pushed(body, BodyFormat::Arrow, PushedOp::AsWritten);
    assert_eq!(taken(&whole).unwrap().len(), 4);
    // Whatever a bit makes of it, it is rows or a reason.
    let (mut good, mut codes) = (0, std::collections::BTreeMap::<String, usize>::new());
    for bit in 0..whole.len() * 8 {
        whole[bit / 8] ^= 1 << (bit % 8);
        match taken(&whole) {
            Ok(_) => good += 1,
            Err(error) => {
                assert!(matches!(error, Error::Invalid { .. }), "bit {bit}: {error:?}");
                *codes.entry(error.code().to_string()).or_default() += 1;
            }
        }
        whole[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(good > 0 && codes["bad_arrow"] > 100 && codes["bad_rows"] > 0, "{good} {codes:?}");
    for length in 0..whole.len() - 8 {
        assert!(taken(&whole[..length]).is_err(), "{length} bytes");
    }
    assert_eq!(taken(&[whole.as_slice(), b"more"].concat()).unwrap_err().code(), "bad_arrow");
    // Packed, it says how much memory it needs, which is believed within bounds only.
    let packed = arrow::ipc::writer::IpcWriteOptions::default()
        .try_with_compression(Some(arrow::ipc::CompressionType::ZSTD))
        .unwrap();
    let mut writer =
        arrow::ipc::writer::StreamWriter::try_new_with_options(Vec::new(), &rows.schema(), packed).unwrap();
    writer.write(&rows).unwrap();
    let mut packed = writer.into_inner().unwrap();
    assert_eq!(taken(&packed).unwrap().len(), 4);
    for bit in 0..packed.len() * 8 {
        packed[bit / 8] ^= 1 << (bit % 8);
        if let Err(error) = taken(&packed) {
            assert!(matches!(error, Error::Invalid { .. }), "bit {bit}: {error:?}");
        }
        packed[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_view_of_latest_values_gets_values_and_deletes() {
    let folder = Folder::new();
    let intake = intake(&folder, SALES, "sales");
    let batch = json(&intake, ROWS).unwrap();
    let [values, deletes] = batch.rows_of(0) else { panic!("values and deletes") };
    // The third does not pass, the fourth has no key.
    assert_eq!((batch.null_keys(0), batch.rows_of(1).len()), (&[3][..], 0), "one view");
    assert_eq!((values.op, values.rows.as_slice()), (Op::Value, &[0][..]));
    assert_eq!((deletes.op, deletes.rows.as_slice()), (Op::Delete, &[1][..]));
    let keys = KeyEncoder::new(&[asof_model::DataType::String]);
    let named = |key: &str| keys.encode(&[Arc::new(StringArray::from(vec![key])) as ArrayRef]).unwrap();
    assert_eq!(values.keys.value(0), named("a\"ä").value(0));
    assert_eq!(deletes.keys.value(0), named("b").value(0));
    let columns = &intake.views().next().unwrap().1;
    let names: Vec<&str> = columns.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!((names, columns.filters), (vec!["price", "double", "tag"], 0));
    assert_eq!(values.features[1].as_primitive::<Float64Type>().value(0), 3.0);
    assert_eq!(values.features[2].as_string::<i32>().value(0), "x");
    assert!(deletes.features.is_empty());
    let order = values.accepted(0, Timestamp(9), Position(4));
    let at = Timestamp::parse("2024-01-01T00:00:00Z").unwrap();
    assert_eq!((order.event_time, order.visible_at, order.position), (at, Timestamp(9), Position(4)));
    assert_eq!((order.digest, &*order.order_by), (batch.digest(0), batch.order_by(0)));
    assert!(!batch.order_by(0).is_empty() && batch.order_by(1).is_empty(), "a null is empty");
    assert!(batch.id(0).is_none() && batch.kept(0).is_empty(), "without ids nothing is kept to end rows by");
    // Told to be deletes, all are.
    let all = intake.pushed(ROWS.as_bytes(), BodyFormat::Json, PushedOp::Delete).unwrap();
    assert_eq!(
        all.rows_of(0).iter().map(|rows| (rows.op, rows.rows.clone())).collect::<Vec<_>>(),
        [(Op::Delete, vec![0, 1, 2])]
    );
    assert!(all.is_delete(0) && !batch.is_delete(0));
    assert_ne!(all.content(0), batch.content(0), "a delete is another version than the value");
    assert_eq!(all.content(1), batch.content(1));
}

#[test]
fn a_view_over_windows_gets_arguments_and_filters_once() {
    let folder = Folder::new();
    let intake = intake(&folder, EVENTS, "events");
    let views: Vec<_> =
        intake.views().map(|(view, columns)| (view.address.name.to_string(), columns.clone())).collect();
    let (_, columns) = views.iter().find(|(view, _)| view == "activity").unwrap();
    let at = views.iter().position(|(view, _)| view == "activity").unwrap();
    let told: Vec<String> =
        columns.columns.iter().map(|it| format!("{}: {}", it.name, it.data_type)).collect();
    assert_eq!(told, ["price: int64", "price * price: int64", "price > 5: bool"]);
    assert_eq!(columns.filters, 1);
    let batch = json(
        &intake,
        r#"[{"n": "a", "shop": 1, "at": "2024-01-01", "price": 7},
            {"n": "b", "shop": 1, "at": "2024-01-01", "price": 0},
            {"n": "c", "shop": 2, "at": "2024-01-01"},
            {"shop": 3, "at": "2024-01-01", "price": 13},
            {"n": "d", "at": "2024-01-01", "price": 2}]"#,
    )
    .unwrap();
    let [rows] = batch.rows_of(at) else { panic!("values alone") };
    assert_eq!(rows.rows, [0, 2], "withdrawn, filtered out, without a key");
    assert_eq!(batch.null_keys(at), [4]);
    let numbers = |at: usize| rows.features[at].as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
    assert_eq!((numbers(0), numbers(1)), (vec![Some(7), None], vec![Some(49), None]));
    assert_eq!(rows.features[2].as_boolean().iter().collect::<Vec<_>>(), [Some(true), Some(false)]);
    // A delete with an id is no row of a view of latest values either: it ends its event, whatever the key.
    assert_eq!(
        batch.rows_of(1 - at).iter().map(|rows| rows.rows.clone()).collect::<Vec<_>>(),
        [vec![0, 2, 3]]
    );

    let view = intake.views().nth(at).unwrap().0;
    let binding = KeyBinding::of(view);
    assert_eq!(kept_key(batch.kept(0), binding).unwrap(), KeptKey::Key(&KeyEncoder::encode_int64(1)));
    assert_eq!(kept_key(batch.kept(1), binding).unwrap(), KeptKey::None, "a withdrawal");
    assert_eq!(kept_key(batch.kept(4), binding).unwrap(), KeptKey::None, "a null key");
    assert!(batch.id(3).is_none() && batch.kept(3).is_empty(), "an event of its own");
    assert_ne!(batch.id(0), batch.id(2));
    let mut other = (**view).clone();
    other.keys[0].column = "price".to_owned();
    assert_eq!(kept_key(batch.kept(0), KeyBinding::of(&other)).unwrap(), KeptKey::Unknown);
    assert!(kept_key(&batch.kept(0)[..9], binding).is_err());
    assert!(kept_key(&[2, 0], binding).unwrap_err().to_string().contains("format 2"));
}

#[test]
fn every_bad_row_is_named_and_nothing_is_taken() {
    let folder = Folder::new();
    let windows = intake(&folder, EVENTS, "events");
    let refusing = SALES.replace("event_time: at\n", "event_time: at\nnull_keys: refuse\n");
    let refusing = refusing.replace("double: price * 2", "double: \"1 / cast(shop as bigint)\"");
    let refusing = intake(&folder, &refusing, "sales");
    let mut told = String::new();
    let mut tell = |what: &str, found: Result<IntakeBatch, Error>| {
        let error = found.unwrap_err();
        assert!(!error.to_string().contains("zebra"), "a cell in: {error}");
        assert!(!error.hint().unwrap_or_default().contains("zebra"));
        told += &format!("### {what}\n{}\n\n", said(&error));
    };
    let ok = r#"{"n": "a", "shop": 1, "at": "2024-01-01", "price": 7}"#;
    tell("no json", json(&windows, "zebra"));
    tell("cut short", json(&windows, "[{\"n\": \"zebra\""));
    tell("behind the array", json(&windows, "[] zebra"));
    tell("not text", windows.pushed(&[0xff, 0xfe], BodyFormat::Json, PushedOp::AsWritten));
    tell("rows twice", json(&windows, &format!(r#"{{"rows": [{ok}], "rows": [{ok}]}}"#)));
    tell("a new column", json(&windows, &format!("[{ok}, {{\"prise\": \"zebra\"}}]")));
    tell("new columns", json(&windows, r#"[{"zzz": 1}, {"zzz": 2, "yyy": 3, "rows": []}]"#));
    tell(
        "some cells",
        json(
            &windows,
            &format!(
                r#"[{ok}, {{"at": "zebra"}}, 7, {{"at": "2024-01-01", "price": 1.5}}, {ok}, {{"n": "x"}}, []]"#
            ),
        ),
    );
    tell("one row", json(&windows, r#"{"at": "10000-01-01"}"#));
    tell(
        "a delete without an id",
        json(&windows, &format!(r#"[{ok}, {{"shop": 1, "at": "2024-01-01", "price": 0}}]"#)),
    );
    tell(
        "deletes without an id",
        windows.pushed(ok.replace("\"n\": \"a\",", "").as_bytes(), BodyFormat::Json, PushedOp::Delete),
    );
    let deep = format!(
        r#"{{"at": "2024-01-01", "buyer": "a", "shop": 1, "note": {}1{}}}"#,
        "[".repeat(64),
        "]".repeat(64)
    );
    tell("deep", json(&refusing, &deep));
    tell(
        "a null key and a view that fails",
        json(
            &refusing,
            r#"[{"at": "2024-01-01", "shop": 1}, {"at": "2024-01-01", "buyer": "zebra", "shop": 0}]"#,
        ),
    );
    let lines = format!("{ok}\nzebra\n{ok}\n{ok} {ok}\n\n{{\"at\": \n");
    tell("lines", windows.pushed(lines.as_bytes(), BodyFormat::Ndjson, PushedOp::AsWritten));
    let many = vec!["{}"; 30].join(",");
    tell("many", json(&windows, &format!("[{ok},{many}]")));
    let hordes = vec!["{}"; 5_000].join("\n");
    tell("hordes", windows.pushed(hordes.as_bytes(), BodyFormat::Ndjson, PushedOp::AsWritten));
    // Others between them, so that each stands alone; and more than are looked for.
    let scattered: Vec<&str> = (0..2_200).map(|row| if row % 2 == 0 { "{}" } else { ok }).collect();
    let scattered = windows.pushed(scattered.join("\n").as_bytes(), BodyFormat::Ndjson, PushedOp::AsWritten);
    let scattered = scattered.unwrap_err().to_string();
    assert!(scattered.contains(" 1100 of 2200 rows are bad"), "{scattered}");
    assert!(scattered.contains("rows 1, 3, 5, ") && scattered.contains("; rows 101, 103, "), "{scattered}");
    assert!(scattered.ends_with(", 2097, 2099; and 50 more"), "{scattered}");
    let endless = vec!["{}"; 10_500].join("\n");
    tell("endless", windows.pushed(endless.as_bytes(), BodyFormat::Ndjson, PushedOp::AsWritten));
    let more = vec!["1"; 100_001].join(",");
    tell("more than a batch has", json(&windows, &format!("[{more}]")));

    let times = |values: Vec<Option<i64>>| Arc::new(TimestampMicrosecondArray::from(values)) as ArrayRef;
    let batch = |columns: Vec<(&str, ArrayRef)>| {
        stream(&[
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
        ])
    };
    let mut arrow =
        |what: &str, body: Vec<u8>| tell(what, windows.pushed(&body, BodyFormat::Arrow, PushedOp::AsWritten));
    arrow("no arrow", b"zebra".to_vec());
    let good = batch(vec![
        ("at", times(vec![Some(0), None])),
        ("n", Arc::new(StringArray::from(vec!["zebra", "b"]))),
    ]);
    arrow("cut off", good[..good.len() - 40].to_vec());
    arrow("a null time", good);
    arrow(
        "another type",
        batch(vec![("at", times(vec![])), ("price", Arc::new(BooleanArray::from(Vec::<bool>::new())))]),
    );
    arrow(
        "no whole number",
        batch(vec![
            ("at", times(vec![Some(1), Some(2)])),
            ("price", Arc::new(Float64Array::from(vec![1.0, 1.5]))),
        ]),
    );
    arrow("unknown", batch(vec![("zzz", Arc::new(Int64Array::from(vec![1])))]));
    let price = || ("price", Arc::new(Int64Array::from(vec![1])) as ArrayRef);
    arrow("a column twice", batch(vec![("at", times(vec![Some(1)])), price(), price()]));
    insta::assert_snapshot!(told);
}

#[test]
fn only_what_is_pushed_takes_rows() {
    let folder = Folder::new();
    folder.write("a.csv", "shop,at\n1,2024-01-01\n");
    let catalog = applied(&folder, &format!("{ENTITIES}source: files\npath: a.csv\nevent_time: at\n"));
    let source = Arc::clone(catalog.projects[&name("shop")].sources.get(&name("files")).unwrap());
    let error = folder.runtime.block_on(folder.engine.intake(&source, &[])).unwrap_err();
    assert_eq!(error.code(), "source_not_pushed");
}

/// What it costs to take a batch apart: run it by name, optimised, to see.
#[test]
#[ignore = "measures"]
fn what_a_batch_costs() {
    let folder = Folder::new();
    let definitions = EVENTS
        .replace("price: int64}", "price: int64, kind: string, amount: float64, count: int64, city: string}");
    let intake = intake(&folder, &definitions, "events");
    let row = |n: usize| {
        format!(
            r#"{{"n": "event-{n:08}", "shop": {}, "at": "2024-01-01T00:00:{:02}.{:06}Z", "price": {}, "kind": "sale", "amount": {}.25, "count": {n}, "city": "Stockholm"}}"#,
            n % 1_000,
            n % 60,
            n,
            n % 90,
            n
        )
    };
    let bodies: Vec<String> = (0..50)
        .map(|at| format!("[{}]", (0..100).map(|n| row(at * 100 + n)).collect::<Vec<_>>().join(",")))
        .collect();
    for _ in 0..3 {
        let start = std::time::Instant::now();
        let mut rows = 0;
        for _ in 0..40 {
            for body in &bodies {
                rows += json(&intake, body).unwrap().len();
            }
        }
        let took = start.elapsed();
        println!("{rows} rows, {:.0} us a batch of 100", took.as_secs_f64() * 1e6 / (rows as f64 / 100.0));
    }
}

/// The kept entries that were written: a row's key, a null key, a withdrawal. Never change them.
fn kept_entries(folder: &Folder) -> (Vec<Vec<u8>>, KeyBinding) {
    let intake = intake(folder, EVENTS, "events");
    let batch = json(
        &intake,
        r#"[{"n": "a", "shop": 1, "at": "2024-01-01", "price": 7},
            {"n": "d", "at": "2024-01-01", "price": 2},
            {"n": "b", "shop": 1, "at": "2024-01-01", "price": 0}]"#,
    )
    .unwrap();
    let binding = KeyBinding::of(intake.views().next().unwrap().0);
    ((0..batch.len()).map(|row| batch.kept(row).to_vec()).collect(), binding)
}

/// Writes the kept entries anew, for a new format: run it by name, and keep the old file.
#[test]
#[ignore = "makes a file that must never change"]
fn make_live_entries() {
    let hex = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    let path = format!("{}/tests/compat/live-entries-{KEPT_FORMAT}.txt", env!("CARGO_MANIFEST_DIR"));
    let (entries, _) = kept_entries(&Folder::new());
    std::fs::write(path, entries.iter().map(hex).collect::<String>()).unwrap();
}

#[test]
fn live_entries_1_load() {
    let read = |line: &str| -> Vec<u8> {
        (0..line.len() / 2).map(|at| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    let stored: Vec<Vec<u8>> = include_str!("../compat/live-entries-1.txt").lines().map(read).collect();
    let (written, binding) = kept_entries(&Folder::new());
    assert_eq!(stored, written, "written as before");
    let keys: Vec<KeptKey<'_>> = stored.iter().map(|entry| kept_key(entry, binding).unwrap()).collect();
    assert_eq!(keys, [KeptKey::Key(&KeyEncoder::encode_int64(1)), KeptKey::None, KeptKey::None]);
}

/// What the past of a source is loaded as: each row with its own `v`, or never known.
#[test]
fn loaded_rows_bring_their_own_time() {
    let folder = Folder::new();
    let definitions = SALES.replace("event_time: at\n", "event_time: at\navailable_at: seen\n");
    let definitions = definitions.replace("note: json}", "note: json, seen: timestamp}");
    let intake = intake(&folder, &definitions, "sales");
    folder.write(
        "past.csv",
        "shop,buyer,at,price,kind,seen\n1,a,2024-01-01,1,x,2024-01-02\n1,b,2024-01-01,2,x,\n",
    );
    let mut past = (**intake.source()).clone();
    past.definition.place = asof_model::Place::Files {
        path: "past.csv".to_owned(),
        format: asof_model::Format::Csv,
        options: Default::default(),
    };
    past.columns.retain(|column| column.name != "tags" && column.name != "note");
    let rows = folder.rows(&past, &crate::project::all()).unwrap();
    // The columns that the file lacks are null.
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for field in rows.schema().fields() {
        columns.push((field.name().clone(), Arc::clone(rows.column_by_name(field.name()).unwrap())));
    }
    for column in &intake.source().columns {
        if rows.column_by_name(&column.name).is_none() {
            let kind = asof_compute::arrow_type(&column.data_type);
            columns.push((column.name.clone(), arrow::array::new_null_array(&kind, rows.num_rows())));
        }
    }
    // In the order that a scan of the source itself would have.
    let of = |name: &str| columns.iter().find(|(other, _)| other == name).unwrap().clone();
    let names = asof_engine::source::fixed::ALL.iter().map(|name| (*name).to_owned());
    let names = names.chain(intake.source().columns.iter().map(|column| column.name.clone()));
    let nullable = |(name, array): (String, ArrayRef)| {
        let nullable = name != asof_engine::source::fixed::OP;
        (name, array, nullable)
    };
    let rows = RecordBatch::try_from_iter_with_nullable(names.map(|name| nullable(of(&name)))).unwrap();
    let batch = intake.loaded(&rows).unwrap();
    let seen = Timestamp::parse("2024-01-02T00:00:00Z").unwrap();
    assert_eq!((batch.visible_at(0), batch.visible_at(1)), (Some(seen), Some(Timestamp::NEVER)));
    let read = read_back(&intake, &batch);
    let times = read.column_by_name("__v").unwrap();
    assert_eq!((times.is_null(0), times.is_null(1)), (false, true));
    // Online, where only what is known is asked for, a row that never is known is none.
    let views: Vec<_> = batch.rows_of(0).iter().map(|rows| rows.rows.clone()).collect();
    assert_eq!(views, [vec![0]]);
    assert_eq!(batch.rows_of(0)[0].accepted(0, Timestamp(9), Position(4)).visible_at, seen);
}
