//! Training end to end: rows, counts, records, rebuilds, refusals.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use asof_engine::Error;
use asof_engine::training::{SpineInput, TrainRequest, TrainingWriter};
use asof_model::{Catalog, FileFormat, OnNullKey, Question, Revision, TrainingSet, Version, VisibleTimes};

use crate::flock::{Flock, PRICES, SPINE, recorded, view_version};
use crate::project::{at, name, said, table};

/// Rows of the output as text, without the spine's columns.
fn answers(batch: &RecordBatch) -> Vec<String> {
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    let options = FormatOptions::default().with_null("-");
    let formatters: Vec<ArrayFormatter<'_>> = ["row", "price", "twice", "town", "rating"]
        .iter()
        .filter_map(|name| batch.column_by_name(name))
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
        .collect();
    (0..batch.num_rows())
        .map(|row| formatters.iter().map(|it| it.value(row).to_string()).collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn every_spine_row_once_in_its_order() {
    let flock = Flock::new();
    let (rows, report) = flock.train(flock.request(SPINE, FileFormat::Csv)).unwrap();
    // a: the price of 1 January was known, that of the 2nd not before the 5th; b: known long ago, so
    // expired; e: the newest is 8 days old.
    assert_eq!(
        answers(&rows),
        [
            "a 10 20 Oslo 4.5",
            "b - - Bergen -",
            "c - - - -",
            "d - - - -",
            "e - - Oslo 4.5",
            "f - - Oslo 4.5",
            "b - - Bergen -"
        ]
    );
    let names: Vec<&str> = rows.schema_ref().fields().iter().map(|it| it.name().as_str()).collect();
    assert_eq!(names, ["row", "seller", "at", "price", "twice", "town", "rating"]);
    let prices = &report.outcome.counts[0];
    assert_eq!((prices.present, prices.not_found, prices.expired, prices.no_key), (1, 2, 3, 1), "{prices:?}");
    // One row is never known; the row without a seller does not pass `where`.
    assert_eq!((prices.never_known, prices.null_keys), (1, 0));
    // Under *event* a, b and b would be answered by newer rows.
    assert_eq!((prices.other_present, prices.differs), (3, 3), "{prices:?}");
    let sellers = &report.outcome.counts[1];
    assert_eq!((sellers.present, sellers.not_found, sellers.no_key), (5, 1, 1));
    assert_eq!((sellers.null_values, sellers.differs), (2, 0));
    insta::assert_snapshot!(report.outcome.warnings.join("\n"), @"view `prices` answers 1 spine rows with what was known at their times, and would answer 3 if every row had been known when it happened: look at the column `loaded`, the `available_at` of source `price_rows`");
    assert_eq!(report.outcome.rows, 7);
    let recipe = &report.recipe;
    assert_eq!((recipe.spine.rows, recipe.spine.time_column.as_str()), (7, "at"));
    assert_eq!(recipe.spine.bytes, SPINE.len() as u64);
    let known: Vec<VisibleTimes> = recipe.cuts.iter().map(|it| it.visible).collect();
    assert_eq!(known, [VisibleTimes::Declared, VisibleTimes::Assumed]);
    let kept = flock.folder.root().join(".asof/spines").join(&recipe.spine.hash);
    assert_eq!(std::fs::read(kept).unwrap(), SPINE.as_bytes());
    assert_eq!(std::fs::read_dir(flock.folder.root().join(".asof/spines")).unwrap().count(), 1);
}

#[test]
fn the_other_question_answers_otherwise() {
    let flock = Flock::new();
    let request = TrainRequest { question: Question::Event, ..flock.request(SPINE, FileFormat::Csv) };
    let (rows, report) = flock.train(request).unwrap();
    assert_eq!(answers(&rows)[..2], ["a 20 40 Oslo 4.5", "b 30 60 Bergen -"]);
    assert_eq!((report.recipe.question, report.outcome.counts[0].present), (Question::Event, 3));
    assert!(report.outcome.warnings.is_empty());
}

fn written(rows: &RecordBatch, format: FileFormat, size: usize) -> Vec<u8> {
    let mut writer = TrainingWriter::new(format, &rows.schema(), Vec::new(), 1).unwrap();
    for at in (0..rows.num_rows()).step_by(size) {
        writer.write(&rows.slice(at, size.min(rows.num_rows() - at))).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn a_spine_may_come_in_any_format() {
    let flock = Flock::new();
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("row", Arc::new(StringArray::from(vec!["a", "b", "c"])) as ArrayRef, true),
        ("seller", Arc::new(Int64Array::from(vec![Some(1), Some(2), None])) as ArrayRef, true),
        (
            "at",
            Arc::new(TimestampNanosecondArray::from(vec![1_704_240_000_000_000_999; 3]).with_timezone("UTC"))
                as ArrayRef,
            true,
        ),
    ])
    .unwrap();
    let mut hashes = Vec::new();
    for format in [FileFormat::Parquet, FileFormat::Arrow] {
        let (out, report) = flock.train(flock.request(written(&rows, format, 2), format)).unwrap();
        assert_eq!(answers(&out), ["a 10 20 Oslo 4.5", "b - - Bergen -", "c - - - -"], "{format:?}");
        // Nanoseconds of the spine stay, though they are floored for the question.
        assert_eq!(out.column_by_name("at").unwrap().data_type(), rows.column(2).data_type());
        hashes.push(report.outcome.content_hash);
    }
    assert_eq!(hashes[0], hashes[1]);
    let text: String = "{\"row\":\"a\",\"seller\":1,\"at\":\"2024-01-03T00:00:00\"}\n{\"row\":\"b\",\"seller\":2,\"at\":\"2024-01-03T00:00:00Z\"}\n".into();
    let (out, _) = flock.train(flock.request(text, FileFormat::Ndjson)).unwrap();
    assert_eq!(answers(&out), ["a 10 20 Oslo 4.5", "b - - Bergen -"]);
    let request = TrainRequest {
        spine: SpineInput::Sql {
            text: "select 'a' as row, id as seller, timestamp '2024-01-03T00:00:00Z' as at from seller_rows order by id".to_owned(),
            scope: flock.scope(Vec::new()),
        },
        ..flock.request("", FileFormat::Csv)
    };
    let (out, report) = flock.train(request).unwrap();
    assert_eq!(answers(&out), ["a 10 20 Oslo 4.5", "a - - Bergen -", "a - - Oslo 3.25"]);
    assert!(report.recipe.spine.sql.is_some());
    assert_eq!(report.recipe.spine.format, FileFormat::Arrow);
    let again = flock.rebuild(&recorded(report)).unwrap();
    assert_eq!(again.0, out);
    // A spine file on the disk.
    flock.folder.write("labels.csv", SPINE);
    let path = flock.folder.root().join("labels.csv");
    for settled in [false, true] {
        let path = path.clone();
        let spine = SpineInput::File { path, format: FileFormat::Csv, name: None, settled };
        let request = TrainRequest { spine, ..flock.request("", FileFormat::Csv) };
        let (out, report) = flock.train(request).unwrap();
        assert_eq!(out.num_rows(), 7);
        assert_eq!(report.recipe.spine.bytes, SPINE.len() as u64);
        assert_eq!(flock.rebuild(&recorded(report)).unwrap().0, out);
    }
    // One whose kept file lost its end is kept anew, so that what is recorded can be made again.
    let kept = blake3::hash(SPINE.as_bytes()).to_hex().to_string();
    flock.folder.write(&format!(".asof/spines/{kept}"), &SPINE[..10]);
    for settled in [false, true] {
        let spine = SpineInput::File { path: path.clone(), format: FileFormat::Csv, name: None, settled };
        let (_, report) = flock.train(TrainRequest { spine, ..flock.request("", FileFormat::Csv) }).unwrap();
        flock.rebuild(&recorded(report)).unwrap();
    }
    let spines = || flock.folder.root().join(".asof/spines").read_dir().unwrap().count();
    let kept = spines();
    // One that cannot be read leaves nothing behind, however far its copy is.
    let missing = SpineInput::File {
        path: flock.folder.root().join("gone.csv"),
        format: FileFormat::Csv,
        name: None,
        settled: false,
    };
    flock.train(TrainRequest { spine: missing, ..flock.request("", FileFormat::Csv) }).unwrap_err();
    flock.folder.write("labels.csv", "seller,at\nx,2024-01-03T00:00:00Z\n");
    let spine = SpineInput::File { path, format: FileFormat::Csv, name: None, settled: false };
    flock.train(TrainRequest { spine, ..flock.request("", FileFormat::Csv) }).unwrap_err();
    assert_eq!(spines(), kept);
    // No row at all.
    let (out, report) = flock
        .train(flock.request(written(&rows.slice(0, 0), FileFormat::Parquet, 1), FileFormat::Parquet))
        .unwrap();
    assert_eq!((out.num_rows(), report.outcome.rows), (0, 0));
}

#[test]
fn integer_times_need_a_unit() {
    let flock = Flock::new();
    let spine = "row,seller,at\na,1,1704240000\n";
    let with = |time: Option<&str>| TrainRequest {
        time: time.map(str::to_owned),
        ..flock.request(spine, FileFormat::Csv)
    };
    let (rows, report) = flock.train(with(Some("at:s"))).unwrap();
    assert_eq!(answers(&rows), ["a 10 20 Oslo 4.5"]);
    let (again, _) = flock.rebuild(&recorded(report)).unwrap();
    assert_eq!(again, rows);
    let mut refused = Vec::new();
    for time in [None, Some("at"), Some("at:h"), Some("att:s"), Some("row"), Some("seller:ns")] {
        match flock.train(with(time)) {
            Ok((rows, _)) => refused.push(format!("{time:?}: {}", answers(&rows).join(", "))),
            Err(error) => refused.push(format!("{time:?}: {}", said(&error))),
        }
    }
    insta::assert_snapshot!(refused.join("\n"));
}

#[test]
fn what_cannot_be_asked_is_refused_with_a_way_out() {
    let flock = Flock::new();
    let mut told = Vec::new();
    for (what, spine) in [
        ("no time", "row,seller\na,1\n"),
        ("two times", "seller,at,till\n1,2024-01-03T00:00:00Z,2024-01-03T00:00:00Z\n"),
        ("null time", "seller,at\n1,2024-01-03T00:00:00Z\n1,\n"),
        ("no key", "selller,at\n1,2024-01-03T00:00:00Z\n"),
        ("wrong key", "seller,at\nx,2024-01-03T00:00:00Z\n"),
        ("fraction", "seller,at\n1.5,2024-01-03T00:00:00Z\n"),
        ("name of a feature", "seller,at,town\n1,2024-01-03T00:00:00Z,x\n"),
        ("two columns", "seller,at,at\n1,2024-01-03T00:00:00Z,2024-01-03T00:00:00Z\n"),
        ("empty", ""),
    ] {
        let error = flock.train(flock.request(spine, FileFormat::Csv)).unwrap_err();
        told.push(format!("{what}: {}", said(&error)));
    }
    let broken = flock.train(flock.request("not parquet", FileFormat::Parquet)).unwrap_err();
    told.push(format!("not parquet: {}", said(&broken)));
    let broken = flock.train(flock.request("not arrow at all", FileFormat::Arrow)).unwrap_err();
    told.push(format!("not arrow: {}", said(&broken)));
    let float = RecordBatch::try_from_iter([
        ("seller", Arc::new(arrow::array::Float64Array::from(vec![1.0])) as ArrayRef),
        ("at", Arc::new(TimestampNanosecondArray::from(vec![1_704_240_000_000_000_000]))),
    ])
    .unwrap();
    let spine = written(&float, FileFormat::Parquet, 1);
    told.push(format!(
        "float key: {}",
        said(&flock.train(flock.request(spine, FileFormat::Parquet)).unwrap_err())
    ));
    let request = TrainRequest { on_null_key: OnNullKey::Refuse, ..flock.request(SPINE, FileFormat::Csv) };
    told.push(format!("null key: {}", said(&flock.train(request).unwrap_err())));
    insta::assert_snapshot!(told.join("\n"));
    assert!(!flock.folder.root().join(".asof/spines").read_dir().unwrap().any(|_| true), "a spine stayed");
}

#[test]
fn a_rebuild_is_the_same_or_says_what_is_not() {
    let flock = Flock::new();
    let (rows, report) = flock.train(flock.request(SPINE, FileFormat::Csv)).unwrap();
    let set = recorded(report);
    let stored: TrainingSet = serde_json::from_str(&serde_json::to_string(&set).unwrap()).unwrap();
    assert_eq!(stored, set);
    let (again, report) = flock.rebuild(&set).unwrap();
    assert_eq!(again, rows);
    assert_eq!(report.outcome.content_hash, set.outcome.content_hash);
    for format in [FileFormat::Parquet, FileFormat::Csv, FileFormat::Arrow] {
        assert_eq!(written(&rows, format, 7), written(&again, format, 2), "{format:?}");
    }

    // As a table.
    let scope = flock.scope(vec![set.clone()]);
    let answer = flock
        .sql_in(
            scope,
            "select row, price from training_set_0123456789ab where price is not null",
            Default::default(),
        )
        .unwrap();
    assert_eq!(answers(&answer), ["a 10"]);

    let mut told = Vec::new();
    let file = flock.folder.root().join("data/prices.csv");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(",10,", ",11,")).unwrap();
    told.push(said(&flock.rebuild(&set).unwrap_err()));
    std::fs::remove_file(&file).unwrap();
    told.push(said(&flock.rebuild(&set).unwrap_err()));
    std::fs::write(&file, text).unwrap();
    flock.rebuild(&set).unwrap();
    // What the record says cannot be made by what it names.
    let mut other = set.clone();
    other.outcome.content_hash = "ab".repeat(32);
    told.push(said(&flock.rebuild(&other).unwrap_err()));
    let kept = flock.folder.root().join(".asof/spines").join(&set.recipe.spine.hash);
    std::fs::write(&kept, "row,seller,at\n").unwrap();
    told.push(said(&flock.rebuild(&set).unwrap_err()));
    std::fs::remove_file(&kept).unwrap();
    told.push(said(&flock.rebuild(&set).unwrap_err()));
    let told = told.join("\n").replace(&flock.folder.root().display().to_string(), "FOLDER");
    let told = told.replace(set.outcome.content_hash.get(..12).unwrap(), "HASH");
    insta::assert_snapshot!(told);
}

#[test]
fn written_sets_are_read_back() {
    let flock = Flock::new();
    let (rows, _) = flock.train(flock.request(SPINE, FileFormat::Csv)).unwrap();
    let bytes = written(&rows, FileFormat::Parquet, 3);
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes::Bytes::from(bytes), 100)
            .unwrap();
    let back: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    assert_eq!(table(&back[0]), table(&rows));
    let bytes = written(&rows, FileFormat::Arrow, 3);
    let reader = arrow::ipc::reader::StreamReader::try_new(Cursor::new(bytes), None).unwrap();
    let back: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    assert_eq!(table(&back[0]), table(&rows));
    let text = String::from_utf8(written(&rows, FileFormat::Csv, 3)).unwrap();
    assert_eq!(text.lines().count(), 8);
    assert!(text.starts_with("row,seller,at,price,twice,town,rating\na,1,2024-01-03T00:00:00"), "{text}");
    let none = String::from_utf8(written(&rows.slice(0, 0), FileFormat::Csv, 3)).unwrap();
    assert_eq!(none, "row,seller,at,price,twice,town,rating\n");
    assert_eq!(rows.column(0).null_count(), 0);
}

