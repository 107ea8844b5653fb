//! The spine's rows grouped by key, and the table that finds a key's group.

use arrow::array::{Array, BinaryArray};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::EntityKeys;
use crate::spine::NONE;
use crate::threads::{Threads, each};

/// The place of a row whose key is null.
pub(crate) const NO_KEY: u32 = u32::MAX;
/// The place of a row of another portion; below it are groups, and later slots.
pub(crate) const ELSEWHERE: u32 = u32::MAX - 1;

/// Fewer rows are not worth a thread.
pub(crate) const LEAST: usize = 8_192;

/// Where a key's group is found.
#[derive(Debug)]
pub(crate) enum Table {
    /// Integers that lie close together, as numbers given one after another do: the group of each from `least`
    /// on.
    Close {
        least: i64,
        groups: Vec<u32>,
    },
    Int64 {
        mask: usize,
        entries: Vec<IntEntry>,
    },
    Bytes {
        mask: usize,
        entries: Vec<BytesEntry>,
        keys: Vec<u8>,
        ends: Vec<usize>,
    },
}

/// `group` is [`NONE`] where no key stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IntEntry {
    pub(crate) key: i64,
    pub(crate) group: u32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct BytesEntry {
    pub(crate) hash: u64,
    pub(crate) group: u32,
}

