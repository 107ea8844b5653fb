//! Work that borrows, shared out to several threads.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, ScopedJoinHandle};

use asof_compute::{Threads, Work};

use crate::engine::WORKER_STACK;

/// Works on pieces by so many threads, the caller among them, each taking the next that is left; what came
/// of them, in their order. An error ends it: pieces not begun by then are left, and of several errors that of the
/// first piece is given, whatever the threads. Blocking.
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
    let take_on = || -> Result<(), (usize, E)> {
        while let Some((number, piece)) = next() {
            let made = work(piece).inspect_err(|_| failed.store(true, Ordering::Relaxed));
            let made = made.map_err(|error| (number, error))?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push((number, made));
        }
        Ok(())
    };
    let ended = std::thread::scope(|scope| {
        // Where the system has no thread to give, those that there are do all.
        let start = |_| Builder::new().stack_size(WORKER_STACK).spawn_scoped(scope, take_on).ok();
        let others: Vec<ScopedJoinHandle<'_, _>> = (1..threads.min(count)).filter_map(start).collect();
        let mut ended = take_on();
        for other in others {
            // What a thread panicked with ends the caller as it would have without threads.
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            ended = match (ended, other) {
                (Err(one), Err(other)) if other.0 < one.0 => Err(other),
                (Ok(()), other) => other,
                (ended, _) => ended,
            };
        }
        ended
    });
    ended.map_err(|(_, error)| error)?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, made)| made).collect())
}

/// Does one thing beside another where there is a thread for it, else before it. Blocking.
pub(crate) fn beside<R>(threads: usize, one: impl FnOnce() + Send, other: impl FnOnce() -> R) -> R {
    if threads < 2 {
        one();
        return other();
    }
    let left = Mutex::new(Some(one));
    let take = || {
        if let Some(one) = left.lock().unwrap_or_else(PoisonError::into_inner).take() {
            one();
        }
    };
    std::thread::scope(|scope| {
        let started = Builder::new().stack_size(WORKER_STACK).spawn_scoped(scope, take);
        if started.is_err() {
            take();
        }
        let made = other();
        if let Ok(Err(panic)) = started.map(ScopedJoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        made
    })
}

/// So many threads that share work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Several(pub(crate) usize);

impl Threads for Several {
    fn count(&self) -> usize {
        self.0
    }

    fn work(&self, pieces: Vec<Work<'_>>) {
        let done = in_parallel(pieces, self.0, |piece| {
            piece();
            Ok::<_, Infallible>(())
        });
        done.map_or_else(|never| match never {}, drop);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn one_thing_is_done_beside_another() {
        for threads in [1, 2] {
            let mut done = 0;
            assert_eq!(beside(threads, || done += 1, || 7), 7);
            assert_eq!(done, 1);
            let panicked = std::panic::catch_unwind(|| beside(threads, || panic!("one"), || 7));
            assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"one"));
        }
    }

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
        // Of several errors the first piece's, though it comes last.
        for _ in 0..20 {
            let late = |n: u64| {
                std::thread::sleep(std::time::Duration::from_millis(if n == 0 { 5 } else { 1 }));
                Err::<(), _>(n)
            };
            assert_eq!(in_parallel((0..8).collect(), 8, late), Err(0));
        }
    }
}
