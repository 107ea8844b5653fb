//! The store put together: what its threads share, opening, and the neck.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use asof_compute::Position;
use asof_model::Timestamp;

use super::keys::Answer;
use super::lease::{self, Kept, LeaseFile, Unreadable};
use super::log::{self, Before, Fsync, LogWriter, Segment, Unusable};
use super::pending::Pending;
use super::record::Writing;
use super::sequence::{PastLease, Sequence};
use super::snapshot::{LogView, Snapshot};
use super::store::{Accepted, Given, Intake, LiveSnapshot, LiveStore, LiveUsage, LogSnapshot};
use super::tree::{self, Tree};
use super::{LiveOptions, group, intake, keeper, versions};
use crate::lock::DirectoryLock;
use crate::{Error, Result};

/// How far ahead of the clock T is reserved on disk, in microseconds: what a restart after a crash may
/// be ahead of the clock, and how often a store that is read writes a few bytes.
pub(super) const LEASE: i64 = 3_000_000;

#[derive(Debug)]
pub(crate) struct Live {
    pub(super) shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) options: LiveOptions,
    pub(super) fsync: Fsync,
    pub(super) tree: Tree,
    /// Held by who puts a batch in order; taken before `state`, which is held for moments only: T is asked of it.
    pub(super) order: Mutex<()>,
    pub(super) state: Mutex<State>,
    /// Something waits to be written, or to be made durable.
    pub(super) work: Condvar,
    /// A batch was acknowledged or refused, or the log made durable, or memory written.
    pub(super) done: Condvar,
    /// There is something to keep in order.
    pub(super) chores: Condvar,
    pub(super) lease: Mutex<LeaseFile>,
    /// Held by who removes files of the log; taken before `state`.
    removing: Mutex<()>,
    _lock: DirectoryLock,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveStore").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What one lock guards: where batches and T are.
#[derive(Debug)]
pub(super) struct State {
    pub(super) sequence: Sequence,
    pub(super) versions: versions::Pending,
    /// Answers to idempotency keys.
    pub(super) keys: Pending<Answer>,
    /// What batches counted up to, by key within the tree.
    pub(super) counts: Pending<u64>,
    /// Batches that are not written yet.
    pub(super) queue: VecDeque<Waiting>,
    /// Bytes of batches that are not published yet.
    pub(super) waiting_bytes: usize,
    /// `v` of pushed batches that are not published yet, by ticket.
    pub(super) waiting_v: VecDeque<(u64, Timestamp)>,
    /// The last number given to a batch that waits.
    pub(super) ticket: u64,
    /// The last one that was written.
    pub(super) written: u64,
    /// The last one that was published or refused after it was written.
    pub(super) finished: u64,
    /// Batches that are refused and do not know it yet.
    pub(super) refused: BTreeMap<u64, Refusal>,
    /// The last record, `s` and `v` that are published.
    pub(super) published: Before,
    /// The last record that an fsync covered.
    pub(super) durable: u64,
    /// The log is to be made durable as far as it is written.
    pub(super) wants_sync: bool,
    /// Batches are being refused, which waits for those before them to be published.
    pub(super) refusing: bool,
    /// How often batches were refused after they had their place.
    pub(super) refusals: u64,
    pub(super) segments: Vec<Segment>,
    pub(super) trimmed: Position,
    /// Open readings of the log, by what was trimmed when they began.
    pub(super) readings: BTreeMap<Position, usize>,
    /// The last record of what memory ended.
    pub(super) rotated: u64,
    /// The last record that tables on disk hold.
    pub(super) flushed: u64,
    /// Memory could not be written for want of space.
    pub(super) full: bool,
    /// Bytes that a second writes, as measured last.
    pub(super) rate: u64,
    pub(super) stopped: Option<String>,
    pub(super) closing: bool,
}

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ticket: u64,
    /// Empty for one that only waits for those before it.
    pub(super) record: Vec<u8>,
    /// It is acknowledged after an fsync.
    pub(super) sync: bool,
    pub(super) ids: Vec<Vec<u8>>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) counts: Vec<Vec<u8>>,
}

