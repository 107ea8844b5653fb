//! Wrong definitions against real files, tables and queries: every problem with its place, its exact words
//! and a way out.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use asof_model::{Catalog, Project, ProjectFile, render, resolve};

use crate::project::Folder;

/// A cell of every bad file: no message may hold it.
const CELL: &str = "zebra";

const CSV: &str = "id,at,price,name\n1,2024-01-01T00:00:00Z,1.5,a\n2,2024-01-02T00:00:00Z,2.5,b\n";

type Files = fn(&Folder);

fn file(path: &str, text: &str) -> ProjectFile {
    ProjectFile { path: path.to_owned(), text: text.to_owned() }
}

fn instants(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values.to_vec()))
}

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

/// Two rows with a column of most kinds.
fn good() -> RecordBatch {
    batch(vec![
        ("id", ints(&[1, 2])),
        ("at", instants(&[Some(0), Some(1)])),
        ("price", Arc::new(Float64Array::from(vec![1.5, 2.5]))),
        ("name", texts(&["a", "b"])),
        ("n", ints(&[7, 8])),
        ("ok", Arc::new(BooleanArray::from(vec![true, false]))),
        ("day", Arc::new(Date32Array::from(vec![0, 1]))),
        ("zoned", Arc::new(TimestampMicrosecondArray::from(vec![0, 1]).with_timezone("Europe/Stockholm"))),
        ("said", texts(&["2024-01-01", CELL])),
        ("gap", instants(&[Some(0), None])),
        ("Mixed Case", ints(&[1, 2])),
    ])
}

/// With a column of a type that no feature has.
fn odd() -> RecordBatch {
    batch(vec![
        ("id", ints(&[1])),
        ("at", instants(&[Some(0)])),
        ("hour", Arc::new(Time64MicrosecondArray::from(vec![0]))),
    ])
}

fn folder() -> Folder {
    let folder = Folder::new();
    folder.parquet("odd.parquet", 10, &[odd()]);
    folder.write("good.csv", CSV);
    folder.parquet("good.parquet", 10, &[good()]);
    folder.write("good.ndjson", "{\"id\": 1, \"at\": \"2024-01-01T00:00:00Z\", \"box\": {\"w\": 1}}\n");
    folder
}

/// A Delta table of another engine, its log changed.
fn delta(folder: &Folder, change: impl Fn(String) -> String) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/delta/mapped_by_name");
    let to = folder.root().join("table");
    asof_testkit::copy_folder(&from, &to).unwrap();
    let log = to.join("_delta_log/00000000000000000000.json");
    std::fs::write(&log, change(std::fs::read_to_string(&log).unwrap())).unwrap();
}

/// What a user reads of these definitions; also whether any of it is an error.
fn told(folder: &Folder, definitions: &str) -> (String, bool) {
    let files = [
        file("asof.yaml", "project: shop"),
        file("features/entity.yaml", "entity: seller\nkeys: {id: int64}\n"),
        file("features/a.yaml", definitions),
    ];
    let (project, mut found) = Project::read(&files);
    if let Some(project) = project {
        let catalog = Catalog::default();
        let (types, more) = folder.runtime.block_on(folder.engine.check(&project, folder.root(), &catalog));
        found.extend(more);
        let (_, more) = resolve(&project, &catalog, &types);
        found.extend(more.into_iter().filter(|it| !found.contains(it)).collect::<Vec<_>>());
    }
    for it in &found {
        let said = format!("{} {}", it.message, it.hint.as_deref().unwrap_or_default());
        assert!(!said.contains(CELL), "a cell in: {said}");
        assert!(!said.contains(folder.root().to_str().unwrap()), "a path of this machine in: {said}");
        assert!(it.span.is_some(), "no place: {it:?}");
        // A message that says what is taken, or what was expected, is its own way out.
        let says = [" takes ", "expected ", "it is one SELECT"].iter().any(|way| it.message.contains(way));
        let way_out = says || it.hint.as_ref().is_some_and(|hint| !hint.is_empty());
        assert!(way_out, "no way out: {it:?}");
    }
    (render(&found, &files, false), found.iter().any(asof_model::Diagnostic::is_error))
}

