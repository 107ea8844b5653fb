//! Views of the store: of its tables, of its log, and the copy of both that is a backup.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use asof_compute::Position;
use asof_model::Timestamp;

use super::engine::{Shared, State, io_error, locked, tree_error};
use super::lease::LeaseFile;
use super::log::{self, Broken, Reading};
use super::store::{Direction, LiveSnapshot, LogEntry, LogSnapshot, SourceNumber, TableNumber, Version};
use super::tree::{Tree, View};
use super::versions;
use crate::{Error, Result};

pub(super) struct Snapshot {
    pub(super) shared: Arc<Shared>,
    pub(super) view: View,
    pub(super) t: Timestamp,
    pub(super) position: Position,
}

impl LiveSnapshot for Snapshot {
    fn answer_time(&self) -> Timestamp {
        self.t
    }

    fn position(&self) -> Position {
        self.position
    }

    fn get(&self, table: TableNumber, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.view.get(table, key).map_err(self.shared.tree("read"))
    }

    fn scan(
        &self,
        table: TableNumber,
        prefix: &[u8],
        from: Option<&[u8]>,
        direction: Direction,
        each: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        self.view
            .scan(table, prefix, from, direction, &mut |key, value| Ok(each(key, value)?))
            .map_err(self.shared.tree("read"))
    }

    fn versions(&self, source: SourceNumber, id: &[u8]) -> Result<Vec<Version>> {
        versions::versions(&self.view, source, id).map_err(self.shared.tree("read"))
    }
}

/// The log at one moment.
pub(super) struct LogView {
    shared: Arc<Shared>,
    reading: Reading,
    trimmed: Position,
    end: Position,
}

impl LogView {
    pub(super) fn open(shared: &Arc<Shared>, state: &mut State) -> LogView {
        let trimmed = state.trimmed;
        *state.readings.entry(trimmed).or_default() += 1;
        // Files that hold only what is trimmed go when they may.
        let begin = state.segments.iter().rposition(|segment| segment.before.s <= trimmed).unwrap_or(0);
        let segments = state.segments.get(begin..).unwrap_or_default().to_vec();
        let reading = Reading { segments, end: state.published.number };
        LogView { shared: Arc::clone(shared), reading, trimmed, end: state.published.s }
    }
}

impl Drop for LogView {
    fn drop(&mut self) {
        let mut state = locked(&self.shared.state);
        if let Some(count) = state.readings.get_mut(&self.trimmed) {
            *count -= 1;
            if *count == 0 {
                state.readings.remove(&self.trimmed);
            }
        }
    }
}

impl LogSnapshot for LogView {
    fn trimmed(&self) -> Position {
        self.trimmed
    }

    fn end(&self) -> Position {
        self.end
    }

    fn entries(
        &self,
        after: Position,
        source: Option<SourceNumber>,
        each: &mut dyn FnMut(LogEntry<'_>) -> Result<bool>,
    ) -> Result<()> {
        let after = after.max(self.trimmed);
        self.reading
            .records(after, &mut |record, _| match record.intake() {
                Some(entry)
                    if record.last().is_some_and(|last| last > after)
                        && source.is_none_or(|source| source == entry.source) =>
                {
                    each(entry)
                }
                _ => Ok(true),
            })
            .map_err(|broken| self.shared.broken(broken))
    }
}

impl Shared {
    fn broken(&self, broken: Broken<Error>) -> Error {
        match broken {
            Broken::Io(error) => io_error("read", &self.path, &error),
            Broken::Damaged(number) => Error::LiveDamaged {
                path: self.path.display().to_string(),
                what: format!("record {number} of its log is not what was written"),
            },
            Broken::Caller(error) => error,
        }
    }
}

/// Copies what is published into a new store. Its sequence file, without which a folder holds nothing, comes
/// last.
pub(super) fn copy(shared: &Arc<Shared>, to: &Path) -> Result<()> {
    let io = |error: std::io::Error| io_error("back up to", to, &error);
    let (view, reading) = {
        // Nothing is published in between.
        let mut state = locked(&shared.state);
        (shared.tree.snapshot(), LogView::open(shared, &mut state))
    };
    let number = reading.reading.end;
    let tables = to.join("tables");
    let logs = to.join("log");
    std::fs::create_dir_all(&logs).map_err(io)?;
    Tree::copy(&view, &tables, number).map_err(|error| tree_error("back up to", to, error))?;
    let before = reading.reading.segments.first().map(|segment| segment.before);
    let before = before.ok_or_else(|| shared.broken(Broken::Damaged(number)))?;
    let (file, _) = log::begin(&logs, before, &shared.fsync).map_err(io)?;
    let mut file = BufWriter::with_capacity(1 << 18, file);
    reading
        .reading
        .records(Position(i64::MIN), &mut |_, bytes| {
            file.write_all(bytes).map_err(io)?;
            Ok(true)
        })
        .map_err(|broken| shared.broken(broken))?;
    let file = file.into_inner().map_err(|error| io(error.into_error()))?;
    (shared.fsync)(&file).map_err(io)?;
    let kept = super::lease::Kept { trimmed: reading.trimmed, ..locked(&shared.lease).kept() };
    LeaseFile::make(to, kept, &shared.fsync).map_err(io)?;
    for folder in to.ancestors().take(2).filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    }
    Ok(())
}
