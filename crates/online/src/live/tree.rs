//! The sorted tables behind the log: what is published, and snapshots of it.
//!
//! Every change here stands in the log first, so nothing is made durable but by flushing what memory
//! holds: a flush carries, in the same atomic step, the number of the last record it holds, and opening
//! replays the log from there.
//!
//! The library's own reads and writes take a lock that it keeps while a flush or a merge makes its list of tables
//! durable, which takes several fsyncs, and lets go of memory. So what requests read, and what is put in, goes past that
//! lock: each change of the tree's shape leaves what readers need of it in [`Reading`], which does not change.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lsm_tree::compaction::Leveled;
use lsm_tree::config::CompressionPolicy;
use lsm_tree::{
    AbstractTree, AnyTree, Cache, CompressionType, Config, InternalValue, Memtable, SeqNo,
    SequenceNumberCounter, ValueType,
};

use super::record::{Change, Entry, LONGEST_KEY};
use super::store::{Direction, TableNumber};

/// The store's own entries about itself.
const META: TableNumber = TableNumber::own(0);
/// In [`META`]: the last record of the log that the tables hold.
const APPLIED: &[u8] = b"applied";

/// Why something could not be read or written.
#[derive(Debug)]
pub(super) enum Error {
    Tree(lsm_tree::Error),
    /// An entry is not what was written.
    Damaged(&'static str),
    /// What the caller gave.
    Caller(crate::Error),
}

impl From<lsm_tree::Error> for Error {
    fn from(error: lsm_tree::Error) -> Error {
        Error::Tree(error)
    }
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Error {
        Error::Caller(error)
    }
}

/// Bytes of tables that compactions aim at.
const TABLE: u64 = 64 << 20;
/// Runs of the newest tables that may overlap before they are merged.
const RUNS: u8 = 4;

#[derive(Clone)]
pub(super) struct Tree {
    tree: AnyTree,
    /// Gives the numbers of changes, to groups of batches and to the tree's own.
    changes: SequenceNumberCounter,
    views: Arc<Mutex<Views>>,
    /// Held while a group is put in, so that no snapshot, flush or rotation falls into the middle.
    applying: Arc<Mutex<()>>,
    /// Held for a moment only. Its memory is the one that takes entries in, for who holds `applying`.
    reading: Arc<Mutex<Arc<Reading>>>,
    /// Held while [`Tree::reading`] is made anew, so that none comes after a newer one.
    refreshing: Arc<Mutex<()>>,
    /// Memory and readings that were replaced: who lets go of one last goes through its entries, or removes files,
    /// which no reader should wait for.
    replaced: Arc<Mutex<Vec<Arc<dyn Any + Send + Sync>>>>,
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);
type Entries = Box<dyn DoubleEndedIterator<Item = lsm_tree::Result<InternalValue>>>;

/// Memory and tables of one moment. Those of an earlier one lack what was put in since its memory was ended; those of a
/// later one what a flush or a merge found that no open view needs. So a view keeps the one it was taken with.
struct Reading {
    /// Entries between two keys, as of a change.
    range: Box<dyn Fn(Bounds<'_>, SeqNo) -> Entries + Send + Sync>,
    /// What takes entries in.
    memory: Arc<Memtable>,
    /// How many ended parts of memory wait to be written.
    waiting: usize,
    table_bytes: u64,
}

/// What readers may see.
#[derive(Debug, Default)]
struct Views {
    /// Changes below this are published.
    published: u64,
    /// A group was put in that is not published.
    held: bool,
    /// Open snapshots by what they see.
    open: BTreeMap<u64, usize>,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The key of a table's entry within the tree.
pub(super) fn full_key(table: TableNumber, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(4 + key.len());
    full.extend_from_slice(&table.number().to_be_bytes());
    full.extend_from_slice(key);
    full
}

impl Tree {
    pub(super) fn open(folder: &Path, cache: usize) -> Result<Tree, Error> {
        let changes = SequenceNumberCounter::default();
        // The tree's own idea of what is visible is not used: a flush would raise it past a group that is
        // being put in.
        let tree = Config::new(folder, changes.clone(), SequenceNumberCounter::default())
            .use_cache(Arc::new(Cache::with_capacity_bytes(cache as u64)))
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
            .open()?;
        changes.fetch_max(tree.get_highest_persisted_seqno().map_or(1, |highest| highest + 1));
        let views = Views { published: changes.get(), ..Views::default() };
        Ok(Tree {
            applying: Arc::default(),
            reading: Arc::new(Mutex::new(Arc::new(reading(&tree)))),
            refreshing: Arc::default(),
            replaced: Arc::default(),
            tree,
            changes,
            views: Arc::new(Mutex::new(views)),
        })
    }

