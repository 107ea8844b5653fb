//! The canonical digest of rows: `c` of the order (SEMANTICS section 1).

use arrow::record_batch::RecordBatch;
use asof_model::{Column, DataType};

use crate::cell::{Cells, write_bytes};
use crate::{ComputeError, RowDigest, from_arrow_type};

/// The version byte of the canonical row encoding.
const VERSION: u8 = 1;

/// Digests the rows of batches over all columns of their source. Independent of the order of columns,
/// of the layout of arrays (dictionary, view, large) and of batches; a null cell is as no cell, so that
/// a new column leaves the digests of older rows as they were. The encoding is `docs/formats/row.md`.
#[derive(Debug, Clone)]
pub struct RowDigester {
    /// In order of their names.
    columns: Vec<Column>,
}

impl RowDigester {
    /// For rows of these columns.
    pub fn new(columns: &[Column]) -> RowDigester {
        let mut columns = columns.to_vec();
        columns.sort_by(|a, b| a.name.cmp(&b.name));
        RowDigester { columns }
    }

    /// The columns it reads, in order of their names.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The digests of all rows. Columns are found by name; others are not looked at.
    ///
    /// # Errors
    /// Where a column is missing or of another type.
    pub fn digest(&self, batch: &RecordBatch) -> Result<Vec<RowDigest>, ComputeError> {
        let mut cells = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let found = batch.column_by_name(&column.name).ok_or_else(|| ComputeError::WrongType {
                expected: column.data_type.clone(),
                found: "no column".to_owned(),
            })?;
            cells.push(Cells::new(found, &column.data_type)?);
        }
        let mut bytes = Vec::new();
        let mut digests = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            bytes.clear();
            bytes.push(VERSION);
            for (column, cells) in self.columns.iter().zip(&cells) {
                if !cells.is_null(row) {
                    write_bytes(column.name.as_bytes(), &mut bytes);
                    cells.write(row, &mut bytes);
                }
            }
            let mut digest = [0; 16];
            digest.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
            digests.push(RowDigest(digest));
        }
        Ok(digests)
    }

    /// A digester over the columns of a batch, for rows that have no declared source.
    ///
    /// # Errors
    /// [`ComputeError::Unsupported`] where a column has no type of ours.
    pub fn of_schema(schema: &arrow::datatypes::Schema) -> Result<RowDigester, ComputeError> {
        let columns = schema
            .fields()
            .iter()
            .map(|field| {
                let data_type: DataType = from_arrow_type(field.data_type())
                    .ok_or_else(|| ComputeError::Unsupported { found: field.data_type().to_string() })?;
                Ok(Column { name: field.name().clone(), data_type })
            })
            .collect::<Result<Vec<_>, ComputeError>>()?;
        Ok(RowDigester::new(&columns))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, StringArray, StringViewArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn digests(columns: Vec<(&str, ArrayRef)>) -> Vec<RowDigest> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        RowDigester::of_schema(&batch.schema()).unwrap().digest(&batch).unwrap()
    }

    #[test]
    fn layout_and_order_do_not_matter_and_values_do() {
        let a: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        let words = vec![Some("x"), Some("y"), None];
        let plain: ArrayRef = Arc::new(StringArray::from(words.clone()));
        let view: ArrayRef = Arc::new(StringViewArray::from(words.clone()));
        let dictionary: ArrayRef = Arc::new(words.into_iter().collect::<DictionaryArray<Int32Type>>());
        let expected = digests(vec![("a", Arc::clone(&a)), ("b", plain)]);
        assert_eq!(digests(vec![("b", view), ("a", Arc::clone(&a))]), expected);
        assert_eq!(digests(vec![("a", Arc::clone(&a)), ("b", dictionary)]), expected);
        assert_eq!(expected.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
        // A new column of nulls changes nothing; under another name the same value is another row.
        let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None, None, None]));
        assert_eq!(digests(vec![("a", Arc::clone(&a))]), digests(vec![("a", Arc::clone(&a)), ("z", nulls)]));
        assert_ne!(digests(vec![("a", Arc::clone(&a))])[0], digests(vec![("b", a)])[0]);
    }

    #[test]
    fn floats_have_one_zero_and_one_nan() {
        let quiet = f64::from_bits(f64::NAN.to_bits() | 1);
        let rows =
            digests(vec![("x", Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, quiet, -quiet])))]);
        assert_eq!(rows[0], rows[1]);
        assert!(rows[2] == rows[3] && rows[3] == rows[4] && rows[0] != rows[2]);
    }

    /// Stored digests decide ties for ever: this value may never change.
    #[test]
    fn the_encoding_stands() {
        let rows = digests(vec![
            ("id", Arc::new(Int64Array::from(vec![7]))),
            ("s", Arc::new(StringArray::from(vec!["é"]))),
        ]);
        let mut bytes = vec![1, 2, b'i', b'd', 5, 7, 0, 0, 0, 0, 0, 0, 0, 1, b's', 13, 2];
        bytes.extend("é".as_bytes());
        assert_eq!(rows[0].0, blake3::hash(&bytes).as_bytes()[..16]);
    }
}
