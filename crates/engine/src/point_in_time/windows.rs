//! Windows in the same scan: rows fold into the slots between the edges of a key's windows.
//!
//! A row that may be used before any window of its slot is asked falls into that slot, once, for all windows and
//! instants. One that comes to be known later counts from then on only: a change at the first answer that
//! may use it, taken back after the last its window covers, or of states that cannot give back, in the few nodes
//! of a segment tree over the key's answers. Nothing is kept per row, late or not. So does a row that ends, since
//! another version of its event comes after it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::BooleanArray;
use arrow::datatypes::SchemaRef;
use asof_compute::{
    ComputeError, Function, Gathering, KeptStates, NONE, PlannedCall, PlannedFeature, SoughtSlots,
    SpineIndex, States, TOUCHED, WindowIndex, counts_until, covering, rows_that_count,
};
use asof_model::{Question, Timestamp, Window};

use super::facts::Facts;
use super::operator::broken;
use super::run_rows::{BatchValues, Item, Waiting};
use super::spec::{ReadingSpec, Spec, compute};
use crate::expression::{Bound, Compiled, compile_call};
use crate::threads::Several;
use crate::{Engine, Error, Result};

/// What a reading's windows ask, typed over the columns of its source.
#[derive(Debug)]
pub(super) struct WindowPlan {
    plan: asof_compute::WindowPlan,
    /// Of its features.
    names: Vec<String>,
    arguments: Vec<Compiled>,
    filters: Vec<Compiled>,
}

impl WindowPlan {
    /// The plan of a reading of windows; none of another.
    pub(super) fn of(engine: &Engine, spec: &Spec, reading: &ReadingSpec) -> Result<Option<WindowPlan>> {
        if !reading.is_window() {
            return Ok(None);
        }
        let (mut arguments, mut filters) = (Vec::new(), Vec::new());
        let mut calls = Vec::with_capacity(reading.features.len());
        for feature in &reading.features {
            let lacks = || Error::internal(format!("feature `{}` has no window", feature.name));
            let aggregate = feature.aggregate.as_ref().ok_or_else(lacks)?;
            let window = aggregate.windows.first().ok_or_else(lacks)?.window;
            let compiled = compile_call(engine, &aggregate.call, &spec.columns)
                .map_err(|(_, problem)| broken(&reading.view, &problem))?;
            let argument = compiled.argument.map(|it| place(&mut arguments, it));
            let filter = compiled.filter.map(|it| place(&mut filters, it));
            let default = feature
                .default
                .as_ref()
                .map(|literal| asof_compute::literal_array(literal, &feature.data_type).map_err(compute));
            let (function, default) = (compiled.function, default.transpose()?);
            calls.push(PlannedCall { function, argument, filter, window, default });
        }
        let names = reading.features.iter().map(|feature| feature.name.clone()).collect();
        let plan = asof_compute::WindowPlan::new(calls);
        Ok(Some(WindowPlan { plan, names, arguments, filters }))
    }

    /// The features asked for, in order.
    pub(super) fn features(&self) -> &[PlannedFeature] {
        self.plan.features()
    }

    /// The name of a feature.
    pub(super) fn name(&self, feature: usize) -> &str {
        &self.names[feature]
    }

    /// The windows of the states that are kept at a place.
    pub(super) fn windows_of(&self, kept: usize) -> &[usize] {
        &self.plan.kept()[kept].windows
    }

    /// What states are kept of.
    pub(super) fn kept(&self) -> &[KeptStates] {
        self.plan.kept()
    }

    /// What counts the rows in windows; its states are the first.
    pub(super) fn rows_that_count(&self) -> &Function {
        &self.plan.kept()[0].function
    }

    /// What states are kept of, each with its windows.
    pub(super) fn functions(&self) -> impl Iterator<Item = (&Function, &[usize])> {
        self.plan.kept().iter().map(|kept| (&kept.function, kept.windows.as_slice()))
    }

    /// The columns that a scan must give.
    pub(super) fn needs(&self) -> impl Iterator<Item = &String> {
        self.arguments.iter().chain(&self.filters).flat_map(|compiled| compiled.needs())
    }

