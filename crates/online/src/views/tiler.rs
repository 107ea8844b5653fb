//! Making tiles, so that little is read, and letting go of the rows that they may stand in for.

use std::borrow::Cow;
use std::collections::BTreeSet;

use asof_compute::{Ladder, PlanStates, Position, StoredRows, StoredWindows};
use asof_model::Timestamp;

use super::key::{self, Placed, Row};
use super::memory::Change;
use super::read::{Cover, EntityState, FEW, Made, Reach, Reading, broken};
use super::{TiledKeys, ViewTable};
use crate::Result;
use crate::live::{Direction, LiveSnapshot, LiveStore, sweep};

/// A tile is made where it stands for so much reading, in rows.
const WORTH: u32 = 16;
/// What reading a tile costs, in rows.
const TILE: u32 = 4;
/// So many rows of an entity are looked at together.
const STEP: usize = 20_000;
/// So often within one step of the way: what stands beside the rows is read once for it.
const STEPS: usize = 50;
/// Where so many late rows go at once, later readers are told not to look for them.
const GONE: usize = 64;
/// So many entries are changed in one batch.
const BATCH: usize = 2_000;

/// Makes the tiles of one table.
#[derive(Debug, Clone, Copy)]
pub struct Tiler<'a> {
    /// Of this store.
    pub store: &'a dyn LiveStore,
    /// The table.
    pub table: &'a ViewTable,
    /// How its rows are stored, and what is kept of them.
    pub stored: &'a StoredWindows,
    /// The lengths of its tiles.
    pub ladder: &'a Ladder,
    /// The least T that is answered; none where rows stay, since they may end yet.
    pub horizon: Option<Timestamp>,
}

/// What one step came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tiled {
    /// Tiles made, or made again.
    pub tiles: usize,
    /// Late rows that tiles hold now.
    pub late: usize,
    /// Rows, and tiles of parts, that a tile stands in for now.
    pub gone: usize,
    /// Whether all that can be summed up now is.
    pub done: bool,
}

