//! From folded states to answers: the sweep, ties told apart, the values of winning rows only.

use std::ops::Range;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef, TimestampMicrosecondType};
use asof_compute::{
    Address, LatestStates, NONE, Op, Place, Position, RowDigest, RowDigester, RowOrder, SlotRange, Status,
    status_at,
};
use asof_model::{Question, Timestamp};
use tokio_util::sync::CancellationToken;

use super::answers::{CHUNK, ReadingAnswers, SlotAnswer};
use super::ended::{Holder, Swept, sweep};
use super::fold::{Fold, Folding, Kind, ReadingFold, Shard};
use super::spec::{ReadingSpec, Spec, SpineColumns, compute};
use super::values::Values;
use super::window_answers;
use crate::expression::Compiled;
use crate::source::{FetchRows, fixed};
use crate::threads::{beside, in_parallel};
use crate::{Error, Result};

/// What one question comes to, per slot.
struct Outcome {
    /// Under the question that was not asked.
    other: bool,
    /// The slot whose row answers, or where rows end the number of that row in `picked`.
    answers: Vec<u32>,
    /// The rows that answer, where rows end: as states name them.
    picked: Option<Picked>,
    /// Of each slot or row that answers itself, when its row is over: `i64::MAX` is never; empty where the source has no
    /// `valid_until`.
    until: Vec<i64>,
}

/// Rows as states name them, with their e.
type Picked = Vec<(u64, Timestamp)>;

/// The rows that stand in all slots of a reading, while nobody folds.
struct Standings<'a> {
    reading: &'a ReadingFold,
    shards: Vec<MutexGuard<'a, Shard>>,
}

