//! The rows of push sources that were accepted and do not stand in their tables yet.
//!
//! They are in the intake log of a store of live rows, which this room does not know: whoever opens both
//! hands the engine a [`LiveTail`]. A read of a push source takes a view of the log first, up to a position
//! S, then the table at whatever version it finds, whose position is P; rows of the table up to the lesser
//! of P and S and rows of the log past P up to S are what was accepted up to S, each once: what a flush
//! moves in between is left out of one of the two. Nothing of a log leaves it before it stands in a table,
//! and nothing at all while a view of it is held.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use asof_compute::Position;
use asof_model::{SourceVersion, Timestamp};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use tokio::sync::mpsc;

use super::stored::{INTAKE, Layout, POSITIONS, STORES};
use super::superseded::Superseded;
use super::table::{self, broken};
use crate::intake::{LiveRows, LiveRowsReader};
use crate::{Engine, Error, Result};

/// What a store of live rows gives of its intake log.
pub trait LiveTail: Send + Sync + std::fmt::Debug {
    /// The log as it stands: nothing leaves it while this is held. Blocking.
    ///
    /// # Errors
    /// Where the store cannot be read.
    fn hold(&self) -> Result<Box<dyn HeldTail>>;
}

/// The intake log at one moment.
pub trait HeldTail: Send {
    /// The position up to which every accepted row is in it, or stands in its table.
    fn end(&self) -> Position;

    /// Hands out the batches of one table ([`Engine::table_of`]) that hold a row past `after`, in the order of
    /// their positions, until `each` says false. Blocking.
    ///
    /// # Errors
    /// Where the store cannot be read, and what `each` gives, which ends the reading.
    fn batches(
        &self,
        table: &str,
        after: Position,
        each: &mut dyn FnMut(LiveBatch<'_>) -> Result<bool>,
    ) -> Result<()>;
}

/// An accepted batch as the intake log has it.
#[derive(Debug, Clone, Copy)]
pub struct LiveBatch<'a> {
    /// `v` given to it.
    pub visible_at: Timestamp,
    /// `s` of its first row.
    pub first: Position,
    /// How many rows.
    pub count: u32,
    /// Its rows, `docs/formats/live-rows.md`.
    pub rows: &'a [u8],
}

impl LiveBatch<'_> {
    /// `s` of its last row.
    fn last(&self) -> Position {
        Position(self.first.0 + i64::from(self.count) - 1)
    }
}

/// A view of the log that several readings share, one after the other.
#[derive(Clone)]
pub struct SharedTail {
    end: Position,
    held: Arc<Mutex<Box<dyn HeldTail>>>,
}

impl std::fmt::Debug for SharedTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedTail").field("end", &self.end).finish_non_exhaustive()
    }
}

impl SharedTail {
    /// The position of the first row of a table in it; none where it has none. Blocking.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn first_of(&self, table: &str) -> Result<Option<Position>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first = None;
        held.batches(table, Position(0), &mut |batch| {
            first = Some(batch.first);
            Ok(false)
        })?;
        Ok(first)
    }

    /// The position up to which every accepted row is in it, or stands in its table.
    pub fn end(&self) -> Position {
        self.end
    }
}

impl Engine {
    /// Reads push sources with what this store of live rows has of them, from now on. Only the first that is
    /// given counts.
    pub fn follow(&self, tail: Arc<dyn LiveTail>) {
        if self.tail_given().set(tail).is_err() {
            tracing::warn!("an engine was given a second store of live rows, and reads the first");
        }
    }

    /// The intake log as it stands; none where this engine follows no store of live rows. Nothing leaves
    /// the log until all clones of this are dropped.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn hold_tail(&self) -> Result<Option<SharedTail>> {
        let Some(tail) = self.tail_given().get().cloned() else { return Ok(None) };
        let held = self.blocking(move || tail.hold()).await?;
        Ok(Some(SharedTail { end: held.end(), held: Arc::new(Mutex::new(held)) }))
    }

    /// The last position that stands in any table of rows that a store of live rows gave positions to: none is to be
    /// given again. A table that cannot be read is passed over with a word of it.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder of tables cannot be read.
    pub async fn greatest_position(&self) -> Result<Position> {
        let root = self.config().data_dir.join("offline");
        let folders = self.blocking(move || super::copied::tables(&root)).await?;
        let mut greatest = Position(0);
        for folder in folders {
            match last_given(self, &folder).await {
                Ok(last) => greatest = greatest.max(last),
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "the last position of a table is not known")
                }
            }
        }
        Ok(greatest)
    }

    /// What the table of a stored source is called: `PROJECT/SOURCE/FAMILY`, as below the folder `offline`.
    /// Versions of a source whose rows are stored alike share one.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the source's columns cannot stand in one table.
    pub fn table_of(&self, source: &SourceVersion) -> Result<String> {
        Ok(Layout::of(&self.config().data_dir, source)?.name(source))
    }
}

