//! Values as they are kept in states: numbers or bytes that compare as the values do, read from an array of any
//! layout and built back to one.
//!
//! The order is that of [`crate::order_key`]: numbers by size with -0 as +0 and NaN last, text and bytes by their
//! bytes, false before true, lists and structs part by part.

mod builder;
mod text;

use std::fmt;
use std::hash::Hash;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use asof_model::DataType;

use super::stored::{Reading, write_bytes, write_number};
use crate::order_key::{order_bytes, turn_float, turned_float};
use crate::{ComputeError, conform};

pub(super) use builder::ScalarBuilder;
pub(super) use text::Text;

/// The sign bit of 64: turned over, signed numbers compare as unsigned ones.
pub(super) const SIGN: u64 = 1 << 63;
/// The sign bit of 128.
pub(super) const WIDE_SIGN: u128 = 1 << 127;

/// A value of one of three forms, by its type ([`scalar_of!`]).
pub(super) trait Scalar: Clone + Default + Ord + Hash + fmt::Debug + Send + Sync + 'static {
    /// The values of a batch.
    type Values: Send + Sync + 'static;

    /// Reads an array as values of a type; where it is null there is any value.
    fn values(array: &ArrayRef, of: &DataType) -> Result<Self::Values, ComputeError>;

    /// The value of a row.
    fn get(values: &Self::Values, row: usize) -> Self;

    /// How the value of a row compares with this one, without its being made.
    fn compare(values: &Self::Values, row: usize, with: &Self) -> std::cmp::Ordering;

    /// Appends it to an array that is built.
    fn push(&self, to: &mut ScalarBuilder);

    /// Appends the bytes of a value of a type, which say where they end (`docs/formats/state.md`).
    fn write(&self, of: &DataType, out: &mut Vec<u8>);

    /// The value of a type that such bytes hold.
    fn read(of: &DataType, from: &mut Reading<'_>) -> Result<Self, ComputeError>;

    /// The greatest value there is, or the least, of forms whose values are moved as quickly as compared.
    fn limit(_greatest: bool) -> Option<Self> {
        None
    }

    /// Bytes it holds besides itself.
    fn heap(&self) -> usize {
        0
    }
}

/// The form of values of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `u64`: what 64 bits hold.
    Number,
    /// `u128`: decimals and uuids.
    Wide,
    /// [`Text`]: everything else.
    Text,
}

impl Form {
    pub(super) fn of(of: &DataType) -> Form {
        match of {
            DataType::Decimal { .. } | DataType::Uuid => Form::Wide,
            DataType::String | DataType::Json | DataType::Bytes | DataType::List(_) | DataType::Struct(_) => {
                Form::Text
            }
            _ => Form::Number,
        }
    }
}

/// An expression with a type named as the [`Scalar`] that holds values of a [`DataType`].
macro_rules! scalar_of {
    ($of:expr, $scalar:ident => $made:expr) => {
        match $crate::aggregate::scalar::Form::of($of) {
            $crate::aggregate::scalar::Form::Number => {
                type $scalar = u64;
                $made
            }
            $crate::aggregate::scalar::Form::Wide => {
                type $scalar = u128;
                $made
            }
            $crate::aggregate::scalar::Form::Text => {
                type $scalar = $crate::aggregate::scalar::Text;
                $made
            }
        }
    };
}
pub(super) use scalar_of;

/// Whether values of a type are numbers with a sign, once turned back.
fn is_signed(of: &DataType) -> bool {
    use DataType::{Date, Int8, Int16, Int32, Int64, Timestamp};
    matches!(of, Int8 | Int16 | Int32 | Int64 | Date | Timestamp)
}

fn is_float(of: &DataType) -> bool {
    matches!(of, DataType::Float32 | DataType::Float64)
}

/// Whether a turned number is that of some value of a type.
fn fits(number: u64, of: &DataType) -> bool {
    let signed = (number ^ SIGN).cast_signed();
    match of {
        DataType::Bool => number <= 1,
        DataType::Int8 => i8::try_from(signed).is_ok(),
        DataType::Int16 => i16::try_from(signed).is_ok(),
        DataType::Int32 | DataType::Date => i32::try_from(signed).is_ok(),
        DataType::UInt8 => u8::try_from(number).is_ok(),
        DataType::UInt16 => u16::try_from(number).is_ok(),
        DataType::UInt32 => u32::try_from(number).is_ok(),
        DataType::Float64 => turn_float(turned_float(number)) == number,
        DataType::Float32 => turn_float(f64::from(turned_float(number) as f32)) == number,
        _ => true,
    }
}

/// The numbers of a batch, turned as they are read, so that an array that has 64 bits of each is not copied.
#[derive(Debug)]
pub(super) struct NumberValues {
    values: ScalarBuffer<u64>,
    turn: Turn,
}

/// How bits become numbers that compare as the values do.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// By turning these over.
    Bits(u64),
    /// As those of a float64.
    Float,
}

impl Scalar for u64 {
    type Values = NumberValues;

