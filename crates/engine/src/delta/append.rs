//! One load into a stored table: rows staged in data files that nobody sees, then one commit.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use asof_model::Timestamp;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake_core::kernel::{Action, Add, Transaction};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaTable, DeltaTableError, ObjectStore};
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use parquet::arrow::AsyncArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::flush::staged;
use super::stored::{INTAKE, Layout, file_marker};
use super::table::broken;
use crate::{Error, Result};

/// What our data files' names begin with; files with such a name that no version names are leftovers.
pub(crate) const DATA_PREFIX: &str = "asof-";

/// How large things get before they are cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Bytes of a data file, about.
    pub(crate) file: u64,
    /// Rows of a row group, which is what a load holds in memory.
    pub(crate) group: usize,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes { file: 256 << 20, group: 128 << 10 }
    }
}

/// Bytes that are sent to the store at once, and how many such parts are on their way: what a load holds
/// besides a row group. The defaults of the library are 10 MiB, and eight of them.
const PART: usize = 4 << 20;
const PARTS: usize = 2;

/// What a commit came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Committed {
    /// The rows are in, at the positions that follow this one.
    After(i64),
    /// A file of the same content as one of these was loaded before, so none of them was loaded now.
    Before,
}

/// Rows on their way in. Dropped before its commit it leaves files that the next load removes.
pub(crate) struct Staging {
    layout: Layout,
    files: Files,
    /// The position before the first row's.
    base: i64,
    rows: i64,
}

impl Staging {
    /// Begins behind the table's last position.
    pub(crate) async fn begin(layout: Layout, table: &DeltaTable, sizes: Sizes) -> Result<Staging> {
        let base = layout.last_position(table).await?;
        let files = Files::new(table, layout.table.clone(), &layout.folder, sizes);
        Ok(Staging { layout, files, base, rows: 0 })
    }

    /// Adds rows in their order: the source's columns in the source's types, `e` and `v` in
    /// microseconds UTC, and whether each is a delete.
    pub(crate) async fn write(
        &mut self,
        source: &RecordBatch,
        event_time: &ArrayRef,
        visible_at: &ArrayRef,
        delete: &arrow::array::BooleanArray,
    ) -> Result<()> {
        let rows = source.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.layout.table.fields().len());
        for (column, field) in source.columns().iter().zip(self.layout.table.fields()) {
            columns.push(cast(column, field.data_type())?);
        }
        let first = self.base + self.rows + 1;
        let count = i64::try_from(rows).map_err(|_| Error::internal("a batch of too many rows"))?;
        columns.push(Arc::clone(event_time));
        columns.push(Arc::clone(visible_at));
        columns.push(Arc::new(Int64Array::from_iter_values(first..first + count)));
        let op = |delete: bool| if delete { "delete" } else { "value" };
        columns.push(Arc::new(StringArray::from_iter_values((0..rows).map(|row| op(delete.value(row))))));
        let batch = RecordBatch::try_new(self.layout.table.clone(), columns)?;
        self.files.write(&batch).await?;
        self.rows += count;
        Ok(())
    }

    /// How many rows were added.
    pub(crate) fn rows(&self) -> i64 {
        self.rows
    }

    /// Commits all rows at once and marks every file, by its content's hash, as loaded. The position and
    /// the markers are compared against the very version that the commit goes onto; where another writer
    /// was first, that is looked at again.
    pub(crate) async fn commit(
        self,
        table: &mut DeltaTable,
        marks: &[Mark],
        about: HashMap<String, serde_json::Value>,
    ) -> Result<Committed> {
        let Staging { layout, files, mut base, rows } = self;
        let mut adds = files.finish(&layout).await?;
        // Every round is lost to another writer's success, so rounds end.
        for _ in 0..MAX_ROUNDS {
            for mark in marks {
                if layout.marker(table, &file_marker(&mark.hash)).await?.is_some() {
                    remove(table, &adds).await;
                    return Ok(Committed::Before);
                }
            }
            let last = layout.last_position(table).await?;
            if last != base {
                adds = moved(table, &layout, &adds, last - base).await?;
                base = last;
            }
            let mut transactions = vec![Transaction::new(INTAKE, base + rows)];
            for mark in marks {
                transactions.push(Transaction::new(file_marker(&mark.hash), base + mark.before + 1));
            }
            match commit(table, &layout.folder, adds.clone(), transactions, about.clone()).await? {
                Attempt::Done => return Ok(Committed::After(base)),
                Attempt::LookAgain => {}
            }
        }
        remove(table, &adds).await;
        Err(busy(&layout.folder))
    }
}

/// A file whose rows are staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Of its content.
    pub(crate) hash: String,
    /// How many rows of the same load come before its first.
    pub(crate) before: i64,
}

/// Rounds of trying to commit, each lost to another writer.
pub(super) const MAX_ROUNDS: usize = 1_000;

