//! How views stand online: `asof status`, `/metrics` and `/ready`. What is asked again and again is answered
//! from records; only who asks for the status looks at sources, one look at a time of each view.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use asof_engine::Error as EngineError;
use asof_engine::rows::{Unit, ViewProgress};
use asof_model::{Address, Catalog, Length, Name, Principal, Timestamp, VersionId, ViewVersion};
use asof_online::views::{Counted, LiveGeneration};
use asof_online::{Generation, GenerationId, GenerationState, OnlineStore};
use asof_registry::RunError;
use serde::Serialize;

use crate::live_views::{has_versions, is_live, is_pushed};
use crate::load::may_see;
use crate::materialize::{blocking, next_record};
use crate::refresh::kept_online;
use crate::{Flow, FlowError, Result};

/// How long who asks for the status waits for the sources to be looked at.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// Rows online; none of a view in the live store, where that is not known without reading them.
    pub rows: Option<u64>,
    /// Entities online; none as of `rows`.
    pub keys: Option<u64>,
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
    /// Why the last attempt failed or, where it did not, why the source cannot be looked at; none where neither is so.
    pub last_error: Option<ViewFailure>,
    /// Source rows that are not online yet; none where that is not known without reading them.
    pub rows_behind: Option<u64>,
    /// Units (files, stretches of stored sources) that are not online yet; none where the source was never looked at, or
    /// cannot be.
    pub units_behind: Option<u64>,
    /// Microseconds since the source was looked at for these two; none where it never was.
    pub behind_age_micros: Option<i64>,
    /// Rows seen that are never visible.
    pub never_known: u64,
    /// Rows seen that belong to no entity.
    pub null_keys: u64,
    /// Rows that were older than the view's retention when they came or were read. They are kept offline.
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
    looking: Arc<tokio::sync::Mutex<()>>,
    failure: Option<ViewFailure>,
    behind: Option<Behind>,
    /// When a version was last found to be up to date without anything to be put.
    current: Option<(VersionId, Timestamp)>,
}

/// What of a source was not online when it was looked at.
#[derive(Debug, Clone)]
pub(crate) struct Behind {
    version: VersionId,
    at: Timestamp,
    rows: Option<u64>,
    units: std::result::Result<u64, ViewFailure>,
}

impl Behind {
    /// These units were found to be new at that time.
    pub(crate) fn of(view: &ViewVersion, at: Timestamp, units: &[Unit]) -> Behind {
        let rows = units.iter().map(Unit::rows).sum();
        Behind { version: view.id.clone(), at, rows, units: Ok(units.len() as u64) }
    }

    /// All of the source is read anew; so many of its rows are new, where that is known.
    fn all_of_it(view: &ViewVersion, at: Timestamp, rows: Option<u64>) -> Behind {
        Behind { version: view.id.clone(), at, rows, units: Ok(1) }
    }

    /// The source could not be looked at.
    fn unknown(view: &ViewVersion, at: Timestamp, error: &EngineError) -> Behind {
        let failure = ViewFailure { at, error: RunError::of(error) };
        Behind { version: view.id.clone(), at, rows: None, units: Err(failure) }
    }

    fn failure(&self) -> Option<ViewFailure> {
        self.units.as_ref().err().cloned()
    }
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

