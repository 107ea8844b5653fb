//! Rows pushed to a source: taken apart and checked by the engine, accepted by the store of live rows, with what
//! views keep of them in the same batch.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use asof_compute::Position;
use asof_engine::Error as EngineError;
use asof_engine::delta::{Next, Superseded};
use asof_engine::intake::{BodyFormat, Intake, IntakeBatch, PushedOp};
use asof_model::{Address, Catalog, Name, Principal, Timestamp, ViewVersion};
use asof_online::live::{
    Accepted, Durability, Given, GivenRow, IdempotencyKey, Incoming, IncomingVersion, LiveStore,
    SourceNumber, Writing,
};
use asof_online::views::row_key_length;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::load::may_see;
use crate::materialize::blocking;
use crate::{Flow, FlowError, Result, nameless, numbers};

/// So many pushes are worked on at once; more wait for their turn. All that wait for the disk go with one fsync, so
/// few are enough to keep it busy, and none of them holds more than a body and its rows.
const AT_ONCE: usize = 64;

/// Bytes of bodies that are held at once; one more is refused until some are done with.
const HELD: usize = 256 << 20;

/// After so long a body that found no room is sent again.
const AGAIN: Duration = Duration::from_secs(1);

/// The greatest idempotency key, in bytes.
const LONGEST_KEY: usize = 255;

/// After so many changes of a source's definition within one push it is given up.
const PATIENCE: usize = 3;

/// What views keep of pushed rows, written in the batch that accepts them.
pub trait LiveViews: Send + Sync + std::fmt::Debug {
    /// Writes what views keep of a batch. Called under the order of all batches: it must neither block nor call the
    /// store. What it gives as an error refuses the batch.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn write(&self, batch: &AcceptedBatch<'_>, writing: &mut Writing) -> asof_online::Result<()>;

    /// Whether a batch that went through `intake` has the rows of every view of this catalog that keeps them; if not,
    /// it goes through another that has.
    fn fits(&self, _intake: &Intake, _catalog: &Catalog) -> bool {
        true
    }
}

/// Of a node in which no view keeps pushed rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLiveViews;

impl LiveViews for NoLiveViews {
    fn write(&self, _: &AcceptedBatch<'_>, _: &mut Writing) -> asof_online::Result<()> {
        Ok(())
    }
}

/// A batch on its way into the store.
#[derive(Debug)]
pub struct AcceptedBatch<'a> {
    /// What it went through: the source and the views over it.
    pub intake: &'a Intake,
    /// Its rows, and those that count in each view.
    pub rows: &'a IntakeBatch,
    /// What it is given: `v`, `s`, and the versions before and after each row.
    pub given: &'a Given<'a>,
    /// For each of its rows `s`, [`Position::NONE`] where it is left out.
    pub positions: &'a [Position],
}

impl AcceptedBatch<'_> {
    /// `s` of one of its rows, [`Position::NONE`] where it is left out.
    pub fn position(&self, row: u32) -> Position {
        self.positions.get(row as usize).copied().unwrap_or(Position::NONE)
    }
}

/// Rows to be pushed.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// As it was sent.
    pub body: bytes::Bytes,
    /// How it is written.
    pub format: BodyFormat,
    /// Whether all its rows are deletes.
    pub op: PushedOp,
    /// The caller's name for the batch.
    pub idempotency_key: Option<String>,
    /// When it is acknowledged.
    pub durability: Durability,
}

impl PushRequest {
    /// This body, durable when acknowledged.
    pub fn new(body: impl Into<bytes::Bytes>, format: BodyFormat) -> PushRequest {
        PushRequest {
            body: body.into(),
            format,
            op: PushedOp::default(),
            idempotency_key: None,
            durability: Durability::default(),
        }
    }
}

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PushReport {
    /// The source.
    pub source: Address,
    /// Rows stored.
    pub accepted: u64,
    /// Rows that were left out because they equal the version that stood, by their number in the batch, from 1.
    pub already_there: Vec<u64>,
    /// `s` of the first row stored; those after follow without a gap. None where none was.
    pub first: Option<i64>,
    /// `v` of the batch: from this time on its rows may be used.
    pub visible_at: Timestamp,
    /// Whether it was on disk before this was said.
    pub durable: bool,
    /// It is what the first batch with its idempotency key was answered; nothing was stored again.
    pub repeated: bool,
}

