//! Which views have tables in the live store, and where each is in its life.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use asof_compute::Position;
use asof_model::{Address, DataType, Timestamp, VersionId};
use serde::{Deserialize, Serialize};

use super::filled::{END, ENTITY};
use super::{TiledKeys, ViewTable, key};
use crate::live::{Direction, LiveSnapshot, LiveStore, TableNumber, Writing, sweep};
use crate::{Error, GenerationId, GenerationState, Result};

/// The table of the records, and of what was read for each generation.
pub(super) const RECORDS: TableNumber = TableNumber::new(0).unwrap();
/// The table of the first generation's rows.
const FIRST: u32 = 16;

/// So many entities are noted at most.
const WORTH: usize = 10_000;

/// Behind a mark: it is written down which entities may have tiles.
const TELLS: u8 = 1;

const RECORD: u8 = 0;
const MARK: u8 = 1;
const PROGRESS: u8 = 2;
/// 3 and 4 are of [`super::filled`].
const LATE: u8 = 5;
const TILED_KEYS: u8 = 6;
const KEPT: u8 = 7;
const NO_KEY: u8 = 8;
const NEVER: u8 = 10;
/// The greatest number that a generation ever had.
const LAST: u8 = 9;

/// What the rows of a generation are for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// The latest row: the view's features.
    Latest,
    /// Windows: the arguments of their aggregates, of these types, and their filters.
    Windows {
        /// Of `asof_compute::WindowColumns::arguments`.
        arguments: Vec<DataType>,
    },
}

/// A generation's record, stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRecord {
    /// The format of this record; see [`LiveRecord::FORMAT`].
    pub format: u32,
    /// Its number.
    pub id: GenerationId,
    /// The view.
    pub view: Address,
    /// The version of the view.
    pub version: VersionId,
    /// The source whose rows it holds; those pushed to it come from [`LiveRecord::begun`] on.
    pub source: Address,
    /// What its rows are for.
    pub holds: Holds,
    /// Where it is in its life.
    pub state: GenerationState,
    /// Pushed rows past this position came as they were pushed; those up to it are read from elsewhere.
    pub begun: i64,
    /// The least T that it answers; rows that count only before were let go.
    pub horizon: Timestamp,
    /// The last time that it was brought up to date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_at: Option<Timestamp>,
}

impl LiveRecord {
    /// The newest format (`docs/formats/live-views.md`) this program writes; it reads every one up to it.
    pub const FORMAT: u32 = 2;
}

/// A generation of a view in the live store.
#[derive(Debug, Clone)]
pub struct LiveGeneration {
    /// What it is.
    pub record: LiveRecord,
    /// Its rows.
    pub table: ViewTable,
}

/// What is counted of a generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Rows that were too old already to count at any T that is answered when they came or were read: they are kept
    /// offline.
    pub past_retention: u64,
    /// Rows that belong to no entity, a key being null.
    pub null_keys: u64,
    /// Rows that are visible at no T.
    pub never_known: u64,
}

/// What was read into a generation: unit and what was said of it.
pub type Progress = Vec<(Vec<u8>, Vec<u8>)>;

/// What was read into a generation once this position was given, until it is said of another unit.
#[derive(Debug, Default)]
struct Filled {
    last: Option<Position>,
    known: Option<(Option<Position>, Arc<Progress>)>,
}

/// The generations of all views in one live store.
#[derive(Debug)]
pub struct LiveGenerations {
    store: Arc<dyn LiveStore>,
    all: RwLock<Arc<Vec<Arc<LiveGeneration>>>>,
    /// Held by who changes them.
    changing: Mutex<()>,
    /// Entities worth a look of [`super::Tiler`].
    worth: Mutex<HashSet<(GenerationId, Vec<u8>)>>,
    /// Where what was read into each was last written down, in this process.
    filled: Mutex<HashMap<GenerationId, Filled>>,
    /// How many loads into each source go on.
    loads: Mutex<HashMap<Address, usize>>,
}

