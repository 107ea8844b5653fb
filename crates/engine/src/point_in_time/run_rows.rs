//! Rows on their way into windows, in the order of the runs that have their keys.
//!
//! The edges and states of a run leave the processor's caches before the next batch comes. So the rows of some batches
//! wait, and those of a run are folded one batch after the other. Their values are put in the same order while the
//! batch is in the caches: then they are read as they lie.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use asof_compute::{NONE, PlanRows, Prepared, SoughtSlots};
use asof_model::Timestamp;

use super::facts::Facts;
use super::fold::true_only;
use super::spec::{Spec, compute};
use super::windows::{BoundWindows, Late, Moves, WindowFold};
use crate::{Error, Result};

/// Bytes of rows that wait in a thread, at most: some million rows of two numbers. Twice as many are folded a little
/// faster, and cost as much to have room for.
const WAITING: u64 = 32 << 20;

/// They take one part in so many of the memory at most.
const SHARE: u64 = 32;

/// A row whose key the spine asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) event_time: Timestamp,
    pub(super) key: u32,
    /// With [`Item::PLAIN`].
    row: u32,
}

impl Item {
    const NONE: Item = Item { event_time: Timestamp::BEFORE_ALL, key: NONE, row: 0 };
    /// Set where a row is known when it happens, and nothing comes after it: it counts in whatever window it lies.
    /// No batch has as many rows.
    const PLAIN: u32 = 1 << 31;

    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.row & Item::PLAIN != 0
    }

    /// Its number in the batch it came in.
    #[inline]
    pub(super) fn row(&self) -> u32 {
        self.row & !Item::PLAIN
    }
}

/// Rows of a batch in the order of runs.
#[derive(Debug, Default)]
struct Sorted {
    items: Vec<Item>,
    /// Where the rows of each run end.
    ends: Vec<u32>,
}

/// The rows of a batch that count, in the order of runs, and what is folded of them.
#[derive(Debug)]
pub(super) struct RunRows {
    sorted: Sorted,
    pub(super) values: BatchValues,
    /// Of the whole batch; none where all rows are plain.
    pub(super) facts: Option<Facts>,
}

impl RunRows {
    /// The rows of a run, and how many come before them.
    pub(super) fn of_run(&self, number: usize) -> (u32, &[Item]) {
        let from = if number == 0 { 0 } else { self.sorted.ends[number - 1] };
        (from, &self.sorted.items[from as usize..self.sorted.ends[number] as usize])
    }
}

/// The values of rows that are folded, one after the other.
#[derive(Debug)]
pub(super) struct BatchValues {
    /// For each of [`asof_compute::WindowPlan::kept`].
    pub(super) prepared: Vec<Prepared>,
    pub(super) filters: Vec<BooleanArray>,
}

/// The rows of one reading that wait in a thread, and what the thread uses again.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) rows: Vec<RunRows>,
    bytes: u64,
    spare: Vec<Sorted>,
    pub(super) sought: SoughtSlots,
    pub(super) moves: Moves,
    pub(super) late: Vec<Late>,
}

impl Waiting {
    /// Forgets the rows that wait, but for their room.
    pub(super) fn clear(&mut self) {
        self.spare.extend(self.rows.drain(..).map(|rows| rows.sorted));
        self.bytes = 0;
    }
}

/// How many bytes of rows may wait in each of so many threads, of so many readings.
pub(super) fn most_waiting(memory: u64, threads: usize, readings: usize) -> u64 {
    let each = |bytes: u64| bytes / readings.max(1) as u64;
    each(WAITING).min(each(memory / SHARE) / threads.max(1) as u64)
}

impl WindowFold {
    /// Lets the rows of a batch wait whose keys have these numbers, and folds all that do when they are many.
    pub(super) fn batch(
        &self,
        spec: &Spec,
        batch: &RecordBatch,
        rows: (&[u32], Option<&BooleanArray>, &Facts),
        waiting: &mut Waiting,
    ) -> Result<()> {
        let (_, _, facts) = rows;
        let mut sorted = waiting.spare.pop().unwrap_or_default();
        self.sort(rows, &mut sorted)?;
        if sorted.items.is_empty() {
            waiting.spare.push(sorted);
            return Ok(());
        }
        let (values, bytes) = self.bound.values(spec, batch, facts, &sorted.items)?;
        let plain = sorted.items.iter().all(Item::is_plain);
        waiting.bytes += bytes + size_of_val(&*sorted.items) as u64;
        waiting.rows.push(RunRows { sorted, values, facts: (!plain).then(|| facts.clone()) });
        if waiting.bytes >= self.most_waiting {
            self.rest(spec, waiting);
        }
        Ok(())
    }

