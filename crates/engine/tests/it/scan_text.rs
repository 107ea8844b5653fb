//! CSV and NDJSON sources: inference from all rows, strict reading, bad cells named.

use std::collections::BTreeMap;

use asof_model::{FileFormat, Format, Place, Source, TimeRule, TimeUnit};

use crate::flock::Flock;
use crate::project::{Folder, all, at, columns, files, said, table, version};

fn with(mut source: Source, options: &[(&str, &str)]) -> Source {
    if let Place::Files { options: into, .. } = &mut source.place {
        *into = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>();
    }
    source
}

#[test]
fn csv_is_read_in_the_agreed_types() {
    let folder = Folder::new();
    folder.write(
        "data/a.csv",
        "id,at,price,name,ok\n1,2013-06-01T12:00:00.1234567Z,1.5,\"a, b\",true\n2,2013-06-01 12:00:00,,,FALSE\n",
    );
    let mut source = files("events", "data/a.csv", Format::Csv);
    source.event_time = at("at");
    let types = [
        ("id", "int32"),
        ("at", "timestamp"),
        ("price", "decimal(10,2)"),
        ("name", "string"),
        ("ok", "bool"),
    ];
    let found = folder.rows(&version(source, columns(&types)), &all()).unwrap();
    insta::assert_snapshot!(table(&found.project(&[0, 6, 7, 8, 9, 10]).unwrap()));
}

#[test]
fn csv_has_options() {
    let folder = Folder::new();
    folder.write("data/a.csv", "# made by hand\n1;'x;y';NA\n2;;3\n");
    let source = with(
        files("events", "data/a.csv", Format::Csv),
        &[("delimiter", ";"), ("quote", "'"), ("header", "false"), ("comment", "#"), ("null", "NA")],
    );
    let types = [("column0", "int64"), ("column1", "string"), ("column2", "int64")];
    let found = folder.rows(&version(source, columns(&types)), &all()).unwrap();
    insta::assert_snapshot!(table(&found.project(&[6, 7, 8]).unwrap()));
}

#[test]
fn ndjson_is_read_in_the_agreed_types() {
    let folder = Folder::new();
    let lines = [
        r#"{"id": 9007199254740993, "at": "2013-06-01T12:00:00-04:00", "tags": ["a", null], "box": {"w": 1.5}, "more": {"any": [1]}}"#,
        "",
        r#"{"id": -1, "at": "1969-12-31T23:59:59.9999999Z", "box": null, "more": "x"}"#,
    ];
    folder.write("data/a.ndjson", lines.join("\n"));
    let mut source = files("events", "data/a.ndjson", Format::Ndjson);
    source.event_time = at("at");
    let types = [
        ("id", "int64"),
        ("at", "timestamp"),
        ("tags", "list<string>"),
        ("box", "struct<w: float64>"),
        ("more", "json"),
    ];
    let found = folder.rows(&version(source, columns(&types)), &all()).unwrap();
    insta::assert_snapshot!(table(&found.project(&[0, 6, 8, 9, 10]).unwrap()));
}

#[test]
fn an_integer_with_a_unit_is_a_time() {
    let folder = Folder::new();
    folder.write("data/a.csv", "at\n-1\n1370088000\n");
    folder.write("data/a.ndjson", "{\"at\": -1}\n{\"at\": 1370088000}\n");
    for (format, path) in [(Format::Csv, "data/a.csv"), (Format::Ndjson, "data/a.ndjson")] {
        let mut source = files("events", path, format);
        source.event_time =
            Some(TimeRule::Column { name: "at".to_owned(), unit: Some(TimeUnit::S), zone: None });
        let found = folder.rows(&version(source, columns(&[("at", "int64")])), &all()).unwrap();
        let shown = table(&found.project(&[0]).unwrap());
        assert!(shown.contains("1969-12-31T23:59:59Z") && shown.contains("2013-06-01T12:00:00Z"), "{shown}");
    }
}