impl Tiler<'_> {
    /// From now on everything of these entities that happened before `until` may be summed up: what is accepted later
    /// of it is late. `mark` writes how far that is, with the words that change, where the caller keeps them to be given to
    /// [`ViewTable::windows`]. Durable when it returns, and what came before is published then.
    ///
    /// # Errors
    /// As [`LiveStore::write`].
    pub fn advance(
        &self,
        until: Timestamp,
        entities: &[Vec<u8>],
        mark: &mut dyn FnMut(Timestamp, &[TiledKeys], &mut crate::live::Writing) -> Result<()>,
    ) -> Result<()> {
        let _alone = self.table.keeping();
        let words = self.table.with_tiled_keys(entities);
        // Never back, also where the clock went: there are tiles up to there.
        let until = until.max(self.table.tiled());
        if words.is_empty() && until <= self.table.settled() {
            return Ok(());
        }
        let mut before = Vec::new();
        let written = self.store.write_patiently(&mut |_, writing| {
            mark(until, &words, writing)?;
            self.table.set_tiled(until);
            before = self.table.set_tiled_keys(&words);
            Ok(())
        });
        if let Err(error) = written {
            // They have no tiles, and are to be written down with the next that does.
            self.table.set_tiled_keys(&before);
            return Err(error);
        }
        self.table.settle(until);
        Ok(())
    }

    /// Whether an entity has rows enough that [`Tiler::advance`] is to be told of it.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::Damaged`].
    pub fn is_worth(&self, entity: &[u8]) -> Result<bool> {
        let mut rows = 0;
        let prefix = key::rows(entity);
        self.store.read()?.scan(self.table.number(), &prefix, None, Direction::Forward, &mut |_, _| {
            rows += 1;
            Ok(rows < WORTH)
        })?;
        Ok(rows >= WORTH)
    }

    /// From now on tiles may stand in for rows of any entity that happened before the end this gives: what is accepted
    /// later of them is late. `mark` writes how far that is, where the caller keeps it to be given to
    /// [`ViewTable::with_kept`]. Durable when it returns, and what came before is published then. None where no rows may
    /// go.
    ///
    /// # Errors
    /// As [`LiveStore::write`].
    pub fn keep(
        &self,
        mark: &mut dyn FnMut(Timestamp, &mut crate::live::Writing) -> Result<()>,
    ) -> Result<Option<Timestamp>> {
        let _alone = self.table.keeping();
        let windows = self.stored.plan().windows();
        let Some((level, horizon)) = self.ladder.keeps(windows).zip(self.horizon) else { return Ok(None) };
        let until = self.ladder.kept_until(level, windows, horizon).max(self.table.kept());
        if until > self.table.kept_settled() {
            self.store.write_patiently(&mut |_, writing| {
                mark(until, writing)?;
                self.table.set_kept(until);
                Ok(())
            })?;
            self.table.settle_kept(until);
        }
        Ok(Some(until))
    }

    /// Makes the tiles of one entity that are worth it, a step of the way; those that late rows change are made
    /// again first. None of one that [`Tiler::advance`] was never told of.
    ///
    /// # Errors
    /// As [`LiveStore::write`].
    pub fn entity(&self, entity: &[u8]) -> Result<Tiled> {
        let _alone = self.table.keeping();
        match self.table.may_have_tiles(entity) {
            true => self.make(entity, false),
            false => Ok(Tiled { done: true, ..Tiled::default() }),
        }
    }

    /// The same, and lets go of rows of any entity that happened before what [`Tiler::keep`] said, where tiles in their
    /// place take less room.
    ///
    /// # Errors
    /// As [`LiveStore::write`].
    pub fn let_go(&self, entity: &[u8]) -> Result<Tiled> {
        let made = self.entity(entity)?;
        if !made.done || self.horizon.is_none() {
            return Ok(made);
        }
        let _alone = self.table.keeping();
        let kept = self.make(entity, true)?;
        Ok(Tiled { tiles: made.tiles + kept.tiles, late: made.late + kept.late, ..kept })
    }

    /// Makes what tiles there are to be, of what is not over yet or in place of rows.
    fn make(&self, entity: &[u8], in_place: bool) -> Result<Tiled> {
        // Nothing that comes past the snapshot is before it without being late.
        let (settled, kept) = (self.table.settled(), self.table.kept_settled());
        let from = self.store.read()?;
        let state = EntityState::read(self.table, from.as_ref(), entity, None)?;
        let position = from.position();
        let mut work = Work {
            tiler: self,
            from: from.as_ref(),
            entity,
            state: &state,
            made: Made::new(),
            position,
            keeps: self.ladder.keeps(self.stored.plan().windows()),
            horizon: self.horizon.max(state.horizon).unwrap_or(Timestamp(i64::MIN)),
            any_kept: state.horizon.is_some(),
        };
        let tiled = state.tiled.unwrap_or(Timestamp(i64::MIN));
        work.late(tiled)?;
        let (mut reached, mut clears, mut done) = (tiled, false, true);
        if in_place {
            (reached, clears) = work.keep(tiled, kept)?;
        } else {
            for _ in 0..STEPS {
                if reached < settled {
                    reached = work.forward(reached, settled)?;
                }
            }
            done = reached >= settled;
        }
        let tiles = work.made.values().flatten().count();
        // Few rows are read as they are: nothing is written of an entity that has no tiles.
        let many = state.many || tiles > FEW;
        let (lates, waits) = work.lates()?;
        let gone = waits.map_or(position, |first| Position(first.0.saturating_sub(1)));
        let gone = (many || state.gone.is_some() || state.written >= GONE).then_some(gone);
        let Work { made, horizon, .. } = work;
        drop(from);
        let stand_in = made.values().flatten().any(|tile| key::is_kept(tile));
        let horizon = if stand_in { Some(horizon) } else { state.horizon };
        let until = if in_place { reached } else { tiled };
        let moves = stand_in && (until, horizon) != (tiled, state.horizon);
        let remember = moves
            || reached != tiled && (state.tiled.is_some() || tiles > 0 || !done)
            || gone.is_some() && !lates.is_empty() && state.tiled.is_some();
        let late = lates.len();
        // Where tiles stand in for rows, who can be answered and how far they reach is said before there is one, or with it.
        // Else tiles first: who finds them knows from their position which late rows they hold. What no tile holds yet is
        // read from the rows, since the mark comes last. What tiles stand in for goes when all that is there. So it may be
        // cut off between any two batches.
        let before = key::Mark { until, gone: state.gone, many: state.many, horizon };
        let before = (moves && made.len() + late >= BATCH).then_some(before);
        let after = remember.then_some(key::Mark { until: reached, gone, many, horizon });
        let mark =
            |mark: Option<key::Mark>| mark.map(|mark| (key::tiled(entity), Some(key::put_mark(&mark))));
        let tile =
            |((level, start), tile)| ([&key::tiles(entity, level)[..], &key::start(start)].concat(), tile);
        let nothing = made.is_empty() && late == 0 && !moves && !remember && !clears;
        let memory = self.table.memory().filter(|_| !nothing);
        if let Some(memory) = memory {
            memory.changing(entity, if clears { Change::Any } else { Change::Tiles(&made) });
        }
        let changes = mark(before).into_iter().chain(made.into_iter().map(tile));
        let changes = changes.chain(lates.into_iter().map(|late| (late, None)));
        self.write(&mut changes.chain(mark(after)))?;
        let gone = if clears { self.clear(entity, kept)? } else { 0 };
        if let Some(memory) = memory {
            memory.changed(entity, self.store.read()?.position());
        }
        Ok(Tiled { tiles, late, gone, done })
    }

    /// Changes entries of the table, a few at a time, since who pushes waits behind them.
    fn write(&self, changes: &mut dyn Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>) -> Result<()> {
        let number = self.table.number();
        loop {
            // What is made of a batch may be asked for again.
            let some: Vec<(Vec<u8>, Option<Vec<u8>>)> = (&mut *changes).take(BATCH).collect();
            if some.is_empty() {
                return Ok(());
            }
            self.store.write_patiently(&mut |_, writing| {
                some.iter().try_for_each(|(place, entry)| match entry {
                    Some(entry) => writing.put(number, place, entry),
                    None => writing.remove(number, place),
                })
            })?;
        }
    }

    /// Removes what tiles stand in for before `until`: rows and tiles of parts. What came late to them is late besides.
    fn clear(&self, entity: &[u8], until: Timestamp) -> Result<usize> {
        let (number, end) = (self.table.number(), key::start(until));
        let Some(keeps) = self.ladder.keeps(self.stored.plan().windows()) else { return Ok(0) };
        let mut kept = BTreeSet::new();
        let prefix = key::tiles(entity, keeps);
        self.store.read()?.scan(number, &prefix, None, Direction::Forward, &mut |place, entry| {
            if key::is_kept(entry) {
                let start = place.get(prefix.len()..).and_then(key::read_start);
                kept.insert(key::whole(start, "the key of a tile")?);
            }
            Ok(true)
        })?;
        let parts = (0..keeps).map(|level| key::tiles(entity, level));
        let mut gone = 0;
        for prefix in std::iter::once(key::rows(entity)).chain(parts) {
            let mut next = Some(Vec::new());
            while let Some(from) = next.filter(|from| from[..] < end[..]) {
                let swept = sweep(self.store, number, &prefix, Some(&from), &mut |place, _| {
                    // Rows begin with their event time as tiles do with their start.
                    let at = place.get(prefix.len()..).and_then(|at| at.get(..8)).and_then(key::read_start);
                    Ok(kept.contains(&self.ladder.start(keeps, key::whole(at, "the key of a row")?)))
                })?;
                gone += swept.removed;
                next = swept.next;
            }
        }
        Ok(gone)
    }
}

