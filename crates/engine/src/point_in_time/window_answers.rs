//! From the states of windows to answers: each key's answers swept in the order of time.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, UInt8Array, new_null_array};
use arrow::datatypes::Int64Type;
use asof_compute::{Finished, Function, NONE, Outcome, Place, PlannedFeature, Ranges, Status, with_default};
use asof_model::Question;

use super::answers::{ReadingAnswers, SlotAnswer};
use super::gather::Winners;
use super::spec::{ReadingSpec, Spec, SpineColumns, compute};
use super::values::{Part, Put, Values};
use super::windows::{RunStates, WindowFold};
use crate::threads::in_parallel;
use crate::{Error, Result};

/// What the answers of a run of keys come to.
struct RunAnswers {
    part: Part,
    put: Put,
    slots: Vec<SlotAnswer>,
    /// Features whose value is out of range, each with the first answer that is.
    overflows: Vec<(usize, u32)>,
}

/// Adds the answers of a reading over windows.
pub(super) fn collect(
    spec: &Spec,
    reading: &ReadingSpec,
    fold: &WindowFold,
    spine: &SpineColumns,
    rows: &Winners<'_>,
    answers: &mut ReadingAnswers,
) -> Result<()> {
    let index = &fold.spine;
    let first = answers.values.len();
    if first + index.slots() >= NONE as usize {
        return Err(Error::internal("more answers than can be numbered"));
    }
    let values = &answers.values;
    let runs: Vec<usize> = (0..fold.index.runs().len()).collect();
    let made = in_parallel(runs, rows.threads, |number| {
        if rows.gone.is_cancelled() {
            return Err(Error::internal("nobody waits for the answers any more"));
        }
        // What was folded is not needed any more.
        let states = std::mem::take(&mut *fold.run(number));
        run(spec, fold, number, states, values)
    })?;
    let mut slots = Vec::with_capacity(index.slots());
    let mut overflows = Vec::new();
    for (number, made) in made.into_iter().enumerate() {
        let start = fold.index.runs()[number].answers().start;
        overflows.extend(made.overflows.iter().map(|(feature, answer)| (*feature, start + answer)));
        let base = (first + slots.len()) as u32;
        slots.extend(made.slots.into_iter().zip(base..).map(|(slot, winner)| SlotAnswer { winner, ..slot }));
        answers.values.add(made.part, vec![made.put]);
    }
    if let Some(error) = overflow(spec, reading, fold, spine, &overflows) {
        return Err(error);
    }
    let threads = rows.threads.max(1);
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

/// The error of the first spine row whose value is out of range, unless such values are null.
fn overflow(
    spec: &Spec,
    reading: &ReadingSpec,
    fold: &WindowFold,
    spine: &SpineColumns,
    overflows: &[(usize, u32)],
) -> Option<Error> {
    if spec.overflow_is_null || overflows.is_empty() {
        return None;
    }
    let row = (0..spine.rows()).find_map(|row| {
        let Place::Slot(slot) = fold.spine.place(row) else { return None };
        let found = overflows.iter().filter(|(_, other)| *other == slot).min();
        found.map(|(feature, _)| (row, *feature))
    });
    let (row, feature) = row?;
    let name = fold.plan().name(feature);
    let message = format!(
        "feature `{}.{name}` is out of range, or over its cap, at row {} of the spine",
        reading.view,
        row + 1
    );
    Some(Error::invalid("overflow", message).with_hint("ask for null in its place: `--on-overflow null`"))
}

fn run(
    spec: &Spec,
    fold: &WindowFold,
    number: usize,
    mut states: RunStates,
    values: &Values,
) -> Result<RunAnswers> {
    let plan = fold.plan();
    let run = &fold.index.runs()[number];
    let (keys, answers) = (run.answer_starts(), run.answers());
    let of_slots = states.states(plan, run.slots());
    let times = fold.spine.times(answers);
    let mut slots = vec![SlotAnswer::NOTHING; times.len()];
    let mut columns: Vec<Option<ArrayRef>> = plan.features().iter().map(|_| None).collect();
    let mut outcomes = vec![Vec::new(); if spec.outcomes { columns.len() } else { 0 }];
    let mut overflows = Vec::new();
    let mut otherwise = vec![(false, false); if spec.compare { times.len() } else { 0 }];
    let place =
        |(from, until): &(u32, u32)| (of_slots.before[*from as usize], of_slots.before[*until as usize]);
    let covered =
        (0..fold.index.windows().len()).map(|window| run.covered(window).iter().map(place).collect());
    let covered: Vec<Vec<(u32, u32)>> = covered.collect();
    let asked = |kept: usize, window: usize| {
        let ranges = Ranges { keys, covered: &covered[window], times };
        (ranges, states.changes(plan, kept, window))
    };
    // What several windows come to at once.
    let mut numbers: Vec<Option<Vec<Vec<u64>>>> = plan.functions().map(|_| None).collect();
    for feature in plan.features().iter().filter(|feature| feature.function.is_number()) {
        let windows = plan.windows_of(feature.kept).iter().map(|window| asked(feature.kept, *window));
        let found = &mut numbers[feature.kept];
        if found.is_none() {
            *found = feature.function.numbers(of_slots.of(feature.kept), &windows.collect::<Vec<_>>());
        }
    }
    for number in 0..fold.index.windows().len() {
        let answers = |kept: usize, functions: &[&Function]| -> Result<Vec<Finished>> {
            let (ranges, changes) = asked(kept, number);
            let at = plan.windows_of(kept).binary_search(&number).ok();
            let numbers = numbers[kept].as_ref().zip(at).and_then(|(numbers, at)| numbers.get(at));
            let is_number = |function: &Function| numbers.is_some() && function.is_number();
            let others: Vec<&Function> =
                functions.iter().copied().filter(|function| !is_number(function)).collect();
            let mut slid = match others.as_slice() {
                [] => Vec::new(),
                [first, others @ ..] => first.answers(others, of_slots.of(kept), &ranges, changes),
            }
            .into_iter();
            let found = functions.iter().map(|function| match numbers.filter(|_| function.is_number()) {
                Some(numbers) => Some(function.finish_numbers(numbers)),
                None => slid.next(),
            });
            found.collect::<Option<_>>().ok_or_else(|| Error::internal("a window has no answer"))
        };
        let all = answers(0, &[plan.rows_that_count()])?;
        let all = all.into_iter().next().ok_or_else(|| Error::internal("rows in windows are not counted"))?;
        let counts = all.values.as_primitive::<Int64Type>().values().clone();
        for (slot, count) in slots.iter_mut().zip(&counts) {
            if *count > 0 {
                slot.status = Status::Present.code();
            }
        }
        if spec.compare {
            let (unknown, superseded) = (&states.unknown[number], &states.superseded[number]);
            for key in keys.windows(2) {
                // Rows that count under *event* only, and under *known* only.
                let (mut more, mut less) = (0, 0);
                for answer in key[0] as usize..key[1] as usize {
                    more += unknown.get(answer).copied().unwrap_or(0);
                    less += superseded.get(answer).copied().unwrap_or(0);
                    let other = match spec.question {
                        Question::Known => counts[answer] + more - less,
                        Question::Event => counts[answer] - more + less,
                    };
                    let (differs, present) = &mut otherwise[answer];
                    *differs |= more != 0 || less != 0;
                    *present |= other > 0;
                }
            }
        }
        let mut found = Vec::new();
        for kept in 0..plan.functions().count() {
            let of_kept = |(_, it): &(usize, &PlannedFeature)| it.window == number && it.kept == kept;
            let features: Vec<(usize, &PlannedFeature)> =
                plan.features().iter().enumerate().filter(of_kept).collect();
            let values = if of_slots.is_as_first(kept) {
                vec![all.clone(); features.len()]
            } else {
                let functions: Vec<&Function> = features.iter().map(|(_, it)| &it.function).collect();
                answers(kept, &functions)?
            };
            found.extend(features.into_iter().zip(values));
        }
        for ((at, feature), found) in found {
            if found.is_too_large {
                return Err(Error::Exhausted {
                    what: format!("feature `{}`: its values for some keys", plan.name(at)),
                    limit: "what one array holds, 2 GiB".to_owned(),
                    hint: Some("give the aggregate a smaller cap, or ask for fewer rows at once".to_owned()),
                });
            }
            let over = found.outcomes.iter().position(|outcome| *outcome == Outcome::Overflow);
            overflows.extend(over.map(|answer| (at, answer as u32)));
            let found = match &feature.default {
                Some(default) => with_default(found, default).map_err(compute)?,
                None => found,
            };
            if let Some(told) = outcomes.get_mut(at) {
                *told = found.outcomes.iter().map(|outcome| *outcome as u8).collect();
            }
            columns[at] = Some(found.values);
        }
    }
    for (slot, (differs, present)) in slots.iter_mut().zip(otherwise) {
        slot.compare(differs, present);
    }
    let columns = columns.into_iter().zip(plan.features()).map(|(column, feature)| {
        column.unwrap_or_else(|| {
            new_null_array(&asof_compute::arrow_type(&feature.function.data_type()), times.len())
        })
    });
    let outcomes = outcomes.into_iter().map(|told| Arc::new(UInt8Array::from(told)) as ArrayRef);
    let mut part = values.part(times.len());
    let put = part.put(times.len(), columns.chain(outcomes).collect())?;
    Ok(RunAnswers { part, put, slots, overflows })
}
