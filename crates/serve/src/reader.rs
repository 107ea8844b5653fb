//! The reader: one T, one snapshot, every view of the request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, BinaryArray};
use asof_compute::{Derive, Keeping, RowError, Status, arrow_type, conform_request, status_at};
use asof_model::{Ask, Catalog, Clock, Name, RequestColumn, Revision, Timestamp};
use asof_online::live::LiveSnapshot;
use asof_online::views::LiveGenerations;
use asof_online::{OnlineStore, Snapshot, Wanted};

use crate::features::Answer;
use crate::live::{At, Found};
use crate::log::{Logged, Readable};
use crate::prepared::{NothingDerived, PreparedReading, Resolved};
use crate::{EntityColumns, Features, PreparedSelection, Result, ServeError, ServingLog};

/// How many prepared selections are kept; past it all are made anew as they are asked for.
const PREPARED: usize = 1_000;

/// Reads features online. A cheap clone; clones share T and what is prepared.
#[derive(Clone)]
pub struct Reader {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn OnlineStore>,
    /// What is pushed, and windows; its sequencer gives T.
    live: Option<Arc<LiveGenerations>>,
    clock: Arc<dyn Clock>,
    /// The greatest T answered where there is no live store, so that the present never goes back.
    answered: AtomicI64,
    prepared: Mutex<Prepared>,
    derive: Arc<dyn Derive>,
    /// Where answers are kept; none where they are not.
    log: Option<ServingLog>,
}

#[derive(Default)]
struct Prepared {
    revision: Revision,
    count: usize,
    /// By project, and whether names are full.
    selections: HashMap<Name, [HashMap<Ask, Arc<PreparedSelection>>; 2]>,
}

impl Prepared {
    fn get(&self, project: &Name, ask: &Ask, full_names: bool) -> Option<&Arc<PreparedSelection>> {
        self.selections.get(project)?[usize::from(full_names)].get(ask)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("store", &self.inner.store).finish_non_exhaustive()
    }
}

impl Reader {
    /// Reads from this store, what views hold.
    pub fn new(store: Arc<dyn OnlineStore>, clock: Arc<dyn Clock>) -> Reader {
        Reader::deriving(store, clock, Arc::new(NothingDerived))
    }

    /// Reads from this store, and computes what is derived of it, compiled by `derive`: the engine, which this room
    /// does not know.
    pub fn deriving(store: Arc<dyn OnlineStore>, clock: Arc<dyn Clock>, derive: Arc<dyn Derive>) -> Reader {
        let answered = AtomicI64::new(i64::MIN);
        let prepared = Mutex::default();
        let inner = Inner { store, live: None, clock, answered, prepared, derive, log: None };
        Reader { inner: Arc::new(inner) }
    }

    /// The same, which reads pushed rows and windows too, and takes T from where they are given their `v`.
    #[must_use]
    pub fn with_live(self, live: Arc<LiveGenerations>) -> Reader {
        self.with(Some(live), self.inner.log.clone())
    }

    /// The same, which keeps answers in this log.
    #[must_use]
    pub fn with_log(self, log: ServingLog) -> Reader {
        self.with(self.inner.live.clone(), Some(log))
    }

    /// Where answers are kept, if they are.
    pub fn log(&self) -> Option<&ServingLog> {
        self.inner.log.as_ref()
    }

    fn with(&self, live: Option<Arc<LiveGenerations>>, log: Option<ServingLog>) -> Reader {
        let Inner { store, clock, derive, .. } = self.inner.as_ref();
        let (store, clock, derive) = (Arc::clone(store), Arc::clone(clock), Arc::clone(derive));
        let answered = AtomicI64::new(i64::MIN);
        let inner = Inner { store, live, clock, answered, prepared: Mutex::default(), derive, log };
        Reader { inner: Arc::new(inner) }
    }

    /// What is asked in a project, made ready; kept until the catalog has another revision.
    ///
    /// # Errors
    /// [`ServeError::Select`] where something asked for does not exist, and those of
    /// [`PreparedSelection::new`].
    pub fn prepare(
        &self,
        catalog: &Catalog,
        project: &Name,
        ask: &Ask,
        full_names: bool,
    ) -> Result<Arc<PreparedSelection>> {
        let revision = catalog.revision;
        {
            let prepared = self.inner.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            if prepared.revision == revision
                && let Some(found) = prepared.get(project, ask, full_names)
            {
                return Ok(Arc::clone(found));
            }
        }
        let selection = catalog.select(project, ask, full_names)?;
        let made = PreparedSelection::deriving(selection, self.inner.derive.as_ref())?;
        if self.inner.log.is_some() {
            made.log(Logged::of(&made, catalog, ask, full_names)?);
        }
        let mut prepared = self.inner.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if prepared.revision < revision || prepared.count >= PREPARED {
            *prepared = Prepared { revision, ..Prepared::default() };
        }
        if prepared.revision == revision {
            let of_project = prepared.selections.entry(project.clone()).or_default();
            of_project[usize::from(full_names)].insert(ask.clone(), Arc::clone(&made));
            prepared.count += 1;
        }
        Ok(made)
    }