    /// Has readers see the tree's shape as it is.
    fn refresh(&self) {
        let _turn = lock(&self.refreshing);
        let now = Arc::new(reading(&self.tree));
        let before = std::mem::replace(&mut *lock(&self.reading), now);
        lock(&self.replaced).push(before);
    }

    /// Lets go of what was replaced and nobody else holds.
    pub(super) fn release(&self) {
        let free = || -> Vec<_> {
            lock(&self.replaced).extract_if(.., |held| Arc::strong_count(held) == 1).collect()
        };
        // A reading holds memory. They are dropped past the lock.
        while !free().is_empty() {}
    }

    /// Puts in what records of the log say, and gives the bytes that memory holds now. Seen when
    /// [`Tree::publish`] says so. Fails where what is there had to be read and could not: then a part may be in,
    /// which must never be published or written to a table.
    pub(super) fn apply<'a>(&self, entries: impl Iterator<Item = Entry<'a>>) -> Result<u64, Error> {
        let _applying = lock(&self.applying);
        let memory = self.memory();
        let number = self.changes.next();
        lock(&self.views).held = true;
        // Neighbours are found faster, each near the last; of the same key the later one stands.
        let mut sorted: Vec<Entry<'_>> = entries.collect();
        sorted.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        let mut size = 0;
        let mut full = Vec::new();
        for (table, key, change) in sorted {
            full.clear();
            full.extend_from_slice(&table.number().to_be_bytes());
            full.extend_from_slice(key);
            let put = |value: &[u8]| {
                InternalValue::from_components(full.as_slice(), value, number, ValueType::Value)
            };
            let entry = match change {
                Change::Put(value) => put(value),
                // Asked of everything put in up to now, so that a replay answers as it was answered first.
                Change::PutIfAbsent(value) => match self.tree.get(full.as_slice(), SeqNo::MAX)? {
                    Some(_) => continue,
                    None => put(value),
                },
                Change::Remove => InternalValue::new_tombstone(full.as_slice(), number),
            };
            size = memory.insert(entry).1;
        }
        Ok(size)
    }

    /// Everything put in up to now is seen by later snapshots.
    pub(super) fn publish(&self) {
        let _applying = lock(&self.applying);
        let mut views = lock(&self.views);
        views.held = false;
        views.published = views.published.max(self.changes.get());
    }

    /// Ends what memory takes in, all of it up to this record; [`Tree::flush`] writes it.
    pub(super) fn rotate(&self, record: u64) {
        let _applying = lock(&self.applying);
        self.tree.insert(full_key(META, APPLIED), record.to_le_bytes(), self.changes.next());
        self.tree.rotate_memtable();
        lock(&self.replaced).push(self.memory());
        self.refresh();
    }

    /// How many ended parts of memory wait to be written.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.reading).waiting
    }

    /// The last record that the tables on disk hold.
    pub(super) fn applied(&self) -> Result<u64, Error> {
        let found = self.tree.get(full_key(META, APPLIED), SeqNo::MAX)?;
        let bytes = found.as_deref().and_then(|value| value.first_chunk::<8>()).copied();
        Ok(bytes.map_or(0, u64::from_le_bytes))
    }

    /// Writes what [`Tree::rotate`] ended, durable when it returns.
    pub(super) fn flush(&self) -> Result<(), Error> {
        let keep = self.keep();
        let turn = self.tree.get_flush_lock();
        self.tree.flush(&turn, keep)?;
        drop(turn);
        self.publish_own();
        Ok(())
    }

    /// One step of merging tables; whether something changed.
    pub(super) fn compact(&self) -> Result<bool, Error> {
        let shape = || (self.tree.table_count(), self.tree.l0_run_count(), self.tree.disk_space());
        let before = shape();
        let strategy = Leveled::default().with_table_target_size(TABLE).with_l0_threshold(RUNS);
        self.tree.compact(Arc::new(strategy), self.keep())?;
        let changed = shape() != before;
        if changed {
            self.publish_own();
        }
        Ok(changed)
    }

    /// After a change of the tree's own, so that what it replaced can be let go of. A group that was put in
    /// and not published stays unseen: then the next publishing does this.
    fn publish_own(&self) {
        self.refresh();
        let _applying = lock(&self.applying);
        let mut views = lock(&self.views);
        if !views.held {
            views.published = views.published.max(self.changes.get());
        }
    }

    /// Changes that no snapshot needs lie below this.
    fn keep(&self) -> u64 {
        let views = lock(&self.views);
        views.open.first_key_value().map_or(views.published, |(oldest, _)| *oldest)
    }

