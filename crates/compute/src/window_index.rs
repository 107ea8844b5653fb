//! The spine as windows see it: between two edges of a key's windows lies a slot, in which all rows count at the
//! same instants.

use std::hint::select_unpredictable;
use std::ops::Range;

use asof_model::{Length, Timestamp, Window};

use crate::spine::{NONE, SlotRange, SpineIndex, TOUCHED};
use crate::threads::{Threads, each};
use crate::windows::{window_edges, window_instants};

/// Edges that fill a line of the processor's cache.
const APART: u32 = 8;

/// The slots up to seven after the one that a row of its key fell into last are tried first, in these steps.
const STEPS: [u32; 3] = [4, 2, 1];

/// So many rows after those most of which were not there are sought everywhere.
const ELSEWHERE: usize = 16 * TOUCHED;

/// What a number without a sign has otherwise than the integer with one that has its place in the order.
const SIGN: u64 = 1 << 63;

/// The slots of all windows over the keys of a spine, in runs of keys.
#[derive(Debug)]
pub struct WindowIndex {
    windows: Vec<Window>,
    runs: Vec<WindowRun>,
    /// Per key the run that has it.
    run_of: Vec<u16>,
    span: Range<i64>,
}

/// The slots of a run of keys. Slots are numbered within the run.
#[derive(Debug)]
pub struct WindowRun {
    /// The first key.
    first_key: u32,
    /// The slots of the spine, each an answer, of its keys.
    answers: SlotRange,
    /// Where the answers of each key begin within `answers`, and those of the last end.
    answer_starts: Vec<u32>,
    /// Where the slots of each key begin, and those of the last end.
    starts: Vec<u32>,
    /// The event time from which on a row falls into each slot; the last of a key is in no window.
    edges: Vec<i64>,
    /// Of each key the first of so many edges, [`APART`]: few enough to stay in the cache from row to row.
    heads: Vec<i64>,
    /// Where those of each key begin, and those of the last end.
    head_starts: Vec<u32>,
    /// The first edge of any key, and the last.
    span: Option<(i64, i64)>,
    /// The first answer, within `answers`, any of whose windows covers each slot; [`NONE`] where none does.
    since: Vec<u32>,
    /// For each window the slots it covers at each answer.
    covered: Vec<Vec<(u32, u32)>>,
    /// A bit for each slot that a window covers: most rows need to know no more, and it stays in the cache.
    is_covered: Vec<u64>,
}

/// Rows whose slots are sought ([`WindowRun::find`]) in one index, by one thread.
#[derive(Debug, Default)]
pub struct SoughtSlots {
    /// Per key the slot that a row fell into last: rows of a thread mostly come in the order of their times.
    near: Vec<u32>,
    /// How many rows are to be sought everywhere, since they come in no order.
    unordered: usize,
    rows: Vec<Sought>,
    /// Those that are sought everywhere, with their places.
    everywhere: Vec<Sought>,
    places: Vec<u32>,
}

impl SoughtSlots {
    /// The slot that each row falls into; [`NONE`] where no window ever covers it.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = u32> {
        self.rows.iter().map(|sought| sought.slot)
    }
}

/// A row whose slot is sought.
#[derive(Debug, Clone, Copy)]
struct Sought {
    /// The slot it falls into; of those that are left the first.
    slot: u32,
    /// How many slots are left.
    left: u32,
    key: u32,
    event_time: i64,
}

/// The answers of a key at which a window holds a row, numbered within the key's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowAnswers {
    /// The first.
    pub first: u32,
    /// The first that may use it; `until` where none may.
    pub known: u32,
    /// One past the last.
    pub until: u32,
}

impl WindowIndex {
    /// The most runs there are.
    pub const RUNS: usize = 256;

