//! Scalars back to an array.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, ListArray, NullBufferBuilder,
    PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType as ArrowType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use asof_model::DataType;

use super::{Form, SIGN, WIDE_SIGN, fits, wide};
use crate::arrow_type;
use crate::order_key::turned_float;

/// Collects values of one type.
#[derive(Debug)]
pub(in crate::aggregate) struct ScalarBuilder {
    of: DataType,
    nulls: NullBufferBuilder,
    values: Values,
    /// How far an array counts where texts and lists end.
    limit: usize,
    /// One ended further.
    is_full: bool,
}

#[derive(Debug)]
enum Values {
    Numbers(Vec<u64>),
    Wide(Vec<u128>),
    /// Where each ends, from 0 on, and all of them.
    Bytes(Vec<i32>, Vec<u8>),
    List(Vec<i32>, Box<ScalarBuilder>),
    Struct(Vec<ScalarBuilder>),
}

impl ScalarBuilder {
    pub(in crate::aggregate) fn new(of: &DataType, capacity: usize) -> ScalarBuilder {
        let ends = || {
            let mut ends = Vec::with_capacity(capacity + 1);
            ends.push(0);
            ends
        };
        let values = match (of, Form::of(of)) {
            (_, Form::Number) => Values::Numbers(Vec::with_capacity(capacity)),
            (_, Form::Wide) => Values::Wide(Vec::with_capacity(capacity)),
            (DataType::List(item), _) => Values::List(ends(), Box::new(ScalarBuilder::new(item, 0))),
            (DataType::Struct(fields), _) => {
                Values::Struct(fields.iter().map(|(_, of)| ScalarBuilder::new(of, capacity)).collect())
            }
            (_, Form::Text) => Values::Bytes(ends(), Vec::new()),
        };
        let nulls = NullBufferBuilder::new(capacity);
        ScalarBuilder { of: of.clone(), nulls, values, limit: i32::MAX as usize, is_full: false }
    }

    pub(in crate::aggregate) fn len(&self) -> usize {
        self.nulls.len()
    }

    pub(in crate::aggregate) fn push_null(&mut self) {
        self.nulls.append_null();
        match &mut self.values {
            Values::Numbers(numbers) => numbers.push(0),
            Values::Wide(numbers) => numbers.push(0),
            Values::Bytes(ends, _) | Values::List(ends, _) => ends.push(ends.last().copied().unwrap_or(0)),
            Values::Struct(fields) => fields.iter_mut().for_each(ScalarBuilder::push_null),
        }
    }

    pub(in crate::aggregate) fn push_number(&mut self, number: u64) {
        if let Values::Numbers(numbers) = &mut self.values {
            numbers.push(number);
            self.nulls.append_non_null();
        }
    }

    pub(super) fn push_wide(&mut self, number: u128) {
        if let Values::Wide(numbers) = &mut self.values {
            numbers.push(number);
            self.nulls.append_non_null();
        }
    }

