//! A running node brings every view up to date: at its start, when it is applied, and at its `refresh`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use asof_engine::no_progress;
use asof_model::{Address, Catalog, Revision, VersionId, ViewVersion};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::live_views::is_live;
use crate::{Flow, FlowError, Operation};

/// How many views are brought up to date at once; a slow one leaves room for the others.
const AT_ONCE: usize = 4;

/// The longest that a view which fails waits for its next turn, where its own `refresh` is not sooner.
const LONGEST: Duration = Duration::from_secs(3_600);

/// How often the sources of all views are looked at for what is not online yet, at most.
const LOOK: Duration = Duration::from_secs(60);

/// Looking takes at most one part in so many of the time.
const LOOK_SHARE: u32 = 20;

/// When a view is due.
struct Due {
    version: VersionId,
    /// None: not again until it is applied anew.
    at: Option<Instant>,
    running: bool,
    /// How many turns failed one after the other.
    failed: u32,
}

impl Flow {
    /// Brings views up to date until told to stop: all of them at once, then each at its `refresh`,
    /// counted from the end of its last turn. A view that fails keeps what is online of it and its
    /// error ([`Flow::status`]), also where that is a panic, and has its turn again: at its `refresh`, or where
    /// it has none after a while that doubles from turn to turn, up to an hour. It never stops others. Rows of
    /// a view that was removed go; put back, it is built anew.
    pub async fn refresh_forever(&self, shutdown: CancellationToken) {
        let mut catalogs = self.registry.watch();
        let mut due: BTreeMap<Address, Due> = BTreeMap::new();
        let mut running: JoinSet<bool> = JoinSet::new();
        let mut aside: JoinSet<()> = JoinSet::new();
        aside.spawn(self.clone().look_forever());
        if let Some(live) = self.live_views.clone() {
            aside.spawn(self.clone().tile_forever(Arc::clone(&live)));
            aside.spawn(self.clone().expire_forever(live));
        }
        let mut swept: Option<Revision> = None;
        let mut turns: BTreeMap<Id, Address> = BTreeMap::new();
        loop {
            let catalog = Arc::clone(&catalogs.borrow_and_update());
            if swept != Some(catalog.revision) {
                swept = Some(catalog.revision);
                aside.spawn(sweep(self.clone()));
            }
            let now = Instant::now();
            agree(self, &mut due, &catalog, now);
            for view in kept_online(self, &catalog) {
                let Some(turn) = due.get_mut(&view.address) else { continue };
                let ready = !turn.running && turn.at.is_some_and(|at| at <= now);
                if ready && running.len() < AT_ONCE {
                    turn.running = true;
                    turn.version = view.id.clone();
                    turn.at = None;
                    let task = running.spawn(turn_of(self.clone(), view.address.clone()));
                    turns.insert(task.id(), view.address.clone());
                }
            }
            let waiting = due.values().filter(|turn| !turn.running).filter_map(|turn| turn.at).min();
            // At the limit only the end of a turn can make room.
            let wake = waiting.filter(|_| running.len() < AT_ONCE);
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = catalogs.changed() => if changed.is_err() { break },
                Some(ended) = running.join_next_with_id() => {
                    // However it ended, the view has its next turn.
                    let (id, well) = ended.unwrap_or_else(|ended| (ended.id(), false));
                    if let Some(address) = turns.remove(&id) {
                        let catalog = Arc::clone(&catalogs.borrow());
                        let refresh = catalog.view(&address).and_then(|view| view.definition.refresh);
                        if let Some(turn) = due.get_mut(&address) {
                            turn.running = false;
                            turn.failed = if well { 0 } else { turn.failed.saturating_add(1) };
                            let micros = refresh.and_then(|refresh| u64::try_from(refresh.micros()).ok());
                            let next = micros.map(Duration::from_micros).or_else(|| {
                                let doubled = 1_u32.checked_shl(turn.failed.checked_sub(1)?).unwrap_or(u32::MAX);
                                Some(self.retry.saturating_mul(doubled).min(LONGEST))
                            });
                            turn.at = turn.at.or(next.map(|next| Instant::now() + next));
                        }
                    }
                }
                () = until(wake) => {}
            }
        }
        // What is in its turn goes on in a task of its own, until it is through or the flow is closed.
        running.shutdown().await;
        aside.shutdown().await;
    }

    /// Looks at the source of every view, one after the other, again and again.
    async fn look_forever(self) {
        let mut took = Duration::ZERO;
        loop {
            tokio::time::sleep(LOOK.max(took.saturating_mul(LOOK_SHARE))).await;
            let begun = Instant::now();
            let views: Vec<Address> =
                kept_online(&self, &self.registry.catalog()).map(|view| view.address.clone()).collect();
            for view in views {
                self.look(&view).await;
            }
            took = begun.elapsed();
        }
    }
}

/// The views whose rows are kept online: all of them, where there is a store for each sort.
pub(crate) fn kept_online<'a>(
    flow: &Flow,
    catalog: &'a Catalog,
) -> impl Iterator<Item = &'a Arc<ViewVersion>> + 'a {
    let live = flow.live_views.is_some();
    let kept = move |view: &&'a Arc<ViewVersion>| live || !is_live(catalog, view);
    catalog.views().filter(kept)
}

/// New views and new versions are due now; what is gone is forgotten.
fn agree(flow: &Flow, due: &mut BTreeMap<Address, Due>, catalog: &Catalog, now: Instant) {
    due.retain(|address, turn| turn.running || catalog.view(address).is_some());
    for view in kept_online(flow, catalog) {
        let turn = due.entry(view.address.clone()).or_insert_with(|| Due {
            version: view.id.clone(),
            at: Some(now),
            running: false,
            failed: 0,
        });
        if turn.version != view.id {
            turn.version = view.id.clone();
            turn.at = Some(now);
        }
    }
}

/// Lets go of the rows of views that are no more.
async fn sweep(flow: Flow) {
    if let Err(error) = flow.in_task(flow.clone().sweep_removed()).await {
        tracing::warn!(%error, "rows of removed views could not be let go of");
    }
}

/// Whether it went well.
async fn turn_of(flow: Flow, address: Address) -> bool {
    let done = match flow.enter(Operation::Refresh, &no_progress()).await {
        // Before the view's own gate, which else would be held from those who have a seat.
        Ok(seat) => flow.materialize_view(seat, &address, &no_progress()).await,
        Err(error) => Err(error),
    };
    let well = done.is_ok();
    match done {
        Ok(report) => {
            tracing::debug!(view = %address, rows_read = report.rows_read, rows = report.rows, "view refreshed");
        }
        Err(FlowError::Stopping) => tracing::debug!(view = %address, "view goes on another time"),
        Err(error) => tracing::warn!(view = %address, %error, "view could not be refreshed"),
    }
    well
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
