//! Entity keys as typed, prefix-free bytes: the same offline and online.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::Int64Type;
use asof_model::DataType;
use xxhash_rust::xxh3::xxh3_64;

use crate::cell::Cells;
use crate::{ComputeError, conform};

/// The version byte every key begins with.
const VERSION: u8 = 1;
/// The canonical tag of `int64` (`docs/formats/row.md`).
const INT64_TAG: u8 = 5;

/// Encodes the keys of an entity. One encoder is made per entity from its key types; arrays of any
/// layout (dictionary, view, large) and any integer width are read as those types, so an entity has
/// the same bytes whatever file or request names it. `docs/formats/row.md` has the bytes.
///
/// ```
/// # use std::sync::Arc;
/// # use arrow::array::{ArrayRef, Int64Array, StringArray};
/// # use asof_compute::KeyEncoder;
/// # use asof_model::DataType;
/// let encoder = KeyEncoder::new(&[DataType::Int64, DataType::String]);
/// let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None]));
/// let shops: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
/// let keys = encoder.encode(&[ids, shops])?;
/// assert!(keys.is_valid(0));
/// assert!(keys.is_null(1), "a null key belongs to no entity");
/// # use arrow::array::Array;
/// # Ok::<(), asof_compute::ComputeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEncoder {
    types: Vec<DataType>,
}

/// The keys of some rows: numbers where the entity has a single `int64` key, else bytes.
#[derive(Debug, Clone)]
pub enum EntityKeys {
    /// A single `int64` key.
    Int64 {
        /// The values; anything where null.
        values: ScalarBuffer<i64>,
        /// The rows whose key is null.
        nulls: Option<NullBuffer>,
    },
    /// Any other key; null where a part is null.
    Bytes(BinaryArray),
}

impl EntityKeys {
    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            EntityKeys::Int64 { values, .. } => values.len(),
            EntityKeys::Bytes(keys) => keys.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many rows have a null key.
    pub fn null_count(&self) -> usize {
        match self {
            EntityKeys::Int64 { nulls, .. } => nulls.as_ref().map_or(0, NullBuffer::null_count),
            EntityKeys::Bytes(keys) => keys.null_count(),
        }
    }

    /// Whether the row belongs to no entity.
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        match self {
            EntityKeys::Int64 { nulls, .. } => nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)),
            EntityKeys::Bytes(keys) => keys.is_null(row),
        }
    }
}

impl KeyEncoder {
    /// For an entity with keys of these types, in its order.
    pub fn new(types: &[DataType]) -> KeyEncoder {
        KeyEncoder { types: types.to_vec() }
    }

    /// The types, in the entity's order.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// The keys of rows, one array per key in the entity's order; the fastest form for comparing.
    ///
    /// # Errors
    /// Where an array cannot be read as the key's type, or a value does not fit it.
    pub fn keys(&self, arrays: &[ArrayRef]) -> Result<EntityKeys, ComputeError> {
        if let ([DataType::Int64], [array]) = (self.types.as_slice(), arrays) {
            let array = conform(array, &DataType::Int64)?;
            let array = array.as_primitive::<Int64Type>();
            return Ok(EntityKeys::Int64 { values: array.values().clone(), nulls: array.nulls().cloned() });
        }
        Ok(EntityKeys::Bytes(self.encode(arrays)?))
    }

    /// The bytes of the keys of rows; null where any part is null. Stored online as they are.
    ///
    /// # Errors
    /// As [`KeyEncoder::keys`].
    pub fn encode(&self, arrays: &[ArrayRef]) -> Result<BinaryArray, ComputeError> {
        if arrays.len() != self.types.len() {
            return Err(ComputeError::Damaged {
                what: "entity key",
                reason: format!("{} arrays for {} keys", arrays.len(), self.types.len()),
            });
        }
        let parts = arrays
            .iter()
            .zip(&self.types)
            .map(|(array, kind)| Cells::new(array, kind))
            .collect::<Result<Vec<_>, _>>()?;
        let rows = arrays.first().map_or(0, Array::len);
        let mut builder = BinaryBuilder::with_capacity(rows, rows * 16);
        let mut bytes = Vec::new();
        for row in 0..rows {
            if parts.iter().any(|part| part.is_null(row)) {
                builder.append_null();
                continue;
            }
            bytes.clear();
            bytes.push(VERSION);
            for part in &parts {
                part.write(row, &mut bytes);
            }
            builder.append_value(&bytes);
        }
        Ok(builder.finish())
    }

    /// 64 bits of a key's bytes, the same on every machine. Two keys may have the same.
    pub fn hash(key: &[u8]) -> u64 {
        xxh3_64(key)
    }

    /// The bytes of a single `int64` key.
    pub fn encode_int64(key: i64) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[0] = VERSION;
        bytes[1] = INT64_TAG;
        bytes[2..].copy_from_slice(&key.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        DictionaryArray, Int32Array, Int64Array, LargeStringArray, StringArray, StringViewArray,
    };
    use arrow::datatypes::Int16Type;

    use super::*;

    #[test]
    fn layout_and_width_do_not_matter() {
        let encoder = KeyEncoder::new(&[DataType::String, DataType::Int64]);
        let words = vec![Some("a"), Some(""), None, Some("ab")];
        let numbers = vec![Some(1), Some(-1), Some(0), None];
        let wide: ArrayRef =
            Arc::new(Int64Array::from(numbers.iter().map(|n| n.map(i64::from)).collect::<Vec<_>>()));
        let narrow: ArrayRef = Arc::new(Int32Array::from(numbers));
        let expected =
            encoder.encode(&[Arc::new(StringArray::from(words.clone())), Arc::clone(&wide)]).unwrap();
        assert_eq!(expected.null_count(), 2);
        let layouts: Vec<ArrayRef> = vec![
            Arc::new(LargeStringArray::from(words.clone())),
            Arc::new(StringViewArray::from(words.clone())),
            Arc::new(words.into_iter().collect::<DictionaryArray<Int16Type>>()),
        ];
        for layout in layouts {
            assert_eq!(encoder.encode(&[layout, Arc::clone(&narrow)]).unwrap(), expected);
        }
        let single = KeyEncoder::new(&[DataType::Int64]);
        assert_eq!(single.encode(&[wide]).unwrap().value(1), KeyEncoder::encode_int64(-1));
    }

    #[test]
    fn no_key_is_the_beginning_of_another() {
        let encoder = KeyEncoder::new(&[DataType::String, DataType::Bytes]);
        let a = vec!["", "a", "a\0", "ab", "b"];
        let mut all = Vec::new();
        for left in &a {
            for right in &a {
                let arrays: [ArrayRef; 2] = [
                    Arc::new(StringArray::from(vec![*left])),
                    Arc::new(BinaryArray::from(vec![right.as_bytes()])),
                ];
                all.push(encoder.encode(&arrays).unwrap().value(0).to_vec());
            }
        }
        for (i, one) in all.iter().enumerate() {
            for (j, other) in all.iter().enumerate() {
                assert!(i == j || !other.starts_with(one));
            }
        }
    }
}