/// The flock with this done to its sources, and these features of its prices.
fn changed(change: impl Fn(&mut asof_model::Source), features: &[(&str, &str, &str)]) -> Flock {
    let flock = Flock::new();
    let roots = [(name("shop"), flock.folder.root().to_owned())].into();
    let mut versions = Vec::new();
    for view in flock.catalog.views() {
        let mut source = flock.catalog.source(&view.source).unwrap().as_ref().clone();
        change(&mut source.definition);
        let mut view = view.as_ref().clone();
        if view.address.name.as_str() == "prices" {
            view = view_version("prices", &source, "seller", None, None, features);
        }
        versions.extend([Version::Source(Arc::new(source)), Version::View(Arc::new(view))]);
    }
    let catalog = Catalog::from_versions(Revision(7), roots, versions);
    Flock { catalog: Arc::new(catalog), ..flock }
}

/// A row that no answer is made of is not evaluated: `secret` of the first is no number.
#[test]
fn a_row_that_is_over_wherever_it_stands_is_not_evaluated() {
    let over = |source: &mut asof_model::Source| {
        if source.available_at.take().is_some() {
            source.valid_until = at("loaded");
        }
    };
    let flock = changed(over, &[("number", "cast(secret as bigint)", "int64")]);
    let spine = |first: &str| format!("row,seller,at\na,1,{first}\nb,1,2024-01-03T00:00:00Z\n");
    let (out, _) = flock.train(flock.request(spine("2024-01-01T12:00:00Z"), FileFormat::Csv)).unwrap();
    let numbers = out.column_by_name("number").unwrap();
    assert_eq!(numbers.as_ref(), &Int64Array::from(vec![None, Some(17)]));
    let error = flock.train(flock.request(spine("2024-01-01T03:00:00Z"), FileFormat::Csv)).unwrap_err();
    assert!(!said(&error).contains("BOB"), "{}", said(&error));
}

