//! The order of a source's rows: `(e, v, o, s, c)`, SEMANTICS section 1.

use std::cmp::Ordering;

use asof_model::Timestamp;

/// The canonical digest of a row: the first 16 bytes of the BLAKE3 hash of its canonical encoding
/// (`docs/formats/row.md`), which covers every column of the source by name. Rows equal in it are equal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowDigest(pub [u8; 16]);

/// What a row is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Op {
    /// A value.
    #[default]
    Value,
    /// A delete without an id: it ends the key its columns name, at its event time.
    Delete,
}

/// The acceptance number of a stored row. Rows read in place have none and sort before positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub i64);

impl Position {
    /// Of a row read in place.
    pub const NONE: Position = Position(i64::MIN);
}

/// Everything that decides which of two rows of one key comes last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowOrder {
    /// `e`
    pub event_time: Timestamp,
    /// `v`
    pub visible_at: Timestamp,
    /// `o` in an order-preserving encoding ([`crate::order_key`]); empty is null, which comes first.
    pub order_by: Box<[u8]>,
    /// `s`
    pub position: Position,
    /// Among rows equal in the first four a delete without id comes last.
    pub op: Op,
    /// `c`
    pub digest: RowDigest,
}

impl Ord for RowOrder {
    fn cmp(&self, other: &RowOrder) -> Ordering {
        (self.event_time, self.visible_at)
            .cmp(&(other.event_time, other.visible_at))
            .then_with(|| self.order_by.cmp(&other.order_by))
            .then_with(|| self.position.cmp(&other.position))
            .then_with(|| (self.op == Op::Delete).cmp(&(other.op == Op::Delete)))
            .then_with(|| self.digest.cmp(&other.digest))
    }
}

impl PartialOrd for RowOrder {
    fn partial_cmp(&self, other: &RowOrder) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What decides which of two versions of one event is the last: `(v, o, s, c)`, SEMANTICS section 2.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionOrder {
    /// `v`
    pub visible_at: Timestamp,
    /// `o`, as in [`RowOrder::order_by`].
    pub order_by: Box<[u8]>,
    /// `s`
    pub position: Position,
    /// `c`
    pub digest: RowDigest,
}
