//! The row codec: the values of a view's features as compact bytes, any one of them found without
//! reading the others. The format is `docs/formats/online-row.md`.
//!
//! The bytes carry no types: whoever keeps them keeps the types beside them (the online store keeps
//! the view's version with each generation).

mod builder;
mod encode;
mod value;

use arrow::datatypes::{DataType, TimeUnit};

pub use builder::ColumnBuilder;
pub use encode::RowEncoder;
pub use value::{RowFields, RowList, RowValue};

/// The first byte of every row.
pub const ROW_FORMAT: u8 = 1;

/// Where each value stands in a row of these types.
#[derive(Debug, Clone)]
pub struct RowLayout {
    types: Vec<DataType>,
    tuple: Tuple,
}

/// Why a row cannot be written or read. Never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The type has no place in a row.
    #[error("column {column}: the Arrow type {found} cannot be kept in a row")]
    Unsupported {
        /// The column by position.
        column: usize,
        /// Its type.
        found: DataType,
    },
    /// The arrays are not of the types of the layout.
    #[error("column {column}: expected {expected}, found {found}")]
    Mismatch {
        /// The column by position.
        column: usize,
        /// The type of the layout.
        expected: DataType,
        /// The type of the array.
        found: DataType,
    },
    /// The number of columns is not that of the layout.
    #[error("expected {expected} columns, found {found}")]
    Columns {
        /// Columns of the layout.
        expected: usize,
        /// Columns given.
        found: usize,
    },
    /// Written by a newer Asof.
    #[error("row format {found} is newer than this Asof reads ({ROW_FORMAT})")]
    Newer {
        /// The format byte.
        found: u8,
    },
    /// The bytes are not a row of this layout.
    #[error("the stored bytes are not a row of {columns} columns")]
    Damaged {
        /// Columns of the layout.
        columns: usize,
    },
    /// A row of more than 4 GiB, or a column of more than 2 GiB of text.
    #[error(
        "a row's values are longer than a row may be (4 GiB), or a column's than an array may be (2 GiB)"
    )]
    TooLong,
}

/// How one value is kept.
#[derive(Debug, Clone)]
enum Physical {
    /// One byte, 0 or 1.
    Bool,
    /// So many bytes, as Arrow has them (little-endian).
    Fixed(usize),
    /// The end of its bytes in the heap.
    Bytes,
    /// As bytes: a count, then so many items of one kind.
    List(Box<Physical>),
    /// As bytes: a tuple.
    Struct(Tuple),
}

/// Values of several kinds in a fixed order: a bitmap of those that are not null, a slot for each,
/// and a heap of those whose length varies.
#[derive(Debug, Clone)]
struct Tuple {
    fields: Vec<Slot>,
    /// Bytes of bitmap and slots.
    heap: usize,
}

#[derive(Debug, Clone)]
struct Slot {
    kind: Physical,
    /// From the start of the tuple.
    at: usize,
    /// The slot that holds the end of the bytes before, for one that varies.
    previous: Option<usize>,
}

impl Physical {
    fn of(found: &DataType) -> Option<Physical> {
        Some(match found {
            DataType::Boolean => Physical::Bool,
            DataType::Int8 | DataType::UInt8 => Physical::Fixed(1),
            DataType::Int16 | DataType::UInt16 => Physical::Fixed(2),
            DataType::Int32 | DataType::UInt32 | DataType::Float32 | DataType::Date32 => Physical::Fixed(4),
            DataType::Int64
            | DataType::UInt64
            | DataType::Float64
            | DataType::Timestamp(TimeUnit::Microsecond, _) => Physical::Fixed(8),
            DataType::Decimal128(_, _) => Physical::Fixed(16),
            DataType::FixedSizeBinary(width) => Physical::Fixed(usize::try_from(*width).ok()?),
            DataType::Utf8 | DataType::Binary => Physical::Bytes,
            DataType::List(item) => Physical::List(Box::new(Physical::of(item.data_type())?)),
            DataType::Struct(fields) => {
                let kinds = fields.iter().map(|field| Physical::of(field.data_type()));
                Physical::Struct(Tuple::of(kinds.collect::<Option<Vec<_>>>()?))
            }
            _ => return None,
        })
    }

