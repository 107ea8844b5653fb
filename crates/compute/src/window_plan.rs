//! What is kept of rows so that features over windows can be answered: the same offline, in tiles, and online.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array};
use arrow::buffer::ScalarBuffer;
use asof_model::{Timestamp, Window};

use crate::aggregate::rows_that_count;
use crate::{
    Changes, ComputeError, Finished, Function, Input, Outcome, Prepared, Ranges, RowOrder, States,
    window_edges,
};

/// A feature over one window, with its types known.
#[derive(Debug, Clone)]
pub struct PlannedCall {
    /// What it comes to.
    pub function: Function,
    /// Which of the arguments it is of; none: the row itself.
    pub argument: Option<usize>,
    /// Which of the filters says what rows it counts; none: all.
    pub filter: Option<usize>,
    /// Over which window.
    pub window: Window,
    /// One value of the function's type, which stands in for that of an empty window.
    pub default: Option<ArrayRef>,
}

/// States of one kind over some windows.
#[derive(Debug, Clone)]
pub struct KeptStates {
    /// What keeps them.
    pub function: Function,
    /// As [`PlannedCall::argument`].
    pub argument: Option<usize>,
    /// As [`PlannedCall::filter`].
    pub filter: Option<usize>,
    /// Of [`WindowPlan::windows`], ascending.
    pub windows: Vec<usize>,
}

/// A feature of a [`WindowPlan`].
#[derive(Debug, Clone)]
pub struct PlannedFeature {
    /// What finishes its states.
    pub function: Function,
    /// Of [`WindowPlan::kept`].
    pub kept: usize,
    /// Of [`WindowPlan::windows`].
    pub window: usize,
    /// As [`PlannedCall::default`].
    pub default: Option<ArrayRef>,
}

/// What is kept of rows for some features: a state for all that share it.
#[derive(Debug, Clone)]
pub struct WindowPlan {
    windows: Vec<Window>,
    kept: Vec<KeptStates>,
    features: Vec<PlannedFeature>,
}

impl WindowPlan {
    /// The plan of these features. What is kept first counts the rows in all windows.
    pub fn new(calls: impl IntoIterator<Item = PlannedCall>) -> WindowPlan {
        let all =
            KeptStates { function: rows_that_count(), argument: None, filter: None, windows: Vec::new() };
        let mut plan = WindowPlan { windows: Vec::new(), kept: vec![all], features: Vec::new() };
        for call in calls {
            let PlannedCall { function, argument, filter, window, default } = call;
            let window = place(&mut plan.windows, window, |one, other| one == other);
            let one = KeptStates { function: function.clone(), argument, filter, windows: Vec::new() };
            let kept = place(&mut plan.kept, one, |one, other| {
                let rows = one.argument == other.argument && one.filter == other.filter;
                rows && one.function.shares_states_with(&other.function)
            });
            plan.kept[kept].windows.push(window);
            plan.features.push(PlannedFeature { function, kept, window, default });
        }
        plan.kept[0].windows = (0..plan.windows.len()).collect();
        for kept in &mut plan.kept {
            kept.windows.sort_unstable();
            kept.windows.dedup();
        }
        plan
    }

    /// Each window once.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// What states are kept of; the first is all rows that count, over all windows.
    pub fn kept(&self) -> &[KeptStates] {
        &self.kept
    }

    /// The features, in order.
    pub fn features(&self) -> &[PlannedFeature] {
        &self.features
    }

    /// Whether anything is asked in the order of rows.
    pub fn needs_order(&self) -> bool {
        self.kept.iter().any(|kept| kept.function.needs_order())
    }

    /// Whether it matters when rows happened, but for which windows they are in.
    pub fn needs_times(&self) -> bool {
        self.kept.iter().any(|kept| kept.function.needs_times())
    }
}

/// The place of something in a list, at whose end it is put if it is not there.
fn place<T>(list: &mut Vec<T>, it: T, same: impl Fn(&T, &T) -> bool) -> usize {
    list.iter().position(|other| same(other, &it)).unwrap_or_else(|| {
        list.push(it);
        list.len() - 1
    })
}