    /// Answers for every entity, as of now or of an instant within the views' history.
    ///
    /// Without `as_of`, T is the greater of the clock and the last T answered.
    ///
    /// # Errors
    /// [`ServeError`]; never a partial answer.
    pub fn read(
        &self,
        selection: &Arc<PreparedSelection>,
        entities: &EntityColumns,
        as_of: Option<Timestamp>,
    ) -> Result<Features> {
        let keys = encode_keys(selection, entities)?;
        let request = request_columns(selection, entities)?;
        let snapshot = self.inner.store.snapshot()?;
        let resolved = selection.resolve(&snapshot.generations()?)?;
        let generations = (0..selection.readings.len()).filter_map(|at| resolved.generation(at));
        // A clock that was set back must not ask for a T at which rows were already let go.
        let judged =
            generations.map(|generation| generation.judged_at).max().unwrap_or(Timestamp::BEFORE_ALL);
        let (lives, live) = self.live_at(selection, judged)?;
        let now = match &live {
            Some(live) => live.answer_time(),
            None => {
                let floor = judged.max(self.inner.clock.now());
                Timestamp(self.inner.answered.fetch_max(floor.0, Ordering::AcqRel)).max(floor)
            }
        };
        let at = instant(selection, &resolved, &lives, now, as_of)?;
        let mut features =
            Features::new(Arc::clone(selection), at, keys.first().map_or(entities.rows(), Array::len));
        for (position, reading) in selection.readings.iter().enumerate() {
            let keys = keys.get(reading.entity).ok_or_else(|| reading.damaged())?;
            match (lives.get(position), &live, self.inner.live.as_deref()) {
                (Some(Some(found)), Some(live), Some(of)) => {
                    let at = At { of, from: live.as_ref(), keeping: reading.keeping(now), at };
                    crate::live::read(&mut features, reading, found, &at, keys)?;
                }
                _ => read(&mut features, snapshot.as_ref(), reading, resolved.id(position), keys, now)?,
            }
        }
        features.derive(&request)?;
        if let Some(log) = self.inner.log.as_ref().filter(|_| selection.logged().is_some()) {
            let rows = log.sample(keys.first());
            if !rows.is_empty() {
                let read = (0..selection.readings.len()).map(|reading| {
                    let found = lives.get(reading).and_then(Option::as_ref);
                    match (found, &live, self.inner.live.as_deref()) {
                        (Some(found), Some(live), Some(of)) => {
                            let generation = found.generation.record.id;
                            let units = of.progress_within(generation, live.as_ref())?;
                            Ok(Readable { generation, units })
                        }
                        _ => log.readable(snapshot.as_ref(), resolved.records(), resolved.id(reading)),
                    }
                });
                let read = read.collect::<Result<Vec<Readable>>>()?;
                let position = live.as_ref().map(|live| live.position().0);
                log.keep(&features, &rows, entities, position, read);
            }
        }
        Ok(features)
    }

    /// The generations in the live store that answer, and a view of it in which they do.
    fn live_at(&self, selection: &PreparedSelection, judged: Timestamp) -> Result<LiveAt> {
        let Some(of) = self.inner.live.as_deref() else {
            let lives = selection
                .readings
                .iter()
                .map(|reading| reading.live.as_ref().map(|live| live.resolve(reading, None)).transpose());
            return Ok((lives.collect::<Result<_>>()?, None));
        };
        loop {
            let standing = of.all();
            let lives = selection
                .readings
                .iter()
                .map(|reading| reading.live.as_ref().map(|live| live.resolve(reading, Some(of))).transpose());
            let lives = lives.collect::<Result<Vec<Option<Arc<Found>>>>>()?;
            let live = of.store().read_from(judged)?;
            // A generation that another took the place of meanwhile may have lost rows.
            if Arc::ptr_eq(&standing, &of.all()) {
                return Ok((lives, Some(live)));
            }
        }
    }
}

/// By reading the generation that answers, where it is in the live store; and the view of that store.
type LiveAt = (Vec<Option<Arc<Found>>>, Option<Box<dyn LiveSnapshot>>);

/// The T of a request, which may be of the past.
fn instant(
    selection: &PreparedSelection,
    resolved: &Resolved,
    lives: &[Option<Arc<Found>>],
    now: Timestamp,
    as_of: Option<Timestamp>,
) -> Result<Timestamp> {
    let Some(as_of) = as_of else { return Ok(now) };
    if as_of > now {
        return Err(ServeError::AfterNow { as_of, now });
    }
    for (at, reading) in selection.readings.iter().enumerate() {
        let kept = reading.keeping(now).horizon;
        let live = lives.get(at).and_then(|live| live.as_ref()).map(|live| live.generation.record.horizon);
        let materialized = resolved.generation(at).map(|generation| generation.horizon);
        let from = kept.max(live.or(materialized).unwrap_or(Timestamp::BEFORE_ALL));
        if as_of < from {
            return Err(ServeError::BeyondHistory { view: reading.view.clone(), as_of, from });
        }
    }
    Ok(as_of)
}

