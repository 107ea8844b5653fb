//! Facts without a clock: a second row of a key is refused whatever its key, format, file and time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use asof_engine::Error;
use asof_engine::delta::OnBadRow;
use asof_engine::no_progress;
use asof_engine::training::{SpineInput, TrainRequest, TrainingReport};
use asof_model::{
    Ask, Catalog, DataType, FileFormat, Format, Key, OnImmature, OnNullKey, OnOverflow, Origin, OutputColumn,
    Place, Question, Reading, Revision, Selection, Source, SourceVersion, Timestamp, Version, ViewKey,
    ViewVersion,
};

use crate::flock::{recorded, view_version};
use crate::project::{Folder, at, columns, files, name, said, standing, version};

/// What is asked for in the table: seller 1, and with towns as a second key.
const SPINE: &str = "seller,other,town,at\n1,2,Oslo,2024-01-03T00:00:00Z\n";

const COLUMNS: [(&str, &str); 4] =
    [("id", "int64"), ("town", "string"), ("rating", "int64"), ("seen", "timestamp")];

fn sellers(format: Format) -> Source {
    let ending = match format {
        Format::Csv => "csv",
        Format::Ndjson => "ndjson",
        _ => "parquet",
    };
    files("seller_rows", &format!("data/*.{ending}"), format)
}

/// A view by `id`, or by `id` and `town`.
fn view(called: &str, source: &SourceVersion, filter: Option<&str>, town: bool) -> ViewVersion {
    let mut view = view_version(called, source, "id", filter, None, &[("rating", "rating", "int64")]);
    if town {
        let key = Key { name: name("town"), data_type: DataType::String };
        view.keys.push(ViewKey { key, column: "town".to_owned() });
    }
    view
}

/// Trains from views, each asked with these columns of the spine.
fn train(
    folder: &Folder,
    sources: &[SourceVersion],
    asked: &[(ViewVersion, &[&str])],
    spine: &str,
) -> Result<TrainingReport, Error> {
    let of = |view: &ViewVersion| sources.iter().find(|source| source.address == view.source).unwrap();
    let readings: Vec<Reading> = asked
        .iter()
        .map(|(view, keys)| Reading {
            source: Arc::new(of(view).clone()),
            view: Arc::new(view.clone()),
            keys: keys.iter().map(|key| name(key)).collect(),
        })
        .collect();
    let output = |reading| OutputColumn {
        name: format!("rating_{reading}"),
        from: Origin::Feature { reading, feature: 0 },
        data_type: DataType::Int64,
    };
    let columns = (0..readings.len()).map(output).collect();
    let request = TrainRequest {
        project: name("shop"),
        ask: Ask::Features(vec!["sellers.*".to_owned()]),
        full_names: false,
        selection: Selection {
            project: name("shop"),
            service: None,
            readings,
            columns,
            request: Vec::new(),
            steps: Vec::new(),
            labels: Vec::new(),
        },
        spine: SpineInput::Bytes {
            bytes: spine.to_owned().into_bytes().into(),
            format: FileFormat::Csv,
            name: None,
        },
        time: None,
        question: Question::Known,
        on_null_key: OnNullKey::Keep,
        on_overflow: OnOverflow::Refuse,
        on_immature: OnImmature::Keep,
        asked_at: Timestamp::LAST,
        output: FileFormat::Parquet,
    };
    let roots = BTreeMap::from([(name("shop"), folder.root().to_owned())]);
    let versions = sources.iter().map(|source| Version::Source(Arc::new(source.clone())));
    let catalog = Arc::new(Catalog::from_versions(Revision(1), roots, versions));
    folder.runtime.block_on(async {
        let mut training = folder.engine.train(catalog, request, no_progress()).await?;
        while training.next().await?.is_some() {}
        training.finish().await
    })
}

fn told(trained: Result<TrainingReport, Error>) -> String {
    match trained {
        Ok(report) => {
            let counts = report.outcome.counts.iter();
            let counts = counts.map(|it| format!("present {} null_keys {}", it.present, it.null_keys));
            counts.collect::<Vec<_>>().join(", ")
        }
        Err(error) => said(&error),
    }
}