#[inline]
pub(crate) fn hash_int64(key: i64) -> u64 {
    let mixed = (key as u64 ^ (key as u64 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// How many places a table for so many keys has, less one.
fn mask(keys: usize) -> usize {
    (keys * 2).max(2).next_power_of_two() - 1
}

/// The spine rows' groups, by key.
pub(crate) struct Groups<'a> {
    /// Per row its group, until slots are numbered.
    pub(crate) places: Vec<u32>,
    /// How many groups there are.
    pub(crate) count: u32,
    threads: &'a dyn Threads,
}

impl<'a> Groups<'a> {
    /// The groups of all rows, and where a key's is found.
    pub(crate) fn of(keys: &EntityKeys, threads: &'a dyn Threads) -> (Groups<'a>, Table) {
        let mut groups = Groups { places: vec![ELSEWHERE; keys.len()], count: 0, threads };
        let table = match keys {
            EntityKeys::Int64 { values, .. } => match groups.close(keys, values) {
                Some(table) => table,
                None => groups.int64(keys, values),
            },
            EntityKeys::Bytes(bytes) => groups.bytes(keys, bytes),
        };
        (groups, table)
    }

    /// Groups integers that lie close together; none, and nothing is done, where they do not.
    fn close(&mut self, keys: &EntityKeys, values: &[i64]) -> Option<Table> {
        let share = values.len().div_ceil(self.threads.count().max(1)).max(LEAST);
        let bounds = |part: usize, values: &[i64]| {
            let rows = part * share..part * share + values.len();
            let some =
                || rows.clone().zip(values).filter(|(row, _)| !keys.is_null(*row)).map(|(_, key)| *key);
            some().min().zip(some().max())
        };
        let bounds =
            each(self.threads, values.chunks(share).enumerate(), |(part, values)| bounds(part, values));
        let least = bounds.iter().flatten().map(|(least, _)| *least).min()?;
        let greatest = bounds.iter().flatten().map(|(_, greatest)| *greatest).max()?;
        // As unsigned, the difference of any two integers has room.
        let span = usize::try_from(greatest.wrapping_sub(least).cast_unsigned()).ok()?.checked_add(1)?;
        if span > values.len() {
            return None;
        }
        // Which integers there are, a bit each, by several threads; then their numbers; then each row's.
        let there = each(self.threads, values.chunks(share).enumerate(), |(part, values)| {
            let mut there = vec![0_u64; span.div_ceil(64)];
            for (row, key) in (part * share..).zip(values) {
                if !keys.is_null(row) {
                    let at = key.wrapping_sub(least) as usize;
                    there[at / 64] |= 1 << (at % 64);
                }
            }
            there
        });
        let mut groups = vec![NONE; span];
        for (at, group) in groups.iter_mut().enumerate() {
            if there.iter().any(|there| there[at / 64] >> (at % 64) & 1 == 1) {
                *group = self.count;
                self.count += 1;
            }
        }
        let parts = self.places.chunks_mut(share).zip(values.chunks(share)).enumerate();
        each(self.threads, parts, |(part, (places, values))| {
            for ((place, key), row) in places.iter_mut().zip(values).zip(part * share..) {
                if keys.is_null(row) {
                    *place = NO_KEY;
                } else {
                    *place = groups[key.wrapping_sub(least) as usize];
                }
            }
        });
        // Of few keys far apart a table of their own is smaller, and stays in the cache.
        if span * size_of::<u32>() <= (mask(self.count as usize) + 1) * size_of::<IntEntry>() {
            return Some(Table::Close { least, groups });
        }
        let there = groups.iter().enumerate().filter(|(_, group)| **group != NONE);
        Some(self.int64_table(there.map(|(at, group)| (least.wrapping_add(at as i64), *group))))
    }

    fn int64(&mut self, keys: &EntityKeys, values: &[i64]) -> Table {
        let mut seen: HashTable<(i64, u32)> = HashTable::new();
        for (row, key) in values.iter().enumerate() {
            let hash = hash_int64(*key);
            if self.has_key(keys, row) {
                let found = seen.entry(hash, |(other, _)| other == key, |(other, _)| hash_int64(*other));
                let (_, group) = *found.or_insert_with(|| (*key, self.count)).get();
                self.put(row, group);
            }
        }
        self.int64_table(seen.into_iter())
    }

    /// The table of all keys and their groups.
    fn int64_table(&self, keys: impl Iterator<Item = (i64, u32)>) -> Table {
        let mask = mask(self.count as usize);
        let mut entries = vec![IntEntry { key: 0, group: NONE }; mask + 1];
        for (key, group) in keys {
            let mut at = hash_int64(key) as usize & mask;
            while entries[at].group != NONE {
                at = (at + 1) & mask;
            }
            entries[at] = IntEntry { key, group };
        }
        Table::Int64 { mask, entries }
    }

    fn bytes(&mut self, keys: &EntityKeys, bytes: &BinaryArray) -> Table {
        let mut seen: HashTable<(u64, u32)> = HashTable::new();
        // One row of each group stands for it.
        let mut first_rows: Vec<u32> = Vec::new();
        for row in 0..bytes.len() {
            let hash = xxh3_64(bytes.value(row));
            if self.has_key(keys, row) {
                let same = |(other, group): &(u64, u32)| {
                    let first = first_rows[*group as usize] as usize;
                    *other == hash && bytes.value(first) == bytes.value(row)
                };
                let found = seen.entry(hash, same, |(other, _)| *other);
                let (_, group) = *found.or_insert_with(|| (hash, self.count)).get();
                if group == self.count {
                    first_rows.push(row as u32);
                }
                self.put(row, group);
            }
        }
        drop(seen);
        let mask = mask(first_rows.len());
        let mut entries = vec![BytesEntry { hash: 0, group: NONE }; mask + 1];
        let (mut arena, mut ends) = (Vec::new(), Vec::with_capacity(first_rows.len()));
        for (group, row) in first_rows.iter().enumerate() {
            let key = bytes.value(*row as usize);
            arena.extend_from_slice(key);
            ends.push(arena.len());
            let hash = xxh3_64(key);
            let mut at = hash as usize & mask;
            while entries[at].group != NONE {
                at = (at + 1) & mask;
            }
            entries[at] = BytesEntry { hash, group: group as u32 };
        }
        Table::Bytes { mask, entries, keys: arena, ends }
    }

    /// Whether a row belongs to a group.
    #[inline]
    fn has_key(&mut self, keys: &EntityKeys, row: usize) -> bool {
        if keys.is_null(row) {
            self.places[row] = NO_KEY;
        }
        !keys.is_null(row)
    }

    /// Puts a row into a group, which it begins where its number is the next.
    #[inline]
    fn put(&mut self, row: usize, group: u32) {
        self.count = self.count.max(group + 1);
        self.places[row] = group;
    }
}
