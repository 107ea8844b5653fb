//! Long operations in progress: how far each is, for whoever asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use asof_engine::{Progress, ProgressEvent};
use serde::{Deserialize, Serialize};

use crate::error::FailureBody;

/// How far an operation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// What is being done.
    pub phase: String,
    /// How much of it is done.
    pub done: u64,
    /// How much there is, where that is known.
    pub total: Option<u64>,
    /// `rows` or `bytes`.
    pub unit: String,
}

#[derive(Debug, Default)]
struct Entry {
    stage: Option<ProgressEvent>,
    training_set: Option<String>,
    failure: Option<FailureBody>,
}

/// What is known of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) stage: Option<Stage>,
    pub(crate) training_set: Option<String>,
    pub(crate) failure: Option<FailureBody>,
}

/// The operations in progress and the newest that ended, by the id of their run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work {
    entries: Arc<Mutex<Entries>>,
}

#[derive(Debug, Default)]
struct Entries {
    by_run: HashMap<String, Entry>,
    order: std::collections::VecDeque<String>,
}

/// So many are remembered.
const REMEMBERED: usize = 1024;

impl Work {
    /// Where an operation reports its progress.
    pub(crate) fn progress(&self, run: &str) -> Progress {
        let (work, run) = (self.clone(), run.to_owned());
        work.with(&run, |_| ());
        Arc::new(move |event| work.with(&run, |entry| entry.stage = Some(event)))
    }

    /// A training made its set.
    pub(crate) fn made(&self, run: &str, training_set: &str) {
        self.with(run, |entry| entry.training_set = Some(training_set.to_owned()));
    }

    /// An operation failed after its answer began: who asks for the run learns why.
    pub(crate) fn failed(&self, run: &str, failure: FailureBody) {
        self.with(run, |entry| entry.failure = Some(failure));
    }

    /// What is known of a run; none where it is not known.
    pub(crate) fn of(&self, run: &str) -> Option<Known> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.by_run.get(run)?;
        let stage = entry.stage.as_ref().map(|event| Stage {
            phase: event.phase.to_owned(),
            done: event.done,
            total: event.total,
            unit: event.unit.to_owned(),
        });
        Some(Known { stage, training_set: entry.training_set.clone(), failure: entry.failure.clone() })
    }

    fn with(&self, run: &str, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if !entries.by_run.contains_key(run) {
            entries.order.push_back(run.to_owned());
            if entries.order.len() > REMEMBERED
                && let Some(oldest) = entries.order.pop_front()
            {
                entries.by_run.remove(&oldest);
            }
        }
        change(entries.by_run.entry(run.to_owned()).or_default());
    }
}
