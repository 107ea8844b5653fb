//! Groups: all batches that wait are written, made durable by one fsync, published and acknowledged
//! together. One thread writes and one publishes, so that a group goes to disk while the one before is put
//! into the tables.

use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use super::engine::{Refusal, Shared, State, Waiting, locked, wait};
use super::log::{Before, Failure, LogWriter};
use super::record::Record;
use crate::Result;

/// Bytes that one group takes at most, past its first batch.
const GROUP: usize = 8 << 20;
/// Parts of memory that wait to be written before publishing waits for them.
const ENDED: usize = 3;

/// A group that is written.
pub(super) struct Written {
    batches: Vec<Waiting>,
    last: Before,
}

/// Waits until what has this ticket is acknowledged or refused.
pub(super) fn acknowledged(shared: &Shared, ticket: u64) -> Result<()> {
    let mut state = locked(&shared.state);
    loop {
        if let Some(refusal) = state.refused.remove(&ticket) {
            return Err(match refusal {
                Refusal::Full => shared.full(),
                Refusal::Stopped(reason) => shared.stopped(reason),
            });
        }
        if state.finished >= ticket {
            return Ok(());
        }
        state = wait(&shared.done, state);
    }
}

/// Waits until everything written up to now is durable.
pub(super) fn sync(shared: &Shared) -> Result<()> {
    let mut state = locked(&shared.state);
    let to = state.published.number;
    while state.durable < to {
        if let Some(reason) = &state.stopped {
            return Err(shared.stopped(reason.clone()));
        }
        state.wants_sync = true;
        shared.work.notify_all();
        state = wait(&shared.done, state);
    }
    Ok(())
}

/// The thread that writes the log, until the store is closed or has stopped.
pub(super) fn write(shared: &Shared, mut log: LogWriter, written: &Sender<Written>) {
    loop {
        let mut state = locked(&shared.state);
        while state.queue.is_empty() && !state.wants_sync && !state.closing && state.stopped.is_none() {
            if !log.is_ahead() {
                state = wait(&shared.work, state);
                continue;
            }
            // A relaxed batch is durable within a second, also where none follows.
            let waited = shared.work.wait_timeout(state, Duration::from_secs(1));
            let (next, time) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            state = next;
            state.wants_sync |= time.timed_out();
        }
        if let Some(reason) = state.stopped.clone() {
            drop(state);
            refuse(shared, Vec::new(), &Refusal::Stopped(reason));
            return;
        }
        let closing = state.queue.is_empty() && state.closing;
        let mut batches = Vec::new();
        let mut bytes = 0;
        while bytes < GROUP
            && let Some(batch) = state.queue.pop_front()
        {
            bytes += batch.record.len();
            batches.push(batch);
        }
        let sync = closing || state.wants_sync || batches.iter().any(|batch| batch.sync);
        drop(state);

        let began = Instant::now();
        match append(shared, &mut log, &mut batches, bytes, sync) {
            Ok(durable) => {
                let mut state = locked(&shared.state);
                state.durable = durable;
                if !log.is_ahead() {
                    state.sequence.durable(log.last().v);
                }
                if sync {
                    state.wants_sync = false;
                }
                state.written = batches.last().map_or(state.written, |batch| batch.ticket);
                let taken = began.elapsed().as_micros().max(1) as u64;
                if bytes > 0 {
                    state.rate = (state.rate * 7 + bytes as u64 * 1_000_000 / taken) / 8;
                }
                drop(state);
                shared.done.notify_all();
                if !batches.is_empty() && written.send(Written { batches, last: log.last() }).is_err() {
                    return;
                }
            }
            Err(Failure::Full) => refuse(shared, batches, &Refusal::Full),
            Err(Failure::Broken(reason)) => {
                shared.stop(&reason);
                refuse(shared, batches, &Refusal::Stopped(reason));
                return;
            }
        }
        if closing {
            return;
        }
    }
}