/// What the store of live rows holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IntakeStatus {
    /// The last position given that reads find.
    pub accepted: i64,
    /// Everything up to this position is gone from the log.
    pub trimmed: i64,
    /// Bytes of its log.
    pub log_bytes: u64,
    /// Bytes of its tables.
    pub table_bytes: u64,
    /// Bytes in memory that its log alone keeps.
    pub memory_bytes: u64,
    /// Batches that wait to be acknowledged.
    pub waiting: u64,
}

/// The store of live rows, and what this process made ready for it.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) store: Arc<dyn LiveStore>,
    views: Arc<dyn LiveViews>,
    ready: Mutex<HashMap<Address, Ready>>,
    numbers: Mutex<HashMap<String, SourceNumber>>,
    /// Held while a number is given.
    giving: Mutex<()>,
    /// Bytes of bodies that are being pushed.
    held: AtomicUsize,
    turns: Semaphore,
    /// Held by the one load of files that goes on.
    pub(crate) loading: Arc<tokio::sync::Mutex<()>>,
}

/// A source compiled, and the catalog it was compiled of.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    catalog: Arc<Catalog>,
    views: Vec<Arc<ViewVersion>>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) table: Arc<str>,
}

/// Room for a body; given back when it is dropped.
#[derive(Debug)]
pub struct PushRoom {
    live: Option<Arc<Live>>,
    bytes: usize,
}

impl Drop for PushRoom {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            live.held.fetch_sub(self.bytes, Ordering::AcqRel);
        }
    }
}

impl Live {
    pub(crate) fn new(store: Arc<dyn LiveStore>, views: Arc<dyn LiveViews>) -> Live {
        Live {
            store,
            views,
            ready: Mutex::default(),
            numbers: Mutex::default(),
            giving: Mutex::default(),
            held: AtomicUsize::new(0),
            turns: Semaphore::new(AT_ONCE),
            loading: Arc::default(),
        }
    }

    /// The number of a table. Blocking where it is asked for the first time.
    pub(crate) fn number(&self, table: &str) -> Result<SourceNumber> {
        let known = |numbers: &HashMap<String, SourceNumber>| numbers.get(table).copied();
        if let Some(number) = known(&self.numbers.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(number);
        }
        let number = numbers::give(self.store.as_ref(), &self.giving, table)?;
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).insert(table.to_owned(), number);
        Ok(number)
    }
}

impl Flow {
    /// The same, taking pushed rows into this store; `views` writes what views keep of them.
    #[must_use]
    pub fn with_intake(mut self, store: Arc<dyn LiveStore>, views: Arc<dyn LiveViews>) -> Flow {
        self.live = Some(Arc::new(Live::new(store, views)));
        self
    }

    /// Takes rows into a source that is pushed to: all of them or none. When this returns they are stored as the
    /// report says, and the next read finds them; where nobody waits for it any more, it goes on to its end.
    ///
    /// # Errors
    /// Nothing was stored: [`FlowError::NotFound`] for an unknown project or source; what
    /// [`asof_engine::Engine::intake`] and [`Intake::pushed`] say of definitions and rows, `idempotency_key_reused`,
    /// `live_store_busy`, `disk_full`. It may have been: `live_store_stopped`, [`FlowError::Stopping`]; sent again
    /// with its idempotency key it is stored once.
    pub async fn push(
        &self,
        principal: &Principal,
        project: &Name,
        source: &Name,
        request: PushRequest,
    ) -> Result<PushReport> {
        may_see(principal, project)?;
        let address = Address { project: project.clone(), name: source.clone() };
        let Some(live) = self.live.clone() else {
            return Err(FlowError::Internal { what: "this node takes no pushed rows".to_owned() });
        };
        if let Some(key) = &request.idempotency_key
            && (key.is_empty() || key.len() > LONGEST_KEY)
        {
            let message = format!("an idempotency key has 1 to {LONGEST_KEY} bytes, not {}", key.len());
            let error = EngineError::invalid("bad_idempotency_key", message);
            return Err(error.with_hint("e.g. a UUID, made once for each batch").into());
        }
        let request = Arc::new(request);
        let flow = self.clone();
        self.in_task(async move {
            for _ in 0..PATIENCE {
                let ready = flow.ready(&live, &address).await?;
                let turn = live.turns.acquire().await.map_err(|_| FlowError::Stopping)?;
                let (flow, at, request) = (flow.clone(), Arc::clone(&live), Arc::clone(&request));
                let pushed = blocking(move || flow.push_now(&at, &ready, &request)).await;
                drop(turn);
                if let Some(report) = pushed? {
                    return Ok(report);
                }
            }
            let message =
                format!("source `{address}` was changed again and again while rows were pushed to it");
            Err(EngineError::Conflict {
                code: "source_changed",
                message: format!("{message}; nothing was stored"),
                hint: Some("push the rows again".to_owned()),
            }
            .into())
        })
        .await
    }