    fn values(array: &ArrayRef, of: &DataType) -> Result<NumberValues, ComputeError> {
        fn read<T: ArrowPrimitiveType>(
            array: &ArrayRef,
            turn: impl Fn(T::Native) -> u64,
        ) -> ScalarBuffer<u64> {
            array.as_primitive::<T>().values().iter().map(|value| turn(*value)).collect()
        }
        fn signed<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &ArrayRef) -> ScalarBuffer<u64> {
            read::<T>(array, |value| value.into().cast_unsigned())
        }
        fn same<T: ArrowPrimitiveType>(array: &ArrayRef) -> ScalarBuffer<u64> {
            array.as_primitive::<T>().values().inner().clone().into()
        }
        let array = &conform(array, of)?;
        let values = match of {
            DataType::Bool => array.as_boolean().values().iter().map(u64::from).collect(),
            DataType::Int8 => signed::<Int8Type>(array),
            DataType::Int16 => signed::<Int16Type>(array),
            DataType::Int32 => signed::<Int32Type>(array),
            DataType::Int64 => same::<Int64Type>(array),
            DataType::Date => signed::<Date32Type>(array),
            DataType::Timestamp => same::<TimestampMicrosecondType>(array),
            DataType::UInt8 => read::<UInt8Type>(array, u64::from),
            DataType::UInt16 => read::<UInt16Type>(array, u64::from),
            DataType::UInt32 => read::<UInt32Type>(array, u64::from),
            DataType::UInt64 => same::<UInt64Type>(array),
            DataType::Float32 => read::<Float32Type>(array, |value| turn_float(f64::from(value))),
            DataType::Float64 => same::<Float64Type>(array),
            _ => return Err(no_form(array)),
        };
        let turn = match of {
            DataType::Float64 => Turn::Float,
            of => Turn::Bits(if is_signed(of) { SIGN } else { 0 }),
        };
        Ok(NumberValues { values, turn })
    }

    #[inline]
    fn get(values: &NumberValues, row: usize) -> u64 {
        let bits = values.values[row];
        match values.turn {
            Turn::Bits(by) => bits ^ by,
            Turn::Float => turn_float(f64::from_bits(bits)),
        }
    }

    #[inline]
    fn limit(greatest: bool) -> Option<u64> {
        Some(if greatest { u64::MAX } else { 0 })
    }

    #[inline]
    fn compare(values: &NumberValues, row: usize, with: &u64) -> std::cmp::Ordering {
        u64::get(values, row).cmp(with)
    }

    fn push(&self, to: &mut ScalarBuilder) {
        to.push_number(*self);
    }

    fn write(&self, of: &DataType, out: &mut Vec<u8>) {
        if is_float(of) {
            out.extend_from_slice(&self.to_be_bytes());
        } else if is_signed(of) {
            write_number(i128::from((self ^ SIGN).cast_signed()), out);
        } else {
            write_number(i128::from(*self), out);
        }
    }

    fn read(of: &DataType, from: &mut Reading<'_>) -> Result<u64, ComputeError> {
        let number = if is_float(of) {
            from.take(8)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
        } else if is_signed(of) {
            from.number::<i64>()?.cast_unsigned() ^ SIGN
        } else {
            from.number()?
        };
        if fits(number, of) { Ok(number) } else { Err(from.damaged("a value is none of its type")) }
    }
}

impl Scalar for u128 {
    type Values = Vec<u128>;

    fn values(array: &ArrayRef, of: &DataType) -> Result<Vec<u128>, ComputeError> {
        let array = conform(array, of)?;
        Ok(match of {
            DataType::Decimal { .. } => {
                let values = array.as_primitive::<Decimal128Type>().values();
                values.iter().map(|value| value.cast_unsigned() ^ WIDE_SIGN).collect()
            }
            DataType::Uuid => {
                let values = array.as_fixed_size_binary();
                (0..values.len()).map(|row| wide(values.value(row))).collect()
            }
            _ => return Err(no_form(&array)),
        })
    }

    #[inline]
    fn get(values: &Vec<u128>, row: usize) -> u128 {
        values[row]
    }

    #[inline]
    fn limit(greatest: bool) -> Option<u128> {
        Some(if greatest { u128::MAX } else { 0 })
    }

    #[inline]
    fn compare(values: &Vec<u128>, row: usize, with: &u128) -> std::cmp::Ordering {
        values[row].cmp(with)
    }

    fn push(&self, to: &mut ScalarBuilder) {
        to.push_wide(*self);
    }

    fn write(&self, of: &DataType, out: &mut Vec<u8>) {
        match of {
            DataType::Uuid => out.extend_from_slice(&self.to_be_bytes()),
            _ => write_number((self ^ WIDE_SIGN).cast_signed(), out),
        }
    }

    fn read(of: &DataType, from: &mut Reading<'_>) -> Result<u128, ComputeError> {
        match of {
            DataType::Uuid => from.take(16).map(wide),
            _ => Ok(from.number::<i128>()?.cast_unsigned() ^ WIDE_SIGN),
        }
    }
}