/// Every case in a folder of its own; all are refused, but those that begin with `warned`.
fn table(cases: &[(&str, Files, String)]) -> String {
    let mut all = String::new();
    for (name, files, definitions) in cases {
        let folder = folder();
        files(&folder);
        let (text, refused) = told(&folder, definitions);
        assert_eq!(refused, !name.starts_with("warned"), "{name}\n{text}");
        assert!(!text.is_empty(), "{name}: nothing is said");
        all += &format!("### {name}\n{text}\n");
    }
    all
}

fn source(keys: &str) -> String {
    format!("source: events\n{keys}")
}

fn view(keys: &str) -> String {
    format!(
        "source: events\npath: good.parquet\nevent_time: at\n---\nview: v\nentity: seller\nsource: events\n{keys}"
    )
}

fn odd_view(keys: &str) -> String {
    view(keys).replace("good.parquet", "odd.parquet")
}

fn sql(text: &str) -> String {
    format!(
        "source: base\npath: good.parquet\nevent_time: at\n---\nsource: events\nsql: |\n  {text}\nevent_time: at\n"
    )
}

const NO_FILES: Files = |_| {};

#[test]
fn files() {
    let cases: Vec<(&str, Files, String)> = vec![
        ("no such file, one alike", NO_FILES, source("path: godo.parquet\nevent_time: at\n")),
        ("no such folder", NO_FILES, source("path: nowhere/a.parquet\nevent_time: at\n")),
        ("glob that matches nothing", NO_FILES, source("path: good*.pq\nformat: parquet\nevent_time: at\n")),
        (
            "folder without files of the format",
            |f| f.write("data/a.csv", CSV),
            source("path: data\nformat: parquet\nevent_time: at\n"),
        ),
        (
            "empty folder",
            |f| std::fs::create_dir(f.root().join("data")).unwrap(),
            source("path: data\nformat: csv\nevent_time: at\n"),
        ),
        ("url", NO_FILES, source("path: s3://bucket/a.parquet\nevent_time: at\n")),
        ("no bytes, parquet", |f| f.write("a.parquet", ""), source("path: a.parquet\nevent_time: at\n")),
        ("no bytes, csv", |f| f.write("a.csv", ""), source("path: a.csv\nevent_time: at\n")),
        ("no bytes, ndjson", |f| f.write("a.ndjson", ""), source("path: a.ndjson\nevent_time: at\n")),
        ("warned: only a header", |f| f.write("a.csv", "id,at\n"), source("path: a.csv\nevent_time: at\n")),
        ("text named parquet", |f| f.write("a.parquet", CSV), source("path: a.parquet\nevent_time: at\n")),
        (
            "parquet cut short",
            |f| {
                let whole = std::fs::read(f.root().join("good.parquet")).unwrap();
                f.write("a.parquet", &whole[..whole.len() - 30]);
            },
            source("path: a.parquet\nevent_time: at\n"),
        ),
        (
            "parquet with a broken footer",
            |f| {
                let mut whole = std::fs::read(f.root().join("good.parquet")).unwrap();
                let end = whole.len();
                whole[end - 8..end - 4].copy_from_slice(&20_u32.to_le_bytes());
                f.write("a.parquet", &whole);
            },
            source("path: a.parquet\nevent_time: at\n"),
        ),
        (
            "encrypted parquet",
            |f| f.write("a.parquet", b"PARE0000000000000000PARE"),
            source("path: a.parquet\nevent_time: at\n"),
        ),
        (
            "one broken file of many",
            |f| {
                f.parquet("data/a.parquet", 10, &[good()]);
                f.write("data/b.parquet", "PAR1");
            },
            source("path: data/*.parquet\nevent_time: at\n"),
        ),
        ("parquet named csv", |f| f.parquet("a.csv", 10, &[good()]), source("path: a.csv\nevent_time: at\n")),
        (
            "gzip named csv",
            |f| f.write("a.csv", [0x1f, 0x8b, 8, 0, 0]),
            source("path: a.csv\nevent_time: at\n"),
        ),
        (
            "zip named ndjson",
            |f| f.write("a.ndjson", b"PK\x03\x04rest"),
            source("path: a.ndjson\nevent_time: at\n"),
        ),
        (
            "utf-16 csv",
            |f| f.write("a.csv", [0xff, 0xfe, b'i', 0, b'd', 0]),
            source("path: a.csv\nevent_time: at\n"),
        ),
        (
            "latin-1 header",
            |f| f.write("a.csv", b"id,pr\xe9s\n1,2\n"),
            source("path: a.csv\nevent_time: at\n"),
        ),
        (
            "latin-1 cell",
            |f| f.write("a.csv", b"id,at\n1,2024-01-01\nzebr\xe9,2024-01-01\n"),
            source("path: a.csv\nevent_time: at\n"),
        ),
        (
            "rows of other lengths",
            |f| f.write("a.csv", "id,at\n1,2024-01-01\n2,2024-01-01,zebra\n"),
            source("path: a.csv\nevent_time: at\n"),
        ),
        (
            "another delimiter",
            |f| f.write("a.csv", "id;at\n1;2024-01-01\n"),
            source("path: a.csv\nevent_time: at\n"),
        ),
        ("unknown option", NO_FILES, source("path: good.csv\noptions: {delimeter: \";\"}\nevent_time: at\n")),
        (
            "option of another format",
            NO_FILES,
            source("path: good.parquet\noptions: {header: true}\nevent_time: at\n"),
        ),
        (
            "option with a wrong value",
            NO_FILES,
            source("path: good.csv\noptions: {header: yes please}\nevent_time: at\n"),
        ),
        (
            "json that is no object",
            |f| f.write("a.ndjson", "{\"id\": 1}\n[1]\n"),
            source("path: a.ndjson\nevent_time: at\n"),
        ),
        (
            "json over several lines",
            |f| f.write("a.ndjson", "{\n  \"id\": 1\n}\n"),
            source("path: a.ndjson\nevent_time: at\n"),
        ),
        (
            "stored, no file yet and no schema",
            NO_FILES,
            source("path: data/*.csv\nstore: true\nevent_time: at\n"),
        ),
    ];
    insta::assert_snapshot!(table(&cases));
}

