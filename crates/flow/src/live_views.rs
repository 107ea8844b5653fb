//! Views whose rows are in the live store: over windows, over pushed sources, and over such with ids.
//!
//! A generation is found by every batch that is pushed from its beginning on; what came before is read from the
//! source and put beside it, and then it takes the place of the one before: also where files of its past are others
//! than were read. Of a source that is not pushed to, what is new is put into the generation that answers, a unit in
//! one batch; too large a unit makes a new generation aside. So does whatever is new of one with ids, since it may end
//! any row that was read before.

use std::sync::Arc;

use asof_compute::{Keeping, Op, Position, RowLayout, RowOrder, arrow_type};
use asof_engine::intake::{Intake, KeptKey, KeyBinding, kept_key};
use asof_engine::rows::{EvaluatedRows, Unit, UnitRead, ViewColumns, ViewProgress, ViewRows};
use asof_engine::{Progress, ProgressEvent};
use asof_model::{Address, Catalog, Length, Place, Timestamp, ViewVersion};
use asof_online::live::{Version, Writing};
use asof_online::views::{Holds, LiveGeneration, LiveGenerations, LiveRecord, ViewRow};
use asof_online::{GenerationId, GenerationState};
use tokio::sync::mpsc;

use crate::live_tiles::{TiledWindows, tile_all};
use crate::materialize::{MaterializeReport, blocking};
use crate::operation::caught;
use crate::push::{AcceptedBatch, LiveViews};
use crate::{Flow, FlowError, Result};

/// Bytes of rows that are put in one batch while a generation is built: who pushes waits behind it.
const BATCH: usize = 1 << 20;
/// Bytes of rows that are put in one batch into a generation that answers; more make a new one.
const AT_ONCE: usize = 32 << 20;

/// Whether a view's rows are in the live store.
pub(crate) fn is_live(catalog: &Catalog, view: &ViewVersion) -> bool {
    let source = catalog.source(&view.source);
    view.definition.is_window() || source.is_some_and(|source| source.definition.keeps_every_row())
}

/// Whether the rows of a view's source are pushed.
pub(crate) fn is_pushed(catalog: &Catalog, view: &ViewVersion) -> bool {
    let source = catalog.source(&view.source);
    source.is_some_and(|source| matches!(source.definition.place, Place::Push { .. }))
}

/// Whether rows of a view's source may be versions of events.
pub(crate) fn has_versions(catalog: &Catalog, view: &ViewVersion) -> bool {
    catalog.source(&view.source).is_some_and(|source| source.definition.id.is_some())
}

/// What rows of a view are kept, as of this T. A window's own reach stands in for a retention.
pub(crate) fn keeping(view: &ViewVersion, now: Timestamp) -> Keeping {
    let windows = || {
        let over = view.features.iter().filter_map(|typed| typed.feature.aggregate.as_ref());
        let reaches = over.flat_map(|over| &over.windows).map(|named| named.window.reach());
        // One without a lower edge reaches back to the beginning.
        let reaches: Option<Vec<Length>> = reaches.collect();
        reaches.and_then(|reaches| reaches.into_iter().max_by_key(|reach| reach.micros()))
    };
    let own = view.definition.retention;
    let retention = if view.definition.is_window() { own.or_else(windows) } else { own };
    Keeping::at(now, view.definition.history, retention)
}

impl Flow {
    /// Brings a view up to date whose rows are in the live store.
    pub(crate) async fn bring_up_live(
        &self,
        live: &Arc<LiveGenerations>,
        catalog: &Arc<Catalog>,
        view: &ViewVersion,
        progress: &Progress,
    ) -> Result<MaterializeReport> {
        self.sweep_live(live, view).await?;
        let standing = live.live(&view.address, &view.id);
        let mut why = None;
        if let Some(standing) = standing {
            let said = self.live_progress(live, standing.record.id).await?;
            if is_pushed(catalog, view) {
                why = self.engine.past_changed(catalog, view, &said).await?;
                if why.is_none() {
                    self.views.is_current(view, self.clock.now());
                    return self.said(live, &standing, MaterializeReport::of(view)).await;
                }
            } else {
                let rows = self.engine.rows(catalog, view, &said).await?;
                match rows.changed() {
                    Some(changed) => why = Some(changed.to_owned()),
                    None => match self.add_live(live, view, &standing, &rows, progress).await? {
                        Some(report) => return Ok(report),
                        None => why = Some("more is new than is put in at once".to_owned()),
                    },
                }
            }
        }
        self.build_live(live, catalog, view, why, progress).await
    }