    /// The slots of these windows, each once, in about so many runs.
    pub fn build(
        spine: &SpineIndex,
        windows: Vec<Window>,
        runs: usize,
        threads: &dyn Threads,
    ) -> WindowIndex {
        let ranges = spine.runs_of_keys(runs.clamp(1, WindowIndex::RUNS));
        let runs = each(threads, ranges.into_iter(), |keys| WindowRun::build(spine, keys, &windows));
        let mut run_of = Vec::with_capacity(spine.keys());
        for (number, run) in (0..).zip(&runs) {
            run_of.resize(run_of.len() + run.starts.len() - 1, number);
        }
        let spans = || runs.iter().filter_map(|run: &WindowRun| run.span);
        let (least, most) = (spans().map(|span| span.0).min(), spans().map(|span| span.1).max());
        let span = least.unwrap_or(0)..most.unwrap_or(0);
        WindowIndex { windows, runs, run_of, span }
    }

    /// The event times that any window of any key may cover.
    pub fn span(&self) -> Range<i64> {
        self.span.clone()
    }

    /// The windows.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The runs of keys.
    pub fn runs(&self) -> &[WindowRun] {
        &self.runs
    }

    /// The run of a key.
    #[inline]
    pub fn run_of(&self, key: u32) -> u16 {
        self.run_of[key as usize]
    }

    /// At which answers of a key a window holds a row that counts until some instant, [`Timestamp::NEVER`] if for good,
    /// and from which on it may be used.
    pub fn answers(
        &self,
        spine: &SpineIndex,
        key: u32,
        window: usize,
        event_time: Timestamp,
        (visible_at, counts_until): (Timestamp, Timestamp),
    ) -> WindowAnswers {
        let run = &self.runs[self.run_of[key as usize] as usize];
        let answers = run.answers_of(key);
        let times = spine.times(SlotRange {
            start: run.answers.start + answers.start,
            end: run.answers.start + answers.end,
        });
        let (from, until) = window_instants(&self.windows[window], event_time);
        let at = |edge: Timestamp| match edge {
            Timestamp::NEVER => answers.end,
            edge => answers.start + times.partition_point(|t| *t < edge.0) as u32,
        };
        let (first, until) = (at(from), at(until.min(counts_until)));
        let until = until.max(first);
        let known = if visible_at <= from { first } else { at(visible_at).min(until) };
        WindowAnswers { first, known, until }
    }
}

impl WindowRun {
    fn build(spine: &SpineIndex, keys: (u32, u32), windows: &[Window]) -> WindowRun {
        let start = spine.slots_of(keys.0).start;
        let end = if keys.1 > keys.0 { spine.slots_of(keys.1 - 1).end } else { start };
        let count = (end - start) as usize;
        let mut run = WindowRun {
            first_key: keys.0,
            answers: SlotRange { start, end },
            answer_starts: Vec::with_capacity((keys.1 - keys.0) as usize + 1),
            starts: Vec::with_capacity((keys.1 - keys.0) as usize + 1),
            edges: Vec::with_capacity(count * (windows.len() + 1)),
            heads: Vec::with_capacity(count * (windows.len() + 1) / APART as usize),
            head_starts: Vec::with_capacity((keys.1 - keys.0) as usize + 1),
            span: None,
            since: Vec::with_capacity(count * (windows.len() + 1)),
            covered: windows.iter().map(|_| Vec::with_capacity(count)).collect(),
            is_covered: Vec::new(),
        };
        let mut of_key = KeyEdges::new(windows);
        for key in keys.0..keys.1 {
            let answers = spine.slots_of(key);
            run.answer_starts.push(answers.start - start);
            let first = run.edges.len();
            run.starts.push(first as u32);
            of_key.key(spine.times(answers), &mut run.edges);
            if let [least, .., most] = run.edges[first..] {
                let (first, last) = run.span.unwrap_or((least, most));
                run.span = Some((least.min(first), most.max(last)));
            }
            run.head_starts.push(run.heads.len() as u32);
            run.heads.extend(run.edges[first..].iter().step_by(APART as usize));
            run.since.resize(run.edges.len(), NONE);
            for (window, covered) in run.covered.iter_mut().enumerate() {
                let mut past = 0;
                for (answer, (from, until)) in (answers.start - start..).zip(of_key.covered(window)) {
                    for slot in past.max(from)..until {
                        let since = &mut run.since[first + slot as usize];
                        *since = answer.min(*since);
                    }
                    past = past.max(until);
                    covered.push((first as u32 + from, first as u32 + until));
                }
            }
        }
        run.answer_starts.push(end - start);
        run.starts.push(run.edges.len() as u32);
        run.head_starts.push(run.heads.len() as u32);
        let bits =
            |slots: &[u32]| slots.iter().rev().fold(0, |bits, first| bits << 1 | u64::from(*first != NONE));
        run.is_covered = run.since.chunks(64).map(bits).collect();
        run
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.edges.len()
    }

