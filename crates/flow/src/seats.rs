//! How many long operations go on at once.
//!
//! Each of them keeps to a bound of memory of its own; together they keep to one by their number. What comes
//! while as many go on waits for its turn, the first come first, and past a bound of those who wait is
//! refused. Answers of the online store, queries and everything else that is short never wait here.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{FlowError, Result};

/// So many may wait for their turn, beside a node's own refreshing.
const MOST_WAITING: usize = 64;

/// Unless told otherwise.
const AT_ONCE: usize = 4;

/// A long operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A training set is made.
    Train,
    /// A recorded one is made again.
    Rebuild,
    /// Files are loaded.
    Load,
    /// Views are brought up to date because somebody asked.
    Materialize,
    /// A view is brought up to date at its `refresh`.
    Refresh,
    /// All stores are copied.
    Backup,
    /// The serving log is answered again.
    Check,
    /// Definitions are held against the data.
    Plan,
    /// The same, to make them stand.
    Apply,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 9] = [
        Operation::Train,
        Operation::Rebuild,
        Operation::Load,
        Operation::Materialize,
        Operation::Refresh,
        Operation::Backup,
        Operation::Check,
        Operation::Plan,
        Operation::Apply,
    ];

    /// Its name, e.g. `train`.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Train => "train",
            Operation::Rebuild => "rebuild",
            Operation::Load => "load",
            Operation::Materialize => "materialize",
            Operation::Refresh => "refresh",
            Operation::Backup => "backup",
            Operation::Check => "check",
            Operation::Plan => "plan",
            Operation::Apply => "apply",
        }
    }

    /// Who writes definitions does not wait for hours of training: plans and applies have seats of their own.
    fn room(self) -> usize {
        usize::from(matches!(self, Operation::Plan | Operation::Apply))
    }
}

/// The seats of one node's long operations, as many for plans and applies as for all others.
#[derive(Debug, Clone)]
pub struct Operations {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    at_once: usize,
    rooms: [Room; 2],
    /// Running and waiting, in the order of [`Operation::ALL`].
    counts: Mutex<[(u64, u64); Operation::ALL.len()]>,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Room {
    seats: Arc<Semaphore>,
    /// Those who wait, but for the node's own refreshing.
    waiting: AtomicUsize,
}

/// How many operations of a sort there are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationCount {
    /// The sort.
    pub operation: Operation,
    /// How many have a seat.
    pub running: u64,
    /// How many wait for one.
    pub waiting: u64,
}

impl Default for Operations {
    fn default() -> Operations {
        Operations::new(AT_ONCE)
    }
}

impl Operations {
    /// So many at once, at least one.
    pub fn new(at_once: usize) -> Operations {
        let at_once = at_once.clamp(1, Semaphore::MAX_PERMITS);
        let room = || Room { seats: Arc::new(Semaphore::new(at_once)), waiting: AtomicUsize::new(0) };
        let inner =
            Inner { at_once, rooms: [room(), room()], counts: Mutex::default(), refused: AtomicU64::new(0) };
        Operations { inner: Arc::new(inner) }
    }

    /// How many go on at once.
    pub fn at_once(&self) -> usize {
        self.inner.at_once
    }

    /// What goes on and what waits, of every sort.
    pub fn counts(&self) -> Vec<OperationCount> {
        let counts = *self.inner.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = Operation::ALL.into_iter().zip(counts);
        counts.map(|(operation, (running, waiting))| OperationCount { operation, running, waiting }).collect()
    }

    /// How many were refused since the node began.
    pub fn refused(&self) -> u64 {
        self.inner.refused.load(Ordering::Relaxed)
    }

    /// Refuses an operation that [`Operations::enter`] would refuse, before any work for it is done.
    ///
    /// # Errors
    /// [`FlowError::Busy`].
    pub fn admit(&self, operation: Operation) -> Result<()> {
        let room = &self.inner.rooms[operation.room()];
        match room.seats.available_permits() == 0 && room.waiting.load(Ordering::Relaxed) >= MOST_WAITING {
            true => Err(self.busy(operation)),
            false => Ok(()),
        }
    }

