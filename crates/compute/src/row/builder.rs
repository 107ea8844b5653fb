//! Bytes to Arrow arrays.

use arrow::array::{ArrayData, ArrayRef, BooleanBufferBuilder, NullBufferBuilder, make_array};
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::DataType;

use super::{Physical, RowError, Tuple};

/// Collects the values of one column, in the order they are appended.
#[derive(Debug)]
pub struct ColumnBuilder {
    data_type: DataType,
    nulls: NullBufferBuilder,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Bool(BooleanBufferBuilder),
    Fixed(usize, MutableBuffer),
    Bytes(Vec<i32>, MutableBuffer),
    List(Vec<i32>, Box<ColumnBuilder>),
    Struct(Vec<ColumnBuilder>),
}

/// What can be wrong with a value's bytes.
pub(super) enum Bad {
    Bytes,
    TooLong,
}

impl ColumnBuilder {
    pub(super) fn new(data_type: &DataType, capacity: usize) -> Option<ColumnBuilder> {
        let offsets = || {
            let mut offsets = Vec::with_capacity(capacity + 1);
            offsets.push(0);
            offsets
        };
        let values = match Physical::of(data_type)? {
            Physical::Bool => Values::Bool(BooleanBufferBuilder::new(capacity)),
            Physical::Fixed(width) => Values::Fixed(width, MutableBuffer::new(capacity * width)),
            Physical::Bytes => Values::Bytes(offsets(), MutableBuffer::new(0)),
            Physical::List(_) => {
                let DataType::List(item) = data_type else { return None };
                Values::List(offsets(), Box::new(ColumnBuilder::new(item.data_type(), 0)?))
            }
            Physical::Struct(_) => {
                let DataType::Struct(fields) = data_type else { return None };
                let fields = fields.iter().map(|field| ColumnBuilder::new(field.data_type(), capacity));
                Values::Struct(fields.collect::<Option<Vec<_>>>()?)
            }
        };
        Some(ColumnBuilder { data_type: data_type.clone(), nulls: NullBufferBuilder::new(capacity), values })
    }

    /// Values so far.
    pub fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a null.
    pub fn append_null(&mut self) {
        self.nulls.append_null();
        self.append_nothing();
    }

    /// The room of a null: zeros, or no bytes.
    fn append_nothing(&mut self) {
        match &mut self.values {
            Values::Bool(bits) => bits.append(false),
            Values::Fixed(width, bytes) => bytes.extend_zeros(*width),
            Values::Bytes(offsets, _) | Values::List(offsets, _) => {
                offsets.push(offsets.last().copied().unwrap_or(0));
            }
            Values::Struct(fields) => fields.iter_mut().for_each(ColumnBuilder::append_null),
        }
    }

    /// The column. Its UTF-8 is checked here.
    ///
    /// # Errors
    /// [`RowError::Damaged`] where text is not UTF-8.
    pub fn finish(self) -> Result<ArrayRef, RowError> {
        self.data().map(make_array).ok_or(RowError::Damaged { columns: 1 })
    }

    fn data(mut self) -> Option<ArrayData> {
        let made = ArrayData::builder(self.data_type).len(self.nulls.len()).nulls(self.nulls.finish());
        let made = match self.values {
            Values::Bool(mut bits) => made.add_buffer(bits.finish().into_inner()),
            Values::Fixed(_, bytes) => made.add_buffer(bytes.into()),
            Values::Bytes(offsets, bytes) => {
                made.add_buffer(Buffer::from_vec(offsets)).add_buffer(bytes.into())
            }
            Values::List(offsets, items) => {
                made.add_buffer(Buffer::from_vec(offsets)).add_child_data(items.data()?)
            }
            Values::Struct(fields) => {
                let mut made = made;
                for field in fields {
                    made = made.add_child_data(field.data()?);
                }
                made
            }
        };
        made.build().ok()
    }

    /// Appends one field of a tuple.
    pub(super) fn append_field(&mut self, tuple: &Tuple, at: usize, bytes: &[u8]) -> Result<(), Bad> {
        let slot = tuple.fields.get(at).ok_or(Bad::Bytes)?;
        self.append_value(&slot.kind, bytes, at, slot.at, slot.previous, tuple.heap)
    }

    /// Appends the value whose bit and slot these are; `previous` is the slot with the end before.
    fn append_value(
        &mut self,
        kind: &Physical,
        bytes: &[u8],
        bit: usize,
        slot: usize,
        previous: Option<usize>,
        heap: usize,
    ) -> Result<(), Bad> {
        let valid = bytes.get(bit / 8).ok_or(Bad::Bytes)? & (1 << (bit % 8)) != 0;
        if !valid {
            self.append_null();
            return Ok(());
        }
        let own = bytes.get(slot..slot + kind.width()).ok_or(Bad::Bytes)?;
        let varying = || -> Result<&[u8], Bad> {
            let from = match previous {
                Some(before) => end(bytes.get(before..before + 4).ok_or(Bad::Bytes)?)?,
                None => 0,
            };
            bytes.get(heap + from..heap + end(own)?).ok_or(Bad::Bytes)
        };
        match (&mut self.values, kind) {
            (Values::Bool(bits), Physical::Bool) => bits.append(own != [0]),
            (Values::Fixed(width, to), Physical::Fixed(other)) if width == other => to.extend_from_slice(own),
            (Values::Bytes(offsets, to), Physical::Bytes) => {
                let found = varying()?;
                let end = i32::try_from(to.len() + found.len()).map_err(|_| Bad::TooLong)?;
                to.extend_from_slice(found);
                offsets.push(end);
            }
            (Values::List(offsets, items), Physical::List(item)) => {
                items.append_items(item, varying()?)?;
                offsets.push(i32::try_from(items.len()).map_err(|_| Bad::TooLong)?);
            }
            (Values::Struct(fields), Physical::Struct(tuple)) => {
                let found = varying()?;
                for (at, field) in fields.iter_mut().enumerate() {
                    field.append_field(tuple, at, found)?;
                }
            }
            _ => return Err(Bad::Bytes),
        }
        self.nulls.append_non_null();
        Ok(())
    }

    fn append_items(&mut self, item: &Physical, bytes: &[u8]) -> Result<(), Bad> {
        let count = end(bytes.get(..4).ok_or(Bad::Bytes)?)?;
        let bytes = bytes.get(4..).ok_or(Bad::Bytes)?;
        let (slots, width) = (count.div_ceil(8), item.width());
        // Checked first, so that a damaged count cannot ask for endless memory.
        let heap = count.checked_mul(width).and_then(|all| all.checked_add(slots)).ok_or(Bad::Bytes)?;
        if heap > bytes.len() {
            return Err(Bad::Bytes);
        }
        for at in 0..count {
            let slot = slots + at * width;
            let previous = if at > 0 && item.varies() { Some(slot - width) } else { None };
            self.append_value(item, bytes, at, slot, previous, heap)?;
        }
        Ok(())
    }
}

fn end(bytes: &[u8]) -> Result<usize, Bad> {
    let bytes: [u8; 4] = bytes.try_into().map_err(|_| Bad::Bytes)?;
    usize::try_from(u32::from_le_bytes(bytes)).map_err(|_| Bad::Bytes)
}
