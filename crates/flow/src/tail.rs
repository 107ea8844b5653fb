//! The intake log as the engine reads it.

use std::sync::Arc;

use asof_compute::Position;
use asof_engine::delta::{HeldTail, LiveBatch, LiveTail};
use asof_online::live::{LiveStore, LogEntry, LogSnapshot};

use crate::numbers;

/// The log of a store of live rows. Positions up to the floor that the store was opened with stand in tables.
#[derive(Debug)]
pub(crate) struct StoreTail {
    store: Arc<dyn LiveStore>,
    floor: Position,
}

impl StoreTail {
    pub(crate) fn new(store: Arc<dyn LiveStore>, floor: Position) -> StoreTail {
        StoreTail { store, floor }
    }
}

impl LiveTail for StoreTail {
    fn hold(&self) -> asof_engine::Result<Box<dyn HeldTail>> {
        let log = self.store.log().map_err(|error| asof_engine::Error::live(&error))?;
        let end = log.end().max(self.floor);
        Ok(Box::new(Held { store: Arc::clone(&self.store), log, end }))
    }
}

struct Held {
    store: Arc<dyn LiveStore>,
    log: Box<dyn LogSnapshot>,
    end: Position,
}

impl HeldTail for Held {
    fn end(&self) -> Position {
        self.end
    }

    fn batches(
        &self,
        table: &str,
        after: Position,
        each: &mut dyn FnMut(LiveBatch<'_>) -> asof_engine::Result<bool>,
    ) -> asof_engine::Result<()> {
        let live = |error: asof_online::Error| asof_engine::Error::live(&error);
        // A number is given once and before the first row, so what has none now has no row in the log.
        let number =
            numbers::of(self.store.as_ref(), table).map_err(|error| asof_engine::Error::live(&error))?;
        let Some(source) = number else { return Ok(()) };
        // The caller's error passes through the store beside its own.
        let mut failed = None;
        let read = self.log.entries(after, Some(source), &mut |entry| {
            let LogEntry { visible_at, first, count, rows, .. } = entry;
            match each(LiveBatch { visible_at, first, count, rows }) {
                Ok(more) => Ok(more),
                Err(error) => {
                    failed = Some(error);
                    Ok(false)
                }
            }
        });
        match failed {
            Some(error) => Err(error),
            None => read.map_err(live),
        }
    }
}
