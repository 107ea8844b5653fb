//! The versions of events: which rows of a source with ids end, found in readings of their own before the fold.
//!
//! 1. All rows: their ids are hashed into a map of bits, of which one is set where a hash came before and another where
//!    it came again. Deletes with an id are noted: they count nowhere.
//! 2. The rows whose hash came again: id, v and name, in as many parts as memory needs. Sorted, the versions of an event
//!    stand side by side, each with the v of the next. Most sources are done with after the first reading, or with few
//!    rows in the second.
//! 3. Versions of one v are told apart by `order_by` and position, and those of one position by what they say, each in
//!    one more reading, and only where there are such.
//!
//! All rows of the cut are read, whenever they happened: a version may move its event anywhere, to another key or out of
//! a view's `where`. What comes of it is [`Ends`], and no later reading need see a row to know that it ends another.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use asof_compute::{EventId, Position, RowDigest, RowDigester, TOUCHED, VersionOrder};
use asof_model::{Column, Expression, SourceVersion, Timestamp};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::task::JoinSet;

use super::ends::{Ends, NamedBy, Names, WITHDRAWAL};
use super::spec::compute;
use super::turns::Turns;
use crate::engine::gone;
use crate::expression::{Bound, Compiled, Purpose, compile};
use crate::source::{Opened, ScanColumns, SourceScan, fixed, scan_opened};
use crate::threads::in_parallel;
use crate::{Engine, Error, Progress, ProgressEvent, Result};

/// How the versions of a source's events are found.
#[derive(Debug, Clone)]
pub struct Versions {
    /// The source, for errors.
    pub source: String,
    /// Names the event of a row.
    pub id: Expression,
    /// All columns of the source.
    pub columns: Vec<Column>,
    /// A null visible time is the event time, not never.
    pub assumed: bool,
    /// The source names an `order_by`.
    pub ordered: bool,
    /// A delete must have an id: windows are asked.
    pub deletes_have_ids: bool,
    /// What rows are named by.
    pub by: NamedBy,
    /// Bytes that the search may take.
    pub memory: u64,
}

/// Readings of the same rows, which name them alike.
#[derive(Debug, Clone)]
pub struct VersionScans {
    /// The columns of the id, and how rows are named.
    pub ids: Arc<dyn ExecutionPlan>,
    /// Whether partitions of that are runs of rows, to be read one after the other.
    pub in_runs: bool,
    /// `order_by` and position.
    pub orders: Arc<dyn ExecutionPlan>,
    /// All columns.
    pub rows: Arc<dyn ExecutionPlan>,
    /// About how many rows there are.
    pub estimate: Option<u64>,
    /// What says where a row stands, by its address.
    pub place: Option<Arc<SourceScan>>,
}

/// The rows of a source with ids that end, as it is open; none of one without ids. `windows`: they are asked, so a delete
/// must have an id; `memory`: what all that is done with the source may take.
pub(crate) fn ends_of<'a>(
    engine: &'a Engine,
    source: &'a SourceVersion,
    opened: &'a Opened,
    windows: bool,
    memory: u64,
    progress: Option<Progress>,
) -> BoxFuture<'a, Result<Option<Arc<Ends>>>> {
    Box::pin(async move {
        let definition = &source.definition;
        let Some(id) = &definition.id else { return Ok(None) };
        if let Opened::Stored { superseded: Some(known), .. } = opened {
            return Ok(Some(Arc::new(known.ends(engine, source, windows).await?)));
        }
        let stored = matches!(opened, Opened::Stored { .. });
        let versions = Versions {
            source: source.address.to_string(),
            id: id.clone(),
            columns: source.columns.clone(),
            assumed: definition.is_seen_at_once(),
            ordered: definition.order_by.is_some(),
            deletes_have_ids: windows,
            by: if stored { NamedBy::Position } else { NamedBy::Address },
            memory: memory / 2,
        };
        let named = || ScanColumns { named: true, ..ScanColumns::default() };
        let all = ScanColumns { all_for_digest: true, ..named() };
        let rows = Arc::new(scan_opened(engine, source, opened, &all).await?);
        let mut scans = VersionScans {
            ids: Arc::clone(&rows.plan),
            in_runs: false,
            orders: Arc::clone(&rows.plan),
            rows: Arc::clone(&rows.plan),
            estimate: opened.estimate(),
            place: opened.is_numbered().then(|| Arc::clone(&rows)),
        };
        // What numbers its rows as they come gives the same rows for the same columns only.
        if opened.is_numbered() {
            let needs = versions.id(engine)?.needs().to_vec();
            let thin = ScanColumns { columns: needs, address: true, ..named() };
            let ids = scan_opened(engine, source, opened, &thin).await?;
            scans.in_runs = ids.fetch.is_some();
            scans.ids = ids.plan;
            scans.orders = scan_opened(engine, source, opened, &named()).await?.plan;
        }
        Ok(Some(Arc::new(versions.find(engine, &scans, progress).await?)))
    })
}