impl LiveGenerations {
    /// Those that stand in the store.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`], [`Error::Newer`].
    pub fn open(store: Arc<dyn LiveStore>) -> Result<LiveGenerations> {
        let from = store.read()?;
        let mut all = Vec::new();
        from.scan(RECORDS, &[RECORD], None, Direction::Forward, &mut |_, entry| {
            let record: LiveRecord = serde_json::from_slice(entry)
                .map_err(|error| damaged(&format!("the record of a view's rows: {error}")))?;
            if record.format > LiveRecord::FORMAT {
                let (found, known) = (record.format, LiveRecord::FORMAT);
                return Err(Error::Newer { path: "live".to_owned(), found, known });
            }
            all.push(record);
            Ok(true)
        })?;
        let mut generations = Vec::with_capacity(all.len());
        for record in all {
            let mark = from.get(RECORDS, &place(MARK, record.id))?;
            let mark = mark.as_deref().map(read_mark).transpose()?;
            let (until, tells) = mark.unwrap_or((Timestamp(i64::MIN), true));
            let keys = tells.then(|| read_tiled_keys(from.as_ref(), record.id)).transpose()?;
            let mut table = table(&record, until, keys.as_deref())?;
            if let Some(kept) = from.get(RECORDS, &place(KEPT, record.id))? {
                let kept = key::read_end(&kept);
                table = table.with_kept(kept.ok_or_else(|| damaged("how far rows of a view are let go of"))?);
            }
            generations.push(Arc::new(LiveGeneration { table, record }));
        }
        drop(from);
        Ok(LiveGenerations {
            store,
            all: RwLock::new(Arc::new(generations)),
            changing: Mutex::default(),
            worth: Mutex::default(),
            filled: Mutex::default(),
            loads: Mutex::default(),
        })
    }

    /// The store they are in.
    pub fn store(&self) -> &Arc<dyn LiveStore> {
        &self.store
    }

