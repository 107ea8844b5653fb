//! The sorted tables behind the log: what is published, and snapshots of it.
//!
//! Every change here stands in the log first, so nothing is made durable but by flushing what memory
//! holds: a flush carries, in the same atomic step, the number of the last record it holds, and opening
//! replays the log from there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lsm_tree::compaction::Leveled;
use lsm_tree::config::CompressionPolicy;
use lsm_tree::{AbstractTree, AnyTree, Cache, CompressionType, Config, Guard, SequenceNumberCounter};

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
        Ok(Tree { tree, changes, views: Arc::new(Mutex::new(views)), applying: Arc::default() })
    }

    /// Puts in what records of the log say, and gives the bytes that memory holds now. Seen when
    /// [`Tree::publish`] says so. Fails where what is there had to be read and could not: then a part may be in,
    /// which must never be published or written to a table.
    pub(super) fn apply<'a>(&self, entries: impl Iterator<Item = Entry<'a>>) -> Result<u64, Error> {
        let _applying = lock(&self.applying);
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
            size = match change {
                Change::Put(value) => self.tree.insert(full.as_slice(), value, number).1,
                // Asked of everything put in up to now, so that a replay answers as it was answered first.
                Change::PutIfAbsent(value) => match self.tree.get(full.as_slice(), lsm_tree::SeqNo::MAX)? {
                    Some(_) => continue,
                    None => self.tree.insert(full.as_slice(), value, number).1,
                },
                Change::Remove => self.tree.remove(full.as_slice(), number).1,
            };
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
    }

    /// How many ended parts of memory wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.tree.sealed_memtable_count()
    }

    /// The last record that the tables on disk hold.
    pub(super) fn applied(&self) -> Result<u64, Error> {
        let found = self.tree.get(full_key(META, APPLIED), lsm_tree::SeqNo::MAX)?;
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
        self.publish_own();
        Ok(shape() != before)
    }

    /// After a change of the tree's own, so that what it replaced can be let go of. A group that was put in
    /// and not published stays unseen: then the next publishing does this.
    fn publish_own(&self) {
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
        View { tree: self.clone(), at }
    }

    pub(super) fn table_bytes(&self) -> u64 {
        self.tree.disk_space()
    }

    /// Of what memory takes in now.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.tree.active_memtable().size()
    }

    /// Makes the tables of a new store out of a view, holding everything up to this record.
    pub(super) fn copy(view: &View, folder: &Path, record: u64) -> Result<(), Error> {
        let tree = Tree::open(folder, 8 << 20)?;
        let mut into = tree.tree.ingestion()?;
        let applied = full_key(META, APPLIED);
        let mut said = false;
        for entry in view.tree.tree.iter(view.at, None) {
            let (key, value) = entry.into_inner()?;
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

/// What was published when it was taken.
#[derive(Debug)]
pub(super) struct View {
    tree: Tree,
    at: u64,
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
        use std::ops::Bound;
        if prefix.len() > LONGEST_KEY {
            return Ok(());
        }
        let prefix = full_key(table, prefix);
        let begin = from.map(|from| [&prefix[..], from].concat());
        let mut row = |entry: lsm_tree::IterGuardImpl| -> Result<bool, Error> {
            let (key, value) = entry.into_inner()?;
            each(key.get(4..).unwrap_or_default(), &value)
        };
        match direction {
            Direction::Forward => {
                let bounds = (Bound::Included(begin.as_ref().unwrap_or(&prefix)), end_of(&prefix));
                let bounds = (bounds.0, bounds.1.as_ref().map_or(Bound::Unbounded, Bound::Excluded));
                for entry in self.tree.tree.range::<&Vec<u8>, _>(bounds, self.at, None) {
                    if !row(entry)? {
                        break;
                    }
                }
            }
            Direction::Backward => {
                let end = end_of(&prefix);
                let end = match &begin {
                    Some(begin) => Bound::Included(begin),
                    None => end.as_ref().map_or(Bound::Unbounded, Bound::Excluded),
                };
                for entry in
                    self.tree.tree.range::<&Vec<u8>, _>((Bound::Included(&prefix), end), self.at, None).rev()
                {
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