    /// Keeps that a view is up to date, and nothing was to be put.
    pub(crate) fn is_current(&self, view: &ViewVersion, at: Timestamp) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(view.address.clone()).or_default().current = Some((view.id.clone(), at));
    }

    fn current(&self, view: &ViewVersion) -> Option<Timestamp> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, at) = known.get(&view.address)?.current.as_ref()?;
        (*version == view.id).then_some(*at)
    }

    /// Held while a view's source is looked at.
    fn looking(&self, view: &Address) -> Arc<tokio::sync::Mutex<()>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known.entry(view.clone()).or_default().looking)
    }

    /// Keeps what was found of a view's source, unless something later is known.
    pub(crate) fn looked(&self, view: &Address, behind: Behind) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = &mut known.entry(view.clone()).or_default().behind;
        if standing.as_ref().is_none_or(|it| it.version != behind.version || it.at <= behind.at) {
            *standing = Some(behind);
        }
    }

    fn behind(&self, view: &ViewVersion) -> Option<Behind> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = known.get(&view.address)?.behind.as_ref()?;
        (behind.version == view.id).then(|| behind.clone())
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
    /// How the views of a project stand online, or those of all projects; in order of their names. Each view's
    /// source is looked at first, for what is not online yet: where that takes long, what was found last is
    /// told, and the looking goes on.
    ///
    /// # Errors
    /// [`FlowError::Forbidden`]; [`FlowError::Online`] where the store cannot be read. A source that
    /// cannot be looked at is told in `last_error`.
    pub async fn status(&self, principal: &Principal, project: Option<&Name>) -> Result<Vec<ViewStatus>> {
        if let Some(project) = project {
            may_see(principal, project)?;
        }
        let looking = async {
            for view in seen(self, &self.registry.catalog(), principal, project) {
                self.look(&view.address).await;
            }
        };
        if tokio::time::timeout(PATIENCE, looking).await.is_err() {
            tracing::debug!("some sources take long to look at");
        }
        self.last_status(principal, project).await
    }

    /// The same from the records alone: no source is touched, and what is not online yet is what was found
    /// when somebody looked last.
    ///
    /// # Errors
    /// As [`Flow::status`].
    pub async fn last_status(
        &self,
        principal: &Principal,
        project: Option<&Name>,
    ) -> Result<Vec<ViewStatus>> {
        if let Some(project) = project {
            may_see(principal, project)?;
        }
        let catalog = self.registry.catalog();
        let records = self.generations().await?;
        let usage = self.usage().await?;
        let counted = self.counted().await?;
        let now = self.clock.now();
        let mut all = Vec::new();
        for view in seen(self, &catalog, principal, project) {
            let live = live_of(&records, view);
            let usage = live.and_then(|live| usage.generations.iter().find(|it| it.id == live.id));
            let behind = self.views.behind(view);
            let since = |at: Timestamp| now.0.saturating_sub(at.0).max(0);
            let newest = live.and_then(|live| live.newest);
            let lives = self.live_views.is_some() && is_live(&catalog, view);
            let lively = self.answers_live(view);
            let of_live = lively.as_ref().and_then(|it| counted.get(&it.record.id));
            let succeeded_at = live.and_then(|live| live.succeeded_at).or_else(|| {
                lively.as_ref().and_then(|it| it.record.succeeded_at).max(self.views.current(view))
            });
            let stale = catalog.source_of(view).err().map(|stale| RunError::of(&stale));
            let stale = stale.map(|error| ViewFailure { at: now, error });
            all.push(ViewStatus {
                view: view.address.clone(),
                version: view.id.clone(),
                materialized: live.is_some() || lively.is_some(),
                generation: live.map(|live| live.id.0).or(lively.as_ref().map(|it| it.record.id.0)),
                rows: if lives { None } else { Some(usage.map_or(0, |usage| usage.rows)) },
                keys: if lives { None } else { Some(usage.map_or(0, |usage| usage.keys)) },
                newest,
                age_micros: newest.map(since),
                succeeded_at,
                success_age_micros: succeeded_at.map(since),
                refresh: view.definition.refresh,
                last_error: stale
                    .or_else(|| self.views.failure(&view.address))
                    .or_else(|| behind.as_ref().and_then(Behind::failure)),
                rows_behind: behind.as_ref().and_then(|behind| behind.rows),
                units_behind: behind.as_ref().and_then(|behind| behind.units.as_ref().ok().copied()),
                behind_age_micros: behind.map(|behind| since(behind.at)),
                never_known: live
                    .map(|live| live.never_known)
                    .or_else(|| of_live.map(|of| of.never_known))
                    .unwrap_or(0),
                null_keys: live
                    .map(|live| live.null_keys)
                    .or_else(|| of_live.map(|of| of.null_keys))
                    .unwrap_or(0),
                past_retention: live
                    .map(|live| live.past_retention)
                    .or_else(|| of_live.map(|of| of.past_retention))
                    .unwrap_or(0),
            });
        }
        Ok(all)
    }

    /// What is counted of the generations of the live store.
    async fn counted(&self) -> Result<HashMap<GenerationId, Counted>> {
        let Some(live) = self.live_views.clone() else { return Ok(HashMap::new()) };
        let all = blocking(move || Ok(live.counted()?)).await;
        // A store that has stopped says so itself; how the views stand is told all the same.
        all.or_else(|error| match error {
            FlowError::Online(asof_online::Error::Stopped { .. }) => Ok(HashMap::new()),
            error => Err(error),
        })
    }

    /// The generation of the live store that answers for this version of a view.
    fn answers_live(&self, view: &ViewVersion) -> Option<Arc<LiveGeneration>> {
        self.live_views.as_ref()?.live(&view.address, &view.id)
    }

    /// How many views were not brought up yet and have not failed either, of how many; from the records alone.
    ///
    /// # Errors
    /// [`FlowError::Online`] where the store cannot be read.
    pub async fn starting(&self) -> Result<(usize, usize)> {
        let catalog = self.registry.catalog();
        let records = self.generations().await?;
        let waits = |view: &ViewVersion| {
            live_of(&records, view).is_none()
                && self.answers_live(view).is_none()
                && self.views.failure(&view.address).is_none()
                && catalog.source_of(view).is_ok()
        };
        let waiting = kept_online(self, &catalog).filter(|view| waits(view)).count();
        Ok((waiting, kept_online(self, &catalog).count()))
    }

    /// Looks at one view's source for what is not online yet, and keeps what was found. Where somebody looks
    /// already, that is waited for. It goes on where nobody waits for it any more, until the flow is closed.
    pub(crate) async fn look(&self, view: &Address) {
        let (flow, address, at) = (self.clone(), view.clone(), self.clock.now());
        let looking = self.in_task(async move {
            let gate = flow.views.looking(&address);
            let Ok(_alone) = gate.try_lock() else {
                drop(gate.lock().await);
                return Ok(());
            };
            tokio::select! {
                found = flow.look_alone(&address, at) => found,
                () = flow.stop.cancelled() => Err(FlowError::Stopping),
            }
        });
        if let Err(error) = looking.await {
            tracing::debug!(%view, %error, "what is not online yet is not known");
        }
    }

    async fn look_alone(&self, address: &Address, at: Timestamp) -> Result<()> {
        let catalog = self.registry.catalog();
        let Some(view) = catalog.view(address) else { return Ok(()) };
        let live = live_of(&self.generations().await?, view).map(|live| live.id);
        let looked = match (live, &self.live_views, self.answers_live(view)) {
            (_, Some(live), Some(lively)) if is_pushed(&catalog, view) => {
                let read = self.live_progress(live, lively.record.id).await?;
                let changed = self.engine.past_changed(&catalog, view, &read).await;
                changed.map(|changed| match changed {
                    None => Behind::of(view, at, &[]),
                    Some(_) => Behind::all_of_it(view, at, None),
                })
            }
            (live, store, lively) => {
                let read = match (live, store, lively) {
                    (_, Some(store), Some(lively)) => self.live_progress(store, lively.record.id).await?,
                    (Some(live), ..) => self.progress_of(live).await?.read,
                    _ => ViewProgress::default(),
                };
                let rows = self.engine.rows(&catalog, view, &read).await;
                rows.map(|rows| match rows.changed() {
                    Some(_) if has_versions(&catalog, view) => Behind::all_of_it(view, at, rows.new_rows()),
                    _ => Behind::of(view, at, rows.units()),
                })
            }
        };
        let behind = looked.unwrap_or_else(|error| Behind::unknown(view, at, &error));
        self.views.looked(address, behind);
        Ok(())
    }
}

/// The views that a principal may see, of a project or of all.
fn seen<'a>(
    flow: &Flow,
    catalog: &'a Catalog,
    principal: &'a Principal,
    project: Option<&'a Name>,
) -> impl Iterator<Item = &'a Arc<ViewVersion>> {
    kept_online(flow, catalog).filter(move |view| {
        let home = &view.address.project;
        principal.projects.as_ref().is_none_or(|open| open.contains(home))
            && project.is_none_or(|project| project == home)
    })
}

/// The generation that answers for this version.
fn live_of<'a>(records: &'a [Generation], view: &ViewVersion) -> Option<&'a Generation> {
    records.iter().rfind(|record| {
        record.view == view.address && record.version == view.id && record.state == GenerationState::Live
    })
}