    /// Whether anything is asked in the order of rows.
    pub(super) fn needs_order(&self) -> bool {
        self.plan.needs_order()
    }

    /// Whether it matters when rows happened, but for which windows they are in.
    pub(super) fn needs_times(&self) -> bool {
        self.plan.needs_times()
    }

    fn bytes_per_answer(&self) -> u64 {
        let windows = self.plan.windows();
        // The lower edges of all windows, and the upper ones, which most share.
        let upper = |window: &Window| (window.offset, window.include_now);
        let first = |at: &usize| {
            let window = &windows[*at];
            !windows[..*at].iter().any(|other| upper(other) == upper(window))
        };
        let uppers = (0..windows.len()).filter(first).count();
        let (slots, windows) = ((windows.len() + uppers) as u64, windows.len() as u64);
        // Edges, some of them twice, with the answer that each is asked by first, what windows cover, and where threads
        // were last among those of a key.
        let index = slots * 13 + windows * 8 + 8;
        // Of one key, which may have all answers, edges with their places while they are put in order.
        let ordering = slots * 20;
        // When these are gone, states by their numbers; in the end what windows cover of them, and answers.
        let states = self.plan.kept().iter().map(|kept| kept.function.bytes(&kept.function.states(1)) as u64);
        let states = slots * (8 + states.sum::<u64>()) + windows * 8 + self.features().len() as u64 * 24;
        index + ordering.max(states)
    }

    /// Ready for batches of this schema.
    pub(super) fn bind(self: &Arc<Self>, schema: &SchemaRef) -> Result<BoundWindows> {
        let bind =
            |compiled: &Vec<Compiled>| compiled.iter().map(|it| it.bind(schema)).collect::<Result<Vec<_>>>();
        let (arguments, filters) = (bind(&self.arguments)?, bind(&self.filters)?);
        Ok(BoundWindows { plan: Arc::clone(self), arguments, filters })
    }
}

/// Whether states count the values of all rows: where none is null, those of [`WindowPlan::rows_that_count`].
fn counts_values(kept: &KeptStates) -> bool {
    kept.argument.is_some() && kept.filter.is_none() && kept.function.shares_states_with(&rows_that_count())
}

/// The place of an expression among others, at whose end it is put if it is not there.
fn place(list: &mut Vec<Compiled>, it: Compiled) -> usize {
    list.iter().position(|other| other.text() == it.text()).unwrap_or_else(|| {
        list.push(it);
        list.len() - 1
    })
}

/// A [`WindowPlan`] over batches of one schema.
#[derive(Debug, Clone)]
pub(super) struct BoundWindows {
    pub(super) plan: Arc<WindowPlan>,
    pub(super) arguments: Vec<Bound>,
    pub(super) filters: Vec<Bound>,
}

/// What folding the history into the windows of one reading has come to.
#[derive(Debug)]
pub(super) struct WindowFold {
    pub(super) spine: Arc<SpineIndex>,
    pub(super) index: WindowIndex,
    pub(super) bound: BoundWindows,
    /// Bytes of rows that may wait in a thread.
    pub(super) most_waiting: u64,
    runs: Vec<Mutex<RunStates>>,
    /// Bytes that come with rows, whatever the number of slots: of those that are in no state yet, and may never be, of
    /// what states hold of their values, and of what changes from answer to answer.
    held: AtomicU64,
    /// What of it one slot holds, of that which holds most: no smaller portion holds less of it.
    largest: AtomicU64,
}

/// The states of a run of keys.
#[derive(Debug, Default)]
pub(super) struct RunStates {
    /// For each slot the number of its states, [`NONE`] where no row fell yet: most slots of most keys stay empty. Empty
    /// before the first row.
    numbers: Vec<u32>,
    /// How many slots have states.
    count: u32,
    /// For each of [`asof_compute::WindowPlan::kept`], the states, by number. Empty before the first row.
    gathering: Vec<Gathering>,
    /// For each of them, whether it came to what the first did: it counts values none of which was null. What it
    /// would have gathered is then not.
    as_first: Vec<bool>,
    /// For each of them and each of its windows, what changes from answer to answer.
    changes: Vec<Vec<Option<States>>>,
    /// For each window and answer by how many more rows than the one before are in the window but not known yet;
    /// empty where there are none.
    pub(super) unknown: Vec<Vec<i64>>,
    /// The same of rows that count under *known* and not under *event*, since another version comes after them.
    pub(super) superseded: Vec<Vec<i64>>,
    /// What of [`WindowFold::held`] is of this run.
    held: u64,
    /// What of that changes from answer to answer, when it was last summed.
    changing: u64,
    /// Late rows since.
    unsummed: usize,
}