    /// Room for a body of so many bytes, to be taken before it is read and held until it was pushed.
    ///
    /// # Errors
    /// `live_store_busy` where there is none now.
    pub fn room_to_push(&self, bytes: usize) -> Result<PushRoom> {
        let live = self.live.clone();
        if let Some(live) = &live {
            let before = live.held.fetch_add(bytes, Ordering::AcqRel);
            // Alone any body has room.
            if before > 0 && before.saturating_add(bytes) > HELD {
                live.held.fetch_sub(bytes, Ordering::AcqRel);
                let path = "live".to_owned();
                return Err(asof_online::Error::Busy { path, waiting: before, retry_after: AGAIN }.into());
            }
        }
        Ok(PushRoom { live, bytes })
    }

    /// T of what is asked now (SEMANTICS 5): no row that comes later is visible at it.
    ///
    /// # Errors
    /// Where the store of live rows can no longer tell.
    pub async fn present(&self) -> Result<Timestamp> {
        let Some(live) = self.live.clone() else { return Ok(self.clock.now()) };
        blocking(move || Ok(live.store.read()?.answer_time())).await
    }

    /// What the store of live rows holds; none in a node that takes no pushed rows.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn intake_status(&self) -> Result<Option<IntakeStatus>> {
        let Some(live) = self.live.clone() else { return Ok(None) };
        blocking(move || {
            let usage = live.store.usage()?;
            Ok(Some(IntakeStatus {
                accepted: usage.published.0,
                trimmed: usage.trimmed.0,
                log_bytes: usage.log_bytes,
                table_bytes: usage.table_bytes,
                memory_bytes: usage.memory_bytes,
                waiting: usage.waiting as u64,
            }))
        })
        .await
    }

    /// The source compiled, with the views that stand over it now.
    pub(crate) async fn ready(&self, live: &Live, address: &Address) -> Result<Ready> {
        let catalog = self.registry.catalog();
        let known = live.ready.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned();
        if let Some(known) = &known
            && Arc::ptr_eq(&known.catalog, &catalog)
        {
            return Ok(known.clone());
        }
        let source = pushed_source(&catalog, address)?;
        let views: Vec<Arc<ViewVersion>> =
            catalog.views().filter(|view| view.source == *address).cloned().collect();
        let same = known.filter(|known| {
            let ids = |views: &[Arc<ViewVersion>]| -> Vec<_> {
                views.iter().map(|view| (view.address.clone(), view.id.clone())).collect()
            };
            known.intake.source().id == source.id && ids(&known.views) == ids(&views)
        });
        let ready = match same {
            // Something else of the catalog changed.
            Some(known) => Ready { catalog, ..known },
            None => Ready {
                catalog,
                intake: Arc::new(self.engine.intake(&source, &views).await?),
                table: self.engine.table_of(&source)?.into(),
                views,
            },
        };
        live.ready.lock().unwrap_or_else(PoisonError::into_inner).insert(address.clone(), ready.clone());
        Ok(ready)
    }

    /// Takes the rows in; none where another version of the source stands by now. Blocking.
    fn push_now(&self, live: &Live, ready: &Ready, request: &PushRequest) -> Result<Option<PushReport>> {
        let intake = ready.intake.as_ref();
        let key = request.idempotency_key.as_deref();
        let good = || -> Result<IntakeBatch> {
            let rows = intake.pushed(&request.body, request.format, request.op)?;
            refuse_long_keys(intake, &rows)?;
            Ok(rows)
        };
        let rows = match good() {
            Ok(rows) => rows,
            // A retry of what was taken before other views came is that, whatever they say of its rows.
            Err(error) => {
                return match answered(live, ready, request)? {
                    Some(first) => Ok(Some(report(intake, first))),
                    None => Err(error),
                };
            }
        };
        let key = key.map(|key| IdempotencyKey { key, content: rows.content_of_all() });
        let accepted = accept(self, live, ready, &rows, key, request.durability, &|_| Ok(()))?;
        Ok(accepted.map(|accepted| report(intake, accepted)))
    }
}