    pub(super) fn snapshot(&self) -> View {
        let mut views = lock(&self.views);
        let at = views.published;
        *views.open.entry(at).or_default() += 1;
        // Of the same moment: nothing is published in between, so nothing that this view needs is let go of.
        let reading = Arc::clone(&lock(&self.reading));
        View { tree: self.clone(), reading, at }
    }

    pub(super) fn table_bytes(&self) -> u64 {
        lock(&self.reading).table_bytes
    }

    /// What takes entries in now.
    fn memory(&self) -> Arc<Memtable> {
        Arc::clone(&lock(&self.reading).memory)
    }

    /// Of what memory takes in now.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory().size()
    }

    /// Makes the tables of a new store out of a view, holding everything up to this record.
    pub(super) fn copy(view: &View, folder: &Path, record: u64) -> Result<(), Error> {
        let tree = Tree::open(folder, 8 << 20)?;
        let mut into = tree.tree.ingestion()?;
        let applied = full_key(META, APPLIED);
        let mut said = false;
        for entry in (view.reading.range)((Bound::Unbounded, Bound::Unbounded), view.at) {
            let InternalValue { key, value } = entry?;
            let key = key.user_key;
            if !said && *key >= *applied {
                into.write(applied.as_slice(), record.to_le_bytes())?;
                said = true;
                if *key == *applied {
                    continue;
                }
            }
            into.write(key, value)?;
        }
        if !said {
            into.write(applied.as_slice(), record.to_le_bytes())?;
        }
        into.finish()?;
        Ok(())
    }
}

/// The tree as it is.
fn reading(tree: &AnyTree) -> Reading {
    let lists = tree.get_version_history_lock();
    let shape = lists.latest_version();
    drop(lists);
    Reading {
        memory: Arc::clone(&shape.active_memtable),
        waiting: tree.sealed_memtable_count(),
        table_bytes: tree.disk_space(),
        range: Box::new(move |bounds, at| {
            Box::new(lsm_tree::Tree::create_internal_range::<&[u8], _>(shape.clone(), &bounds, at, None))
        }),
    }
}

/// What was published when it was taken.
pub(super) struct View {
    tree: Tree,
    reading: Arc<Reading>,
    at: u64,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let mut views = lock(&self.tree.views);
        if let Some(count) = views.open.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                views.open.remove(&self.at);
            }
        }
    }
}

impl View {
    pub(super) fn get(&self, table: TableNumber, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        // None so long was ever put, and the tree takes none.
        if key.len() > LONGEST_KEY {
            return Ok(None);
        }
        let key = full_key(table, key);
        let entry = (self.reading.range)((Bound::Included(&key), Bound::Included(&key)), self.at).next();
        Ok(entry.transpose()?.map(|entry| entry.value.to_vec()))
    }

    /// What [`View::get`] answers, quicker where it mostly is not there: tables' filters are asked first. May wait
    /// while their list changes, so whoever answers a request asks the other.
    pub(super) fn seek(&self, table: TableNumber, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        if key.len() > LONGEST_KEY {
            return Ok(None);
        }
        Ok(self.tree.tree.get(full_key(table, key), self.at)?.map(|value| value.to_vec()))
    }

    /// See [`super::store::LiveSnapshot::scan`].
    pub(super) fn scan(
        &self,
        table: TableNumber,
        prefix: &[u8],
        from: Option<&[u8]>,
        direction: Direction,
        each: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        if prefix.len() > LONGEST_KEY {
            return Ok(());
        }
        let prefix = full_key(table, prefix);
        let begin = from.map(|from| [&prefix[..], from].concat());
        let mut row = |entry: lsm_tree::Result<InternalValue>| -> Result<bool, Error> {
            let entry = entry?;
            each(entry.key.user_key.get(4..).unwrap_or_default(), &entry.value)
        };
        let end = end_of(&prefix);
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        match direction {
            Direction::Forward => {
                let begin = begin.as_deref().unwrap_or(&prefix);
                for entry in (self.reading.range)((Bound::Included(begin), end), self.at) {
                    if !row(entry)? {
                        break;
                    }
                }
            }
            Direction::Backward => {
                let end = begin.as_deref().map_or(end, Bound::Included);
                for entry in (self.reading.range)((Bound::Included(&prefix), end), self.at).rev() {
                    if !row(entry)? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The first key past all that begin with this; none where there is no such key.
fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xFF)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const TABLE: TableNumber = TableNumber::new(1).unwrap();

    fn put(tree: &Tree, key: &[u8]) {
        tree.apply(std::iter::once((TABLE, key, Change::Put(b"value")))).unwrap();
        tree.publish();
    }

    const SHARED: TableNumber = TableNumber::new(2).unwrap();

    fn keys(view: &View, direction: Direction) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut each = |key: &[u8], _: &[u8]| {
            found.push(key.to_vec());
            Ok(true)
        };
        view.scan(TABLE, b"", None, direction, &mut each).unwrap();
        found
    }

    /// As the library does while the list of tables is made durable.
    #[test]
    fn nobody_waits_while_the_list_of_tables_changes() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path(), 1 << 20).unwrap();
        put(&tree, b"a");
        let lists = tree.tree.get_version_history_lock();
        let (said, told) = mpsc::channel();
        let other = tree.clone();
        let thread = std::thread::spawn(move || {
            put(&other, b"b");
            let view = other.snapshot();
            let found = (keys(&view, Direction::Forward), keys(&view, Direction::Backward));
            said.send((found, view.get(TABLE, b"b").unwrap(), other.waiting(), other.memory_bytes()))
                .unwrap();
        });
        let answer = told.recv_timeout(Duration::from_secs(60));
        drop(lists);
        let (found, b, waiting, bytes) = answer.expect("an answer while the lock is held");
        thread.join().unwrap();
        assert_eq!(found, (vec![b"a".to_vec(), b"b".to_vec()], vec![b"b".to_vec(), b"a".to_vec()]));
        assert_eq!((b.as_deref(), waiting), (Some(&b"value"[..]), 0));
        assert!(bytes > 0);
    }