/// The states of the slots of a run that rows fell into.
#[derive(Debug)]
pub(super) struct SlotStates {
    /// For each of [`asof_compute::WindowPlan::kept`], the states in the order of their slots.
    states: Vec<States>,
    /// For each of them, whether the first's are its own.
    as_first: Vec<bool>,
    /// How many states come before each slot, and before the end.
    pub(super) before: Vec<u32>,
}

impl SlotStates {
    /// The states that are kept at a place.
    pub(super) fn of(&self, kept: usize) -> &States {
        &self.states[if self.is_as_first(kept) { 0 } else { kept }]
    }

    /// Whether they are those of all rows that count.
    pub(super) fn is_as_first(&self, kept: usize) -> bool {
        self.as_first.get(kept).is_some_and(|is| *is)
    }

    /// The number of a slot's states; none where no row fell.
    pub(super) fn numbered(&self, slot: u32) -> Option<u32> {
        let slot = slot as usize;
        (self.before[slot] < self.before[slot + 1]).then_some(self.before[slot])
    }
}

/// A row that is known only after some answer whose window it is in, or that ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Late {
    key: u32,
    row: u32,
    event_time: Timestamp,
    visible_at: Timestamp,
    /// The v of the version after it.
    next: Option<Timestamp>,
}

/// Rows and the places they change.
#[derive(Debug, Default)]
pub(super) struct Moves {
    slots: Vec<u32>,
    rows: Vec<u32>,
}

impl Moves {
    fn push(&mut self, slot: u32, row: u32) {
        self.slots.push(slot);
        self.rows.push(row);
    }