    /// Builds a generation beside the one that answers, and lets it take that one's place.
    async fn build_live(
        &self,
        live: &Arc<LiveGenerations>,
        catalog: &Arc<Catalog>,
        view: &ViewVersion,
        why: Option<String>,
        progress: &Progress,
    ) -> Result<MaterializeReport> {
        let source = Arc::clone(catalog.source_of(view).map_err(asof_engine::Error::from)?);
        let columns = self.engine.view_columns(&source, view)?;
        let holds = match view.definition.is_window() {
            true => Holds::Windows { arguments: arguments(&columns) },
            false => Holds::Latest,
        };
        let generation = {
            let (live, view) = (Arc::clone(live), view.clone());
            blocking(move || Ok(live.begin(&view.address, &view.id, &view.source, holds)?)).await?
        };
        let id = generation.record.id;
        let built = self.fill_live(live, catalog, view, &generation, &columns, progress).await;
        let (mut report, seen) = match built {
            Ok(built) => built,
            Err(error) => {
                let live = Arc::clone(live);
                if let Err(error) = blocking(move || Ok(live.remove(id)?)).await {
                    tracing::warn!(view = %view.address, %error, "rows of a view could not be let go of");
                }
                return Err(error);
            }
        };
        report.rebuilt = why;
        let now = self.clock.now();
        let standing = self.registry.catalog().view(&view.address).map(|view| view.id.clone());
        let (live_, view_) = (Arc::clone(live), view.clone());
        let (null_keys, past_retention) = (report.null_keys, report.past_retention);
        let never_known = report.never_known;
        blocking(move || {
            let change = |record: &mut LiveRecord| {
                if record.view != view_.address {
                    return;
                }
                if record.id == id && record.state == GenerationState::Building {
                    record.state = GenerationState::Live;
                    record.succeeded_at = Some(now);
                    record.horizon = keeping(&view_, now).horizon;
                } else if record.version == view_.id || Some(&record.version) != standing.as_ref() {
                    record.state = GenerationState::Dropped;
                }
            };
            // Before it answers: who reads from it is to know what it holds.
            live_.store().write(&mut |s, writing| {
                LiveGenerations::count_null_keys(id, null_keys, writing);
                LiveGenerations::count_past_retention(id, past_retention, writing);
                LiveGenerations::count_never_known(id, never_known, writing);
                seen.iter()
                    .try_for_each(|(unit, seen)| live_.put_progress((id, s), unit.as_bytes(), seen, writing))
            })?;
            live_.change(&change, &mut |_, _| Ok(()))?;
            Ok(())
        })
        .await?;
        self.sweep_live(live, view).await?;
        if live.live(&view.address, &view.id).is_none_or(|found| found.record.id != id) {
            let message = format!("view `{}` was changed while it was brought up", view.address);
            let hint = Some("run `asof materialize` again".to_owned());
            return Err(asof_engine::Error::Conflict { code: "view_changed", message, hint }.into());
        }
        // What it was kept as in the other store, as another version.
        let standing = self.registry.catalog().view(&view.address).map(|view| view.id.clone());
        for other in self.generations().await?.iter().filter(|other| other.view == view.address) {
            if Some(&other.version) != standing.as_ref() {
                self.drop_generation(other.id).await?;
            }
        }
        self.said(live, &generation, report).await
    }

