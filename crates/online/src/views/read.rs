//! What windows come to: tiles where they help, rows where they do not.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;

use asof_compute::{Ladder, Position, RowOrder, StoredWindows, WindowSums, WindowTotals};
use asof_model::Timestamp;

use super::ViewTable;
use super::key::{self, Placed, Row};
use super::memory::Request;
use super::rows::KeptRows;
use super::sums::{Adding, Found, Part};
use crate::Result;
use crate::live::{Direction, LiveSnapshot};

/// Windows of some entities to be added up.
#[derive(Debug, Clone, Copy)]
pub struct WindowsAsked<'a> {
    /// The generation that answers.
    pub table: &'a ViewTable,
    /// How its rows are stored, and what is kept of them.
    pub stored: &'a StoredWindows,
    /// The lengths of its tiles.
    pub ladder: &'a Ladder,
    /// The features of the plan that are asked for.
    pub features: &'a [usize],
    /// T.
    pub at: Timestamp,
}

/// A row that came, or ended, late.
#[derive(Debug)]
struct Late {
    event_time: Timestamp,
    visible_at: Timestamp,
    s: Position,
    what: LateWhat,
}

#[derive(Debug)]
enum LateWhat {
    /// A row, with the key and the entry it has among the rows.
    Row { order: Vec<u8>, entry: Vec<u8> },
    /// The end of one.
    End,
}

/// So many tiles of an entity are read with its state. Most entities have fewer, and each other look at them is a search
/// of the store.
pub(super) const FEW: usize = 128;

/// What stands beside an entity's rows.
#[derive(Debug, Default)]
pub(super) struct EntityState {
    /// Before it there may be tiles.
    pub(super) tiled: Option<Timestamp>,
    /// Late rows up to it have gone, and were many.
    pub(super) gone: Option<Position>,
    /// Its tiles are read where they are needed.
    pub(super) many: bool,
    /// No tile is of a lower level: where rows are far apart, the shortest tiles would hold next to none.
    lowest: usize,
    /// The least T that can be answered, where tiles stand in for rows.
    pub(super) horizon: Option<Timestamp>,
    /// What came late to where there may be tiles, by event time.
    late: Vec<Late>,
    /// How many rows and ends are written down as late, wherever they came.
    pub(super) written: usize,
    /// All its tiles by level and start, with their entries; none where they are many.
    tiles: Option<Arc<Vec<AtTile>>>,
}

/// A tile's level and start, and its entry.
type AtTile = ((usize, Timestamp), Vec<u8>);

impl EntityState {
    /// `before`: what it was when its tiles were what they are now.
    pub(super) fn read(
        table: &ViewTable,
        from: &dyn LiveSnapshot,
        entity: &[u8],
        before: Option<&EntityState>,
    ) -> Result<EntityState> {
        let mut found = EntityState::default();
        let mut tiles = Vec::new();
        let mut few = true;
        // Tiles come by level.
        let mut lowest = None;
        let behind: Cell<Option<key::Mark>> = Cell::new(None);
        let mut take = |place: &[u8], entry: &[u8]| {
            let place = place.get(entity.len()..).unwrap_or_default();
            let place = match key::whole(key::read_beside(place), "a key beside rows")? {
                key::Beside::State(place) => place,
                key::Beside::Tile(level, start) => {
                    if before.is_some() {
                        return Ok(false);
                    }
                    lowest.get_or_insert(level);
                    few = tiles.len() < FEW && behind.get().is_none_or(|mark| !mark.many);
                    if few {
                        tiles.push(((level, start), entry.to_vec()));
                    }
                    return Ok(few);
                }
            };
            match key::whole(key::read_state(place), "the key of a late row")? {
                key::State::Tiled => {
                    let mark = key::whole(key::read_mark(entry), "a mark")?;
                    found.tiled = Some(mark.until);
                    // What went leaves its place until tables are merged: the search goes on behind it.
                    behind.set(Some(mark));
                    return Ok(mark.gone.is_none());
                }
                key::State::Late(s, placed) => {
                    let (event_time, visible_at) = (placed.event_time, placed.visible_at);
                    found.written += 1;
                    // The mark comes first. Past it no tile has to be told of anything: its rows are read.
                    if found.tiled.is_none_or(|tiled| event_time >= tiled) {
                        return Ok(true);
                    }
                    let what = match placed.is_end {
                        true => LateWhat::End,
                        false => {
                            let order = place.get(9..).unwrap_or_default().to_vec();
                            LateWhat::Row { order, entry: entry.to_vec() }
                        }
                    };
                    found.late.push(Late { event_time, visible_at, s, what });
                }
            }
            Ok(true)
        };
        from.scan(table.number(), entity, Some(&key::BESIDE), Direction::Forward, &mut take)?;
        if let Some(gone) = behind.get().and_then(|mark| mark.gone) {
            from.scan(table.number(), entity, Some(&key::late_past(gone)), Direction::Forward, &mut take)?;
        }
        if let Some(mark) = behind.get() {
            (found.gone, found.many, found.horizon) = (mark.gone, mark.many, mark.horizon);
        }
        (found.tiles, found.lowest) = match before {
            Some(before) => (before.tiles.clone(), before.lowest),
            None => (few.then(|| Arc::new(tiles)), lowest.unwrap_or_default()),
        };
        found.late.sort_by_key(|late| late.event_time);
        Ok(found)
    }

