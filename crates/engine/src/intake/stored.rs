//! The rows of an accepted batch as bytes of the intake log, and back. The format is
//! `docs/formats/live-rows.md`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use asof_compute::{ColumnBuilder, Position, RowLayout};
use asof_model::{SourceVersion, Timestamp};

use crate::delta::{SUPERSEDED_BYTES, Superseded};
use crate::source::columns::field;
use crate::source::fixed;
use crate::source::instants::instant_type;
use crate::{Error, Result};

/// The greatest first byte of the rows of a batch: `docs/formats/live-rows.md`.
pub const LIVE_ROWS_FORMAT: u8 = 2;
/// The first byte of rows alone.
const ROWS_ALONE: u8 = 1;

/// How rows of a source stand in the intake log. All versions of a source that share a table
/// (`docs/formats/stored-source.md`) share it.
#[derive(Debug, Clone)]
pub struct LiveRows {
    source: String,
    layout: RowLayout,
    given: SchemaRef,
    read: SchemaRef,
}

/// The rows of a batch, each as its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedRows {
    bytes: Vec<u8>,
    /// Where each row ends.
    ends: Vec<usize>,
}

/// Collects rows of log entries into a batch of [`LiveRows::read_schema`].
#[derive(Debug)]
pub struct LiveRowsReader<'a> {
    rows: &'a LiveRows,
    builders: Vec<ColumnBuilder>,
    /// `v` of the batch that each row stands in, and `s`.
    given: Vec<(i64, i64)>,
    /// Which rows are superseded; none where a batch does not say it.
    superseded: Option<Vec<Superseded>>,
}

impl LiveRows {
    /// For the rows of this source.
    ///
    /// # Errors
    /// [`Error::Internal`] where a column's type has no place in a row.
    pub fn of(source: &SourceVersion) -> Result<LiveRows> {
        let name = source.address.to_string();
        let mut fields: Vec<Field> =
            source.columns.iter().map(|column| field(&column.name, &column.data_type)).collect();
        fields.push(Field::new(fixed::EVENT_TIME, instant_type(), true));
        fields.push(Field::new(fixed::OP, ArrowType::Boolean, false));
        fields.push(Field::new(fixed::VISIBLE_AT, instant_type(), true));
        let types: Vec<ArrowType> = fields.iter().map(|field| field.data_type().clone()).collect();
        let layout = RowLayout::new(&types).map_err(|error| broken(&name, &error))?;
        let given = Arc::new(Schema::new(fields.clone()));
        fields.push(Field::new(fixed::POSITION, ArrowType::Int64, false));
        Ok(LiveRows { source: name, layout, given, read: Arc::new(Schema::new(fields)) })
    }

    /// What [`LiveRows::encode`] takes: the source's columns in its order, then [`fixed::EVENT_TIME`],
    /// [`fixed::OP`] and [`fixed::VISIBLE_AT`], which is null where a row gets the `v` of its batch and
    /// [`Timestamp::NEVER`] where its `available_at` is null.
    pub fn schema(&self) -> &SchemaRef {
        &self.given
    }

    /// What [`LiveRowsReader::finish`] gives: as [`LiveRows::schema`], but every row has its own `v`, null where
    /// it is never known, and behind it `s` as [`fixed::POSITION`].
    pub fn read_schema(&self) -> &SchemaRef {
        &self.read
    }

    /// The bytes of each row of a batch of [`LiveRows::schema`].
    ///
    /// # Errors
    /// [`Error::Exhausted`] for a row of more than 4 GiB; [`Error::Internal`] for a batch of another schema.
    pub fn encode(&self, rows: &RecordBatch) -> Result<EncodedRows> {
        let encoder = self.layout.encoder(rows.columns()).map_err(|error| broken(&self.source, &error))?;
        let mut out = EncodedRows::default();
        for row in 0..rows.num_rows() {
            let start = out.bytes.len();
            out.bytes.extend_from_slice(&[0; 4]);
            encoder.encode(row, &mut out.bytes).map_err(|error| broken(&self.source, &error))?;
            let length = u32::try_from(out.bytes.len() - start - 4).map_err(|_| Error::Exhausted {
                what: format!("a row of source `{}`", self.source),
                limit: "4 GiB".to_owned(),
                hint: None,
            })?;
            out.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
            out.ends.push(out.bytes.len());
        }
        Ok(out)
    }

    /// Reads rows of log entries, with room for so many.
    ///
    /// # Errors
    /// [`Error::Internal`] where a column's type cannot be built.
    pub fn reader(&self, capacity: usize) -> Result<LiveRowsReader<'_>> {
        let builders = (0..self.layout.types().len()).map(|column| self.layout.builder(column, capacity));
        let builders = builders.collect::<Result<_, _>>().map_err(|error| broken(&self.source, &error))?;
        let (given, superseded) = (Vec::with_capacity(capacity), Some(Vec::new()));
        Ok(LiveRowsReader { rows: self, builders, given, superseded })
    }
}

