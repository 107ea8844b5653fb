//! The entities of a request.

use arrow::array::{Array, ArrayRef};

use crate::{Result, ServeError};

/// Key columns by name, all of one length: the entities asked for, row by row.
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