    /// Reads everything of the source into a new generation, and makes its tiles. Gives what was read of each unit.
    async fn fill_live(
        &self,
        live: &Arc<LiveGenerations>,
        catalog: &Arc<Catalog>,
        view: &ViewVersion,
        generation: &Arc<LiveGeneration>,
        columns: &ViewColumns,
        progress: &Progress,
    ) -> Result<(MaterializeReport, Vec<(String, Vec<u8>)>)> {
        let mut report = MaterializeReport::of(view);
        // After the generation began: what was pushed before is in the source now.
        let mut rows = self.engine.rows(catalog, view, &ViewProgress::default()).await?;
        if is_pushed(catalog, view) {
            // What was pushed since it began is there already.
            rows = rows.until(Position(generation.record.begun));
        }
        let mut seen = Vec::new();
        let mut filler = Filler::new(self, live, view, generation, columns)?;
        for unit in rows.units() {
            let (read, back) = self.read_live(&rows, unit, filler, None, &mut report, progress).await?;
            filler = back;
            seen.push((unit.name().to_owned(), read.seen));
        }
        let filler = blocking(move || {
            filler.flush(None)?;
            Ok(filler)
        })
        .await?;
        filler.report(&mut report);
        if filler.versions == Some(Versions::Pushed) {
            let (live, generation) = (Arc::clone(live), Arc::clone(generation));
            blocking(move || Ok(live.settle(&generation)?)).await?;
        }
        if let Some(windows) = TiledWindows::of(catalog, view, &generation.record)? {
            let (live, generation) = (Arc::clone(live), Arc::clone(generation));
            let (until, stop) = (self.clock.now(), self.stop.clone());
            self.aside(move || tile_all(&live, &generation, &windows, until, &stop)).await?;
        }
        Ok((report, seen))
    }

    /// Puts what is new into the generation that answers, each unit in one batch; none where that is too much.
    async fn add_live(
        &self,
        live: &Arc<LiveGenerations>,
        view: &ViewVersion,
        generation: &Arc<LiveGeneration>,
        rows: &ViewRows,
        progress: &Progress,
    ) -> Result<Option<MaterializeReport>> {
        let mut report = MaterializeReport::of(view);
        if rows.units().is_empty() {
            self.views.is_current(view, self.clock.now());
            return Ok(Some(self.said(live, generation, report).await?));
        }
        let catalog = self.registry.catalog();
        let source = Arc::clone(catalog.source_of(view).map_err(asof_engine::Error::from)?);
        let columns = self.engine.view_columns(&source, view)?;
        for unit in rows.units() {
            let filler = Filler::new(self, live, view, generation, &columns)?;
            let (read, filler) =
                self.read_live(rows, unit, filler, Some(AT_ONCE), &mut report, progress).await?;
            if filler.bytes > AT_ONCE {
                return Ok(None);
            }
            let unit = unit.name().to_owned();
            let filler = blocking(move || {
                let mut filler = filler;
                filler.flush(Some((unit.as_bytes(), &read)))?;
                Ok(filler)
            })
            .await?;
            filler.report(&mut report);
        }
        let (live_, id, now) = (Arc::clone(live), generation.record.id, self.clock.now());
        let horizon = keeping(view, now).horizon;
        blocking(move || {
            let change = |record: &mut LiveRecord| {
                if record.id == id {
                    record.succeeded_at = Some(now);
                    record.horizon = record.horizon.max(horizon);
                }
            };
            Ok(live_.change(&change, &mut |_, _| Ok(()))?)
        })
        .await?;
        Ok(Some(self.said(live, generation, report).await?))
    }

    /// Reads a unit; `most`: past so many bytes the rest is not kept.
    async fn read_live(
        &self,
        rows: &ViewRows,
        unit: &Unit,
        filler: Filler,
        most: Option<usize>,
        report: &mut MaterializeReport,
        progress: &Progress,
    ) -> Result<(UnitRead, Filler)> {
        let (to, mut from) = mpsc::channel::<EvaluatedRows>(2);
        let (said, before) = (Arc::clone(progress), report.rows_read);
        let total = unit.rows().map(|rows| before + rows);
        let draining = self.aside(move || {
            let (mut filler, mut done) = (filler, before);
            while let Some(rows) = from.blocking_recv() {
                done += rows.len() as u64;
                filler.take(&rows, most)?;
                said(ProgressEvent { phase: "materialize", done, total, unit: "rows" });
            }
            Ok(filler)
        });
        let reading = async {
            tokio::select! {
                read = caught(async { Ok(rows.read(unit, to).await?) }) => read,
                () = self.stop.cancelled() => Err(FlowError::Stopping),
            }
        };
        // However the reading ends, what was taken of it is waited for.
        let (read, drained) = tokio::join!(reading, draining);
        // Where the store failed, the engine only knows that nobody took its rows.
        let filler = drained?;
        let read = read?;
        report.units += 1;
        report.rows_read += read.rows;
        report.never_known += read.never_known;
        report.null_keys += read.null_keys;
        Ok((read, filler))
    }