#[test]
fn columns_of_several_files() {
    let cases: Vec<(&str, Files, String)> = vec![
        (
            "a column more",
            |f| {
                f.parquet(
                    "data/a.parquet",
                    10,
                    &[batch(vec![("id", ints(&[1])), ("at", instants(&[Some(0)]))])],
                );
                f.parquet("data/b.parquet", 10, &[good()]);
            },
            source("path: data\nformat: parquet\nevent_time: at\n"),
        ),
        (
            "a column less",
            |f| {
                f.parquet("data/a.parquet", 10, &[good()]);
                f.parquet(
                    "data/b.parquet",
                    10,
                    &[batch(vec![("id", ints(&[1])), ("at", instants(&[Some(0)]))])],
                );
            },
            source("path: data\nformat: parquet\nevent_time: at\n"),
        ),
        (
            "another type",
            |f| {
                f.parquet(
                    "data/a.parquet",
                    10,
                    &[batch(vec![("id", ints(&[1])), ("at", instants(&[Some(0)]))])],
                );
                f.parquet(
                    "data/b.parquet",
                    10,
                    &[batch(vec![("id", texts(&[CELL])), ("at", instants(&[Some(0)]))])],
                );
            },
            source("path: data\nformat: parquet\nevent_time: at\n"),
        ),
        (
            "another type, declared so that one cannot be read",
            |f| {
                f.parquet(
                    "data/a.parquet",
                    10,
                    &[batch(vec![("id", ints(&[1])), ("at", instants(&[Some(0)]))])],
                );
                let ok = Arc::new(BooleanArray::from(vec![true]));
                f.parquet("data/b.parquet", 10, &[batch(vec![("id", ok), ("at", instants(&[Some(0)]))])]);
            },
            source("path: data\nformat: parquet\nevent_time: at\nschema: {id: int64, at: timestamp}\n"),
        ),
        (
            "a name in another case",
            |f| {
                f.write("data/a.csv", "id,at\n1,2024-01-01\n");
                f.write("data/b.csv", "id,At\n1,2024-01-01\n");
            },
            source("path: data\nformat: csv\nevent_time: at\n"),
        ),
        (
            "csv: a column more",
            |f| {
                f.write("data/a.csv", "id,at\n1,2024-01-01\n");
                f.write("data/b.csv", "id,at,price\n1,2024-01-01,2\n");
            },
            source("path: data\nformat: csv\nevent_time: at\n"),
        ),
        (
            "two columns of one name, csv",
            |f| f.write("a.csv", "id,at,id\n1,2024-01-01,2\n"),
            source("path: a.csv\nevent_time: at\n"),
        ),
        (
            "two columns of one name, parquet",
            |f| {
                let schema = Schema::new(vec![
                    Field::new("id", DataType::Int64, true),
                    Field::new("id", DataType::Int32, true),
                ]);
                let arrays = vec![ints(&[1]), Arc::new(Int32Array::from(vec![1])) as ArrayRef];
                f.parquet("a.parquet", 10, &[RecordBatch::try_new(Arc::new(schema), arrays).unwrap()]);
            },
            source("path: a.parquet\nevent_time: none\n"),
        ),
        (
            "folders with other keys",
            |f| {
                f.parquet("data/year=2023/a.parquet", 10, &[good()]);
                f.parquet("data/month=1/a.parquet", 10, &[good()]);
            },
            source("path: data\nformat: parquet\nevent_time: at\n"),
        ),
        (
            "warned: a folder's key is a column of the files",
            |f| f.parquet("data/n=3/a.parquet", 10, &[good()]),
            source("path: data\nformat: parquet\nevent_time: at\n"),
        ),
        (
            "a folder's key is no time",
            |f| f.parquet("data/day=soon/a.parquet", 10, &[batch(vec![("id", ints(&[1]))])]),
            source("path: data\nformat: parquet\nevent_time: day\n"),
        ),
    ];
    insta::assert_snapshot!(table(&cases));
}

