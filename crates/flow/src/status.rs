//! How views stand online: `asof status` and `/metrics`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use asof_engine::rows::{Unit, ViewProgress};
use asof_model::{Address, Length, Name, Principal, Timestamp, VersionId};
use asof_online::{Generation, GenerationState, OnlineStore};
use asof_registry::RunError;
use serde::Serialize;

use crate::load::may_see;
use crate::materialize::next_record;
use crate::{Flow, FlowError, Result};

/// How one view stands online.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ViewStatus {
    /// The view.
    pub view: Address,
    /// Its version.
    pub version: VersionId,
    /// Whether this version answers online.
    pub materialized: bool,
    /// The generation that answers.
    pub generation: Option<u32>,
    /// Rows online.
    pub rows: u64,
    /// Entities online.
    pub keys: u64,
    /// The greatest `max(e, v)` of its rows that is not in the future.
    pub newest: Option<Timestamp>,
    /// Microseconds since then.
    pub age_micros: Option<i64>,
    /// When it was last brought up to date.
    pub succeeded_at: Option<Timestamp>,
    /// Microseconds since then.
    pub success_age_micros: Option<i64>,
    /// How often a running node brings it up to date.
    pub refresh: Option<Length>,
    /// Why the last attempt failed; none where it did not.
    pub last_error: Option<ViewFailure>,
    /// Source rows that are not online yet; none where that is not known without reading them.
    pub rows_behind: Option<u64>,
    /// Units (files, stretches of stored sources) that are not online yet.
    pub units_behind: u64,
    /// Rows seen that are never visible.
    pub never_known: u64,
    /// Rows seen that belong to no entity.
    pub null_keys: u64,
    /// Rows seen that are older than the view's retention.
    pub past_retention: u64,
}

/// Why a view could not be brought up to date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ViewFailure {
    /// When.
    pub at: Timestamp,
    /// What the error says.
    #[serde(flatten)]
    pub error: RunError,
}

/// What this process knows of views beside the store.
#[derive(Debug, Default)]
pub(crate) struct Views {
    known: Mutex<BTreeMap<Address, Known>>,
    numbering: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    gate: Arc<tokio::sync::Mutex<()>>,
    failure: Option<ViewFailure>,
}

impl Views {
    /// Held while a view is brought up to date.
    pub(crate) fn gate(&self, view: &Address) -> Arc<tokio::sync::Mutex<()>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known.entry(view.clone()).or_default().gate)
    }

    /// Keeps how an attempt ended.
    pub(crate) fn ended(&self, view: &Address, at: Timestamp, error: Option<&FlowError>) {
        let failure = error.map(|error| ViewFailure { at, error: RunError::of(error) });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(view.clone()).or_default().failure = failure;
    }

    fn failure(&self, view: &Address) -> Option<ViewFailure> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(view).and_then(|known| known.failure.clone())
    }

    /// Makes a new generation's record, with a number of its own.
    pub(crate) fn number(
        &self,
        store: &dyn OnlineStore,
        view: Address,
        version: VersionId,
        state: GenerationState,
    ) -> Result<Generation> {
        let _alone = self.numbering.lock().unwrap_or_else(PoisonError::into_inner);
        next_record(store, view, version, state)
    }
}

impl Flow {
    /// How the views of a project stand online, or those of all projects; in order of their names.
    ///
    /// # Errors
    /// [`FlowError::Forbidden`]; [`FlowError::Online`] where the store cannot be read. A source that
    /// cannot be looked at only leaves `rows_behind` unknown.
    pub async fn status(&self, principal: &Principal, project: Option<&Name>) -> Result<Vec<ViewStatus>> {
        if let Some(project) = project {
            may_see(principal, project)?;
        }
        let catalog = self.registry.catalog();
        let records = self.generations().await?;
        let now = self.clock.now();
        let mut all = Vec::new();
        for view in catalog.views() {
            let hidden =
                principal.projects.as_ref().is_some_and(|seen| !seen.contains(&view.address.project));
            if hidden || project.is_some_and(|project| *project != view.address.project) {
                continue;
            }
            let live = records.iter().rfind(|record| {
                record.view == view.address
                    && record.version == view.id
                    && record.state == GenerationState::Live
            });
            let (usage, read) = match live {
                Some(live) => (Some(self.usage_of(live.id).await?), self.read_of(live).await?),
                None => (None, ViewProgress::default()),
            };
            let behind = self.engine.rows(&catalog, view, &read).await.ok();
            let units = behind.as_ref().map(|rows| rows.units()).unwrap_or_default();
            let since = |at: Timestamp| now.0.saturating_sub(at.0).max(0);
            let newest = live.and_then(|live| live.newest);
            let succeeded_at = live.and_then(|live| live.succeeded_at);
            all.push(ViewStatus {
                view: view.address.clone(),
                version: view.id.clone(),
                materialized: live.is_some(),
                generation: live.map(|live| live.id.0),
                rows: usage.map_or(0, |usage| usage.rows),
                keys: usage.map_or(0, |usage| usage.keys),
                newest,
                age_micros: newest.map(since),
                succeeded_at,
                success_age_micros: succeeded_at.map(since),
                refresh: view.definition.refresh,
                last_error: self.views.failure(&view.address),
                rows_behind: behind.as_ref().and_then(|_| units.iter().map(Unit::rows).sum()),
                units_behind: units.len() as u64,
                never_known: live.map_or(0, |live| live.never_known),
                null_keys: live.map_or(0, |live| live.null_keys),
                past_retention: live.map_or(0, |live| live.past_retention),
            });
        }
        Ok(all)
    }

    async fn read_of(&self, live: &Generation) -> Result<ViewProgress> {
        Ok(self.progress_of(live.id).await?.read)
    }
}