/// Why a batch is not acknowledged.
#[derive(Debug, Clone)]
pub(super) enum Refusal {
    Full,
    Stopped(String),
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    pub(crate) fn open(path: &Path, options: &LiveOptions, fsync: &Fsync) -> Result<Live> {
        let io = |error: std::io::Error| io_error("open", path, &error);
        std::fs::create_dir_all(path).map_err(io)?;
        let lock = DirectoryLock::take(path)?;
        let (log_folder, tree_folder) = (path.join("log"), path.join("tables"));
        if !path.join(lease::FILE).exists() {
            make(path, &log_folder, fsync)?;
        }
        let lease = LeaseFile::open(path, fsync).map_err(|error| match error {
            Unreadable::Io(error) => io(error),
            Unreadable::Newer(found) => newer(path, found, lease::SEQUENCE_FORMAT),
            Unreadable::Damaged => damaged(path, "its sequence file is not what was written"),
        })?;
        let tree =
            Tree::open(&tree_folder, options.cache).map_err(|error| tree_error("open", path, error))?;
        let applied = tree.applied().map_err(|error| tree_error("open", path, error))?;
        let memory = options.memory as u64;
        let (log, segments) = LogWriter::open(&log_folder, options.log_file, applied, fsync, &mut |record| {
            let size = tree.apply(record.entries()).map_err(|error| match error {
                tree::Error::Tree(lsm_tree::Error::Io(error)) => Unusable::Io(error),
                error => Unusable::Damaged(format!("its tables cannot be read: {error:?}")),
            })?;
            if size > memory {
                tree.rotate(record.number);
            }
            Ok(())
        })
        .map_err(|error| match error {
            Unusable::Io(error) => io(error),
            Unusable::Newer(found) => newer(path, found, log::LOG_FORMAT),
            Unusable::Damaged(what) => damaged(path, &what),
        })?;
        let last = log.last();
        if last.number < applied {
            return Err(damaged(path, "its log ends before its tables"));
        }
        // Asked at every start: who made the folders may have been killed before.
        for folder in path.ancestors().take(3) {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            match File::open(folder).and_then(|folder| folder.sync_all()) {
                // The outermost may be another's, who lets us pass and not look.
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
                synced => synced.map_err(io)?,
            }
        }
        tree.publish();
        let kept = lease.kept();
        let oldest = segments.first().map_or(Position(0), |segment| segment.before.s);
        let sequence =
            Sequence::resume(Arc::clone(&options.clock), last.v, last.s.max(options.floor), kept.lease);
        let state = State {
            sequence,
            versions: versions::Pending::default(),
            keys: Pending::default(),
            counts: Pending::default(),
            queue: VecDeque::new(),
            waiting_bytes: 0,
            waiting_v: VecDeque::new(),
            ticket: 0,
            written: 0,
            finished: 0,
            refused: BTreeMap::new(),
            published: last,
            durable: last.number,
            wants_sync: false,
            refusing: false,
            refusals: 0,
            segments,
            trimmed: kept.trimmed.max(oldest),
            readings: BTreeMap::new(),
            rotated: last.number,
            flushed: applied,
            full: false,
            rate: 10 << 20,
            stopped: None,
            closing: false,
        };
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            options: options.clone(),
            fsync: Fsync::clone(fsync),
            tree,
            order: Mutex::new(()),
            state: Mutex::new(state),
            work: Condvar::new(),
            done: Condvar::new(),
            chores: Condvar::new(),
            lease: Mutex::new(lease),
            removing: Mutex::default(),
            _lock: lock,
        });
        let mut live = Live { shared, threads: Vec::new() };
        live.start(log)?;
        Ok(live)
    }

    /// Starts the threads: one writes the log, one publishes, one keeps memory and files in order, one merges
    /// tables.
    fn start(&mut self, log: LogWriter) -> Result<()> {
        // Without a bound of its own: what waits to be published is bounded with what waits to be written, and
        // the writer must be free to make durable what a flush waits for.
        let (written, publish) = std::sync::mpsc::channel();
        type Work = Box<dyn FnOnce(&Shared) + Send>;
        let work: [(&str, Work); 4] = [
            ("live-log", Box::new(move |shared| group::write(shared, log, &written))),
            ("live-publish", Box::new(move |shared| group::publish(shared, &publish))),
            ("live-keep", Box::new(keeper::keep)),
            ("live-merge", Box::new(keeper::merge)),
        ];
        for (name, run) in work {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared));
            self.threads.push(thread.map_err(|error| io_error("open", &self.shared.path, &error))?);
        }
        Ok(())
    }
}

impl Drop for Live {
    /// Acknowledges what waits, and leaves nothing to be replayed where that can be done.
    fn drop(&mut self) {
        locked(&self.shared.state).closing = true;
        self.shared.work.notify_all();
        self.shared.done.notify_all();
        self.shared.chores.notify_all();
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
        let (stopped, published, t) = {
            let state = locked(&self.shared.state);
            (state.stopped.is_some(), state.published, state.sequence.last_t())
        };
        if stopped {
            return;
        }
        // Neither is needed for what was acknowledged: the log has it.
        if self.shared.tree.memory_bytes() > 0 {
            self.shared.tree.rotate(published.number);
        }
        let flushed = self.shared.tree.flush().map_err(|error| format!("{error:?}"));
        // What T was at last is known now, so the next start need not be ahead of it.
        let mut lease = locked(&self.shared.lease);
        let kept = Kept { lease: t, ..lease.kept() };
        let left = lease.write(kept).map_err(|error| error.to_string());
        if let Some(reason) = flushed.err().or(left.err()) {
            tracing::warn!(reason, "the live store was closed with work left for the next start");
        }
    }
}

