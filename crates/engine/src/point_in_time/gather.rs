//! From folded states to answers: the sweep, ties told apart, the values of winning rows only.

use std::ops::Range;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef, TimestampMicrosecondType};
use asof_compute::{
    Address, NONE, Op, Place, Position, RowDigest, RowDigester, RowOrder, SlotRange, Status, status_at,
};
use asof_model::Timestamp;
use tokio_util::sync::CancellationToken;

use super::answers::{CHUNK, ReadingAnswers, SlotAnswer};
use super::fold::{Fold, ReadingFold, Shard};
use super::spec::{ReadingSpec, Spec, SpineColumns, compute};
use super::values::Values;
use crate::expression::Compiled;
use crate::source::{FetchRows, fixed};
use crate::threads::{beside, in_parallel};
use crate::{Error, Result};

/// What one question comes to, per slot.
struct Outcome {
    /// The slot whose row answers.
    answers: Vec<u32>,
    /// Of each slot that answers itself, its row as states name it: number and delete bit. Of others anything, as
    /// below.
    rows: Vec<u64>,
    event_times: Vec<i64>,
    /// `i64::MAX` is never; empty where the source has no `valid_until`.
    until: Vec<i64>,
}

/// Values of slots, cut as runs of them are.
fn cut<'a, T>(mut values: &'a mut [T], runs: &[SlotRange]) -> Vec<(SlotRange, &'a mut [T])> {
    let mut parts = Vec::with_capacity(runs.len());
    for run in runs {
        let (part, rest) = values.split_at_mut((run.end - run.start) as usize);
        parts.push((*run, part));
        values = rest;
    }
    parts
}

impl Outcome {
    /// The row that answers in a slot, as states name it.
    fn row(&self, slot: u32) -> Option<(u64, Timestamp)> {
        let answering = self.answers[slot as usize];
        (answering != NONE).then(|| (self.rows[answering as usize], self.event_time(answering)))
    }

    fn event_time(&self, answering: u32) -> Timestamp {
        Timestamp(self.event_times[answering as usize])
    }

    fn status(&self, slot: u32, t: Timestamp, spec: &ReadingSpec) -> Status {
        let Some((row, event_time)) = self.row(slot) else { return Status::NotFound };
        let op = if row & 1 == 1 { Op::Delete } else { Op::Value };
        let until = self.until.get(self.answers[slot as usize] as usize);
        let until = until.copied().filter(|until| *until != i64::MAX).map(Timestamp);
        status_at(t, event_time, op, until, spec.ttl)
    }
}

/// Adds the answers of a folded portion, whose rows several threads read.
pub(super) fn collect(
    spec: &Spec,
    features: &[Vec<Compiled>],
    spine: &SpineColumns,
    fold: &Fold,
    rows: &Winners<'_>,
    answers: &mut [ReadingAnswers],
) -> Result<()> {
    for (number, (reading, answers)) in fold.readings.iter().zip(answers).enumerate() {
        let portion = PortionAnswers { spec, reading_spec: &spec.readings[number], reading, rows };
        portion.collect(&features[number], spine, answers)?;
        answers.null_keys = answers.null_keys.max(reading.null_keys.load(Ordering::Relaxed));
        answers.never_known = answers.never_known.max(reading.never_known.load(Ordering::Relaxed));
    }
    Ok(())
}

struct PortionAnswers<'a> {
    spec: &'a Spec,
    reading_spec: &'a ReadingSpec,
    reading: &'a ReadingFold,
    rows: &'a Winners<'a>,
}

/// Into so many parts for each thread rows are cut, at least where they can be: what one thread still reads
/// when the others are done is small then.
const SHARES: usize = 32;

/// Rows sampled for each range that rows are cut into.
const SAMPLED: usize = 256;

/// Fewer rows than this are not worth a part.
const LEAST: usize = 1_024;

/// Reads columns of rows that win or may win.
pub(super) struct Winners<'a> {
    pub(super) rows: &'a dyn FetchRows,
    pub(super) threads: usize,
    /// Cancelled when nobody waits for the answers any more.
    pub(super) gone: &'a CancellationToken,
}