/// The rows of a CSV file as a Parquet file has them.
fn table(csv: &str) -> RecordBatch {
    let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let number = |at: usize| Int64Array::from_iter(rows.iter().map(|row| row[at].parse::<i64>().ok()));
    let texts = rows.iter().map(|row| Some(row[1]).filter(|text| !text.is_empty()));
    let time = |row: &Vec<&str>| row[3].parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond);
    let times = TimestampMicrosecondArray::from_iter(rows.iter().map(time)).with_timezone("UTC");
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(number(0)) as ArrayRef, true),
        ("town", Arc::new(StringArray::from_iter(texts)), true),
        ("rating", Arc::new(number(2)), true),
        ("seen", Arc::new(times), true),
    ])
    .unwrap()
}

/// One line of NDJSON a row.
fn lines(csv: &str) -> String {
    let quoted = |text: &str| if text.is_empty() { "null".to_owned() } else { format!("\"{text}\"") };
    let plain = |text: &str| if text.is_empty() { "null".to_owned() } else { text.to_owned() };
    let line = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        format!(
            "{{\"id\":{},\"town\":{},\"rating\":{},\"seen\":{}}}\n",
            plain(cells[0]),
            quoted(cells[1]),
            plain(cells[2]),
            quoted(cells[3])
        )
    };
    csv.lines().skip(1).map(line).collect()
}

const GOOD: &str = "id,town,rating,seen\n1,Oslo,4,2024-01-01T00:00:00Z\n2,Bergen,5,2024-01-01T00:00:00Z\n";

