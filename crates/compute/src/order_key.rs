//! Order-preserving bytes of a value of any type: `o` of the order (SEMANTICS section 1).

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use asof_model::DataType;

use crate::cell::canonical_float;
use crate::{ComputeError, conform, from_arrow_type};

/// The order-preserving bytes of every row of an array; null, which comes first, is empty.
///
/// Comparing two of them as bytes compares the values: numbers by size with -0 as +0 and NaN last,
/// text and bytes by their bytes, false before true, lists and structs part by part.
///
/// # Errors
/// [`ComputeError::Unsupported`] where the array has no type of ours.
pub fn order_keys(array: &ArrayRef) -> Result<BinaryArray, ComputeError> {
    let data_type = from_arrow_type(array.data_type())
        .ok_or_else(|| ComputeError::Unsupported { found: array.data_type().to_string() })?;
    let array = conform(array, &data_type)?;
    let mut builder = BinaryBuilder::with_capacity(array.len(), array.len() * 9);
    let mut bytes = Vec::new();
    for row in 0..array.len() {
        bytes.clear();
        if array.is_valid(row) {
            bytes.push(1);
            write(&array, &data_type, row, false, &mut bytes)?;
        }
        builder.append_value(&bytes);
    }
    Ok(builder.finish())
}

/// [`order_keys`] of one row.
///
/// # Errors
/// As [`order_keys`].
pub fn order_key(array: &ArrayRef, row: usize) -> Result<Box<[u8]>, ComputeError> {
    Ok(order_keys(&array.slice(row, 1))?.value(0).into())
}

/// `inside`: further bytes follow, so text and bytes need an end.
fn write(
    array: &ArrayRef,
    of: &DataType,
    row: usize,
    inside: bool,
    out: &mut Vec<u8>,
) -> Result<(), ComputeError> {
    macro_rules! signed {
        ($kind:ty, $unsigned:ty) => {{
            let bits = array.as_primitive::<$kind>().value(row) as $unsigned;
            out.extend_from_slice(&(bits ^ (1 << (<$unsigned>::BITS - 1))).to_be_bytes())
        }};
    }
    macro_rules! unsigned {
        ($kind:ty) => {
            out.extend_from_slice(&array.as_primitive::<$kind>().value(row).to_be_bytes())
        };
    }
    match of {
        DataType::Bool => out.push(u8::from(array.as_boolean().value(row))),
        DataType::Int8 => signed!(Int8Type, u8),
        DataType::Int16 => signed!(Int16Type, u16),
        DataType::Int32 => signed!(Int32Type, u32),
        DataType::Int64 => signed!(Int64Type, u64),
        DataType::Date => signed!(Date32Type, u32),
        DataType::Timestamp => signed!(TimestampMicrosecondType, u64),
        DataType::Decimal { .. } => signed!(Decimal128Type, u128),
        DataType::UInt8 => unsigned!(UInt8Type),
        DataType::UInt16 => unsigned!(UInt16Type),
        DataType::UInt32 => unsigned!(UInt32Type),
        DataType::UInt64 => unsigned!(UInt64Type),
        DataType::Float32 => write_float(f64::from(array.as_primitive::<Float32Type>().value(row)), out),
        DataType::Float64 => write_float(array.as_primitive::<Float64Type>().value(row), out),
        DataType::String | DataType::Json => {
            write_text(array.as_string::<i32>().value(row).as_bytes(), inside, out);
        }
        DataType::Bytes => write_text(array.as_binary::<i32>().value(row), inside, out),
        DataType::Uuid => out.extend_from_slice(array.as_fixed_size_binary().value(row)),
        DataType::List(item) => {
            let items = array.as_list::<i32>().value(row);
            for index in 0..items.len() {
                // 0 ends a list, so a shorter list comes before its continuations.
                out.push(if items.is_null(index) { 1 } else { 2 });
                if items.is_valid(index) {
                    write(&items, item, index, true, out)?;
                }
            }
            out.push(0);
        }
        DataType::Struct(fields) => {
            for (column, (_, kind)) in array.as_struct().columns().iter().zip(fields) {
                out.push(u8::from(column.is_valid(row)));
                if column.is_valid(row) {
                    write(column, kind, row, true, out)?;
                }
            }
        }
    }
    Ok(())
}

/// The bits of a float, turned so that they compare as the numbers do, NaN after infinity.
fn write_float(value: f64, out: &mut Vec<u8>) {
    let bits = canonical_float(value).abs().to_bits();
    let turned = if value < 0.0 { !bits & !(1 << 63) } else { bits | 1 << 63 };
    out.extend_from_slice(&turned.to_be_bytes());
}

fn write_text(bytes: &[u8], inside: bool, out: &mut Vec<u8>) {
    if !inside {
        out.extend_from_slice(bytes);
        return;
    }
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray, StringArray, UInt64Array,
    };
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn bytes_order_as_values_do() {
        let list = |rows: Vec<Option<Vec<Option<i32>>>>| {
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows)) as ArrayRef
        };
        // Each in ascending order, all different.
        let ascending: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![
                None,
                Some(i64::MIN),
                Some(-1),
                Some(0),
                Some(1),
                Some(i64::MAX),
            ])),
            Arc::new(UInt64Array::from(vec![None, Some(0), Some(1), Some(u64::MAX)])),
            Arc::new(Float64Array::from(vec![
                None,
                Some(f64::NEG_INFINITY),
                Some(-1.5),
                Some(-f64::MIN_POSITIVE),
                Some(0.0),
                Some(f64::MIN_POSITIVE),
                Some(1.5),
                Some(f64::INFINITY),
                Some(f64::NAN),
            ])),
            Arc::new(StringArray::from(vec![None, Some(""), Some("a"), Some("a\0"), Some("ab"), Some("b")])),
            Arc::new(BooleanArray::from(vec![None, Some(false), Some(true)])),
            Arc::new(Decimal128Array::from(vec![None, Some(-5), Some(0), Some(7)])),
            list(vec![
                None,
                Some(vec![]),
                Some(vec![None]),
                Some(vec![Some(-1)]),
                Some(vec![Some(-1), Some(0)]),
                Some(vec![Some(2)]),
            ]),
        ];
        for array in ascending {
            let keys = order_keys(&array).unwrap();
            for row in 1..keys.len() {
                assert!(keys.value(row - 1) < keys.value(row), "{:?} at {row}", array.data_type());
            }
        }
        let zeros: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]));
        assert_eq!(order_key(&zeros, 0).unwrap(), order_key(&zeros, 1).unwrap());
        assert_eq!(order_key(&zeros, 2).unwrap(), order_key(&zeros, 3).unwrap());
    }
}