/// A row that may be a version among several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    id: EventId,
    visible_at: i64,
    name: u64,
    delete: bool,
}

/// Bits of the map for each row there may be, and the least and greatest size of it in words.
const BITS: u64 = 16;
const WORDS: (u64, u64) = (1 << 10, 1 << 20);

/// Into so many lists rows are put by their hash, each sorted by one thread.
const LISTS: usize = 64;

/// Bytes that a row in the second reading takes, about, with what tells ties apart.
const BYTES: u64 = 64;

/// Which hashes came, and which came again.
struct Seen {
    once: Vec<AtomicU64>,
    again: Vec<AtomicU64>,
    /// How often a hash came again: no more than twice as many rows have such a hash.
    hits: AtomicU64,
}

impl Seen {
    fn new(rows: Option<u64>, memory: u64) -> Seen {
        let (least, most) = WORDS;
        let wanted = rows.map_or(most, |rows| (rows.saturating_mul(BITS) / 64).next_power_of_two());
        let allowed = (memory / 64).max(1);
        let allowed = 1 << allowed.ilog2();
        let words = wanted.min(allowed).clamp(least, most.max(allowed)) as usize;
        let bits = || (0..words).map(|_| AtomicU64::new(0)).collect();
        Seen { once: bits(), again: bits(), hits: AtomicU64::new(0) }
    }

    #[inline]
    fn place(&self, hash: u64) -> (usize, u64) {
        ((hash >> 6) as usize & (self.once.len() - 1), 1 << (hash & 63))
    }

    /// Touches the places of hashes that are about to be looked at: loads that do not wait for each other.
    fn warm(words: &[AtomicU64], hashes: &[u64]) {
        let mask = words.len() - 1;
        let touched = hashes.iter().map(|hash| words[(hash >> 6) as usize & mask].load(Ordering::Relaxed));
        std::hint::black_box(touched.fold(0, |all, word| all ^ word));
    }

    /// Notes a hash; whether it came before.
    #[inline]
    fn see(&self, hash: u64) -> bool {
        let (word, bit) = self.place(hash);
        let came = self.once[word].fetch_or(bit, Ordering::Relaxed) & bit != 0;
        if came {
            self.again[word].fetch_or(bit, Ordering::Relaxed);
        }
        came
    }

    #[inline]
    fn came_again(&self, hash: u64) -> bool {
        let (word, bit) = self.place(hash);
        self.again[word].load(Ordering::Relaxed) & bit != 0
    }
}

/// What a batch says of its rows' versions.
struct Said {
    ids: Vec<Option<EventId>>,
    names: Names,
    deletes: BooleanArray,
    visible_at: TimestampMicrosecondArray,
    event_time: TimestampMicrosecondArray,
}

/// A search for the rows that end.
struct Search {
    engine: Engine,
    versions: Versions,
    id: Compiled,
    context: Arc<TaskContext>,
    /// Told of rows read.
    progress: Option<Progress>,
    told: Arc<AtomicU64>,
}

impl Versions {
    /// Finds the rows that end.
    ///
    /// # Errors
    /// As reading them; [`Error::BadRow`] for a delete without an id where each must have one.
    pub async fn find(
        self,
        engine: &Engine,
        scans: &VersionScans,
        progress: Option<Progress>,
    ) -> Result<Ends> {
        let id = self.id(engine)?;
        let context = engine.session().task_ctx();
        let told = Arc::new(AtomicU64::new(0));
        Search { engine: engine.clone(), versions: self, id, context, progress, told }.find(scans).await
    }

    fn id(&self, engine: &Engine) -> Result<Compiled> {
        compile(engine, &self.id.text, &self.columns, false, Purpose::Id).map_err(|problem| {
            let what = format!("source `{}` was applied with an `id` that cannot be compiled", self.source);
            Error::internal(format!("{what}: {}", problem.message))
        })
    }
}