/// Of facts without a clock a second row is seen of every key, whether it is asked for or not.
#[test]
fn a_second_fact_is_seen_of_every_key() {
    let flock = Flock::new();
    flock.folder.write("data/sellers.csv", "id,town,Rating\n1,Oslo,4.5\n7,Oslo,1\n7,Bergen,2\n");
    for seller in [1, 7] {
        let spine = format!("row,seller,at\na,{seller},2024-01-03T00:00:00Z\n");
        let told = said(&flock.train(flock.request(spine, FileFormat::Csv)).unwrap_err());
        insta::allow_duplicates!(insta::assert_snapshot!(told, @r"
        invalid [second_row] source `shop.seller_rows` has no event time, and more than one row of a key (id) of view `shop.sellers`: data/sellers.csv, rows 2 and 3
          hint: give the source an `event_time`, or the view a `where` that leaves one row a key
        "));
    }
}

/// Batches of 65,536 rows go to the file as they come, others are put together first.
#[test]
fn rows_are_written_alike_whatever_batches_they_come_in() {
    let count = 2 * 65_536 + 10;
    let rows = RecordBatch::try_from_iter([
        ("n", Arc::new(Int64Array::from_iter_values(0..count)) as ArrayRef),
        ("text", Arc::new(StringArray::from_iter_values((0..count).map(|n| format!("t{}", n % 999))))),
    ])
    .unwrap();
    for format in [FileFormat::Parquet, FileFormat::Arrow, FileFormat::Csv, FileFormat::Ndjson] {
        let direct = written(&rows, format, 65_536);
        for size in [1_000, 65_535, 65_537, count as usize] {
            assert!(written(&rows, format, size) == direct, "{format:?} in batches of {size}");
        }
    }
}

#[test]
fn a_file_swapped_under_a_running_train_fails_it() {
    let flock = Flock::new();
    for swap in ["replace", "append", "remove"] {
        let file = flock.folder.root().join("data/prices.csv");
        std::fs::write(&file, PRICES).unwrap();
        let path = file.clone();
        let once = std::sync::Once::new();
        // The first report of progress comes while the source is read.
        let progress: asof_engine::Progress = Arc::new(move |_| {
            once.call_once(|| match swap {
                "replace" => {
                    let other = path.with_extension("new");
                    std::fs::write(&other, PRICES.replace(",10,", ",11,")).unwrap();
                    std::fs::rename(other, &path).unwrap();
                }
                "append" => std::fs::write(&path, format!("{PRICES}1,2024-01-01T00:00:00Z,,1,x\n")).unwrap(),
                _ => std::fs::remove_file(&path).unwrap(),
            });
        });
        let engine = &flock.folder.engine;
        let request = flock.request(SPINE, FileFormat::Csv);
        let train = engine.train(Arc::clone(&flock.catalog), request, progress);
        let error = flock.folder.runtime.block_on(train).unwrap_err();
        assert!(matches!(error, Error::Changed { .. }), "{swap}: {}", said(&error));
        assert!(!flock.folder.root().join(".asof/spines").read_dir().unwrap().any(|_| true));
    }
}

/// A spine is held in memory while it is answered: one that does not fit is refused as such, wherever it
/// comes from, and nothing of it stays.
#[test]
fn a_spine_larger_than_the_memory_is_refused() {
    let flock = Flock::new();
    let text = "select 1 as seller, timestamp '2024-01-03T00:00:00Z' as at, repeat('x', 10000) as pad from generate_series(1, 30000)";
    let spine = SpineInput::Sql { text: text.to_owned(), scope: flock.scope(Vec::new()) };
    let error = flock.train(TrainRequest { spine, ..flock.request("", FileFormat::Csv) }).unwrap_err();
    insta::assert_snapshot!(said(&error), @r"
    exhausted [limit_reached] the spine is over the limit of 256 MiB of memory
      hint: ask in parts, with fewer rows or columns, or raise `memory` in asof.yaml
    ");
    assert!(!flock.folder.root().join(".asof/spines").read_dir().unwrap().any(|_| true), "a spine stayed");
    // Small on the disk, large in memory.
    let rows = RecordBatch::try_from_iter([
        ("seller", Arc::new(Int64Array::from(vec![1; 3_000])) as ArrayRef),
        ("at", Arc::new(TimestampNanosecondArray::from(vec![1_704_240_000_000_000_000; 3_000]))),
        ("pad", Arc::new(StringArray::from_iter_values(std::iter::repeat_n("x".repeat(10_000), 3_000)))),
    ])
    .unwrap();
    flock.folder.parquet("spine.parquet", 3_000, &vec![rows; 10]);
    let spine = std::fs::read(flock.folder.root().join("spine.parquet")).unwrap();
    assert!(spine.len() < 4 << 20, "{} bytes", spine.len());
    let error = flock.train(flock.request(spine, FileFormat::Parquet)).unwrap_err();
    assert!(matches!(error, Error::Exhausted { .. }), "{}", said(&error));
    assert!(!flock.folder.root().join(".asof/spines").read_dir().unwrap().any(|_| true), "a spine stayed");
}

/// What an earlier process wrote for a while only, and did not live to remove.
#[test]
fn leftovers_of_before_are_removed() {
    let folder = crate::project::Folder::new();
    folder.write(".asof/spill/datafusion-abc/part", "rows");
    folder.write(".asof/spill/loose", "rows");
    folder.write(".asof/spines/incoming-7", "row,seller,at");
    folder.write(".asof/spines/0a1b", "row,seller,at");
    let config = folder.engine.config().clone();
    drop(folder.engine);
    let again = asof_engine::Engine::new(config).unwrap();
    let left = |path: &str| again.config().data_dir.join(path).exists();
    let before = ["spill/datafusion-abc", "spill/loose", "spines/incoming-7", "spines/0a1b"];
    assert_eq!(before.map(left), [false, false, false, true]);
}
