//! Which rows of a pushed source are no longer the last version of their event: a small table beside the one of its rows.
//!
//! Intake looks every id up as it accepts a row, so it knows which version stands before it and which after it, and
//! writes that into the log beside the batch ([`Superseded`]). A flush commits these entries before the rows; the commit
//! of the rows says up to which position of theirs the table beside has everything ([`COVERED`]). A reader that finds this
//! to be all of the rows takes, of the entries accepted up to its cut, the least `v` of each row, and no pass over ids is
//! needed; else it looks for the versions itself, as for rows of before there were such tables.
//!
//! Entries are facts about rows: one that is here twice, or before its row, changes nothing. The commit of the rows says
//! too where the table beside stood ([`ENTRIES`]): one that was removed, or is an older copy, is not taken for whole.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType};
use asof_compute::Position;
use asof_model::{SourceVersion, Timestamp};
use deltalake_core::DeltaTable;
use deltalake_core::kernel::Transaction;

use super::append::{Attempt, Files, MAX_ROUNDS, Sizes, busy, commit, remove};
use super::flush::staged;
use super::readers::HeldFile;
use super::stored::{FORMAT, INTAKE, Layout, POSITIONS, STORES};
use super::table::{self, broken};
use crate::point_in_time::{Ends, NamedBy, WITHDRAWAL, nameless_delete};
use crate::source::instants::instant_type;
use crate::{Engine, Error, Result};

/// In the table of rows: the application whose transaction version is the position up to which the table beside has
/// everything that is known of these rows.
pub(super) const COVERED: &str = "asof.superseded";
/// In the table of rows: the application whose transaction version is the position that the table beside stood at then; none,
/// or zero, where nothing was superseded yet.
pub(super) const ENTRIES: &str = "asof.superseded.entries";

/// That a row of a source with ids is not the last version of its event, as known when one of the two was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superseded {
    /// `s` of the row.
    pub row: Position,
    /// What comes after it.
    pub by: Next,
}

/// What comes after a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another version of its event.
    Version {
        /// Its `v`, which may be never.
        visible_at: Timestamp,
        /// Its `s`.
        position: Position,
    },
    /// Nothing ever counts of it: it is a delete with an id.
    Withdrawal,
    /// It is a delete without an id, which ends a key; windows know of none.
    Delete,
}

/// Bytes of an entry in the log.
pub(crate) const BYTES: usize = 24;

impl Superseded {
    /// From when on this was known.
    fn accepted(&self) -> Position {
        match self.by {
            Next::Version { position, .. } => self.row.max(position),
            Next::Withdrawal | Next::Delete => self.row,
        }
    }

    /// As the log has it: position of the row, v and position of the next, which is the row's own of a delete, with the
    /// least v where it has an id and else the greatest.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let (visible_at, by) = match self.by {
            Next::Version { visible_at, position } => (visible_at, position),
            Next::Withdrawal => (Timestamp::BEFORE_ALL, self.row),
            Next::Delete => (Timestamp::NEVER, self.row),
        };
        for number in [self.row.0, visible_at.0, by.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Reads what [`Superseded::put`] wrote.
    pub(crate) fn read(bytes: &[u8; BYTES]) -> Superseded {
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            i64::from_le_bytes(number)
        };
        let (row, visible_at, position) = (Position(number(0)), Timestamp(number(8)), Position(number(16)));
        let by = match (row == position, visible_at) {
            (true, Timestamp::BEFORE_ALL) => Next::Withdrawal,
            (true, _) => Next::Delete,
            (false, visible_at) => Next::Version { visible_at, position },
        };
        Superseded { row, by }
    }
}

/// The layout of the table beside a source's table.
pub(super) fn layout(of: &Layout) -> Layout {
    let mut name = of.folder.file_name().unwrap_or_default().to_owned();
    name.push(".superseded");
    let fields = vec![
        Field::new("seq", DataType::Int64, true),
        Field::new("visible_at", instant_type(), true),
        Field::new("next_seq", DataType::Int64, true),
        Field::new("next", DataType::Utf8, true),
    ];
    Layout {
        folder: of.folder.with_file_name(name),
        table: Arc::new(Schema::new(fields)),
        seq: "seq".to_owned(),
        visible_at: "visible_at".to_owned(),
        op: "next".to_owned(),
        ..of.clone()
    }
}