/// Makes a new store: its sequence file comes last, and a folder without one holds nothing.
fn make(path: &Path, log_folder: &Path, fsync: &Fsync) -> Result<()> {
    let io = |error: std::io::Error| io_error("create", path, &error);
    std::fs::create_dir_all(log_folder).map_err(io)?;
    let before = Before { number: 1, s: Position(0), v: Timestamp::BEFORE_ALL };
    let empty = log::header(before).len() as u64;
    for entry in log_folder.read_dir().map_err(io)? {
        let length = entry.and_then(|entry| entry.metadata()).map_err(io)?.len();
        if length > empty {
            return Err(damaged(path, "its sequence file is gone"));
        }
    }
    log::begin(log_folder, before, fsync).map_err(io)?;
    LeaseFile::make(path, Kept { lease: Timestamp::BEFORE_ALL, trimmed: Position(0) }, fsync).map_err(io)
}

impl Shared {
    pub(super) fn io(&self, doing: &'static str) -> impl Fn(std::io::Error) -> Error + Copy + '_ {
        move |error| io_error(doing, &self.path, &error)
    }

    pub(super) fn tree(&self, doing: &'static str) -> impl Fn(tree::Error) -> Error + Copy + '_ {
        move |error| tree_error(doing, &self.path, error)
    }

    pub(super) fn stopped(&self, reason: String) -> Error {
        Error::Stopped { path: self.path.display().to_string(), reason }
    }

    pub(super) fn full(&self) -> Error {
        Error::Full { path: self.path.display().to_string(), reserve: self.reserve() }
    }

    /// Why a batch that had its place is refused.
    pub(super) fn refused(&self, state: &State) -> Error {
        match &state.stopped {
            Some(reason) => self.stopped(reason.clone()),
            None => self.full(),
        }
    }

    /// Bytes the disk has left past what memory needs to be written; none where that cannot be known.
    pub(super) fn room(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.path).ok()?;
        Some((disk.f_bavail * disk.f_frsize).saturating_sub(self.reserve()))
    }

    /// Bytes of the disk that are kept free for what is in memory.
    pub(super) fn reserve(&self) -> u64 {
        3 * self.options.memory as u64
    }

    /// Nothing is acknowledged any more.
    pub(super) fn stop(&self, reason: &str) {
        let mut state = locked(&self.state);
        if state.stopped.is_none() {
            tracing::error!(reason, "the live store has stopped");
            state.stopped = Some(reason.to_owned());
        }
        drop(state);
        self.work.notify_all();
        self.done.notify_all();
        self.chores.notify_all();
    }

    /// Lets T go up to this, and a while past the clock where less than `rest` is left then: durable when it returns.
    /// Never a while past a T that is ahead of the clock, as it is after a crash: with each it would be further ahead.
    pub(super) fn extend_lease(&self, t: Timestamp, rest: i64) -> Result<()> {
        let mut lease = locked(&self.lease);
        let kept = lease.kept();
        if kept.lease.0 < t.0.saturating_add(rest) {
            if let Some(reason) = locked(&self.state).stopped.clone() {
                return Err(self.stopped(reason));
            }
            let ahead = Timestamp(self.options.clock.now().0.saturating_add(LEASE));
            self.keep(&mut lease, Kept { lease: t.max(ahead), ..kept })?;
        }
        locked(&self.state).sequence.extend(lease.kept().lease);
        Ok(())
    }

    fn keep(&self, lease: &mut LeaseFile, kept: Kept) -> Result<()> {
        lease.write(kept).map_err(|error| {
            if log::no_space(&error) {
                return self.full();
            }
            self.stop(&error.to_string());
            self.stopped(error.to_string())
        })
    }

    /// Removes files of the log that nobody needs.
    pub(super) fn drop_segments(&self) -> std::io::Result<()> {
        // The oldest goes first, and one at a time: so a file that is made anew of one that went is that file.
        let _turn = locked(&self.removing);
        let mut gone = Vec::new();
        let mut state = locked(&self.state);
        while let Some(next) = state.segments.get(1) {
            if next.before.s > state.trimmed || next.before.number > state.flushed + 1 {
                break;
            }
            gone.push(state.segments.remove(0));
        }
        // Nobody waits for the disk.
        drop(state);
        gone.iter().map(|segment| log::let_go(&segment.path)).fold(Ok(()), Result::and)
    }
}

impl LiveStore for Live {
    fn accept(
        &self,
        intake: &Intake<'_>,
        make: &mut dyn FnMut(&Given<'_>, &mut Writing) -> Result<()>,
    ) -> Result<Accepted> {
        intake::accept(&self.shared, intake, make)
    }

    fn write(&self, make: &mut dyn FnMut(Position, &mut Writing) -> Result<()>) -> Result<()> {
        intake::write(&self.shared, make)
    }

    fn read_from(&self, floor: Timestamp) -> Result<Box<dyn LiveSnapshot>> {
        loop {
            let mut state = locked(&self.shared.state);
            let first = state.waiting_v.front().map(|(_, v)| *v);
            match state.sequence.answer(first, floor) {
                Ok(t) => {
                    let view = self.shared.tree.snapshot();
                    let position = state.published.s;
                    return Ok(Box::new(Snapshot { shared: Arc::clone(&self.shared), view, t, position }));
                }
                Err(PastLease(t)) => {
                    drop(state);
                    self.shared.extend_lease(t, 0)?;
                }
            }
        }
    }

    fn log(&self) -> Result<Box<dyn LogSnapshot>> {
        loop {
            // What is handed on must not be lost with the power: its positions would be given again.
            group::sync(&self.shared)?;
            let mut state = locked(&self.shared.state);
            if state.durable >= state.published.number {
                return Ok(Box::new(LogView::open(&self.shared, &mut state)));
            }
        }
    }

    fn trim(&self, to: Position) -> Result<Position> {
        let mut lease = locked(&self.shared.lease);
        let mut state = locked(&self.shared.state);
        if let Some(reason) = &state.stopped {
            return Err(self.shared.stopped(reason.clone()));
        }
        let held = state.readings.first_key_value().map_or(to, |(oldest, _)| *oldest);
        let trimmed = to.min(state.published.s).min(held).max(state.trimmed);
        if trimmed > state.trimmed {
            drop(state);
            let kept = Kept { trimmed, ..lease.kept() };
            self.shared.keep(&mut lease, kept)?;
            state = locked(&self.shared.state);
            // One that began in between reads what may be gone to others.
            let held = state.readings.first_key_value().map_or(trimmed, |(oldest, _)| *oldest);
            state.trimmed = trimmed.min(held).max(state.trimmed);
        }
        let trimmed = state.trimmed;
        drop((state, lease));
        self.shared.drop_segments().map_err(self.shared.io("trim"))?;
        Ok(trimmed)
    }

    fn usage(&self) -> Result<LiveUsage> {
        let tree = &self.shared.tree;
        let ended = tree.waiting() as u64 * self.shared.options.memory as u64;
        let (memory_bytes, table_bytes) = (tree.memory_bytes() + ended, tree.table_bytes());
        let state = locked(&self.shared.state);
        let mut log_bytes = 0;
        for segment in &state.segments {
            log_bytes += segment.path.metadata().map_err(self.shared.io("measure"))?.len();
        }
        Ok(LiveUsage {
            log_bytes,
            table_bytes,
            memory_bytes,
            waiting: usize::try_from(state.ticket - state.finished).unwrap_or(usize::MAX),
            trimmed: state.trimmed,
            published: state.published.s,
        })
    }

    fn backup(&self, to: &Path) -> Result<()> {
        if to.exists() {
            let mut entries = to.read_dir().map_err(|error| io_error("back up to", to, &error))?;
            if entries.next().is_some() {
                return Err(Error::BackupExists { path: to.display().to_string() });
            }
        }
        group::sync(&self.shared)?;
        super::snapshot::copy(&self.shared, to)
    }
}

pub(super) fn io_error(doing: &'static str, path: &Path, error: &std::io::Error) -> Error {
    let path = path.display().to_string();
    if log::no_space(error) {
        return Error::Full { path, reserve: 0 };
    }
    Error::Io { doing, path, reason: error.to_string() }
}

pub(super) fn tree_error(doing: &'static str, path: &Path, error: tree::Error) -> Error {
    match error {
        tree::Error::Tree(lsm_tree::Error::Io(error)) => io_error(doing, path, &error),
        tree::Error::Tree(error) => damaged(path, &format!("its tables cannot be read: {error:?}")),
        tree::Error::Damaged(what) => damaged(path, &format!("{what} is not what was written")),
        tree::Error::Caller(error) => error,
    }
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::LiveDamaged { path: path.display().to_string(), what: what.to_owned() }
}

fn newer(path: &Path, found: u8, known: u8) -> Error {
    Error::Newer { path: path.display().to_string(), found: found.into(), known: known.into() }
}