    /// All of them. Asked where a batch is made, those whose rows it has to hold.
    pub fn all(&self) -> Arc<Vec<Arc<LiveGeneration>>> {
        Arc::clone(&self.all.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest generation that answers for this version of a view.
    pub fn live(&self, view: &Address, version: &VersionId) -> Option<Arc<LiveGeneration>> {
        let all = self.all();
        let answers = |it: &&Arc<LiveGeneration>| {
            it.record.state == GenerationState::Live
                && it.record.view == *view
                && it.record.version == *version
        };
        all.iter().rev().find(answers).cloned()
    }

    /// Notes that an entity is worth a look of [`super::Tiler`]: many rows of it came, or were read. A hint: past a
    /// bound it is not kept.
    pub fn note(&self, id: GenerationId, entity: &[u8]) {
        let mut worth = self.worth.lock().unwrap_or_else(PoisonError::into_inner);
        if worth.len() < WORTH {
            worth.insert((id, entity.to_vec()));
        }
    }

    /// What was noted since the last call.
    pub fn noted(&self) -> HashSet<(GenerationId, Vec<u8>)> {
        std::mem::take(&mut *self.worth.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new generation without rows, being built: from its [`LiveRecord::begun`] on every batch that is made finds
    /// it among [`LiveGenerations::all`].
    ///
    /// # Errors
    /// As [`LiveStore::write`].
    pub fn begin(
        &self,
        view: &Address,
        version: &VersionId,
        source: &Address,
        holds: Holds,
    ) -> Result<Arc<LiveGeneration>> {
        let _changing = self.changing();
        // No number is given again: what is still under way for a generation that went is of no other.
        let given = self.store.read()?.get(RECORDS, &[LAST])?;
        let given = given.map(|given| given.try_into().map(u32::from_le_bytes)).transpose();
        let given = given.map_err(|_| damaged("the number of the last generation"))?.unwrap_or(0);
        let last = self.all().iter().map(|it| it.record.id.0).max().unwrap_or(0).max(given);
        let mut record = LiveRecord {
            format: LiveRecord::FORMAT,
            id: GenerationId(last + 1),
            view: view.clone(),
            version: version.clone(),
            source: source.clone(),
            holds,
            state: GenerationState::Building,
            begun: 0,
            horizon: Timestamp::BEFORE_ALL,
            succeeded_at: None,
        };
        let table = table(&record, Timestamp(i64::MIN), Some(&[]))?;
        let mut made = None;
        self.store
            .write(&mut |s, writing| {
                record.begun = s.0;
                put_record(&record, writing)?;
                writing.put(RECORDS, &[LAST], &record.id.0.to_le_bytes())?;
                let generation = Arc::new(LiveGeneration { record: record.clone(), table: table.clone() });
                let mut all = self.all().to_vec();
                all.retain(|other| other.record.id != generation.record.id);
                all.push(Arc::clone(&generation));
                *self.all.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
                made = Some(generation);
                Ok(())
            })
            .inspect_err(|_| self.forget(GenerationId(last + 1)))?;
        made.ok_or_else(|| damaged("a batch that was not made"))
    }

    fn forget(&self, id: GenerationId) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        *all = Arc::new(all.iter().filter(|other| other.record.id != id).cloned().collect());
    }

    /// Changes records, all in one batch; `entries` writes what is to stand with them.
    ///
    /// # Errors
    /// As [`LiveStore::write`].
    pub fn change(
        &self,
        change: &dyn Fn(&mut LiveRecord),
        entries: &mut dyn FnMut(Position, &mut Writing) -> Result<()>,
    ) -> Result<()> {
        let _changing = self.changing();
        let stand = |all: Arc<Vec<Arc<LiveGeneration>>>| {
            *self.all.write().unwrap_or_else(PoisonError::into_inner) = all;
        };
        let mut before = None;
        let written = self.store.write(&mut |s, writing| {
            let standing = self.all();
            let mut after = Vec::with_capacity(standing.len());
            for generation in standing.iter() {
                let mut record = generation.record.clone();
                change(&mut record);
                if record == generation.record {
                    after.push(Arc::clone(generation));
                    continue;
                }
                put_record(&record, writing)?;
                after.push(Arc::new(LiveGeneration { record, table: generation.table.clone() }));
            }
            entries(s, writing)?;
            before = Some(standing);
            // No batch that is made after this one finds what was.
            stand(Arc::new(after));
            Ok(())
        });
        written.inspect_err(|_| before.take().into_iter().for_each(stand))
    }

    /// Drops a generation with the batch that is being made, which it does not fit; its rows go with
    /// [`LiveGenerations::remove`]. Called where a batch is made: no later one finds it, also if this one is refused.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn drop_within(&self, id: GenerationId, writing: &mut Writing) -> Result<()> {
        let before = self.all();
        let Some(found) = before.iter().find(|other| other.record.id == id) else { return Ok(()) };
        let record = LiveRecord { state: GenerationState::Dropped, ..found.record.clone() };
        put_record(&record, writing)?;
        let dropped = Arc::new(LiveGeneration { record, table: found.table.clone() });
        let mut all = before.to_vec();
        all.iter_mut().filter(|other| other.record.id == id).for_each(|other| *other = Arc::clone(&dropped));
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
        Ok(())
    }

    /// Writes down how far a generation may have tiles, and of which entities: for [`super::Tiler::advance`]. Nothing
    /// of one that is gone: no record would take it away.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn mark(
        &self,
        generation: &LiveGeneration,
        until: Timestamp,
        words: &[TiledKeys],
        writing: &mut Writing,
    ) -> Result<()> {
        let id = generation.record.id;
        if self.all().iter().all(|other| other.record.id != id) {
            return Ok(());
        }
        let mut mark = until.0.to_le_bytes().to_vec();
        if generation.table.tells_tiled_keys() {
            mark.push(TELLS);
        }
        writing.put(RECORDS, &place(MARK, id), &mark)?;
        words.iter().try_for_each(|(word, bits)| {
            let place = [&place(TILED_KEYS, id)[..], &word.to_be_bytes()].concat();
            writing.put(RECORDS, &place, &bits.to_le_bytes())
        })
    }

    /// Writes down before which event time tiles of a generation may stand in for rows: for [`super::Tiler::keep`].
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn mark_kept(&self, id: GenerationId, until: Timestamp, writing: &mut Writing) -> Result<()> {
        let all = self.all();
        let Some(found) = all.iter().find(|other| other.record.id == id) else { return Ok(()) };
        // Who knows format 1 only would write rows there that nobody reads.
        put_record(&found.record, writing)?;
        writing.put(RECORDS, &place(KEPT, id), &key::end(until))
    }

    /// From now on, and until what it gives goes, rows of the past are put into this source.
    pub fn loading(self: &Arc<Self>, source: &Address) -> Loading {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        *loads.entry(source.clone()).or_default() += 1;
        Loading { generations: Arc::clone(self), source: source.clone() }
    }

    /// Whether rows of the past are being put into a source.
    pub fn is_loading(&self, source: &Address) -> bool {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner).contains_key(source)
    }

    /// Counts rows of a batch that are too old for a generation to keep them. Called where the batch is made: they count
    /// if it is accepted.
    pub fn count_past_retention(id: GenerationId, rows: u64, writing: &mut Writing) {
        writing.count(RECORDS, &place(LATE, id), rows);
    }