/// The last record that is durable then.
fn append(
    shared: &Shared,
    log: &mut LogWriter,
    batches: &mut [Waiting],
    bytes: usize,
    sync: bool,
) -> Result<u64, Failure> {
    if bytes > 0 {
        // Room is left for what memory holds, so that what was accepted can be written to tables.
        if shared.room().is_some_and(|room| room < bytes as u64) {
            return Err(Failure::Full);
        }
        if let Some(segment) = log.roll(&shared.fsync)? {
            locked(&shared.state).segments.push(segment);
        }
        let mut records =
            batches.iter_mut().map(|batch| &mut batch.record).filter(|record| !record.is_empty());
        log.append(&mut records, sync, &shared.fsync)?;
    } else if sync {
        log.sync(&shared.fsync)?;
    }
    Ok(log.durable())
}

/// Refuses these batches and all that wait behind them: they may stand on versions that these made.
fn refuse(shared: &Shared, batches: Vec<Waiting>, refusal: &Refusal) {
    let mut state = locked(&shared.state);
    state.refusing = true;
    shared.done.notify_all();
    // Those before are durable; what they made of ids is known from the tables once they are published.
    while state.finished < state.written {
        state = wait(&shared.done, state);
    }
    let behind = std::mem::take(&mut state.queue);
    for batch in batches.iter().chain(&behind) {
        state.refused.insert(batch.ticket, refusal.clone());
    }
    state.refusing = false;
    state.refusals += 1;
    state.versions.clear();
    state.keys.clear();
    state.counts.clear();
    state.waiting_v.clear();
    state.waiting_bytes = 0;
    state.written = state.ticket;
    state.finished = state.ticket;
    drop(state);
    shared.done.notify_all();
}

/// The thread that publishes what was written, in order, until there is no more.
pub(super) fn publish(shared: &Shared, written: &Receiver<Written>) {
    while let Ok(group) = written.recv() {
        let records = || group.batches.iter().filter_map(|batch| Record::parse(&batch.record));
        let size = if records().next().is_some() {
            match shared.tree.apply(records().flat_map(|record| record.entries())) {
                Ok(size) => size,
                Err(error) => {
                    shared.stop(&shared.tree("read")(error).to_string());
                    0
                }
            }
        } else {
            0
        };
        let mut state = locked(&shared.state);
        let stopped = state.stopped.is_some();
        if let Some(reason) = state.stopped.clone() {
            for batch in &group.batches {
                state.refused.insert(batch.ticket, Refusal::Stopped(reason.clone()));
            }
        } else {
            shared.tree.publish();
            state.published = group.last;
        }
        finish(&mut state, &group.batches);
        drop(state);
        shared.done.notify_all();
        // What is not published must not come to a table: it would take the place of what is.
        if size > shared.options.memory as u64 && !stopped {
            end_memory(shared, group.last.number);
        }
    }
}

/// What is known of these batches is known from the tables from now on.
fn finish(state: &mut State, batches: &[Waiting]) {
    for batch in batches {
        state.versions.published(&batch.ids, batch.ticket);
        if let Some(key) = &batch.key {
            state.keys.published(key, batch.ticket);
        }
        batch.counts.iter().for_each(|count| state.counts.published(count, batch.ticket));
        state.waiting_bytes = state.waiting_bytes.saturating_sub(batch.record.len());
        state.finished = batch.ticket;
    }
    while state.waiting_v.front().is_some_and(|(ticket, _)| *ticket <= state.finished) {
        state.waiting_v.pop_front();
    }
}

/// Ends the part of memory that is full, and waits while too many wait to be written.
fn end_memory(shared: &Shared, record: u64) {
    let mut state = locked(&shared.state);
    // Tables must not know what the log may lose, as it may a relaxed batch.
    while state.durable < record {
        // Who refuses waits for what is published here; the next group ends it.
        if state.refusing || state.closing || state.stopped.is_some() {
            return;
        }
        state.wants_sync = true;
        shared.work.notify_all();
        let waited = shared.done.wait_timeout(state, Duration::from_millis(50));
        state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
    }
    drop(state);
    shared.tree.rotate(record);
    let mut state = locked(&shared.state);
    state.rotated = record;
    shared.chores.notify_all();
    while shared.tree.waiting() > ENDED
        && !(state.full || state.refusing || state.closing || state.stopped.is_some())
    {
        let waited = shared.done.wait_timeout(state, Duration::from_millis(50));
        state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
    }
}