    /// The oldest view there is keeps what a flush need not keep for it in tables.
    #[test]
    fn a_view_keeps_what_was_put_anew() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path(), 1 << 20).unwrap();
        let mut record = 0;
        let mut turn = |value: &[u8]| {
            tree.apply(std::iter::once((TABLE, &b"key"[..], Change::Put(value)))).unwrap();
            tree.publish();
            record += 1;
            record
        };
        for round in 0..3 {
            turn(b"before");
            let view = tree.snapshot();
            tree.rotate(turn(b"after"));
            tree.flush().unwrap();
            while tree.compact().unwrap() {}
            let key = |view: &View| view.get(TABLE, b"key").unwrap();
            assert_eq!(key(&view).as_deref(), Some(&b"before"[..]), "{round}");
            assert_eq!(key(&tree.snapshot()).as_deref(), Some(&b"after"[..]), "{round}");
        }
    }

    /// A view sees what it saw whatever becomes of memory and tables, and is never the last to hold them.
    #[test]
    fn views_stay_and_hold_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path(), 1 << 20).unwrap();
        let mut views = vec![tree.snapshot()];
        for turn in 0..12_u8 {
            // A key that each turn puts anew, and every third removes.
            let shared = if turn % 3 == 2 { Change::Remove } else { Change::Put(&[turn]) };
            let entries = [(TABLE, &[turn][..], Change::Put(b"value")), (SHARED, b"key", shared)];
            tree.apply(entries.into_iter()).unwrap();
            tree.publish();
            views.push(tree.snapshot());
            if turn % 2 == 0 {
                tree.rotate(u64::from(turn));
                assert_eq!(tree.waiting(), 1, "{turn}");
                views.push(tree.snapshot());
                tree.flush().unwrap();
                assert_eq!(tree.waiting(), 0, "{turn}");
                views.push(tree.snapshot());
            }
            if turn % 5 == 0 {
                while tree.compact().unwrap() {}
            }
        }
        tree.release();
        let mut last = 0;
        for view in &views {
            let found = keys(view, Direction::Forward);
            assert!(found.iter().enumerate().all(|(at, key)| *key == [at as u8]), "{found:?}");
            assert!(found.len() >= last);
            last = found.len();
            let turn = last.checked_sub(1).filter(|turn| turn % 3 < 2).map(|turn| vec![turn as u8]);
            assert_eq!(view.get(SHARED, b"key").unwrap(), turn, "{last}");
            assert_eq!(view.seek(SHARED, b"key").unwrap(), turn, "{last}");
            for turn in 0..12_u8 {
                let there = usize::from(turn) < found.len();
                assert_eq!(view.get(TABLE, &[turn]).unwrap().is_some(), there, "{turn}");
                assert_eq!(view.seek(TABLE, &[turn]).unwrap().is_some(), there, "{turn}");
            }
        }
        assert_eq!(last, 12);
        for view in views {
            assert!(Arc::strong_count(&view.reading) > 1, "the tree still has what the view lets go of");
        }
        // The library lets go of its lists with the next change, but for one.
        put(&tree, b"z");
        tree.rotate(12);
        tree.flush().unwrap();
        tree.release();
        assert!(lock(&tree.replaced).len() <= 2, "{}", lock(&tree.replaced).len());
    }
}
