//! Windows in the same scan: rows fold into the slots between the edges of a key's windows.
//!
//! A row that may be used before any window of its slot is asked falls into that slot, once, for all windows and
//! instants. One that comes to be known later counts from then on only: a change at the first answer that
//! may use it, taken back after the last its window covers, or of states that cannot give back, in the few nodes
//! of a segment tree over the key's answers. Nothing is kept per row, late or not. So does a row that ends, since
//! another version of its event comes after it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::SchemaRef;
use asof_compute::{
    Function, Input, NONE, Prepared, SpineIndex, States, TOUCHED, WindowIndex, counts_until, covering,
};
use asof_model::{Question, Timestamp, Window};

use super::facts::Facts;
use super::fold::true_only;
use super::operator::broken;
use super::spec::{ReadingSpec, Spec, compute};
use crate::expression::{Bound, Compiled, compile_call};
use crate::threads::Several;
use crate::{Engine, Error, Result};

/// What a reading's windows ask, typed over the columns of its source.
#[derive(Debug)]
pub(super) struct WindowPlan {
    /// Each once.
    windows: Vec<Window>,
    /// What states are kept of; the first is all rows that count, over all windows.
    kept: Vec<Kept>,
    /// The features asked for, in order.
    pub(super) features: Vec<WindowFeature>,
    arguments: Vec<Compiled>,
    filters: Vec<Compiled>,
}

/// States of one kind over some of the windows.
#[derive(Debug)]
struct Kept {
    function: Function,
    /// Of [`WindowPlan::arguments`]; none: the row itself.
    argument: Option<usize>,
    /// Of [`WindowPlan::filters`].
    filter: Option<usize>,
    /// Of [`WindowPlan::windows`], ascending.
    windows: Vec<usize>,
}

/// A feature over one window.
#[derive(Debug)]
pub(super) struct WindowFeature {
    pub(super) name: String,
    pub(super) function: Function,
    /// Of [`WindowPlan::kept`].
    pub(super) kept: usize,
    /// Of [`WindowPlan::windows`].
    pub(super) window: usize,
    /// One value, which stands in for that of an empty window.
    pub(super) default: Option<ArrayRef>,
}

impl WindowPlan {
    /// The plan of a reading of windows; none of another.
    pub(super) fn of(engine: &Engine, spec: &Spec, reading: &ReadingSpec) -> Result<Option<WindowPlan>> {
        if !reading.is_window() {
            return Ok(None);
        }
        let mut plan = WindowPlan {
            windows: Vec::new(),
            kept: Vec::new(),
            features: Vec::new(),
            arguments: Vec::new(),
            filters: Vec::new(),
        };
        let all = asof_compute::rows_that_count();
        plan.kept.push(Kept { function: all, argument: None, filter: None, windows: Vec::new() });
        for feature in &reading.features {
            let lacks = || Error::internal(format!("feature `{}` has no window", feature.name));
            let aggregate = feature.aggregate.as_ref().ok_or_else(lacks)?;
            let window = aggregate.windows.first().ok_or_else(lacks)?.window;
            let window = place(&mut plan.windows, window, |one, other| one == other);
            let compiled = compile_call(engine, &aggregate.call, &spec.columns)
                .map_err(|(_, problem)| broken(&reading.view, &problem))?;
            let same = |one: &Compiled, other: &Compiled| one.text() == other.text();
            let argument = compiled.argument.map(|it| place(&mut plan.arguments, it, same));
            let filter = compiled.filter.map(|it| place(&mut plan.filters, it, same));
            let function = compiled.function;
            let one = Kept { function: function.clone(), argument, filter, windows: Vec::new() };
            let kept = place(&mut plan.kept, one, |one, other| {
                let rows = one.argument == other.argument && one.filter == other.filter;
                rows && one.function.shares_states_with(&other.function)
            });
            plan.kept[kept].windows.push(window);
            let default = feature
                .default
                .as_ref()
                .map(|literal| asof_compute::literal_array(literal, &feature.data_type).map_err(compute));
            let (name, default) = (feature.name.clone(), default.transpose()?);
            plan.features.push(WindowFeature { name, function, kept, window, default });
        }
        plan.kept[0].windows = (0..plan.windows.len()).collect();
        for kept in &mut plan.kept {
            kept.windows.sort_unstable();
            kept.windows.dedup();
        }
        Ok(Some(plan))
    }