impl Winners<'_> {
    /// Reads columns of ascending rows batch by batch, each made into something by one of several threads;
    /// in the order of the rows. What is read together is read by one thread, so nothing is read twice.
    fn read<T: Send>(
        &self,
        rows: &[u64],
        columns: &[String],
        make: impl Fn(RecordBatch) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let made = self.read_parts(rows, columns, |_| (), |(), batch| make(batch))?;
        Ok(made.into_iter().flat_map(|((), made)| made).collect())
    }

    /// The same by parts, each with something of its own, made for so many rows.
    fn read_parts<P: Send, T: Send>(
        &self,
        rows: &[u64],
        columns: &[String],
        own: impl Fn(usize) -> P + Sync,
        make: impl Fn(&mut P, RecordBatch) -> Result<T> + Sync,
    ) -> Result<Vec<(P, Vec<T>)>> {
        in_parallel(self.parts(rows), self.threads, |range| {
            let mut own = own(range.len());
            let mut made = Vec::new();
            self.rows.fetch(&rows[range], columns, &mut |batch| {
                if self.gone.is_cancelled() {
                    return Err(Error::internal("nobody waits for the answers any more"));
                }
                made.push(make(&mut own, batch)?);
                Ok(())
            })?;
            Ok::<_, Error>((own, made))
        })
    }

    /// Runs of about [`CHUNK`] rows, fewer where they are few for several threads, cut where nothing is
    /// read together.
    fn parts(&self, rows: &[u64]) -> Vec<Range<usize>> {
        let most = CHUNK.min(rows.len().div_ceil(self.threads * SHARES).max(LEAST));
        let mut parts = Vec::new();
        let (mut start, mut at) = (0, 0);
        while at < rows.len() {
            let past = self.rows.read_together(rows[at]);
            let end = at + rows[at..].partition_point(|row| *row < past).max(1);
            if end - start > most && at > start {
                parts.push(start..at);
                start = at;
            }
            at = end;
        }
        if start < rows.len() {
            parts.push(start..rows.len());
        }
        parts
    }
}