/// Bytes as one number, the first the highest.
fn wide(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

impl Scalar for Text {
    type Values = BinaryArray;

    fn values(array: &ArrayRef, of: &DataType) -> Result<BinaryArray, ComputeError> {
        order_bytes(array, of)
    }

    #[inline]
    fn get(values: &BinaryArray, row: usize) -> Text {
        Text::new(values.value(row))
    }

    #[inline]
    fn compare(values: &BinaryArray, row: usize, with: &Text) -> std::cmp::Ordering {
        values.value(row).cmp(with.bytes())
    }

    fn push(&self, to: &mut ScalarBuilder) {
        to.push_bytes(self.bytes());
    }

    fn write(&self, _: &DataType, out: &mut Vec<u8>) {
        write_bytes(self.bytes(), out);
    }

    fn read(of: &DataType, from: &mut Reading<'_>) -> Result<Text, ComputeError> {
        let bytes = from.bytes()?;
        if ScalarBuilder::reads(of, bytes) {
            Ok(Text::new(bytes))
        } else {
            Err(from.damaged("a value is none of its type"))
        }
    }

    fn heap(&self) -> usize {
        self.heap_bytes()
    }
}

fn no_form(array: &ArrayRef) -> ComputeError {
    ComputeError::Unsupported { found: array.data_type().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that would be a value, were they of another type.
    #[test]
    fn what_is_no_value_of_the_type_is_refused() {
        fn check<S: Scalar>(of: &str, bytes: &[u8], good: bool) {
            let of = DataType::parse(of).unwrap();
            let bytes = [&[1], bytes].concat();
            let read = Reading::new("value", 1, &bytes).unwrap().whole(|from| S::read(&of, from));
            assert_eq!(read.is_ok(), good, "{of}: {bytes:?}");
            if let Ok(value) = read {
                let mut written = vec![1];
                value.write(&of, &mut written);
                assert_eq!(written, bytes, "{of}");
                let mut builder = ScalarBuilder::new(&of, 1);
                value.push(&mut builder);
                let array = builder.finish().unwrap();
                let again = S::values(&array, &of).unwrap();
                assert!(S::get(&again, 0) == value, "{of}: an array and back");
            }
        }
        let number = |number: i128| {
            let mut bytes = Vec::new();
            write_number(number, &mut bytes);
            bytes
        };
        for (of, least, greatest) in [
            ("bool", 0, 1),
            ("int8", -128, 127),
            ("int16", -32_768, 32_767),
            ("int32", -2_147_483_648, 2_147_483_647),
            ("int64", i128::from(i64::MIN), i128::from(i64::MAX)),
            ("uint8", 0, 255),
            ("uint16", 0, 65_535),
            ("uint32", 0, 4_294_967_295),
            ("uint64", 0, i128::from(u64::MAX)),
            ("date", -2_147_483_648, 2_147_483_647),
            ("timestamp", i128::from(i64::MIN), i128::from(i64::MAX)),
        ] {
            check::<u64>(of, &number(least), true);
            check::<u64>(of, &number(greatest), true);
            check::<u64>(of, &number(least - 1), false);
            check::<u64>(of, &number(greatest + 1), false);
        }
        // -0, another NaN, and what has more digits than a float32.
        check::<u64>("float64", &turn_float(-2.5).to_be_bytes(), true);
        check::<u64>("float64", &turn_float(f64::NAN).to_be_bytes(), true);
        check::<u64>("float64", &0x7fff_ffff_ffff_ffff_u64.to_be_bytes(), false);
        check::<u64>("float64", &(turn_float(f64::NAN) + 1).to_be_bytes(), false);
        check::<u64>("float32", &turn_float(0.5).to_be_bytes(), true);
        check::<u64>("float32", &turn_float(0.1).to_be_bytes(), false);
        check::<u128>("uuid", &[7; 16], true);
        check::<u128>("uuid", &[7; 15], false);
        check::<u128>("decimal(9,2)", &number(-12_345), true);
        check::<Text>("string", &[4, 0xc3, 0xa9], true);
        check::<Text>("string", &[2, 0xc3], false);
        check::<Text>("bytes", &[2, 0xc3], true);
        // A list of a null and "a\0", and what is cut off, left over or of another kind.
        check::<Text>("list<string>", &[16, 1, 2, b'a', 0, 255, 0, 0, 0], true);
        check::<Text>("list<string>", &[14, 1, 2, b'a', 0, 255, 0, 0], false);
        check::<Text>("list<string>", &[18, 1, 2, b'a', 0, 255, 0, 0, 0, 0], false);
        check::<Text>("list<string>", &[2, 3], false);
        check::<Text>("list<int8>", &[6, 2, 0x7f, 0], true);
        check::<Text>("list<bool>", &[6, 2, 7, 0], false);
        check::<Text>("struct<a: int8, b: bool>", &[6, 0, 1, 1], true);
        check::<Text>("struct<a: int8, b: bool>", &[4, 0, 1], false);
    }
}