/// Others commit without end.
pub(super) fn busy(folder: &Path) -> Error {
    Error::Conflict {
        code: "table_busy",
        message: format!("the table `{}` is written to by too many others", folder.display()),
        hint: Some("try again".to_owned()),
    }
}

/// What one try to commit came to.
pub(crate) enum Attempt {
    /// It is in, durably.
    Done,
    /// Somebody else's version came first; the table's state is now that version or a later one.
    LookAgain,
}

/// Tries to commit rows onto exactly the version that `table` holds.
pub(crate) async fn commit(
    table: &mut DeltaTable,
    folder: &Path,
    adds: Vec<Add>,
    transactions: Vec<Transaction>,
    about: HashMap<String, serde_json::Value>,
) -> Result<Attempt> {
    let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
    let actions = adds.into_iter().map(Action::Add).collect();
    commit_actions(table, folder, actions, transactions, operation, about).await
}

/// Tries to commit onto exactly the version that `table` holds.
pub(super) async fn commit_actions(
    table: &mut DeltaTable,
    folder: &Path,
    actions: Vec<Action>,
    transactions: Vec<Transaction>,
    operation: DeltaOperation,
    about: HashMap<String, serde_json::Value>,
) -> Result<Attempt> {
    let failed = |e| broken("commit to the table", folder, e);
    let properties = CommitProperties::default()
        .with_metadata(about)
        .with_application_transactions(transactions)
        // No retry inside: it would go onto a version whose position nobody compared.
        .with_max_retries(0);
    let prepared = {
        let state = table.snapshot().map_err(failed)?;
        CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(state), table.log_store(), operation)
            .into_prepared_commit_future()
            .await
            .map_err(failed)?
            .await
    };
    match prepared {
        Ok(committed) => {
            // Checkpoints and the like: the commit stands whether they succeed or not.
            if let Err(error) = committed.await {
                tracing::warn!(folder = %folder.display(), %error, "work after a commit failed");
            }
            if let Err(error) = table.update_state().await {
                tracing::warn!(folder = %folder.display(), %error, "a table could not be read after a commit");
            }
            Ok(Attempt::Done)
        }
        Err(
            DeltaTableError::VersionAlreadyExists(_)
            | DeltaTableError::Transaction {
                source:
                    TransactionError::MaxCommitAttempts(_)
                    | TransactionError::CommitConflict(_)
                    | TransactionError::VersionAlreadyExists(_),
            },
        ) => {
            table.update_state().await.map_err(failed)?;
            Ok(Attempt::LookAgain)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Data files being written: cut at a size, named at random, unseen until a commit names them.
pub(crate) struct Files {
    store: Arc<dyn ObjectStore>,
    schema: SchemaRef,
    folder: std::path::PathBuf,
    sizes: Sizes,
    stem: String,
    open: Option<OpenFile>,
    written: Vec<Written>,
}

struct OpenFile {
    path: object_store::path::Path,
    writer: AsyncArrowWriter<BufWriter>,
    statistics: Statistics,
}

struct Written {
    path: object_store::path::Path,
    statistics: Statistics,
}

/// Of our own columns only, by the columns' names: rows, nulls, least and greatest.
#[derive(Debug, Clone, Default)]
struct Statistics {
    rows: i64,
    own: HashMap<String, (i64, Option<i64>, Option<i64>)>,
}

impl Files {
    pub(crate) fn new(table: &DeltaTable, schema: SchemaRef, folder: &Path, sizes: Sizes) -> Files {
        let stem = format!("{DATA_PREFIX}{:032x}", rand::random::<u128>());
        let store = table.object_store();
        Files { store, schema, folder: folder.to_owned(), sizes, stem, open: None, written: Vec::new() }
    }

    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.start()?,
        };
        open.statistics.add(batch);
        open.writer.write(batch).await.map_err(|e| self.failed(&e))?;
        let size = open.writer.bytes_written() + open.writer.in_progress_size();
        self.open = Some(open);
        if size as u64 >= self.sizes.file {
            self.end().await?;
        }
        Ok(())
    }

    fn start(&self) -> Result<OpenFile> {
        let path = object_store::path::Path::from(format!("{}-{:05}.parquet", self.stem, self.written.len()));
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(self.sizes.group))
            .build();
        let upload =
            BufWriter::with_capacity(Arc::clone(&self.store), path.clone(), PART).with_max_concurrency(PARTS);
        let writer = AsyncArrowWriter::try_new(upload, self.schema.clone(), Some(properties))
            .map_err(|e| self.failed(&e))?;
        Ok(OpenFile { path, writer, statistics: Statistics::default() })
    }

    async fn end(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            open.writer.close().await.map_err(|e| self.failed(&e))?;
            self.written.push(Written { path: open.path, statistics: open.statistics });
        }
        Ok(())
    }

    /// Ends the last file and names all of them for a commit. `layout`: whose own columns have
    /// statistics.
    pub(crate) async fn finish(mut self, layout: &Layout) -> Result<Vec<Add>> {
        let times = [layout.event_time.as_str(), layout.visible_at.as_str()];
        self.finish_with(&times).await
    }

    /// The same for a table with statistics of rows only.
    pub(crate) async fn finish_plain(mut self) -> Result<Vec<Add>> {
        self.finish_with(&[]).await
    }

    async fn finish_with(&mut self, times: &[&str]) -> Result<Vec<Add>> {
        self.end().await?;
        let mut adds = Vec::with_capacity(self.written.len());
        for file in std::mem::take(&mut self.written) {
            let at = self.store.head(&file.path).await.map_err(|e| {
                broken("read the file below", &self.folder, DeltaTableError::ObjectStore { source: e })
            })?;
            adds.push(Add {
                path: file.path.to_string(),
                size: i64::try_from(at.size).map_err(|_| Error::internal("a data file of too many bytes"))?,
                modification_time: at.last_modified.timestamp_millis(),
                data_change: true,
                stats: Some(file.statistics.text(times)),
                partition_values: HashMap::new(),
                tags: None,
                deletion_vector: None,
                base_row_id: None,
                default_row_commit_version: None,
                clustering_provider: None,
            });
        }
        Ok(adds)
    }

    fn failed(&self, error: &parquet::errors::ParquetError) -> Error {
        Error::Io {
            doing: "write a data file below",
            path: self.folder.display().to_string(),
            reason: error.to_string(),
        }
    }
}

