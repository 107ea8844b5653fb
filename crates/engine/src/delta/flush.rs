//! The rows of a push source on their way from the intake log into its table, each once.
//!
//! A commit carries the position up to which the log is in the table, as the application transaction
//! [`INTAKE`]. It is compared with the position that the staged rows begin after, against the very version
//! that the commit goes onto: where another was first, what it took is left out of what is staged. So
//! whoever is killed, and however often a flush is tried again, a row is in the table once.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use asof_compute::Position;
use asof_model::{Place, SourceVersion};
use deltalake_core::DeltaTable;
use deltalake_core::kernel::{Add, Transaction};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::append::{Attempt, DATA_PREFIX, Files, MAX_ROUNDS, Sizes, busy, commit, remove};
use super::durable::Right;
use super::stored::{INTAKE, Layout};
use super::superseded;
use super::table;
use super::tail::{self, SharedTail};
use crate::{Engine, Error, Result};

/// What a flush of one source came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flushed {
    /// Rows that were put into the table.
    pub rows: u64,
    /// Everything of the source up to here stands in its table.
    pub position: Position,
    /// Whether that is all that was in the view of the log.
    pub all: bool,
}

impl Engine {
    /// Moves rows of a push source from the intake log into its table, durable when this returns: those that
    /// are not there yet, up to the end of this view of the log, or up to the batch with which they came to
    /// `most` bytes. Asked again, it goes on.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the source is not pushed to; [`Error::Io`] and [`Error::Internal`] where log
    /// or table cannot be read or written; [`Error::Conflict`] where others commit to the table without end.
    /// After an error the table is as it was, or holds all of what was to be moved.
    pub async fn flush(&self, source: &SourceVersion, held: &SharedTail, most: u64) -> Result<Flushed> {
        self.flush_cut(source, held, most, Sizes::default()).await
    }

    pub(super) async fn flush_cut(
        &self,
        source: &SourceVersion,
        held: &SharedTail,
        most: u64,
        sizes: Sizes,
    ) -> Result<Flushed> {
        let (engine, source, held) = (self.clone(), source.clone(), held.clone());
        let work =
            async move { Flush { engine: &engine, source: &source, held: &held, sizes }.go(most).await };
        // Dropped, it is cut off at its next step, and waited for by who asks whether all is settled.
        self.run(self.files().track(work)).await
    }
}

struct Flush<'a> {
    engine: &'a Engine,
    source: &'a SourceVersion,
    held: &'a SharedTail,
    sizes: Sizes,
}

impl Flush<'_> {
    async fn go(&self, most: u64) -> Result<Flushed> {
        let Place::Push { .. } = &self.source.definition.place else {
            let message = format!(
                "source `{}` is not pushed to, so nothing of it is to be flushed",
                self.source.address
            );
            return Err(Error::invalid("source_not_pushed", message));
        };
        let layout = Layout::of(&self.engine.config().data_dir, self.source)?;
        // By each write of its own as well, since one that was begun goes on where this is dropped.
        let lock: Arc<Right> = Arc::new(table::lock(&layout.folder).await?);
        let store = self.engine.files().holding(&lock);
        let properties = layout.properties(self.source);
        let mut table = table::open_or_make(&store, &layout.folder, &layout.table, &properties).await?;
        layout.check(&table)?;
        table::remove_leftovers(&table, &layout.folder, DATA_PREFIX).await?;
        let base = Position(layout.last_position(&table).await?);
        let end = self.held.end();
        if base >= end {
            return Ok(Flushed { rows: 0, position: base, all: true });
        }
        let mut files = Files::new(&table, Arc::clone(&layout.table), &layout.folder, self.sizes);
        let mut log = tail::rows(self.engine, self.source, &layout, self.held, (base, end), most)?;
        let versions = self.source.definition.id.is_some();
        let covered = if versions { superseded::covered(&layout, &table, base).await? } else { None };
        let beside = match covered {
            Some(least) => superseded::standing(&store, &layout, least).await?.map(|(_, at)| at),
            None => None,
        };
        let mut known = beside.map(|at| (at, Vec::new()));
        let mut rows = 0;
        while let Some(batch) = log.batches.recv().await {
            files.write(&batch.rows).await?;
            rows += batch.rows.num_rows() as u64;
            if let (Some((_, known)), Some(more)) = (&mut known, &batch.superseded) {
                known.extend_from_slice(more);
            } else {
                known = None;
            }
        }
        // Only now are the rows known to be all of them up to here.
        let to = log.finish().await?;
        if rows == 0 {
            // Rows that are not there need no position: a reader finds none in the log either.
            return Ok(Flushed { rows: 0, position: base, all: to >= end });
        }
        let adds = files.finish(&layout).await?;
        // Before their rows: the table of rows says how far this one goes.
        let beside = match known {
            Some((at, known)) => Some(superseded::put(&store, &layout, self.source, &known, (at, to)).await?),
            None => None,
        };
        let rows = commit_up_to(&mut table, &layout, adds, rows, (base, to), beside).await?;
        Ok(Flushed { rows, position: to, all: to >= end })
    }
}