/// The last position of a table whose positions a store gave; zero of any other.
async fn last_given(engine: &Engine, folder: &Path) -> Result<Position> {
    let failed = |e| broken("read the table", folder, e);
    let Some(table) = table::open(engine.files(), folder).await? else { return Ok(Position(0)) };
    let state = table.snapshot().map_err(failed)?;
    if state.metadata().configuration().get(POSITIONS).is_none_or(|whose| whose != STORES) {
        return Ok(Position(0));
    }
    let last = state.transaction_version(table.log_store().as_ref(), INTAKE).await.map_err(failed)?;
    Ok(Position(last.unwrap_or(0)))
}

/// Rows that are decoded at once.
const BATCH: usize = 8_192;
/// Bytes of rows in the log that are decoded at once.
const BATCH_BYTES: usize = 16 << 20;

/// Bytes of rows that one reading keeps in memory; more are written to disk.
const IN_MEMORY: usize = 4 << 20;

/// Rows of the log in the table's columns, and what came with the batches they stand in.
pub(super) struct TailBatch {
    pub(super) rows: RecordBatch,
    /// Which rows they supersede, or are superseded; none where a batch does not say it.
    pub(super) superseded: Option<Vec<Superseded>>,
}

/// Batches of the table's columns on their way from the log, and what ends them.
pub(super) struct TailRows {
    pub(super) batches: mpsc::Receiver<TailBatch>,
    reading: tokio::task::JoinHandle<Result<Position>>,
}

impl TailRows {
    /// Once all batches are taken: the position up to which the log was read. Whoever stores the batches
    /// must ask before they count.
    pub(super) async fn finish(self) -> Result<Position> {
        drop(self.batches);
        match self.reading.await {
            Ok(done) => done,
            Err(ended) => Err(crate::engine::gone(&ended)),
        }
    }
}

/// The rows of a source in the log past a position up to another, or up to the batch with which they came to
/// `most` bytes.
pub(super) fn rows(
    engine: &Engine,
    source: &SourceVersion,
    layout: &Layout,
    held: &SharedTail,
    (after, upto): (Position, Position),
    most: u64,
) -> Result<TailRows> {
    let (to, batches) = mpsc::channel(2);
    let (held, name, layout) = (held.clone(), layout.name(source), layout.clone());
    let rows = LiveRows::of(source)?;
    let reading = engine.begin_blocking(move || {
        read(&held, &name, &rows, &layout, (after, upto), most, &mut |batch| {
            // Nobody takes them any more: what they are for failed, and says why.
            Ok(to.blocking_send(batch).is_ok())
        })
    })?;
    Ok(TailRows { batches, reading })
}

/// Reads rows out of the log; up to which position.
fn read(
    held: &SharedTail,
    table: &str,
    rows: &LiveRows,
    layout: &Layout,
    (after, upto): (Position, Position),
    most: u64,
    take: &mut dyn FnMut(TailBatch) -> Result<bool>,
) -> Result<Position> {
    let upto = upto.min(held.end);
    if after >= upto {
        return Ok(upto);
    }
    let held = held.held.lock().unwrap_or_else(PoisonError::into_inner);
    let mut reader = rows.reader(BATCH)?;
    let (mut waiting, mut all) = (0, 0_u64);
    let (mut reached, mut through) = (upto, true);
    held.batches(table, after, &mut |batch| {
        if batch.first > upto || batch.count == 0 {
            return Ok(batch.first <= upto);
        }
        reader.take(batch.rows, batch.visible_at, batch.first, after)?;
        waiting += batch.rows.len();
        all += batch.rows.len() as u64;
        if reader.len() >= BATCH || waiting >= BATCH_BYTES {
            let full = std::mem::replace(&mut reader, rows.reader(BATCH)?);
            waiting = 0;
            through = take(layout.batch_of_log(full, upto)?)?;
        }
        if all >= most && batch.last() < upto {
            reached = batch.last();
            return Ok(false);
        }
        Ok(through)
    })?;
    if !through {
        return Err(Error::internal("nobody takes the rows of the log"));
    }
    if !reader.is_empty() && !take(layout.batch_of_log(reader, upto)?)? {
        return Err(Error::internal("nobody takes the rows of the log"));
    }
    Ok(reached)
}

impl Layout {
    /// Rows as they are read from the log, as the table has them; those past a position are left out.
    fn batch_of_log(&self, mut rows: LiveRowsReader<'_>, upto: Position) -> Result<TailBatch> {
        let superseded = rows.superseded();
        let rows = &rows.finish()?;
        let find = |name: &str| -> Result<&ArrayRef> {
            let found = rows.column_by_name(name);
            found.ok_or_else(|| Error::internal(format!("rows of the log have no `{name}`")))
        };
        use crate::source::fixed;
        let own = self.table.fields().len().saturating_sub(4);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(own + 4);
        for (column, field) in rows.columns().iter().zip(self.table.fields()).take(own) {
            columns.push(cast(column, field.data_type())?);
        }
        let delete = find(fixed::OP)?.as_boolean();
        let op = |row: usize| if delete.value(row) { "delete" } else { "value" };
        columns.push(Arc::clone(find(fixed::EVENT_TIME)?));
        columns.push(Arc::clone(find(fixed::VISIBLE_AT)?));
        columns.push(Arc::clone(find(fixed::POSITION)?));
        columns.push(Arc::new(StringArray::from_iter_values((0..rows.num_rows()).map(op))));
        let whole = RecordBatch::try_new(Arc::clone(&self.table), columns)?;
        let positions = find(fixed::POSITION)?.as_primitive::<arrow::datatypes::Int64Type>();
        // Positions ascend.
        let within = positions.values().partition_point(|position| *position <= upto.0);
        Ok(TailBatch { rows: whole.slice(0, within), superseded })
    }
}

