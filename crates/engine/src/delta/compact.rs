//! Small data files of a push source's table put together.
//!
//! A flush leaves a file a minute, and a reader opens all of them. Neighbours by position are written again
//! as one file with the same rows at the same positions, and one commit (`dataChange: false`) names it in
//! their place: a cut is a position, so what was recorded reads the same rows after as before. The files
//! that were put together stay for a while, for readers of the version before; who reads one in this process
//! keeps it for longer. Killed before the commit, the new file is a leftover that the next writer removes;
//! killed after, the old ones go the next time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use asof_model::{SourceVersion, Timestamp};
use deltalake_core::DeltaTable;
use deltalake_core::kernel::{Action, Remove};
use deltalake_core::protocol::DeltaOperation;
use futures::TryStreamExt;

use super::append::{Attempt, DATA_PREFIX, Files, Sizes, commit_actions, remove};
use super::durable::{DurableFiles, Right};
use super::flush::staged;
use super::scan::span;
use super::stored::Layout;
use super::superseded;
use super::table::{self, broken};
use crate::{Engine, Error, Result};

/// Fewer neighbours are not worth writing again.
const FEWEST: usize = 8;
/// About the bytes of a file that is put together.
const LARGEST: u64 = 256 << 20;

/// What became of a table's small files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Files that were put together.
    pub files: usize,
    /// Files that they are now.
    pub into: usize,
    /// Rows in them.
    pub rows: u64,
    /// Old files that were removed, of this time and before.
    pub removed: usize,
}

/// A data file, as far as it matters here.
#[derive(Debug, Clone)]
struct Small {
    path: String,
    remove: Remove,
    rows: u64,
    bytes: u64,
    first: i64,
}

impl Engine {
    /// Puts small files of a push source's table together where many stand, and removes old ones that were put
    /// together longer than `grace` before `now`, which are not read in this process.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Internal`] and [`Error::Invalid`] where the table cannot be read or written. After
    /// an error, and where another writer was first, the table holds the same rows.
    pub async fn compact(
        &self,
        source: &SourceVersion,
        now: Timestamp,
        grace: Duration,
    ) -> Result<Compacted> {
        let (engine, source) = (self.clone(), source.clone());
        let work = async move { compact(&engine, &source, now, grace).await };
        self.run(self.files().track(work)).await
    }
}

async fn compact(
    engine: &Engine,
    source: &SourceVersion,
    now: Timestamp,
    grace: Duration,
) -> Result<Compacted> {
    let layout = Layout::of(&engine.config().data_dir, source)?;
    let lock: Arc<Right> = Arc::new(table::lock(&layout.folder).await?);
    let store = engine.files().holding(&lock);
    if source.definition.id.is_some() {
        compact_table(engine, &store, &superseded::layout(&layout), now, grace).await?;
    }
    compact_table(engine, &store, &layout, now, grace).await
}

async fn compact_table(
    engine: &Engine,
    store: &DurableFiles,
    layout: &Layout,
    now: Timestamp,
    grace: Duration,
) -> Result<Compacted> {
    let Some(mut table) = table::open(store, &layout.folder).await? else { return Ok(Compacted::default()) };
    layout.check(&table)?;
    table::remove_leftovers(&table, &layout.folder, DATA_PREFIX).await?;
    let mut done = Compacted::default();
    for together in runs(small_files(&table, layout)?) {
        let rows: u64 = together.iter().map(|file| file.rows).sum();
        if put_together(engine, &mut table, layout, &together, now).await? {
            done.files += together.len();
            done.into += 1;
            done.rows += rows;
        }
    }
    done.removed = remove_old(engine, &table, layout, now, grace).await?;
    Ok(done)
}

