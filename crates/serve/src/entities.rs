//! The entities of a request, and what it brings for derived features.

use arrow::array::{Array, ArrayRef};

use crate::{Result, ServeError};

/// Columns by name, all of one length: the keys of the entities asked for, row by row, and beside them what the
/// request brings for derived features, as they stand side by side in a spine.
#[derive(Debug, Clone)]
pub struct EntityColumns {
    columns: Vec<(String, ArrayRef)>,
    rows: usize,
}

impl EntityColumns {
    /// Checks that names differ and lengths do not.
    ///
    /// # Errors
    /// [`ServeError::KeyTwice`], [`ServeError::UnequalLengths`].
    pub fn new(columns: Vec<(String, ArrayRef)>) -> Result<EntityColumns> {
        for (at, (key, array)) in columns.iter().enumerate() {
            let before = columns.get(..at).unwrap_or_default();
            if before.iter().any(|(other, _)| other == key) {
                return Err(ServeError::KeyTwice { key: key.clone() });
            }
            if let Some((first, other)) = before.first()
                && other.len() != array.len()
            {
                return Err(ServeError::UnequalLengths {
                    first: first.clone(),
                    first_rows: other.len(),
                    second: key.clone(),
                    second_rows: array.len(),
                });
            }
        }
        let rows = columns.first().map_or(0, |(_, array)| array.len());
        Ok(EntityColumns { columns, rows })
    }

    /// A request without keys or anything else: for features of its time alone, so many times.
    pub fn none(rows: usize) -> EntityColumns {
        EntityColumns { columns: Vec::new(), rows }
    }

    /// The column of this name.
    pub fn get(&self, key: &str) -> Option<&ArrayRef> {
        self.columns.iter().find(|(name, _)| name == key).map(|(_, array)| array)
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// How many entities.
    pub fn rows(&self) -> usize {
        self.rows
    }
}