impl Statistics {
    fn add(&mut self, batch: &RecordBatch) {
        self.rows += i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
        let schema = batch.schema();
        let own = schema.fields().len().saturating_sub(OWN_COLUMNS);
        for (field, column) in schema.fields().iter().zip(batch.columns()).skip(own) {
            let (least, greatest) = if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>()
            {
                (min(times), max(times))
            } else if let Some(numbers) = column.as_primitive_opt::<arrow::datatypes::Int64Type>() {
                (min(numbers), max(numbers))
            } else {
                continue;
            };
            let entry = self.own.entry(field.name().clone()).or_insert((0, None, None));
            entry.0 += i64::try_from(column.null_count()).unwrap_or(i64::MAX);
            entry.1 = [entry.1, least].into_iter().flatten().min();
            entry.2 = [entry.2, greatest].into_iter().flatten().max();
        }
    }

    /// As the Delta protocol writes them; `times` are the columns whose numbers are instants.
    fn text(&self, times: &[&str]) -> String {
        if times.is_empty() {
            return serde_json::json!({ "numRecords": self.rows }).to_string();
        }
        let value = |name: &str, number: i64| match times.contains(&name) {
            true => serde_json::Value::from(Timestamp(number).to_string()),
            false => serde_json::Value::from(number),
        };
        let mut nulls = serde_json::Map::new();
        let (mut least, mut greatest) = (serde_json::Map::new(), serde_json::Map::new());
        for (name, (null, min, max)) in &self.own {
            nulls.insert(name.clone(), (*null).into());
            if let (Some(min), Some(max)) = (min, max) {
                least.insert(name.clone(), value(name, *min));
                greatest.insert(name.clone(), value(name, *max));
            }
        }
        serde_json::json!({
            "numRecords": self.rows, "minValues": least, "maxValues": greatest, "nullCount": nulls,
        })
        .to_string()
    }
}

/// `event_time`, `visible_at`, `seq`, `op` stand last in a stored table.
const OWN_COLUMNS: usize = 4;

/// Writes staged files again with every position moved, since another writer took theirs.
async fn moved(table: &DeltaTable, layout: &Layout, adds: &[Add], by: i64) -> Result<Vec<Add>> {
    let mut files = Files::new(table, layout.table.clone(), &layout.folder, Sizes::default());
    let at = layout.table.index_of(&layout.seq)?;
    for add in adds {
        for batch in staged(&layout.folder, &add.path)? {
            let batch = batch?;
            let mut columns = batch.columns().to_vec();
            let positions = columns[at].as_primitive::<arrow::datatypes::Int64Type>();
            let positions: Int64Array = positions.unary(|position| position + by);
            columns[at] = Arc::new(positions);
            files.write(&RecordBatch::try_new(layout.table.clone(), columns)?).await?;
        }
    }
    let again = files.finish(layout).await?;
    remove(table, adds).await;
    Ok(again)
}

/// Removes staged files; what stays is removed by the next load.
pub(crate) async fn remove(table: &DeltaTable, adds: &[Add]) {
    for add in adds {
        let path = object_store::path::Path::from(add.path.as_str());
        if let Err(error) = table.object_store().delete(&path).await {
            tracing::debug!(%error, "a staged file stays until the next load");
        }
    }
}