/// The tiles of one entity being made.
struct Work<'a> {
    tiler: &'a Tiler<'a>,
    from: &'a dyn LiveSnapshot,
    entity: &'a [u8],
    state: &'a EntityState,
    made: Made,
    position: Position,
    /// The level whose tiles may stand in for rows.
    keeps: Option<usize>,
    /// The least T that is answered of what tiles stand in for.
    horizon: Timestamp,
    /// There are tiles in place of rows.
    any_kept: bool,
}

/// What one tile in place of rows would stand in for.
struct Stretch {
    start: Timestamp,
    rows: usize,
    /// What they take in the store.
    bytes: usize,
    /// All that is there is known, and ends no more.
    stands: bool,
}

impl Work<'_> {
    /// Makes tiles again that late rows change.
    fn late(&mut self, tiled: Timestamp) -> Result<()> {
        let ladder = self.tiler.ladder;
        let mut lates: Vec<Timestamp> = Vec::new();
        for (event_time, visible_at, s) in self.state.late() {
            // Those that are still to wait, as they did when the tile was made, change nothing.
            let kept = self.kept(event_time)?;
            let tile = kept.as_deref().and_then(key::read_tile);
            if visible_at <= self.horizon || tile.is_none_or(|tile| s > tile.position) {
                lates.push(event_time);
            }
        }
        for level in 0..ladder.levels() {
            let mut starts: Vec<Timestamp> = lates.iter().map(|at| ladder.start(level, *at)).collect();
            starts.dedup();
            for start in starts {
                if start.0.saturating_add(ladder.length(level)) <= tiled.0 {
                    self.make(level, start, tiled)?;
                }
            }
        }
        Ok(())
    }

    /// The keys of late rows that are in tiles or among rows, and the first position of those that wait beside tiles.
    fn lates(&self) -> Result<(Vec<Vec<u8>>, Option<Position>)> {
        let (mut lates, mut first) = (Vec::with_capacity(self.state.written), None);
        if self.state.written == 0 {
            return Ok((lates, first));
        }
        let prefix = key::state(self.entity);
        let begin = self.state.gone.map(key::late_past).and_then(|begin| begin.get(1..).map(<[u8]>::to_vec));
        let number = self.tiler.table.number();
        self.from.scan(number, &prefix, begin.as_deref(), Direction::Forward, &mut |place, _| {
            let Some(key::State::Late(s, placed)) = place.get(prefix.len()..).and_then(key::read_state)
            else {
                return Ok(true);
            };
            let kept = self.kept(placed.event_time)?;
            let tile = kept.as_deref().and_then(key::read_tile);
            if tile.is_none_or(|tile| tile.holds(s, placed.visible_at))
                || placed.visible_at == Timestamp::NEVER
            {
                lates.push(place.to_vec());
            } else {
                first.get_or_insert(s);
            }
            Ok(true)
        })?;
        Ok((lates, first))
    }

    /// The tile that stands in for rows of this event time.
    fn kept(&self, event_time: Timestamp) -> Result<Option<Cow<'_, [u8]>>> {
        let Some(level) = self.keeps.filter(|_| self.any_kept) else { return Ok(None) };
        let at = (level, self.tiler.ladder.start(level, event_time));
        let tile = match self.made.get(&at) {
            Some(made) => made.as_deref().map(Cow::Borrowed),
            None => self.state.tile(self.tiler.table, self.from, self.entity, at)?,
        };
        Ok(tile.filter(|tile| key::is_kept(tile)))
    }

    /// Makes tiles in place of rows before `until`, where they take less room; `tiled`: how far there are tiles. Gives how
    /// far there are then, and whether there is anything that tiles stand in for.
    fn keep(&mut self, tiled: Timestamp, until: Timestamp) -> Result<(Timestamp, bool)> {
        let Tiler { table, ladder, .. } = *self.tiler;
        let Some(level) = self.keeps else { return Ok((tiled, false)) };
        let mut stretches: Vec<Stretch> = Vec::new();
        let prefix = key::rows(self.entity);
        self.from.scan(table.number(), &prefix, None, Direction::Forward, &mut |place, entry| {
            let placed = place.get(prefix.len()..).and_then(key::read_order);
            let placed = key::whole(placed, "the key of a row")?;
            let start = ladder.start(level, placed.event_time);
            if start.0.saturating_add(ladder.length(level)) > until.0 {
                return Ok(false);
            }
            if stretches.last().is_none_or(|last| last.start != start) {
                stretches.push(Stretch { start, rows: 0, bytes: 0, stands: true });
            }
            if let Some(last) = stretches.last_mut() {
                last.rows += 1;
                last.bytes += place.len() + entry.len();
                // What is never known is in no tile, and goes.
                let known = placed.visible_at <= self.horizon || placed.visible_at == Timestamp::NEVER;
                last.stands &= known && !placed.is_end;
            }
            Ok(true)
        })?;
        let (mut reached, mut clears) = (tiled, false);
        let mut begun: BTreeSet<(usize, Timestamp)> = BTreeSet::new();
        for stretch in stretches {
            let start = stretch.start;
            if self.kept(start)?.is_some() {
                // Rows that were left, or that are late as well.
                clears = true;
                continue;
            }
            if stretch.rows == 1 || !stretch.stands {
                continue;
            }
            let (_, tile) = self.sum(level, start, tiled, true)?;
            if self.entity.len() + 10 + tile.len() < stretch.bytes {
                self.made.insert((level, start), Some(tile));
                (self.any_kept, clears, reached) = (true, true, tiled.max(until));
                begun.extend((level + 1..ladder.levels()).map(|above| (above, ladder.start(above, start))));
            }
        }
        for (level, start) in begun {
            if start.0.saturating_add(ladder.length(level)) <= reached.0 {
                self.make(level, start, reached)?;
            }
        }
        Ok((reached, clears))
    }

    /// Makes tiles of what lies from `tiled` on and before `until`, or of the first part of it. Gives how far it
    /// came.
    fn forward(&mut self, tiled: Timestamp, until: Timestamp) -> Result<Timestamp> {
        let (ladder, table) = (self.tiler.ladder, self.tiler.table);
        let prefix = key::rows(self.entity);
        let begin = key::from_event_time(tiled);
        let mut reached = until;
        let mut rows: Vec<Timestamp> = Vec::new();
        self.from.scan(table.number(), &prefix, Some(&begin), Direction::Forward, &mut |place, _| {
            let placed = place.get(prefix.len()..).and_then(key::read_order);
            let event_time = key::whole(placed, "the key of a row")?.event_time;
            if event_time >= until {
                return Ok(false);
            }
            if rows.len() >= STEP && rows.last().is_some_and(|last| event_time > *last) {
                // The next step begins with all rows of an event time.
                reached = event_time;
                return Ok(false);
            }
            rows.push(event_time);
            Ok(true)
        })?;
        for level in 0..ladder.levels() {
            let length = ladder.length(level);
            // The one that was not over yet.
            let open = (tiled.0 > i64::MIN).then(|| ladder.start(level, Timestamp(tiled.0 - 1)));
            if let Some(start) = open
                && (tiled.0 + 1..=reached.0).contains(&start.0.saturating_add(length))
            {
                self.make(level, start, reached)?;
            }
            for of_tile in
                rows.chunk_by(|one, other| ladder.start(level, *one) == ladder.start(level, *other))
            {
                let start = ladder.start(level, of_tile[0]);
                let end = start.0.saturating_add(length);
                if Some(start) != open && end <= reached.0 && of_tile.len() >= WORTH as usize {
                    self.make(level, start, reached)?;
                }
            }
        }
        Ok(reached)
    }

    /// Makes one tile of those below it and of rows, where it is worth it; one that stands in for rows of itself and
    /// what came late to it.
    fn make(&mut self, level: usize, start: Timestamp, until: Timestamp) -> Result<()> {
        let is_kept = match self.keeps.filter(|keeps| level <= *keeps) {
            Some(_) => self.kept(start)?.is_some(),
            None => false,
        };
        // One of a part is not read.
        if is_kept && Some(level) != self.keeps {
            return Ok(());
        }
        let (weight, tile) = self.sum(level, start, until, is_kept)?;
        // One that is there may hold what is not true any more.
        self.made.insert((level, start), (is_kept || weight >= WORTH).then_some(tile));
        Ok(())
    }

    /// Adds up one tile, and says what reading it otherwise costs; `in_place`: it is to stand in for its rows.
    fn sum(
        &self,
        level: usize,
        start: Timestamp,
        until: Timestamp,
        in_place: bool,
    ) -> Result<(u32, Vec<u8>)> {
        let Tiler { table, stored, ladder, .. } = *self.tiler;
        let end = start.0.saturating_add(ladder.length(level));
        let mut into = TileSum {
            states: PlanStates::new(stored.plan(), 1, |_| true),
            stored,
            rows: stored.rows().map_err(broken)?,
            newest: Timestamp(i64::MIN),
            weight: 0,
        };
        let reading = Reading {
            table,
            ladder,
            from: self.from,
            entity: self.entity,
            state: self.state,
            // All that is there, since who asks for an earlier T does not take the tile; in place of rows, what all know.
            at: if in_place { self.horizon } else { Timestamp(i64::MAX) },
            made: &self.made,
        };
        let reach = Reach { until, levels: level + usize::from(in_place) };
        reading.cover(&reach, vec![(start.0..end, 0)], None, &mut into)?;
        let (weight, newest) = (into.weight, if in_place { self.horizon } else { into.newest });
        let kept = if in_place { u16::try_from(self.entity.len()).ok() } else { None };
        let states = into.finish()?;
        let mut bytes = Vec::with_capacity(states.len() + 32);
        key::put_tile(
            &key::Tile { position: self.position, newest, weight, kept, states: &states },
            &mut bytes,
        );
        Ok((weight, bytes))
    }
}

