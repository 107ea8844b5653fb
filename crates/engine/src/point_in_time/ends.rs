//! Which rows of a source with ids end, and when: what the operator is handed, whatever it came from.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{ArrowPrimitiveType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use asof_model::Timestamp;

use crate::source::fixed;
use crate::source::instants::instant_type;
use crate::{Error, Result};

/// What rows are named by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NamedBy {
    /// Their addresses, of rows read in place.
    #[default]
    Address,
    /// Their positions, of stored rows.
    Position,
}

impl NamedBy {
    /// The names of a batch's rows.
    ///
    /// # Errors
    /// Where a row has none.
    pub(super) fn names(self, batch: &RecordBatch) -> Result<Names> {
        let (name, names) = match self {
            NamedBy::Address => {
                let found = batch.column_by_name(fixed::ADDRESS);
                (fixed::ADDRESS, found.and_then(complete::<UInt64Type>).map(Names::Addresses))
            }
            NamedBy::Position => {
                let found = batch.column_by_name(fixed::POSITION);
                (fixed::POSITION, found.and_then(complete::<Int64Type>).map(Names::Positions))
            }
        };
        names.ok_or_else(|| Error::internal(format!("rows with ids have no `{name}`")))
    }
}

fn complete<T: ArrowPrimitiveType>(array: &ArrayRef) -> Option<PrimitiveArray<T>> {
    array.as_primitive_opt::<T>().filter(|array| array.null_count() == 0).cloned()
}

/// The names of a batch's rows.
#[derive(Debug)]
pub(super) enum Names {
    Addresses(PrimitiveArray<UInt64Type>),
    Positions(PrimitiveArray<Int64Type>),
}

impl Names {
    pub(super) fn len(&self) -> usize {
        match self {
            Names::Addresses(names) => names.len(),
            Names::Positions(names) => names.len(),
        }
    }

    #[inline]
    pub(super) fn of(&self, row: usize) -> u64 {
        match self {
            Names::Addresses(names) => names.value(row),
            Names::Positions(names) => names.value(row).cast_unsigned(),
        }
    }
}

/// The rows that end: those that another version of their event comes after, each with the v of that version, which
/// may be never; and deletes with an id, which count nowhere. Sixteen bytes each; rows that stand for good are not
/// here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ends {
    by: NamedBy,
    /// In the order of the rows' names.
    rows: Vec<(u64, i64)>,
}

impl Ends {
    /// Of rows, each once.
    pub(crate) fn new(by: NamedBy, mut rows: Vec<(u64, i64)>) -> Ends {
        rows.sort_unstable();
        rows.shrink_to_fit();
        Ends { by, rows }
    }

    /// How many rows end.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        size_of_val(self.rows.as_slice()) as u64
    }

    /// A batch with when its rows end behind its columns.
    pub(crate) fn beside(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let names = self.by.names(batch)?;
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(self.of(&names).with_timezone("UTC")));
        Ok(RecordBatch::try_new(with_ends(&batch.schema()), columns)?)
    }

    fn of(&self, names: &Names) -> TimestampMicrosecondArray {
        let count = names.len();
        let (mut least, mut greatest) = (u64::MAX, 0);
        for row in 0..count {
            let name = names.of(row);
            (least, greatest) = (least.min(name), greatest.max(name));
        }
        let from = self.rows.partition_point(|(name, _)| *name < least);
        let upto = from + self.rows[from..].partition_point(|(name, _)| *name <= greatest);
        let within = &self.rows[from..upto];
        if count == 0 || within.is_empty() {
            return TimestampMicrosecondArray::new_null(count);
        }
        // Rows mostly come in the order of their names: the next is sought from the one before on.
        let mut at = 0;
        let end = |row: usize| {
            let name = names.of(row);
            if at > 0 && within[at - 1].0 >= name {
                at = 0;
            }
            let (mut step, mut upto) = (1, at);
            while within.get(upto).is_some_and(|(found, _)| *found < name) {
                at = upto + 1;
                upto += step;
                step *= 2;
            }
            at += within[at..upto.min(within.len()).max(at)].partition_point(|(found, _)| *found < name);
            within.get(at).filter(|(found, _)| *found == name).map(|(_, end)| *end)
        };
        (0..count).map(end).collect()
    }

    /// As bytes: what rows are named by (0 addresses, 1 positions), then name and end of each row that ends, in the
    /// order of names, little-endian.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.by == NamedBy::Position));
        out.reserve(self.rows.len() * 16);
        for (name, end) in &self.rows {
            out.extend_from_slice(&name.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
    }

    /// Reads what [`Ends::encode`] wrote; none where it is anything else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Ends> {
        let (by, rows) = bytes.split_first()?;
        let by = match by {
            0 => NamedBy::Address,
            1 => NamedBy::Position,
            _ => return None,
        };
        let (rows, []) = rows.as_chunks::<16>() else { return None };
        let row = |bytes: &[u8; 16]| {
            let both = u128::from_le_bytes(*bytes);
            (both as u64, ((both >> 64) as u64).cast_signed())
        };
        let rows: Vec<(u64, i64)> = rows.iter().map(row).collect();
        rows.is_sorted_by(|one, other| one.0 < other.0).then_some(Ends { by, rows })
    }
}

/// The end of a delete with an id: it counts nowhere.
pub(crate) const WITHDRAWAL: i64 = Timestamp::BEFORE_ALL.0;

/// A schema with [`fixed::ENDS`] behind its columns.
pub(crate) fn with_ends(schema: &Schema) -> SchemaRef {
    let ends = Arc::new(Field::new(fixed::ENDS, instant_type(), true));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain([ends]).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use arrow::array::UInt64Array;

    use super::*;

    #[test]
    fn rows_find_their_ends_in_whatever_order_they_come() {
        let rows: Vec<(u64, i64)> = (0..200).step_by(3).map(|name| (name, name as i64 * 10)).collect();
        let ends = Ends::new(NamedBy::Address, rows.iter().rev().copied().collect());
        let orders: [Vec<u64>; 6] = [
            (0..300).collect(),
            (0..300).rev().collect(),
            (0..300).map(|name| name * 7 % 300).collect(),
            vec![199, 198, 0, 197, 3, 3, 500],
            (199..203).collect(),
            Vec::new(),
        ];
        for names in orders {
            let found = ends.of(&Names::Addresses(UInt64Array::from(names.clone())));
            let end = |name: &u64| (*name < 200 && name.is_multiple_of(3)).then(|| *name as i64 * 10);
            assert_eq!(found, names.iter().map(end).collect::<TimestampMicrosecondArray>(), "{names:?}");
        }
    }

    #[test]
    fn ends_are_read_as_they_were_written_and_damage_is_seen() {
        let rows = vec![(9, i64::MIN), (7, i64::MAX), (1 << 41, -5)];
        for by in [NamedBy::Address, NamedBy::Position] {
            let ends = Ends::new(by, rows.clone());
            let mut bytes = Vec::new();
            ends.encode(&mut bytes);
            assert_eq!(Ends::decode(&bytes), Some(ends));
            for cut in [0, 2, 16, bytes.len() - 1] {
                assert_eq!(Ends::decode(&bytes[..cut]), None);
            }
            bytes[1] = 200;
            assert_eq!(Ends::decode(&bytes), None);
        }
    }
}