/// Where the table beside has everything that is known of the rows up to this position, their last: the position that it
/// stands at, or past it.
pub(super) async fn covered(of: &Layout, table: &DeltaTable, base: Position) -> Result<Option<Position>> {
    if base != Position(0) && of.marker(table, COVERED).await? != Some(base.0) {
        return Ok(None);
    }
    Ok(Some(Position(of.marker(table, ENTRIES).await?.unwrap_or(0))))
}

/// The table beside, if it is there, and the position it stands at; none where that is before `least`. Entries may be
/// read there, and follow, only where it stands.
pub(super) async fn standing(
    files: &super::DurableFiles,
    of: &Layout,
    least: Position,
) -> Result<Option<(Option<DeltaTable>, Position)>> {
    let layout = layout(of);
    let table = table::open(files, &layout.folder).await?;
    let at = match &table {
        Some(table) => {
            layout.check(table)?;
            Position(layout.last_position(table).await?)
        }
        None => Position(0),
    };
    if at < least {
        tracing::warn!(
            table = %layout.folder.display(),
            stands = at.0,
            stood = least.0,
            "which rows are superseded is looked for in the rows: the table that says it was removed or is an older copy"
        );
        return Ok(None);
    }
    Ok(Some((table, at)))
}

/// Puts the entries accepted up to a position into the table beside, each once; where it stands then, which is `at` as
/// before where there are none. Durable when this returns. The caller holds the right to write to the table of rows,
/// through whose store this writes.
pub(super) async fn put(
    store: &super::DurableFiles,
    of: &Layout,
    source: &SourceVersion,
    entries: &[Superseded],
    (at, to): (Position, Position),
) -> Result<Position> {
    if entries.is_empty() {
        return Ok(at);
    }
    let layout = layout(of);
    let two_days = "interval 2 days".to_owned();
    let properties = [
        ("asof.format", FORMAT.to_owned()),
        ("asof.source", source.address.to_string()),
        (POSITIONS, STORES.to_owned()),
        ("delta.dataSkippingStatsColumns", "`seq`,`visible_at`,`next_seq`".to_owned()),
        ("delta.appendOnly", "false".to_owned()),
        ("delta.logRetentionDuration", two_days.clone()),
        ("delta.deletedFileRetentionDuration", two_days),
    ];
    let mut table = table::open_or_make(store, &layout.folder, &layout.table, &properties).await?;
    layout.check(&table)?;
    table::remove_leftovers(&table, &layout.folder, super::append::DATA_PREFIX).await?;
    // Every round is lost to another writer's success, so rounds end.
    for _ in 0..MAX_ROUNDS {
        let last = Position(layout.last_position(&table).await?);
        let new = |entry: &&Superseded| last < entry.accepted() && entry.accepted() <= to;
        let new: Vec<Superseded> = entries.iter().filter(new).copied().collect();
        if new.is_empty() {
            return Ok(last);
        }
        let mut files = Files::new(&table, Arc::clone(&layout.table), &layout.folder, Sizes::default());
        files.write(&rows(&layout, &new)?).await?;
        let adds = files.finish(&layout).await?;
        let transactions = vec![Transaction::new(INTAKE, to.0)];
        match commit(&mut table, &layout.folder, adds.clone(), transactions, Default::default()).await? {
            Attempt::Done => return Ok(to),
            Attempt::LookAgain => remove(&table, &adds).await,
        }
    }
    Err(busy(&layout.folder))
}

/// Entries as the table has them.
fn rows(layout: &Layout, entries: &[Superseded]) -> Result<RecordBatch> {
    let visible_at = entries.iter().map(|entry| match entry.by {
        Next::Version { visible_at: Timestamp::NEVER, .. } | Next::Withdrawal | Next::Delete => None,
        Next::Version { visible_at, .. } => Some(visible_at.0),
    });
    let position = entries.iter().map(|entry| match entry.by {
        Next::Version { position, .. } => Some(position.0),
        Next::Withdrawal | Next::Delete => None,
    });
    let next = entries.iter().map(|entry| match entry.by {
        Next::Version { .. } => VERSION,
        Next::Withdrawal => WITHDRAWN,
        Next::Delete => DELETE,
    });
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(entries.iter().map(|entry| entry.row.0))),
        Arc::new(visible_at.collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(position.collect::<Int64Array>()),
        Arc::new(StringArray::from_iter_values(next)),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&layout.table), columns)?)
}