/// Rows as a plan reads them.
#[derive(Debug, Clone)]
pub struct PlanRows {
    /// The plan's arguments.
    pub arguments: Vec<ArrayRef>,
    /// The plan's filters; a null is false.
    pub filters: Vec<BooleanArray>,
    /// Of each row; may be empty where [`WindowPlan::needs_times`] is false.
    pub event_times: ScalarBuffer<i64>,
    /// Of each row; empty where [`WindowPlan::needs_order`] is false.
    pub orders: Arc<[RowOrder]>,
}

impl PlanRows {
    /// The rows as one kind of states reads them.
    ///
    /// # Errors
    /// [`ComputeError::WrongType`] where the argument is of another type than the function's.
    pub fn prepare(&self, kept: &KeptStates) -> Result<Prepared, ComputeError> {
        let values = match kept.argument {
            Some(at) => {
                Some(self.arguments.get(at).cloned().ok_or_else(|| damaged("an argument is missing"))?)
            }
            None => None,
        };
        let (event_times, orders) = (self.event_times.clone(), Arc::clone(&self.orders));
        kept.function.prepare(&Input { values, event_times, orders })
    }
}

fn damaged(reason: &str) -> ComputeError {
    ComputeError::Damaged { what: "tile", reason: reason.to_owned() }
}

/// The version byte of [`PlanStates::encode`].
const TILE_STATES: u8 = 1;

/// States of all that a plan keeps, for so many slots.
#[derive(Debug)]
pub struct PlanStates {
    plan: Arc<WindowPlan>,
    states: Vec<States>,
}

impl PlanStates {
    /// So many slots of no rows. What `asked` says of a kind of states is false is neither kept nor read.
    pub fn new(plan: &Arc<WindowPlan>, slots: usize, asked: impl Fn(usize) -> bool) -> PlanStates {
        let states =
            |(at, kept): (usize, &KeptStates)| kept.function.states(if asked(at) { slots } else { 0 });
        PlanStates { states: plan.kept.iter().enumerate().map(states).collect(), plan: Arc::clone(plan) }
    }

    /// Takes rows in, each into its slot; `slots` and `rows` stand side by side.
    ///
    /// # Errors
    /// [`ComputeError`] where the rows are not the plan's.
    pub fn update(
        &mut self,
        slots: &[u32],
        rows: &[u32],
        from: &PlanRows,
        asked: impl Fn(usize) -> bool,
    ) -> Result<(), ComputeError> {
        let mut passing: Vec<Option<(Vec<u32>, Vec<u32>)>> = vec![None; from.filters.len()];
        for (at, kept) in self.plan.kept.iter().enumerate().filter(|(at, _)| asked(*at)) {
            let prepared = from.prepare(kept)?;
            let (slots, rows) = match kept.filter {
                None => (slots, rows),
                Some(filter) => {
                    let truths = from.filters.get(filter).ok_or_else(|| damaged("a filter is missing"))?;
                    let found = passing[filter].get_or_insert_with(|| {
                        let passes = |row: u32| truths.is_valid(row as usize) && truths.value(row as usize);
                        slots.iter().zip(rows).filter(|(_, row)| passes(**row)).unzip()
                    });
                    (found.0.as_slice(), found.1.as_slice())
                }
            };
            kept.function.update(&mut self.states[at], slots, rows, &prepared);
        }
        Ok(())
    }