    /// Counts rows of a batch that belong to no entity. Called where the batch is made: they count if it is accepted.
    pub fn count_null_keys(id: GenerationId, rows: u64, writing: &mut Writing) {
        writing.count(RECORDS, &place(NO_KEY, id), rows);
    }

    /// Counts rows of a batch that are visible at no T. Called where the batch is made: they count if it is accepted.
    pub fn count_never_known(id: GenerationId, rows: u64, writing: &mut Writing) {
        writing.count(RECORDS, &place(NEVER, id), rows);
    }

    /// What is counted of each generation.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::Io`], [`Error::Damaged`].
    pub fn counted(&self) -> Result<HashMap<GenerationId, Counted>> {
        let all = self.all();
        let from = self.store.read()?;
        let of = |id| {
            let count = |what| read_count(from.as_ref(), &place(what, id));
            let (past_retention, null_keys) = (count(LATE)?, count(NO_KEY)?);
            Ok((id, Counted { past_retention, null_keys, never_known: count(NEVER)? }))
        };
        all.iter().map(|generation| of(generation.record.id)).collect()
    }

    /// Writes down, in the batch of this position, what was read of a unit into a generation.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn put_progress(
        &self,
        (id, s): (GenerationId, Position),
        unit: &[u8],
        seen: &[u8],
        writing: &mut Writing,
    ) -> Result<()> {
        // Before the batch is published. Where it is refused, what is known is only read once more.
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        filled.entry(id).or_default().last = Some(s);
        drop(filled);
        writing.put(RECORDS, &[&place(PROGRESS, id)[..], unit].concat(), seen)
    }

    /// What had been read into a generation when this view of the store was taken. Memory, but for the first time
    /// after each change.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn progress_within(&self, id: GenerationId, from: &dyn LiveSnapshot) -> Result<Arc<Progress>> {
        let last = {
            let filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
            let found = filled.get(&id);
            let last = found.and_then(|found| found.last);
            if let Some((at, known)) = found.and_then(|found| found.known.as_ref())
                && *at == last
                && last.is_none_or(|last| last <= from.position())
            {
                return Ok(Arc::clone(known));
            }
            last
        };
        let read = Arc::new(read_progress(from, id)?);
        if last.is_none_or(|last| last <= from.position()) {
            let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
            filled.entry(id).or_default().known = Some((last, Arc::clone(&read)));
        }
        Ok(read)
    }

    /// What was read into a generation: unit and what was said of it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn progress(&self, id: GenerationId) -> Result<Progress> {
        read_progress(self.store.read()?.as_ref(), id)
    }

    /// Removes a generation with its rows: first no batch finds it any more, then its rows go a step at a time, its
    /// record last. One that does not exist is no error.
    ///
    /// # Errors
    /// As [`LiveStore::write`].
    pub fn remove(&self, id: GenerationId) -> Result<()> {
        let Some(found) = self.all().iter().find(|other| other.record.id == id).cloned() else {
            return Ok(());
        };
        if found.record.state != GenerationState::Dropped {
            let dropped = |record: &mut LiveRecord| {
                if record.id == id {
                    record.state = GenerationState::Dropped;
                }
            };
            self.change(&dropped, &mut |_, _| Ok(()))?;
        }
        // A tile that is made of it now would be put behind the sweep, and stay.
        let _alone = found.table.keeping();
        found.table.memory().iter().for_each(|memory| memory.close());
        let own = [PROGRESS, ENTITY, END, TILED_KEYS].map(|what| (RECORDS, place(what, id).to_vec()));
        for (table, prefix) in [(found.table.number(), Vec::new())].into_iter().chain(own) {
            let mut from: Option<Vec<u8>> = None;
            loop {
                let swept =
                    sweep(self.store.as_ref(), table, &prefix, from.as_deref(), &mut |_, _| Ok(true))?;
                match swept.next {
                    Some(next) => from = Some(next),
                    None => break,
                }
            }
        }
        let _changing = self.changing();
        self.store.write(&mut |_, writing| {
            writing.remove(RECORDS, &place(MARK, id))?;
            writing.remove(RECORDS, &place(KEPT, id))?;
            writing.remove(RECORDS, &place(LATE, id))?;
            writing.remove(RECORDS, &place(NO_KEY, id))?;
            writing.remove(RECORDS, &place(NEVER, id))?;
            writing.remove(RECORDS, &place(RECORD, id))
        })?;
        self.forget(id);
        self.filled.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        Ok(())
    }
}

