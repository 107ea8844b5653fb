//! What goes on beside the rows of live views: tiles are made where many rows came, rows are let go of that count at no T
//! any more, and those that tiles may stand in for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use asof_compute::{Ladder, StoredWindows};
use asof_model::{Catalog, History, Timestamp, ViewVersion};
use asof_online::live::{LiveStore, Writing};
use asof_online::views::{Held, Holds, LiveGeneration, LiveGenerations, LiveRecord, Tiler};
use asof_online::{GenerationId, GenerationState};
use tokio_util::sync::CancellationToken;

use crate::live_views::{has_versions, keeping};
use crate::{Flow, FlowError, Result};

/// How often rows are looked at for those that may go, unless told otherwise.
pub(crate) const EXPIRE: Duration = Duration::from_secs(600);
/// How often entities with many new rows are looked at for tiles.
const TICK: Duration = Duration::from_millis(250);
/// What happened less than so long ago is left out of tiles, in microseconds: most of it is still on its way.
const LAG: i64 = 1_000_000;
/// So often rows are looked at for those that tiles may stand in for, though no more tiles may: some came late. In
/// microseconds.
const AGAIN: i64 = 86_400_000_000;

/// The windows of a view as a generation has them.
#[derive(Debug)]
pub(crate) struct TiledWindows {
    stored: StoredWindows,
    ladder: Ladder,
    view: ViewVersion,
    /// No version of an event can end a row, so that tiles may stand in for rows.
    rows_stand: bool,
}

impl TiledWindows {
    /// None where the generation holds latest rows.
    pub(crate) fn of(
        catalog: &Catalog,
        view: &ViewVersion,
        record: &LiveRecord,
    ) -> Result<Option<TiledWindows>> {
        let Holds::Windows { arguments } = &record.holds else { return Ok(None) };
        let features = view.features.iter().map(|typed| (&typed.feature, &typed.data_type));
        let stored = StoredWindows::new(features, arguments)
            .map_err(|error| FlowError::Internal { what: format!("view `{}`: {error}", view.address) })?;
        let ladder = Ladder::of(stored.plan().windows());
        let rows_stand = !has_versions(catalog, view);
        Ok(Some(TiledWindows { stored, ladder, view: view.clone(), rows_stand }))
    }

    fn tiler<'a>(&'a self, store: &'a dyn LiveStore, generation: &'a LiveGeneration) -> Result<Tiler<'a>> {
        // A T that was answered: whatever the clock does, no later one comes before it.
        let horizon = match self.rows_stand && self.view.definition.history != History::All {
            true => Some(keeping(&self.view, store.read()?.answer_time()).horizon),
            false => None,
        };
        let TiledWindows { stored, ladder, .. } = self;
        Ok(Tiler { store, table: &generation.table, stored, ladder, horizon })
    }
}

/// When rows of a generation were last looked at for those that tiles may stand in for.
#[derive(Debug, Clone, Copy)]
struct LookedAt {
    at: Timestamp,
    /// Before it tiles might.
    kept: Timestamp,
}

impl Flow {
    /// Makes tiles of entities with many new rows, again and again.
    pub(crate) async fn tile_forever(self, live: Arc<LiveGenerations>) {
        let mut known: HashMap<GenerationId, Arc<TiledWindows>> = HashMap::new();
        loop {
            tokio::time::sleep(TICK).await;
            let noted = live.noted();
            known.retain(|id, _| live.all().iter().any(|generation| generation.record.id == *id));
            let catalog = self.registry.catalog();
            for generation in live.all().iter() {
                let record = &generation.record;
                let of_it = noted.iter().filter(|(id, _)| *id == record.id).map(|(_, entity)| entity.clone());
                // Who gets rows of the past and has no tiles is summed up once they are all there.
                let waits = live.is_loading(&record.source);
                let (later, entities): (Vec<Vec<u8>>, Vec<Vec<u8>>) =
                    of_it.partition(|entity| waits && !generation.table.may_have_tiles(entity));
                later.iter().for_each(|entity| live.note(record.id, entity));
                if entities.is_empty() || record.state != GenerationState::Live {
                    continue;
                }
                let windows = known.get(&record.id).cloned().or_else(|| {
                    let view = catalog.view(&record.view).filter(|view| view.id == record.version)?;
                    TiledWindows::of(&catalog, view, record).ok().flatten().map(Arc::new)
                });
                let Some(windows) = windows else { continue };
                known.insert(record.id, Arc::clone(&windows));
                let (live, generation, now) = (Arc::clone(&live), Arc::clone(generation), self.clock.now());
                let stop = self.stop.clone();
                let done = self.aside(move || tile(&live, &generation, &windows, now, entities, &stop));
                if let Err(error) = done.await
                    && !self.stop.is_cancelled()
                {
                    tracing::warn!(view = %record.view, %error, "tiles of a view could not be made");
                }
            }
        }
    }

