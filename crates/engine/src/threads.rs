//! Work that borrows, shared out to several threads.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, ScopedJoinHandle};

use crate::engine::WORKER_STACK;

/// Works on pieces by so many threads, the caller among them, each taking the next that is left; what came
/// of them, in their order. The first error ends it: pieces not begun by then are left. Blocking.
pub(crate) fn in_parallel<T: Send, R: Send, E: Send>(
    pieces: Vec<T>,
    threads: usize,
    work: impl Fn(T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let count = pieces.len();
    if threads.min(count) < 2 {
        return pieces.into_iter().map(work).collect();
    }
    let left = Mutex::new(pieces.into_iter().enumerate());
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(count));
    let failed = AtomicBool::new(false);
    let next = || match failed.load(Ordering::Relaxed) {
        true => None,
        false => left.lock().unwrap_or_else(PoisonError::into_inner).next(),
    };
    let take_on = || -> Result<(), E> {
        while let Some((number, piece)) = next() {
            let made = work(piece).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push((number, made));
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<(), E> {
        // Where the system has no thread to give, those that there are do all.
        let start = |_| Builder::new().stack_size(WORKER_STACK).spawn_scoped(scope, take_on).ok();
        let others: Vec<ScopedJoinHandle<'_, _>> = (1..threads.min(count)).filter_map(start).collect();
        let mut ended = take_on();
        for other in others {
            // What a thread panicked with ends the caller as it would have without threads.
            ended = ended.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        ended
    })?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, made)| made).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn pieces_come_back_in_order_and_an_error_ends_it() {
        for threads in [0, 1, 2, 8, 2_000] {
            let squares = in_parallel((0..1_000_u64).collect(), threads, |n| Ok::<_, ()>(n * n)).unwrap();
            assert_eq!(squares, (0..1_000).map(|n| n * n).collect::<Vec<_>>());
            let begun = AtomicUsize::new(0);
            let failed = in_parallel((0..1_000_000).collect(), threads.min(8), |n: u32| {
                begun.fetch_add(1, Ordering::Relaxed);
                if n == 10 { Err("ten") } else { Ok(()) }
            });
            assert_eq!(failed, Err("ten"));
            assert!(begun.into_inner() < 1_000_000);
        }
        assert_eq!(in_parallel(Vec::new(), 4, Ok::<u8, ()>), Ok(Vec::new()));
    }
}