#[test]
fn times() {
    let rule = |rule: &str| source(&format!("path: good.parquet\n{rule}\n"));
    let cases: Vec<(&str, Files, String)> = vec![
        ("not there, one alike", NO_FILES, rule("event_time: att")),
        ("not there, another case", NO_FILES, rule("event_time: AT")),
        ("not there, none alike", NO_FILES, rule("event_time: {column: happened_on}")),
        ("integer without unit", NO_FILES, rule("event_time: n")),
        ("float", NO_FILES, rule("event_time: price")),
        ("float with unit", NO_FILES, rule("event_time: {column: price, unit: s}")),
        ("bool", NO_FILES, rule("event_time: ok")),
        ("time of day", NO_FILES, source("path: odd.parquet\nevent_time: hour\n")),
        ("unit for a time", NO_FILES, rule("event_time: {column: at, unit: s}")),
        ("unit for a date", NO_FILES, rule("event_time: {column: day, unit: ms}")),
        ("unit for text", NO_FILES, rule("event_time: {column: name, unit: s}")),
        ("zone for a zoned time", NO_FILES, rule("event_time: {column: zoned, zone: America/New_York}")),
        ("zone for an integer", NO_FILES, rule("event_time: {column: n, unit: s, zone: America/New_York}")),
        ("no such zone", NO_FILES, rule("event_time: {column: at, zone: America/New_Yorck}")),
        ("text that is no time", NO_FILES, rule("event_time: said")),
        ("null", NO_FILES, rule("event_time: gap")),
        (
            "null in every row",
            |f| f.write("a.ndjson", "{\"id\": 1, \"at\": null}\n{\"id\": 2}\n"),
            source("path: a.ndjson\nevent_time: at\n"),
        ),
        (
            "csv: a cell that is no time",
            |f| f.write("a.csv", "id,at\n1,2024-01-01\n2,zebra\n"),
            source("path: a.csv\nevent_time: at\n"),
        ),
        (
            "csv: a year too far",
            |f| f.write("a.csv", "id,at\n1,2024-01-01\n2,12024-01-01\n"),
            source("path: a.csv\nevent_time: at\n"),
        ),
        (
            "csv: a null",
            |f| f.write("a.csv", "id,at\n1,2024-01-01\n2,\n"),
            source("path: a.csv\nevent_time: at\n"),
        ),
        (
            "warned: stored, a cell that is no time",
            |f| f.write("a.csv", "id,at\n1,2024-01-01\n2,zebra\n"),
            source("path: a.csv\nstore: true\nevent_time: at\n"),
        ),
        (
            "ndjson: numbers and texts",
            |f| f.write("a.ndjson", "{\"at\": \"2024-01-01T00:00:00Z\"}\n{\"at\": 5}\n"),
            source("path: a.ndjson\nevent_time: at\n"),
        ),
        ("ndjson: a struct", NO_FILES, source("path: good.ndjson\nevent_time: box\n")),
        ("available_at not there", NO_FILES, rule("event_time: at\navailable_at: loaded")),
        ("available_at a float", NO_FILES, rule("event_time: at\navailable_at: price")),
        ("valid_until a bool", NO_FILES, rule("event_time: at\nvalid_until: ok")),
        ("valid_until text that is no time", NO_FILES, rule("event_time: at\nvalid_until: said")),
        ("expression of another type", NO_FILES, rule("event_time: n + 1")),
        ("expression with an unknown column", NO_FILES, rule("event_time: \"to_timestamp_seconds(m)\"")),
        ("expression with an unknown function", NO_FILES, rule("event_time: \"to_timestmp(name)\"")),
        ("order_by not there", NO_FILES, rule("event_time: at\norder_by: seq")),
        ("order_by of no type", NO_FILES, rule("event_time: at\norder_by: at - gap")),
        ("delete_when not a bool", NO_FILES, rule("event_time: at\ndelete_when: n")),
        ("delete_when a text", NO_FILES, rule("event_time: at\ndelete_when: name")),
        ("delete_when compares what cannot be", NO_FILES, rule("event_time: at\ndelete_when: ok > 3")),
        ("three at once", NO_FILES, rule("event_time: price\navailable_at: loaded\ndelete_when: n")),
    ];
    insta::assert_snapshot!(table(&cases));
}