    /// Adds those whose slot is not [`NONE`]: without asking each, which nobody could guess.
    fn extend(&mut self, moves: impl ExactSizeIterator<Item = (u32, u32)>) {
        let mut length = self.slots.len();
        self.slots.resize(length + moves.len(), NONE);
        self.rows.resize(length + moves.len(), 0);
        for (slot, row) in moves {
            self.slots[length] = slot;
            self.rows[length] = row;
            length += usize::from(slot != NONE);
        }
        self.slots.truncate(length);
        self.rows.truncate(length);
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

impl BoundWindows {
    /// About how many bytes are held for each answer.
    pub(super) fn bytes_per_answer(&self) -> u64 {
        self.plan.bytes_per_answer()
    }
}

impl WindowFold {
    pub(super) fn new(
        spine: Arc<SpineIndex>,
        bound: &BoundWindows,
        threads: usize,
        most_waiting: u64,
    ) -> WindowFold {
        let plan = &bound.plan;
        let runs = if threads == 1 { 1 } else { WindowIndex::RUNS };
        let index = WindowIndex::build(&spine, plan.plan.windows().to_vec(), runs, &Several(threads));
        let states = || RunStates {
            numbers: Vec::new(),
            count: 0,
            gathering: Vec::new(),
            as_first: plan.plan.kept().iter().map(counts_values).collect(),
            changes: plan
                .plan
                .kept()
                .iter()
                .map(|kept| kept.windows.iter().map(|_| None).collect())
                .collect(),
            unknown: vec![Vec::new(); plan.plan.windows().len()],
            superseded: vec![Vec::new(); plan.plan.windows().len()],
            held: 0,
            changing: 0,
            unsummed: 0,
        };
        let runs = index.runs().iter().map(|_| Mutex::new(states())).collect();
        let bound = bound.clone();
        let (held, largest) = (AtomicU64::new(0), AtomicU64::new(0));
        WindowFold { spine, index, bound, most_waiting, runs, held, largest }
    }

    /// Bytes that rows take, but for those that [`BoundWindows::bytes_per_answer`] counts; and what of them one slot does
    /// that takes most.
    pub(super) fn held(&self) -> (u64, u64) {
        (self.held.load(Ordering::Relaxed), self.largest.load(Ordering::Relaxed))
    }

    /// What is asked.
    pub(super) fn plan(&self) -> &WindowPlan {
        &self.bound.plan
    }

    /// The states of a run.
    pub(super) fn run(&self, number: usize) -> MutexGuard<'_, RunStates> {
        self.runs[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds the rows that wait in a thread, run by run.
    pub(super) fn rest(&self, spec: &Spec, waiting: &mut Waiting) {
        let Waiting { rows, sought, moves, late, .. } = waiting;
        for number in 0..self.runs.len() {
            for rows in &*rows {
                let (first, items) = rows.of_run(number);
                if items.is_empty() {
                    continue;
                }
                self.place(spec, (number, first, items), rows.facts.as_ref(), sought, (moves, late));
                if moves.rows.is_empty() && late.is_empty() {
                    continue;
                }
                let mut run = self.run(number);
                let has_nulls = |kept: usize| rows.values.prepared[kept].has_nulls();
                run.tell_apart(&self.bound.plan, has_nulls);
                self.fold(&rows.values, moves, self.index.runs()[number].slots(), &mut run);
                self.fold_late(spec, &rows.values, (number, late), &mut run);
                self.weigh(number, &mut run, late.len());
            }
        }
        waiting.clear();
    }

    /// The slots of a run that rows fall into, and which of them are late.
    fn place(
        &self,
        spec: &Spec,
        (run, first, items): (usize, u32, &[Item]),
        facts: Option<&Facts>,
        sought: &mut SoughtSlots,
        (moves, late): (&mut Moves, &mut Vec<Late>),
    ) {
        moves.clear();
        late.clear();
        let run = &self.index.runs()[run];
        for (first, items) in (first..).step_by(TOUCHED).zip(items.chunks(TOUCHED)) {
            run.find(items.iter().map(|item| (item.key, item.event_time)), sought);
            let slots = sought.slots().zip(first..first + items.len() as u32);
            let Some(facts) = facts.filter(|_| !items.iter().all(Item::is_plain)) else {
                moves.extend(slots);
                continue;
            };
            for ((slot, row), item) in slots.zip(items) {
                if slot == NONE {
                    continue;
                }
                if item.is_plain() {
                    moves.push(slot, row);
                    continue;
                }
                let key = item.key;
                let (event_time, visible_at) = facts.times(item.row() as usize);
                let next = facts.next(item.row() as usize);
                if next.is_some_and(|next| next <= visible_at) {
                    // Never last under either question.
                    continue;
                }
                // A window covers no event time that is past its own.
                let in_time = visible_at <= event_time || visible_at <= run.since(&self.spine, slot);
                let is_late = !in_time || next.is_some();
                if next.is_none() && (!is_late || spec.question == Question::Event) {
                    moves.push(slot, row);
                }
                if is_late && (spec.compare || spec.question == Question::Known) {
                    late.push(Late { key, row, event_time, visible_at, next });
                }
            }
        }
    }

    fn fold(&self, values: &BatchValues, moves: &mut Moves, slots: usize, run: &mut RunStates) {
        if moves.slots.is_empty() {
            return;
        }
        for slot in &mut moves.slots {
            *slot = run.number(*slot, slots, &self.bound.plan);
        }
        let count = run.count as usize;
        let passing: Vec<Moves> = values.filters.iter().map(|filter| moves.passing(filter)).collect();
        let kept = self.bound.plan.plan.kept().iter().zip(&values.prepared);
        for (((kept, prepared), states), as_first) in kept.zip(&mut run.gathering).zip(&run.as_first) {
            if *as_first {
                continue;
            }
            let moves = kept.filter.map_or(&*moves, |filter| &passing[filter]);
            kept.function.gather(states, count, &moves.slots, &moves.rows, prepared);
        }
    }

    /// Sums what a run holds, now that so many more rows of it were late.
    fn weigh(&self, number: usize, run: &mut RunStates, late: usize) {
        let kept = self.bound.plan.plan.kept();
        run.unsummed += late;
        let answers = self.index.runs()[number].answers();
        if run.unsummed > 0 && (run.changing == 0 || run.unsummed >= (answers.end - answers.start) as usize) {
            let changing = kept.iter().zip(&run.changes).flat_map(|(kept, changes)| {
                changes.iter().flatten().map(|states| kept.function.bytes(states) as u64)
            });
            (run.changing, run.unsummed) = (changing.sum(), 0);
        }
        let (mut held, mut largest) = (run.changing, 0);
        for (kept, of) in kept.iter().zip(&run.gathering) {
            let bytes = kept.function.gathered_bytes(of);
            held += bytes.all as u64;
            largest += bytes.largest as u64;
        }
        let before = std::mem::replace(&mut run.held, held);
        // Where it is less than before, what is added goes around to that.
        self.held.fetch_add(held.wrapping_sub(before), Ordering::Relaxed);
        self.largest.fetch_max(largest, Ordering::Relaxed);
    }

    fn fold_late(&self, spec: &Spec, values: &BatchValues, late: (usize, &[Late]), run: &mut RunStates) {
        let (number, late) = late;
        let index = &self.index.runs()[number];
        let answers = (index.answers().end - index.answers().start) as usize;
        let mut moves: [Moves; 3] = Default::default();
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
            let kept = self.bound.plan.plan.kept().iter().zip(&values.prepared);
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

impl RunStates {
    /// The number of a slot's states, of so many slots.
    fn number(&mut self, slot: u32, slots: usize, plan: &WindowPlan) -> u32 {
        if self.numbers.is_empty() {
            self.numbers = vec![NONE; slots];
            self.gathering = plan.plan.kept().iter().map(|kept| kept.function.gathering(slots)).collect();
        }
        let number = &mut self.numbers[slot as usize];
        if *number == NONE {
            *number = self.count;
            self.count += 1;
        }
        *number
    }

    /// Lets those count for themselves, of those that came to what the first did, that may not from now on.
    pub(super) fn tell_apart(&mut self, plan: &WindowPlan, may_differ: impl Fn(usize) -> bool) {
        for (at, kept) in plan.plan.kept().iter().enumerate() {
            if self.as_first[at] && may_differ(at) {
                self.as_first[at] = false;
                if let Some(first) = self.gathering.first() {
                    self.gathering[at] = kept.function.copied(first);
                }
            }
        }
    }

    /// Takes in what the encoded state of a slot holds, of so many slots.
    pub(super) fn take_encoded(
        &mut self,
        plan: &WindowPlan,
        (slot, slots): (u32, usize),
        kept: usize,
        state: &[u8],
    ) -> Option<std::result::Result<(), ComputeError>> {
        let number = self.number(slot, slots, plan);
        let count = self.count as usize;
        let function = &plan.plan.kept().get(kept)?.function;
        Some(function.gather_encoded(&mut self.gathering[kept], count, number, state))
    }

    /// Takes the states out, in the order of their slots, of which there are so many.
    pub(super) fn states(&mut self, plan: &WindowPlan, slots: usize) -> SlotStates {
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers.resize(slots, NONE);
        let mut order = Vec::with_capacity(self.count as usize);
        let mut before = Vec::with_capacity(slots + 1);
        for number in numbers {
            before.push(order.len() as u32);
            if number != NONE {
                order.push(number);
            }
        }
        before.push(order.len() as u32);
        let mut gathering = std::mem::take(&mut self.gathering).into_iter();
        let gathered = plan.plan.kept().iter().zip(&self.as_first).map(|(kept, as_first)| {
            match gathering.next().filter(|_| !as_first) {
                Some(gathering) => kept.function.gathered(gathering, &order),
                None => kept.function.states(0),
            }
        });
        SlotStates { states: gathered.collect(), as_first: self.as_first.clone(), before }
    }

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
        let KeptStates { function, windows, .. } = &plan.plan.kept()[kept];
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