    /// What counts the rows in windows; its states are the first.
    pub(super) fn rows_that_count(&self) -> &Function {
        &self.kept[0].function
    }

    /// What states are kept of, each with its windows.
    pub(super) fn functions(&self) -> impl Iterator<Item = (&Function, &[usize])> {
        self.kept.iter().map(|kept| (&kept.function, kept.windows.as_slice()))
    }

    /// The columns that a scan must give.
    pub(super) fn needs(&self) -> impl Iterator<Item = &String> {
        self.arguments.iter().chain(&self.filters).flat_map(|compiled| compiled.needs())
    }

    /// Whether anything is asked in the order of rows.
    pub(super) fn needs_order(&self) -> bool {
        self.kept.iter().any(|kept| kept.function.needs_order())
    }

    fn bytes_per_answer(&self) -> u64 {
        // The lower edges of all windows, and the upper ones, which most share.
        let upper = |window: &Window| (window.offset, window.include_now);
        let first = |at: &usize| {
            let window = &self.windows[*at];
            !self.windows[..*at].iter().any(|other| upper(other) == upper(window))
        };
        let uppers = (0..self.windows.len()).filter(first).count();
        let slots = (self.windows.len() + uppers) as u64;
        let states = self.kept.iter().map(|kept| kept.function.bytes(&kept.function.states(1)) as u64);
        slots * (12 + states.sum::<u64>()) + self.features.len() as u64 * 24
    }

    /// Ready for batches of this schema.
    pub(super) fn bind(self: &Arc<Self>, schema: &SchemaRef) -> Result<BoundWindows> {
        let bind =
            |compiled: &Vec<Compiled>| compiled.iter().map(|it| it.bind(schema)).collect::<Result<Vec<_>>>();
        let (arguments, filters) = (bind(&self.arguments)?, bind(&self.filters)?);
        Ok(BoundWindows { plan: Arc::clone(self), arguments, filters })
    }
}

/// The place of something in a list, at whose end it is put if it is not there.
fn place<T>(list: &mut Vec<T>, it: T, same: impl Fn(&T, &T) -> bool) -> usize {
    list.iter().position(|other| same(other, &it)).unwrap_or_else(|| {
        list.push(it);
        list.len() - 1
    })
}

/// A [`WindowPlan`] over batches of one schema.
#[derive(Debug, Clone)]
pub(super) struct BoundWindows {
    plan: Arc<WindowPlan>,
    arguments: Vec<Bound>,
    filters: Vec<Bound>,
}

/// What folding the history into the windows of one reading has come to.
#[derive(Debug)]
pub(super) struct WindowFold {
    pub(super) spine: Arc<SpineIndex>,
    pub(super) index: WindowIndex,
    bound: BoundWindows,
    runs: Vec<Mutex<RunStates>>,
}

/// The states of a run of keys.
#[derive(Debug, Default)]
pub(super) struct RunStates {
    /// For each of [`WindowPlan::kept`], a state for each slot.
    pub(super) slots: Vec<States>,
    /// For each of them and each of its windows, what changes from answer to answer.
    changes: Vec<Vec<Option<States>>>,
    /// For each window and answer by how many more rows than the one before are in the window but not known yet;
    /// empty where there are none.
    pub(super) unknown: Vec<Vec<i64>>,
    /// The same of rows that count under *known* and not under *event*, since another version comes after them.
    pub(super) superseded: Vec<Vec<i64>>,
}