    /// What came late to where there may be tiles, by event time: event time, `v`, and the position of its batch.
    pub(super) fn late(&self) -> impl Iterator<Item = (Timestamp, Timestamp, Position)> {
        self.late.iter().map(|late| (late.event_time, late.visible_at, late.s))
    }

    /// The tile of a level that begins there.
    pub(super) fn tile(
        &self,
        table: &ViewTable,
        from: &dyn LiveSnapshot,
        entity: &[u8],
        at: (usize, Timestamp),
    ) -> Result<Option<Cow<'_, [u8]>>> {
        if let Some(tiles) = &self.tiles {
            let found = tiles.binary_search_by_key(&at, |(at, _)| *at).ok();
            return Ok(found.and_then(|found| tiles.get(found)).map(|(_, tile)| Cow::Borrowed(&tile[..])));
        }
        let place = [&key::tiles(entity, at.0)[..], &key::start(at.1)].concat();
        Ok(from.get(table.number(), &place)?.map(Cow::Owned))
    }

    /// One with tiles before `tiled`, to which a row came late at this position; `place`: its own among rows.
    #[cfg(test)]
    pub(super) fn with_late(tiled: Timestamp, s: Position, place: &[u8]) -> EntityState {
        let placed = key::read_order(place).expect("a place");
        let what = LateWhat::Row { order: place.to_vec(), entry: Vec::new() };
        let late = Late { event_time: placed.event_time, visible_at: placed.visible_at, s, what };
        EntityState { tiled: Some(tiled), late: vec![late], written: 1, ..EntityState::default() }
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let late = self.late.iter().map(|late| match &late.what {
            LateWhat::Row { order, entry } => order.len() + entry.len(),
            LateWhat::End => 0,
        });
        let tiles = self.tiles.iter().flat_map(|tiles| tiles.iter());
        let tiles = tiles.map(|(_, entry)| entry.len() + size_of::<AtTile>());
        size_of::<EntityState>()
            + late.map(|bytes| bytes + size_of::<Late>()).sum::<usize>()
            + tiles.sum::<usize>()
    }

    /// Whether anything came late to these event times after a position.
    pub(super) fn came_late(&self, within: Range<i64>, after: Position) -> bool {
        self.late_within(within).iter().any(|late| late.s > after)
    }

    /// What came late to these event times.
    fn late_within(&self, within: Range<i64>) -> &[Late] {
        let place = |time| self.late.partition_point(|late| late.event_time.0 < time);
        &self.late[place(within.start)..place(within.end)]
    }

    /// What came late within the stretch of a tile, and is not in it.
    fn late_to(&self, within: Range<i64>, tile: &key::Tile<'_>) -> impl Iterator<Item = &Late> {
        self.late_within(within).iter().filter(move |late| !tile.holds(late.s, late.visible_at))
    }
}

/// Takes what covers some stretches of time.
pub(super) trait Cover {
    /// The states of a tile that lies within a stretch.
    fn tile(&mut self, stretch: usize, states: &[u8]) -> Result<()>;
    /// A row that counts, and lies within a stretch.
    fn row(&mut self, stretch: usize, placed: &Placed<'_>, row: &Row<'_>) -> Result<()>;
    /// The `v` of something that was looked at, whether it counts or not.
    fn saw(&mut self, _at: Timestamp) {}
}