#[test]
fn schemas() {
    let cases: Vec<(&str, Files, String)> = vec![
        (
            "a column that is not there",
            NO_FILES,
            source(
                "path: good.parquet\nevent_time: at\nschema: {id: int64, at: timestamp, prise: float64}\n",
            ),
        ),
        (
            "a type that cannot be read",
            NO_FILES,
            source("path: good.parquet\nevent_time: at\nschema: {id: int64, at: timestamp, ok: int64}\n"),
        ),
        (
            "a time that leaves the event time out",
            NO_FILES,
            source("path: good.parquet\nevent_time: at\nschema: {id: int64}\n"),
        ),
        (
            "a time of a type that is none",
            NO_FILES,
            source(
                "path: odd.parquet\nevent_time: at\nschema: {id: int64, at: timestamp, hour: timestamp}\n",
            ),
        ),
        (
            "csv: cells of another type",
            |f| f.write("a.csv", "id,at,price\n1,2024-01-01,1\n2,2024-01-01,zebra\n"),
            source("path: a.csv\nevent_time: at\nschema: {id: int64, at: timestamp, price: float64}\n"),
        ),
        (
            "csv: cells that do not fit",
            |f| f.write("a.csv", "id,at\n1,2024-01-01\n300,2024-01-01\n"),
            source("path: a.csv\nevent_time: at\nschema: {id: int8, at: timestamp}\n"),
        ),
        (
            "ndjson: cells of another type",
            |f| {
                f.write(
                    "a.ndjson",
                    "{\"id\": 1, \"at\": \"2024-01-01\"}\n{\"id\": \"zebra\", \"at\": \"2024-01-01\"}\n",
                )
            },
            source("path: a.ndjson\nevent_time: at\nschema: {id: int64, at: date}\n"),
        ),
        (
            "csv: two wrong columns at once",
            |f| f.write("a.csv", "id,at,price\nzebra,2024-01-01,1.25\n"),
            source("path: a.csv\nevent_time: at\nschema: {id: int64, at: timestamp, price: int64}\n"),
        ),
        (
            "warned: stored, cells of another type",
            |f| f.write("a.csv", "id,at\n1,2024-01-01\nzebra,2024-01-01\n"),
            source("path: a.csv\nstore: true\nevent_time: at\nschema: {id: int64, at: timestamp}\n"),
        ),
        (
            "pushed: columns that a table takes for one",
            NO_FILES,
            source("push: true\nevent_time: at\nschema: {at: timestamp, id: int64, Id: string}\n"),
        ),
        (
            "stored: columns that a table takes for one",
            |f| f.write("a.csv", "id,at,AT\n1,2024-01-01,2\n"),
            source("path: a.csv\nstore: true\nevent_time: at\n"),
        ),
        (
            "ndjson: a declared column that is in no row",
            NO_FILES,
            source("path: good.ndjson\nevent_time: at\nschema: {id: int64, at: timestamp, bxo: json}\n"),
        ),
    ];
    insta::assert_snapshot!(table(&cases));
}

