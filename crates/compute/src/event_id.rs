//! Ids of events, as sixteen bytes each.

use arrow::array::{Array, ArrayRef};
use asof_model::DataType;

use crate::{ComputeError, EntityKeys, KeyEncoder};

/// What names an event within its source. Ids are equal exactly where their values are: a number, and a short canonical
/// encoding, is held itself, and of a longer one the first fifteen bytes of its BLAKE3 hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub u128);

/// So long an encoding is held itself.
const SHORT: usize = 15;

/// In the last byte where a hash is held, and the length of the encoding else.
const HASHED: u8 = 0xff;

impl EventId {
    /// The ids of rows; none where one is null. The array is of that type.
    ///
    /// # Errors
    /// Where the array is of another type.
    pub fn of(values: &ArrayRef, data_type: &DataType) -> Result<Vec<Option<EventId>>, ComputeError> {
        let keys = KeyEncoder::new(std::slice::from_ref(data_type)).keys(std::slice::from_ref(values))?;
        let rows = 0..keys.len();
        Ok(match &keys {
            EntityKeys::Int64 { values, .. } => {
                let id = |row: usize| EventId(u128::from(values[row].cast_unsigned()));
                rows.map(|row| (!keys.is_null(row)).then(|| id(row))).collect()
            }
            EntityKeys::Bytes(bytes) => {
                rows.map(|row| bytes.is_valid(row).then(|| EventId::of_bytes(bytes.value(row)))).collect()
            }
        })
    }

    fn of_bytes(bytes: &[u8]) -> EventId {
        let mut held = [0; 16];
        if bytes.len() <= SHORT {
            held[..bytes.len()].copy_from_slice(bytes);
            held[SHORT] = bytes.len() as u8;
        } else {
            held[..SHORT].copy_from_slice(&blake3::hash(bytes).as_bytes()[..SHORT]);
            held[SHORT] = HASHED;
        }
        EventId(u128::from_le_bytes(held))
    }

    /// A hash of it, each of whose bits hangs on all of its own.
    #[inline]
    pub fn hash(self) -> u64 {
        let mix = |word: u64| {
            let word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            let word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
            word ^ (word >> 33)
        };
        mix(self.0 as u64 ^ mix((self.0 >> 64) as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn ids_are_equal_where_their_values_are() {
        let long = "a".repeat(40);
        let texts = ["", "a", "b", "aa", "0123456789abc", "0123456789abcd", &long, &long[1..]];
        let of = |values: Vec<Option<&str>>| {
            EventId::of(&(Arc::new(StringArray::from(values)) as ArrayRef), &DataType::String).unwrap()
        };
        let ids = of(texts.iter().copied().map(Some).collect());
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), texts.len());
        assert_eq!(ids, of(texts.iter().copied().map(Some).collect()));
        assert_eq!(of(vec![None, Some("a")]), [None, ids[1]]);
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(-1), None, Some(0), Some(-1)]));
        let ids = EventId::of(&numbers, &DataType::Int64).unwrap();
        assert!(ids[0] == ids[3] && ids[0] != ids[2] && ids[1].is_none());
        let hashes: BTreeSet<u64> = (0..1_000).map(|id| EventId(id).hash() >> 48).collect();
        assert!(hashes.len() > 950, "{}", hashes.len());
    }
}
