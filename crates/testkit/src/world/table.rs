//! Worlds as Arrow batches: as files have them, and as a scan gives them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::Float64Type;
use asof_compute::{RowDigester, order_keys};
use asof_model::{Column, DataType};

use super::{BEFORE_ALL, NEVER, Row, World};

impl World {
    /// The source's own columns, as its definition would have them: with `id` if its rows have ids.
    pub fn own_columns(&self) -> Vec<Column> {
        let mut columns = World::columns();
        if self.ids {
            columns.push(Column { name: "id".to_owned(), data_type: DataType::Int64 });
        }
        columns
    }

    /// The own columns of a source without ids.
    pub fn columns() -> Vec<Column> {
        let column = |name: &str, data_type| Column { name: name.to_owned(), data_type };
        vec![
            column("at", DataType::Timestamp),
            column("seen", DataType::Timestamp),
            column("rank", DataType::Int64),
            column("gone", DataType::Bool),
            column("shop", DataType::Int64),
            column("user", DataType::String),
            column("x", DataType::Float64),
            column("n", DataType::Int64),
            column("state", DataType::String),
            column("ends", DataType::Timestamp),
        ]
    }

    /// The rows as a file of the source has them: with `id` if its rows have ids.
    pub fn own_table(&self, rows: &[Row]) -> RecordBatch {
        let mut columns = World::cells(rows);
        if self.ids {
            columns.push(("id", Arc::new(rows.iter().map(|row| row.id).collect::<Int64Array>())));
        }
        nullable(columns)
    }

    /// The rows as a file of a source without ids has them.
    pub fn table(rows: &[Row]) -> RecordBatch {
        nullable(World::cells(rows))
    }

    fn cells(rows: &[Row]) -> Vec<(&'static str, ArrayRef)> {
        let time = |of: &dyn Fn(&Row) -> Option<i64>| -> ArrayRef {
            let times = rows.iter().map(|row| of(row).filter(|t| *t != BEFORE_ALL && *t != NEVER));
            Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        };
        vec![
            ("at", time(&|row| Some(row.e))),
            ("seen", time(&Row::seen)),
            ("rank", Arc::new(rows.iter().map(|row| row.o).collect::<Int64Array>())),
            ("gone", Arc::new(rows.iter().map(|row| Some(row.delete)).collect::<BooleanArray>())),
            ("shop", Arc::new(rows.iter().map(|row| row.shop).collect::<Int64Array>())),
            ("user", Arc::new(rows.iter().map(|row| row.user.as_deref()).collect::<StringArray>())),
            ("x", Arc::new(rows.iter().map(|row| row.x).collect::<Float64Array>())),
            ("n", Arc::new(rows.iter().map(|row| row.n).collect::<Int64Array>())),
            ("state", Arc::new(rows.iter().map(|row| row.state).collect::<StringArray>())),
            ("ends", time(&|row| row.until)),
        ]
    }

    /// The rows as a scan gives them: the fixed columns, then the source's own.
    pub fn scanned(&self, rows: &[Row]) -> RecordBatch {
        let time = |of: &dyn Fn(&Row) -> Option<i64>| -> ArrayRef {
            let times = rows.iter().map(of);
            Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        };
        let given = |time: i64| (time != NEVER && time != BEFORE_ALL).then_some(time);
        let order_by: ArrayRef = Arc::new(rows.iter().map(|row| row.o).collect::<Int64Array>());
        let order_by = match order_keys(&order_by) {
            Ok(keys) => keys,
            Err(_) => BinaryArray::from_iter_values(rows.iter().map(|_| b"")),
        };
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("__e", time(&|row| given(row.e))),
            ("__v", time(&|row| given(row.v))),
            ("__o", Arc::new(order_by)),
            ("__s", Arc::new(rows.iter().map(|row| row.s).collect::<Int64Array>())),
            ("__op", Arc::new(rows.iter().map(|row| Some(row.delete)).collect::<BooleanArray>())),
            ("__until", time(&|row| row.until)),
        ];
        let table = self.own_table(rows);
        let schema = table.schema();
        for (field, column) in schema.fields().iter().zip(table.columns()) {
            let column: ArrayRef = match column.as_primitive_opt::<Float64Type>() {
                // Whatever the file has, a scan gives floats in one form.
                Some(floats) => {
                    let form = |x: f64| if x.is_nan() { f64::NAN } else { x + 0.0 };
                    Arc::new(floats.unary::<_, Float64Type>(form))
                }
                None => Arc::clone(column),
            };
            columns.push((field.name(), column));
        }
        nullable(columns)
    }

    /// Takes the digests of all rows again, after some were changed.
    pub fn take_digests(&mut self) {
        let digester = RowDigester::new(&self.own_columns());
        if let Ok(digests) = digester.digest(&self.own_table(&self.rows)) {
            for (row, digest) in self.rows.iter_mut().zip(digests) {
                row.digest = digest.0;
            }
        }
    }

    /// The spine as a file has it: `shop`, `other_shop`, `user`, `t`.
    pub fn spine_table(&self) -> RecordBatch {
        let times: TimestampMicrosecondArray = self.spine.iter().map(|row| Some(row.t)).collect();
        nullable(vec![
            ("shop", Arc::new(self.spine.iter().map(|row| row.shop).collect::<Int64Array>())),
            ("other_shop", Arc::new(self.spine.iter().map(|row| row.other_shop).collect::<Int64Array>())),
            ("user", Arc::new(self.spine.iter().map(|row| row.user.as_deref()).collect::<StringArray>())),
            ("t", Arc::new(times.with_timezone("UTC"))),
        ])
    }
}

/// A batch whose columns may all be null.
fn nullable(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    match RecordBatch::try_from_iter_with_nullable(columns) {
        Ok(batch) => batch,
        Err(_) => RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())),
    }
}