#[test]
fn views() {
    let cases: Vec<(&str, Files, String)> = vec![
        ("key column not there", NO_FILES, view("keys: {id: idd}\nfeatures: [price]\n")),
        (
            "key column not there, not bound",
            |f| f.write("a.csv", "seller,at\n1,2024-01-01\n"),
            "source: events\npath: a.csv\nevent_time: at\n---\nview: v\nentity: seller\nsource: events\nfeatures: [seller]\n"
                .to_owned(),
        ),
        ("key of a float", NO_FILES, view("keys: {id: price}\nfeatures: [n]\n")),
        ("key of a text", NO_FILES, view("keys: {id: name}\nfeatures: [n]\n")),
        ("key of a time", NO_FILES, view("keys: {id: at}\nfeatures: [n]\n")),
        ("key of no type", NO_FILES, odd_view("keys: {id: hour}\nfeatures: [at]\n")),
        ("feature column not there", NO_FILES, view("features: [prise]\n")),
        ("feature column not there, none alike", NO_FILES, view("features: {a: customer}\n")),
        ("feature of a column of no type", NO_FILES, odd_view("features: [hour]\n")),
        ("feature of no type", NO_FILES, view("features: {a: at - gap}\n")),
        ("unknown function", NO_FILES, view("features: {a: char_lenght(name)}\n")),
        ("unknown function, none alike", NO_FILES, view("features: {a: haversine(n)}\n")),
        ("function of another type", NO_FILES, view("features: {a: \"date_part('year', ok)\"}\n")),
        ("too few arguments", NO_FILES, view("features: {a: \"strpos(name)\"}\n")),
        ("operator of another type", NO_FILES, view("features: {a: name - at}\n")),
        ("broken on its second line", NO_FILES, view("features:\n  a: |\n    case when n > 1\n    then prise end\n")),
        ("aggregate", NO_FILES, view("features: {a: sum(price)}\n")),
        ("count of all", NO_FILES, view("features: {a: count(*)}\n")),
        ("aggregate that only the engine knows", NO_FILES, view("features: {a: \"regr_slope(price, n)\"}\n")),
        ("two expressions torn at their commas", NO_FILES, view("features: {a: f(x, n, 3), b: g(y, n), c: n}\n")),
        ("window function", NO_FILES, view("features: {a: lag(price) over ()}\n")),
        ("window function that only the engine knows", NO_FILES, view("features: {a: ntile(n)}\n")),
        ("random", NO_FILES, view("features: {a: random()}\n")),
        ("the time it is asked", NO_FILES, view("features: {a: now() - at}\n")),
        ("subquery", NO_FILES, view("features: {a: \"(select 1)\"}\n")),
        ("cast to no type", NO_FILES, view("features: {a: cast(n as interval)}\n")),
        ("cast to an unknown type", NO_FILES, view("features: {a: cast(n as intt)}\n")),
        ("where not a bool", NO_FILES, view("where: n\nfeatures: [n]\n")),
        ("where with an unknown column", NO_FILES, view("where: stattus = 'x'\nfeatures: [n]\n")),
        ("where compares what cannot be", NO_FILES, view("where: ok = at\nfeatures: [n]\n")),
        ("column in another case, quoted", NO_FILES, view("features: {a: '\"mixed case\"'}\n")),
        ("all columns, one of no name", NO_FILES, view("features: \"*\"\n")),
        (
            "event_time of facts without a clock",
            NO_FILES,
            "source: events\npath: good.parquet\nevent_time: none\n---\nview: v\nentity: seller\nsource: events\nfeatures: {a: event_time}\n"
                .to_owned(),
        ),
        (
            "five at once",
            NO_FILES,
            view("keys: {id: name}\nwhere: n\nfeatures: {a: prise, b: nosuch(n), c: n + name}\n"),
        ),
    ];
    insta::assert_snapshot!(table(&cases));
}