impl Search {
    async fn find(self, scans: &VersionScans) -> Result<Ends> {
        let id = Arc::new(self.id.bind(&scans.ids.schema())?);
        let memory = self.versions.memory;
        let seen = Arc::new(Seen::new(scans.estimate, memory / 2));
        let withdrawals = self.look_at_all(scans, &id, &seen).await?;
        let hits = seen.hits.load(Ordering::Relaxed);
        tracing::debug!(source = %self.versions.source, hits, "ids that came again are known");
        let mut ends: Vec<(u64, i64)> = withdrawals.into_iter().map(|name| (name, WITHDRAWAL)).collect();
        let most = hits.saturating_mul(2).saturating_mul(BYTES);
        let parts = if hits == 0 { 0 } else { most.div_ceil((memory / 2).max(1)).max(1) };
        let mut tied: Vec<Version> = Vec::new();
        for part in 0..parts {
            let lists = self.look_again(scans, &id, &seen, (part, parts)).await?;
            let threads = self.engine.config().threads;
            let found = self.engine.blocking(move || in_parallel(lists, threads, |list| Ok(next_of(list))));
            for (found, ties) in found.await? {
                ends.extend(found);
                tied.extend(ties);
            }
        }
        if !tied.is_empty() {
            ends.extend(self.tell_apart(scans, tied).await?);
        }
        let ends = Ends::new(self.versions.by, ends);
        tracing::debug!(source = %self.versions.source, rows = ends.len(), "rows that end are known");
        Ok(ends)
    }

