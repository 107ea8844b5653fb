//! The intake log into the tables of its sources: in batches by size and time, one source after the other,
//! then the log is trimmed.
//!
//! What is accepted is durable in the log already, so trouble here is nobody's error: it is kept for the
//! status, tried again after a while, and the log grows meanwhile. Each step may be cut off: what a table
//! has of the log it knows itself, and the log is trimmed only of what stands in tables.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use asof_compute::Position;
use asof_engine::delta::SharedTail;
use asof_model::{Address, Name, SourceVersion, ThingKind, Timestamp, Version};
use asof_online::live::LiveStore;
use asof_registry::RunError;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::materialize::blocking;
use crate::operation::caught;
use crate::tail::StoreTail;
use crate::{Flow, FlowError, Result, numbers};

/// When the log is moved, and how much of it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushBounds {
    /// Bytes by which the log grows before it is moved.
    pub bytes: u64,
    /// The longest that a row waits to be moved.
    pub wait: Duration,
    /// Bytes of the log that one commit of one table takes.
    pub commit: u64,
    /// How long files that were put together stay for readers of other processes.
    pub grace: Duration,
    /// After the first turn that failed the next comes after this, doubled with each that fails.
    pub retry: Duration,
}

impl Default for FlushBounds {
    fn default() -> FlushBounds {
        FlushBounds {
            bytes: 64 << 20,
            wait: Duration::from_secs(60),
            commit: 256 << 20,
            grace: Duration::from_secs(3_600),
            retry: Duration::from_secs(1),
        }
    }
}

/// How often the log is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// The longest pause between turns that fail.
const LONGEST: Duration = Duration::from_secs(60);
/// A log of more bytes is told of, and again when it has doubled.
const LARGE: u64 = 1 << 30;

/// What a turn moved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FlushReport {
    /// Rows put into tables.
    pub rows: u64,
    /// Tables that got rows.
    pub tables: u64,
    /// Files that were put together in them.
    pub compacted: u64,
    /// Tables whose small files could not be put together, as the node's own log says why. Nothing is lost by it, and
    /// it is tried again when they get rows.
    pub not_compacted: u64,
    /// Everything up to this position stands in its table.
    pub position: i64,
}

/// How the log stands to the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlushStatus {
    /// Everything up to this position stands in its table, and is gone from the log.
    pub flushed: i64,
    /// The last position given.
    pub accepted: i64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// When a turn last went well; none in this process yet.
    pub succeeded_at: Option<Timestamp>,
    /// Microseconds since the log was last seen without a row to be moved; none: it has none.
    pub lag_micros: Option<i64>,
    /// Tables that could not be brought up to date in the last turn, by `PROJECT/SOURCE/FAMILY`, with why.
    pub failures: BTreeMap<String, FlushFailure>,
}

/// Why a table could not be brought up to date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlushFailure {
    /// When.
    pub at: Timestamp,
    /// What the error says.
    #[serde(flatten)]
    pub error: RunError,
}

/// The store of live rows, and what this process knows of its log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) store: Arc<dyn LiveStore>,
    bounds: FlushBounds,
    known: Mutex<Known>,
    /// Held by the one that moves.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Known {
    succeeded_at: Option<Timestamp>,
    /// When the log was last seen without a row to be moved, and there is one now.
    behind_since: Option<Timestamp>,
    failures: BTreeMap<String, FlushFailure>,
    versions: BTreeMap<String, Arc<SourceVersion>>,
    told: u64,
}

