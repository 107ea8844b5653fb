//! One value as it stands in a row's bytes, read where it is.

use super::{Physical, RowError, Tuple};

/// A value that is not null.
#[derive(Debug, Clone, Copy)]
pub enum RowValue<'a> {
    /// A truth value.
    Bool(bool),
    /// A value of fixed width, as Arrow has it (little-endian).
    Fixed(&'a [u8]),
    /// Text, which is not checked to be UTF-8, or bytes.
    Bytes(&'a [u8]),
    /// A list.
    List(RowList<'a>),
    /// A struct.
    Struct(RowFields<'a>),
}

/// The items of a list.
#[derive(Debug, Clone, Copy)]
pub struct RowList<'a> {
    item: &'a Physical,
    count: usize,
    /// From the bitmap on.
    bytes: &'a [u8],
    heap: usize,
}

/// The fields of a struct, in the order of its type.
#[derive(Debug, Clone, Copy)]
pub struct RowFields<'a> {
    tuple: &'a Tuple,
    bytes: &'a [u8],
}

impl<'a> RowList<'a> {
    fn of(item: &'a Physical, bytes: &'a [u8]) -> Option<RowList<'a>> {
        let (count, bytes) = bytes.split_first_chunk::<4>()?;
        let count = end(count)?;
        // Checked first, so that a damaged count cannot ask for endless work.
        let heap = count.checked_mul(item.width())?.checked_add(count.div_ceil(8))?;
        (heap <= bytes.len()).then_some(RowList { item, count, bytes, heap })
    }

    /// How many items.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// An item; none where it is null.
    ///
    /// # Errors
    /// [`RowError::Damaged`] past the last, and where the bytes are not a list.
    pub fn get(&self, at: usize) -> Result<Option<RowValue<'a>>, RowError> {
        self.found(at).ok_or(RowError::Damaged { columns: 1 })
    }

    fn found(&self, at: usize) -> Option<Option<RowValue<'a>>> {
        let width = self.item.width();
        let slot = self.count.div_ceil(8) + at * width;
        let previous = (at > 0 && self.item.varies()).then(|| slot - width);
        let raw = raw(self.item, self.bytes, Place { bit: at, slot, previous, heap: self.heap });
        if at < self.count { raw?.map_or(Some(None), |raw| value(self.item, raw).map(Some)) } else { None }
    }
}

impl<'a> RowFields<'a> {
    /// How many fields.
    pub fn len(&self) -> usize {
        self.tuple.fields.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tuple.fields.is_empty()
    }

    /// A field; none where it is null.
    ///
    /// # Errors
    /// [`RowError::Damaged`] past the last, and where the bytes are not a struct.
    pub fn get(&self, at: usize) -> Result<Option<RowValue<'a>>, RowError> {
        self.found(at).ok_or(RowError::Damaged { columns: self.tuple.fields.len() })
    }

    fn found(&self, at: usize) -> Option<Option<RowValue<'a>>> {
        let kind = &self.tuple.fields.get(at)?.kind;
        field(self.tuple, at, self.bytes)?.map_or(Some(None), |raw| value(kind, raw).map(Some))
    }
}

/// Where a value stands: its bit, its slot, the slot that holds the end of the bytes before it, and the
/// heap, all from the same start.
struct Place {
    bit: usize,
    slot: usize,
    previous: Option<usize>,
    heap: usize,
}

/// The bytes of one field of a tuple, none where it is null; nothing at all where they are damaged.
pub(super) fn field<'a>(tuple: &Tuple, at: usize, bytes: &'a [u8]) -> Option<Option<&'a [u8]>> {
    let slot = tuple.fields.get(at)?;
    raw(&slot.kind, bytes, Place { bit: at, slot: slot.at, previous: slot.previous, heap: tuple.heap })
}

#[inline]
fn raw<'a>(kind: &Physical, bytes: &'a [u8], place: Place) -> Option<Option<&'a [u8]>> {
    if bytes.get(place.bit / 8)? & (1 << (place.bit % 8)) == 0 {
        return Some(None);
    }
    let own = bytes.get(place.slot..place.slot + kind.width())?;
    if !kind.varies() {
        return Some(Some(own));
    }
    let from = match place.previous {
        Some(before) => end(bytes.get(before..)?.first_chunk()?)?,
        None => 0,
    };
    let to = end(own.first_chunk()?)?;
    bytes.get(place.heap + from..place.heap + to).map(Some)
}

/// What the bytes of a value that is not null say.
#[inline]
pub(super) fn value<'a>(kind: &'a Physical, raw: &'a [u8]) -> Option<RowValue<'a>> {
    Some(match kind {
        Physical::Bool => RowValue::Bool(*raw.first()? != 0),
        Physical::Fixed(_) => RowValue::Fixed(raw),
        Physical::Bytes => RowValue::Bytes(raw),
        Physical::List(item) => RowValue::List(RowList::of(item, raw)?),
        Physical::Struct(tuple) => RowValue::Struct(RowFields { tuple, bytes: raw }),
    })
}

fn end(bytes: &[u8; 4]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}