    pub(crate) async fn live_progress(
        &self,
        live: &Arc<LiveGenerations>,
        id: GenerationId,
    ) -> Result<ViewProgress> {
        let live = Arc::clone(live);
        let entries = blocking(move || Ok(live.progress(id)?)).await?;
        let mut said = ViewProgress::default();
        for (unit, seen) in entries {
            said.units.insert(String::from_utf8_lossy(&unit).into_owned(), seen);
        }
        Ok(said)
    }

    /// Lets go of what of a view's rows nobody is answered from.
    async fn sweep_live(&self, live: &Arc<LiveGenerations>, view: &ViewVersion) -> Result<()> {
        self.sweep_live_of(live, &view.address, |record| record.state != GenerationState::Live).await
    }

    /// Lets go of generations of a view.
    pub(crate) async fn sweep_live_of(
        &self,
        live: &Arc<LiveGenerations>,
        view: &Address,
        goes: impl Fn(&LiveRecord) -> bool,
    ) -> Result<()> {
        let all = live.all();
        let records = all.iter().map(|generation| &generation.record);
        let gone = records.filter(|record| record.view == *view && goes(record));
        let gone: Vec<GenerationId> = gone.map(|record| record.id).collect();
        let live = Arc::clone(live);
        blocking(move || Ok(gone.into_iter().try_for_each(|id| live.remove(id))?)).await
    }

    /// Lets go of the rows of views that are no more.
    pub(crate) async fn sweep_live_removed(&self, live: &Arc<LiveGenerations>) -> Result<()> {
        for generation in live.all().iter() {
            let record = &generation.record;
            let gate = self.views.gate(&record.view);
            let _alone = gate.lock().await;
            if self.stop.is_cancelled() {
                return Err(FlowError::Stopping);
            }
            if self.registry.catalog().view(&record.view).is_none() {
                let (live, id) = (Arc::clone(live), record.id);
                blocking(move || Ok(live.remove(id)?)).await?;
            }
        }
        Ok(())
    }

    async fn said(
        &self,
        live: &Arc<LiveGenerations>,
        generation: &Arc<LiveGeneration>,
        mut report: MaterializeReport,
    ) -> Result<MaterializeReport> {
        report.generation = generation.record.id.0;
        let (live, table) = (Arc::clone(live), generation.table.clone());
        report.keys = blocking(move || {
            let mut keys = 0;
            table.entities(live.store().read()?.as_ref(), None, &mut |_| {
                keys += 1;
                Ok(true)
            })?;
            Ok(keys)
        })
        .await?;
        Ok(report)
    }
}

fn arguments(columns: &ViewColumns) -> Vec<asof_model::DataType> {
    let count = columns.columns.len().saturating_sub(columns.filters);
    columns.columns.iter().take(count).map(|column| column.data_type.clone()).collect()
}

impl LiveViews for LiveGenerations {
    fn fits(&self, intake: &Intake, catalog: &Catalog) -> bool {
        let source = &intake.source().address;
        self.all().iter().map(|generation| &generation.record).all(|record| {
            let stands = || catalog.view(&record.view).is_some_and(|view| view.id == record.version);
            record.source != *source
                || record.state == GenerationState::Dropped
                || !stands()
                || intake.views().any(|(view, _)| view.address == record.view && view.id == record.version)
        })
    }

    fn write(&self, batch: &AcceptedBatch<'_>, writing: &mut Writing) -> asof_online::Result<()> {
        let source = &batch.intake.source().address;
        for generation in self.all().iter() {
            let record = &generation.record;
            if record.source != *source || record.state == GenerationState::Dropped {
                continue;
            }
            let of = |(view, _): &(&Arc<ViewVersion>, &ViewColumns)| {
                view.address == record.view && view.id == record.version
            };
            match batch.intake.views().enumerate().find(|(_, view)| of(view)) {
                Some((number, (view, columns))) => {
                    let stored = |row: &&u32| batch.position(**row) != Position::NONE;
                    let count = |rows: &[u32]| rows.iter().filter(stored).count() as u64;
                    let (null_keys, never) = (batch.rows.null_keys(number), batch.rows.never_known(number));
                    LiveGenerations::count_null_keys(record.id, count(null_keys), writing);
                    LiveGenerations::count_never_known(record.id, count(never), writing);
                    let rows = batch.rows.rows_of(number);
                    write_view(self, generation, view, columns, rows, batch, writing)?;
                }
                // Of a version that does not stand any more: it would answer without these rows if it did again.
                None => self.drop_within(record.id, writing)?,
            }
        }
        Ok(())
    }
}