/// What one thread uses again for each batch.
#[derive(Debug, Default)]
pub(super) struct WindowScratch {
    items: Vec<Item>,
    sorted: Vec<Item>,
    late: Vec<Late>,
    starts: Vec<u32>,
}

/// A row on its way into a slot.
#[derive(Debug, Clone, Copy, Default)]
struct Item {
    run: u16,
    slot: u32,
    row: u32,
}

/// A row that is known only after some answer whose window it is in, or that ends.
#[derive(Debug, Clone, Copy)]
struct Late {
    run: u16,
    key: u32,
    row: u32,
    event_time: Timestamp,
    visible_at: Timestamp,
    /// The v of the version after it.
    next: Option<Timestamp>,
}

/// Rows and the places they change.
#[derive(Debug, Default)]
struct Moves {
    slots: Vec<u32>,
    rows: Vec<u32>,
}

impl Moves {
    fn push(&mut self, slot: u32, row: u32) {
        self.slots.push(slot);
        self.rows.push(row);
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.rows.clear();
    }

    /// Those of rows that pass.
    fn passing(&self, filter: &BooleanArray) -> Moves {
        let mut found = Moves::default();
        for (slot, row) in self.slots.iter().zip(&self.rows) {
            if filter.value(*row as usize) {
                found.push(*slot, *row);
            }
        }
        found
    }
}

/// The values of a batch that are folded.
struct BatchValues {
    /// For each of [`WindowPlan::kept`].
    prepared: Vec<Prepared>,
    filters: Vec<BooleanArray>,
}

impl BoundWindows {
    /// About how many bytes are held for each answer.
    pub(super) fn bytes_per_answer(&self) -> u64 {
        self.plan.bytes_per_answer()
    }
}

impl WindowFold {
    pub(super) fn new(spine: Arc<SpineIndex>, bound: &BoundWindows, threads: usize) -> WindowFold {
        let plan = &bound.plan;
        let runs = if threads == 1 { 1 } else { WindowIndex::RUNS };
        let index = WindowIndex::build(&spine, plan.windows.clone(), runs, &Several(threads));
        let states = |slots: usize| RunStates {
            slots: plan.kept.iter().map(|kept| kept.function.states(slots)).collect(),
            changes: plan.kept.iter().map(|kept| kept.windows.iter().map(|_| None).collect()).collect(),
            unknown: vec![Vec::new(); plan.windows.len()],
            superseded: vec![Vec::new(); plan.windows.len()],
        };
        let runs = index.runs().iter().map(|run| Mutex::new(states(run.slots()))).collect();
        WindowFold { spine, index, bound: bound.clone(), runs }
    }

    /// What is asked.
    pub(super) fn plan(&self) -> &WindowPlan {
        &self.bound.plan
    }