#[test]
fn queries() {
    let cases: Vec<(&str, Files, String)> = vec![
        ("syntax", NO_FILES, sql("select id, frm base")),
        ("unknown source, one alike", NO_FILES, sql("select * from bse")),
        ("unknown source, none alike", NO_FILES, sql("select * from customers")),
        ("itself", NO_FILES, sql("select * from events")),
        ("a file", NO_FILES, sql("select * from 'good.csv'")),
        ("a table function", NO_FILES, sql("select * from read_csv('good.csv')")),
        ("unknown column", NO_FILES, sql("select idd as id, at from base")),
        ("unknown function", NO_FILES, sql("select nosuch(id) as id, at from base")),
        ("types that cannot be", NO_FILES, sql("select name - at as id, at from base")),
        ("not grouped", NO_FILES, sql("select id, max(at) as at from base")),
        ("random", NO_FILES, sql("select id, at, random() as r from base")),
        ("now", NO_FILES, sql("select id, now() as at from base")),
        ("ddl", NO_FILES, sql("drop table base")),
        ("insert", NO_FILES, sql("insert into base select * from base")),
        ("copy", NO_FILES, sql("copy base to 'out.csv'")),
        ("two statements", NO_FILES, sql("select id, at from base; select 1")),
        ("empty", NO_FILES, sql(";")),
        ("no event time in its result", NO_FILES, sql("select id, at as happened from base")),
        ("an event time that is none", NO_FILES, sql("select id, ok as at from base")),
        ("two columns of one name", NO_FILES, sql("select b.id, c.id, b.at from base b join base c on b.id = c.id")),
        (
            "a broken source below is told once",
            NO_FILES,
            "source: base\npath: godo.parquet\nevent_time: at\n---\nsource: events\nsql: select id, at from base\nevent_time: at\n"
                .to_owned(),
        ),
    ];
    insta::assert_snapshot!(table(&cases));
}

#[test]
fn delta_tables() {
    let table_of = |more: &str| source(&format!("path: table\nformat: delta\n{more}\n"));
    let cases: Vec<(&str, Files, String)> = vec![
        (
            "a folder without a log",
            |f| f.parquet("table/a.parquet", 10, &[good()]),
            table_of("event_time: at"),
        ),
        ("no folder", NO_FILES, table_of("event_time: at")),
        (
            "an unknown reader feature",
            |f| delta(f, |log| log.replacen("\"columnMapping\"", "\"columnMapping\", \"variantType\"", 1)),
            table_of("event_time: none"),
        ),
        (
            "a reader of the future",
            |f| delta(f, |log| log.replace("\"minReaderVersion\": 3", "\"minReaderVersion\": 9")),
            table_of("event_time: none"),
        ),
        ("a log that is no json", |f| delta(f, |log| log.replacen('{', "", 1)), table_of("event_time: none")),
        ("a log that is empty", |f| delta(f, |_| String::new()), table_of("event_time: none")),
        ("a column that is not there", |f| delta(f, |log| log), table_of("event_time: renamd")),
        ("an integer without unit", |f| delta(f, |log| log), table_of("event_time: renamed")),
        (
            "a schema of another type",
            |f| delta(f, |log| log),
            table_of("event_time: none\nschema: {part: int64, renamed: bool}"),
        ),
    ];
    insta::assert_snapshot!(table(&cases));
}

/// What is wrong in the text of a source or a view hides nothing that is wrong elsewhere, in itself or in what
/// stands on it; and nothing is told that follows from another problem.
#[test]
fn columns_named_like_those_beside_rows() {
    let folder = folder();
    folder.write("own.csv", "id,at,__OP\n1,2024-01-01T00:00:00Z,x\n");
    for (column, definitions) in [
        ("__OP", "source: a\npath: own.csv\nevent_time: at\n"),
        (
            "__ends",
            "source: a\npush: true\nevent_time: at\nschema: {id: int64, at: timestamp, __ends: int64}\n",
        ),
        (
            "__s",
            "source: a\nevent_time: at\nsql: select id as __s, at from b\n---\nsource: b\npath: good.csv\nevent_time: at\n",
        ),
    ] {
        let (said, refused) = told(&folder, definitions);
        let expected =
            format!("source `a`: column `{column}` is named like one that Asof puts beside its rows");
        assert!(refused && said.contains(&expected), "{said}");
    }
}