    /// Its keys.
    pub fn keys(&self) -> Range<u32> {
        self.first_key..self.first_key + self.starts.len() as u32 - 1
    }

    /// The slots of a key.
    pub fn slots_of(&self, key: u32) -> SlotRange {
        let key = (key - self.first_key) as usize;
        SlotRange { start: self.starts[key], end: self.starts[key + 1] }
    }

    /// The slots of the spine, each an answer, of its keys.
    pub fn answers(&self) -> SlotRange {
        self.answers
    }

    /// Where the answers of each key begin, within [`WindowRun::answers`], and those of the last end.
    pub fn answer_starts(&self) -> &[u32] {
        &self.answer_starts
    }

    /// The answers of a key, within [`WindowRun::answers`].
    #[inline]
    pub fn answers_of(&self, key: u32) -> SlotRange {
        let key = (key - self.first_key) as usize;
        SlotRange { start: self.answer_starts[key], end: self.answer_starts[key + 1] }
    }

    /// Seeks the slots that rows of some keys fall into, in their order; [`NONE`] for one that no window ever covers. All
    /// are sought step by step together: no step waits for the one before, and none is guessed.
    pub fn find(&self, rows: impl Iterator<Item = (u32, Timestamp)>, sought: &mut SoughtSlots) {
        let SoughtSlots { near, unordered, rows: room, everywhere, places } = sought;
        let keys = self.keys();
        if near.len() < keys.end as usize {
            near.resize(keys.end as usize, 0);
        }
        let near = &mut near[keys.start as usize..keys.end as usize];
        room.clear();
        room.extend(rows.map(|(key, event_time)| {
            let key = key - self.first_key;
            Sought { slot: 0, left: 0, key, event_time: event_time.0 }
        }));
        if *unordered > 0 {
            *unordered = unordered.saturating_sub(room.len());
            self.find_everywhere(room);
        } else {
            self.find_near(room, near, places);
            if places.len() * 2 > room.len() {
                *unordered = ELSEWHERE;
            }
            everywhere.clear();
            everywhere.extend(places.iter().map(|at| room[*at as usize]));
            self.find_everywhere(everywhere);
            for (at, found) in places.iter().zip(&*everywhere) {
                room[*at as usize] = *found;
            }
        }
        for sought in room {
            near[sought.key as usize] = sought.slot;
            let bits = self.is_covered.get(sought.slot as usize / 64).copied().unwrap_or(0);
            let covered = bits >> (sought.slot % 64) & 1 == 1;
            // A key of which another part of the spine asks has no slots.
            let is_in = covered & (sought.left > 0) & begins(&self.edges, sought.slot, sought);
            sought.slot = select_unpredictable(is_in, sought.slot, NONE);
        }
    }

    /// Seeks rows from the slots on that those before them fell into; the places of those that fell elsewhere.
    fn find_near(&self, room: &mut [Sought], near: &[u32], elsewhere: &mut Vec<u32>) {
        for sought in &mut *room {
            sought.slot = near[sought.key as usize].max(self.starts[sought.key as usize]);
            sought.left = self.starts[sought.key as usize + 1] - sought.slot;
        }
        for step in STEPS {
            for sought in &mut *room {
                let passes = (sought.left > step) & begins(&self.edges, sought.slot + step, sought);
                let passed = u32::from(passes) * step;
                sought.slot += passed;
                sought.left -= passed;
            }
        }
        elsewhere.clear();
        elsewhere.resize(room.len(), 0);
        let mut count = 0;
        for (at, sought) in (0..).zip(room) {
            let is_last = sought.left < 2 || !begins(&self.edges, sought.slot + 1, sought);
            let is_first = sought.slot == self.starts[sought.key as usize];
            let found = is_last & (is_first | begins(&self.edges, sought.slot, sought));
            elsewhere[count] = at;
            count += usize::from(!found);
        }
        elsewhere.truncate(count);
    }

