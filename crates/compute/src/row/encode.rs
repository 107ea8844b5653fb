//! Arrow arrays to bytes.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};

use super::{Physical, ROW_FORMAT, RowError, RowLayout, Tuple};

/// The columns of one batch, ready to be written row by row.
#[derive(Debug)]
pub struct RowEncoder<'a> {
    layout: &'a RowLayout,
    cells: Vec<Cells<'a>>,
    rows: usize,
}

/// A column with its buffers at hand.
#[derive(Debug)]
struct Cells<'a> {
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

#[derive(Debug)]
enum Values<'a> {
    Bool(&'a BooleanArray),
    /// Values of one width, the first at 0.
    Fixed(Buffer, usize),
    Bytes(&'a OffsetBuffer<i32>, &'a [u8]),
    List(&'a OffsetBuffer<i32>, Box<Cells<'a>>),
    Struct(Vec<Cells<'a>>),
}

impl RowLayout {
    /// Readies the columns of one batch.
    ///
    /// # Errors
    /// [`RowError::Columns`], [`RowError::Mismatch`] where they are not of this layout's types.
    pub fn encoder<'a>(&'a self, columns: &'a [ArrayRef]) -> Result<RowEncoder<'a>, RowError> {
        if columns.len() != self.types.len() {
            return Err(RowError::Columns { expected: self.types.len(), found: columns.len() });
        }
        let mut cells = Vec::with_capacity(columns.len());
        for (at, ((array, expected), slot)) in
            columns.iter().zip(&self.types).zip(&self.tuple.fields).enumerate()
        {
            if array.data_type() != expected {
                return Err(RowError::Mismatch {
                    column: at,
                    expected: expected.clone(),
                    found: array.data_type().clone(),
                });
            }
            cells.push(Cells::of(array, &slot.kind));
        }
        let rows = columns.iter().map(|array| array.len()).min().unwrap_or(0);
        Ok(RowEncoder { layout: self, cells, rows })
    }
}

impl RowEncoder<'_> {
    /// Rows there are; for a layout without columns, none.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Appends the bytes of one row.
    ///
    /// # Errors
    /// [`RowError::TooLong`] for a row of more than 4 GiB.
    pub fn encode(&self, row: usize, out: &mut Vec<u8>) -> Result<(), RowError> {
        out.push(ROW_FORMAT);
        put_tuple(&self.layout.tuple, &self.cells, row, out)
    }
}

impl<'a> Cells<'a> {
    fn of(array: &'a dyn Array, kind: &Physical) -> Cells<'a> {
        let values = match kind {
            Physical::Bool => Values::Bool(array.as_boolean()),
            Physical::Fixed(width) => {
                let data = array.to_data();
                let from = data.offset() * width;
                let bytes = data.buffers().first().cloned().unwrap_or_default();
                Values::Fixed(bytes.slice_with_length(from, array.len() * width), *width)
            }
            Physical::Bytes => match array.as_string_opt::<i32>() {
                Some(text) => Values::Bytes(text.offsets(), text.value_data()),
                None => {
                    Values::Bytes(array.as_binary::<i32>().offsets(), array.as_binary::<i32>().value_data())
                }
            },
            Physical::List(item) => {
                let list = array.as_list::<i32>();
                Values::List(list.offsets(), Box::new(Cells::of(list.values().as_ref(), item)))
            }
            Physical::Struct(tuple) => {
                let columns = array.as_struct().columns();
                let fields = columns.iter().zip(&tuple.fields);
                Values::Struct(fields.map(|(column, slot)| Cells::of(column.as_ref(), &slot.kind)).collect())
            }
        };
        Cells { nulls: array.nulls(), values }
    }

    fn is_valid(&self, row: usize) -> bool {
        self.nulls.is_none_or(|nulls| nulls.is_valid(row))
    }
}

fn put_tuple(tuple: &Tuple, cells: &[Cells<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), RowError> {
    let start = out.len();
    out.resize(start + tuple.heap, 0);
    for (at, (slot, cells)) in tuple.fields.iter().zip(cells).enumerate() {
        put(&slot.kind, cells, row, Place { start, bit: at, slot: slot.at, heap: tuple.heap }, out)?;
    }
    Ok(())
}

/// Where a value goes: its tuple's start, its bit, its slot and its heap from there.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    bit: usize,
    slot: usize,
    heap: usize,
}

fn put(kind: &Physical, cells: &Cells<'_>, row: usize, to: Place, out: &mut Vec<u8>) -> Result<(), RowError> {
    let slot = to.start + to.slot;
    let valid = cells.is_valid(row);
    if valid {
        out[to.start + to.bit / 8] |= 1 << (to.bit % 8);
        match (&cells.values, kind) {
            (Values::Bool(array), _) => out[slot] = u8::from(array.value(row)),
            (Values::Fixed(bytes, width), _) => {
                let from = row * width;
                out[slot..slot + width].copy_from_slice(&bytes[from..from + width]);
            }
            (Values::Bytes(offsets, bytes), _) => {
                out.extend_from_slice(&bytes[offsets[row] as usize..offsets[row + 1] as usize]);
            }
            (Values::List(offsets, items), Physical::List(item)) => {
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                put_list(item, items, from, to - from, out)?;
            }
            (Values::Struct(fields), Physical::Struct(tuple)) => put_tuple(tuple, fields, row, out)?,
            (Values::List(..) | Values::Struct(_), _) => return Err(RowError::TooLong),
        }
    }
    if kind.varies() {
        let end = u32::try_from(out.len() - to.start - to.heap).map_err(|_| RowError::TooLong)?;
        out[slot..slot + 4].copy_from_slice(&end.to_le_bytes());
    }
    Ok(())
}

/// A count, then a tuple of so many items of one kind.
fn put_list(
    item: &Physical,
    items: &Cells<'_>,
    from: usize,
    count: usize,
    out: &mut Vec<u8>,
) -> Result<(), RowError> {
    out.extend_from_slice(&u32::try_from(count).map_err(|_| RowError::TooLong)?.to_le_bytes());
    let start = out.len();
    let slots = count.div_ceil(8);
    let heap = slots + count * item.width();
    out.resize(start + heap, 0);
    for at in 0..count {
        let place = Place { start, bit: at, slot: slots + at * item.width(), heap };
        put(item, items, from + at, place, out)?;
    }
    Ok(())
}
