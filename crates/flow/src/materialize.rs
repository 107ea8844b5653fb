//! `asof materialize`: a view's rows into the online store.
//!
//! A view has at most one live generation per version. What is new of the source is put into it, each
//! unit (a file, a stretch of a stored source) in one commit with the word that it was read; so a
//! reader sees whole units, and a kill leaves nothing half done. A version that has no generation yet,
//! or whose source is no longer what was read, is built aside and takes the old one's place in one
//! commit.

use std::sync::Arc;

use asof_engine::rows::{Unit, ViewProgress, ViewRows};
use asof_engine::{Progress, ProgressEvent};
use asof_model::{Address, Catalog, Name, Principal, Timestamp, VersionId, ViewVersion};
use asof_online::{Commit, Generation, GenerationId, GenerationState, GenerationUsage, OnlineStore, Usage};
use asof_registry::{NewRun, RunKind};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::live_views::is_live;
use crate::load::may_see;
use crate::operation::{caught, panicked};
use crate::status::Behind;
use crate::writer::{Target, Terms, Writer};
use crate::{Flow, FlowError, Operation, Result, Seat};

/// What became of a view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MaterializeReport {
    /// The run that the registry recorded; none for a refresh.
    pub run: Option<String>,
    /// The view, `project.view`.
    pub view: String,
    /// The version that is materialised.
    pub version: String,
    /// The generation that answers now.
    pub generation: u32,
    /// Why all of it was read anew, where it was.
    pub rebuilt: Option<String>,
    /// Units read: files, or stretches of a stored source.
    pub units: u64,
    /// Source rows read.
    pub rows_read: u64,
    /// Rows that were not there before.
    pub rows_added: u64,
    /// Rows let go of, since they can answer no more.
    pub rows_removed: u64,
    /// Rows online now.
    pub rows: u64,
    /// Entities online now.
    pub keys: u64,
    /// Rows seen in all that are never visible, their `available_at` being null.
    pub never_known: u64,
    /// Rows seen in all that belong to no entity.
    pub null_keys: u64,
    /// Rows seen in all that are older than the view's retention: kept offline only.
    pub past_retention: u64,
}

/// What a unit is said to have come to, in the store's progress entries, JSON;
/// `docs/formats/online-store.md`. What was read of a whole unit is in the engine's words, which are
/// JSON as well.
const PARTIAL: &str = "partial ";

impl Flow {
    /// Brings views up to date online: those named, or all of the project. When this returns, what it
    /// says is durable and readable. Where nobody waits for it any more, the view in its turn goes on to
    /// its end, and no other is begun.
    ///
    /// # Errors
    /// [`FlowError::NotFound`] for an unknown project or view, before anything is done.
    /// [`FlowError::View`] where one fails; the others are brought up to date nevertheless, and what
    /// was online of it stays. An expression that fails on any row that the view's `where` keeps fails
    /// the view: each may be the one that answers.
    pub async fn materialize(
        &self,
        principal: &Principal,
        project: &Name,
        views: Option<&[Name]>,
        progress: Progress,
    ) -> Result<Vec<MaterializeReport>> {
        may_see(principal, project)?;
        let catalog = self.registry.catalog();
        let views = views_of(&catalog, project, views)?;
        // Held by the view in its turn, which goes on where nobody waits for it any more.
        let seat = Arc::new(self.enter(Operation::Materialize, &progress).await?);
        let mut reports = Vec::new();
        let mut failed: Vec<(Address, FlowError)> = Vec::new();
        for view in views {
            let new = NewRun {
                id: None,
                project: project.clone(),
                kind: RunKind::Materialize,
                subject: view.address.name.to_string(),
            };
            let turn = self.clone().turn(view.address.clone(), Arc::clone(&progress));
            let seat = Arc::clone(&seat);
            let work = async move {
                let _seat = seat;
                turn.await
            };
            match self.in_run(principal, new, work, MaterializeReport::counts).await {
                Ok((run, report)) => reports.push(MaterializeReport { run: Some(run), ..report }),
                Err(FlowError::Stopping) => return Err(FlowError::Stopping),
                Err(error) => failed.push((view.address.clone(), error)),
            }
        }
        let others = failed.len().saturating_sub(1);
        match failed.into_iter().next() {
            None => Ok(reports),
            Some((view, source)) => Err(FlowError::View { view, source: Box::new(source), others }),
        }
    }

