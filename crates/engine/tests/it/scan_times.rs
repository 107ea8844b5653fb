//! The time rules of a source: units, zones, dates, texts, expressions, bounds.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, DictionaryArray, Float64Array, Int64Array, LargeStringArray, RecordBatch,
    StringArray, StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;
use asof_model::{Format, TimeRule, TimeUnit};

use crate::project::{Folder, all, columns, expression, files, said, table, version};

fn read(array: ArrayRef, kind: &str, rule: TimeRule) -> String {
    let folder = Folder::new();
    let batch = RecordBatch::try_from_iter_with_nullable([("at", array, true)]).unwrap();
    folder.parquet("a.parquet", 1_000, &[batch]);
    let mut source = files("events", "a.parquet", Format::Parquet);
    source.event_time = Some(rule);
    match folder.rows(&version(source, columns(&[("at", kind)])), &all()) {
        Ok(found) => {
            let shown = table(&found.project(&[0]).unwrap());
            let cells: Vec<&str> = shown.lines().skip(3).filter(|line| line.starts_with("| ")).collect();
            cells.iter().map(|line| line.trim_matches(['|', ' '])).collect::<Vec<_>>().join(" ")
        }
        Err(error) => said(&error),
    }
}

fn rule(unit: Option<TimeUnit>, zone: Option<&str>) -> TimeRule {
    TimeRule::Column { name: "at".to_owned(), unit, zone: zone.map(str::to_owned) }
}

#[test]
fn every_time_is_read_once_and_rightly() {
    let words = |all: &[&str]| Arc::new(StringArray::from(all.to_vec())) as ArrayRef;
    let dictionary: DictionaryArray<Int32Type> = ["2013-06-01", "2013-06-02"].into_iter().collect();
    let new_york = Some("America/New_York");
    let naive = |micros: i64| Arc::new(TimestampMicrosecondArray::from(vec![micros])) as ArrayRef;
    // 2013-03-10 02:30 is left out in New York, 2013-11-03 01:30 comes twice.
    let (gap, twice) = (1_362_882_600_000_000, 1_383_442_200_000_000);
    let cases: Vec<(&str, ArrayRef, &str, TimeRule)> = vec![
        ("seconds", Arc::new(TimestampSecondArray::from(vec![-1, 1])), "timestamp", rule(None, None)),
        (
            "milliseconds",
            Arc::new(TimestampMillisecondArray::from(vec![-1, 1])),
            "timestamp",
            rule(None, None),
        ),
        (
            "nanoseconds are floored",
            Arc::new(TimestampNanosecondArray::from(vec![-1, 999, 1_000])),
            "timestamp",
            rule(None, None),
        ),
        (
            "with a zone of its own",
            Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("+02:00")),
            "timestamp",
            rule(None, None),
        ),
        (
            "a zone twice",
            Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC")),
            "timestamp",
            rule(None, new_york),
        ),
        ("civil in summer", naive(1_370_088_000_000_000), "timestamp", rule(None, new_york)),
        ("civil in winter", naive(1_357_041_600_000_000), "timestamp", rule(None, new_york)),
        ("civil in the gap", naive(gap), "timestamp", rule(None, new_york)),
        ("civil, twice there", naive(twice), "timestamp", rule(None, new_york)),
        ("dates", Arc::new(Date32Array::from(vec![-1, 0])), "date", rule(None, None)),
        ("dates of a zone", Arc::new(Date32Array::from(vec![15_857])), "date", rule(None, new_york)),
        ("integer, s", Arc::new(Int64Array::from(vec![-1, 1])), "int64", rule(Some(TimeUnit::S), None)),
        ("integer, ms", Arc::new(Int64Array::from(vec![-1, 1])), "int64", rule(Some(TimeUnit::Ms), None)),
        ("integer, us", Arc::new(UInt64Array::from(vec![1])), "uint64", rule(Some(TimeUnit::Us), None)),
        ("integer, ns", Arc::new(Int64Array::from(vec![-1, 1])), "int64", rule(Some(TimeUnit::Ns), None)),
        (
            "integer too large",
            Arc::new(Int64Array::from(vec![i64::MAX])),
            "int64",
            rule(Some(TimeUnit::S), None),
        ),
        ("integer without unit", Arc::new(Int64Array::from(vec![1])), "int64", rule(None, None)),
        (
            "integer of a zone",
            Arc::new(Int64Array::from(vec![1])),
            "int64",
            rule(Some(TimeUnit::S), new_york),
        ),
        ("float", Arc::new(Float64Array::from(vec![1.0])), "float64", rule(None, None)),
        (
            "float with unit",
            Arc::new(Float64Array::from(vec![1.0])),
            "float64",
            rule(Some(TimeUnit::S), None),
        ),
        ("time with unit", naive(0), "timestamp", rule(Some(TimeUnit::S), None)),
        (
            "texts",
            words(&["2013-06-01T12:00:00Z", "2013-06-01 12:00:00.5", "2013-06-01T12:00+02:00", "2013-06-01"]),
            "string",
            rule(None, None),
        ),
        (
            "texts of a zone",
            words(&["2013-06-01T12:00:00Z", "2013-06-01 12:00:00"]),
            "string",
            rule(None, new_york),
        ),
        ("large text", Arc::new(LargeStringArray::from(vec!["2013-06-01"])), "string", rule(None, None)),
        ("text view", Arc::new(StringViewArray::from(vec!["2013-06-01"])), "string", rule(None, None)),
        ("dictionary", Arc::new(dictionary), "string", rule(None, None)),
        ("text that is none", words(&["2013-06-01", "soon"]), "string", rule(None, None)),
        ("year 0", words(&["0000-12-31T23:59:59Z"]), "string", rule(None, None)),
        ("year 1", words(&["0001-01-01T00:00:00Z"]), "string", rule(None, None)),
        ("last instant", words(&["9999-12-31T23:59:59.999999Z"]), "string", rule(None, None)),
        ("before year 1", naive(-62_135_596_800_000_001), "timestamp", rule(None, None)),
        ("after year 9999", naive(253_402_300_800_000_000), "timestamp", rule(None, None)),
        (
            "null",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(0), None])),
            "timestamp",
            rule(None, None),
        ),
        ("no such zone", naive(0), "timestamp", rule(None, Some("America/Newyork"))),
        (
            "no such column",
            naive(0),
            "timestamp",
            TimeRule::Column { name: "att".to_owned(), unit: None, zone: None },
        ),
        (
            "an expression",
            Arc::new(Int64Array::from(vec![1, 2])),
            "int64",
            TimeRule::Expression(expression("to_timestamp_seconds(at * 60)")),
        ),
        (
            "an expression of text",
            words(&["20130601"]),
            "string",
            TimeRule::Expression(expression(
                "substr(at, 1, 4) || '-' || substr(at, 5, 2) || '-' || substr(at, 7, 2)",
            )),
        ),
        (
            "an expression that fails",
            Arc::new(Int64Array::from(vec![1, 0])),
            "int64",
            TimeRule::Expression(expression("to_timestamp_seconds(10 / at)")),
        ),
    ];
    let mut told = String::new();
    for (what, array, kind, rule) in cases {
        told += &format!("{what}: {}\n", read(array, kind, rule));
    }
    insta::assert_snapshot!(told);
}