impl PortionAnswers<'_> {
    fn collect(
        &self,
        features: &[Compiled],
        spine: &SpineColumns,
        answers: &mut ReadingAnswers,
    ) -> Result<()> {
        let slots = self.reading.index.slots() as u32;
        let mut asked = self.outcome(false)?;
        let mut other = self.spec.compare.then(|| self.outcome(true)).transpose()?;
        self.reading.forget();
        let source = &self.spec.source;
        tracing::debug!(%source, "the rows that answer are known");
        // Which rows answer anything, before valid_until is asked.
        let mut answering = self.answering(&asked)?;
        if self.spec.valid_until {
            self.read_until(&mut asked, &answering)?;
            // Rows that are over wherever they stand answer nothing, so nothing of them is evaluated.
            answering = self.answering(&asked)?;
            if let Some(other) = &mut other {
                let answering = self.answering(other)?;
                self.read_until(other, &answering)?;
            }
        }
        let threads = self.threads(answering.len());
        let row_of = |slot: u32| asked.rows[slot as usize] >> 1;
        let wanted = in_parallel(ranges(&answering, threads, row_of), threads, |rows| {
            let found = answering.iter().map(|slot| (row_of(*slot), *slot));
            // Room for more than its share is likely to be, of which only what is filled is touched.
            let mut wanted: Vec<(u64, u32)> = Vec::with_capacity(answering.len() / threads * 5 / 4);
            wanted.extend(found.filter(|(row, _)| rows.contains(row)));
            wanted.sort_unstable();
            Ok::<_, Error>(wanted)
        });
        let wanted = wanted?;
        let first = answers.values.len();
        let rows: Vec<u64> = wanted.iter().flatten().map(|(row, _)| *row).collect();
        if first + rows.len() >= NONE as usize {
            return Err(Error::internal("more winning rows than can be numbered"));
        }
        let mut numbers = Vec::new();
        let number = || {
            numbers.resize(slots as usize, NONE);
            for ((_, slot), number) in wanted.into_iter().flatten().zip(first as u32..) {
                numbers[slot as usize] = number;
            }
        };
        let read = beside(threads, number, || self.read_features(features, &rows, &mut answers.values));
        read?;
        tracing::debug!(%source, rows = rows.len(), "the features of winning rows are read");
        drop(rows);
        let slots = self.answer_slots(&asked, other.as_ref(), &numbers)?;
        drop((asked, other, numbers));
        let threads = self.threads(spine.rows());
        let share = spine.rows().div_ceil(threads);
        in_parallel(answers.parts(share), threads, |mut part| {
            for at in 0..part.rows() {
                match self.reading.index.place(part.first + at) {
                    Place::Elsewhere => part.leave(at),
                    Place::NoKey => part.put_no_key(at),
                    Place::Slot(slot) => part.put(at, &slots[slot as usize]),
                }
            }
            Ok::<_, Error>(())
        })?;
        Ok(())
    }

    /// What the spine rows of each slot are answered: slot by slot, where what is looked at lies close
    /// together, so that each spine row then looks at one place.
    fn answer_slots(
        &self,
        asked: &Outcome,
        other: Option<&Outcome>,
        numbers: &[u32],
    ) -> Result<Vec<SlotAnswer>> {
        let index = &self.reading.index;
        let mut slots = vec![SlotAnswer::NOTHING; index.slots()];
        let threads = self.threads(slots.len());
        let runs = index.runs(threads);
        in_parallel(cut(&mut slots, &runs), threads, |(run, answers)| {
            for (slot, answer) in (run.start..run.end).zip(answers) {
                // All spine rows of a slot have its time.
                let t = index.time(slot);
                let status = asked.status(slot, t, self.reading_spec);
                answer.status = status.code();
                if let (Status::Present | Status::Expired, Some((_, event_time))) = (status, asked.row(slot))
                {
                    answer.event_time = event_time.0;
                }
                if status == Status::Present {
                    answer.winner = numbers[asked.answers[slot as usize] as usize];
                }
                if let Some(other) = other {
                    let present = other.status(slot, t, self.reading_spec) == Status::Present;
                    let row_of = |outcome: &Outcome| outcome.row(slot).map(|(row, _)| row);
                    let differs = match (status == Status::Present, present) {
                        (true, true) => row_of(asked) != row_of(other),
                        (one, two) => one != two,
                    };
                    answer.compare(differs, present);
                }
            }
            Ok::<_, Error>(())
        })?;
        Ok(slots)
    }

    /// How many threads work on so many slots or rows: few are not worth starting one.
    fn threads(&self, rows: usize) -> usize {
        if rows < CHUNK { 1 } else { self.rows.threads.max(1) }
    }

    /// Sweeps one question, and tells its tied winners apart.
    fn outcome(&self, other: bool) -> Result<Outcome> {
        let mut shards: Vec<MutexGuard<'_, Shard>> =
            self.reading.shards().map(|(number, _)| self.reading.shard(number)).collect();
        let index = &self.reading.index;
        let threads = self.threads(index.slots());
        let runs = index.runs(threads);
        // Zeros are memory that is first touched by the threads that fill it.
        let mut answers = vec![0; index.slots()];
        in_parallel(cut(&mut answers, &runs), threads, |(run, answers)| {
            index.sweep(run, answers, |slot| {
                let (shard, slot) = self.reading.shard_of(slot);
                let order = shards[shard].standing(slot, other).order(slot);
                order.map(|(event_time, visible_at)| (event_time.0, visible_at.0))
            });
            Ok::<_, Error>(())
        })?;
        let mut tied = Vec::new();
        for (number, first) in self.reading.shards() {
            let slots = shards[number].tied_slots(other).map(|slot| first + slot);
            tied.extend(slots.filter(|slot| answers[*slot as usize] == *slot));
        }
        if !tied.is_empty() {
            self.tell_apart(&tied, &mut shards, other)?;
        }
        let mut rows = vec![0; answers.len()];
        let mut event_times = vec![0; answers.len()];
        let parts = cut(&mut rows, &runs).into_iter().zip(cut(&mut event_times, &runs));
        in_parallel(parts.collect(), threads, |((run, rows), (_, event_times))| {
            for slot in (run.start..run.end).filter(|slot| answers[*slot as usize] == *slot) {
                let (shard, local) = self.reading.shard_of(slot);
                let states = shards[shard].standing(local, other);
                if let (Some(Address(row)), Some((event_time, _))) =
                    (states.rows(local).next(), states.order(local))
                {
                    rows[(slot - run.start) as usize] = row;
                    event_times[(slot - run.start) as usize] = event_time.0;
                } else {
                    return Err(Error::internal("a slot that answers has no row"));
                }
            }
            Ok::<_, Error>(())
        })?;
        Ok(Outcome { answers, rows, event_times, until: Vec::new() })
    }

    /// Keeps of the rows that tie on (e, v) the last by o, s, op and digest; of equal ones any.
    fn tell_apart(&self, tied: &[u32], shards: &mut [MutexGuard<'_, Shard>], other: bool) -> Result<()> {
        let mut ties: Vec<(u64, u32)> = Vec::new();
        for (tie, slot) in (0..).zip(tied) {
            let (shard, local) = self.reading.shard_of(*slot);
            let states = shards[shard].standing(local, other);
            ties.extend(states.rows(local).map(|address| (address.0, tie)));
        }
        let mut equal: Vec<(u64, u32)> = Vec::new();
        let mut resolve = |(row, tie): (u64, u32)| {
            let (shard, local) = self.reading.shard_of(tied[tie as usize]);
            shards[shard].resolve(local, other, &[Address(row)]);
        };
        for last in last_of(ties, tied.len(), |rows| self.orders(rows))?.chunk_by(same_tie) {
            match last {
                [only] => resolve(*only),
                several => equal.extend(several),
            }
        }
        if !equal.is_empty() {
            let last = last_of(equal, tied.len(), |rows| self.digests(rows))?;
            last.chunk_by(same_tie).filter_map(|equal| equal.last().copied()).for_each(resolve);
        }
        Ok(())
    }

    /// The order of rows of one (e, v), but for their digests, which few need: by o, s and op.
    fn orders(&self, rows: &[u64]) -> Result<Vec<RowOrder>> {
        let wanted = [fixed::ORDER_BY.to_owned(), fixed::POSITION.to_owned()];
        let broken = || Error::internal("`__o` or `__s` of the scan is of another type");
        let read = self.rows.read(&numbers(rows), &wanted, |batch| {
            let order_by = batch.column(0).as_binary_opt::<i32>().ok_or_else(broken)?.clone();
            let positions = batch.column(1).as_primitive_opt::<Int64Type>().ok_or_else(broken)?.clone();
            Ok((order_by, positions))
        })?;
        let mut orders = Vec::with_capacity(rows.len());
        for (order_by, positions) in read {
            for row in 0..order_by.len() {
                let order_by: &[u8] = if order_by.is_null(row) { &[] } else { order_by.value(row) };
                let position =
                    if positions.is_null(row) { Position::NONE } else { Position(positions.value(row)) };
                let op = if rows[orders.len()] & 1 == 1 { Op::Delete } else { Op::Value };
                orders.push(RowOrder {
                    event_time: Timestamp::BEFORE_ALL,
                    visible_at: Timestamp::BEFORE_ALL,
                    order_by: order_by.into(),
                    position,
                    op,
                    digest: RowDigest::default(),
                });
            }
        }
        Ok(orders)
    }

    fn digests(&self, rows: &[u64]) -> Result<Vec<RowDigest>> {
        let digester = RowDigester::new(&self.spec.columns);
        let wanted: Vec<String> = self.spec.columns.iter().map(|column| column.name.clone()).collect();
        let read =
            self.rows.read(&numbers(rows), &wanted, |batch| digester.digest(&batch).map_err(compute))?;
        Ok(read.concat())
    }

    /// The slots whose rows are `present` at some spine row, as far as ttl and op tell; ascending.
    fn answering(&self, outcome: &Outcome) -> Result<Vec<u32>> {
        let index = &self.reading.index;
        // What answers in a slot is a slot of the same key, so of the same run.
        let threads = self.threads(index.slots());
        let found = in_parallel(index.runs(threads), threads, |run| {
            let mut present = vec![false; (run.end - run.start) as usize];
            for slot in run.start..run.end {
                if outcome.status(slot, index.time(slot), self.reading_spec) == Status::Present {
                    present[(outcome.answers[slot as usize] - run.start) as usize] = true;
                }
            }
            let slots = (run.start..run.end).filter(|slot| present[(slot - run.start) as usize]);
            Ok::<_, Error>(slots.collect::<Vec<u32>>())
        });
        Ok(found?.concat())
    }

    fn read_until(&self, outcome: &mut Outcome, slots: &[u32]) -> Result<()> {
        let mut wanted: Vec<(u64, u32)> =
            slots.iter().map(|slot| (outcome.rows[*slot as usize] >> 1, *slot)).collect();
        wanted.sort_unstable();
        outcome.until = vec![i64::MAX; outcome.answers.len()];
        let rows: Vec<u64> = wanted.iter().map(|(row, _)| *row).collect();
        let read = self.rows.read(&rows, &[fixed::UNTIL.to_owned()], |batch| {
            let until = batch.column(0).as_primitive_opt::<TimestampMicrosecondType>();
            let until = until.ok_or_else(|| Error::internal("`__until` of the scan is no timestamp"))?;
            Ok(until.clone())
        })?;
        let until = read.iter().flat_map(|until| until.iter());
        for ((_, slot), until) in wanted.iter().zip(until) {
            outcome.until[*slot as usize] = until.unwrap_or(i64::MAX);
        }
        Ok(())
    }

    fn read_features(&self, features: &[Compiled], rows: &[u64], values: &mut Values) -> Result<()> {
        let mut columns: Vec<String> = features.iter().flat_map(|feature| feature.needs().to_vec()).collect();
        columns.sort();
        columns.dedup();
        if columns.is_empty() {
            // A batch of no columns has no length; constants are evaluated beside any one column.
            columns.push(fixed::OP.to_owned());
        }
        let before = values.len();
        let part = |rows| values.part(rows);
        let parts = self.rows.read_parts(rows, &columns, part, |part, batch| {
            let schema: SchemaRef = batch.schema();
            let evaluated = features.iter().map(|feature| feature.bind(&schema)?.evaluate(&batch));
            part.put(batch.num_rows(), evaluated.collect::<Result<Vec<_>>>()?)
        })?;
        parts.into_iter().for_each(|(part, put)| values.add(part, put));
        if values.len() != before + rows.len() {
            return Err(Error::internal("rows that answer were not all read"));
        }
        Ok(())
    }
}

