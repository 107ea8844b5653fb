//! Making tiles, so that little is read.

use asof_compute::{Ladder, PlanStates, Position, StoredRows, StoredWindows};
use asof_model::Timestamp;

use super::key::{self, Placed, Row};
use super::read::{Cover, EntityState, FEW, Made, Reach, Reading, broken};
use super::{TiledKeys, ViewTable};
use crate::Result;
use crate::live::{Direction, LiveSnapshot, LiveStore};

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
}

/// What one step came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tiled {
    /// Tiles made, or made again.
    pub tiles: usize,
    /// Late rows that tiles hold now.
    pub late: usize,
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

    /// Makes the tiles of one entity that are worth it, a step of the way; those that late rows change are made
    /// again first. None of one that [`Tiler::advance`] was never told of.
    ///
    /// # Errors
    /// As [`LiveStore::write`].
    pub fn entity(&self, entity: &[u8]) -> Result<Tiled> {
        let _alone = self.table.keeping();
        if !self.table.may_have_tiles(entity) {
            return Ok(Tiled { done: true, ..Tiled::default() });
        }
        // Nothing that comes past the snapshot is before it without being late.
        let until = self.table.settled();
        let from = self.store.read()?;
        let state = EntityState::read(self.table, from.as_ref(), entity)?;
        let position = from.position();
        let mut work =
            Work { tiler: self, from: from.as_ref(), entity, state: &state, made: Made::new(), position };
        let tiled = state.tiled.unwrap_or(Timestamp(i64::MIN));
        let levels = self.ladder.levels();
        for level in 0..levels {
            let mut starts: Vec<Timestamp> = state.late().map(|at| self.ladder.start(level, at)).collect();
            starts.dedup();
            for start in starts {
                if start.0.saturating_add(self.ladder.length(level)) <= tiled.0 {
                    work.make(level, start, tiled)?;
                }
            }
        }
        let mut reached = tiled;
        for _ in 0..STEPS {
            if reached < until {
                reached = work.forward(reached, until)?;
            }
        }
        let Work { made, .. } = work;
        let done = reached >= until;
        let tiles = made.values().flatten().count();
        // Few rows are read as they are: nothing is written of an entity that has no tiles.
        let many = state.many || tiles > FEW;
        let gone = (many || state.gone.is_some() || state.written >= GONE).then_some(position);
        let remember = reached != tiled && (state.tiled.is_some() || tiles > 0 || !done)
            || gone.is_some() && state.written > 0 && state.tiled.is_some();
        if made.is_empty() && state.written == 0 && !remember {
            return Ok(Tiled { tiles, late: 0, done });
        }
        let mut lates: Vec<Vec<u8>> = Vec::with_capacity(state.written);
        let prefix = key::state(entity);
        let begin = state.gone.map(key::late_past).and_then(|begin| begin.get(1..).map(<[u8]>::to_vec));
        from.scan(self.table.number(), &prefix, begin.as_deref(), Direction::Forward, &mut |place, _| {
            if matches!(place.get(prefix.len()..).and_then(key::read_state), Some(key::State::Late(..))) {
                lates.push(place.to_vec());
            }
            Ok(true)
        })?;
        let number = self.table.number();
        // Tiles first: who finds them knows from their position which late rows they hold. What no tile holds yet is
        // read from the rows, since the mark comes last. So it may be cut off between any two batches.
        let mut changes = made
            .iter()
            .map(|((level, start), tile)| {
                let place = [&key::tiles(entity, *level)[..], &key::start(*start)].concat();
                (place, tile.as_deref())
            })
            .chain(lates.into_iter().map(|late| (late, None)))
            .peekable();
        let mark = key::put_mark(&key::Mark { until: reached, gone, many });
        let mut mark = remember.then(|| (key::tiled(entity), &mark[..]));
        while changes.peek().is_some() || mark.is_some() {
            // A few at a time, since who pushes waits behind them. What is made of a batch may be asked for again.
            let some: Vec<(Vec<u8>, Option<&[u8]>)> = changes.by_ref().take(BATCH).collect();
            let last = if changes.peek().is_none() { mark.take() } else { None };
            self.store.write_patiently(&mut |_, writing| {
                for (place, entry) in &some {
                    match entry {
                        Some(entry) => writing.put(number, place, entry)?,
                        None => writing.remove(number, place)?,
                    }
                }
                match &last {
                    Some((place, entry)) => writing.put(number, place, entry),
                    None => Ok(()),
                }
            })?;
        }
        Ok(Tiled { tiles, late: state.written, done })
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
}

impl Work<'_> {
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

    /// Makes one tile of those below it and of rows, where it is worth it.
    fn make(&mut self, level: usize, start: Timestamp, until: Timestamp) -> Result<()> {
        let Tiler { table, stored, ladder, .. } = *self.tiler;
        let end = start.0.saturating_add(ladder.length(level));
        let mut into = TileSum {
            states: PlanStates::new(stored.plan(), 1, |_| true),
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
            // All that is there: who asks for an earlier T does not take the tile.
            at: Timestamp(i64::MAX),
            made: &self.made,
        };
        let reach = Reach { until, levels: level };
        reading.cover(&reach, vec![(start.0..end, 0)], &mut into)?;
        let weight = into.weight;
        if weight < WORTH {
            // One that is there holds what is not true any more.
            self.made.insert((level, start), None);
            return Ok(());
        }
        let newest = into.newest;
        let states = into.finish()?;
        let mut bytes = Vec::with_capacity(states.len() + 32);
        key::put_tile(&key::Tile { position: self.position, newest, weight, states: &states }, &mut bytes);
        self.made.insert((level, start), Some(bytes));
        Ok(())
    }
}

/// A tile being added up.
struct TileSum<'a> {
    states: PlanStates,
    rows: StoredRows<'a>,
    newest: Timestamp,
    weight: u32,
}

impl TileSum<'_> {
    fn finish(mut self) -> Result<Vec<u8>> {
        let count = self.rows.len() as u32;
        let rows = self.rows.finish().map_err(broken)?;
        let numbers: Vec<u32> = (0..count).collect();
        self.states.update(&vec![0; numbers.len()], &numbers, &rows, |_| true).map_err(broken)?;
        let mut states = Vec::new();
        self.states.encode(0, &mut states);
        Ok(states)
    }
}

impl Cover for TileSum<'_> {
    fn tile(&mut self, _: usize, states: &[u8]) -> Result<()> {
        self.weight += TILE;
        self.states.merge_encoded(0, states, |_| true).map_err(broken)
    }

    fn row(&mut self, _: usize, placed: &Placed<'_>, row: &Row<'_>) -> Result<()> {
        self.weight += 1;
        self.rows.push(placed.event_time, row.values, || placed.order(row.op)).map_err(broken)?;
        Ok(())
    }

    fn saw(&mut self, at: Timestamp) {
        self.newest = self.newest.max(at);
    }
}