    /// Appends the bytes of a slot: what [`PlanStates::merge_encoded`] reads.
    pub fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.push(TILE_STATES);
        for (kept, states) in self.plan.kept.iter().zip(&self.states) {
            let at = out.len();
            out.extend_from_slice(&[0; 4]);
            // Most states of a tile are of no rows where a filter lets few pass.
            if !kept.function.is_empty(states, slot) {
                kept.function.encode(states, slot, out);
            }
            let length = (out.len() - at - 4) as u32;
            out[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
    }

    /// Takes in what the bytes of a slot hold, of the kinds of states that are asked.
    ///
    /// # Errors
    /// [`ComputeError::Damaged`] where they are no such bytes.
    pub fn merge_encoded(
        &mut self,
        slot: u32,
        bytes: &[u8],
        asked: impl Fn(usize) -> bool,
    ) -> Result<(), ComputeError> {
        let Some((&TILE_STATES, mut rest)) = bytes.split_first() else {
            return Err(damaged("not of a format that is known"));
        };
        for (at, kept) in self.plan.kept.iter().enumerate() {
            let short = || damaged("it ends too early");
            let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            let length = u32::from_le_bytes(*length) as usize;
            let (state, after) = after.split_at_checked(length).ok_or_else(short)?;
            if length > 0 && asked(at) {
                kept.function.merge_encoded(&mut self.states[at], slot, state)?;
            }
            rest = after;
        }
        if rest.is_empty() { Ok(()) } else { Err(damaged("it holds more than its plan keeps")) }
    }
}

/// The windows of some entities at one instant, being added up.
///
/// The edges of all windows cut time into stretches; a row, or a tile that lies within one, is added to its
/// stretch once, whatever the number of windows that cover it.
#[derive(Debug)]
pub struct WindowSums {
    plan: Arc<WindowPlan>,
    at: Timestamp,
    entities: usize,
    /// Ascending; a stretch lies between two of them.
    edges: Vec<i64>,
    /// For each window the stretches it covers.
    covered: Vec<(usize, usize)>,
    /// For each kind of states, whether any feature asked for is answered of it, in each stretch.
    asked: Vec<Vec<bool>>,
    states: PlanStates,
}

impl WindowSums {
    /// Of so many entities at `at`. `asked`: the features of the plan that will be finished.
    pub fn new(plan: &Arc<WindowPlan>, asked: &[usize], at: Timestamp, entities: usize) -> WindowSums {
        let used = |window: usize| asked.iter().any(|feature| plan.features[*feature].window == window);
        let of = |window: &Window| {
            let (from, until) = window_edges(window, at);
            (from.0, until.0)
        };
        let mut edges: Vec<i64> = Vec::new();
        for window in plan.windows.iter().enumerate().filter(|(window, _)| used(*window)).map(|(_, it)| it) {
            let (from, until) = of(window);
            edges.extend([from, until]);
        }
        edges.sort_unstable();
        edges.dedup();
        let place = |edge: i64| edges.partition_point(|other| *other < edge);
        let covered: Vec<(usize, usize)> = plan
            .windows
            .iter()
            .enumerate()
            .map(|(number, window)| {
                let (from, until) = of(window);
                if used(number) { (place(from), place(until)) } else { (0, 0) }
            })
            .collect();
        let stretches = edges.len().saturating_sub(1);
        let mut wanted = vec![vec![false; stretches]; plan.kept.len()];
        for feature in asked.iter().filter_map(|feature| plan.features.get(*feature)) {
            let (from, until) = covered[feature.window];
            wanted[feature.kept][from..until].fill(true);
        }
        // Whether anything counts is always asked.
        for (from, until) in covered.iter().filter(|(from, until)| from < until) {
            wanted[0][*from..*until].fill(true);
        }
        let any = |kept: usize| wanted[kept].contains(&true);
        let states = PlanStates::new(plan, entities * stretches, any);
        WindowSums { plan: Arc::clone(plan), at, entities, edges, covered, asked: wanted, states }
    }

    /// The stretches of event time that count for anything, in order: from each edge on, before the next. Between
    /// two of them may lie time that no window covers.
    pub fn stretches(&self) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        self.edges.windows(2).map(|pair| (Timestamp(pair[0]), Timestamp(pair[1])))
    }

    /// Whether any window covers the stretch.
    pub fn is_covered(&self, stretch: usize) -> bool {
        self.asked.iter().any(|kept| kept.get(stretch).is_some_and(|asked| *asked))
    }

    /// The stretch of an event time, where a window covers it.
    pub fn stretch(&self, event_time: Timestamp) -> Option<usize> {
        let after = self.edges.partition_point(|edge| *edge <= event_time.0);
        let stretch = after.checked_sub(1)?;
        (after < self.edges.len() && self.is_covered(stretch)).then_some(stretch)
    }

    /// The slot of an entity's stretch.
    pub fn slot(&self, entity: usize, stretch: usize) -> u32 {
        (entity * (self.edges.len() - 1) + stretch) as u32
    }

    /// Takes rows in, each into its slot; `slots` and `rows` stand side by side.
    ///
    /// # Errors
    /// As [`PlanStates::update`].
    pub fn add_rows(&mut self, slots: &[u32], rows: &[u32], from: &PlanRows) -> Result<(), ComputeError> {
        let asked = &self.asked;
        self.states.update(slots, rows, from, |kept| asked[kept].contains(&true))
    }