    /// Reads all rows of a plan, with several threads.
    async fn read<T: Default + Send + 'static>(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        in_runs: bool,
        take: impl Fn(&mut T, &RecordBatch) -> Result<()> + Send + Sync + 'static,
    ) -> Result<Vec<T>> {
        let plan = reset_plan_states(Arc::clone(plan))?;
        let turns = Arc::new(Turns::new(&plan, in_runs, self.engine.config().threads));
        let take = Arc::new(take);
        let mut tasks = JoinSet::new();
        for thread in 0..turns.threads {
            let (plan, turns, take) = (Arc::clone(&plan), Arc::clone(&turns), Arc::clone(&take));
            let (context, told) = (Arc::clone(&self.context), Arc::clone(&self.told));
            let progress = self.progress.clone();
            tasks.spawn(async move {
                let mut taken = T::default();
                let mut read = 0;
                while let Some(partition) = turns.next(thread) {
                    let mut stream = plan.execute(partition, Arc::clone(&context))?;
                    while let Some(batch) = stream.next().await.transpose()? {
                        take(&mut taken, &batch)?;
                        read += batch.num_rows() as u64;
                        if let Some(progress) = progress.as_ref().filter(|_| read >= 1 << 16) {
                            let done = told.fetch_add(read, Ordering::Relaxed) + read;
                            progress(ProgressEvent { phase: "versions", done, total: None, unit: "rows" });
                            read = 0;
                        }
                    }
                }
                Ok::<_, Error>(taken)
            });
        }
        let mut all = Vec::with_capacity(turns.threads);
        while let Some(done) = tasks.join_next().await {
            all.push(done.map_err(|ended| gone(&ended))??);
        }
        Ok(all)
    }

    /// The first reading: notes hashes, and gives the names of deletes with an id.
    async fn look_at_all(&self, scans: &VersionScans, id: &Arc<Bound>, seen: &Arc<Seen>) -> Result<Vec<u64>> {
        let (id, seen, versions) = (Arc::clone(id), Arc::clone(seen), self.versions.clone());
        let place = scans.place.clone();
        let found = self.read(&scans.ids, scans.in_runs, move |withdrawals: &mut Vec<u64>, batch| {
            let said = Said::of(&versions, &id, batch)?;
            let deletes = said.deletes.has_true();
            let mut hits = 0;
            for (run, hashes) in said.hashes().chunks(TOUCHED).enumerate() {
                Seen::warm(&seen.once, hashes);
                for (row, hash) in (run * TOUCHED..).zip(hashes) {
                    let delete = deletes && said.deletes.value(row);
                    match said.ids[row] {
                        Some(_) => {
                            hits += u64::from(seen.see(*hash));
                            if delete {
                                withdrawals.push(said.names.of(row));
                            }
                        }
                        None if delete && versions.deletes_have_ids => {
                            return Err(delete_without_id(&versions, batch, row, place.as_deref()));
                        }
                        None => {}
                    }
                }
            }
            seen.hits.fetch_add(hits, Ordering::Relaxed);
            Ok(())
        });
        Ok(found.await?.concat())
    }

    /// The second reading: the rows of one of so many parts whose hash came again, in lists.
    async fn look_again(
        &self,
        scans: &VersionScans,
        id: &Arc<Bound>,
        seen: &Arc<Seen>,
        (part, of): (u64, u64),
    ) -> Result<Vec<Vec<Version>>> {
        let (id, seen, versions) = (Arc::clone(id), Arc::clone(seen), self.versions.clone());
        let found = self.read(&scans.ids, scans.in_runs, move |lists: &mut Vec<Vec<Version>>, batch| {
            lists.resize_with(LISTS, Vec::new);
            let said = Said::of(&versions, &id, batch)?;
            for (run, hashes) in said.hashes().chunks(TOUCHED).enumerate() {
                Seen::warm(&seen.again, hashes);
                for (row, hash) in (run * TOUCHED..).zip(hashes) {
                    let Some(id) = said.ids[row] else { continue };
                    // The bits of the map are the lower ones.
                    let number = ((u128::from(*hash) * u128::from(of)) >> 64) as u64;
                    if number == part && seen.came_again(*hash) {
                        let version = Version {
                            id,
                            visible_at: said.visible_at(row, versions.assumed),
                            name: said.names.of(row),
                            delete: said.deletes.value(row),
                        };
                        lists[(hash >> 32) as usize % LISTS].push(version);
                    }
                }
            }
            Ok(())
        });
        let mut lists: Vec<Vec<Version>> = vec![Vec::new(); LISTS];
        for of_thread in found.await? {
            for (list, more) in lists.iter_mut().zip(of_thread) {
                if list.is_empty() {
                    *list = more;
                } else {
                    list.extend(more);
                }
            }
        }
        Ok(lists)
    }

    /// The ends of the rows of events of which some versions have one v.
    async fn tell_apart(&self, scans: &VersionScans, tied: Vec<Version>) -> Result<Vec<(u64, i64)>> {
        let source = &self.versions.source;
        tracing::debug!(%source, rows = tied.len(), "versions of one visible time are told apart");
        let mut orders: HashMap<u64, VersionOrder> = tied
            .iter()
            .map(|version| {
                let order = VersionOrder {
                    visible_at: Timestamp(version.visible_at),
                    order_by: Box::default(),
                    position: match self.versions.by {
                        NamedBy::Address => Position::NONE,
                        NamedBy::Position => Position(version.name.cast_signed()),
                    },
                    digest: RowDigest::default(),
                };
                (version.name, order)
            })
            .collect();
        if self.versions.ordered {
            let names = ties(tied.clone(), |version| (version.id, version.visible_at));
            for (name, order_by) in self.orders_of(scans, names).await? {
                if let Some(order) = orders.get_mut(&name) {
                    order.order_by = order_by;
                }
            }
        }
        let names = ties(tied.clone(), |version| (version.id, orders.get(&version.name)));
        if !names.is_empty() {
            for (name, digest) in self.digests_of(scans, names).await? {
                if let Some(order) = orders.get_mut(&name) {
                    order.digest = digest;
                }
            }
        }
        let mut tied = tied;
        // Of versions equal in all it is the same which ends.
        tied.sort_by(|one, other| {
            let key = |version: &Version| (version.id, orders.get(&version.name), version.name);
            key(one).cmp(&key(other))
        });
        Ok(chained(&tied).collect())
    }

    async fn orders_of(&self, scans: &VersionScans, names: Vec<u64>) -> Result<Vec<(u64, Box<[u8]>)>> {
        let by = self.versions.by;
        let found = self.read(&scans.orders, false, move |orders: &mut Vec<(u64, Box<[u8]>)>, batch| {
            let (rows, found) = asked_for(by, batch, &names)?;
            let order_by = batch.column_by_name(fixed::ORDER_BY).and_then(|it| it.as_binary_opt::<i32>());
            let order_by = order_by.ok_or_else(|| Error::internal("the scan gives no `__o`"))?;
            orders.extend(rows.iter().zip(found).map(|(row, name)| {
                let row = *row as usize;
                (name, if order_by.is_null(row) { Box::default() } else { order_by.value(row).into() })
            }));
            Ok(())
        });
        Ok(found.await?.concat())
    }

    async fn digests_of(&self, scans: &VersionScans, names: Vec<u64>) -> Result<Vec<(u64, RowDigest)>> {
        let by = self.versions.by;
        let digester = RowDigester::new(&self.versions.columns);
        let found = self.read(&scans.rows, false, move |digests: &mut Vec<(u64, RowDigest)>, batch| {
            let (rows, found) = asked_for(by, batch, &names)?;
            if !rows.is_empty() {
                let batch = take_record_batch(batch, &UInt32Array::from(rows))?;
                digests.extend(found.into_iter().zip(digester.digest(&batch).map_err(compute)?));
            }
            Ok(())
        });
        Ok(found.await?.concat())
    }
}