    /// The states of a run.
    pub(super) fn run(&self, number: usize) -> MutexGuard<'_, RunStates> {
        self.runs[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds the rows of a batch whose keys have these numbers.
    pub(super) fn batch(
        &self,
        spec: &Spec,
        batch: &RecordBatch,
        rows: (&[u32], Option<&BooleanArray>, &Facts),
        scratch: &mut WindowScratch,
    ) -> Result<()> {
        let (found, keep, facts) = rows;
        let WindowScratch { items, late, .. } = scratch;
        items.clear();
        late.clear();
        let counts = |row: usize, key: u32| {
            key != NONE && keep.is_none_or(|keep| keep.value(row)) && !facts.is_delete(row)
        };
        for (chunk, keys) in found.chunks(TOUCHED).enumerate() {
            let first = chunk * TOUCHED;
            let counted = |at: &(usize, &u32)| counts(first + at.0, *at.1);
            self.index.warm(keys.iter().enumerate().filter(counted).map(|(_, key)| *key));
            for (at, key) in keys.iter().enumerate().filter(counted) {
                let row = first + at;
                let (event_time, visible_at) = facts.times(row);
                let Some(place) = self.index.place(&self.spine, *key, event_time) else { continue };
                let next = facts.next(row);
                if next.is_some_and(|next| next <= visible_at) {
                    // Never last under either question.
                    continue;
                }
                let is_late = visible_at > place.since || next.is_some();
                if next.is_none() && (!is_late || spec.question == Question::Event) {
                    items.push(Item { run: place.run, slot: place.slot, row: row as u32 });
                }
                if is_late && (spec.compare || spec.question == Question::Known) {
                    let (run, key, row) = (place.run, *key, row as u32);
                    late.push(Late { run, key, row, event_time, visible_at, next });
                }
            }
        }
        if items.is_empty() && late.is_empty() {
            return Ok(());
        }
        let values = self.values(spec, batch, facts)?;
        self.fold_items(&values, scratch);
        self.fold_late(spec, &values, scratch);
        Ok(())
    }

    fn values(&self, spec: &Spec, batch: &RecordBatch, facts: &Facts) -> Result<BatchValues> {
        let BoundWindows { plan, arguments, filters } = &self.bound;
        let arguments = arguments.iter().map(|it| it.evaluate(batch)).collect::<Result<Vec<_>>>()?;
        let filters = filters.iter().map(|filter| {
            let found = filter.evaluate(batch)?;
            let found = found.as_any().downcast_ref::<BooleanArray>().map(true_only);
            found.ok_or_else(|| Error::internal("a filter of an aggregate is no boolean"))
        });
        let event_times: ScalarBuffer<i64> = facts.event_times().clone();
        let orders = if plan.needs_order() { facts.orders(batch, spec)? } else { Arc::from([]) };
        let prepared = plan.kept.iter().map(|kept| {
            let values = kept.argument.map(|at| Arc::clone(&arguments[at]));
            let input = Input { values, event_times: event_times.clone(), orders: Arc::clone(&orders) };
            kept.function.prepare(&input).map_err(compute)
        });
        Ok(BatchValues {
            prepared: prepared.collect::<Result<Vec<_>>>()?,
            filters: filters.collect::<Result<Vec<_>>>()?,
        })
    }

    fn fold_items(&self, values: &BatchValues, scratch: &mut WindowScratch) {
        let WindowScratch { items, sorted, starts, .. } = scratch;
        let count = self.runs.len();
        starts.clear();
        starts.resize(count + 1, 0);
        for item in items.iter() {
            starts[usize::from(item.run) + 1] += 1;
        }
        for run in 0..count {
            starts[run + 1] += starts[run];
        }
        sorted.clear();
        sorted.resize(items.len(), Item::default());
        for item in items.iter() {
            let next = &mut starts[usize::from(item.run)];
            sorted[*next as usize] = *item;
            *next += 1;
        }
        let mut moves = Moves::default();
        for items in sorted.chunk_by(|one, other| one.run == other.run) {
            moves.clear();
            moves.slots.extend(items.iter().map(|item| item.slot));
            moves.rows.extend(items.iter().map(|item| item.row));
            let passing: Vec<Moves> = values.filters.iter().map(|filter| moves.passing(filter)).collect();
            let mut run = self.run(usize::from(items[0].run));
            let kept = self.bound.plan.kept.iter().zip(&values.prepared);
            for ((kept, prepared), states) in kept.zip(&mut run.slots) {
                let moves = kept.filter.map_or(&moves, |filter| &passing[filter]);
                kept.function.update(states, &moves.slots, &moves.rows, prepared);
            }
        }
    }

    fn fold_late(&self, spec: &Spec, values: &BatchValues, scratch: &mut WindowScratch) {
        let late = &mut scratch.late;
        late.sort_unstable_by_key(|late| (late.run, late.row));
        let mut moves: [Moves; 3] = Default::default();
        for late in late.chunk_by(|one, other| one.run == other.run) {
            let number = usize::from(late[0].run);
            let index = &self.index.runs()[number];
            let answers = (index.answers().end - index.answers().start) as usize;
            let mut run = self.run(number);
            for window in 0..self.index.windows().len() {
                moves.iter_mut().for_each(Moves::clear);
                let [come, go, nodes] = &mut moves;
                for late in late {
                    let Late { key, row, event_time, visible_at, next, .. } = *late;
                    let until = counts_until(Question::Known, next);
                    let held = self.index.answers(&self.spine, key, window, event_time, (visible_at, until));
                    let of_key = index.answers_of(key);
                    if spec.compare {
                        let (more, from, until) = match next {
                            None => (&mut run.unknown[window], held.first, held.known),
                            Some(_) => (&mut run.superseded[window], held.known, held.until),
                        };
                        if from < until {
                            more.resize(answers, 0);
                            more[from as usize] += 1;
                            if until < of_key.end {
                                more[until as usize] -= 1;
                            }
                        }
                    }
                    if spec.question == Question::Known && held.known < held.until {
                        come.push(held.known, row);
                        if held.until < of_key.end {
                            go.push(held.until, row);
                        }
                        let within = |answer: u32| answer - of_key.start;
                        covering(within(of_key.end), within(held.known), within(held.until), |node| {
                            nodes.push(of_key.start * 2 + node, row);
                        });
                    }
                }
                if moves[0].rows.is_empty() {
                    continue;
                }
                let kept = self.bound.plan.kept.iter().zip(&values.prepared);
                for ((kept, prepared), changes) in kept.zip(&mut run.changes) {
                    let Ok(at) = kept.windows.binary_search(&window) else { continue };
                    let [come, go, nodes] = &moves;
                    let filtered = |moves: &Moves, filter: usize| moves.passing(&values.filters[filter]);
                    let take = |states: &mut States, moves: &Moves, out: bool| {
                        let passing = kept.filter.map(|filter| filtered(moves, filter));
                        let Moves { slots, rows } = passing.as_ref().unwrap_or(moves);
                        match out {
                            true => kept.function.withdraw(states, slots, rows, prepared),
                            false => kept.function.update(states, slots, rows, prepared),
                        }
                    };
                    if kept.function.is_invertible() {
                        let states = changes[at].get_or_insert_with(|| kept.function.states(answers));
                        take(states, come, false);
                        take(states, go, true);
                    } else {
                        let states = changes[at].get_or_insert_with(|| kept.function.states(answers * 2));
                        take(states, nodes, false);
                    }
                }
            }
        }
    }
}

impl RunStates {
    /// What changes from answer to answer, of states over the so manieth of their windows.
    pub(super) fn change(&self, kept: usize, at: usize) -> Option<&States> {
        self.changes.get(kept)?.get(at)?.as_ref()
    }