/// The bytes of every entity's keys, for each set of keys that is read by.
fn encode_keys(selection: &PreparedSelection, entities: &EntityColumns) -> Result<Vec<BinaryArray>> {
    let wanted = selection.keys();
    let request = &selection.selection().request;
    for name in entities.names() {
        let of_request = || request.iter().any(|column| column.name.as_str() == name);
        if !wanted.iter().any(|key| key.name == name) && !of_request() {
            let keys = wanted.iter().map(|key| (key.name.as_str(), &key.data_type));
            let all = keys.chain(request.iter().map(|it| (it.name.as_str(), &it.data_type)));
            let known: Vec<String> = all.map(|(name, kind)| format!("`{name}` ({kind})")).collect();
            return Err(ServeError::ExtraKey { key: name.to_owned(), known: known.join(", ") });
        }
    }
    let mut arrays = Vec::with_capacity(wanted.len());
    for key in wanted {
        let Some(array) = entities.get(&key.name) else {
            return Err(ServeError::MissingKey {
                key: key.name.clone(),
                data_type: key.data_type.clone(),
                readers: key.reader.clone(),
            });
        };
        if *array.data_type() != arrow_type(&key.data_type) {
            return Err(ServeError::KeyType {
                key: key.name.clone(),
                expected: key.data_type.clone(),
                found: array.data_type().to_string(),
            });
        }
        arrays.push(array);
    }
    let mut encoded = Vec::with_capacity(selection.entities.len());
    for entity in &selection.entities {
        let own: Vec<ArrayRef> =
            entity.columns.iter().filter_map(|at| arrays.get(*at).map(|array| Arc::clone(array))).collect();
        encoded.push(entity.encoder.encode(&own)?);
    }
    Ok(encoded)
}

/// What the request brings for derived features, in the order of the selection.
fn request_columns(selection: &PreparedSelection, entities: &EntityColumns) -> Result<Vec<ArrayRef>> {
    let of = |column: &RequestColumn| {
        let (name, data_type) = (column.name.to_string(), column.data_type.clone());
        let Some(array) = entities.get(&name) else {
            return Err(ServeError::MissingRequest { column: name, data_type });
        };
        let found = array.data_type();
        conform_request(array, column).map_err(|_| ServeError::RequestType {
            column: name,
            expected: data_type,
            found: found.to_string(),
        })
    };
    selection.selection().request.iter().map(of).collect()
}

impl PreparedReading {
    fn keeping(&self, now: Timestamp) -> Keeping {
        Keeping::at(now, self.history, self.retention)
    }

    fn damaged(&self) -> ServeError {
        self.bad_row(RowError::Damaged { columns: self.layout.types().len() })
    }

    pub(crate) fn bad_row(&self, source: RowError) -> ServeError {
        ServeError::Row { view: self.view.clone(), source }
    }
}

/// Reads one reading for all entities.
fn read(
    features: &mut Features,
    snapshot: &dyn Snapshot,
    reading: &PreparedReading,
    generation: asof_online::GenerationId,
    keys: &BinaryArray,
    now: Timestamp,
) -> Result<()> {
    let keeping = reading.keeping(now);
    let at = features.at;
    let mut wanted = keys.iter().flatten().map(|key| Wanted { generation, key });
    let mut answer = features.begin(reading);
    // Entities whose key is null are not asked for: they are answered on the way to the next that is.
    let no_keys = |answer: &mut Answer<'_>| {
        while answer.len() < keys.len() && keys.is_null(answer.len()) {
            answer.nothing(Status::NoKey, None);
        }
    };
    let mut failed = None;
    snapshot.latest_many(&mut wanted, at, &mut |_, found| {
        no_keys(&mut answer);
        // A row past its retention may be there or not, and an older one may stand in for it; either
        // way it has expired, and what is answered must not hang on when views were materialised.
        let Some(row) = found.filter(|row| !keeping.is_past(row.event_time)) else {
            answer.nothing(Status::NotFound, None);
            return Ok(());
        };
        let status = status_at(at, row.event_time, row.op, row.valid_until, reading.ttl);
        let has_clock = row.event_time != Timestamp::BEFORE_ALL;
        let event_time = (status != Status::NotFound && has_clock).then_some(row.event_time);
        if status != Status::Present {
            answer.nothing(status, event_time);
        } else if let Err(error) = answer.present(row.values, event_time) {
            failed.get_or_insert(error);
        }
        Ok(())
    })?;
    no_keys(&mut answer);
    failed.map_or(Ok(()), Err)
}
