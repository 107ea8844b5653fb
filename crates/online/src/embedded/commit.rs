//! Writing: one transaction a commit, its rows entity by entity.

use asof_compute::{Answering, retain};
use asof_model::Timestamp;
use redb::{ReadableDatabase, ReadableTable, Table, WriteTransaction};

use super::{
    COUNTS, Embedded, GENERATIONS, META, PROGRESS, RECORDS_ENTRY, ROWS, STEP, generation_range, prefix_of,
};
use crate::store::{Commit, Committed, Horizon};
use crate::{Error, Generation, GenerationId, GenerationState, Result, key};

/// Rows of one entity that a merge holds in memory at once. Rows put in several steps come to the same as
/// in one: what does not win among some of them does not win among all.
const AT_ONCE: usize = 4_096;

pub(super) fn apply(store: &Embedded, commit: &Commit<'_>) -> Result<Committed> {
    let mut done = Committed::default();
    let transaction = store.database.begin_write().map_err(store.fail("write to"))?;
    {
        let mut records = transaction.open_table(GENERATIONS).map_err(store.fail("write to"))?;
        for record in commit.generations {
            let json = serde_json::to_vec(record).map_err(|error| {
                store.damaged(&format!("a generation's record cannot be written: {error}"))
            })?;
            records.insert(record.id.0, json.as_slice()).map_err(store.fail("write to"))?;
        }
        if !commit.generations.is_empty() {
            let mut meta = transaction.open_table(META).map_err(store.fail("write to"))?;
            bump(store, &mut meta)?;
        }
        // What is being dropped is no more than what was: a part of its rows may be gone.
        let exists = |id: GenerationId| -> Result<()> {
            match state_of(store, &records, id)? {
                None | Some(GenerationState::Dropped) => Err(Error::NoGeneration { id }),
                Some(_) => Ok(()),
            }
        };

        let mut rows = transaction.open_table(ROWS).map_err(store.fail("write to"))?;
        let mut counts = transaction.open_table(COUNTS).map_err(store.fail("write to"))?;
        if let Some(batch) = commit.rows.filter(|batch| !batch.is_empty()) {
            exists(batch.generation())?;
            let mut into = Into::start(store, &mut rows, &counts, batch.generation(), commit.horizon)?;
            let sorted = batch.sorted();
            for entity in sorted.chunk_by(|a, b| a.key.get(..a.prefix) == b.key.get(..b.prefix)) {
                let prefix = entity.first().and_then(|row| row.key.get(..row.prefix)).unwrap_or_default();
                let new: Vec<(&[u8], &[u8])> = entity.iter().map(|row| (row.key, row.entry)).collect();
                into.put(prefix, &new)?;
            }
            into.finish(&mut counts, &mut done)?;
        }
        if let Some((from, generation)) = commit.merge {
            exists(from)?;
            exists(generation)?;
            // What is merged was committed before, so a reader sees all of it.
            let before = store.database.begin_read().map_err(store.fail("read"))?;
            let source = before.open_table(ROWS).map_err(store.fail("read"))?;
            let (start, end) = generation_range(from);
            let mut into = Into::start(store, &mut rows, &counts, generation, commit.horizon)?;
            let mut entity: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            let mut prefix = Vec::new();
            for row in source.range::<&[u8]>(start.as_slice()..end.as_slice()).map_err(store.fail("read"))? {
                let (row_key, entry) = row.map_err(store.fail("read"))?;
                let entry = entry.value();
                let mut row_key = row_key.value().to_vec();
                if let Some(number) = row_key.get_mut(..4) {
                    number.copy_from_slice(&generation.0.to_be_bytes());
                }
                let own = prefix_of(store, &row_key, entry)?;
                if own != prefix || entity.len() >= AT_ONCE {
                    into.put_owned(&prefix, &entity)?;
                    entity.clear();
                    prefix = own.to_vec();
                }
                entity.push((row_key, entry.to_vec()));
            }
            into.put_owned(&prefix, &entity)?;
            into.finish(&mut counts, &mut done)?;
        }

        let mut progress = transaction.open_table(PROGRESS).map_err(store.fail("write to"))?;
        for (id, unit) in commit.forget {
            progress.remove((id.0, *unit)).map_err(store.fail("write to"))?;
        }
        for (id, unit, said) in commit.progress {
            exists(*id)?;
            progress.insert((id.0, *unit), *said).map_err(store.fail("write to"))?;
        }
    }
    transaction.commit().map_err(store.fail("write to"))?;
    Ok(done)
}

fn bump(store: &Embedded, meta: &mut Table<'_, &'static str, u64>) -> Result<()> {
    let change = meta.get(RECORDS_ENTRY).map_err(store.fail("write to"))?.map_or(0, |change| change.value());
    meta.insert(RECORDS_ENTRY, change + 1).map_err(store.fail("write to"))?;
    Ok(())
}

