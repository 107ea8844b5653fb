//! The serving log: of some keys every answer, with what could be read when it was given.
//!
//! A request only hashes its keys; the rows of those that fall into the sample are copied and handed to a bounded
//! queue, without waiting. What finds it full is counted as dropped. A thread of its own makes tables of them and
//! appends these to files ([`write`]), one for each thing asked for; `docs/formats/serving-log.md` says how they lie.
//!
//! The files hold keys and feature values, as training sets do: only their owner may read them, and nothing of them is
//! ever in a log of events or in an error.

mod write;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, BinaryArray, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use asof_model::{Address, Ask, Catalog, Clock, LogHeader, SERVING_LOG_FORMAT, ServingLogOptions, Timestamp};
use asof_online::views::Progress;
use asof_online::{Generation, GenerationId, Snapshot};
use xxhash_rust::xxh3::xxh3_64;

use self::write::Writer;
use crate::{EntityColumns, Features, PreparedSelection, Result, ServeError};

/// Requests that may wait to be written.
const WAITING: usize = 8_192;
/// Bytes of them.
const WAITING_BYTES: usize = 64 << 20;
/// How long a row waits for others to be written with.
const TOGETHER: Duration = Duration::from_millis(250);
/// Rows that are written together at most.
const ROWS: usize = 4_096;

/// Where the log stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServingLogStatus {
    /// Rows that were written since the node was opened.
    pub logged: u64,
    /// Rows in the sample that were not: the queue was full, or they could not be written.
    pub dropped: u64,
    /// Why the last write failed, if it did.
    pub error: Option<String>,
}

/// Keeps answers. A cheap clone; the files are closed with the last one.
#[derive(Clone)]
pub struct ServingLog {
    inner: Arc<Inner>,
}

struct Inner {
    /// Hashes below this one are in the sample.
    below: u64,
    clock: Arc<dyn Clock>,
    /// None once it is closed.
    queue: Mutex<Option<SyncSender<Message>>>,
    shared: Arc<Shared>,
    /// What was read into the generations of these records.
    known: Mutex<Known>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// What the thread tells.
#[derive(Debug, Default)]
struct Shared {
    logged: AtomicU64,
    dropped: AtomicU64,
    waiting: AtomicUsize,
    error: Mutex<Option<String>>,
}

#[derive(Default)]
struct Known {
    records: Option<Arc<Vec<Generation>>>,
    of: HashMap<GenerationId, Arc<Progress>>,
}

enum Message {
    Answered(Box<Answered>),
    /// All before it is to be written; this end is then dropped.
    Flush(SyncSender<()>),
}

/// Rows of one request that are in the sample.
struct Answered {
    asked_at: Timestamp,
    position: Option<i64>,
    /// By reading.
    cuts: Vec<Readable>,
    /// Key columns, and behind them what the request brought, in the order of the selection.
    asked: Vec<ArrayRef>,
    features: Features,
    bytes: usize,
}

/// What a reading was answered from.
#[derive(Debug, Clone)]
pub(crate) struct Readable {
    pub(crate) generation: GenerationId,
    pub(crate) units: Arc<Progress>,
}

/// What is written of a selection whatever it is asked for.
#[derive(Debug)]
pub(crate) struct Logged {
    /// Below the folder of the log.
    folder: PathBuf,
    schema: SchemaRef,
}

impl Logged {
    /// # Errors
    /// The selection is not of this catalog.
    pub(crate) fn of(
        prepared: &PreparedSelection,
        catalog: &Catalog,
        ask: &Ask,
        full_names: bool,
    ) -> Result<Logged> {
        let failed = |what: String| ServeError::Derived(crate::prepared::defect(&what));
        let selection = prepared.selection();
        let definitions = catalog.definitions(ask, full_names, selection);
        let definitions = definitions.map_err(|missing| failed(missing.to_string()))?;
        let header = LogHeader { format: SERVING_LOG_FORMAT, definitions };
        let header = serde_json::to_string(&header).map_err(|error| failed(error.to_string()))?;
        let service = selection.service.as_ref().map(|service| &service.address);
        let home = service.map_or(&selection.project, |Address { project, .. }| project);
        let name = service.map_or("features", |service| service.name.as_str());
        let folder = Path::new(home.as_str()).join(format!("{name}-{:016x}", xxh3_64(header.as_bytes())));
        Ok(Logged { folder, schema: write::schema(prepared, &header) })
    }
}

impl std::fmt::Debug for ServingLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServingLog").field("below", &self.inner.below).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread of the serving log ended by a defect of Asof");
        }
    }
}

