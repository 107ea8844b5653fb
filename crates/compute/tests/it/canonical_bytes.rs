//! The bytes of `docs/formats/row.md`: keys name entities in stored data and digests decide ties, so what version 1
//! made must be made for ever. `tests/compat/row-1.txt` holds it: a name and the bytes in hexadecimal a line.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int8Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt16Array, UInt64Array,
};
use asof_compute::{KeyEncoder, RowDigester, order_keys};
use asof_model::DataType;

/// A value and a null, or a second value, of each kind.
fn columns() -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("bool", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("int8", Arc::new(Int8Array::from(vec![Some(-2), Some(3)]))),
        ("int64", Arc::new(Int64Array::from(vec![Some(7), Some(i64::MIN)]))),
        ("uint16", Arc::new(UInt16Array::from(vec![Some(65_535), None]))),
        ("uint64", Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(0)]))),
        ("float32", Arc::new(Float32Array::from(vec![Some(1.5), Some(-0.0)]))),
        ("float64", Arc::new(Float64Array::from(vec![Some(-2.25), Some(f64::NAN)]))),
        (
            "decimal",
            Arc::new(
                Decimal128Array::from(vec![Some(-12_345), None]).with_precision_and_scale(9, 2).unwrap(),
            ),
        ),
        ("string", Arc::new(StringArray::from(vec![Some("é\0b"), Some("")]))),
        ("bytes", Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0, 255][..]), None]))),
        ("date", Arc::new(Date32Array::from(vec![Some(-1), Some(19_000)]))),
        (
            "timestamp",
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(-1), Some(1_767_225_600_000_000)])
                    .with_timezone("UTC"),
            ),
        ),
    ]
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn line(text: &mut String, name: &str, bytes: Option<&[u8]>) {
    writeln!(text, "{name} {}", bytes.map_or_else(|| "none".to_owned(), hexadecimal)).unwrap();
}

#[test]
fn bytes_of_version_1_stay() {
    let mut made = String::new();
    let int = DataType::Int64;
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(-1), None]));
    let shops: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some(""), Some("b")]));
    for (name, encoder, arrays) in [
        ("key(int64)", KeyEncoder::new(std::slice::from_ref(&int)), vec![Arc::clone(&ids)]),
        ("key(int64,string)", KeyEncoder::new(&[int, DataType::String]), vec![ids, shops]),
    ] {
        let keys = encoder.encode(&arrays).unwrap();
        for row in 0..keys.len() {
            line(&mut made, &format!("{name} {row}"), keys.is_valid(row).then(|| keys.value(row)));
        }
    }
    let columns = columns();
    for (name, column) in &columns {
        let keys = order_keys(column).unwrap();
        for row in 0..keys.len() {
            line(&mut made, &format!("order({name}) {row}"), keys.is_valid(row).then(|| keys.value(row)));
        }
    }
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, it)| (name, it, true)))
            .unwrap();
    let digester = RowDigester::of_schema(&batch.schema()).unwrap();
    for (row, digest) in digester.digest(&batch).unwrap().iter().enumerate() {
        line(&mut made, &format!("digest {row}"), Some(&digest.0));
    }
    assert_eq!(made, include_str!("../compat/row-1.txt"));
}