    /// Text and bytes as they are, lists and structs as [`crate::order_key`] has them, all of them read from arrays or
    /// found to be such by [`ScalarBuilder::reads`].
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        // What cannot be read is too long: everything else was asked before.
        self.is_full = self.is_full || self.read(&mut &*bytes, false).is_none();
    }

    /// Appends a list, whose items are appended to what `fill` is given.
    pub(in crate::aggregate) fn push_list(&mut self, fill: impl FnOnce(&mut ScalarBuilder)) {
        if self.is_full {
            return;
        }
        if let Values::List(ends, items) = &mut self.values {
            fill(items);
            match end(items.len(), self.limit) {
                Some(end) if !items.is_full => ends.push(end),
                _ => self.is_full = true,
            }
            self.nulls.append_non_null();
        }
    }

    /// Appends a struct, each of whose fields is appended to what `fill` is given.
    pub(in crate::aggregate) fn push_struct(&mut self, fill: impl FnOnce(&mut [ScalarBuilder])) {
        if let Values::Struct(fields) = &mut self.values {
            fill(fields);
            self.is_full = self.is_full || fields.iter().any(|field| field.is_full);
            self.nulls.append_non_null();
        }
    }

    /// Whether bytes hold a value of a type of the form [`Form::Text`], as [`crate::order_key`] writes it.
    pub(super) fn reads(of: &DataType, bytes: &[u8]) -> bool {
        let rest = &mut &*bytes;
        ScalarBuilder::new(of, 1).read(rest, false).is_some() && rest.is_empty()
    }

    /// Appends the value at the beginning of order-preserving bytes, and leaves what follows it. `inside`: of a list
    /// or struct, where text and bytes have an end. None, and anything appended, where they are no such bytes.
    fn read(&mut self, from: &mut &[u8], inside: bool) -> Option<()> {
        match &mut self.values {
            Values::Numbers(numbers) => numbers.push(read_number(&self.of, from)?),
            Values::Wide(numbers) => numbers.push(wide(from.split_off(..16)?)),
            Values::Bytes(ends, bytes) => {
                let start = bytes.len();
                if inside {
                    read_text(from, bytes)?;
                } else {
                    bytes.extend_from_slice(from);
                    *from = &[];
                }
                let text = matches!(self.of, DataType::String | DataType::Json);
                if text && std::str::from_utf8(&bytes[start..]).is_err() {
                    return None;
                }
                ends.push(end(bytes.len(), self.limit)?);
            }
            Values::List(ends, items) => {
                loop {
                    match from.split_off_first()? {
                        0 => break,
                        1 => items.push_null(),
                        2 => items.read(from, true)?,
                        _ => return None,
                    }
                }
                ends.push(end(items.len(), self.limit)?);
            }
            Values::Struct(fields) => {
                for field in fields {
                    match from.split_off_first()? {
                        0 => field.push_null(),
                        1 => field.read(from, true)?,
                        _ => return None,
                    }
                }
            }
        }
        self.nulls.append_non_null();
        Some(())
    }

    /// The array; none where the texts or lists are more than one holds.
    pub(in crate::aggregate) fn finish(mut self) -> Option<ArrayRef> {
        if self.is_full {
            return None;
        }
        let of = arrow_type(&self.of);
        let nulls = self.nulls.finish();
        match self.values {
            Values::Numbers(numbers) => Some(numbers_array(&self.of, &of, numbers, nulls)),
            Values::Wide(numbers) => wide_array(&self.of, &of, numbers, nulls),
            Values::Bytes(ends, bytes) => {
                let (ends, bytes) = (OffsetBuffer::new(ScalarBuffer::from(ends)), Buffer::from_vec(bytes));
                match of {
                    ArrowType::Utf8 => {
                        StringArray::try_new(ends, bytes, nulls).ok().map(|array| Arc::new(array) as ArrayRef)
                    }
                    _ => {
                        BinaryArray::try_new(ends, bytes, nulls).ok().map(|array| Arc::new(array) as ArrayRef)
                    }
                }
            }
            Values::List(ends, items) => match &of {
                ArrowType::List(item) => {
                    let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
                    let list = ListArray::try_new(Arc::clone(item), ends, items.finish()?, nulls);
                    list.ok().map(|array| Arc::new(array) as ArrayRef)
                }
                _ => None,
            },
            Values::Struct(values) => match &of {
                ArrowType::Struct(fields) => {
                    let values = values.into_iter().map(ScalarBuilder::finish).collect::<Option<Vec<_>>>()?;
                    let made = StructArray::try_new(fields.clone(), values, nulls);
                    made.ok().map(|array| Arc::new(array) as ArrayRef)
                }
                _ => None,
            },
        }
    }
}

/// Where a text or list ends, if an array counts so far.
fn end(length: usize, limit: usize) -> Option<i32> {
    i32::try_from(length).ok().filter(|_| length <= limit)
}

/// A number as [`crate::order_key`] writes it, at its type's width, as it is kept.
fn read_number(of: &DataType, from: &mut &[u8]) -> Option<u64> {
    let (width, signed) = match of {
        DataType::Bool | DataType::UInt8 => (1, false),
        DataType::Int8 => (1, true),
        DataType::Int16 => (2, true),
        DataType::UInt16 => (2, false),
        DataType::Int32 | DataType::Date => (4, true),
        DataType::UInt32 => (4, false),
        _ => (8, false),
    };
    let number = from.split_off(..width)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    // A sign bit of its width becomes one of 64 bits.
    let number = if signed { number.wrapping_sub(1 << (width * 8 - 1)) ^ SIGN } else { number };
    fits(number, of).then_some(number)
}

/// Bytes with 0 written as 0 255, until 0 0.
fn read_text(from: &mut &[u8], to: &mut Vec<u8>) -> Option<()> {
    loop {
        match *from.split_off_first()? {
            0 => match from.split_off_first()? {
                0 => return Some(()),
                255 => to.push(0),
                _ => return None,
            },
            byte => to.push(byte),
        }
    }
}