impl ServingLog {
    /// A log in this folder, which is nobody else's; files that are older than is kept go.
    ///
    /// # Errors
    /// Its thread cannot be started.
    pub fn open(
        folder: PathBuf,
        options: &ServingLogOptions,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<ServingLog> {
        ServingLog::with_room(folder, options, clock, WAITING)
    }

    /// The same, in which so many requests may wait: but for tests 8,192.
    ///
    /// # Errors
    /// As [`ServingLog::open`].
    pub fn with_room(
        folder: PathBuf,
        options: &ServingLogOptions,
        clock: Arc<dyn Clock>,
        waiting: usize,
    ) -> std::io::Result<ServingLog> {
        let (queue, taken) = sync_channel(waiting);
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(folder, options.keep, Arc::clone(&clock));
        let on = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("asof-serving-log".to_owned())
            .spawn(move || run(&taken, writer, &on))?;
        let below = (options.sample.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        let inner = Inner {
            below,
            clock,
            queue: Mutex::new(Some(queue)),
            shared,
            known: Mutex::default(),
            thread: Mutex::new(Some(thread)),
        };
        Ok(ServingLog { inner: Arc::new(inner) })
    }

    /// Where it stands.
    pub fn status(&self) -> ServingLogStatus {
        let shared = &self.inner.shared;
        ServingLogStatus {
            logged: shared.logged.load(Ordering::Relaxed),
            dropped: shared.dropped.load(Ordering::Relaxed),
            error: shared.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Returns when all that was answered before is written. Blocking.
    pub fn flush(&self) {
        let queue = self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (done, wait) = sync_channel(0);
        if queue.is_some_and(|queue| queue.send(Message::Flush(done)).is_ok()) {
            // The other end is dropped, never sent to.
            let _ = wait.recv();
        }
    }

    /// Writes what waits and closes the files. What is answered from then on is counted as dropped.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Which of these keys are in the sample.
    pub(crate) fn sample(&self, keys: Option<&BinaryArray>) -> Vec<usize> {
        // A selection that asks by no key hangs on the time alone.
        let keys = keys.into_iter().flat_map(BinaryArray::iter);
        let sampled = |key: &Option<&[u8]>| xxh3_64(key.unwrap_or_default()) <= self.inner.below;
        keys.enumerate().filter(|(_, key)| sampled(key)).map(|(row, _)| row).collect()
    }

    /// What a generation of the online store holds, as its snapshot says; records stand for a state of what was read.
    pub(crate) fn readable(
        &self,
        snapshot: &dyn Snapshot,
        records: &Arc<Vec<Generation>>,
        generation: GenerationId,
    ) -> Result<Readable> {
        let mut known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.records.as_ref().is_some_and(|of| Arc::ptr_eq(of, records)) {
            *known = Known { records: Some(Arc::clone(records)), of: HashMap::new() };
        }
        let units = match known.of.get(&generation) {
            Some(units) => Arc::clone(units),
            None => {
                let read = Arc::new(snapshot.progress(generation)?);
                known.of.insert(generation, Arc::clone(&read));
                read
            }
        };
        Ok(Readable { generation, units })
    }

    /// Keeps rows of an answer, or counts them as dropped.
    pub(crate) fn keep(
        &self,
        features: &Features,
        rows: &[usize],
        entities: &EntityColumns,
        position: Option<i64>,
        cuts: Vec<Readable>,
    ) {
        let shared = &self.inner.shared;
        let answered = features.of_entities(rows).and_then(|features| {
            let asked = asked(&features, entities, rows)?;
            let columns: usize = asked.iter().map(|column| column.get_array_memory_size()).sum();
            let bytes = features.memory() + columns;
            let asked_at = self.inner.clock.now();
            Some(Answered { asked_at, position, cuts, asked, features, bytes })
        });
        let dropped = |rows: usize| {
            shared.dropped.fetch_add(rows as u64, Ordering::Relaxed);
        };
        let Some(answered) = answered else { return dropped(rows.len()) };
        let bytes = answered.bytes;
        if shared.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > WAITING_BYTES {
            shared.waiting.fetch_sub(bytes, Ordering::Relaxed);
            return dropped(rows.len());
        }
        let queue = self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let message = Message::Answered(Box::new(answered));
        let sent = queue.as_ref().is_some_and(|queue| queue.try_send(message).is_ok());
        drop(queue);
        if !sent {
            shared.waiting.fetch_sub(bytes, Ordering::Relaxed);
            dropped(rows.len());
        }
    }
}

/// The key columns, and what the request brought, of some rows.
fn asked(features: &Features, entities: &EntityColumns, rows: &[usize]) -> Option<Vec<ArrayRef>> {
    let selection = features.selection();
    let keys = selection.keys().iter().map(|key| key.name.as_str());
    let names = keys.chain(selection.selection().request.iter().map(|column| column.name.as_str()));
    let places: UInt64Array = rows.iter().map(|row| *row as u64).collect();
    names
        .map(|name| {
            let column = entities.get(name)?;
            if rows.len() == column.len() {
                Some(Arc::clone(column))
            } else {
                take(column, &places, None).ok()
            }
        })
        .collect()
}

/// The thread: takes what waits, and writes it together.
fn run(taken: &Receiver<Message>, mut writer: Writer, shared: &Shared) {
    writer.forget_old();
    let mut open = true;
    while open {
        let mut some: Vec<Answered> = Vec::new();
        let mut flushing = Vec::new();
        let mut rows = 0;
        let begun = std::time::Instant::now();
        while rows < ROWS && flushing.is_empty() {
            match taken.recv_timeout(TOGETHER.saturating_sub(begun.elapsed())) {
                Ok(Message::Answered(answered)) => {
                    rows += answered.features.entities();
                    some.push(*answered);
                }
                Ok(Message::Flush(done)) => flushing.push(done),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    open = false;
                    break;
                }
            }
        }
        shared.waiting.fetch_sub(some.iter().map(|it| it.bytes).sum(), Ordering::Relaxed);
        if !some.is_empty() {
            let (written, failed) = writer.write(some);
            shared.logged.fetch_add(written, Ordering::Relaxed);
            if let Some((lost, error)) = &failed {
                shared.dropped.fetch_add(*lost, Ordering::Relaxed);
                tracing::warn!(rows = lost, %error, "answers could not be written to the serving log");
            }
            *shared.error.lock().unwrap_or_else(PoisonError::into_inner) = failed.map(|(_, error)| error);
        }
        writer.turn();
    }
    writer.close();
}