    /// The rows that count, in the order of runs.
    fn sort(&self, rows: (&[u32], Option<&BooleanArray>, &Facts), sorted: &mut Sorted) -> Result<()> {
        let (found, keep, facts) = rows;
        if found.len() >= Item::PLAIN as usize {
            return Err(Error::internal("a batch has more rows than can be numbered"));
        }
        let Sorted { items, ends } = sorted;
        let span = self.index.span();
        let event_times = &facts.event_times()[..found.len()];
        let counts = |row: usize, key: u32, event_time: i64| {
            key != NONE
                && span.contains(&event_time)
                && keep.is_none_or(|keep| keep.value(row))
                && !facts.is_delete(row)
        };
        ends.clear();
        ends.resize(self.index.runs().len(), 0);
        for (row, (key, event_time)) in found.iter().zip(event_times).enumerate() {
            if counts(row, *key, *event_time) {
                ends[usize::from(self.index.run_of(*key))] += 1;
            }
        }
        let mut all = 0;
        for end in &mut *ends {
            // Where the run's rows begin: each that is put there moves it on.
            all += std::mem::replace(end, all);
        }
        // Each is written below.
        items.resize(all as usize, Item::NONE);
        let all_plain = facts.are_known_at_once();
        for (row, (key, event_time)) in found.iter().zip(event_times).enumerate() {
            if counts(row, *key, *event_time) {
                let event_time = Timestamp(*event_time);
                let is_plain = all_plain || (facts.times(row).1 <= event_time && facts.next(row).is_none());
                let row = row as u32 | if is_plain { Item::PLAIN } else { 0 };
                let end = &mut ends[usize::from(self.index.run_of(*key))];
                items[*end as usize] = Item { event_time, key: *key, row };
                *end += 1;
            }
        }
        Ok(())
    }
}

impl BoundWindows {
    /// What is folded of some rows of a batch, in their order, and how many bytes it takes.
    fn values(
        &self,
        spec: &Spec,
        batch: &RecordBatch,
        facts: &Facts,
        items: &[Item],
    ) -> Result<(BatchValues, u64)> {
        let rows: UInt32Array = items.iter().map(Item::row).collect::<Vec<u32>>().into();
        let mut bytes = 0;
        let mut in_order = |array: ArrayRef| -> Result<ArrayRef> {
            let array = take(&array, &rows, None)?;
            bytes += array.get_array_memory_size() as u64;
            Ok(array)
        };
        let arguments = self.arguments.iter().map(|it| in_order(it.evaluate(batch)?));
        let arguments = arguments.collect::<Result<Vec<_>>>()?;
        let filters = self.filters.iter().map(|filter| {
            let found = filter.evaluate(batch)?;
            let no_boolean = || Error::internal("a filter of an aggregate is no boolean");
            let found = found.as_boolean_opt().ok_or_else(no_boolean)?;
            let found = in_order(std::sync::Arc::new(true_only(found)))?;
            Ok(found.as_boolean_opt().ok_or_else(no_boolean)?.clone())
        });
        let filters = filters.collect::<Result<Vec<_>>>()?;
        let timed = if self.plan.needs_times() { items } else { &[] };
        let event_times = timed.iter().map(|item| item.event_time.0).collect();
        let orders = if self.plan.needs_order() {
            let orders = facts.orders(batch, spec)?;
            items.iter().map(|item| orders[item.row() as usize].clone()).collect()
        } else {
            std::sync::Arc::from([])
        };
        let rows = PlanRows { arguments, filters, event_times, orders };
        let prepared = self.plan.kept().iter().map(|kept| rows.prepare(kept).map_err(compute));
        let prepared = prepared.collect::<Result<Vec<_>>>()?;
        Ok((BatchValues { prepared, filters: rows.filters }, bytes))
    }
}