    /// Brings one view up to date, in the version that stands when its turn comes.
    pub(crate) async fn materialize_view(
        &self,
        seat: Seat,
        view: &Address,
        progress: &Progress,
    ) -> Result<MaterializeReport> {
        let turn = self.clone().turn(view.clone(), Arc::clone(progress));
        self.in_task(async move {
            let _seat = seat;
            turn.await
        })
        .await
    }

    /// One view's turn; one at a time of each. It must not be dropped on its way, since what it lets do
    /// in the store would go on without the gate.
    async fn turn(self, address: Address, progress: Progress) -> Result<MaterializeReport> {
        let gate = self.views.gate(&address);
        let _alone = gate.lock().await;
        if self.stop.is_cancelled() {
            return Err(FlowError::Stopping);
        }
        // Definitions may have changed while this waited: an older version must not take the place of
        // the one that readers ask for.
        let catalog = self.registry.catalog();
        let Some(view) = catalog.view(&address) else {
            return Err(FlowError::NotFound {
                what: "view",
                name: address.name.to_string(),
                hint: Some("it was removed before its turn came".to_owned()),
            });
        };
        let done = caught(async {
            let begun = self.clock.now();
            let done = match &self.live_views {
                Some(live) if is_live(&catalog, view) => {
                    self.bring_up_live(live, &catalog, view, &progress).await?
                }
                _ => self.bring_up(&catalog, view, &progress).await?,
            };
            self.views.looked(&address, Behind::of(view, begun, &[]));
            Ok(done)
        })
        .await;
        if !matches!(done, Err(FlowError::Stopping)) {
            self.views.ended(&address, self.clock.now(), done.as_ref().err());
        }
        done
    }

    async fn bring_up(
        &self,
        catalog: &Arc<Catalog>,
        view: &ViewVersion,
        progress: &Progress,
    ) -> Result<MaterializeReport> {
        let clockless =
            catalog.source(&view.source).is_some_and(|source| source.definition.event_time.is_none());
        let standing = self.standing(view, clockless).await?;
        if let Some(building) = standing.building {
            let said = self.progress_of(building.id).await?;
            let rows = self.engine.rows(catalog, view, &said.read).await?;
            if rows.changed().is_none() && said.can_resume(&rows) {
                let why = standing.live.map(|_| "an earlier rebuilding was cut off".to_owned());
                return self.build(view, building, &rows, why, clockless, progress).await;
            }
            self.drop_generation(building.id).await?;
        }
        let mut why = None;
        if let Some(live) = standing.live {
            let said = self.progress_of(live.id).await?;
            let rows = self.engine.rows(catalog, view, &said.read).await?;
            why = rows.changed().map(str::to_owned);
            // Facts without a clock have one row a key, which only a whole reading can tell.
            let whole = clockless && !rows.units().is_empty();
            if why.is_none() && !whole {
                return self.add(view, live, &rows, progress).await;
            }
            why.get_or_insert_with(|| "facts without a clock are read as a whole".to_owned());
        }
        let rows = self.engine.rows(catalog, view, &ViewProgress::default()).await?;
        let building = self.new_generation(view, GenerationState::Building).await?;
        self.build(view, building, &rows, why, clockless, progress).await
    }

    /// Puts what is new into the live generation.
    async fn add(
        &self,
        view: &ViewVersion,
        mut live: Generation,
        rows: &ViewRows,
        progress: &Progress,
    ) -> Result<MaterializeReport> {
        let mut report = MaterializeReport::of(view);
        let terms = Terms::at(view, self.clock.now().max(live.judged_at), false);
        for unit in rows.units() {
            self.read_unit(view, rows, unit, &mut live, &terms, Target::Live, &mut report, progress).await?;
        }
        live.succeeded_at = Some(self.clock.now());
        let mut records = self.replaced(&live).await?;
        records.push(live.clone());
        self.commit_records(records).await?;
        self.sweep(&live).await;
        self.finish(&live, report).await
    }

