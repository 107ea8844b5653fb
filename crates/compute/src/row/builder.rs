//! Bytes to Arrow arrays.

use arrow::array::{ArrayData, ArrayRef, BooleanBufferBuilder, NullBufferBuilder, make_array};
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::DataType;

use super::{Physical, RowError, RowValue};

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

    /// Appends a value of this builder's kind, or a null.
    pub(super) fn append(&mut self, value: Option<RowValue<'_>>) -> Result<(), RowError> {
        let Some(value) = value else {
            self.append_null();
            return Ok(());
        };
        let offset = |length: usize| i32::try_from(length).map_err(|_| RowError::TooLong);
        match (&mut self.values, value) {
            (Values::Bool(bits), RowValue::Bool(value)) => bits.append(value),
            (Values::Fixed(width, to), RowValue::Fixed(found)) if *width == found.len() => {
                to.extend_from_slice(found);
            }
            (Values::Bytes(offsets, to), RowValue::Bytes(found)) => {
                let end = offset(to.len() + found.len())?;
                to.extend_from_slice(found);
                offsets.push(end);
            }
            (Values::List(offsets, items), RowValue::List(found)) => {
                for at in 0..found.len() {
                    items.append(found.get(at)?)?;
                }
                offsets.push(offset(items.len())?);
            }
            (Values::Struct(fields), RowValue::Struct(found)) => {
                for (at, field) in fields.iter_mut().enumerate() {
                    field.append(found.get(at)?)?;
                }
            }
            _ => return Err(RowError::Damaged { columns: 1 }),
        }
        self.nulls.append_non_null();
        Ok(())
    }
}
