//! Candidate rows of inputs without stable addresses, kept until it is known whether they win.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, interleave_record_batch};
use arrow::datatypes::{DataType as ArrowType, SchemaRef};
use asof_compute::Address;

use super::fold::{Fold, Folded};
use crate::source::FetchRows;
use crate::{Error, Result};

/// Rows of one thread are numbered from here on.
const THREAD_SHIFT: u32 = 40;

/// The candidate rows of one thread's part of the history, in the order they were read.
#[derive(Debug)]
pub(super) struct Buffer {
    thread: u64,
    next: u64,
    /// Batches of kept rows, each row's number beside it; numbers ascend throughout.
    batches: Vec<(RecordBatch, Vec<u64>)>,
    bytes: u64,
    /// Bytes at which the next compaction comes.
    compact_at: u64,
}

impl Buffer {
    pub(super) fn new(thread: usize, compact_at: u64) -> Buffer {
        let thread = thread as u64;
        Buffer { thread, next: thread << THREAD_SHIFT, batches: Vec::new(), bytes: 0, compact_at }
    }

    /// The number of the next row.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Takes the rows of a batch that are kept, and counts on past all of them.
    pub(super) fn push(&mut self, batch: &RecordBatch, kept: &[bool]) -> Result<()> {
        let first = self.next;
        self.next += batch.num_rows() as u64;
        let numbers: Vec<u64> =
            kept.iter().enumerate().filter(|(_, kept)| **kept).map(|(row, _)| first + row as u64).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        let batch = owned(filter_record_batch(batch, &BooleanArray::from(kept.to_vec()))?)?;
        self.bytes += batch.get_array_memory_size() as u64 + numbers.len() as u64 * 8;
        self.batches.push((batch, numbers));
        Ok(())
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it has grown so much that it may hold more losers than winners.
    pub(super) fn is_due(&self) -> bool {
        self.bytes > self.compact_at
    }

    /// Drops the rows that stand in no slot any more.
    pub(super) fn compact(&mut self, fold: &Fold) -> Result<()> {
        let (low, high) = (self.thread << THREAD_SHIFT, (self.thread + 1) << THREAD_SHIFT);
        let mut live = Vec::new();
        standing(fold, |address| {
            let number = address.0 >> 1;
            if (low..high).contains(&number) {
                live.push(number);
            }
        });
        live.sort_unstable();
        live.dedup();
        let mut batches = Vec::new();
        self.bytes = 0;
        for (batch, numbers) in self.batches.drain(..) {
            let kept: Vec<bool> = numbers.iter().map(|number| live.binary_search(number).is_ok()).collect();
            let numbers: Vec<u64> =
                numbers.into_iter().zip(&kept).filter(|(_, kept)| **kept).map(|(number, _)| number).collect();
            if numbers.is_empty() {
                continue;
            }
            let batch = if numbers.len() == kept.len() {
                batch
            } else {
                owned(filter_record_batch(&batch, &BooleanArray::from(kept))?)?
            };
            self.bytes += batch.get_array_memory_size() as u64 + numbers.len() as u64 * 8;
            batches.push((batch, numbers));
        }
        self.batches = batches;
        self.compact_at = self.compact_at.max(self.bytes * 2);
        Ok(())
    }

    /// The rows it holds.
    pub(super) fn into_batches(self) -> impl Iterator<Item = RecordBatch> {
        self.batches.into_iter().map(|(batch, _)| batch)
    }
}

/// Every address that stands in a slot.
fn standing(fold: &Fold, mut visit: impl FnMut(Address)) {
    for reading in fold.readings.iter().filter_map(Folded::latest) {
        for (number, _) in reading.shards() {
            let shard = reading.shard(number);
            for states in shard.all() {
                states.visit(&mut visit);
            }
        }
    }
}

/// The buffers of all threads, as rows by address.
#[derive(Debug)]
pub(super) struct Buffers {
    schema: SchemaRef,
    buffers: Vec<Buffer>,
}

impl Buffers {
    pub(super) fn new(schema: SchemaRef, mut buffers: Vec<Buffer>) -> Buffers {
        buffers.sort_by_key(|buffer| buffer.thread);
        Buffers { schema, buffers }
    }

    fn rows(&self, addresses: &[u64], projection: &[usize]) -> Result<RecordBatch> {
        let mut places = Vec::with_capacity(addresses.len());
        // Batches used, each once, in the order of the addresses.
        let mut used: Vec<(usize, usize)> = Vec::new();
        for address in addresses {
            let lost = || Error::internal("a row that stands in a slot is not in the buffer");
            let thread = self
                .buffers
                .binary_search_by_key(&(address >> THREAD_SHIFT), |buffer| buffer.thread)
                .map_err(|_| lost())?;
            let batches = &self.buffers[thread].batches;
            let batch = batches
                .partition_point(|(_, numbers)| numbers.first().is_some_and(|first| first <= address))
                .checked_sub(1)
                .ok_or_else(lost)?;
            let row = batches[batch].1.binary_search(address).map_err(|_| lost())?;
            if used.last() != Some(&(thread, batch)) {
                used.push((thread, batch));
            }
            places.push((used.len() - 1, row));
        }
        let sources = used
            .iter()
            .map(|(thread, batch)| Ok(self.buffers[*thread].batches[*batch].0.project(projection)?))
            .collect::<Result<Vec<RecordBatch>>>()?;
        Ok(interleave_record_batch(&sources.iter().collect::<Vec<_>>(), &places)?)
    }
}

/// Rows fetched at once.
const FETCHED: usize = 8_192;

impl FetchRows for Buffers {
    fn fetch(
        &self,
        addresses: &[u64],
        columns: &[String],
        take: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let projection =
            columns.iter().map(|name| Ok(self.schema.index_of(name)?)).collect::<Result<Vec<usize>>>()?;
        addresses.chunks(FETCHED).try_for_each(|addresses| take(self.rows(addresses, &projection)?))
    }

    fn read_together(&self, address: u64) -> u64 {
        address + 1
    }
}

/// The batch without the text of rows that were filtered out, which views would hold on to.
fn owned(batch: RecordBatch) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .map(|column| match column.data_type() {
            ArrowType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
            ArrowType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => Arc::clone(column),
        })
        .collect();
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}