    /// Reads everything into a generation that is built aside, and lets it take the old one's place.
    async fn build(
        &self,
        view: &ViewVersion,
        mut building: Generation,
        rows: &ViewRows,
        why: Option<String>,
        clockless: bool,
        progress: &Progress,
    ) -> Result<MaterializeReport> {
        let mut report = MaterializeReport { rebuilt: why, ..MaterializeReport::of(view) };
        let terms = Terms::at(view, self.clock.now().max(building.judged_at), clockless);
        let mut pushed = 0;
        for unit in rows.units() {
            let target = Target::Building { stamp: format!("{PARTIAL}{}", unit.stamp()) };
            pushed += self
                .read_unit(view, rows, unit, &mut building, &terms, target, &mut report, progress)
                .await?;
        }
        if clockless {
            let usage = self.usage_of(building.id).await?;
            if usage.rows != usage.keys || usage.rows != pushed {
                self.drop_generation(building.id).await?;
                let keys: Vec<&str> = view.keys.iter().map(|key| key.column.as_str()).collect();
                return Err(FlowError::SecondRow {
                    source_name: view.source.clone(),
                    view: view.address.clone(),
                    keys: keys.join(", "),
                });
            }
        }
        building.state = GenerationState::Live;
        building.succeeded_at = Some(self.clock.now());
        let mut records = self.replaced(&building).await?;
        records.push(building.clone());
        self.commit_records(records).await?;
        self.sweep(&building).await;
        self.finish(&building, report).await
    }

    /// The records of the generations whose place this one takes, marked as dropped. The version that
    /// stands by now may be another than this one's, and then keeps what it has.
    async fn replaced(&self, by: &Generation) -> Result<Vec<Generation>> {
        let catalog = self.registry.catalog();
        let standing = catalog.view(&by.view).map(|view| view.id.clone());
        let others = self.generations().await?;
        let replaced = others
            .iter()
            .filter(|other| other.view == by.view && other.id != by.id)
            .filter(|other| other.version == by.version || Some(&other.version) != standing.as_ref())
            .map(|other| Generation { state: GenerationState::Dropped, ..other.clone() });
        Ok(replaced.collect())
    }

    /// Lets go of what this generation took the place of. It answers already, so trouble here is no
    /// failure of its: the next turn tries again.
    async fn sweep(&self, live: &Generation) {
        let swept = async {
            let others = self.generations().await?;
            for other in others.iter().filter(|other| other.view == live.view) {
                if other.state == GenerationState::Dropped {
                    self.drop_generation(other.id).await?;
                }
            }
            if let Some(store) = &self.live_views {
                // What it was kept as in the other store, as another version.
                let catalog = self.registry.catalog();
                let standing = catalog.view(&live.view).map(|view| &view.id);
                self.sweep_live_of(store, &live.view, |record| Some(&record.version) != standing).await?;
            }
            Ok::<(), FlowError>(())
        };
        if let Err(error) = swept.await {
            tracing::warn!(view = %live.view, %error, "old rows of a view could not be let go of");
        }
    }

    /// Lets go of the generations of views that are no more.
    pub(crate) async fn sweep_removed(self) -> Result<()> {
        if let Some(live) = &self.live_views {
            self.sweep_live_removed(live).await?;
        }
        for record in self.generations().await?.iter() {
            let removed = || self.registry.catalog().view(&record.view).is_none();
            if !removed() {
                continue;
            }
            let gate = self.views.gate(&record.view);
            let _alone = gate.lock().await;
            if self.stop.is_cancelled() {
                return Err(FlowError::Stopping);
            }
            // It may have been put back meanwhile.
            if removed() {
                self.drop_generation(record.id).await?;
            }
        }
        Ok(())
    }