/// Rows on their way into one generation.
struct Into<'a, 'txn> {
    store: &'a Embedded,
    table: &'a mut Table<'txn, &'static [u8], &'static [u8]>,
    generation: GenerationId,
    horizon: Horizon,
    was_empty: bool,
    /// The entity put last: what a further step of the same one finds there.
    last: Vec<u8>,
    rows: u64,
    keys: u64,
    done: Committed,
}

/// A row of an entity as it would stand after the commit.
struct Standing<'a> {
    key: std::borrow::Cow<'a, [u8]>,
    answering: Answering,
    /// Its new entry; none: it stays as it is.
    entry: Option<&'a [u8]>,
    was_there: bool,
}

impl<'a, 'txn> Into<'a, 'txn> {
    fn start(
        store: &'a Embedded,
        table: &'a mut Table<'txn, &'static [u8], &'static [u8]>,
        counts: &Table<'_, u32, (u64, u64)>,
        generation: GenerationId,
        horizon: Horizon,
    ) -> Result<Into<'a, 'txn>> {
        let (rows, keys) =
            counts.get(generation.0).map_err(store.fail("write to"))?.map_or((0, 0), |count| count.value());
        let done = Committed::default();
        Ok(Into {
            store,
            table,
            generation,
            horizon,
            was_empty: rows == 0,
            last: Vec::new(),
            rows,
            keys,
            done,
        })
    }

    fn finish(self, counts: &mut Table<'_, u32, (u64, u64)>, done: &mut Committed) -> Result<()> {
        counts.insert(self.generation.0, (self.rows, self.keys)).map_err(self.store.fail("write to"))?;
        done.added += self.done.added;
        done.removed += self.done.removed;
        Ok(())
    }

    fn put_owned(&mut self, prefix: &[u8], new: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let new: Vec<(&[u8], &[u8])> = new.iter().map(|(key, entry)| (&key[..], &entry[..])).collect();
        self.put(prefix, &new)
    }

    /// Puts the rows of one entity, by key; entities come in order of their prefixes.
    fn put(&mut self, prefix: &[u8], new: &[(&[u8], &[u8])]) -> Result<()> {
        if new.is_empty() {
            return Ok(());
        }
        let may_be_there = !self.was_empty || self.last == prefix;
        let (before, after) = if self.horizon == Horizon::ALL {
            self.put_all(prefix, new, may_be_there)?
        } else {
            self.put_retained(prefix, new, may_be_there)?
        };
        match (before, after) {
            (false, true) => self.keys += 1,
            (true, false) => self.keys = self.keys.saturating_sub(1),
            _ => {}
        }
        self.last.clear();
        self.last.extend_from_slice(prefix);
        Ok(())
    }

    /// Whether the entity had a row before and has one after.
    fn put_all(&mut self, prefix: &[u8], new: &[(&[u8], &[u8])], may_be_there: bool) -> Result<(bool, bool)> {
        let had = may_be_there && {
            let mut range = self.table.range::<&[u8]>(prefix..).map_err(self.store.fail("write to"))?;
            match range.next() {
                Some(row) => row.map_err(self.store.fail("write to"))?.0.value().starts_with(prefix),
                None => false,
            }
        };
        for (row_key, entry) in new {
            if self.insert(row_key, entry)? {
                self.done.added += 1;
                self.rows += 1;
            }
        }
        Ok((had, true))
    }

    /// Whether there was no such row before.
    fn insert(&mut self, row_key: &[u8], entry: &[u8]) -> Result<bool> {
        Ok(self.table.insert(row_key, entry).map_err(self.store.fail("write to"))?.is_none())
    }