/// Writes what one view keeps of a batch.
fn write_view(
    live: &LiveGenerations,
    generation: &LiveGeneration,
    view: &ViewVersion,
    columns: &ViewColumns,
    rows: &[EvaluatedRows],
    batch: &AcceptedBatch<'_>,
    writing: &mut Writing,
) -> asof_online::Result<()> {
    let refused =
        |reason: String| asof_online::Error::Io { doing: "push to", path: "live".to_owned(), reason };
    let (table, given) = (&generation.table, batch.given);
    let keeping = keeping(view, given.visible_at);
    let layout = RowLayout::new(&columns.arrow_types()).map_err(|error| refused(error.to_string()))?;
    let mut values = Vec::new();
    let mut past_retention = 0;
    for rows in rows {
        let encoder = match rows.op {
            Op::Value => Some(layout.encoder(&rows.features).map_err(|error| refused(error.to_string()))?),
            Op::Delete => None,
        };
        for (row, number) in rows.rows.iter().enumerate() {
            let position = batch.position(*number);
            // Left out of the batch, or too old to count at any T that is answered.
            if position == Position::NONE {
                continue;
            }
            let order = rows.accepted(row, given.visible_at, position);
            if keeping.is_past(order.event_time) {
                past_retention += 1;
                continue;
            }
            values.clear();
            if let Some(encoder) = &encoder {
                encoder.encode(row, &mut values).map_err(|error| refused(error.to_string()))?;
            }
            let key = rows.keys.value(row);
            let valid_until = rows.valid_until(row);
            let row = ViewRow { key, order: &order, number: 0, valid_until, values: &values };
            if table.put(&row, given.first, writing)? {
                live.note(generation.record.id, key);
            }
        }
    }
    LiveGenerations::count_past_retention(generation.record.id, past_retention, writing);
    if given.rows.is_empty() {
        return Ok(());
    }
    let binding = KeyBinding::of(view);
    let mut end = |version: &Version, at: Timestamp| -> asof_online::Result<()> {
        // The row is not kept either, or counts no more.
        if keeping.is_past(version.event_time) {
            return Ok(());
        }
        let order = RowOrder {
            event_time: version.event_time,
            visible_at: version.visible_at,
            order_by: version.order_by.clone(),
            position: version.position,
            op: Op::Value,
            digest: version.digest,
        };
        match kept_key(&version.kept, binding).map_err(|error| refused(error.to_string()))? {
            KeptKey::Key(key) => {
                let row = ViewRow { key, order: &order, number: 0, valid_until: None, values: &[] };
                table.end(&row, at, given.first, writing)
            }
            KeptKey::None => Ok(()),
            KeptKey::Unknown => live.end_read(generation, &order, at, given, writing),
        }
    };
    for row in given.rows {
        if let Some(before) = &row.before {
            end(before, batch.rows.visible_at(row.row).unwrap_or(given.visible_at))?;
        }
        if let Some(after) = &row.after {
            let own = Version {
                visible_at: batch.rows.visible_at(row.row).unwrap_or(given.visible_at),
                order_by: batch.rows.order_by(row.row).into(),
                position: row.position,
                digest: batch.rows.digest(row.row),
                event_time: batch.rows.event_time(row.row),
                content: batch.rows.content(row.row),
                kept: batch.rows.kept(row.row).into(),
            };
            end(&own, after.visible_at)?;
        }
    }
    Ok(())
}

/// A row on its way into a generation.
struct HeldRow {
    key: Vec<u8>,
    order: RowOrder,
    number: u64,
    valid_until: Option<Timestamp>,
    values: Vec<u8>,
    /// The `v` of the version after it.
    end: Option<Timestamp>,
}

/// Where the versions of events come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Versions {
    /// Some are pushed while others are read.
    Pushed,
    /// All are read in one piece, so that each is known to end or not.
    AllRead,
}