fn same_tie((_, one): &(u64, u32), (_, other): &(u64, u32)) -> bool {
    one == other
}

/// Of each of so many ties the rows that are last by what is read of them; by tie, then by row.
fn last_of<K: Ord>(
    mut ties: Vec<(u64, u32)>,
    count: usize,
    read: impl FnOnce(&[u64]) -> Result<Vec<K>>,
) -> Result<Vec<(u64, u32)>> {
    // In the order of rows, so that what was read of them is walked beside them.
    ties.sort_unstable();
    let mut rows: Vec<u64> = ties.iter().map(|(row, _)| *row).collect();
    rows.dedup();
    let keys = read(&rows)?;
    if keys.len() != rows.len() {
        return Err(Error::internal("rows that tie were not all read"));
    }
    let read = || {
        let by_row = ties.chunk_by(|(one, _), (other, _)| one == other);
        by_row.zip(&keys).flat_map(|(of_row, key)| of_row.iter().map(move |tie| (*tie, key)))
    };
    let mut last: Vec<Option<&K>> = vec![None; count];
    for ((_, tie), key) in read() {
        let last = &mut last[tie as usize];
        *last = (*last).max(Some(key));
    }
    let mut found: Vec<(u64, u32)> =
        read().filter(|((_, tie), key)| last[*tie as usize] == Some(*key)).map(|(tie, _)| tie).collect();
    found.sort_unstable_by_key(|(row, tie)| (*tie, *row));
    Ok(found)
}