    /// Takes in a tile of rows that all lie within an entity's stretch.
    ///
    /// # Errors
    /// As [`PlanStates::merge_encoded`].
    pub fn add_tile(&mut self, entity: usize, stretch: usize, bytes: &[u8]) -> Result<(), ComputeError> {
        let slot = self.slot(entity, stretch);
        let asked = &self.asked;
        self.states.merge_encoded(slot, bytes, |kept| asked[kept].get(stretch).is_some_and(|asked| *asked))
    }

    /// All that was taken in, to be finished.
    pub fn total(mut self) -> WindowTotals {
        let mut ends = self.covered.iter().filter(|(from, until)| from < until).map(|(_, until)| *until);
        let end = ends.next().filter(|end| ends.all(|other| other == *end));
        let is_nested = end.is_some();
        // Windows that end together lie in one another: each is the next smaller one and what it covers besides.
        if let Some(end) = end {
            for (at, asked) in self.asked.iter().enumerate() {
                let Some(first) = asked.iter().position(|asked| *asked) else { continue };
                for entity in 0..self.entities {
                    let slots = self.slot(entity, first)..self.slot(entity, end);
                    self.plan.kept[at].function.accumulate(&mut self.states.states[at], slots);
                }
            }
        }
        WindowTotals { sums: self, is_nested }
    }
}

/// The windows of some entities at one instant, added up: [`WindowSums::total`].
#[derive(Debug)]
pub struct WindowTotals {
    sums: WindowSums,
    /// Each slot holds what the stretches after it hold, too.
    is_nested: bool,
}

impl WindowTotals {
    /// How many rows count in the windows asked for, for each entity: in any of them, however often.
    pub fn counts(&self) -> ArrayRef {
        let stretches = self.sums.edges.len().saturating_sub(1);
        match self.sums.plan.kept.first() {
            Some(kept) if stretches > 0 => self.answer(&kept.function, 0, (0, stretches)).values,
            _ => Arc::new(Int64Array::from(vec![0; self.sums.entities])),
        }
    }

    /// What a feature comes to, a value for each entity; its default is in place of nothing.
    ///
    /// # Errors
    /// [`ComputeError`] where the default is of another type.
    pub fn finish(&self, feature: usize) -> Result<Finished, ComputeError> {
        let Some(PlannedFeature { function, kept, window, default }) = self.sums.plan.features.get(feature)
        else {
            return Err(damaged("there is no such feature"));
        };
        let found = self.answer(function, *kept, self.sums.covered[*window]);
        match default {
            Some(default) => with_default(found, default),
            None => Ok(found),
        }
    }

    /// What the states of some stretches come to, of each entity.
    fn answer(&self, function: &Function, kept: usize, (from, until): (usize, usize)) -> Finished {
        let WindowSums { entities, at, states, .. } = &self.sums;
        let states = &states.states[kept];
        let times = vec![at.0; *entities];
        if self.is_nested && from < until {
            let slots: Vec<u32> = (0..*entities).map(|entity| self.sums.slot(entity, from)).collect();
            return function.finish(states, &slots, &times);
        }
        let keys: Vec<u32> = (0..=*entities as u32).collect();
        let slot = |entity, stretch| self.sums.slot(entity, stretch);
        let covered: Vec<(u32, u32)> =
            (0..*entities).map(|entity| (slot(entity, from), slot(entity, until))).collect();
        let ranges = Ranges { keys: &keys, covered: &covered, times: &times };
        function.answer(states, &ranges, Changes::None)
    }
}

/// Its default in place of the null of an empty window.
///
/// # Errors
/// [`ComputeError`] where the default is of another type.
pub fn with_default(found: Finished, default: &ArrayRef) -> Result<Finished, ComputeError> {
    use arrow::array::Scalar;
    use arrow::compute::kernels::zip::zip;

    let nothing: BooleanArray =
        found.outcomes.iter().map(|outcome| Some(*outcome == Outcome::Nothing)).collect();
    if nothing.true_count() == 0 {
        return Ok(found);
    }
    let values = zip(&nothing, &Scalar::new(default), &found.values)
        .map_err(|error| damaged(&format!("a default does not fit: {error}")))?;
    let present = |outcome: &Outcome| match outcome {
        Outcome::Nothing => Outcome::Present,
        other => *other,
    };
    let outcomes = found.outcomes.iter().map(present).collect();
    Ok(Finished { values, outcomes, is_too_large: found.is_too_large })
}