    /// Seeks rows among all slots of their keys.
    fn find_everywhere(&self, room: &mut [Sought]) {
        for sought in &mut *room {
            let key = sought.key as usize;
            sought.slot = self.head_starts[key];
            sought.left = self.head_starts[key + 1] - sought.slot;
        }
        seek(&self.heads, room);
        for sought in &mut *room {
            let key = sought.key as usize;
            let passed = (sought.slot - self.head_starts[key]) * APART;
            sought.slot = self.starts[key] + passed;
            sought.left = APART.min(self.starts[key + 1] - sought.slot);
        }
        seek(&self.edges, room);
    }

    /// From when on some window covers a slot that [`WindowRun::find`] gave.
    #[inline]
    pub fn since(&self, spine: &SpineIndex, slot: u32) -> Timestamp {
        spine.time(self.answers.start + self.since[slot as usize])
    }

    /// The slots that the so manieth window covers at each answer, half-open.
    pub fn covered(&self, window: usize) -> &[(u32, u32)] {
        &self.covered[window]
    }
}

/// Whether a slot begins at or before a row.
#[inline]
fn begins(edges: &[i64], slot: u32, sought: &Sought) -> bool {
    edges.get(slot as usize).is_some_and(|edge| *edge <= sought.event_time)
}

/// Brings each row to the last edge of those left that is at or before it, or to the first.
fn seek(edges: &[i64], room: &mut [Sought]) {
    let mut most = room.iter().map(|sought| sought.left).max().unwrap_or(0);
    while most > 1 {
        for sought in room.iter_mut() {
            let half = sought.left / 2;
            let middle = sought.slot + half;
            sought.slot = select_unpredictable(begins(edges, middle, sought), middle, sought.slot);
            sought.left -= half;
        }
        most -= most / 2;
    }
}

/// The edges of all windows over one key, put in order.
struct KeyEdges<'a> {
    windows: &'a [Window],
    /// Of each window a list of its lower edges, then of each whose upper edges are no other's a list of these.
    upper: Vec<usize>,
    lists: usize,
    /// Each edge of all lists with its number below it, in order.
    sorted: Vec<u128>,
    /// The place of each edge among all that differ.
    places: Vec<u32>,
    count: usize,
}