/// What a bad file is refused with: the file's name, its text, the type of column `a`.
#[test]
fn bad_cells_are_named() {
    let cases = [
        ("a.csv", "a\n1\nx\n", "int64"),
        ("a.csv", "a\n1\n2.5\n", "int64"),
        ("a.csv", "a\n1\n300\n", "int8"),
        ("a.csv", "a\n-1\n", "uint8"),
        ("a.csv", "a\n1.005\n", "decimal(10,2)"),
        ("a.csv", "a\n1e308\n1e400\n", "float64"),
        ("a.csv", "a\n-1e400\n", "float64"),
        ("a.csv", "a\n3e38\n4e38\n", "float32"),
        ("a.ndjson", "{\"a\": 1e308}\n{\"a\": -1e400}\n", "float64"),
        ("a.ndjson", "{\"a\": 3e38}\n{\"a\": 4e38}\n", "float32"),
        ("a.csv", "a\nmaybe\n", "bool"),
        ("a.csv", "a\n2013-02-30\n", "date"),
        ("a.csv", "a\nyesterday\n", "timestamp"),
        ("a.csv", "a\n10000-01-01T00:00:00Z\n", "timestamp"),
        ("a.csv", "a\nnot-a-uuid\n", "uuid"),
        ("a.csv", "a,b\n1,2\n3\n", "int64"),
        ("a.csv", "b\n1\n", "int64"),
        ("a.csv", "a,a\n1,2\n", "int64"),
        ("a.csv", "", "int64"),
        ("a.ndjson", "{\"a\": 1}\n{\"a\": \"2\"}\n", "int64"),
        ("a.ndjson", "{\"a\": 1.0}\n", "int64"),
        ("a.ndjson", "{\"a\": 1}\n{\"a\": \n", "int64"),
        ("a.ndjson", "{\"a\": 1}\n[1]\n", "int64"),
        ("a.ndjson", "{\"a\": 1}\nnonsense\n", "int64"),
        ("a.ndjson", "{\"a\": 1}\n", "string"),
        ("a.ndjson", "{\"a\": \"x\"}\n", "float64"),
        ("a.ndjson", "{\"a\": [1, \"x\"]}\n", "list<int64>"),
        ("a.ndjson", "{\"a\": {\"b\": 1}}\n{\"a\": {\"b\": true}}\n", "struct<b: int64>"),
        ("a.ndjson", "{\"a\": 5}\n", "timestamp"),
        // Numbers that no float is.
        ("a.csv", "a\n1\n1e300\n", "float32"),
        ("a.csv", "a\n9007199254740993\n", "float64"),
        ("a.ndjson", "{\"a\": 1.5}\n{\"a\": -1e39}\n", "float32"),
        ("a.ndjson", "{\"a\": 9007199254740993}\n", "float64"),
        ("a.ndjson", "{\"a\": [1e309]}\n", "list<float64>"),
    ];
    let mut told = String::new();
    for (file, text, kind) in cases {
        let folder = Folder::new();
        folder.write(&format!("data/{file}"), text);
        let format = if file.ends_with("csv") { Format::Csv } else { Format::Ndjson };
        let source = version(files("events", &format!("data/{file}"), format), columns(&[("a", kind)]));
        let error = folder.rows(&source, &all()).unwrap_err();
        told += &format!("{kind} <- {text:?}\n{}\n\n", said(&error));
    }
    insta::assert_snapshot!(told);
}

/// One line of brackets must not reach the end of a stack: how deep it nests, and whether it is read.
#[test]
fn a_line_nests_so_deep_and_no_deeper() {
    let lists = |depth: usize| format!("{{\"a\": {}{}}}\n", "[".repeat(depth - 1), "]".repeat(depth - 1));
    let objects =
        |depth: usize| format!("{{\"a\": {}1{}}}\n", "{\"b\":".repeat(depth - 1), "}".repeat(depth - 1));
    let text = |depth: usize| format!("{{\"a\": \"\\\"{}\"}}\n", "[".repeat(depth));
    let cases = [
        (lists(64), true),
        (lists(65), false),
        (lists(100_000), false),
        (objects(64), true),
        (objects(65), false),
        (objects(100_000), false),
        (format!("{{\"a\": {}", "[".repeat(1_000_000)), false),
        (text(1_000_000), true),
    ];
    for (line, good) in cases {
        let folder = Folder::new();
        folder.write("a.ndjson", &line);
        let shown = &line[..line.len().min(40)];
        let source = version(files("events", "a.ndjson", Format::Ndjson), columns(&[("a", "json")]));
        match folder.rows(&source, &all()) {
            Ok(_) => assert!(good, "{shown}"),
            Err(error) => {
                assert!(!good, "{shown}: {}", said(&error));
                assert!(said(&error).contains("nests deeper than 64"), "{shown}: {}", said(&error));
            }
        }
        // The same line as a spine: its types are looked for.
        let flock = Flock::new();
        let spine = line.replacen("{\"a\"", "{\"seller\": 1, \"at\": \"2024-01-03T00:00:00Z\", \"a\"", 1);
        match flock.train(flock.request(spine, FileFormat::Ndjson)) {
            Ok((rows, _)) => {
                assert!(good, "{shown}");
                // The type that was found can be written down and read again.
                let found =
                    asof_compute::from_arrow_type(rows.column_by_name("a").unwrap().data_type()).unwrap();
                assert_eq!(asof_model::DataType::parse(&found.to_string()).unwrap(), found);
            }
            Err(error) => assert!(!good, "{shown}: {}", said(&error)),
        }
    }
}

