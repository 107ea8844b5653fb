//! The canonical bytes of one value, whatever array holds it: the base of row digests and entity keys
//! (`docs/formats/row.md`).

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float32Array,
    Float64Array, ListArray, StringArray,
};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use asof_model::DataType;

use crate::{ComputeError, conform};

/// The values of one column, ready to be written one by one.
#[derive(Debug)]
pub(crate) struct Cells {
    tag: u8,
    values: Values,
    nulls: ArrayRef,
}

#[derive(Debug)]
enum Values {
    Bool(BooleanArray),
    /// Integers of up to 64 bits, dates and timestamps, widened; `width` bytes are written.
    Int(Vec<i64>, usize),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal(Decimal128Array),
    String(StringArray),
    Bytes(BinaryArray),
    Fixed(FixedSizeBinaryArray),
    List(ListArray, Box<Cells>),
    Struct(Vec<(String, Cells)>),
}

impl Cells {
    /// Reads an array as values of a type.
    pub(crate) fn new(array: &ArrayRef, of: &DataType) -> Result<Cells, ComputeError> {
        let array = conform(array, of)?;
        macro_rules! int {
            ($kind:ty, $width:expr) => {
                Values::Int(
                    array.as_primitive::<$kind>().values().iter().map(|v| *v as i64).collect(),
                    $width,
                )
            };
        }
        let values = match of {
            DataType::Bool => Values::Bool(array.as_boolean().clone()),
            DataType::Int8 => int!(Int8Type, 1),
            DataType::Int16 => int!(Int16Type, 2),
            DataType::Int32 => int!(Int32Type, 4),
            DataType::Int64 => int!(Int64Type, 8),
            DataType::UInt8 => int!(UInt8Type, 1),
            DataType::UInt16 => int!(UInt16Type, 2),
            DataType::UInt32 => int!(UInt32Type, 4),
            // The bits, not the number: the upper half turns negative and back when written.
            DataType::UInt64 => int!(UInt64Type, 8),
            DataType::Date => int!(Date32Type, 4),
            DataType::Timestamp => int!(TimestampMicrosecondType, 8),
            DataType::Float32 => Values::Float32(array.as_primitive::<Float32Type>().clone()),
            DataType::Float64 => Values::Float64(array.as_primitive::<Float64Type>().clone()),
            DataType::Decimal { .. } => Values::Decimal(array.as_primitive::<Decimal128Type>().clone()),
            DataType::String | DataType::Json => Values::String(array.as_string::<i32>().clone()),
            DataType::Bytes => Values::Bytes(array.as_binary::<i32>().clone()),
            DataType::Uuid => Values::Fixed(array.as_fixed_size_binary().clone()),
            DataType::List(item) => {
                let list = array.as_list::<i32>().clone();
                let items = Cells::new(list.values(), item)?;
                Values::List(list, Box::new(items))
            }
            DataType::Struct(fields) => {
                let found = array.as_struct();
                let mut cells = Vec::with_capacity(fields.len());
                for (column, (name, kind)) in found.columns().iter().zip(fields) {
                    cells.push((name.clone(), Cells::new(column, kind)?));
                }
                cells.sort_by(|a, b| a.0.cmp(&b.0));
                Values::Struct(cells)
            }
        };
        Ok(Cells { tag: tag(of), values, nulls: Arc::clone(&array) })
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.nulls.is_null(row)
    }

    /// Appends the value of a row that is not null: a type tag, then self-delimiting bytes.
    pub(crate) fn write(&self, row: usize, out: &mut Vec<u8>) {
        out.push(self.tag);
        match &self.values {
            Values::Bool(values) => out.push(u8::from(values.value(row))),
            Values::Int(values, width) => out.extend_from_slice(&values[row].to_le_bytes()[..*width]),
            Values::Float32(values) => {
                let value = values.value(row);
                let value = if value.is_nan() { f32::NAN } else { value + 0.0 };
                out.extend_from_slice(&value.to_bits().to_le_bytes());
            }
            Values::Float64(values) => {
                let value = canonical_float(values.value(row));
                out.extend_from_slice(&value.to_bits().to_le_bytes());
            }
            Values::Decimal(values) => out.extend_from_slice(&values.value(row).to_le_bytes()),
            Values::String(values) => write_bytes(values.value(row).as_bytes(), out),
            Values::Bytes(values) => write_bytes(values.value(row), out),
            Values::Fixed(values) => out.extend_from_slice(values.value(row)),
            Values::List(list, items) => {
                let offsets = list.value_offsets();
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                write_length(end - start, out);
                for item in start..end {
                    if items.is_null(item) {
                        out.push(0);
                    } else {
                        items.write(item, out);
                    }
                }
            }
            Values::Struct(fields) => {
                write_length(fields.iter().filter(|(_, cells)| !cells.is_null(row)).count(), out);
                for (name, cells) in fields.iter().filter(|(_, cells)| !cells.is_null(row)) {
                    write_bytes(name.as_bytes(), out);
                    cells.write(row, out);
                }
            }
        }
    }
}

/// -0 is +0, every NaN the canonical one.
#[inline]
pub(crate) fn canonical_float(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value + 0.0 }
}

/// A length as LEB128, then the bytes.
pub(crate) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// LEB128: seven bits a byte, lowest first, the high bit set on all but the last.
pub(crate) fn write_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// The byte that names a type in canonical bytes; 0 is null. Never changed, only added to.
fn tag(of: &DataType) -> u8 {
    match of {
        DataType::Bool => 1,
        DataType::Int8 => 2,
        DataType::Int16 => 3,
        DataType::Int32 => 4,
        DataType::Int64 => 5,
        DataType::UInt8 => 6,
        DataType::UInt16 => 7,
        DataType::UInt32 => 8,
        DataType::UInt64 => 9,
        DataType::Float32 => 10,
        DataType::Float64 => 11,
        DataType::Decimal { .. } => 12,
        DataType::String => 13,
        DataType::Bytes => 14,
        DataType::Date => 15,
        DataType::Timestamp => 16,
        DataType::Uuid => 17,
        DataType::Json => 18,
        DataType::List(_) => 19,
        DataType::Struct(_) => 20,
    }
}