/// Tiles that are made and not stored yet, by level and start; none: the one that is there is to go.
pub(super) type Made = BTreeMap<(usize, Timestamp), Option<Vec<u8>>>;

/// Stretches of event time, with numbers.
pub(super) type Stretch = (Range<i64>, usize);

/// One entity of one table, read at one T.
pub(super) struct Reading<'a> {
    pub(super) table: &'a ViewTable,
    pub(super) ladder: &'a Ladder,
    pub(super) from: &'a dyn LiveSnapshot,
    pub(super) entity: &'a [u8],
    pub(super) state: &'a EntityState,
    /// What is known by then counts.
    pub(super) at: Timestamp,
    /// Tiles in place of those that are there.
    pub(super) made: &'a Made,
}

/// How far an entity's tiles may reach: those that are made count.
pub(super) struct Reach {
    /// Tiles end at or before it.
    pub(super) until: Timestamp,
    /// Levels that are read, from the lowest.
    pub(super) levels: usize,
}

impl Reading<'_> {
    /// Covers stretches that ascend and do not overlap. Gives how many rows were read. `request`: what is remembered of the
    /// entity; none where nobody would ask for it again.
    pub(super) fn cover(
        &self,
        reach: &Reach,
        stretches: Vec<Stretch>,
        mut request: Option<&mut Request<'_>>,
        to: &mut dyn Cover,
    ) -> Result<usize> {
        let mut gaps = stretches;
        let any = !self.made.is_empty() || self.state.tiles.as_ref().is_none_or(|tiles| !tiles.is_empty());
        for level in (0..if any { reach.levels } else { 0 }).rev() {
            let length = self.ladder.length(level);
            let mut left: Vec<Stretch> = Vec::with_capacity(gaps.len() + 2);
            let within = |gap: &Range<i64>| {
                let last = gap.end.min(reach.until.0).div_euclid(length).saturating_mul(length);
                ceil(gap.start, length)..last
            };
            for run in runs(&gaps) {
                let parts: Vec<(Part, Found)> = run
                    .iter()
                    .map(|(gap, _)| {
                        let part = (level, within(gap));
                        let request = request.as_mut().filter(|_| self.may_be_remembered(&part));
                        let found = request.map_or(Found::Nothing, |request| request.find(&part, self.at));
                        (part, found)
                    })
                    .collect();
                let read = parts.iter().filter(|(_, found)| !matches!(found, Found::Sum(_)));
                let ranges = read.map(|((_, range), _)| range.clone()).filter(|range| !range.is_empty());
                let whole = ranges.reduce(|one, other| one.start..other.end);
                let tiles = whole.map(|whole| self.tiles(level, whole)).transpose()?.unwrap_or_default();
                let mut tiles = tiles.into_iter().peekable();
                for ((gap, stretch), (part, found)) in run.iter().zip(parts) {
                    let covered = match found {
                        Found::Sum(sum) => {
                            if let Some(newest) = sum.newest {
                                to.tile(*stretch, &sum.states)?;
                                to.saw(newest);
                            }
                            sum.covered.clone()
                        }
                        Found::Adding(adding) => {
                            let adding = request.as_deref_mut().zip(Some(adding));
                            self.part(&part, *stretch, &mut tiles, adding, to)?
                        }
                        Found::Nothing => self.part(&part, *stretch, &mut tiles, None, to)?,
                    };
                    let mut at = gap.start;
                    for range in covered {
                        if at < range.start {
                            left.push((at..range.start, *stretch));
                        }
                        at = range.end;
                    }
                    if at < gap.end {
                        left.push((at..gap.end, *stretch));
                    }
                }
            }
            gaps = left;
        }
        self.rows(&gaps, request, to)
    }

    /// Takes those tiles of a part that help, and gives what they cover; remembers what they come to where all do.
    fn part(
        &self,
        part: &Part,
        stretch: usize,
        tiles: &mut Peekable<btree_map::IntoIter<Timestamp, Vec<u8>>>,
        mut adding: Option<(&mut Request<'_>, Adding)>,
        to: &mut dyn Cover,
    ) -> Result<Vec<Range<i64>>> {
        let (level, range) = part;
        let length = self.ladder.length(*level);
        let mut covered: Vec<Range<i64>> = Vec::new();
        while let Some((start, tile)) = tiles.next_if(|(start, _)| start.0 < range.end) {
            // One that lies across the edge of two stretches is of neither.
            if start.0 < range.start {
                continue;
            }
            let Some(tile) = key::read_tile(&tile).filter(|tile| self.helps(start, length, tile)) else {
                adding = None;
                continue;
            };
            let end = start.0.saturating_add(length);
            match covered.last_mut().filter(|last| last.end == start.0) {
                Some(last) => last.end = end,
                None => covered.push(start.0..end),
            }
            to.tile(stretch, tile.states)?;
            to.saw(tile.newest);
            self.late_rows(start.0..end, &tile, stretch, to)?;
            if let Some((_, adding)) = &mut adding {
                adding.tile(tile.newest, tile.states)?;
            }
        }
        if let Some((request, adding)) = adding {
            request.add(part, adding, covered.clone());
        }
        Ok(covered)
    }

    /// Whether nothing came late to a part, so that its tiles say all there is; and there may be some.
    fn may_be_remembered(&self, (level, range): &Part) -> bool {
        *level >= self.state.lowest && !range.is_empty() && self.state.late_within(range.clone()).is_empty()
    }

    /// The tiles of a level that begin within a range, in order.
    fn tiles(&self, level: usize, range: Range<i64>) -> Result<BTreeMap<Timestamp, Vec<u8>>> {
        let mut found = BTreeMap::new();
        match &self.state.tiles {
            Some(tiles) => {
                let place = |start| tiles.partition_point(|(at, _)| *at < (level, Timestamp(start)));
                let tiles = &tiles[place(range.start)..place(range.end)];
                found.extend(tiles.iter().map(|((_, start), tile)| (*start, tile.clone())));
            }
            None if level < self.state.lowest => {}
            None => {
                let prefix = key::tiles(self.entity, level);
                let begin = key::start(Timestamp(range.start));
                let number = self.table.number();
                self.from.scan(number, &prefix, Some(&begin), Direction::Forward, &mut |place, entry| {
                    let start = place.get(prefix.len()..).and_then(key::read_start);
                    let start = key::whole(start, "the key of a tile")?;
                    if start.0 >= range.end {
                        return Ok(false);
                    }
                    found.insert(start, entry.to_vec());
                    Ok(true)
                })?;
            }
        }
        if !self.made.is_empty() && range.start < range.end {
            let made = self.made.range((level, Timestamp(range.start))..(level, Timestamp(range.end)));
            for ((_, start), tile) in made {
                match tile {
                    Some(tile) => found.insert(*start, tile.clone()),
                    None => found.remove(start),
                };
            }
        }
        Ok(found)
    }

    /// Whether a tile can be taken for its rows: everything it holds is known by then, and no row of it ended since
    /// it was made.
    fn helps(&self, start: Timestamp, length: i64, tile: &key::Tile<'_>) -> bool {
        let within = start.0..start.0.saturating_add(length);
        let mut late = self.state.late_to(within, tile);
        tile.newest <= self.at && !late.any(|late| matches!(late.what, LateWhat::End))
    }

    /// What came late to a tile. None of it has ended since: the tile would not help.
    fn late_rows(
        &self,
        within: Range<i64>,
        tile: &key::Tile<'_>,
        stretch: usize,
        to: &mut dyn Cover,
    ) -> Result<()> {
        for late in self.state.late_to(within, tile) {
            if let LateWhat::Row { order, entry } = &late.what
                && late.visible_at != Timestamp::NEVER
            {
                to.saw(late.visible_at);
                if late.visible_at <= self.at {
                    let placed = key::whole(key::read_order(order), "the key of a late row")?;
                    to.row(stretch, &placed, &key::whole(key::read_row(entry), "a late row")?)?;
                }
            }
        }
        Ok(())
    }

    /// Reads rows of what no tile covers; stretches without anything between them are read in one.
    fn rows(
        &self,
        gaps: &[Stretch],
        mut request: Option<&mut Request<'_>>,
        to: &mut dyn Cover,
    ) -> Result<usize> {
        let mut read = 0;
        for run in runs(gaps) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let within = first.0.start..last.0.end;
            let mut into = Counting { run, at: self.at, to };
            if let Some(rows) = request.as_ref().and_then(|request| request.rows(&within, self.state)) {
                read += rows.each(&within, &mut |place, entry, end| into.row(place, entry, end))?;
                continue;
            }
            let keeping = request.as_ref().and_then(|request| request.keeping(within.start, self.state));
            let (rows, kept) = self.stored_rows(&within, keeping, &mut into)?;
            read += rows;
            if let (Some(request), Some(kept)) = (&mut request, kept) {
                request.keep_rows(kept);
            }
        }
        Ok(read)
    }

    /// Reads the rows of a stretch from the store, and says how many there are; `kept`: where they are left to others.
    fn stored_rows(
        &self,
        within: &Range<i64>,
        mut kept: Option<KeptRows>,
        into: &mut Counting<'_>,
    ) -> Result<(usize, Option<KeptRows>)> {
        let (number, prefix) = (self.table.number(), key::rows(self.entity));
        let begin = key::from_event_time(Timestamp(within.start));
        let mut read = 0;
        // The row before, whose end may follow.
        let (mut of, mut row, mut waits) = (Vec::new(), Vec::new(), None);
        let mut take = |event_time, place: &[u8], entry: &[u8], end: Option<Timestamp>| -> Result<()> {
            if kept.as_mut().is_some_and(|kept| !kept.push(event_time, place, entry, end)) {
                kept = None;
            }
            into.row(place, entry, end)
        };
        let mut next = None;
        self.from.scan(number, &prefix, Some(&begin), Direction::Forward, &mut |place, entry| {
            let place = place.get(prefix.len()..).unwrap_or_default();
            let placed = key::whole(key::read_order(place), "the key of a row")?;
            if placed.is_end {
                let end = key::whole(key::read_end(entry), "the end of a row")?;
                if let Some(event_time) = waits.take() {
                    // The end of a row stands right behind it.
                    let own = place.get(..place.len() - 1) == Some(&of[..]);
                    take(event_time, &of, &row, own.then_some(end))?;
                }
                return Ok(true);
            }
            if let Some(event_time) = waits.take() {
                take(event_time, &of, &row, None)?;
            }
            if placed.event_time.0 >= within.end {
                next = Some(placed.event_time);
                return Ok(false);
            }
            read += 1;
            of.clear();
            of.extend_from_slice(place);
            row.clear();
            row.extend_from_slice(entry);
            waits = Some(placed.event_time);
            Ok(true)
        })?;
        if let Some(event_time) = waits {
            take(event_time, &of, &row, None)?;
        }
        if let (Some(kept), Some(next)) = (&mut kept, next) {
            kept.before(next);
        }
        Ok((read, kept))
    }
}