#[test]
fn every_second_row_of_every_source_is_refused() {
    let seller: &[&str] = &["seller"];
    let both: &[&str] = &["seller", "town"];
    // What a second file holds; a view's `where`; whether its key is id and town.
    type Case = (&'static str, &'static str, Option<&'static str>, bool);
    let cases: Vec<Case> = vec![
        ("none", "id,town,rating,seen\n3,Oslo,4,\n", None, false),
        ("of a key that is asked for", "id,town,rating,seen\n3,Oslo,4,\n1,Oslo,4,\n", None, false),
        (
            "of a key that is not asked for",
            "id,town,rating,seen\n9,Oslo,4,\n7,Oslo,4,\n9,Bergen,1,\n",
            None,
            false,
        ),
        ("three of one key", "id,town,rating,seen\n9,Oslo,4,\n9,Oslo,4,\n9,Bergen,1,\n", None, false),
        ("in another file", "id,town,rating,seen\n7,Oslo,4,\n2,Oslo,4,\n", None, false),
        (
            "left out by where",
            "id,town,rating,seen\n7,Oslo,4,\n7,Bergen,1,\n2,Oslo,1,\n",
            Some("rating > 1"),
            false,
        ),
        (
            "not left out by where",
            "id,town,rating,seen\n7,Oslo,4,\n7,Bergen,1,\n7,Oslo,3,\n",
            Some("rating > 1"),
            false,
        ),
        ("of no key", "id,town,rating,seen\n,Oslo,4,\n,Bergen,1,\n", None, false),
        ("of another key of two", "id,town,rating,seen\n7,Oslo,4,\n7,Bergen,1,\n", None, true),
        ("of the same two keys", "id,town,rating,seen\n7,Oslo,4,\n7,Bergen,1,\n7,Bergen,2,\n", None, true),
        ("of a null part of two", "id,town,rating,seen\n7,,4,\n7,,1,\n", None, true),
        ("seen after all that is asked", "id,town,rating,seen\n2,Oslo,4,2030-01-01T00:00:00Z\n", None, false),
        ("never seen", "id,town,rating,seen\n2,Oslo,4,\n", None, false),
    ];
    let mut out = String::new();
    for (about, second, filter, town) in cases {
        let asked = if town { both } else { seller };
        let mut answers: Vec<(String, String)> = Vec::new();
        for memory in [256 << 20, 1 << 10] {
            for (format, shape) in [
                (Format::Csv, "csv"),
                (Format::Ndjson, "ndjson"),
                (Format::Parquet, "parquet"),
                (Format::Csv, "stored"),
                (Format::Csv, "sql"),
            ] {
                let folder = Folder::with_memory(memory);
                for (file, csv) in [("a", GOOD), ("b", second)] {
                    match format {
                        Format::Csv => folder.write(&format!("data/{file}.csv"), csv),
                        Format::Ndjson => folder.write(&format!("data/{file}.ndjson"), lines(csv)),
                        _ => folder.parquet(&format!("data/{file}.parquet"), 2, &[table(csv)]),
                    }
                }
                let mut source = sellers(format);
                // What is known when does not matter.
                source.available_at = if about.contains("seen") { at("seen") } else { None };
                source.store = shape == "stored";
                let mut sources = vec![version(source, columns(&COLUMNS))];
                if shape == "stored" {
                    let loaded = folder.runtime.block_on(async {
                        let files = folder.engine.files_to_load(&sources[0], folder.root(), None).await?;
                        let (on, standing) = (OnBadRow::Stop, standing(&sources[0]));
                        folder.engine.load(&sources[0], &files, on, &[], &standing, &no_progress()).await
                    });
                    loaded.unwrap();
                }
                if shape == "sql" {
                    let mut query = files("query", "", Format::Parquet);
                    query.place = Place::Sql { text: "select * from seller_rows".to_owned() };
                    query.available_at = sources[0].definition.available_at.take();
                    sources.push(version(query, columns(&COLUMNS)));
                }
                let view = view("sellers", sources.last().unwrap(), filter, town);
                let told = told(train(&folder, &sources, &[(view, asked)], SPINE));
                match answers.iter_mut().find(|(_, other)| *other == told) {
                    Some((shapes, _)) if shapes.split(' ').any(|it| it == shape) => {}
                    Some((shapes, _)) => *shapes = format!("{shapes} {shape}"),
                    None => answers.push((shape.to_owned(), told)),
                }
            }
        }
        out.push_str(&format!("### {about}\n"));
        for (shapes, told) in answers {
            out.push_str(&format!("{shapes}: {told}\n"));
        }
        out.push('\n');
    }
    insta::assert_snapshot!(out);
}

/// Views of several keys over one source, one of them in two roles: the first that breaks the rule is named.
#[test]
fn each_view_of_a_source_is_looked_at() {
    let mut out = String::new();
    for (about, second) in [
        ("good for all", "id,town,rating,seen\n3,Oslo,4,\n"),
        ("a second of id only", "id,town,rating,seen\n3,Oslo,4,\n3,Bergen,4,\n"),
        ("a second of both", "id,town,rating,seen\n3,Oslo,4,\n3,Oslo,1,\n"),
        ("a second of both that one passes over", "id,town,rating,seen\n3,Oslo,4,\n3,Oslo,1,\n1,Oslo,1,\n"),
    ] {
        let folder = Folder::new();
        folder.write("data/a.csv", GOOD);
        folder.write("data/b.csv", second);
        let source = version(sellers(Format::Csv), columns(&COLUMNS));
        let view = |called, filter, town| view(called, &source, filter, town);
        let by_both = (view("by_both", None, true), &["seller", "town"][..]);
        let high = view("high", Some("rating > 1"), false);
        for asked in [
            vec![by_both.clone()],
            vec![(high.clone(), &["seller"][..]), (high.clone(), &["other"][..])],
            vec![(high.clone(), &["seller"][..]), by_both.clone()],
            vec![by_both.clone(), (view("all", None, false), &["seller"][..])],
        ] {
            let names: Vec<&str> = asked.iter().map(|(view, _)| view.address.name.as_str()).collect();
            let told = told(train(&folder, std::slice::from_ref(&source), &asked, SPINE));
            out.push_str(&format!("{about}, {}: {told}\n", names.join(" + ")));
        }
    }
    insta::assert_snapshot!(out);
}

/// That no row is asked for is no reason not to look.
#[test]
fn whatever_is_asked_for_it_is_seen() {
    let folder = Folder::new();
    folder.write("data/a.csv", GOOD);
    let source = version(sellers(Format::Csv), columns(&COLUMNS));
    let view = || view("sellers", &source, None, false);
    let ask = |spine: &str| train(&folder, std::slice::from_ref(&source), &[(view(), &["seller"])], spine);
    assert_eq!(told(ask("seller,at\n99,2024-01-03T00:00:00Z\n")), "present 0 null_keys 0");
    let set = recorded(ask(SPINE).unwrap());
    let rebuild = || {
        folder.runtime.block_on(async {
            let mut training = folder.engine.rebuild(&set, no_progress()).await?;
            while training.next().await?.is_some() {}
            training.finish().await
        })
    };
    assert_eq!(told(rebuild()), "present 1 null_keys 0");
    folder.write("data/a.csv", format!("{GOOD}2,Oslo,1,\n"));
    let second = "invalid [second_row] source `shop.seller_rows` has no event time";
    let told_of = told(ask("seller,at\n99,2024-01-03T00:00:00Z\n"));
    assert!(told_of.starts_with(second) && told_of.contains("data/a.csv, rows 2 and 3"), "{told_of}");
    // The file is another, which comes first.
    assert!(told(rebuild()).starts_with("conflict [training_set_changed]"), "{}", told(rebuild()));
}