const VERSION: &str = "version";
const WITHDRAWN: &str = "withdrawn";
const DELETE: &str = "delete";

/// Reads what [`rows`] made; none where it is anything else.
fn entries(batch: &RecordBatch) -> Option<Vec<Superseded>> {
    let row = batch.column_by_name("seq")?.as_primitive_opt::<Int64Type>()?;
    let visible_at = batch.column_by_name("visible_at")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    let position = batch.column_by_name("next_seq")?.as_primitive_opt::<Int64Type>()?;
    let next = batch.column_by_name("next")?.as_string_opt::<i32>()?;
    let entry = |at: usize| {
        let by = match next.value(at) {
            VERSION if position.is_valid(at) => Next::Version {
                visible_at: match visible_at.is_valid(at) {
                    true => Timestamp(visible_at.value(at)),
                    false => Timestamp::NEVER,
                },
                position: Position(position.value(at)),
            },
            WITHDRAWN => Next::Withdrawal,
            DELETE => Next::Delete,
            _ => return None,
        };
        (row.is_valid(at) && next.is_valid(at)).then(|| Superseded { row: Position(row.value(at)), by })
    };
    (0..batch.num_rows()).map(entry).collect()
}

/// All that is known of which rows of a source are superseded, up to its cut.
#[derive(Debug)]
pub(crate) struct Known {
    folder: PathBuf,
    files: Vec<(String, HeldFile)>,
    tail: Vec<Superseded>,
    upto: Position,
}

impl Known {
    /// Of a source whose rows have their entries in the table beside up to its last position, `tail` those past it; none
    /// where that table does not stand at `least`. Opened after the table of rows.
    pub(crate) async fn open(
        engine: &Engine,
        of: &Layout,
        least: Position,
        tail: Vec<Superseded>,
        upto: Position,
    ) -> Result<Option<Known>> {
        let layout = layout(of);
        let Some((table, _)) = standing(engine.files(), of, least).await? else { return Ok(None) };
        let mut files = Vec::new();
        if let Some(table) = table {
            let state = table.snapshot().map_err(|e| broken("read the table", &layout.folder, e))?;
            for file in state.log_data().iter() {
                let name = file.path().to_string();
                let held = engine.readers().hold(&layout.folder.join(&name));
                files.push((name, held));
            }
        }
        Ok(Some(Known { folder: layout.folder, files, tail, upto }))
    }

    /// The rows that end. `windows`: a delete without an id is refused.
    pub(crate) async fn ends(
        self: &Arc<Self>,
        engine: &Engine,
        source: &SourceVersion,
        windows: bool,
    ) -> Result<Ends> {
        let (known, source) = (Arc::clone(self), source.address.to_string());
        engine.blocking(move || known.find(&source, windows)).await
    }

    fn find(&self, source: &str, windows: bool) -> Result<Ends> {
        let mut ends: Vec<(u64, i64)> = Vec::new();
        let mut take = |entry: &Superseded| {
            if entry.accepted() > self.upto {
                return Ok(());
            }
            let end = match entry.by {
                Next::Version { visible_at, .. } => visible_at.0,
                Next::Withdrawal => WITHDRAWAL,
                Next::Delete if windows => {
                    return Err(nameless_delete(
                        source,
                        format!("the stored row at position {}", entry.row.0),
                    ));
                }
                Next::Delete => return Ok(()),
            };
            ends.push((entry.row.0.cast_unsigned(), end));
            Ok(())
        };
        for (name, _) in &self.files {
            for batch in staged(&self.folder, name)? {
                let found = entries(&batch?);
                let found = found.ok_or_else(|| {
                    let path = self.folder.join(name);
                    Error::internal(format!("the data file `{}` is not what was written", path.display()))
                })?;
                found.iter().try_for_each(&mut take)?;
            }
        }
        self.tail.iter().try_for_each(&mut take)?;
        // Of each row what comes first.
        ends.sort_unstable();
        ends.dedup_by_key(|(row, _)| *row);
        tracing::debug!(%source, rows = ends.len(), "rows that end are known from the table beside theirs");
        Ok(Ends::new(NamedBy::Position, ends))
    }
}