#[test]
fn all_at_once() {
    let over = |keys: &str| {
        let view = "where: pryce > 1\nttl: 30d\nfeatures: {a: prise, b: n, at: event_time}\n";
        source(&format!("{keys}\n---\nview: v\nentity: seller\nsource: events\n{view}"))
    };
    let both = "event_time: at\navailable_at: loadd";
    let cases: Vec<(&str, Files, String)> = vec![
        ("an event time that is no expression", NO_FILES, over("path: good.parquet\nevent_time: ended at\navailable_at: loadd")),
        ("an event time without a value", NO_FILES, over("path: good.parquet\nevent_time:\navailable_at: loadd")),
        ("no event time", NO_FILES, over("path: good.parquet\navailable_at: loadd")),
        ("a misspelt event time", NO_FILES, over("path: good.parquet\nevent_tim: at\navailable_at: loadd")),
        ("no zone", NO_FILES, over("path: good.parquet\nevent_time: {column: att, zone: Europe/Stokholm}\navailable_at: loadd")),
        ("no zone, of a column that is there", NO_FILES, over("path: good.parquet\nevent_time: {column: said, zone: Europe/Stokholm}")),
        ("unit and zone", NO_FILES, over("path: good.parquet\nevent_time: {column: n, unit: s, zone: UTC}\navailable_at: loadd")),
        ("no unit", NO_FILES, over("path: good.parquet\nevent_time: {column: n, unit: sec}\navailable_at: loadd")),
        ("no column named", NO_FILES, over("path: good.parquet\nevent_time: {unit: s}\navailable_at: loadd")),
        ("an order that is no expression", NO_FILES, over(&format!("path: good.parquet\n{both}\norder_by: n n\ndelete_when: okk"))),
        ("an unknown key", NO_FILES, over(&format!("path: good.parquet\n{both}\ncolour: red"))),
        ("an id of keys", NO_FILES, over(&format!("path: good.parquet\n{both}\nid: id"))),
        ("an id that names nothing", NO_FILES, over(&format!("path: good.parquet\n{both}\nid: idd"))),
        ("an id of floats", NO_FILES, over(&format!("path: good.parquet\n{both}\nid: price"))),
        ("a misspelt option of the format", NO_FILES, over(&format!("path: good.csv\n{both}\noptions: {{delimter: ';'}}"))),
        ("a misspelt key of the place", NO_FILES, over(&format!("path: good.csv\n{both}\nformt: csv"))),
        ("a type that is none", NO_FILES, over(&format!("path: good.parquet\n{both}\nschema: {{n: intt}}"))),
        (
            "a type that is none, and a query over it",
            NO_FILES,
            "source: base\npath: good.csv\nevent_time: at\nschema: {id: intt}\n---\nsource: events\nsql: select id || 1 as a, idd, at from base\nevent_time: at\n---\nsource: more\nsql: select id + 'x' as id, at from base\nevent_time: at\n---\nview: v\nentity: seller\nsource: more\nwhere: id\nfeatures: {a: idd}\n".to_owned(),
        ),
        ("facts without a clock", NO_FILES, over("path: good.parquet\nevent_time: none\ncolour: red")),
        (
            "a query over it",
            NO_FILES,
            "source: base\npath: good.parquet\nevent_time: ended at\n---\nsource: events\nsql: select idd, at from base\nevent_time: at\n".to_owned(),
        ),
        (
            "a wrong query",
            NO_FILES,
            "source: base\npath: good.parquet\nevent_time: at\n---\nsource: events\nsql: select id, at from base\nevent_time: a b\navailable_at: loadd\n---\nsource: more\nsql: select id, at from bse\nevent_time: a b\n".to_owned(),
        ),
        (
            "two of one name",
            NO_FILES,
            "source: events\npath: good.parquet\nevent_time: ended at\navailable_at: loadd\n---\nsource: events\npath: odd.parquet\nevent_time: att\n".to_owned(),
        ),
        ("a view of no entity", NO_FILES, view("where: pryce > 1\nfeatures: {a: prise}\n").replace("seller", "sellr")),
        ("a view of no source", NO_FILES, view("where: pryce >\nfeatures: {a: prise}\n").replace("source: events\nwhere", "source: evnts\nwhere")),
        ("a view with a key of no entity", NO_FILES, view("keys: {idd: n}\nwhere: pryce > 1\nfeatures: [n]\n").replace("good.parquet", "b.parquet")),
        ("a view's column with a space", NO_FILES, view("where: Mixed Case > 1\nfeatures: {a: Unit price, b: prise}\n")),
    ];
    insta::assert_snapshot!(table(&cases));
}