/// The rows of slots cut into so many ranges, of about as many rows each as a sample says.
fn ranges(slots: &[u32], count: usize, row_of: impl Fn(u32) -> u64) -> Vec<Range<u64>> {
    let step = (slots.len() / (count * SAMPLED)).max(1);
    let mut sample: Vec<u64> = slots.iter().step_by(step).map(|slot| row_of(*slot)).collect();
    sample.sort_unstable();
    let cuts = (1..count).filter_map(|part| sample.get(sample.len() * part / count).copied());
    let ends: Vec<u64> = [0].into_iter().chain(cuts).chain([u64::MAX]).collect();
    ends.windows(2).map(|two| two[0]..two[1]).collect()
}

/// The numbers of rows that states name with a delete bit. They ascend: a row is a delete or is not.
fn numbers(named: &[u64]) -> Vec<u64> {
    named.iter().map(|row| row >> 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_are_told_apart_by_what_is_read_of_their_rows() {
        // A row may tie in several slots, and several rows of a tie may be equal.
        let ties = vec![(30, 0), (10, 0), (20, 0), (20, 1), (5, 1), (40, 2), (41, 2), (42, 2), (7, 3)];
        let found = last_of(ties, 5, |rows| {
            assert_eq!(rows, [5, 7, 10, 20, 30, 40, 41, 42]);
            Ok(vec![9, 0, 1, 3, 2, 8, 7, 8])
        });
        assert_eq!(found.unwrap(), [(20, 0), (5, 1), (40, 2), (42, 2), (7, 3)]);
        assert_eq!(last_of::<u8>(Vec::new(), 0, |_| Ok(Vec::new())).unwrap(), []);
        assert!(last_of::<u8>(vec![(1, 0), (2, 0)], 1, |_| Ok(vec![1])).is_err());
    }
}
