//! Parquet sources: the fixed columns, every time type, errors with file and row.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use asof_engine::source::ScanColumns;
use asof_model::Format;

use crate::project::{Folder, all, at, columns, expression, files, said, table, version};

fn times(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(values.to_vec()))
}

#[test]
fn the_fixed_columns_come_first() {
    let folder = Folder::new();
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
        ("at", times(&[Some(-1), Some(1_999), Some(3_000_000)])),
        ("seen", Arc::new(TimestampMicrosecondArray::from(vec![Some(5), None, Some(7)])) as ArrayRef),
        ("state", Arc::new(StringArray::from(vec![Some("x"), Some("gone"), None])) as ArrayRef),
    ])
    .unwrap();
    folder.parquet("data/a.parquet", 2, &[batch]);
    let mut source = files("events", "data/a.parquet", Format::Parquet);
    source.event_time = at("at");
    source.available_at = at("seen");
    source.order_by = Some(expression("id"));
    source.delete_when = Some(expression("State = 'gone'"));
    let source = version(
        source,
        columns(&[("id", "int64"), ("at", "timestamp"), ("seen", "timestamp"), ("state", "string")]),
    );
    let mut found = folder.rows(&source, &all()).unwrap();
    let order = found.column_by_name("__o").unwrap();
    assert_eq!(order.null_count(), 0);
    found.remove_column(2);
    insta::assert_snapshot!(table(&found));
    let one = folder.rows(
        &source,
        &ScanColumns { columns: vec!["id".to_owned()], address: true, ..ScanColumns::default() },
    );
    assert_eq!(one.unwrap().schema().fields().len(), 8);
}

#[test]
fn a_null_event_time_is_refused_with_its_place() {
    let folder = Folder::new();
    for (file, values) in [("a", [Some(1), Some(2), Some(3)]), ("b", [Some(1), Some(2), None])] {
        let batch = RecordBatch::try_from_iter_with_nullable([("at", times(&values), true)]).unwrap();
        folder.parquet(&format!("data/{file}.parquet"), 2, &[batch]);
    }
    let mut source = files("events", "data/*.parquet", Format::Parquet);
    source.event_time = at("at");
    let error = folder.rows(&version(source, columns(&[("at", "timestamp")])), &all()).unwrap_err();
    insta::assert_snapshot!(said(&error));
}
