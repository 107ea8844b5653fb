//! A running node brings every view up to date: at its start, when it is applied, and at its `refresh`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use asof_engine::no_progress;
use asof_model::{Address, Catalog, VersionId};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Flow, FlowError};

/// How many views are brought up to date at once; a slow one leaves room for the others.
const AT_ONCE: usize = 4;

/// When a view is due.
struct Due {
    version: VersionId,
    /// None: not again until it is applied anew.
    at: Option<Instant>,
    running: bool,
}

impl Flow {
    /// Brings views up to date until told to stop: all of them at once, then each at its `refresh`,
    /// counted from the end of its last turn. A view that fails keeps what is online of it and its
    /// error ([`Flow::status`]), also where that is a panic, and has its turn again like any other; it
    /// never stops others.
    pub async fn refresh_forever(&self, shutdown: CancellationToken) {
        let mut catalogs = self.registry.watch();
        let mut due: BTreeMap<Address, Due> = BTreeMap::new();
        let mut running: JoinSet<()> = JoinSet::new();
        let mut turns: BTreeMap<Id, Address> = BTreeMap::new();
        loop {
            let catalog = Arc::clone(&catalogs.borrow_and_update());
            let now = Instant::now();
            agree(&mut due, &catalog, now);
            for view in catalog.views() {
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
                    let id = ended.map_or_else(|ended| ended.id(), |(id, ())| id);
                    if let Some(address) = turns.remove(&id) {
                        let catalog = Arc::clone(&catalogs.borrow());
                        let refresh = catalog.view(&address).and_then(|view| view.definition.refresh);
                        if let Some(turn) = due.get_mut(&address) {
                            turn.running = false;
                            let micros = refresh.and_then(|refresh| u64::try_from(refresh.micros()).ok());
                            let next = micros.map(|micros| Instant::now() + Duration::from_micros(micros));
                            turn.at = turn.at.or(next);
                        }
                    }
                }
                () = until(wake) => {}
            }
        }
        // What is in its turn goes on in a task of its own, until it is through or the flow is closed.
        running.shutdown().await;
    }
}

/// New views and new versions are due now; what is gone is forgotten.
fn agree(due: &mut BTreeMap<Address, Due>, catalog: &Catalog, now: Instant) {
    due.retain(|address, turn| turn.running || catalog.view(address).is_some());
    for view in catalog.views() {
        let turn = due.entry(view.address.clone()).or_insert_with(|| Due {
            version: view.id.clone(),
            at: Some(now),
            running: false,
        });
        if turn.version != view.id {
            turn.version = view.id.clone();
            turn.at = Some(now);
        }
    }
}

async fn turn_of(flow: Flow, address: Address) {
    match flow.materialize_view(&address, &no_progress()).await {
        Ok(report) => {
            tracing::debug!(view = %address, rows_read = report.rows_read, rows = report.rows, "view refreshed");
        }
        Err(FlowError::Stopping) => tracing::debug!(view = %address, "view goes on another time"),
        Err(error) => tracing::warn!(view = %address, %error, "view could not be refreshed"),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
