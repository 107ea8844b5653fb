//! Rows on their way into a store, in one piece of memory.

use asof_compute::RowOrder;
use asof_model::Timestamp;

use crate::{Error, GenerationId, Result, key};

/// Rows of one generation, to be committed together. Their memory is [`RowBatch::bytes`].
#[derive(Debug, Clone)]
pub struct RowBatch {
    generation: GenerationId,
    arena: Vec<u8>,
    rows: Vec<Row>,
}

/// Where a row stands in the arena: key, then entry.
#[derive(Debug, Clone, Copy)]
struct Row {
    at: usize,
    prefix: u32,
    key: u32,
    entry: u32,
}

/// A row of a batch, as the store keeps it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowBytes<'a> {
    /// Bytes of the key that all rows of the entity share.
    pub(crate) prefix: usize,
    pub(crate) key: &'a [u8],
    pub(crate) entry: &'a [u8],
}

impl RowBatch {
    /// An empty one.
    pub fn new(generation: GenerationId) -> RowBatch {
        RowBatch { generation, arena: Vec::new(), rows: Vec::new() }
    }

    /// The generation the rows belong to.
    pub fn generation(&self) -> GenerationId {
        self.generation
    }

    /// Adds a row. `key` is the entity's (`asof_compute::KeyEncoder`); `values` appends the bytes of
    /// `asof_compute::RowLayout`, or nothing for a delete.
    ///
    /// # Errors
    /// [`Error::TooLong`] for a key of 64 KiB or more or values of more than 2 GiB; what `values`
    /// gives. The batch is as it was then.
    pub fn push<E: From<Error>>(
        &mut self,
        key: &[u8],
        order: &RowOrder,
        valid_until: Option<Timestamp>,
        next_version: Option<Timestamp>,
        values: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        const KEY: usize = u16::MAX as usize;
        const ENTRY: usize = 2 << 30;
        let at = self.arena.len();
        key::put_prefix(self.generation, key, &mut self.arena);
        let prefix = self.arena.len() - at;
        key::put_order(order, &mut self.arena);
        let length = self.arena.len() - at;
        if length > KEY {
            self.arena.truncate(at);
            return Err(Error::TooLong { what: "an entity's key with the row's order", limit: KEY }.into());
        }
        key::put_entry_head(prefix as u16, valid_until, next_version, &mut self.arena);
        if let Err(error) = values(&mut self.arena) {
            self.arena.truncate(at);
            return Err(error);
        }
        let entry = self.arena.len() - at - length;
        if entry > ENTRY {
            self.arena.truncate(at);
            return Err(Error::TooLong { what: "a row's values", limit: ENTRY }.into());
        }
        self.rows.push(Row { at, prefix: prefix as u32, key: length as u32, entry: entry as u32 });
        Ok(())
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The memory it takes.
    pub fn bytes(&self) -> usize {
        self.arena.len() + self.rows.len() * size_of::<Row>()
    }

    /// Gives all rows to another generation.
    pub fn retarget(&mut self, generation: GenerationId) {
        self.generation = generation;
        for row in &self.rows {
            if let Some(number) = self.arena.get_mut(row.at..row.at + 4) {
                number.copy_from_slice(&generation.0.to_be_bytes());
            }
        }
    }

    /// Takes all rows out, keeping the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.rows.clear();
    }

    /// The rows by key, so that those of an entity stand together, the last in order first.
    pub(crate) fn sorted(&self) -> Vec<RowBytes<'_>> {
        let mut rows: Vec<RowBytes<'_>> = self
            .rows
            .iter()
            .map(|row| {
                let (key, rest) = self.arena[row.at..].split_at(row.key as usize);
                RowBytes { prefix: row.prefix as usize, key, entry: &rest[..row.entry as usize] }
            })
            .collect();
        rows.sort_by(|a, b| a.key.cmp(b.key));
        rows
    }
}