/// Rows of a source on their way into a generation.
struct Filler {
    live: Arc<LiveGenerations>,
    generation: Arc<LiveGeneration>,
    /// Where its rows may be versions of events, whether a push may end one of them.
    versions: Option<Versions>,
    view: asof_model::Address,
    layout: Arc<RowLayout>,
    keeping: Keeping,
    rows: Vec<HeldRow>,
    bytes: usize,
    next: u64,
    added: u64,
    past_retention: u64,
}

impl Filler {
    fn new(
        flow: &Flow,
        live: &Arc<LiveGenerations>,
        view: &ViewVersion,
        generation: &Arc<LiveGeneration>,
        columns: &ViewColumns,
    ) -> Result<Filler> {
        let types: Vec<_> = columns.columns.iter().map(|column| arrow_type(&column.data_type)).collect();
        let layout =
            RowLayout::new(&types).map_err(|source| FlowError::Row { view: view.address.clone(), source })?;
        let catalog = flow.registry.catalog();
        Ok(Filler {
            live: Arc::clone(live),
            generation: Arc::clone(generation),
            versions: has_versions(&catalog, view).then(|| match is_pushed(&catalog, view) {
                true => Versions::Pushed,
                false => Versions::AllRead,
            }),
            view: view.address.clone(),
            layout: Arc::new(layout),
            keeping: keeping(view, flow.clock.now()),
            rows: Vec::new(),
            bytes: 0,
            // Rows without a position are told apart by it, also from those of units that were put before: each
            // batch has a position of its own.
            next: live.store().read()?.position().0.cast_unsigned() << 28,
            added: 0,
            past_retention: 0,
        })
    }

    /// Takes rows; those past `most` bytes are counted and not kept.
    fn take(&mut self, rows: &EvaluatedRows, most: Option<usize>) -> Result<()> {
        let (view, layout) = (self.view.clone(), Arc::clone(&self.layout));
        let bad = |source| FlowError::Row { view: view.clone(), source };
        let encoder = match rows.op {
            Op::Value => Some(layout.encoder(&rows.features).map_err(bad)?),
            Op::Delete => None,
        };
        for row in 0..rows.len() {
            let order = rows.order(row);
            if self.keeping.is_past(order.event_time) {
                self.past_retention += 1;
                continue;
            }
            let mut values = Vec::new();
            if let Some(encoder) = &encoder {
                encoder.encode(row, &mut values).map_err(bad)?;
            }
            let key = rows.keys.value(row).to_vec();
            self.bytes += key.len() + values.len() + 64;
            if most.is_some_and(|most| self.bytes > most) {
                continue;
            }
            let number = self.next;
            self.next += 1;
            let (valid_until, end) = (rows.valid_until(row), rows.end(row));
            self.rows.push(HeldRow { key, order, number, valid_until, values, end });
            if most.is_none() && self.bytes >= BATCH {
                self.flush(None)?;
                self.bytes = 0;
            }
        }
        Ok(())
    }

    /// Puts what is held, with what is said of the unit that it is of.
    fn flush(&mut self, seen: Option<(&[u8], &UnitRead)>) -> Result<()> {
        let Filler { live, generation, rows, versions, past_retention, .. } = self;
        if rows.is_empty() && seen.is_none() {
            return Ok(());
        }
        let id = generation.record.id;
        live.store().write_patiently(&mut |s, writing| {
            for held in rows.iter() {
                let HeldRow { key, order, number, valid_until, values, end } = held;
                let row = ViewRow { key, order, number: *number, valid_until: *valid_until, values };
                if *versions == Some(Versions::Pushed) {
                    live.put_read(generation, &row, *end, s, writing)?;
                    continue;
                }
                if generation.table.put(&row, s, writing)? {
                    live.note(id, key);
                }
                if let Some(end) = end {
                    generation.table.end(&row, *end, s, writing)?;
                }
            }
            match seen {
                Some((unit, read)) => {
                    LiveGenerations::count_null_keys(id, read.null_keys, writing);
                    LiveGenerations::count_past_retention(id, *past_retention, writing);
                    LiveGenerations::count_never_known(id, read.never_known, writing);
                    live.put_progress((id, s), unit, &read.seen, writing)
                }
                None => Ok(()),
            }
        })?;
        self.added += self.rows.len() as u64;
        self.rows.clear();
        Ok(())
    }

    fn report(&self, report: &mut MaterializeReport) {
        report.rows_added += self.added;
        report.past_retention += self.past_retention;
    }
}