    /// Takes a seat, waiting for one where none is free. Dropped on its way it waits no longer; `waits` is told
    /// where it has to.
    ///
    /// # Errors
    /// [`FlowError::Busy`] where too many wait already; [`FlowError::Stopping`].
    pub async fn enter(
        &self,
        operation: Operation,
        stop: &CancellationToken,
        waits: impl FnOnce(),
    ) -> Result<Seat> {
        let room = &self.inner.rooms[operation.room()];
        if let Ok(permit) = Arc::clone(&room.seats).try_acquire_owned() {
            return Ok(self.seat(operation, permit));
        }
        let bounded = operation != Operation::Refresh;
        if bounded && room.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            room.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(self.busy(operation));
        }
        let _waiting = Waiting { operations: self, operation, bounded };
        self.count(operation, |(_, waiting)| *waiting += 1);
        waits();
        tokio::select! {
            permit = Arc::clone(&room.seats).acquire_owned() => {
                let permit = permit.map_err(|_| FlowError::Stopping)?;
                Ok(self.seat(operation, permit))
            }
            () = stop.cancelled() => Err(FlowError::Stopping),
        }
    }

    fn seat(&self, operation: Operation, permit: OwnedSemaphorePermit) -> Seat {
        self.count(operation, |(running, _)| *running += 1);
        Seat { operations: self.clone(), operation, _permit: permit }
    }

    fn busy(&self, operation: Operation) -> FlowError {
        self.inner.refused.fetch_add(1, Ordering::Relaxed);
        FlowError::Busy { operation: operation.name(), at_once: self.inner.at_once, waiting: MOST_WAITING }
    }

    fn count(&self, operation: Operation, change: impl FnOnce(&mut (u64, u64))) {
        let mut counts = self.inner.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Operation::ALL.iter().position(|other| *other == operation);
        if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
            change(count);
        }
    }
}

/// Counts one who waits down, however the waiting ends.
struct Waiting<'a> {
    operations: &'a Operations,
    operation: Operation,
    bounded: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.operations.count(self.operation, |(_, waiting)| *waiting = waiting.saturating_sub(1));
        if self.bounded {
            self.operations.inner.rooms[self.operation.room()].waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The right of one operation to go on. The next takes it when it is dropped.
#[derive(Debug)]
pub struct Seat {
    operations: Operations,
    operation: Operation,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.operations.count(self.operation, |(running, _)| *running = running.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use asof_model::{Explain as _, Kind};
    use tokio::task::JoinSet;

    use super::*;

    fn now(operations: &Operations, operation: Operation) -> (u64, u64) {
        let found = operations.counts().into_iter().find(|count| count.operation == operation).unwrap();
        (found.running, found.waiting)
    }

    #[tokio::test]
    async fn the_first_come_is_the_first_to_go_on() {
        let operations = Operations::new(1);
        let stop = CancellationToken::new();
        let first = operations.enter(Operation::Train, &stop, || panic!("there is a seat")).await.unwrap();
        // Definitions are written meanwhile.
        drop(operations.enter(Operation::Plan, &stop, || panic!("there is a seat")).await.unwrap());
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for number in 0..10 {
            let (operations, stop, order) = (operations.clone(), stop.clone(), Arc::clone(&order));
            let waits = Arc::new(AtomicBool::new(false));
            let told = Arc::clone(&waits);
            tasks.spawn(async move {
                let told = || told.store(true, Ordering::Release);
                let _seat = operations.enter(Operation::Load, &stop, told).await.unwrap();
                order.lock().unwrap().push(number);
            });
            while !waits.load(Ordering::Acquire) {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(now(&operations, Operation::Train), (1, 0));
        assert_eq!(now(&operations, Operation::Load), (0, 10));
        drop(first);
        tasks.join_all().await;
        assert_eq!(*order.lock().unwrap(), (0..10).collect::<Vec<_>>());
        assert_eq!(now(&operations, Operation::Load), (0, 0));
    }

    #[tokio::test]
    async fn past_those_who_wait_it_is_refused() {
        let operations = Operations::new(2);
        let stop = CancellationToken::new();
        let _seats = [
            operations.enter(Operation::Train, &stop, || {}).await.unwrap(),
            operations.enter(Operation::Backup, &stop, || {}).await.unwrap(),
        ];
        let mut tasks = JoinSet::new();
        for _ in 0..MOST_WAITING {
            operations.admit(Operation::Train).unwrap();
            let (operations, stop) = (operations.clone(), stop.clone());
            tasks.spawn(async move { operations.enter(Operation::Train, &stop, || {}).await.map(drop) });
            tokio::task::yield_now().await;
        }
        while now(&operations, Operation::Train).1 < MOST_WAITING as u64 {
            tokio::task::yield_now().await;
        }
        let error = operations.enter(Operation::Load, &stop, || {}).await.unwrap_err();
        assert_eq!(operations.admit(Operation::Load).unwrap_err().to_string(), error.to_string());
        assert_eq!((error.kind(), error.code()), (Kind::Exhausted, "too_many_operations"));
        assert_eq!(
            error.to_string(),
            "the node does as many long operations at once as it may (2), and 64 more wait for their turn: this one \
             (load) was not begun"
        );
        assert_eq!(operations.refused(), 2);
        // The node's own refreshing waits, whoever else does.
        let mut refreshing = Box::pin(operations.enter(Operation::Refresh, &stop, || {}));
        assert!(futures::poll!(&mut refreshing).is_pending());
        assert_eq!(now(&operations, Operation::Refresh), (0, 1));
        drop(refreshing);
        // Who goes away waits no longer.
        assert_eq!(now(&operations, Operation::Refresh), (0, 0));
        stop.cancel();
        for ended in tasks.join_all().await {
            assert_eq!(ended.unwrap_err().code(), "stopping");
        }
        assert_eq!(now(&operations, Operation::Train), (1, 0));
        operations.admit(Operation::Load).unwrap();
    }
}