impl EncodedRows {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// What the log keeps of these rows, by their place in the batch; places past the last are passed over.
    /// `superseded`: of a source with ids, which rows are superseded as these are accepted.
    pub fn of(&self, rows: impl Iterator<Item = usize>, superseded: Option<&[Superseded]>) -> Vec<u8> {
        let entries = superseded.unwrap_or_default();
        let mut out = Vec::with_capacity(self.bytes.len() + 5 + entries.len() * SUPERSEDED_BYTES);
        match superseded.map(|entries| u32::try_from(entries.len())) {
            Some(Ok(count)) => {
                out.push(LIVE_ROWS_FORMAT);
                out.extend_from_slice(&count.to_le_bytes());
                entries.iter().for_each(|entry| entry.put(&mut out));
            }
            // More than a batch has rows.
            Some(Err(_)) | None => out.push(ROWS_ALONE),
        }
        for row in rows {
            let start = row.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
            let end = self.ends.get(row).copied().unwrap_or(start);
            out.extend_from_slice(&self.bytes[start..end.max(start)]);
        }
        out
    }

    /// [`EncodedRows::of`] all rows of a source without ids.
    pub fn all(&self) -> Vec<u8> {
        self.of(0..self.len(), None)
    }
}

impl LiveRowsReader<'_> {
    /// Rows collected so far.
    pub fn len(&self) -> usize {
        self.given.len()
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Takes the rows of a log entry past a position: `bytes` as the log has them, `visible_at` its `v`, `first`
    /// the `s` of its first row.
    ///
    /// # Errors
    /// [`Error::Invalid`] with code `live_rows_newer` where a newer Asof wrote it; [`Error::Internal`] where the
    /// bytes are not rows of this source. What was taken of the entry before is then still there.
    pub fn take(
        &mut self,
        bytes: &[u8],
        visible_at: Timestamp,
        first: Position,
        after: Position,
    ) -> Result<()> {
        let damaged = || {
            let what = format!("a batch of source `{}` in the intake log is damaged", self.rows.source);
            Error::internal(what)
        };
        let Some((&format, mut left)) = bytes.split_first() else { return Err(damaged()) };
        if format > LIVE_ROWS_FORMAT {
            let message = format!(
                "rows of source `{}` in the intake log have format {format}, and this Asof reads up to {LIVE_ROWS_FORMAT}",
                self.rows.source
            );
            return Err(Error::invalid("live_rows_newer", message)
                .with_hint("use the version of Asof that wrote it, or a newer one"));
        }
        if format == ROWS_ALONE {
            self.superseded = None;
        } else {
            let (count, rest) = left.split_first_chunk::<4>().ok_or_else(damaged)?;
            let bytes = (u32::from_le_bytes(*count) as usize).saturating_mul(SUPERSEDED_BYTES);
            let (entries, rest) = rest.split_at_checked(bytes).ok_or_else(damaged)?;
            if let (Some(found), (entries, [])) = (&mut self.superseded, entries.as_chunks()) {
                found.extend(entries.iter().map(Superseded::read));
            }
            left = rest;
        }
        let mut position = first.0;
        while let Some((length, rest)) = left.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| damaged())?;
            let Some((row, rest)) = rest.split_at_checked(length) else { return Err(damaged()) };
            left = rest;
            if position > after.0 {
                let layout = &self.rows.layout;
                for (column, builder) in self.builders.iter_mut().enumerate() {
                    layout
                        .bytes(row, column)
                        .and_then(|bytes| layout.append(column, bytes, builder))
                        .map_err(|error| broken(&self.rows.source, &error))?;
                }
                self.given.push((visible_at.0, position));
            }
            position += 1;
        }
        if left.is_empty() { Ok(()) } else { Err(damaged()) }
    }

    /// Which rows the batches taken supersede, or are superseded among theirs; none where one does not say it.
    pub fn superseded(&mut self) -> Option<Vec<Superseded>> {
        self.superseded.take()
    }

    /// The rows taken, in the order they were taken.
    ///
    /// # Errors
    /// [`Error::Internal`] where text is not UTF-8.
    pub fn finish(self) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.builders.len() + 1);
        for builder in self.builders {
            columns.push(builder.finish().map_err(|error| broken(&self.rows.source, &error))?);
        }
        if let Some(own) = columns.pop() {
            let own = own.as_primitive::<TimestampMicrosecondType>();
            let visible_at = self.given.iter().zip(own).map(|((batch, _), own)| match own {
                None => Some(*batch),
                Some(never) if never == Timestamp::NEVER.0 => None,
                own => own,
            });
            let visible_at = visible_at.collect::<TimestampMicrosecondArray>().with_timezone("UTC");
            columns.push(Arc::new(visible_at));
        }
        columns
            .push(Arc::new(Int64Array::from_iter_values(self.given.iter().map(|(_, position)| *position))));
        let options = RecordBatchOptions::new().with_row_count(Some(self.given.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.rows.read), columns, &options)?)
    }
}

fn broken(source: &str, error: &asof_compute::RowError) -> Error {
    Error::internal(format!("the rows of source `{source}` in the intake log: {error}"))
}