/// While it is there rows of the past are put into a source: whatever tile of theirs were made now would be made again.
#[derive(Debug)]
pub struct Loading {
    generations: Arc<LiveGenerations>,
    source: Address,
}

impl Drop for Loading {
    fn drop(&mut self) {
        let mut loads = self.generations.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = loads.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                loads.remove(&self.source);
            }
        }
    }
}

/// How far a generation may have tiles, and whether the store says of which entities.
fn read_mark(mark: &[u8]) -> Result<(Timestamp, bool)> {
    let (until, rest) = mark.split_first_chunk().ok_or_else(|| damaged("a mark of a view's rows"))?;
    match rest {
        [] => Ok((Timestamp(i64::from_le_bytes(*until)), false)),
        [TELLS] => Ok((Timestamp(i64::from_le_bytes(*until)), true)),
        _ => Err(damaged("a mark of a view's rows")),
    }
}

fn read_tiled_keys(from: &dyn LiveSnapshot, id: GenerationId) -> Result<Vec<TiledKeys>> {
    let prefix = place(TILED_KEYS, id);
    let mut found = Vec::new();
    from.scan(RECORDS, &prefix, None, Direction::Forward, &mut |key, entry| {
        let word = key.get(prefix.len()..).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes);
        let bits = entry.try_into().ok().map(u64::from_le_bytes);
        found.push(word.zip(bits).ok_or_else(|| damaged("which of a view's entities have tiles"))?);
        Ok(true)
    })?;
    Ok(found)
}

fn read_count(from: &dyn LiveSnapshot, place: &[u8]) -> Result<u64> {
    let count = from.get(RECORDS, place)?.map(|count| count.try_into().map(u64::from_le_bytes)).transpose();
    Ok(count.map_err(|_| damaged("a count of a view's rows"))?.unwrap_or(0))
}

fn read_progress(from: &dyn LiveSnapshot, id: GenerationId) -> Result<Progress> {
    let prefix = place(PROGRESS, id);
    let mut found = Vec::new();
    from.scan(RECORDS, &prefix, None, Direction::Forward, &mut |key, entry| {
        found.push((key.get(prefix.len()..).unwrap_or_default().to_vec(), entry.to_vec()));
        Ok(true)
    })?;
    Ok(found)
}

fn table(record: &LiveRecord, mark: Timestamp, keys: Option<&[TiledKeys]>) -> Result<ViewTable> {
    let number = TableNumber::new(FIRST.saturating_add(record.id.0));
    let number = number.ok_or_else(|| damaged("the number of a view's rows"))?;
    let table = match record.holds {
        Holds::Latest => ViewTable::latest(number),
        Holds::Windows { .. } => ViewTable::windows(number, mark, keys),
    };
    if record.state == GenerationState::Live {
        table.set_filled();
    }
    Ok(table)
}

/// In the newest format, whatever it was read in.
fn put_record(record: &LiveRecord, writing: &mut Writing) -> Result<()> {
    let record = LiveRecord { format: LiveRecord::FORMAT, ..record.clone() };
    let bytes = serde_json::to_vec(&record).map_err(|error| damaged(&error.to_string()))?;
    writing.put(RECORDS, &place(RECORD, record.id), &bytes)
}

pub(super) fn place(what: u8, id: GenerationId) -> [u8; 5] {
    let id = id.0.to_be_bytes();
    [what, id[0], id[1], id[2], id[3]]
}

fn damaged(what: &str) -> Error {
    Error::Damaged { path: "live".to_owned(), what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_formats_1_and_2_load() {
        let stored = [
            include_str!("../../tests/compat/live-views-1.txt"),
            include_str!("../../tests/compat/live-views-2.txt"),
        ];
        for (format, stored) in (1..).zip(stored) {
            let line = stored.lines().find_map(|line| line.strip_prefix("record: ")).unwrap();
            let record: LiveRecord = serde_json::from_str(line).unwrap();
            let found = (record.format, record.id, record.begun, record.state);
            assert_eq!(found, (format, GenerationId(3), 40, GenerationState::Live));
            assert_eq!(serde_json::to_string(&record).unwrap(), line, "written as before");
        }
    }
}