/// While this is held nothing is moved out of the log.
#[derive(Debug)]
pub struct FlushPause {
    _turn: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Log {
    pub(crate) fn new(store: Arc<dyn LiveStore>, bounds: FlushBounds) -> Log {
        Log { store, bounds, known: Mutex::default(), turn: Arc::default() }
    }

    fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Flow {
    /// The same, over this store of live rows, which was opened with this floor
    /// ([`asof_engine::Engine::greatest_position`]). The engine reads what is pushed from it, from now on.
    #[must_use]
    pub fn with_live(mut self, store: Arc<dyn LiveStore>, floor: Position, bounds: FlushBounds) -> Flow {
        self.engine.follow(Arc::new(StoreTail::new(Arc::clone(&store), floor)));
        self.log = Some(Arc::new(Log::new(store, bounds)));
        self
    }

    /// Moves everything that was accepted so far into the tables of its sources, and trims the log. Where nobody
    /// waits for it any more, it goes on to its end.
    ///
    /// # Errors
    /// The first of those that the tables' turns gave; the others are up to date nevertheless, and nothing is
    /// trimmed that is not in its table.
    pub async fn flush(&self) -> Result<FlushReport> {
        let flow = self.clone();
        self.in_task(async move { caught(flow.flush_turn()).await }).await
    }

    /// Lets nothing be moved out of the log until what this gives is dropped: tables and log are copied of one
    /// moment.
    pub async fn pause_flush(&self) -> FlushPause {
        match &self.log {
            Some(log) => FlushPause { _turn: Some(Arc::clone(&log.turn).lock_owned().await) },
            None => FlushPause { _turn: None },
        }
    }

    /// How the log stands to the tables; none in a node without a store of live rows.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn flush_status(&self) -> Result<Option<FlushStatus>> {
        let Some(log) = &self.log else { return Ok(None) };
        let store = Arc::clone(&log.store);
        let usage = blocking(move || Ok(store.usage()?)).await?;
        let now = self.clock.now();
        let is_behind = usage.trimmed < usage.published;
        Ok(Some(log.known(|known| FlushStatus {
            flushed: usage.trimmed.0,
            accepted: usage.published.0,
            log_bytes: usage.log_bytes,
            succeeded_at: known.succeeded_at,
            lag_micros:
                known.behind_since.filter(|_| is_behind).map(|since| now.0.saturating_sub(since.0).max(0)),
            failures: known.failures.clone(),
        })))
    }

    /// Moves the log whenever it has grown by so many bytes or a row has waited so long, until told to stop.
    pub async fn flush_forever(&self, shutdown: CancellationToken) {
        let Some(log) = self.log.clone() else { return };
        let mut begun = Instant::now();
        let (mut after, mut failed) = (0, 0_u32);
        let mut retry = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK.min(log.bounds.wait)) => {}
            }
            let usage = match log.store.usage() {
                Ok(usage) => usage,
                Err(error) => {
                    tracing::warn!(%error, "the intake log cannot be looked at");
                    continue;
                }
            };
            let is_behind = usage.trimmed < usage.published;
            self.look_at(&log, is_behind, usage.log_bytes);
            if !is_behind {
                begun = Instant::now();
            }
            let due = begun.elapsed() >= log.bounds.wait
                || usage.log_bytes.saturating_sub(after) >= log.bounds.bytes;
            if !is_behind || !due || Instant::now() < retry {
                continue;
            }
            begun = Instant::now();
            match self.flush().await {
                Ok(report) => {
                    failed = 0;
                    tracing::debug!(
                        rows = report.rows,
                        position = report.position,
                        "the intake log was flushed"
                    );
                }
                Err(FlowError::Stopping) => return,
                Err(error) => {
                    failed = failed.saturating_add(1);
                    let doubled = 1_u32.checked_shl(failed - 1).unwrap_or(u32::MAX);
                    retry = Instant::now() + log.bounds.retry.saturating_mul(doubled).min(LONGEST);
                    // It is behind, however long it waits.
                    begun = Instant::now().checked_sub(log.bounds.wait).unwrap_or(begun);
                    tracing::warn!(%error, "the intake log could not be flushed; what is pushed goes on and is kept in it");
                }
            }
            after = log.store.usage().map_or(after, |usage| usage.log_bytes);
        }
    }

    /// Keeps since when rows wait, and tells of a log that has grown large.
    fn look_at(&self, log: &Log, is_behind: bool, bytes: u64) {
        let now = self.clock.now();
        log.known(|known| {
            known.behind_since = if is_behind { known.behind_since.or(Some(now)) } else { None };
            if bytes < LARGE {
                known.told = 0;
            } else if bytes >= known.told.saturating_mul(2).max(LARGE) {
                known.told = bytes;
                tracing::warn!(
                    bytes,
                    "the intake log is large: its tables do not keep up, `asof status` says why"
                );
            }
        });
    }

    async fn flush_turn(&self) -> Result<FlushReport> {
        let Some(log) = &self.log else { return Ok(FlushReport::default()) };
        let _alone = log.turn.lock().await;
        if self.stop.is_cancelled() {
            return Err(FlowError::Stopping);
        }
        let store = Arc::clone(&log.store);
        let usage = blocking(move || Ok(store.usage()?)).await?;
        if usage.trimmed >= usage.published {
            return Ok(FlushReport { position: usage.trimmed.0, ..FlushReport::default() });
        }
        self.flush_all(log).await
    }

    /// One turn; the caller is the only one.
    async fn flush_all(&self, log: &Arc<Log>) -> Result<FlushReport> {
        let Some(held) = self.engine.hold_tail().await? else { return Ok(FlushReport::default()) };
        let store = Arc::clone(&log.store);
        let tables = blocking(move || numbers::all(store.as_ref())).await?;
        let end = held.end();
        let mut report = FlushReport { position: end.0, ..FlushReport::default() };
        let mut trim = end;
        let mut first_error = None;
        for table in tables {
            match self.flush_table(log, &table, &held).await {
                Ok(rows) => {
                    report.rows += rows;
                    report.tables += u64::from(rows > 0);
                    log.known(|known| known.failures.remove(&table));
                    if rows > 0 {
                        match self.compact_table(log, &table).await {
                            Some(files) => report.compacted += files,
                            None => report.not_compacted += 1,
                        }
                    }
                }
                Err(FlowError::Stopping) => return Err(FlowError::Stopping),
                Err(error) => {
                    let at = self.clock.now();
                    let failure = FlushFailure { at, error: RunError::of(&error) };
                    log.known(|known| known.failures.insert(table.clone(), failure));
                    trim = trim.min(before_first(&held, &table).await?);
                    first_error.get_or_insert(error);
                }
            }
        }
        drop(held);
        let store = Arc::clone(&log.store);
        blocking(move || Ok(store.trim(trim)?)).await?;
        report.position = trim.0;
        match first_error {
            Some(error) => Err(error),
            None => {
                log.known(|known| {
                    known.succeeded_at = Some(self.clock.now());
                    known.behind_since = None;
                });
                Ok(report)
            }
        }
    }

    /// Moves what the log has of one table; how many rows.
    async fn flush_table(&self, log: &Log, table: &str, held: &SharedTail) -> Result<u64> {
        let source = self.version_of(log, table).await?;
        let mut rows = 0;
        loop {
            if self.stop.is_cancelled() {
                return Err(FlowError::Stopping);
            }
            let done = self.engine.flush(&source, held, log.bounds.commit).await?;
            rows += done.rows;
            if done.all {
                return Ok(rows);
            }
        }
    }

    /// Puts small files of a table together; how many. The rows are in already, so trouble here is told and no more.
    async fn compact_table(&self, log: &Log, table: &str) -> Option<u64> {
        let compacted = async {
            let source = self.version_of(log, table).await?;
            Ok::<_, FlowError>(self.engine.compact(&source, self.clock.now(), log.bounds.grace).await?)
        };
        match compacted.await {
            Ok(done) => Some(done.files as u64),
            Err(error) => {
                tracing::warn!(table, %error, "small files of a table could not be put together");
                None
            }
        }
    }

    /// A version of a source whose rows stand in this table: the one that stands, else any there was.
    async fn version_of(&self, log: &Log, table: &str) -> Result<Arc<SourceVersion>> {
        let gone = || {
            FlowError::NotFound {
            what: "table of pushed rows",
            name: table.to_owned(),
            hint: Some("its source is in no version of the registry: restore the registry and the live rows of one backup".to_owned()),
        }
        };
        if let Some(known) = log.known(|known| known.versions.get(table).cloned()) {
            return Ok(known);
        }
        let mut parts = table.split('/').map(Name::new);
        let (Some(Ok(project)), Some(Ok(name))) = (parts.next(), parts.next()) else { return Err(gone()) };
        let address = Address { project, name };
        let is_it = |version: &SourceVersion| self.engine.table_of(version).is_ok_and(|found| found == table);
        let standing = self.registry.catalog().source(&address).cloned().filter(|version| is_it(version));
        let found = match standing {
            Some(version) => version,
            None => {
                let history =
                    self.registry.history(&address.project, ThingKind::Source, &address.name).await?;
                let versions = history.into_iter().filter_map(|record| match record.version {
                    Version::Source(version) => Some(version),
                    _ => None,
                });
                versions.into_iter().find(|version| is_it(version)).ok_or_else(gone)?
            }
        };
        log.known(|known| known.versions.insert(table.to_owned(), Arc::clone(&found)));
        Ok(found)
    }
}

/// The position before the first row of a table in the log: up to here the log may be trimmed whatever becomes
/// of the table.
async fn before_first(held: &SharedTail, table: &str) -> Result<Position> {
    let (held, table) = (held.clone(), table.to_owned());
    blocking(move || {
        let first = held.first_of(&table)?;
        Ok(first.map_or(held.end(), |first| Position(first.0 - 1)))
    })
    .await
}