impl<'a> KeyEdges<'a> {
    fn new(windows: &'a [Window]) -> KeyEdges<'a> {
        let mut kinds: Vec<(Length, bool)> = Vec::new();
        let upper = windows.iter().map(|window| {
            let kind = (window.offset, window.include_now);
            let at = kinds.iter().position(|other| *other == kind).unwrap_or_else(|| {
                kinds.push(kind);
                kinds.len() - 1
            });
            windows.len() + at
        });
        let upper: Vec<usize> = upper.collect();
        let lists = windows.len() + kinds.len();
        KeyEdges { windows, upper, lists, sorted: Vec::new(), places: Vec::new(), count: 0 }
    }

    /// Appends the edges at a key's times, each once, in order.
    fn key(&mut self, times: &[i64], edges: &mut Vec<i64>) {
        let KeyEdges { windows, upper, lists, sorted, places, count } = self;
        *count = times.len();
        sorted.clear();
        sorted.resize(*lists * *count, 0);
        let mut put = |list: usize, at: usize, edge: Timestamp| {
            let number = list * *count + at;
            sorted[number] = u128::from(edge.0 as u64 ^ SIGN) << 64 | number as u128;
        };
        for (window, (number, upper)) in windows.iter().zip(upper.iter().enumerate()) {
            for (at, t) in times.iter().enumerate() {
                let (from, until) = window_edges(window, Timestamp(*t));
                put(number, at, from);
                put(*upper, at, until);
            }
        }
        sorted.sort_unstable();
        places.clear();
        places.resize(sorted.len(), 0);
        let first = edges.len();
        for number in &*sorted {
            let edge = ((number >> 64) as u64 ^ SIGN) as i64;
            if edges.len() == first || edges.last() != Some(&edge) {
                edges.push(edge);
            }
            places[*number as u64 as usize] = (edges.len() - first - 1) as u32;
        }
    }

    /// Between which of the key's edges a window lies at each of its times.
    fn covered(&self, window: usize) -> impl Iterator<Item = (u32, u32)> {
        let list = |list: usize| self.places[list * self.count..(list + 1) * self.count].iter().copied();
        // An offset may bring the upper edge before a lower one that is floored.
        list(window).zip(list(self.upper[window])).map(|(from, until)| (from, until.max(from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EntityKeys;
    use crate::threads::Alone;

    const HOUR: i64 = 3_600_000_000;

    /// Whatever order rows come in, and however many keys and slots there are, a window covers the slot of a row where
    /// its edges say that the row counts.
    #[test]
    fn slots_are_found_in_any_order_of_rows() {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (seed >> 33) % below
        };
        let window = |length: Option<i64>, offset: i64, include_now| Window {
            length: length.map(Length::from_micros),
            offset: Length::from_micros(offset),
            include_now,
            resolution: None,
        };
        let windows = vec![
            window(Some(HOUR), 0, false),
            window(Some(7 * HOUR), 0, true),
            window(Some(2 * HOUR), 3 * HOUR, false),
            window(Some(90 * HOUR), 0, false),
        ];
        let (keys, answers) = (40, 1_500);
        // Half of the answers are of one key.
        let of: Vec<i64> = (0..answers).map(|at| if at % 2 == 0 { 0 } else { random(keys) as i64 }).collect();
        let times: Vec<i64> = of.iter().map(|_| random(1_000) as i64 * HOUR / 4).collect();
        let of = EntityKeys::Int64 { values: of.into(), nulls: None };
        let spine = SpineIndex::build(&of, &times, &Alone).unwrap();
        let index = WindowIndex::build(&spine, windows.clone(), 3, &Alone);
        let mut rows: Vec<(u32, i64)> = (0..20_000)
            .map(|_| (random(spine.keys() as u64) as u32, random(1_100 * 15) as i64 * HOUR / 60 - 50 * HOUR))
            .collect();
        let look = |order: &str, rows: &[(u32, i64)]| {
            let mut sought = SoughtSlots::default();
            let mut covered = 0;
            for rows in rows.chunks(TOUCHED) {
                for (number, run) in index.runs().iter().enumerate() {
                    let of_run = || rows.iter().filter(|(key, _)| usize::from(index.run_of(*key)) == number);
                    run.find(of_run().map(|(key, e)| (*key, Timestamp(*e))), &mut sought);
                    for ((key, event_time), slot) in of_run().zip(sought.slots()) {
                        for answer in run.answers_of(*key).start..run.answers_of(*key).end {
                            let t = spine.time(run.answers().start + answer);
                            for (at, window) in windows.iter().enumerate() {
                                let (from, until) = window_edges(window, t);
                                let counts = (from..until).contains(&Timestamp(*event_time));
                                let (from, until) = run.covered(at)[answer as usize];
                                let found = slot != NONE && (from..until).contains(&slot);
                                assert_eq!(found, counts, "{order}: {key} {event_time} {t:?} {window:?}");
                                covered += usize::from(found);
                            }
                        }
                    }
                }
            }
            assert!(covered > rows.len(), "{order}");
        };
        look("any", &rows);
        rows.sort_unstable_by_key(|(key, event_time)| (*event_time, *key));
        look("forward", &rows);
        rows.reverse();
        look("backward", &rows);
        for rows in rows.chunks_mut(700) {
            rows.sort_unstable();
        }
        look("stretches", &rows);
    }
}