    fn put_retained(
        &mut self,
        prefix: &[u8],
        new: &[(&[u8], &[u8])],
        may_be_there: bool,
    ) -> Result<(bool, bool)> {
        let mut standing: Vec<Standing<'_>> = Vec::with_capacity(new.len() + 1);
        for (row_key, entry) in new {
            let answering = self.answering(row_key, prefix.len(), entry)?;
            let key = std::borrow::Cow::Borrowed(*row_key);
            standing.push(Standing { key, answering, entry: Some(entry), was_there: false });
        }
        // Equal in all five parts of the order: the last one given stands.
        standing.dedup_by(|later, kept| {
            let equal = later.key == kept.key;
            if equal {
                kept.entry = later.entry;
                kept.answering = later.answering;
            }
            equal
        });
        let mut had = false;
        let mut before: Vec<Standing<'_>> = Vec::new();
        if may_be_there {
            let range = self.table.range::<&[u8]>(prefix..).map_err(self.store.fail("write to"))?;
            for row in range {
                let (row_key, entry) = row.map_err(self.store.fail("write to"))?;
                let row_key = row_key.value();
                if !row_key.starts_with(prefix) {
                    break;
                }
                had = true;
                match standing.binary_search_by(|other| other.key.as_ref().cmp(row_key)) {
                    Ok(at) => standing[at].was_there = true,
                    Err(_) => {
                        let answering = self.answering(row_key, prefix.len(), entry.value())?;
                        let key = std::borrow::Cow::Owned(row_key.to_vec());
                        before.push(Standing { key, answering, entry: None, was_there: true });
                    }
                }
            }
        }
        if !before.is_empty() {
            standing.append(&mut before);
            // Two sorted runs: merging them is all that this sort does.
            standing.sort_by(|a, b| a.key.cmp(&b.key));
        }
        let kept = retain(standing.iter().map(|row| row.answering), self.horizon.0);
        for (row, kept) in standing.iter().zip(&kept) {
            match (kept, row.entry) {
                (true, Some(entry)) if self.insert(&row.key, entry)? => {
                    self.done.added += 1;
                    self.rows += 1;
                }
                (false, _) if row.was_there => {
                    self.table.remove(row.key.as_ref()).map_err(self.store.fail("write to"))?;
                    self.done.removed += 1;
                    self.rows = self.rows.saturating_sub(1);
                }
                _ => {}
            }
        }
        Ok((had, kept.contains(&true)))
    }

    fn answering(&self, row_key: &[u8], prefix: usize, entry: &[u8]) -> Result<Answering> {
        let (found, next_version) =
            key::row(row_key, prefix, entry).ok_or_else(|| self.store.damaged("an entry is not a row"))?;
        let (event_time, visible_at): (Timestamp, Timestamp) = (found.event_time, found.visible_at);
        Ok(Answering { event_time, visible_at, next_version })
    }
}

/// Where a generation is in its life; none where there is no such generation.
fn state_of(
    store: &Embedded,
    records: &impl ReadableTable<u32, &'static [u8]>,
    id: GenerationId,
) -> Result<Option<GenerationState>> {
    let Some(json) = records.get(id.0).map_err(store.fail("write to"))? else { return Ok(None) };
    Ok(Some(parsed(store, json.value())?.state))
}

fn parsed(store: &Embedded, json: &[u8]) -> Result<Generation> {
    serde_json::from_slice(json)
        .map_err(|error| store.damaged(&format!("a generation's record cannot be read: {error}")))
}

fn mark_dropped(store: &Embedded, transaction: &WriteTransaction, id: GenerationId) -> Result<()> {
    let mut records = transaction.open_table(GENERATIONS).map_err(store.fail("write to"))?;
    let record = match records.get(id.0).map_err(store.fail("write to"))? {
        Some(json) => parsed(store, json.value())?,
        None => return Ok(()),
    };
    if record.state == GenerationState::Dropped {
        return Ok(());
    }
    let record = Generation { state: GenerationState::Dropped, ..record };
    let json = serde_json::to_vec(&record)
        .map_err(|error| store.damaged(&format!("a generation's record cannot be written: {error}")))?;
    records.insert(id.0, json.as_slice()).map_err(store.fail("write to"))?;
    let mut meta = transaction.open_table(META).map_err(store.fail("write to"))?;
    bump(store, &mut meta)
}

pub(super) fn drop_generation(store: &Embedded, id: GenerationId) -> Result<()> {
    let (start, end) = generation_range(id);
    loop {
        let transaction = store.database.begin_write().map_err(store.fail("write to"))?;
        let mut removed = 0;
        {
            let mut rows = transaction.open_table(ROWS).map_err(store.fail("write to"))?;
            let all = rows
                .extract_from_if::<&[u8], _>(start.as_slice()..end.as_slice(), |_, _| true)
                .map_err(store.fail("write to"))?;
            for row in all.take(STEP) {
                row.map_err(store.fail("write to"))?;
                removed += 1;
            }
        }
        if removed < STEP {
            let mut progress = transaction.open_table(PROGRESS).map_err(store.fail("write to"))?;
            progress.retain(|(generation, _), _| generation != id.0).map_err(store.fail("write to"))?;
            drop(progress);
            let mut counts = transaction.open_table(COUNTS).map_err(store.fail("write to"))?;
            counts.remove(id.0).map_err(store.fail("write to"))?;
            drop(counts);
            let mut records = transaction.open_table(GENERATIONS).map_err(store.fail("write to"))?;
            records.remove(id.0).map_err(store.fail("write to"))?;
            drop(records);
            let mut meta = transaction.open_table(META).map_err(store.fail("write to"))?;
            bump(store, &mut meta)?;
            drop(meta);
            return transaction.commit().map_err(store.fail("write to"));
        }
        // The first step takes it from readers, and from commits that are still on their way.
        mark_dropped(store, &transaction, id)?;
        transaction.commit().map_err(store.fail("write to"))?;
    }
}