    /// Bytes of its slot.
    fn width(&self) -> usize {
        match self {
            Physical::Bool => 1,
            Physical::Fixed(width) => *width,
            Physical::Bytes | Physical::List(_) | Physical::Struct(_) => 4,
        }
    }

    fn varies(&self) -> bool {
        matches!(self, Physical::Bytes | Physical::List(_) | Physical::Struct(_))
    }
}

impl Tuple {
    fn of(kinds: Vec<Physical>) -> Tuple {
        let mut at = kinds.len().div_ceil(8);
        let mut previous = None;
        let mut fields = Vec::with_capacity(kinds.len());
        for kind in kinds {
            let slot = Slot { at, previous: if kind.varies() { previous } else { None }, kind };
            if slot.kind.varies() {
                previous = Some(at);
            }
            at += slot.kind.width();
            fields.push(slot);
        }
        Tuple { fields, heap: at }
    }
}

impl RowLayout {
    /// The layout of rows of these types.
    ///
    /// # Errors
    /// [`RowError::Unsupported`] for a type that no feature has.
    pub fn new(types: &[DataType]) -> Result<RowLayout, RowError> {
        let mut kinds = Vec::with_capacity(types.len());
        for (column, found) in types.iter().enumerate() {
            kinds.push(
                Physical::of(found).ok_or_else(|| RowError::Unsupported { column, found: found.clone() })?,
            );
        }
        Ok(RowLayout { types: types.to_vec(), tuple: Tuple::of(kinds) })
    }

    /// The types, in order.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// A builder for the values of one column, with room for so many.
    ///
    /// # Errors
    /// [`RowError::Columns`] where there is no such column.
    pub fn builder(&self, column: usize, capacity: usize) -> Result<ColumnBuilder, RowError> {
        let found = self.types.get(column);
        let found = found.ok_or(RowError::Columns { expected: self.types.len(), found: column + 1 })?;
        ColumnBuilder::new(found, capacity)
            .ok_or_else(|| RowError::Unsupported { column, found: found.clone() })
    }

    /// The bytes of one column of a row, for [`RowLayout::value`]; none where it is null.
    ///
    /// # Errors
    /// [`RowError::Newer`] and [`RowError::Damaged`] where the bytes are not such a row.
    #[inline]
    pub fn bytes<'a>(&self, row: &'a [u8], column: usize) -> Result<Option<&'a [u8]>, RowError> {
        match row.split_first() {
            Some((&ROW_FORMAT, tuple)) => value::field(&self.tuple, column, tuple).ok_or(self.damaged()),
            Some((&found, _)) if found > ROW_FORMAT => Err(RowError::Newer { found }),
            _ => Err(self.damaged()),
        }
    }

    /// What the bytes of a column say.
    ///
    /// # Errors
    /// [`RowError::Damaged`] where they are not of such a column.
    #[inline]
    pub fn value<'a>(&'a self, column: usize, bytes: &'a [u8]) -> Result<RowValue<'a>, RowError> {
        let slot = self.tuple.fields.get(column);
        slot.and_then(|slot| value::value(&slot.kind, bytes)).ok_or(self.damaged())
    }

    /// Appends the bytes of one column, or its null, to a builder made for that column.
    ///
    /// # Errors
    /// [`RowError::Damaged`] where they are not of such a column; [`RowError::TooLong`] where the column
    /// grows past what an array holds.
    pub fn append(
        &self,
        column: usize,
        bytes: Option<&[u8]>,
        into: &mut ColumnBuilder,
    ) -> Result<(), RowError> {
        let value = bytes.map(|bytes| self.value(column, bytes)).transpose()?;
        into.append(value).map_err(|error| match error {
            RowError::Damaged { .. } => self.damaged(),
            other => other,
        })
    }

    fn damaged(&self) -> RowError {
        RowError::Damaged { columns: self.types.len() }
    }
}

#[cfg(test)]
mod tests;