/// A tile being added up.
struct TileSum<'a> {
    states: PlanStates,
    stored: &'a StoredWindows,
    rows: StoredRows<'a>,
    newest: Timestamp,
    weight: u32,
}

impl TileSum<'_> {
    /// Takes in the rows so far.
    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::replace(&mut self.rows, self.stored.rows().map_err(broken)?);
        let numbers: Vec<u32> = (0..rows.len() as u32).collect();
        let rows = rows.finish().map_err(broken)?;
        self.states.update(&vec![0; numbers.len()], &numbers, &rows, |_| true).map_err(broken)
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        self.flush()?;
        let mut states = Vec::new();
        self.states.encode(0, &mut states);
        Ok(states)
    }
}

impl Cover for TileSum<'_> {
    fn tile(&mut self, _: usize, states: &[u8]) -> Result<()> {
        self.weight = self.weight.saturating_add(TILE);
        self.states.merge_encoded(0, states, |_| true).map_err(broken)
    }

    fn row(&mut self, _: usize, placed: &Placed<'_>, row: &Row<'_>) -> Result<()> {
        self.weight = self.weight.saturating_add(1);
        self.rows.push(placed.event_time, row.values, || placed.order(row.op)).map_err(broken)?;
        if self.rows.len() >= STEP { self.flush() } else { Ok(()) }
    }

    fn saw(&mut self, at: Timestamp) {
        self.newest = self.newest.max(at);
    }
}