    /// The same, to be changed: so many states at first.
    pub(super) fn change_mut(
        &mut self,
        kept: usize,
        at: usize,
        function: &Function,
        count: usize,
    ) -> Option<&mut States> {
        Some(self.changes.get_mut(kept)?.get_mut(at)?.get_or_insert_with(|| function.states(count)))
    }

    /// What changes from answer to answer, of states over a window.
    pub(super) fn changes(&self, plan: &WindowPlan, kept: usize, window: usize) -> asof_compute::Changes<'_> {
        use asof_compute::Changes;
        let Kept { function, windows, .. } = &plan.kept[kept];
        let Ok(at) = windows.binary_search(&window) else { return Changes::None };
        match &self.changes[kept][at] {
            None => Changes::None,
            Some(states) if function.is_invertible() => Changes::Steps(states),
            Some(states) => Changes::Tree(states),
        }
    }
}

/// The scan's columns that readings over windows need besides keys and filters.
pub(super) fn needs(engine: &Engine, spec: &Spec) -> Result<(Vec<String>, bool)> {
    let mut columns: Vec<String> = Vec::new();
    let mut ordered = false;
    for reading in &spec.readings {
        if let Some(plan) = WindowPlan::of(engine, spec, reading)? {
            columns.extend(plan.needs().cloned());
            ordered |= plan.needs_order();
        }
    }
    Ok((columns, ordered))
}
