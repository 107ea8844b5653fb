use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, ListArray, StringArray,
    StructArray, TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use proptest::prelude::*;

use super::*;

/// A column of `seed.len()` rows of the kind numbered, its values and nulls drawn from the seeds.
fn column(kind: usize, seeds: &[u64], depth: usize) -> ArrayRef {
    fn some<T>(seeds: &[u64], value: impl Fn(u64) -> T) -> impl Iterator<Item = Option<T>> {
        seeds.iter().map(move |seed| (seed % 4 != 0).then(|| value(seed >> 2)))
    }
    let nulls = || Some(NullBuffer::from_iter(seeds.iter().map(|seed| seed % 5 != 0)));
    match kind {
        0 => Arc::new(some(seeds, |s| s % 2 == 1).collect::<BooleanArray>()),
        1 => Arc::new(some(seeds, |s| s as i8).collect::<Int8Array>()),
        2 => Arc::new(some(seeds, |s| s as i16).collect::<Int16Array>()),
        3 => Arc::new(some(seeds, |s| s as i32).collect::<Int32Array>()),
        4 => Arc::new(some(seeds, |s| (s as i64).wrapping_mul(4)).collect::<Int64Array>()),
        5 => Arc::new(some(seeds, |s| s as u8).collect::<UInt8Array>()),
        6 => Arc::new(some(seeds, |s| s as u16).collect::<UInt16Array>()),
        7 => Arc::new(some(seeds, |s| s as u32).collect::<UInt32Array>()),
        8 => Arc::new(some(seeds, |s| s.wrapping_mul(4)).collect::<UInt64Array>()),
        9 => Arc::new(some(seeds, |s| f32::from_bits(s as u32)).collect::<Float32Array>()),
        10 => Arc::new(some(seeds, |s| f64::from_bits(s.wrapping_mul(4))).collect::<Float64Array>()),
        11 => Arc::new(
            some(seeds, |s| i128::from(s) - (1 << 40))
                .collect::<Decimal128Array>()
                .with_precision_and_scale(30, 4)
                .unwrap(),
        ),
        12 => Arc::new(some(seeds, |s| "äb\u{1F600}c\0".repeat(s as usize % 4)).collect::<StringArray>()),
        13 => {
            let values: Vec<Option<Vec<u8>>> =
                some(seeds, |s| s.to_le_bytes()[..s as usize % 9].to_vec()).collect();
            Arc::new(values.iter().map(Option::as_deref).collect::<BinaryArray>())
        }
        14 => Arc::new(some(seeds, |s| s as i32).collect::<Date32Array>()),
        15 => Arc::new(some(seeds, |s| s as i64).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        16 => {
            let values = some(seeds, |s| u128::from(s).to_be_bytes());
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, 16).unwrap())
        }
        17 => {
            let lengths: Vec<usize> = seeds.iter().map(|seed| (seed >> 3) as usize % 4).collect();
            let inner: Vec<u64> = (0..lengths.iter().sum::<usize>() as u64)
                .map(|at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seeds.first().copied().unwrap_or(0))
                .collect();
            let items = column(
                if depth == 0 { 12 } else { 12 + seeds.first().copied().unwrap_or(0) as usize % 7 },
                &inner,
                depth.saturating_sub(1),
            );
            let field = Arc::new(Field::new("item", items.data_type().clone(), true));
            Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), items, nulls()))
        }
        _ => {
            let inner: Vec<u64> = seeds.iter().map(|seed| seed.rotate_left(17)).collect();
            let second = if depth == 0 { 4 } else { 12 + seeds.first().copied().unwrap_or(0) as usize % 7 };
            let children = vec![
                column(12, &inner, 0),
                column(second, seeds, depth.saturating_sub(1)),
                column(0, &inner, 0),
            ];
            let fields: Fields = children
                .iter()
                .zip(["a", "b", "c"])
                .map(|(child, name)| Field::new(name, child.data_type().clone(), true))
                .collect();
            Arc::new(StructArray::new(fields, children, nulls()))
        }
    }
}

fn encoded(layout: &RowLayout, columns: &[ArrayRef]) -> Vec<Vec<u8>> {
    let encoder = layout.encoder(columns).unwrap();
    (0..encoder.rows())
        .map(|row| {
            let mut bytes = Vec::new();
            encoder.encode(row, &mut bytes).unwrap();
            bytes
        })
        .collect()
}

fn types(columns: &[ArrayRef]) -> Vec<DataType> {
    columns.iter().map(|column| column.data_type().clone()).collect()
}