fn report(intake: &Intake, accepted: Accepted) -> PushReport {
    PushReport {
        source: intake.source().address.clone(),
        accepted: u64::from(accepted.count),
        already_there: accepted.already_there.iter().map(|row| u64::from(*row) + 1).collect(),
        first: (accepted.count > 0).then_some(accepted.first.0),
        visible_at: accepted.visible_at,
        durable: accepted.durable,
        repeated: accepted.repeated,
    }
}

/// What a batch of these rows was answered under their idempotency key; none where none was. Stores nothing.
fn answered(live: &Live, ready: &Ready, request: &PushRequest) -> Result<Option<Accepted>> {
    let Some(key) = request.idempotency_key.as_deref() else { return Ok(None) };
    let Some(content) = ready.intake.content_of(&request.body, request.format, request.op) else {
        return Ok(None);
    };
    // To a source that nothing was pushed to nothing was under a key.
    let Some(source) = numbers::of(live.store.as_ref(), &ready.table)? else { return Ok(None) };
    let asked = asof_online::live::Intake {
        source,
        rows: Incoming::Plain(1),
        key: Some(IdempotencyKey { key, content }),
        durability: request.durability,
    };
    let mut is_new = false;
    let found = live.store.accept(&asked, &mut |_, _| {
        is_new = true;
        let reason = "its rows are bad".to_owned();
        Err(asof_online::Error::Io { doing: "push to", path: "live".to_owned(), reason })
    });
    match found {
        Ok(first) => Ok(Some(first)),
        Err(_) if is_new => Ok(None),
        // Of other rows, or not to be told now: what is the matter with the rows is of more use.
        Err(
            asof_online::Error::KeyReused { .. }
            | asof_online::Error::Full { .. }
            | asof_online::Error::Busy { .. },
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Refuses a batch with a key too long to be stored, also as it is stored once a later version of its row comes: what
/// was taken can be withdrawn.
pub(crate) fn refuse_long_keys(intake: &Intake, rows: &IntakeBatch) -> Result<()> {
    use asof_online::live::{LONGEST_KEY, version_key_length};

    let source = &intake.source().definition;
    let refused = |row: usize, what: &str, length: usize| {
        let message = format!(
            "source `{}`: row {} of the batch: {what} comes to {length} bytes with what orders it, and {LONGEST_KEY} can \
             be stored; nothing of the batch was taken",
            source.name,
            row + 1
        );
        let error = EngineError::invalid("online_row_too_long", message);
        Err(error.with_hint("name the row by something shorter, e.g. by a hash of it").into())
    };
    for row in 0..rows.len() {
        let length = rows.id(row).map_or(0, |id| version_key_length(id, rows.order_by(row)));
        if length > LONGEST_KEY {
            let id = source.id.as_ref().map(ToString::to_string).unwrap_or_default();
            return refused(row, &format!("its id `{id}`"), length);
        }
    }
    for (number, (view, _)) in intake.views().enumerate() {
        for some in rows.rows_of(number) {
            for (at, row) in some.rows.iter().map(|row| *row as usize).enumerate() {
                let length = row_key_length(some.keys.value(at), rows.order_by(row));
                if length > LONGEST_KEY {
                    let columns: Vec<String> =
                        view.keys.iter().map(|key| format!("`{}`", key.column)).collect();
                    let (columns, view) = (columns.join(", "), &view.address.name);
                    return refused(row, &format!("its key {columns} in view `{view}`"), length);
                }
            }
        }
    }
    Ok(())
}

/// Gives rows to the store, with what `beside` writes in the same batch; none where another version of the source stands by now, whose table is another.
pub(crate) fn accept(
    flow: &Flow,
    live: &Live,
    ready: &Ready,
    rows: &IntakeBatch,
    key: Option<IdempotencyKey<'_>>,
    durability: Durability,
    beside: &dyn Fn(&mut Writing) -> asof_online::Result<()>,
) -> Result<Option<Accepted>> {
    let intake = ready.intake.as_ref();
    let versions: Vec<Option<IncomingVersion<'_>>> = match intake.has_ids() {
        true => (0..rows.len()).map(|row| version(rows, row)).collect(),
        false => Vec::new(),
    };
    let count = u32::try_from(rows.len())
        .map_err(|_| FlowError::Internal { what: "a batch has more rows than a batch has".to_owned() })?;
    let incoming = match intake.has_ids() {
        true => Incoming::Versions(&versions),
        false => Incoming::Plain(count),
    };
    let number = live.number(&ready.table)?;
    let mut changed = false;
    let accepted = live.store.accept(
        &asof_online::live::Intake { source: number, rows: incoming, key, durability },
        &mut |given, writing| {
            // From here on the batch has its place: an apply that comes later finds it accepted before.
            let now = flow.registry.catalog();
            let standing = now.source(&intake.source().address);
            changed = standing.is_none_or(|standing| standing.id != intake.source().id)
                || !live.views.fits(intake, &now);
            if changed {
                let (doing, reason) = ("push to", "its source was changed meanwhile".to_owned());
                return Err(asof_online::Error::Io { doing, path: "live".to_owned(), reason });
            }
            let mut positions = vec![Position::NONE; rows.len()];
            match intake.has_ids() {
                true => {
                    for row in given.rows {
                        if let Some(position) = positions.get_mut(row.row) {
                            *position = row.position;
                        }
                    }
                    let stored = given.rows.iter().map(|row| row.row);
                    let superseded = superseded(rows, given);
                    writing.rows().extend_from_slice(&rows.log_rows(stored, Some(&superseded)));
                }
                false => {
                    for (position, s) in positions.iter_mut().zip(given.first.0..) {
                        *position = Position(s);
                    }
                    writing.rows().extend_from_slice(&rows.log_rows(0..rows.len(), None));
                }
            }
            let batch = AcceptedBatch { intake, rows, given, positions: &positions };
            live.views.write(&batch, writing)?;
            if (0..rows.len()).any(|row| rows.is_delete(row) && rows.id(row).is_none()) {
                nameless::note(number, writing)?;
            }
            beside(writing)
        },
    );
    match accepted {
        Err(_) if changed => Ok(None),
        accepted => Ok(Some(accepted?)),
    }
}

/// Which rows are superseded as those of a batch are accepted: the versions before them, and those of them that come
/// before another.
fn superseded(rows: &IntakeBatch, given: &Given<'_>) -> Vec<Superseded> {
    let mut found = Vec::new();
    for GivenRow { row, position, before, after } in given.rows {
        if let Some(before) = before {
            let visible_at = rows.visible_at(*row).unwrap_or(given.visible_at);
            let by = Next::Version { visible_at, position: *position };
            found.push(Superseded { row: before.position, by });
        }
        if let Some(after) = after {
            let by = Next::Version { visible_at: after.visible_at, position: after.position };
            found.push(Superseded { row: *position, by });
        }
        if rows.is_delete(*row) {
            let by = if rows.id(*row).is_some() { Next::Withdrawal } else { Next::Delete };
            found.push(Superseded { row: *position, by });
        }
    }
    found
}

/// A row as a version of its event; none where it is an event of its own.
fn version(rows: &IntakeBatch, row: usize) -> Option<IncomingVersion<'_>> {
    Some(IncomingVersion {
        id: rows.id(row)?,
        visible_at: rows.visible_at(row),
        order_by: rows.order_by(row),
        digest: rows.digest(row),
        event_time: rows.event_time(row),
        content: rows.content(row),
        kept: rows.kept(row),
    })
}

fn pushed_source(catalog: &Catalog, address: &Address) -> Result<Arc<asof_model::SourceVersion>> {
    if let Some(found) = catalog.source(address) {
        return Ok(Arc::clone(found));
    }
    let Some(state) = catalog.projects.get(&address.project) else {
        return Err(FlowError::NotFound {
            what: "project",
            name: address.project.to_string(),
            hint: Some("run `asof apply` in its folder first".to_owned()),
        });
    };
    let pushed: Vec<String> = state
        .sources
        .values()
        .filter(|found| matches!(found.definition.place, asof_model::Place::Push { .. }))
        .map(|found| format!("`{}`", found.address.name))
        .collect();
    let hint = match pushed.is_empty() {
        true => "the project has no source with `push: true`".to_owned(),
        false => format!("the project's sources that take rows are {}", pushed.join(", ")),
    };
    Err(FlowError::NotFound { what: "source", name: address.name.to_string(), hint: Some(hint) })
}
