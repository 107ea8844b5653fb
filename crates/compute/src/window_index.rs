//! The spine as windows see it: between two edges of a key's windows lies a slot, in which all rows count at the
//! same instants.

use std::ops::Range;

use asof_model::{Timestamp, Window};

use crate::spine::{NONE, SlotRange, SpineIndex};
use crate::threads::{Threads, each};
use crate::windows::{window_edges, window_instants};

/// The slots of all windows over the keys of a spine, in runs of keys.
#[derive(Debug)]
pub struct WindowIndex {
    windows: Vec<Window>,
    runs: Vec<WindowRun>,
    /// Per key the run that has it.
    run_of: Vec<u16>,
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
    /// The first answer, within `answers`, any of whose windows covers each slot; [`NONE`] where none does.
    since: Vec<u32>,
    /// A bit for each slot that a window covers: most rows need to know no more, and it stays in the cache.
    covered: Vec<u64>,
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
        WindowIndex { windows, runs, run_of }
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
        let mut run = WindowRun {
            first_key: keys.0,
            answers: SlotRange { start, end },
            answer_starts: Vec::with_capacity((keys.1 - keys.0) as usize + 1),
            starts: Vec::with_capacity((keys.1 - keys.0) as usize + 1),
            edges: Vec::with_capacity((end - start) as usize * (windows.len() + 1)),
            since: Vec::with_capacity((end - start) as usize * (windows.len() + 1)),
            covered: Vec::new(),
        };
        let mut own = Vec::new();
        let mut covered = Vec::new();
        for key in keys.0..keys.1 {
            let answers = spine.slots_of(key);
            run.answer_starts.push(answers.start - start);
            run.starts.push(run.edges.len() as u32);
            let times = spine.times(answers);
            own.clear();
            for (number, window) in windows.iter().enumerate() {
                own.extend(times.iter().map(|t| window_edges(window, Timestamp(*t)).0.0));
                let same =
                    |other: &Window| other.offset == window.offset && other.include_now == window.include_now;
                if !windows[..number].iter().any(same) {
                    own.extend(times.iter().map(|t| window_edges(window, Timestamp(*t)).1.0));
                }
            }
            // Runs that ascend: the stable sort merges them.
            own.sort();
            own.dedup();
            let first = run.edges.len();
            run.edges.extend_from_slice(&own);
            run.since.resize(run.edges.len(), NONE);
            for window in windows {
                covered.clear();
                cover(&run.edges[first..], times, window, &mut covered);
                let mut past = 0;
                for (answer, (from, until)) in (answers.start - start..).zip(&covered) {
                    for slot in past.max(*from)..*until {
                        let since = &mut run.since[first + slot as usize];
                        *since = answer.min(*since);
                    }
                    past = past.max(*until);
                }
            }
        }
        run.answer_starts.push(end - start);
        run.starts.push(run.edges.len() as u32);
        let bits =
            |slots: &[u32]| slots.iter().rev().fold(0, |bits, first| bits << 1 | u64::from(*first != NONE));
        run.covered = run.since.chunks(64).map(bits).collect();
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

    /// The slot that a row of a key falls into; none if no window ever covers it.
    #[inline]
    pub fn slot(&self, key: u32, event_time: Timestamp) -> Option<u32> {
        let key = (key - self.first_key) as usize;
        let (start, end) = (self.starts[key], self.starts[key + 1]);
        let edges = &self.edges[start as usize..end as usize];
        let slot = start + (edges.partition_point(|edge| *edge <= event_time.0) as u32).checked_sub(1)?;
        (self.covered[slot as usize / 64] >> (slot % 64) & 1 == 1).then_some(slot)
    }

    /// From when on some window covers a slot that [`WindowRun::slot`] gave.
    #[inline]
    pub fn since(&self, spine: &SpineIndex, slot: u32) -> Timestamp {
        spine.time(self.answers.start + self.since[slot as usize])
    }

    /// Touches what [`WindowRun::slot`] is about to look at for these keys: loads that do not wait for each other.
    pub fn warm(&self, keys: impl Iterator<Item = u32>) {
        let touched = keys.map(|key| {
            let key = (key - self.first_key) as usize;
            let (start, end) = (self.starts[key] as usize, self.starts[key + 1] as usize);
            let middle = start.midpoint(end);
            [start, start.midpoint(middle), middle, middle.midpoint(end), end - 1]
                .iter()
                .fold(0, |all, at| all ^ self.edges[*at])
        });
        std::hint::black_box(touched.fold(0, |all, edge| all ^ edge));
    }

    /// The slots that a window covers at each answer, half-open.
    pub fn covered(&self, spine: &SpineIndex, window: &Window) -> Vec<(u32, u32)> {
        let mut found = Vec::with_capacity((self.answers.end - self.answers.start) as usize);
        for (key, starts) in (self.first_key..).zip(self.starts.windows(2)) {
            let times = spine.times(spine.slots_of(key));
            let from = found.len();
            cover(&self.edges[starts[0] as usize..starts[1] as usize], times, window, &mut found);
            for (start, end) in &mut found[from..] {
                (*start, *end) = (*start + starts[0], *end + starts[0]);
            }
        }
        found
    }
}

/// Between which of a key's edges a window lies at each of its times.
fn cover(edges: &[i64], times: &[i64], window: &Window, out: &mut Vec<(u32, u32)>) {
    let (mut from, mut until) = (0, 0);
    for t in times {
        let (start, end) = window_edges(window, Timestamp(*t));
        while edges.get(from).is_some_and(|edge| *edge < start.0) {
            from += 1;
        }
        until = until.max(from);
        while edges.get(until).is_some_and(|edge| *edge < end.0) {
            until += 1;
        }
        out.push((from as u32, until as u32));
    }
}