/// Rows of some stretches, those that count at T, on their way to who asked.
struct Counting<'a> {
    /// Without anything between them.
    run: &'a [Stretch],
    /// T.
    at: Timestamp,
    to: &'a mut dyn Cover,
}

impl Counting<'_> {
    /// Takes the next row, which is no earlier than those before.
    fn row(&mut self, place: &[u8], entry: &[u8], end: Option<Timestamp>) -> Result<()> {
        let placed = key::whole(key::read_order(place), "the key of a row")?;
        // What is never known is in no tile.
        if placed.visible_at == Timestamp::NEVER {
            return Ok(());
        }
        self.to.saw(placed.visible_at);
        end.into_iter().for_each(|end| self.to.saw(end));
        if placed.visible_at > self.at || end.is_some_and(|end| end <= self.at) {
            return Ok(());
        }
        while self.run.first().is_some_and(|(gap, _)| gap.end <= placed.event_time.0) {
            self.run = &self.run[1..];
        }
        let Some((_, stretch)) = self.run.first() else { return Ok(()) };
        self.to.row(*stretch, &placed, &key::whole(key::read_row(entry), "a row")?)
    }
}

/// Stretches in runs without anything between them.
fn runs(gaps: &[Stretch]) -> impl Iterator<Item = &[Stretch]> {
    gaps.chunk_by(|one, other| one.0.end == other.0.start)
}

