//! What goes on beside intake: memory written to tables, tables merged, T's lease, old answers swept, files
//! of the log let go of.

use std::sync::PoisonError;
use std::time::Duration;

use super::engine::{LEASE, Shared, locked};
use super::{intake, log, tree};

/// How often it looks without being told to.
const TICK: Duration = Duration::from_millis(250);
/// How far below the rest of the process tables are merged.
const NICENESS: i32 = 10;
/// Ticks, at least, between looks for answers that are past their time.
const SWEEP: u64 = 240;

/// The thread that keeps memory and files in order, until the store is closed or has stopped. It never waits
/// for a batch to be published: publishing waits for it.
pub(super) fn keep(shared: &Shared) {
    loop {
        let state = locked(&shared.state);
        if state.closing || state.stopped.is_some() {
            return;
        }
        let state = if shared.tree.waiting() > 0 && !state.full {
            state
        } else {
            shared.chores.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0
        };
        if state.closing || state.stopped.is_some() {
            return;
        }
        let wanted = state.sequence.wants_lease(LEASE);
        let full = state.full;
        drop(state);
        if shared.tree.waiting() > 0 {
            flush(shared);
        } else if full {
            set_full(shared, false);
        }
        if let Some(t) = wanted {
            // Where it cannot be written, who asks for T is told.
            shared.extend_lease(t, LEASE / 2).ok();
        }
    }
}

/// Writes what memory ended.
fn flush(shared: &Shared) {
    let record = locked(&shared.state).rotated;
    let needed = shared.tree.waiting() as u64 * shared.options.memory as u64;
    if shared.room().is_some_and(|room| room + shared.reserve() < needed) {
        return set_full(shared, true);
    }
    match shared.tree.flush() {
        Ok(()) => {
            let mut state = locked(&shared.state);
            state.flushed = state.flushed.max(record);
            state.full = false;
            drop(state);
            if let Err(error) = shared.drop_segments() {
                tracing::warn!(%error, "a file of the live store's log cannot be removed");
            }
            shared.done.notify_all();
            shared.chores.notify_all();
            // Who merges may not come to it for long.
            shared.tree.release();
        }
        Err(error) => failed(shared, error),
    }
}

fn set_full(shared: &Shared, full: bool) {
    let mut state = locked(&shared.state);
    if full && !state.full {
        tracing::warn!("no space is left on the disk of the live store");
    }
    state.full = full;
    drop(state);
    shared.done.notify_all();
}

fn failed(shared: &Shared, error: tree::Error) {
    match &error {
        tree::Error::Tree(lsm_tree::Error::Io(io)) if log::no_space(io) => set_full(shared, true),
        _ => shared.stop(&shared.tree("write to")(error).to_string()),
    }
}

/// The thread that merges tables and sweeps, until the store is closed or has stopped.
pub(super) fn merge(shared: &Shared) {
    // Whoever waits for an answer comes before it; where that is not permitted it merges as all else runs.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "tables are merged at the process's own priority");
    }
    for tick in 0_u64.. {
        let mut state = locked(&shared.state);
        if !state.closing && state.stopped.is_none() {
            state = shared.chores.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.closing || state.stopped.is_some() {
            return;
        }
        drop(state);
        shared.tree.release();
        if tick % SWEEP == 1 {
            while matches!(intake::sweep(shared), Ok(super::keys::STEP)) {}
        }
        loop {
            let state = locked(&shared.state);
            // Merging needs room for what it merges until that is done.
            let wait = state.closing || state.stopped.is_some() || state.full;
            drop(state);
            if wait || shared.room().is_some_and(|room| room < shared.tree.table_bytes().min(1 << 30)) {
                break;
            }
            match shared.tree.compact() {
                // Files that were merged before take room until then.
                Ok(true) => shared.tree.release(),
                Ok(false) => break,
                Err(error) => {
                    failed(shared, error);
                    break;
                }
            }
        }
    }
}