/// The data files that may be put together, by position. One with a deletion vector is another engine's work.
fn small_files(table: &DeltaTable, layout: &Layout) -> Result<Vec<Small>> {
    let state = table.snapshot().map_err(|e| broken("read the table", &layout.folder, e))?;
    let of = |file: deltalake_core::kernel::LogicalFileView| {
        let (first, _) = file.stats().map(|it| span(&it, &layout.seq)).unwrap_or_default();
        let whole = file.deletion_vector_descriptor().is_none();
        Some(Small {
            rows: u64::try_from(file.num_records()?).ok()?,
            bytes: u64::try_from(file.size()).ok()?,
            first: first.filter(|_| whole)?,
            path: file.path().to_string(),
            remove: file.remove_action(false),
        })
    };
    let mut found: Vec<Small> = state.log_data().iter().filter_map(of).collect();
    found.sort_by_key(|file| file.first);
    Ok(found)
}

/// The stretches of neighbours that are written again. A row is written about once for each doubling of what it
/// stands in: no file makes out more than half of what it is put together with.
fn runs(files: Vec<Small>) -> Vec<Vec<Small>> {
    let mut found = Vec::new();
    let mut left = files;
    while !left.is_empty() {
        // Of the neighbours that end here the most that may be put together.
        let (mut best, mut bytes, mut largest) = (0, 0, 0);
        for (count, file) in left.iter().rev().enumerate() {
            bytes += file.bytes;
            largest = largest.max(file.bytes);
            if bytes > LARGEST {
                break;
            }
            if count + 1 >= FEWEST && largest * 2 <= bytes {
                best = count + 1;
            }
        }
        if best == 0 {
            left.pop();
        } else {
            found.push(left.split_off(left.len() - best));
        }
    }
    found
}

/// Writes files again as one and commits that. Whether they were still there to be replaced.
async fn put_together(
    engine: &Engine,
    table: &mut DeltaTable,
    layout: &Layout,
    together: &[Small],
    now: Timestamp,
) -> Result<bool> {
    let sizes = Sizes { file: u64::MAX, ..Sizes::default() };
    let mut files = Files::new(table, Arc::clone(&layout.table), &layout.folder, sizes);
    let mut rows = 0;
    for file in together {
        let (folder, path) = (layout.folder.clone(), file.path.clone());
        let mut open = engine.blocking(move || staged(&folder, &path)).await?;
        loop {
            let (batch, rest) = engine.blocking(move || Ok((open.next().transpose()?, open))).await?;
            open = rest;
            let Some(batch) = batch else { break };
            rows += batch.num_rows() as u64;
            files.write(&as_table(&batch, layout)?).await?;
        }
    }
    let expected: u64 = together.iter().map(|file| file.rows).sum();
    let mut adds = files.finish(layout).await?;
    if rows != expected {
        remove(table, &adds).await;
        return Err(Error::internal(format!(
            "the files of `{}` hold {rows} rows and the table's log says {expected}",
            layout.folder.display()
        )));
    }
    for add in &mut adds {
        add.data_change = false;
    }
    loop {
        let removes = together.iter().map(|file| {
            let deletion_timestamp = Some(now.0.div_euclid(1_000));
            Action::Remove(Remove { deletion_timestamp, ..file.remove.clone() })
        });
        let actions = adds.iter().cloned().map(Action::Add).chain(removes).collect();
        let operation = DeltaOperation::Optimize {
            predicate: None,
            target_size: i64::try_from(LARGEST).unwrap_or(i64::MAX),
        };
        match commit_actions(table, &layout.folder, actions, Vec::new(), operation, HashMap::new()).await? {
            Attempt::Done => return Ok(true),
            Attempt::LookAgain => {}
        }
        // Each round is lost to another's commit, and ends here where that took one of the files.
        let state = table.snapshot().map_err(|e| broken("read the table", &layout.folder, e))?;
        let named: std::collections::BTreeSet<String> =
            state.log_data().iter().map(|file| file.path().to_string()).collect();
        if !together.iter().all(|file| named.contains(&file.path)) {
            remove(table, &adds).await;
            return Ok(false);
        }
    }
}