/// Commits staged rows, which stand past one position and up to another. How many of them were not there yet. `beside`:
/// the position of the table beside, where that has everything that is known of them.
pub(super) async fn commit_up_to(
    table: &mut DeltaTable,
    layout: &Layout,
    mut adds: Vec<Add>,
    mut rows: u64,
    (mut base, to): (Position, Position),
    beside: Option<Position>,
) -> Result<u64> {
    // Every round is lost to another writer's success, so rounds end.
    for _ in 0..MAX_ROUNDS {
        let last = Position(layout.last_position(table).await?);
        if last >= to {
            // Somebody has moved all of them.
            remove(table, &adds).await;
            return Ok(0);
        }
        if last > base {
            (adds, rows) = past(table, layout, &adds, last).await?;
            base = last;
        } else if last < base {
            remove(table, &adds).await;
            return Err(Error::Changed {
                what: "table",
                name: layout.folder.display().to_string(),
                change: format!(
                    "stood at position {} and now stands at {}: it was replaced while it was written to",
                    base.0, last.0
                ),
            });
        }
        let mut transactions = vec![Transaction::new(INTAKE, to.0)];
        if let Some(beside) = beside
            && superseded::covered(layout, table, last).await?.is_some()
        {
            transactions.push(Transaction::new(superseded::COVERED, to.0));
            transactions.push(Transaction::new(superseded::ENTRIES, beside.0));
        }
        match commit(table, &layout.folder, adds.clone(), transactions, HashMap::new()).await? {
            Attempt::Done => return Ok(rows),
            Attempt::LookAgain => {}
        }
    }
    remove(table, &adds).await;
    Err(busy(&layout.folder))
}

/// Writes staged files again without the rows up to a position; how many are left.
async fn past(
    table: &DeltaTable,
    layout: &Layout,
    adds: &[Add],
    position: Position,
) -> Result<(Vec<Add>, u64)> {
    let mut files = Files::new(table, Arc::clone(&layout.table), &layout.folder, Sizes::default());
    let at = layout.table.index_of(&layout.seq)?;
    let mut rows = 0;
    for add in adds {
        for batch in staged(&layout.folder, &add.path)? {
            let batch: RecordBatch = batch?;
            let positions = batch.column(at).as_primitive::<arrow::datatypes::Int64Type>();
            // They ascend.
            let first = positions.values().partition_point(|found| *found <= position.0);
            let left = batch.slice(first, batch.num_rows() - first);
            rows += left.num_rows() as u64;
            files.write(&left).await?;
        }
    }
    let again = files.finish(layout).await?;
    remove(table, adds).await;
    Ok((again, rows))
}

/// The rows of a data file below the table's folder.
pub(super) fn staged(
    folder: &Path,
    name: &str,
) -> Result<parquet::arrow::arrow_reader::ParquetRecordBatchReader> {
    let path = folder.join(name);
    let file = std::fs::File::open(&path).map_err(|e| Error::io("read the file", &path, &e))?;
    ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.build())
        .map_err(|e| Error::internal(format!("the data file `{}` cannot be read: {e}", path.display())))
}
