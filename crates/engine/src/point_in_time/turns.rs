//! Which thread reads which partitions of a plan.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

/// The partitions of a plan, dealt to threads.
///
/// Partitions that are runs of rows with addresses are many, in the order of time mostly. Each thread takes those of a
/// stretch of its own, one after the other: so its cursors move on, and few slots get rows from several threads. One
/// that is through takes over the later half of the longest stretch left. Partitions of another plan may wait for
/// each other, so that each has its own thread.
pub(super) struct Turns {
    /// Per thread what is left of its stretch.
    left: Mutex<Vec<Range<usize>>>,
    /// How many threads read.
    pub(super) threads: usize,
}

impl Turns {
    /// For the partitions of a plan, that are runs of rows with addresses or are not.
    pub(super) fn new(plan: &Arc<dyn ExecutionPlan>, in_runs: bool, threads: usize) -> Turns {
        let partitions = plan.output_partitioning().partition_count();
        Turns::of(partitions, if in_runs { threads.min(partitions) } else { partitions })
    }

    fn of(partitions: usize, threads: usize) -> Turns {
        let start = |thread: usize| partitions * thread / threads.max(1);
        let left = (0..threads).map(|thread| start(thread)..start(thread + 1)).collect();
        Turns { left: Mutex::new(left), threads }
    }

    /// The next partition for a thread.
    pub(super) fn next(&self, thread: usize) -> Option<usize> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left[thread].is_empty() {
            let longest = left.iter_mut().max_by_key(|stretch| stretch.len())?;
            let middle = longest.end - longest.len().div_ceil(2);
            let later = middle..longest.end;
            longest.end = middle;
            left[thread] = later;
        }
        left[thread].next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_one_turn() {
        for (partitions, threads) in [(0, 0), (1, 1), (2, 2), (7, 2), (40, 3), (5, 5)] {
            let turns = Turns::of(partitions, threads);
            let mut taken = Vec::new();
            // One thread is slow: the others take over what it would have done.
            for round in 0.. {
                let before = taken.len();
                for thread in (0..threads).filter(|thread| *thread > 0 || round % 3 == 0) {
                    taken.extend(turns.next(thread));
                }
                if taken.len() == before && round % 3 == 0 {
                    break;
                }
            }
            taken.sort_unstable();
            assert_eq!(taken, (0..partitions).collect::<Vec<_>>(), "{partitions} by {threads}");
        }
        let turns = Turns::of(10, 2);
        assert_eq!([turns.next(0), turns.next(1), turns.next(1)], [Some(0), Some(5), Some(6)]);
    }
}