fn numbers_array(of: &DataType, arrow: &ArrowType, numbers: Vec<u64>, nulls: Option<NullBuffer>) -> ArrayRef {
    fn made<T: ArrowPrimitiveType>(
        arrow: &ArrowType,
        numbers: &[u64],
        nulls: Option<NullBuffer>,
        turn: impl Fn(u64) -> T::Native,
    ) -> ArrayRef {
        let values: ScalarBuffer<T::Native> = numbers.iter().map(|number| turn(*number)).collect();
        Arc::new(PrimitiveArray::<T>::new(values, nulls).with_data_type(arrow.clone()))
    }
    let signed = |number: u64| (number ^ SIGN).cast_signed();
    match of {
        DataType::Bool => {
            let values = numbers.iter().map(|number| *number != 0).collect();
            Arc::new(BooleanArray::new(values, nulls))
        }
        DataType::Int8 => made::<Int8Type>(arrow, &numbers, nulls, |number| signed(number) as i8),
        DataType::Int16 => made::<Int16Type>(arrow, &numbers, nulls, |number| signed(number) as i16),
        DataType::Int32 => made::<Int32Type>(arrow, &numbers, nulls, |number| signed(number) as i32),
        DataType::Int64 => made::<Int64Type>(arrow, &numbers, nulls, signed),
        DataType::Date => made::<Date32Type>(arrow, &numbers, nulls, |number| signed(number) as i32),
        DataType::Timestamp => made::<TimestampMicrosecondType>(arrow, &numbers, nulls, signed),
        DataType::UInt8 => made::<UInt8Type>(arrow, &numbers, nulls, |number| number as u8),
        DataType::UInt16 => made::<UInt16Type>(arrow, &numbers, nulls, |number| number as u16),
        DataType::UInt32 => made::<UInt32Type>(arrow, &numbers, nulls, |number| number as u32),
        DataType::Float32 => {
            made::<Float32Type>(arrow, &numbers, nulls, |number| turned_float(number) as f32)
        }
        DataType::Float64 => made::<Float64Type>(arrow, &numbers, nulls, turned_float),
        _ => Arc::new(PrimitiveArray::<UInt64Type>::new(numbers.into(), nulls)),
    }
}

fn wide_array(
    of: &DataType,
    arrow: &ArrowType,
    numbers: Vec<u128>,
    nulls: Option<NullBuffer>,
) -> Option<ArrayRef> {
    if let DataType::Uuid = of {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        let array = FixedSizeBinaryArray::try_new(16, Buffer::from_vec(bytes), nulls);
        return array.ok().map(|array| Arc::new(array) as ArrayRef);
    }
    let values: ScalarBuffer<i128> =
        numbers.iter().map(|number| (number ^ WIDE_SIGN).cast_signed()).collect();
    Some(Arc::new(Decimal128Array::new(values, nulls).with_data_type(arrow.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is more than an array holds is told, and not cut: by texts, by items, and by the texts of items.
    #[test]
    fn more_than_an_array_holds_is_told() {
        fn check(
            of: &str,
            good: usize,
            limit: impl Fn(&mut ScalarBuilder),
            push: impl Fn(&mut ScalarBuilder),
        ) {
            let of = DataType::parse(of).unwrap();
            for (count, fits) in [(good, true), (good + 1, false), (good + 5, false)] {
                let mut builder = ScalarBuilder::new(&of, 0);
                limit(&mut builder);
                (0..count).for_each(|_| push(&mut builder));
                assert_eq!(builder.finish().map(|array| array.len()), fits.then_some(count), "{of}");
            }
        }
        let twenty = |builder: &mut ScalarBuilder| builder.limit = 20;
        let inside = |builder: &mut ScalarBuilder| {
            if let Values::List(_, items) = &mut builder.values {
                items.limit = 20;
            }
        };
        check("string", 5, twenty, |builder| builder.push_bytes(b"four"));
        check("list<bool>", 10, twenty, |builder| {
            builder.push_list(|items| (0..2).for_each(|_| items.push_number(1)));
        });
        check("list<string>", 5, inside, |builder| builder.push_list(|items| items.push_bytes(b"four")));
        check("list<string>", 5, inside, |builder| builder.push_bytes(b"\x02four\0\0\0"));
    }
}