/// A stray quote, or a file without line ends, must not be held whole: which row is named, and what follows.
#[test]
fn a_record_has_an_end() {
    let long = 65 << 20;
    let quoted = |before: &str| format!("{before}\"{}", "x,y\n".repeat(long / 4));
    let spaces = " ".repeat(long);
    let cases = [
        ("a.csv", quoted("a\n1\n"), "row 2: is longer than 64 MiB"),
        ("a.csv", quoted(""), "its header is longer than 64 MiB"),
        (
            "a.ndjson",
            format!("{{\"a\":1}}\n{spaces}\n{{\"a\":3}}\n"),
            "row 2: is longer than 64 MiB (line 2 of the file)",
        ),
        ("a.ndjson", format!("{{\"a\":\"{spaces}"), "row 1: is longer than 64 MiB (line 1 of the file)"),
    ];
    for (file, text, expected) in cases {
        let folder = Folder::new();
        folder.write(file, &text);
        let format = if file.ends_with("csv") { Format::Csv } else { Format::Ndjson };
        let source = version(files("events", file, format), columns(&[("a", "int64")]));
        let told = said(&folder.rows(&source, &all()).unwrap_err());
        assert!(told.contains(expected) && told.len() < 1_000, "{told}");
        let flock = Flock::new();
        let format = if file.ends_with("csv") { FileFormat::Csv } else { FileFormat::Ndjson };
        let told = said(&flock.train(flock.request(text, format)).unwrap_err());
        assert!(told.contains("longer than 64 MiB") && told.len() < 1_000, "{told}");
    }
}

/// Rows of few but long cells: a batch of them ends before its texts are more than an array holds.
#[test]
fn long_cells_come_in_small_batches() {
    let folder = Folder::new();
    let cell = "x".repeat(20 << 20);
    folder.write("a.csv", format!("a\n{}", format!("{cell}\n").repeat(5)));
    folder.write("a.ndjson", format!("{{\"a\":\"{cell}\"}}\n").repeat(5));
    for (file, format) in [("a.csv", Format::Csv), ("a.ndjson", Format::Ndjson)] {
        let source = version(files("events", file, format), columns(&[("a", "string")]));
        let scan = folder.scan(&source, &all()).unwrap();
        let stream = scan.plan.execute(0, folder.engine.session().task_ctx()).unwrap();
        let batches: Vec<usize> = folder.runtime.block_on(async {
            use futures::TryStreamExt;
            stream.map_ok(|batch| batch.num_rows()).try_collect().await.unwrap()
        });
        assert_eq!(batches, [4, 1], "{file}");
    }
}

/// What is written in words stays what it says.
#[test]
fn infinities_in_words_are_infinities() {
    for (file, text) in [
        ("a.csv", "a\ninf\n-inf\nInfinity\nNaN\n1e308\n"),
        (
            "a.ndjson",
            "{\"a\": \"Infinity\"}\n{\"a\": \"-Infinity\"}\n{\"a\": \"Infinity\"}\n{\"a\": \"NaN\"}\n{\"a\": 1e308}\n",
        ),
    ] {
        let folder = Folder::new();
        folder.write(&format!("data/{file}"), text);
        let format = if file.ends_with("csv") { Format::Csv } else { Format::Ndjson };
        let source = version(files("events", &format!("data/{file}"), format), columns(&[("a", "float64")]));
        let found = folder.rows(&source, &all()).unwrap();
        let values = arrow::array::AsArray::as_primitive::<arrow::datatypes::Float64Type>(found.column(6));
        let values: Vec<String> = values.iter().flatten().map(|value| format!("{value}")).collect();
        assert_eq!(values[..4], ["inf", "-inf", "inf", "NaN"], "{file}");
        assert_eq!(values[4].len(), 309, "{file}");
    }
}