/// A file that goes with the last reader of it.
#[derive(Debug)]
pub(crate) enum Passing {
    /// In memory, below a path that lasts as long as this is open.
    Memory { path: PathBuf, _open: std::fs::File },
    /// In the folder whose files are gone with the process.
    Disk(PathBuf),
}

impl Passing {
    /// A file in memory; none where the system has no such files.
    fn memory() -> Option<Passing> {
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd as _;
            let file = rustix::fs::memfd_create("asof-tail", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
            let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            path.exists().then(|| Passing::Memory { path, _open: file.into() })
        }
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// A file on disk, new.
    fn disk(path: PathBuf) -> Result<Passing> {
        std::fs::File::create_new(&path).map_err(|e| Error::io("make the file", &path, &e))?;
        Ok(Passing::Disk(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Passing::Memory { path, .. } | Passing::Disk(path) => path,
        }
    }

    /// Begins to write rows into it.
    fn writer(&self, layout: &Layout) -> Result<ArrowWriter<std::fs::File>> {
        let path = self.path();
        let file = std::fs::File::options().write(true).open(path);
        let file = file.map_err(|e| Error::io("write the file", path, &e))?;
        // Read once, from memory most often.
        let properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_max_row_group_row_count(Some(super::append::Sizes::default().group))
            .build();
        ArrowWriter::try_new(file, Arc::clone(&layout.table), Some(properties)).map_err(|e| failed(path, &e))
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if let Passing::Disk(path) = self
            && let Err(error) = std::fs::remove_file(&*path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a file of rows for one reading stays until the next start");
        }
    }
}

/// What a log has of a source for one reading.
#[derive(Debug)]
pub(crate) struct Tailed {
    /// A file of its table's layout, and how many rows it has; none where there is no row.
    pub(crate) file: Option<(Passing, u64)>,
    /// Which rows they supersede, or are superseded; none where a batch does not say it.
    pub(crate) superseded: Option<Vec<Superseded>>,
}

/// Writes the rows of a source in the log past a position up to another into a file of its table's layout,
/// for one reading: in memory where they are few, so that a full disk is in nobody's way.
pub(crate) async fn tail_file(
    engine: &Engine,
    source: &SourceVersion,
    layout: &Layout,
    held: &SharedTail,
    span: (Position, Position),
) -> Result<Tailed> {
    let (held, name, layout) = (held.clone(), layout.name(source), layout.clone());
    let rows = LiveRows::of(source)?;
    let path =
        engine.config().data_dir.join("spill").join(format!("tail-{:032x}.parquet", rand::random::<u128>()));
    let written = engine.blocking(move || {
        let mut open: Option<(Passing, ArrowWriter<std::fs::File>)> = None;
        let (mut few, mut bytes): (Vec<RecordBatch>, usize) = (Vec::new(), 0);
        let mut count = 0;
        let mut superseded = Some(Vec::new());
        read(&held, &name, &rows, &layout, span, u64::MAX, &mut |batch| {
            superseded = superseded.take().zip(batch.superseded).map(|(all, more)| [all, more].concat());
            let batch = batch.rows;
            if batch.num_rows() == 0 {
                return Ok(true);
            }
            count += batch.num_rows() as u64;
            bytes += batch.get_array_memory_size();
            few.push(batch);
            if bytes > IN_MEMORY {
                let (passing, writer) = match &mut open {
                    Some(open) => open,
                    None => {
                        let passing = Passing::disk(path.clone())?;
                        let writer = passing.writer(&layout)?;
                        open.insert((passing, writer))
                    }
                };
                write_all(writer, passing.path(), &mut few)?;
            }
            Ok(true)
        })?;
        if count == 0 {
            return Ok(Tailed { file: None, superseded });
        }
        let (passing, mut writer) = match open {
            Some(open) => open,
            None => {
                let passing = Passing::memory().map_or_else(|| Passing::disk(path), Ok)?;
                let writer = passing.writer(&layout)?;
                (passing, writer)
            }
        };
        write_all(&mut writer, passing.path(), &mut few)?;
        writer.close().map_err(|e| failed(passing.path(), &e))?;
        Ok(Tailed { file: Some((passing, count)), superseded })
    });
    written.await
}

fn write_all(
    writer: &mut ArrowWriter<std::fs::File>,
    path: &Path,
    batches: &mut Vec<RecordBatch>,
) -> Result<()> {
    batches.drain(..).try_for_each(|batch| writer.write(&batch)).map_err(|e| failed(path, &e))
}

fn failed(path: &Path, error: &parquet::errors::ParquetError) -> Error {
    Error::Io { doing: "write the file", path: path.display().to_string(), reason: error.to_string() }
}