    /// Lets go of rows that count at no T that is answered any more, and of those that tiles may stand in for, again and
    /// again.
    pub(crate) async fn expire_forever(self, live: Arc<LiveGenerations>) {
        let mut looked_at: HashMap<GenerationId, LookedAt> = HashMap::new();
        loop {
            tokio::time::sleep(self.expire).await;
            let catalog = self.registry.catalog();
            for generation in live.all().iter() {
                let record = &generation.record;
                let view = catalog.view(&record.view).filter(|view| view.id == record.version);
                let Some(view) = view.filter(|_| record.state == GenerationState::Live).cloned() else {
                    continue;
                };
                let (live, generation, now) = (Arc::clone(&live), Arc::clone(generation), self.clock.now());
                let (stop, catalog) = (self.stop.clone(), Arc::clone(&catalog));
                let last = looked_at.get(&record.id).copied();
                let done = self.aside(move || {
                    let windows = TiledWindows::of(&catalog, &view, &generation.record)?;
                    let versions = has_versions(&catalog, &view);
                    expire(&live, &generation, (&view, windows.as_ref()), versions, now, &stop)?;
                    match windows.filter(|_| !live.is_loading(&generation.record.source)) {
                        Some(windows) => let_go(&live, &generation, &windows, last, &stop),
                        None => Ok(last),
                    }
                });
                match done.await {
                    Ok(done) => _ = done.and_then(|done| looked_at.insert(record.id, done)),
                    Err(_) if self.stop.is_cancelled() => {}
                    Err(error) => {
                        tracing::warn!(view = %record.view, %error, "old rows of a view could not be let go of");
                    }
                }
            }
        }
    }
}

fn expire(
    live: &LiveGenerations,
    generation: &LiveGeneration,
    (view, windows): (&ViewVersion, Option<&TiledWindows>),
    versions: bool,
    now: Timestamp,
    stop: &CancellationToken,
) -> Result<()> {
    let holds = windows.map_or(Held::Latest { versions }, |windows| Held::Windows(&windows.ladder));
    let keeping = keeping(view, now);
    let mut after = None;
    while !stop.is_cancelled() {
        let store = live.store().as_ref();
        let done = generation.table.expire(store, &holds, keeping, after.as_deref())?;
        after = done.next;
        if after.is_none() {
            break;
        }
    }
    match versions {
        true => Ok(live.expire_read(generation.record.id, keeping, &|| !stop.is_cancelled())?),
        false => Ok(()),
    }
}

/// Lets go of rows that tiles may stand in for, where that may be more than when it was last looked at.
fn let_go(
    live: &LiveGenerations,
    generation: &LiveGeneration,
    windows: &TiledWindows,
    last: Option<LookedAt>,
    stop: &CancellationToken,
) -> Result<Option<LookedAt>> {
    let tiler = windows.tiler(live.store().as_ref(), generation)?;
    let mark = &mut |until, writing: &mut Writing| live.mark_kept(generation.record.id, until, writing);
    let (Some(at), Some(kept)) = (tiler.horizon, tiler.keep(mark)?) else { return Ok(last) };
    if last.is_some_and(|last| last.kept == kept && at.0 - last.at.0 < AGAIN) {
        return Ok(last);
    }
    each_some(live, generation, &mut |entities| {
        for entity in &entities {
            while !tiler.let_go(entity)?.done {
                going_on(stop)?;
            }
            going_on(stop)?;
        }
        Ok(())
    })?;
    Ok(Some(LookedAt { at, kept }))
}

fn going_on(stop: &CancellationToken) -> Result<()> {
    if stop.is_cancelled() { Err(FlowError::Stopping) } else { Ok(()) }
}

/// Makes the tiles of some entities.
fn tile(
    live: &LiveGenerations,
    generation: &LiveGeneration,
    windows: &TiledWindows,
    now: Timestamp,
    entities: Vec<Vec<u8>>,
    stop: &CancellationToken,
) -> Result<()> {
    let tiler = windows.tiler(live.store().as_ref(), generation)?;
    let mut worth = Vec::with_capacity(entities.len());
    for entity in entities {
        if tiler.is_worth(&entity)? {
            worth.push(entity);
        }
    }
    if worth.is_empty() {
        return Ok(());
    }
    let until = windows.ladder.start(0, Timestamp(now.0.saturating_sub(LAG)));
    tiler
        .advance(until, &worth, &mut |until, words, writing| live.mark(generation, until, words, writing))?;
    for entity in &worth {
        going_on(stop)?;
        while !tiler.entity(entity)?.done {}
    }
    Ok(())
}

/// Makes the tiles of all entities.
pub(crate) fn tile_all(
    live: &LiveGenerations,
    generation: &LiveGeneration,
    windows: &TiledWindows,
    now: Timestamp,
    stop: &CancellationToken,
) -> Result<()> {
    each_some(live, generation, &mut |entities| tile(live, generation, windows, now, entities, stop))
}

/// All entities of a generation, some at a time so that no snapshot is held for long.
fn each_some(
    live: &LiveGenerations,
    generation: &LiveGeneration,
    each: &mut dyn FnMut(Vec<Vec<u8>>) -> Result<()>,
) -> Result<()> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let mut some: Vec<Vec<u8>> = Vec::new();
        generation.table.entities(live.store().read()?.as_ref(), after.as_deref(), &mut |entity| {
            some.push(entity.to_vec());
            Ok(some.len() < 256)
        })?;
        let Some(last) = some.last().cloned() else { return Ok(()) };
        each(some)?;
        after = Some(last);
    }
}