impl Said {
    fn of(versions: &Versions, id: &Bound, batch: &RecordBatch) -> Result<Said> {
        let lacks = |name: &str| Error::internal(format!("the scan gives no `{name}`"));
        let times = |name: &str| {
            let found = batch.column_by_name(name);
            found
                .and_then(|it| it.as_primitive_opt::<TimestampMicrosecondType>())
                .cloned()
                .ok_or_else(|| lacks(name))
        };
        let deletes = batch.column_by_name(fixed::OP).and_then(|ops| ops.as_boolean_opt());
        let values = id.evaluate(batch)?;
        Ok(Said {
            ids: EventId::of(&values, id.data_type()).map_err(compute)?,
            names: versions.by.names(batch)?,
            deletes: super::fold::true_only(deletes.ok_or_else(|| lacks(fixed::OP))?),
            visible_at: times(fixed::VISIBLE_AT)?,
            event_time: times(fixed::EVENT_TIME)?,
        })
    }

    /// The hash of each row's id, and of a null any.
    fn hashes(&self) -> Vec<u64> {
        self.ids.iter().map(|id| id.map_or(0, EventId::hash)).collect()
    }

    fn visible_at(&self, row: usize, assumed: bool) -> i64 {
        match (self.visible_at.is_null(row), assumed) {
            (false, _) => self.visible_at.value(row),
            (true, true) => self.event_time.value(row),
            (true, false) => Timestamp::NEVER.0,
        }
    }
}

/// Each version but the last of its event with the v of the next, and all versions of events of which two have one v.
/// Deletes are noted already.
fn next_of(mut list: Vec<Version>) -> (Vec<(u64, i64)>, Vec<Version>) {
    list.sort_unstable();
    let (mut ends, mut tied) = (Vec::new(), Vec::new());
    for versions in list.chunk_by(|one, other| one.id == other.id) {
        match versions.windows(2).any(|two| two[0].visible_at == two[1].visible_at) {
            true => tied.extend_from_slice(versions),
            false => ends.extend(chained(versions)),
        }
    }
    (ends, tied)
}

/// Each version but the last of its event, of versions in their order, with the v of the next.
fn chained(versions: &[Version]) -> impl Iterator<Item = (u64, i64)> {
    let pairs = versions.windows(2).filter(|two| two[0].id == two[1].id && !two[0].delete);
    pairs.map(|two| (two[0].name, two[1].visible_at))
}

/// The names of versions that are equal to another in what is known of them, ascending.
fn ties<K: Ord>(mut versions: Vec<Version>, known: impl Fn(&Version) -> K) -> Vec<u64> {
    versions.sort_by_key(&known);
    let same = |one: &Version, other: &Version| known(one) == known(other);
    let tied = versions.chunk_by(same).filter(|equal| equal.len() > 1);
    let mut names: Vec<u64> = tied.flatten().map(|version| version.name).collect();
    names.sort_unstable();
    names
}

/// The rows of a batch that are asked for, and their names.
fn asked_for(by: NamedBy, batch: &RecordBatch, names: &[u64]) -> Result<(Vec<u32>, Vec<u64>)> {
    let of_batch = by.names(batch)?;
    let named = (0..of_batch.len()).map(|row| (row as u32, of_batch.of(row)));
    Ok(named.filter(|(_, name)| names.binary_search(name).is_ok()).unzip())
}

fn delete_without_id(
    versions: &Versions,
    batch: &RecordBatch,
    row: usize,
    place: Option<&SourceScan>,
) -> Error {
    let address = super::fold::addresses(batch).map(|addresses| addresses.value(row));
    let position = batch.column_by_name(fixed::POSITION).and_then(|it| it.as_primitive_opt::<Int64Type>());
    let position = position.filter(|positions| positions.is_valid(row)).map(|it| it.value(row));
    let place = match (position, address.and_then(|address| place?.place(address))) {
        (Some(position), _) => format!("the stored row at position {position}"),
        (None, Some((file, row))) => format!("{file}, row {row}"),
        (None, None) => "one of its rows".to_owned(),
    };
    nameless_delete(&versions.source, place)
}

/// Windows are asked of a source, and a row of it is a delete that names no event.
pub(crate) fn nameless_delete(source: &str, place: String) -> Error {
    Error::BadRow {
        source_name: source.to_owned(),
        place,
        reason: "is a delete without an `id`, and windows are asked of its source".to_owned(),
        hint: Some("a delete of a row in a window names the row by its `id`: give it one, or leave it out in a source with `sql`".to_owned()),
    }
}
