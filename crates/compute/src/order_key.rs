//! Order-preserving bytes of a value of any type: `o` of the order (SEMANTICS section 1).

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType as ArrowType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
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

/// Whether values of a type have [`order_numbers`]: whole numbers and times that numbers of 64 bits hold.
pub fn has_order_numbers(data_type: &DataType) -> bool {
    use DataType::{Date, Int8, Int16, Int32, Int64, Timestamp, UInt8, UInt16, UInt32};
    matches!(data_type, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | Date | Timestamp)
}

/// The values of such a type as numbers that compare as [`order_keys`] do; nulls, which come first, are null.
///
/// # Errors
/// [`ComputeError::Unsupported`] for an array of another type.
pub fn order_numbers(array: &ArrayRef) -> Result<Int64Array, ComputeError> {
    let unsupported = || ComputeError::Unsupported { found: array.data_type().to_string() };
    let data_type = from_arrow_type(array.data_type()).filter(has_order_numbers).ok_or_else(unsupported)?;
    let array = conform(array, &data_type)?;
    let array = match data_type {
        // There is no other way from days to 64 bits.
        DataType::Date => cast(&array, &ArrowType::Int32).map_err(|_| unsupported())?,
        _ => array,
    };
    let numbers = cast(&array, &ArrowType::Int64).map_err(|_| unsupported())?;
    Ok(numbers.as_primitive::<Int64Type>().clone())
}

/// The order-preserving bytes of text, bytes, lists or structs without the byte that tells them from null; where a row
/// is null there are any.
pub(crate) fn order_bytes(array: &ArrayRef, of: &DataType) -> Result<BinaryArray, ComputeError> {
    let array = conform(array, of)?;
    match of {
        DataType::String | DataType::Json => Ok(BinaryArray::from(array.as_string::<i32>().clone())),
        DataType::Bytes => Ok(array.as_binary::<i32>().clone()),
        _ => {
            let mut builder = BinaryBuilder::with_capacity(array.len(), array.len() * 9);
            let mut bytes = Vec::new();
            for row in 0..array.len() {
                bytes.clear();
                if array.is_valid(row) {
                    write(&array, of, row, false, &mut bytes)?;
                }
                builder.append_value(&bytes);
            }
            Ok(builder.finish())
        }
    }
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

fn write_float(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&turn_float(value).to_be_bytes());
}

/// The bits of a float, turned so that they compare as the numbers do, -0 as +0 and NaN after infinity.
#[inline]
pub(crate) fn turn_float(value: f64) -> u64 {
    let bits = canonical_float(value).abs().to_bits();
    if value < 0.0 { !bits & !(1 << 63) } else { bits | 1 << 63 }
}

/// The float whose bits [`turn_float`] turned.
#[inline]
pub(crate) fn turned_float(turned: u64) -> f64 {
    f64::from_bits(if turned >> 63 == 0 { !turned } else { turned & !(1 << 63) })
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
        BooleanArray, Date32Array, Decimal128Array, Float64Array, Int8Array, Int16Array, Int32Array,
        Int64Array, ListArray, StringArray, TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array,
        UInt64Array,
    };
    use arrow::datatypes::Int32Type;

    use super::*;

    /// One order, whether it is read from bytes or from numbers.
    #[test]
    fn numbers_order_as_bytes_do() {
        macro_rules! of {
            ($kind:ty, $($value:expr),+) => { Arc::new(<$kind>::from(vec![None, $(Some($value)),+])) as ArrayRef };
        }
        let arrays = [
            of!(Int8Array, i8::MIN, -1, 0, i8::MAX),
            of!(Int16Array, i16::MIN, -1, 0, i16::MAX),
            of!(Int32Array, i32::MIN, -1, 0, i32::MAX),
            of!(Int64Array, i64::MIN, -1, 0, i64::MAX),
            of!(UInt8Array, 0, 127, 128, u8::MAX),
            of!(UInt16Array, 0, 32_767, 32_768, u16::MAX),
            of!(UInt32Array, 0, 1, 1 << 31, u32::MAX),
            of!(Date32Array, -719_162, -1, 0, 2_932_896),
            of!(TimestampMicrosecondArray, -62_135_596_800_000_000, -1, 0, 1),
        ];
        for array in &arrays {
            assert!(has_order_numbers(&from_arrow_type(array.data_type()).unwrap()));
            let (bytes, numbers) = (order_keys(array).unwrap(), order_numbers(array).unwrap());
            assert!(numbers.is_null(0) && numbers.null_count() == 1);
            for (one, two) in (1..5).flat_map(|one| (1..5).map(move |two| (one, two))) {
                let by_bytes = bytes.value(one).cmp(bytes.value(two));
                let by_numbers = numbers.value(one).cmp(&numbers.value(two));
                assert_eq!(by_numbers, by_bytes, "{:?}: {one} and {two}", array.data_type());
            }
        }
        assert!(order_numbers(&of!(UInt64Array, 0, u64::MAX)).is_err());
        assert!(order_numbers(&of!(Float64Array, 0.5)).is_err());
    }

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