    /// Reads one unit into a generation; how many rows were put.
    #[expect(clippy::too_many_arguments, reason = "one unit's whole context, named at each call")]
    async fn read_unit(
        &self,
        view: &ViewVersion,
        rows: &ViewRows,
        unit: &Unit,
        into: &mut Generation,
        terms: &Terms,
        target: Target,
        report: &mut MaterializeReport,
        progress: &Progress,
    ) -> Result<u64> {
        let writer = Writer::new(self, view, into.clone(), terms.clone(), target, unit.name())?;
        // A few batches on their way are enough to keep both sides busy.
        let (to, from) = mpsc::channel(2);
        let (said, before) = (Arc::clone(progress), report.rows_read);
        let total = unit.rows().map(|rows| before + rows);
        let tell = move |done| {
            said(ProgressEvent { phase: "materialize", done: before + done, total, unit: "rows" });
        };
        let draining = self.aside(move || writer.drain(from, &tell));
        let reading = async {
            tokio::select! {
                read = caught(async { Ok(rows.read(unit, to).await?) }) => read,
                () = self.stop.cancelled() => Err(FlowError::Stopping),
            }
        };
        // However the reading ends, what was taken of it is waited for.
        let (read, drained) = tokio::join!(reading, draining);
        // Where the store failed, the engine only knows that nobody took its rows.
        let mut writer = drained?;
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                blocking(move || writer.give_up()).await?;
                return Err(error);
            }
        };
        report.units += 1;
        report.rows_read += read.rows;
        let done = blocking(move || writer.finish(&read)).await?;
        *into = done.record;
        report.rows_added += done.added;
        report.rows_removed += done.removed;
        Ok(done.pushed)
    }

    async fn finish(&self, record: &Generation, report: MaterializeReport) -> Result<MaterializeReport> {
        let usage = self.usage_of(record.id).await?;
        Ok(MaterializeReport {
            generation: record.id.0,
            rows: usage.rows,
            keys: usage.keys,
            never_known: record.never_known,
            null_keys: record.null_keys,
            past_retention: record.past_retention,
            ..report
        })
    }

    /// The generations of a view that may be gone on with; what cannot be is dropped.
    async fn standing(&self, view: &ViewVersion, clockless: bool) -> Result<Standing> {
        let mut standing = Standing { live: None, building: None };
        for record in self.generations().await?.iter().filter(|record| record.view == view.address) {
            let ours = record.version == view.id;
            match record.state {
                GenerationState::Live if ours => standing.live = Some(record.clone()),
                // Nobody is answered from another version's rows, but it may stand again by then.
                GenerationState::Live => {}
                GenerationState::Building if ours && !clockless && standing.building.is_none() => {
                    standing.building = Some(record.clone());
                }
                GenerationState::Building | GenerationState::Staging | GenerationState::Dropped => {
                    self.drop_generation(record.id).await?;
                }
            }
        }
        Ok(standing)
    }

    pub(crate) async fn progress_of(&self, id: GenerationId) -> Result<Said> {
        let store = Arc::clone(&self.online);
        let entries = blocking(move || Ok(store.snapshot()?.progress(id)?)).await?;
        let mut said = Said { read: ViewProgress::default(), partial: Vec::new() };
        for (unit, seen) in entries {
            let unit = String::from_utf8_lossy(&unit).into_owned();
            match String::from_utf8_lossy(&seen).strip_prefix(PARTIAL) {
                Some(stamp) => said.partial.push((unit, stamp.to_owned())),
                None => drop(said.read.units.insert(unit, seen)),
            }
        }
        Ok(said)
    }

    async fn new_generation(&self, view: &ViewVersion, state: GenerationState) -> Result<Generation> {
        let (flow, address, version) = (self.clone(), view.address.clone(), view.id.clone());
        blocking(move || flow.views.number(flow.online.as_ref(), address, version, state)).await
    }

    pub(crate) async fn generations(&self) -> Result<Arc<Vec<Generation>>> {
        let store = Arc::clone(&self.online);
        blocking(move || Ok(store.snapshot()?.generations()?)).await
    }

    async fn commit_records(&self, records: Vec<Generation>) -> Result<()> {
        let store = Arc::clone(&self.online);
        blocking(move || {
            store.commit(&Commit { generations: &records, ..Commit::default() })?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn drop_generation(&self, id: GenerationId) -> Result<()> {
        let store = Arc::clone(&self.online);
        blocking(move || Ok(store.drop_generation(id)?)).await
    }

    pub(crate) async fn usage(&self) -> Result<Usage> {
        let store = Arc::clone(&self.online);
        blocking(move || Ok(store.usage()?)).await
    }

    async fn usage_of(&self, id: GenerationId) -> Result<GenerationUsage> {
        let usage = self.usage().await?;
        let found = usage.generations.into_iter().find(|usage| usage.id == id);
        Ok(found.unwrap_or(GenerationUsage { id, rows: 0, keys: 0 }))
    }
}

struct Standing {
    live: Option<Generation>,
    building: Option<Generation>,
}

/// What a generation's progress entries say.
pub(crate) struct Said {
    pub(crate) read: ViewProgress,
    /// Units of which some rows were put, each with its stamp then.
    partial: Vec<(String, String)>,
}

impl Said {
    /// Whether the rows that a cut-off reading left will all be put again, so that none is left of a
    /// file that was another.
    fn can_resume(&self, rows: &ViewRows) -> bool {
        self.partial
            .iter()
            .all(|(name, stamp)| rows.units().iter().any(|unit| unit.name() == name && unit.stamp() == stamp))
    }
}

impl MaterializeReport {
    pub(crate) fn of(view: &ViewVersion) -> MaterializeReport {
        MaterializeReport {
            view: view.address.to_string(),
            version: view.id.to_string(),
            ..MaterializeReport::default()
        }
    }

    fn counts(&self) -> std::collections::BTreeMap<String, u64> {
        [
            ("units", self.units),
            ("rows_read", self.rows_read),
            ("rows_added", self.rows_added),
            ("rows_removed", self.rows_removed),
            ("rows", self.rows),
            ("keys", self.keys),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
    }
}

/// The views asked for, in order of their names.
fn views_of(catalog: &Catalog, project: &Name, views: Option<&[Name]>) -> Result<Vec<Arc<ViewVersion>>> {
    let Some(state) = catalog.projects.get(project) else {
        return Err(FlowError::NotFound {
            what: "project",
            name: project.to_string(),
            hint: Some("run `asof apply` in its folder first".to_owned()),
        });
    };
    let Some(asked) = views else { return Ok(state.views.values().cloned().collect()) };
    asked
        .iter()
        .map(|view| {
            state.views.get(view).cloned().ok_or_else(|| {
                let known: Vec<String> = state.views.keys().map(|name| format!("`{name}`")).collect();
                FlowError::NotFound {
                    what: "view",
                    name: view.to_string(),
                    hint: Some(format!("the project's views are {}", known.join(", "))),
                }
            })
        })
        .collect()
}

impl Flow {
    /// Runs what also takes the processor for long: it steps back for whoever asks or pushes.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.engine.blocking(move || Ok(work())).await?
    }
}

/// Runs what waits for the disk where it stalls nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) if ended.is_panic() => Err(panicked()),
        Err(_) => Err(FlowError::Internal { what: "a task of a materialisation was cut off".to_owned() }),
    }
}

/// A new generation's number is one more than any there is.
pub(crate) fn next_record(
    store: &dyn OnlineStore,
    view: Address,
    version: VersionId,
    state: GenerationState,
) -> Result<Generation> {
    let records = store.snapshot()?.generations()?;
    let number = records.iter().map(|record| record.id.0).max().map_or(1, |last| last.saturating_add(1));
    let mut record = Generation::new(GenerationId(number), view, version, state);
    record.judged_at = Timestamp::BEFORE_ALL;
    store.commit(&Commit { generations: std::slice::from_ref(&record), ..Commit::default() })?;
    Ok(record)
}
