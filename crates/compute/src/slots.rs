//! The slots of the spine: each key's times in order, each once.

use std::ops::Range;

use crate::groups::{ELSEWHERE, LEAST};
use crate::threads::{Threads, Work, each};

/// Into so many runs groups are cut to be sorted.
const RUNS: usize = 16;

/// Rows sampled for each range that groups are cut into.
const SAMPLED: usize = 256;

/// A range of groups and their rows.
struct Members {
    /// Where the rows of each group begin, and those of the last end.
    starts: Vec<u32>,
    /// The time and the number of each row.
    rows: Vec<(i64, u32)>,
}

impl Members {
    /// The rows of a range of groups.
    fn of(groups: Range<u32>, row_times: &[i64], places: &[u32]) -> Members {
        // Rows of other groups are counted and put behind all: a branch for each row would be guessed wrong half
        // of the times.
        let others = groups.len();
        let within = |group: u32| (group.wrapping_sub(groups.start) as usize).min(others);
        let mut starts = vec![0_u32; others + 2];
        for group in places {
            starts[within(*group) + 1] += 1;
        }
        for group in 0..others {
            starts[group + 1] += starts[group];
        }
        starts.truncate(others + 1);
        let end = starts[others];
        let mut rows = vec![(0_i64, 0_u32); end as usize + 1];
        let mut next = starts.clone();
        for ((row, group), time) in (0..).zip(places).zip(row_times) {
            let group = within(*group);
            rows[next[group] as usize] = (*time, row);
            next[group] += u32::from(group != others);
        }
        rows.truncate(end as usize);
        Members { starts, rows }
    }

    /// The groups cut into runs of about so many rows, and of one group at least.
    fn runs(&mut self, most: u32) -> Vec<Run<'_>> {
        let Members { starts, rows } = self;
        let (mut left, mut from) = (rows.as_mut_slice(), 0);
        let mut runs = Vec::new();
        while from < starts.len() - 1 {
            let to = starts.partition_point(|start| *start <= starts[from].saturating_add(most)) - 1;
            let to = to.clamp(from + 1, starts.len() - 1);
            let (rows, rest) = left.split_at_mut((starts[to] - starts[from]) as usize);
            runs.push(Run { starts: &starts[from..=to], rows });
            (left, from) = (rest, to);
        }
        runs
    }
}

/// A run of groups and their rows.
struct Run<'a> {
    starts: &'a [u32],
    rows: &'a mut [(i64, u32)],
}

/// A run whose rows' times have slots.
struct Sorted<'a> {
    /// The slot, counted within the run, and the number of each row.
    rows: &'a [(i64, u32)],
    /// The times of its slots.
    times: Vec<i64>,
    /// The first slot of each group, counted within the run.
    first_slots: Vec<u32>,
}

impl<'a> Run<'a> {
    /// Gives each distinct time of each group a slot.
    fn sort(self) -> Sorted<'a> {
        let Run { starts, rows } = self;
        let mut times = Vec::with_capacity(rows.len());
        let mut first_slots = Vec::with_capacity(starts.len() - 1);
        for group in starts.windows(2) {
            let members = &mut rows[(group[0] - starts[0]) as usize..(group[1] - starts[0]) as usize];
            members.sort_unstable();
            let first = times.len();
            first_slots.push(first as u32);
            for (time, _) in members {
                if times.len() == first || times.last() != Some(time) {
                    times.push(*time);
                }
                // From here on it is the slot that the row needs.
                *time = times.len() as i64 - 1;
            }
        }
        Sorted { rows, times, first_slots }
    }
}

/// The groups cut into about so many ranges, of about as many rows each as a sample says.
fn cut(places: &[u32], groups: u32, count: usize) -> Vec<Range<u32>> {
    let step = (places.len() / (count * SAMPLED)).max(1);
    let sample = places.iter().step_by(step).copied().filter(|group| *group < ELSEWHERE);
    let mut sample: Vec<u32> = sample.collect();
    sample.sort_unstable();
    let cuts = (1..count).filter_map(|part| sample.get(sample.len() * part / count).copied());
    let mut ends: Vec<u32> = [0].into_iter().chain(cuts).chain([groups]).collect();
    ends.dedup();
    ends.windows(2).map(|two| two[0]..two[1]).collect()
}

/// Turns the groups in `places` into slots; gives the time of each slot and the first slot of each group.
pub(crate) fn number_slots(
    row_times: &[i64],
    places: &mut [u32],
    groups: u32,
    threads: &dyn Threads,
) -> (Vec<i64>, Vec<u32>) {
    let count = threads.count().min(places.len() / LEAST).max(1);
    let ranges = cut(places, groups, count).into_iter();
    let mut members = each(threads, ranges, |groups| Members::of(groups, row_times, places));
    let most = (places.len() / RUNS).max(LEAST) as u32;
    let runs: Vec<Run<'_>> = members.iter_mut().flat_map(|members| members.runs(most)).collect();
    let sorted = each(threads, runs.into_iter(), Run::sort);
    let mut first_slots = Vec::with_capacity(groups as usize + 1);
    let mut slots = 0;
    for run in &sorted {
        first_slots.extend(run.first_slots.iter().map(|slot| slots + slot));
        slots += run.times.len() as u32;
    }
    first_slots.push(slots);
    let mut times = Vec::with_capacity(slots as usize);
    let place: Work<'_> = Box::new(|| {
        let mut before = 0;
        for run in &sorted {
            for (slot, row) in run.rows {
                places[*row as usize] = before + *slot as u32;
            }
            before += run.times.len() as u32;
        }
    });
    let join: Work<'_> = Box::new(|| sorted.iter().for_each(|run| times.extend_from_slice(&run.times)));
    threads.work(vec![place, join]);
    (times, first_slots)
}