/// A batch of a data file in the table's own columns.
fn as_table(batch: &RecordBatch, layout: &Layout) -> Result<RecordBatch> {
    let columns = layout.table.fields().iter().map(|field| {
        let found = batch.column_by_name(field.name());
        let found =
            found.ok_or_else(|| Error::internal(format!("a data file has no column `{}`", field.name())))?;
        Ok(arrow::compute::cast(found, field.data_type())?)
    });
    Ok(RecordBatch::try_new(Arc::clone(&layout.table), columns.collect::<Result<_>>()?)?)
}

/// Removes files that were put together long enough ago. How many.
async fn remove_old(
    engine: &Engine,
    table: &DeltaTable,
    layout: &Layout,
    now: Timestamp,
    grace: Duration,
) -> Result<usize> {
    let state = table.snapshot().map_err(|e| broken("read the table", &layout.folder, e))?;
    let named: std::collections::BTreeSet<String> =
        state.log_data().iter().map(|file| file.path().to_string()).collect();
    let before = now.0.div_euclid(1_000).saturating_sub(i64::try_from(grace.as_millis()).unwrap_or(i64::MAX));
    let old: Vec<String> = state
        .all_tombstones(table.log_store().as_ref())
        .try_filter_map(|tombstone| {
            let path = tombstone.path().to_string();
            let is_old = tombstone.deletion_timestamp().is_some_and(|at| at <= before);
            // Ours alone: what another engine let go of is its to remove.
            let goes = is_old && path.starts_with(DATA_PREFIX) && !named.contains(&path);
            futures::future::ready(Ok(goes.then_some(path)))
        })
        .try_collect()
        .await
        .map_err(|e| broken("read the table", &layout.folder, e))?;
    let (readers, folder) = (engine.readers().clone(), layout.folder.clone());
    engine
        .blocking(move || {
            let mut removed = 0;
            for name in old {
                let path = folder.join(name);
                let gone = readers.remove(&path).map_err(|e| Error::io("remove the file", &path, &e))?;
                removed += usize::from(gone);
            }
            Ok(removed)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How files of these sizes are put together, by the number of files of each run, the newest first.
    fn check(sizes: &[u64], expected: &[usize]) {
        let files = sizes.iter().enumerate().map(|(at, bytes)| Small {
            path: String::new(),
            remove: Remove::default(),
            rows: 1,
            bytes: *bytes,
            first: at as i64,
        });
        let found: Vec<usize> = runs(files.collect()).iter().map(Vec::len).collect();
        assert_eq!(found, expected, "{sizes:?}");
    }

    #[test]
    fn what_is_put_together() {
        check(&[1; 7], &[]);
        check(&[1; 8], &[8]);
        check(&[8, 1, 1, 1, 1, 1, 1, 1], &[]);
        check(&[8, 1, 1, 1, 1, 1, 1, 1, 1], &[9]);
        check(&[900, 1, 1, 1, 1, 1, 1, 1, 1], &[8]);
        check(&[LARGEST / 4; 20], &[]);
        check(&[LARGEST / 10; 20], &[10, 10]);
        check(&[LARGEST; 20], &[]);
    }

    /// A file a minute for a year: few stand at any time, and a row is written few times.
    #[test]
    fn few_files_stand_and_rows_are_written_few_times() {
        let mut files: Vec<Small> = Vec::new();
        let (mut written, mut most) = (0_u64, 0);
        let one = 20_000;
        let minutes = 60 * 24 * 30;
        for minute in 0..minutes {
            let file = |bytes, first| Small {
                path: String::new(),
                remove: Remove::default(),
                rows: 1,
                bytes,
                first,
            };
            files.push(file(one, minute));
            for run in runs(files.clone()) {
                let bytes = run.iter().map(|file| file.bytes).sum();
                written += bytes;
                let at = files.iter().position(|file| file.first == run[0].first).unwrap();
                files.splice(at..at + run.len(), [file(bytes, run[0].first)]);
            }
            most = most.max(files.len());
        }
        let all = one * minutes as u64;
        assert!(most < 60, "{most} files");
        assert!(written < 8 * all, "each row was written {} times", written / all);
    }
}