/// Up to a multiple.
fn ceil(number: i64, of: i64) -> i64 {
    number.div_euclid(of).saturating_add(i64::from(number.rem_euclid(of) != 0)).saturating_mul(of)
}

/// What [`sum_windows`] came to.
#[derive(Debug)]
pub struct WindowsRead {
    /// To be finished.
    pub totals: WindowTotals,
    /// Of each entity how many rows were read because no tile holds them, and how many that came late.
    pub rows: Vec<usize>,
}

/// Adds up the windows of some entities, none for one without a key.
///
/// # Errors
/// [`crate::Error::Io`], [`crate::Error::Damaged`].
pub fn sum_windows(
    asked: &WindowsAsked<'_>,
    from: &dyn LiveSnapshot,
    entities: &mut dyn Iterator<Item = Option<&[u8]>>,
) -> Result<WindowsRead> {
    let entities: Vec<Option<&[u8]>> = entities.collect();
    let WindowsAsked { table, stored, ladder, features, at } = *asked;
    let mut sums = WindowSums::new(stored.plan(), features, at, entities.len());
    let stretches: Vec<Stretch> = sums
        .stretches()
        .map(|(from, until)| from.0..until.0)
        .enumerate()
        .filter(|(stretch, _)| sums.is_covered(*stretch))
        .map(|(stretch, range)| (range, stretch))
        .collect();
    let made = Made::new();
    let mut rows = Vec::with_capacity(entities.len());
    let mut into = Sums {
        slots: Vec::new(),
        numbers: Vec::new(),
        rows: stored.rows().map_err(broken)?,
        sums: &mut sums,
        entity: 0,
    };
    for (number, entity) in entities.iter().enumerate() {
        let Some(entity) = entity else {
            rows.push(0);
            continue;
        };
        into.entity = number;
        let mut request =
            table.memory().and_then(|memory| memory.request(stored.plan(), entity, from.position()));
        let state = match request.as_ref().and_then(Request::state) {
            Some((state, true)) => state,
            before => {
                let before = before.as_ref().map(|(before, _)| before.as_ref());
                let state = Arc::new(EntityState::read(table, from, entity, before)?);
                request.iter_mut().for_each(|request| request.keep_state(&state));
                state
            }
        };
        // Nobody asks so early; who did would be told half of it.
        if state.horizon.is_some_and(|horizon| at < horizon) {
            let what = "windows were asked before the rows that are let go of".to_owned();
            return Err(crate::Error::Damaged { path: "live".to_owned(), what });
        }
        let reach = match state.tiled {
            Some(until) => Reach { until, levels: ladder.levels() },
            None => Reach { until: Timestamp(i64::MIN), levels: 0 },
        };
        let reading = Reading { table, ladder, from, entity, state: &state, at, made: &made };
        // Late ones are read besides what they belong to, until tiles hold them.
        rows.push(reading.cover(&reach, stretches.clone(), request.as_mut(), &mut into)? + state.written);
        request.into_iter().for_each(Request::done);
    }
    let Sums { slots, numbers, rows: read, .. } = into;
    let read = read.finish().map_err(broken)?;
    sums.add_rows(&slots, &numbers, &read).map_err(broken)?;
    Ok(WindowsRead { totals: sums.total(), rows })
}

pub(super) fn broken(error: asof_compute::ComputeError) -> crate::Error {
    key::damaged(&error.to_string())
}

/// Tiles and rows on their way into the sums of an entity.
struct Sums<'a, 'b> {
    sums: &'a mut WindowSums,
    entity: usize,
    rows: asof_compute::StoredRows<'b>,
    /// The slots of rows, and their numbers.
    slots: Vec<u32>,
    numbers: Vec<u32>,
}

impl Cover for Sums<'_, '_> {
    fn tile(&mut self, stretch: usize, states: &[u8]) -> Result<()> {
        self.sums.add_tile(self.entity, stretch, states).map_err(broken)
    }

    fn row(&mut self, stretch: usize, placed: &Placed<'_>, row: &Row<'_>) -> Result<()> {
        let order = || -> RowOrder { placed.order(row.op) };
        let number = self.rows.push(placed.event_time, row.values, order).map_err(broken)?;
        self.slots.push(self.sums.slot(self.entity, stretch));
        self.numbers.push(number);
        Ok(())
    }
}