/// Reads one column of a row.
fn append(layout: &RowLayout, row: &[u8], column: usize, into: &mut ColumnBuilder) -> Result<(), RowError> {
    layout.append(column, layout.bytes(row, column)?, into)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    /// Every column comes back as it was, alone and in any order of rows, from sliced arrays too.
    #[test]
    fn rows_come_back(
        kinds in proptest::collection::vec(0_usize..19, 0..12),
        seeds in proptest::collection::vec(any::<u64>(), 1..8),
        skip in 0_usize..3,
    ) {
        let skip = skip.min(seeds.len() - 1);
        let columns: Vec<ArrayRef> = kinds
            .iter()
            .enumerate()
            .map(|(at, kind)| {
                let own: Vec<u64> = seeds.iter().map(|seed| seed.rotate_left(at as u32)).collect();
                column(*kind, &own, 2).slice(skip, seeds.len() - skip)
            })
            .collect();
        let layout = RowLayout::new(&types(&columns)).unwrap();
        let rows = encoded(&layout, &columns);
        for (at, column) in columns.iter().enumerate() {
            let mut forth = layout.builder(at, rows.len()).unwrap();
            let mut back = layout.builder(at, 0).unwrap();
            for row in 0..rows.len() {
                append(&layout, &rows[row], at, &mut forth).unwrap();
                back.append_null();
                append(&layout, &rows[rows.len() - 1 - row], at, &mut back).unwrap();
            }
            prop_assert_eq!(&forth.finish().unwrap(), column);
            let back = back.finish().unwrap();
            for row in 0..rows.len() {
                prop_assert!(back.is_null(2 * row));
                prop_assert_eq!(&back.slice(2 * row + 1, 1), &column.slice(rows.len() - 1 - row, 1));
            }
        }
    }

    /// Bytes that are no row give an error, never a panic, an endless allocation or a wrong array.
    #[test]
    fn damage_is_an_error(
        kinds in proptest::collection::vec(10_usize..19, 1..6),
        seeds in proptest::collection::vec(any::<u64>(), 1..3),
        flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4),
        cut in any::<u16>(),
    ) {
        let columns: Vec<ArrayRef> = kinds.iter().map(|kind| column(*kind, &seeds, 2)).collect();
        let layout = RowLayout::new(&types(&columns)).unwrap();
        let mut row = encoded(&layout, &columns).swap_remove(0);
        for (at, with) in flips {
            let at = usize::from(at) % row.len();
            row[at] ^= with;
        }
        row.truncate(row.len() - usize::from(cut) % row.len() / 2);
        for at in 0..columns.len() {
            let mut builder = layout.builder(at, 1).unwrap();
            if append(&layout, &row, at, &mut builder).is_ok() && let Ok(array) = builder.finish() {
                prop_assert_eq!(array.len(), 1);
            }
        }
    }
}

/// The row that `tests/compat` holds: one column of every kind, the first row valued, the second null.
fn every_kind() -> Vec<ArrayRef> {
    (0..19).map(|kind| column(kind, &[0x0123_4567_89AB_CDE6 | 1, 20], 1)).collect()
}

/// Rows written by format 1 load forever.
#[test]
fn format_1_loads() {
    let columns = every_kind();
    let layout = RowLayout::new(&types(&columns)).unwrap();
    let stored = include_str!("../../tests/compat/online-row-1.hex");
    let rows: Vec<Vec<u8>> = stored
        .lines()
        .map(|line| {
            (0..line.len() / 2).map(|at| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap()).collect()
        })
        .collect();
    assert_eq!(rows.len(), 2);
    for (at, column) in columns.iter().enumerate() {
        let mut builder = layout.builder(at, 2).unwrap();
        for row in &rows {
            append(&layout, row, at, &mut builder).unwrap();
        }
        assert_eq!(&builder.finish().unwrap(), column, "column {at}");
    }
    assert_eq!(encoded(&layout, &columns), rows, "written as before");
}

#[test]
fn what_is_refused() {
    let layout = RowLayout::new(&[DataType::Int64]).unwrap();
    let check = |result: Result<(), RowError>, expected: &str| {
        assert_eq!(result.unwrap_err().to_string(), expected);
    };
    check(
        RowLayout::new(&[DataType::Int64, DataType::LargeUtf8]).map(|_| ()),
        "column 1: the Arrow type LargeUtf8 cannot be kept in a row",
    );
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    check(layout.encoder(std::slice::from_ref(&text)).map(|_| ()), "column 0: expected Int64, found Utf8");
    check(layout.encoder(&[text.clone(), text]).map(|_| ()), "expected 1 columns, found 2");
    let mut builder = layout.builder(0, 1).unwrap();
    check(append(&layout, &[2, 1, 0, 0], 0, &mut builder), "row format 2 is newer than this Asof reads (1)");
    check(append(&layout, &[1, 1, 0, 0], 0, &mut builder), "the stored bytes are not a row of 1 columns");
    check(append(&layout, &[], 0, &mut builder), "the stored bytes are not a row of 1 columns");
}
