//! One unit's rows on their way into a generation, in bounded memory.

use std::sync::Arc;

use asof_compute::{Keeping, Op, RowLayout, arrow_type};
use asof_engine::rows::{EvaluatedRows, UnitRead};
use asof_model::{Address, History, Timestamp, ViewVersion};
use asof_online::{Commit, Committed, Generation, GenerationId, GenerationState, Horizon, RowBatch};
use tokio::sync::mpsc;

use crate::{Flow, FlowError, Result};

/// Where a unit's rows go before it is through.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A generation that readers take: what does not fit into memory waits in one that they do not.
    Live,
    /// One that is built aside: straight in, with a word that the unit is half read.
    Building {
        /// The word.
        stamp: String,
    },
}

/// What rows a materialisation keeps.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// Its T.
    now: Timestamp,
    keeping: Keeping,
}

impl Terms {
    /// As of this T. Facts without a clock are all kept, since a second row of a key is an error
    /// whatever its v.
    pub(crate) fn at(view: &ViewVersion, now: Timestamp, clockless: bool) -> Terms {
        let history = if clockless { History::All } else { view.definition.history };
        Terms { now, keeping: Keeping::at(now, history, view.definition.retention) }
    }

    fn horizon(&self) -> Horizon {
        Horizon(self.keeping.horizon)
    }
}

/// What a unit came to.
pub(crate) struct Written {
    pub(crate) record: Generation,
    pub(crate) pushed: u64,
    pub(crate) added: u64,
    pub(crate) removed: u64,
}

/// Takes the rows of one unit.
pub(crate) struct Writer {
    flow: Flow,
    view: Address,
    unit: Vec<u8>,
    layout: RowLayout,
    record: Generation,
    /// The record while the unit is on its way: with what rows are judged by, without counts of it.
    begun: Generation,
    terms: Terms,
    target: Target,
    batch: RowBatch,
    staging: Option<GenerationId>,
    pushed: u64,
    done: Committed,
}

impl Writer {
    pub(crate) fn new(
        flow: &Flow,
        view: &ViewVersion,
        mut record: Generation,
        terms: Terms,
        target: Target,
        unit: &str,
    ) -> Result<Writer> {
        let types: Vec<_> = view.features.iter().map(|feature| arrow_type(&feature.data_type)).collect();
        let layout =
            RowLayout::new(&types).map_err(|source| FlowError::Row { view: view.address.clone(), source })?;
        record.horizon = record.horizon.max(terms.keeping.horizon);
        record.judged_at = record.judged_at.max(terms.now);
        Ok(Writer {
            flow: flow.clone(),
            view: view.address.clone(),
            unit: unit.as_bytes().to_vec(),
            layout,
            batch: RowBatch::new(record.id),
            begun: record.clone(),
            record,
            terms,
            target,
            staging: None,
            pushed: 0,
            done: Committed::default(),
        })
    }

    /// Takes rows until there are no more.
    pub(crate) fn drain(
        mut self,
        mut from: mpsc::Receiver<EvaluatedRows>,
        tell: &dyn Fn(u64),
    ) -> Result<Writer> {
        while let Some(rows) = from.blocking_recv() {
            let put = self.put(&rows);
            if let Err(error) = put {
                // The store's error is the one to tell; what is staged goes at the next start.
                drop(self.give_up());
                return Err(error);
            }
            tell(self.pushed);
        }
        Ok(self)
    }

    fn put(&mut self, rows: &EvaluatedRows) -> Result<()> {
        let row_error = |source| FlowError::Row { view: self.view.clone(), source };
        let encoder = match rows.op {
            Op::Value => Some(self.layout.encoder(&rows.features).map_err(row_error)?),
            Op::Delete => None,
        };
        for row in 0..rows.len() {
            let order = rows.order(row);
            if self.terms.keeping.is_past(order.event_time) {
                self.record.past_retention += 1;
                continue;
            }
            let known_from = order.event_time.max(order.visible_at);
            if known_from <= self.terms.now && known_from != Timestamp::BEFORE_ALL {
                self.record.newest = self.record.newest.max(Some(known_from));
            }
            self.batch.push(rows.keys.value(row), &order, rows.valid_until(row), None, |out| {
                encoder.as_ref().map_or(Ok(()), |encoder| encoder.encode(row, out)).map_err(row_error)
            })?;
            self.pushed += 1;
        }
        if self.batch.bytes() >= self.flow.batch_bytes { self.flush() } else { Ok(()) }
    }

    /// Commits what is gathered, where no reader sees it.
    fn flush(&mut self) -> Result<()> {
        let store = Arc::clone(&self.flow.online);
        match &self.target {
            Target::Building { stamp } => {
                let done = store.commit(&Commit {
                    // With the rows that it lets go of: a clock set back must not ask before them.
                    generations: std::slice::from_ref(&self.begun),
                    rows: Some(&self.batch),
                    horizon: self.terms.horizon(),
                    progress: &[(self.record.id, &self.unit, stamp.as_bytes())],
                    ..Commit::default()
                })?;
                self.done.added += done.added;
                self.done.removed += done.removed;
            }
            Target::Live => {
                let staging = match self.staging {
                    Some(staging) => staging,
                    None => {
                        let (view, version) = (self.record.view.clone(), self.record.version.clone());
                        let views = &self.flow.views;
                        let record = views.number(store.as_ref(), view, version, GenerationState::Staging)?;
                        *self.staging.insert(record.id)
                    }
                };
                self.batch.retarget(staging);
                // What does not win among the rows of the unit does not win among all.
                let horizon = self.terms.horizon();
                store.commit(&Commit { rows: Some(&self.batch), horizon, ..Commit::default() })?;
                self.batch.retarget(self.record.id);
            }
        }
        self.batch.clear();
        Ok(())
    }

    /// Commits the rest with the word that the unit was read.
    pub(crate) fn finish(mut self, read: &UnitRead) -> Result<Written> {
        self.record.null_keys += read.null_keys;
        self.record.never_known += read.never_known;
        let store = Arc::clone(&self.flow.online);
        let done = store.commit(&Commit {
            generations: std::slice::from_ref(&self.record),
            rows: Some(&self.batch),
            merge: self.staging.map(|staging| (staging, self.record.id)),
            horizon: self.terms.horizon(),
            progress: &[(self.record.id, &self.unit, &read.seen)],
            ..Commit::default()
        });
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                drop(self.give_up());
                return Err(error.into());
            }
        };
        // The unit is in: what is left of its way in goes another time, if not now.
        if let Some(staging) = self.staging.take()
            && let Err(error) = store.drop_generation(staging)
        {
            tracing::warn!(view = %self.view, %error, "staged rows could not be let go of");
        }
        Ok(Written {
            record: self.record,
            pushed: self.pushed,
            added: self.done.added + done.added,
            removed: self.done.removed + done.removed,
        })
    }

    /// Lets go of what was staged.
    pub(crate) fn give_up(&mut self) -> Result<()> {
        match self.staging.take() {
            Some(staging) => Ok(self.flow.online.drop_generation(staging)?),
            None => Ok(()),
        }
    }
}