impl Standings<'_> {
    fn of(reading: &ReadingFold) -> Standings<'_> {
        Standings { reading, shards: reading.shards().map(|(number, _)| reading.shard(number)).collect() }
    }

    /// The states of a slot or a node, and its number there.
    #[inline]
    fn held(&self, (kind, at): Holder) -> (&LatestStates, u32) {
        let (shard, within) = match kind {
            Kind::Ended => self.reading.shard_of_node(at),
            _ => self.reading.shard_of(at),
        };
        (self.shards[shard].of(kind), within)
    }

    /// The states that hold the last row of a slot, and its number there.
    #[inline]
    fn states(&self, slot: u32, other: bool) -> (&LatestStates, u32) {
        let (shard, slot) = self.reading.shard_of(slot);
        (self.shards[shard].standing(slot, other), slot)
    }

    /// The row that stands in a slot, as states name it: number and delete bit; of tied ones any.
    #[inline]
    fn row(&self, slot: u32, other: bool) -> Option<(u64, Timestamp)> {
        let (states, slot) = self.states(slot, other);
        states.one(slot).map(|(event_time, Address(row))| (row, event_time))
    }

    /// The slots in which the last rows tie.
    fn tied(&self, other: bool) -> impl Iterator<Item = u32> {
        self.reading.shards().flat_map(move |(number, first)| {
            self.shards[number].tied_slots(other).map(move |slot| first + slot)
        })
    }

    /// Keeps of the rows tied in a slot only this one.
    fn resolve(&mut self, slot: u32, other: bool, row: u64) {
        let (shard, slot) = self.reading.shard_of(slot);
        self.shards[shard].resolve(slot, other, &[Address(row)]);
    }
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
    #[inline]
    fn row(&self, slot: u32, standings: &Standings<'_>) -> Option<(u64, Timestamp)> {
        match (self.answers[slot as usize], &self.picked) {
            (NONE, _) => None,
            (answering, None) => standings.row(answering, self.other),
            (answering, Some(picked)) => picked.get(answering as usize).copied(),
        }
    }

    /// How many slots or rows may answer.
    fn candidates(&self) -> usize {
        self.picked.as_ref().map_or(self.answers.len(), Vec::len)
    }

    /// The status at a time of a slot, where this row answers in it.
    #[inline]
    fn status(&self, slot: u32, t: Timestamp, row: Option<(u64, Timestamp)>, spec: &ReadingSpec) -> Status {
        let Some((row, event_time)) = row else { return Status::NotFound };
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
    for (number, (folded, answers)) in fold.readings.iter().zip(answers).enumerate() {
        let reading_spec = &spec.readings[number];
        match &folded.into {
            Folding::Latest(reading) => {
                let portion = PortionAnswers { spec, reading_spec, reading, rows };
                portion.collect(&features[number], spine, answers)?;
            }
            Folding::Windows(windows) => {
                window_answers::collect(spec, reading_spec, windows, spine, rows, answers)?;
            }
        }
        answers.null_keys = answers.null_keys.max(folded.null_keys.load(Ordering::Relaxed));
        answers.never_known = answers.never_known.max(folded.never_known.load(Ordering::Relaxed));
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
        let parts = self.parts(rows, rows.len(), |row| *row);
        let made = self.read_parts(parts, |row| *row, columns, |_| (), |(), batch| make(batch))?;
        Ok(made.into_iter().flat_map(|((), made)| made).collect())
    }

    /// The same by [`Winners::parts`], each with something of its own, made for so many rows.
    fn read_parts<W: Sync, P: Send, T: Send>(
        &self,
        parts: Vec<&[W]>,
        row_of: impl Fn(&W) -> u64 + Sync,
        columns: &[String],
        own: impl Fn(usize) -> P + Sync,
        make: impl Fn(&mut P, RecordBatch) -> Result<T> + Sync,
    ) -> Result<Vec<(P, Vec<T>)>> {
        in_parallel(parts, self.threads, |part| {
            let mut own = own(part.len());
            let mut made = Vec::new();
            let rows: Vec<u64> = part.iter().map(&row_of).collect();
            self.rows.fetch(&rows, columns, &mut |batch| {
                if self.gone.is_cancelled() {
                    return Err(Error::internal("nobody waits for the answers any more"));
                }
                made.push(make(&mut own, batch)?);
                Ok(())
            })?;
            Ok::<_, Error>((own, made))
        })
    }

    /// Ascending rows, of so many in all, cut into about [`CHUNK`], fewer where they are few for several threads,
    /// where nothing is read together.
    fn parts<'w, W>(&self, wanted: &'w [W], of: usize, row_of: impl Fn(&W) -> u64) -> Vec<&'w [W]> {
        let most = CHUNK.min(of.div_ceil(self.threads * SHARES).max(LEAST));
        let mut parts = Vec::new();
        let (mut start, mut at) = (0, 0);
        while at < wanted.len() {
            let past = self.rows.read_together(row_of(&wanted[at]));
            let end = at + wanted[at..].partition_point(|wanted| row_of(wanted) < past).max(1);
            if end - start > most && at > start {
                parts.push(&wanted[start..at]);
                start = at;
            }
            at = end;
        }
        if start < wanted.len() {
            parts.push(&wanted[start..]);
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
        let index = &self.reading.index;
        let mut standings = Standings::of(self.reading);
        let mut asked = self.outcome(&mut standings, false)?;
        let mut other = self.spec.compare.then(|| self.outcome(&mut standings, true)).transpose()?;
        if self.spec.valid_until {
            self.read_until(&mut asked, &standings)?;
            if let Some(other) = &mut other {
                self.read_until(other, &standings)?;
            }
        }
        // Rows that are over wherever they stand answer nothing, so nothing of them is evaluated.
        let (mut slots, answering) = self.answer_slots(&asked, other.as_ref(), &standings)?;
        let (candidates, picked) = (asked.candidates(), asked.picked.take());
        drop((asked, other));
        let source = &self.spec.source;
        tracing::debug!(%source, "the rows that answer are known");
        let wanted = self.by_row(&answering, &standings, picked.as_ref())?;
        drop((answering, standings, picked));
        self.reading.forget();
        let first = answers.values.len();
        let rows = wanted.iter().map(Vec::len).sum::<usize>();
        if first + rows >= NONE as usize {
            return Err(Error::internal("more winning rows than can be numbered"));
        }
        let mut numbers = Vec::new();
        let number = || {
            numbers.resize(candidates, NONE);
            for ((_, slot), number) in wanted.iter().flatten().zip(first as u32..) {
                numbers[*slot as usize] = number;
            }
        };
        let threads = self.threads(rows);
        let read = beside(threads, number, || self.read_features(features, &wanted, &mut answers.values));
        read?;
        tracing::debug!(%source, rows, "the features of winning rows are read");
        drop(wanted);
        // Slot by slot first, since a slot's winner is near it: each spine row then looks at one place.
        let threads = self.threads(slots.len());
        let share = slots.len().div_ceil(threads).max(1);
        in_parallel(slots.chunks_mut(share).collect(), threads, |slots| {
            slots.iter_mut().for_each(|slot| slot.number(&numbers));
            Ok::<_, Error>(())
        })?;
        drop(numbers);
        let threads = self.threads(spine.rows());
        let share = spine.rows().div_ceil(threads);
        in_parallel(answers.parts(share), threads, |mut part| {
            for at in 0..part.rows() {
                match index.place(part.first + at) {
                    Place::Elsewhere => part.leave(at),
                    Place::NoKey => part.put_no_key(at),
                    Place::Slot(slot) => part.put(at, &slots[slot as usize]),
                }
            }
            Ok::<_, Error>(())
        })?;
        Ok(())
    }

    /// What the spine rows of each slot are answered, and the slots whose rows answer any, or where rows end the rows,
    /// ascending.
    fn answer_slots(
        &self,
        asked: &Outcome,
        other: Option<&Outcome>,
        standings: &Standings<'_>,
    ) -> Result<(Vec<SlotAnswer>, Vec<u32>)> {
        let index = &self.reading.index;
        let mut slots = vec![SlotAnswer::NOTHING; index.slots()];
        let threads = self.threads(slots.len());
        let runs = index.runs(threads);
        let answering = in_parallel(cut(&mut slots, &runs), threads, |(run, answers)| {
            for (slot, answer) in (run.start..run.end).zip(&mut *answers) {
                // All spine rows of a slot have its time.
                let t = index.time(slot);
                let row = asked.row(slot, standings);
                let status = asked.status(slot, t, row, self.reading_spec);
                answer.status = status.code();
                if let (Status::Present | Status::Expired, Some((_, event_time))) = (status, row) {
                    answer.event_time = event_time.0;
                }
                if status == Status::Present {
                    answer.winner = asked.answers[slot as usize];
                }
                if let Some(other) = other {
                    let other_row = other.row(slot, standings);
                    let present = other.status(slot, t, other_row, self.reading_spec) == Status::Present;
                    let name = |(row, _): (u64, Timestamp)| row;
                    let differs = match (status == Status::Present, present) {
                        (true, true) => row.map(name) != other_row.map(name),
                        (one, two) => one != two,
                    };
                    answer.compare(differs, present);
                }
            }
            if asked.picked.is_some() {
                return Ok(Vec::new());
            }
            Ok::<_, Error>(answering(run, answers.iter().map(|answer| answer.winner)))
        });
        let answering = match asked.picked {
            None => answering?.concat(),
            Some(_) => {
                answering?;
                answering_rows(asked.candidates(), slots.iter().map(|answer| answer.winner))
            }
        };
        Ok((slots, answering))
    }

    /// Slots with the numbers of their rows, in the order of these, as so many ascending runs as there are threads.
    fn by_row(
        &self,
        slots: &[u32],
        standings: &Standings<'_>,
        picked: Option<&Picked>,
    ) -> Result<Vec<Vec<(u64, u32)>>> {
        let threads = self.threads(slots.len());
        let row_of = |slot: u32| row_in(slot, standings, false, picked);
        in_parallel(self.ranges(slots, threads, row_of)?, threads, |rows| {
            // Room for more than its share is likely to be, of which only what is filled is touched.
            let mut wanted: Vec<(u64, u32)> = Vec::with_capacity(slots.len() / threads * 5 / 4);
            for slot in slots {
                let row = row_of(*slot)?;
                if rows.contains(&row) {
                    wanted.push((row, *slot));
                }
            }
            wanted.sort_unstable();
            Ok(wanted)
        })
    }

    /// The rows of slots cut into so many ranges, of about as many rows each as a sample says, where nothing is read
    /// together.
    fn ranges(
        &self,
        slots: &[u32],
        count: usize,
        row_of: impl Fn(u32) -> Result<u64>,
    ) -> Result<Vec<Range<u64>>> {
        let step = (slots.len() / (count * SAMPLED)).max(1);
        let mut sample =
            slots.iter().step_by(step).map(|slot| row_of(*slot)).collect::<Result<Vec<u64>>>()?;
        sample.sort_unstable();
        let cuts = (1..count).filter_map(|part| sample.get(sample.len() * part / count));
        let cuts = cuts.map(|row| self.rows.rows.read_together(*row));
        let ends: Vec<u64> = [0].into_iter().chain(cuts).chain([u64::MAX]).collect();
        Ok(ends.windows(2).map(|two| two[0]..two[1]).collect())
    }

    /// How many threads work on so many slots or rows: few are not worth starting one.
    fn threads(&self, rows: usize) -> usize {
        if rows < CHUNK { 1 } else { self.rows.threads.max(1) }
    }

    /// Sweeps one question, and tells its tied winners apart.
    fn outcome(&self, standings: &mut Standings<'_>, other: bool) -> Result<Outcome> {
        let index = &self.reading.index;
        let is_known = (self.spec.question == Question::Known) != other;
        if self.spec.ids && is_known {
            return self.outcome_of_ends(standings, other);
        }
        let threads = self.threads(index.slots());
        // Zeros are memory that is first touched by the threads that fill it.
        let mut answers = vec![0; index.slots()];
        in_parallel(cut(&mut answers, &index.runs(threads)), threads, |(run, answers)| {
            index.sweep(run, answers, |slot| {
                let (states, slot) = standings.states(slot, other);
                states.order(slot).map(|(event_time, then)| (event_time.0, then.0))
            });
            Ok::<_, Error>(())
        })?;
        let wins = |slot: &u32| answers[*slot as usize] == *slot;
        let tied: Vec<u32> = standings.tied(other).filter(wins).collect();
        if !tied.is_empty() {
            self.tell_apart(&tied, standings, other)?;
        }
        Ok(Outcome { other, answers, picked: None, until: Vec::new() })
    }

    /// The same where rows end.
    fn outcome_of_ends(&self, standings: &Standings<'_>, other: bool) -> Result<Outcome> {
        let index = &self.reading.index;
        let threads = self.threads(index.slots());
        let runs = index.runs(threads);
        let own = if other { Kind::Other } else { Kind::Asked };
        let mut answers = vec![0; index.slots()];
        let swept = in_parallel(cut(&mut answers, &runs), threads, |(run, answers)| {
            Ok::<_, Error>(sweep(index, run, own, answers, |holder| standings.held(holder)))
        })?;
        let count = swept.iter().map(Swept::len).sum::<usize>();
        let mut picked: Picked = Vec::with_capacity(count);
        let mut ties: Vec<(u64, u32)> = Vec::new();
        for ((_, answers), swept) in cut(&mut answers, &runs).into_iter().zip(swept) {
            let before = picked.len() as u32;
            answers.iter_mut().filter(|answer| **answer != NONE).for_each(|answer| *answer += before);
            for (event_time, holders) in swept.groups() {
                let group = picked.len() as u32;
                let mut rows = holders.iter().flat_map(|holder| {
                    let (states, at) = standings.held(*holder);
                    states.rows(at).map(|Address(row)| row)
                });
                let lost = || Error::internal("a slot that answers has no row");
                let first = rows.next().ok_or_else(lost)?;
                let tied = ties.len();
                ties.extend(rows.map(|row| (row, group)));
                if ties.len() > tied {
                    ties.push((first, group));
                }
                picked.push((first, event_time));
            }
        }
        self.last_of_ties(ties, count, |(row, group)| picked[group as usize].0 = row)?;
        Ok(Outcome { other, answers, picked: Some(picked), until: Vec::new() })
    }

    /// Keeps of the rows that tie the last by o, s, op and digest; of equal ones any.
    fn tell_apart(&self, tied: &[u32], standings: &mut Standings<'_>, other: bool) -> Result<()> {
        let mut ties: Vec<(u64, u32)> = Vec::new();
        for (tie, slot) in (0..).zip(tied) {
            let (states, slot) = standings.states(*slot, other);
            ties.extend(states.rows(slot).map(|address| (address.0, tie)));
        }
        self.last_of_ties(ties, tied.len(), |(row, tie)| standings.resolve(tied[tie as usize], other, row))
    }

    /// Of each of so many ties the last row.
    fn last_of_ties(
        &self,
        ties: Vec<(u64, u32)>,
        count: usize,
        mut resolve: impl FnMut((u64, u32)),
    ) -> Result<()> {
        if ties.is_empty() {
            return Ok(());
        }
        let mut equal: Vec<(u64, u32)> = Vec::new();
        for last in last_of(ties, count, |rows| self.orders(rows))?.chunk_by(same_tie) {
            match last {
                [only] => resolve(*only),
                several => equal.extend(several),
            }
        }
        if !equal.is_empty() {
            let last = last_of(equal, count, |rows| self.digests(rows))?;
            last.chunk_by(same_tie).filter_map(|equal| equal.last().copied()).for_each(&mut resolve);
        }
        Ok(())
    }

    /// The order of rows of one e and v, but for their digests, which few need: by o, s and op.
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

    /// Reads when rows are over that answer any spine row as far as ttl and op tell.
    fn read_until(&self, outcome: &mut Outcome, standings: &Standings<'_>) -> Result<()> {
        let index = &self.reading.index;
        let threads = self.threads(index.slots());
        let wins = |slot: u32| {
            let row = outcome.row(slot, standings);
            let status = outcome.status(slot, index.time(slot), row, self.reading_spec);
            if status == Status::Present { outcome.answers[slot as usize] } else { NONE }
        };
        let slots = in_parallel(index.runs(threads), threads, |run| {
            if outcome.picked.is_some() {
                return Ok(Vec::new());
            }
            Ok::<_, Error>(answering(run, (run.start..run.end).map(wins)))
        });
        let mut slots = slots?.concat();
        if outcome.picked.is_some() {
            slots = answering_rows(outcome.candidates(), (0..index.slots() as u32).map(wins));
        }
        let picked = outcome.picked.as_ref();
        let named = slots.into_iter();
        let named = named.map(|slot| Ok((row_in(slot, standings, outcome.other, picked)?, slot)));
        let mut wanted = named.collect::<Result<Vec<(u64, u32)>>>()?;
        wanted.sort_unstable();
        outcome.until = vec![i64::MAX; outcome.candidates()];
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

    fn read_features(
        &self,
        features: &[Compiled],
        wanted: &[Vec<(u64, u32)>],
        values: &mut Values,
    ) -> Result<()> {
        let mut columns: Vec<String> = features.iter().flat_map(|feature| feature.needs().to_vec()).collect();
        columns.sort();
        columns.dedup();
        if columns.is_empty() {
            // A batch of no columns has no length; constants are evaluated beside any one column.
            columns.push(fixed::OP.to_owned());
        }
        let rows = wanted.iter().map(Vec::len).sum::<usize>();
        let all = values.len() + rows;
        let row_of = |(row, _): &(u64, u32)| *row;
        let parts = wanted.iter().flat_map(|wanted| self.rows.parts(wanted, rows, row_of)).collect();
        let part = |rows| values.part(rows);
        let parts = self.rows.read_parts(parts, row_of, &columns, part, |part, batch| {
            let schema: SchemaRef = batch.schema();
            let evaluated = features.iter().map(|feature| feature.bind(&schema)?.evaluate(&batch));
            part.put(batch.num_rows(), evaluated.collect::<Result<Vec<_>>>()?)
        })?;
        parts.into_iter().for_each(|(part, put)| values.add(part, put));
        if values.len() != all {
            return Err(Error::internal("rows that answer were not all read"));
        }
        Ok(())
    }
}

/// Which slots of a run answer in any of its slots, ascending; given for each of its slots the one that answers
/// there, a slot of the same key and so of the same run.
fn answering(run: SlotRange, winners: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut answers = vec![false; (run.end - run.start) as usize];
    winners.filter(|winner| *winner != NONE).for_each(|winner| answers[(winner - run.start) as usize] = true);
    (run.start..run.end).filter(|slot| answers[(slot - run.start) as usize]).collect()
}

/// Which of so many rows answer in any slot, ascending; given for each slot the one that answers there.
fn answering_rows(count: usize, winners: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut answers = vec![false; count];
    winners.filter(|winner| *winner != NONE).for_each(|winner| answers[winner as usize] = true);
    (0..count as u32).filter(|row| answers[*row as usize]).collect()
}

/// The number of the row that stands in a slot that answers, or where rows end of a row that was picked.
fn row_in(slot: u32, standings: &Standings<'_>, other: bool, picked: Option<&Picked>) -> Result<u64> {
    let found = match picked {
        None => standings.row(slot, other),
        Some(picked) => picked.get(slot as usize).copied(),
    };
    let found = found.map(|(row, _)| row >> 1);
    found.ok_or_else(|| Error::internal("a slot that answers has no row"))
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
