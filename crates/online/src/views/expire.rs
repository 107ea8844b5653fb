//! Letting go of rows that count at no T that is answered any more (SEMANTICS section 5).

use asof_compute::{Answering, Keeping, Ladder, retain, stands};
use asof_model::Timestamp;

use super::ViewTable;
use super::key;
use super::memory::Change;
use crate::Result;
use crate::live::{Direction, LiveSnapshot, LiveStore};

/// Keys that one batch removes, about.
const REMOVED: usize = 1_000;

/// What a table holds, which says which of it may go.
#[derive(Debug, Clone, Copy)]
pub enum Held<'a> {
    /// Rows of windows, and tiles on the levels of this ladder.
    Windows(&'a Ladder),
    /// Latest rows.
    Latest {
        /// They are versions of events: what stands above a row may be corrected or withdrawn, and lays it bare.
        versions: bool,
    },
}

/// What a step came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    /// Entries removed: rows, ends, tiles and what was late.
    pub removed: usize,
    /// The last entity looked at; none where there is none past it.
    pub next: Option<Vec<u8>>,
}

impl ViewTable {
    /// Looks at entities past `after`, and removes what of them counts at no T from `keeping.horizon` on, in small
    /// durable batches: who pushes waits for no more than one.
    ///
    /// # Errors
    /// As [`LiveStore::write`].
    pub fn expire(
        &self,
        store: &dyn LiveStore,
        holds: &Held<'_>,
        keeping: Keeping,
        after: Option<&[u8]>,
    ) -> Result<Expired> {
        let _alone = self.keeping();
        let from = store.read()?;
        let mut gone: Vec<Vec<u8>> = Vec::new();
        let mut changed: Vec<Vec<u8>> = Vec::new();
        let mut next = None;
        self.entities_with_ends(from.as_ref(), after, &mut |entity| {
            let before = gone.len();
            match holds {
                Held::Windows(ladder) => {
                    self.past_windows(from.as_ref(), entity, ladder, keeping, &mut gone)?
                }
                Held::Latest { versions } => {
                    self.past_latest(from.as_ref(), entity, *versions, keeping, &mut gone)?
                }
            }
            if gone.len() > before && self.memory().is_some() {
                changed.push(entity.to_vec());
            }
            if gone.len() >= REMOVED {
                next = Some(entity.to_vec());
            }
            Ok(gone.len() < REMOVED)
        })?;
        drop(from);
        if !gone.is_empty() {
            let number = self.number();
            if let Some(memory) = self.memory() {
                changed.iter().for_each(|entity| memory.changing(entity, Change::Any));
            }
            // What stands beside rows goes before them, and rows before their ends: it may be cut off in between.
            if matches!(holds, Held::Windows(_)) {
                gone.reverse();
            }
            for some in gone.chunks(REMOVED) {
                store.write_patiently(&mut |_, writing| {
                    some.iter().try_for_each(|key| writing.remove(number, key))
                })?;
            }
            if let Some(memory) = self.memory() {
                let at = store.read()?.position();
                changed.iter().for_each(|entity| memory.changed(entity, at));
            }
        }
        Ok(Expired { removed: gone.len(), next })
    }

    /// Rows and tiles of an entity before all windows that are answered.
    fn past_windows(
        &self,
        from: &dyn LiveSnapshot,
        entity: &[u8],
        ladder: &Ladder,
        keeping: Keeping,
        gone: &mut Vec<Vec<u8>>,
    ) -> Result<()> {
        let before = gone.len();
        let mut is_left = false;
        let prefix = key::rows(entity);
        from.scan(self.number(), &prefix, None, Direction::Forward, &mut |place, _| {
            let placed = place.get(prefix.len()..).and_then(key::read_order);
            is_left = !keeping.is_past(key::whole(placed, "the key of a row")?.event_time);
            if !is_left {
                gone.push(place.to_vec());
            }
            Ok(!is_left)
        })?;
        // Rows go before their tiles do, but where tiles stand in for them.
        if gone.len() == before && self.kept() == Timestamp(i64::MIN) {
            return Ok(());
        }
        let mut tiles = Vec::new();
        for level in 0..ladder.levels() {
            let prefix = key::tiles(entity, level);
            from.scan(self.number(), &prefix, None, Direction::Forward, &mut |place, entry| {
                let start = place.get(prefix.len()..).and_then(key::read_start);
                let start = key::whole(start, "the key of a tile")?;
                let last = Timestamp(start.0.saturating_add(ladder.length(level) - 1));
                let goes = keeping.is_past(last);
                // One that stands in for rows is as good as they are.
                is_left |= !goes && key::is_kept(entry);
                tiles.push((place.to_vec(), goes));
                Ok(goes || !is_left)
            })?;
        }
        gone.extend(tiles.into_iter().filter(|(_, goes)| *goes || !is_left).map(|(place, _)| place));
        if gone.len() == before {
            return Ok(());
        }
        let prefix = key::state(entity);
        from.scan(self.number(), &prefix, None, Direction::Forward, &mut |place, _| {
            let state = place.get(prefix.len()..).and_then(key::read_state);
            let goes = match key::whole(state, "the key of a late row")? {
                key::State::Tiled => !is_left,
                key::State::Late(_, placed) => !is_left || keeping.is_past(placed.event_time),
            };
            if goes {
                gone.push(place.to_vec());
            }
            Ok(true)
        })
    }

    /// Rows of an entity that win at no T that is answered, or that stand at none where those before them may end; and
    /// ends whose rows are not there. No row comes after its end: one that is ended was taken in before, and left out by
    /// the view's `where`, or let go of.
    fn past_latest(
        &self,
        from: &dyn LiveSnapshot,
        entity: &[u8],
        versions: bool,
        keeping: Keeping,
        gone: &mut Vec<Vec<u8>>,
    ) -> Result<()> {
        let prefix = key::rows(entity);
        let mut rows: Vec<Answering> = Vec::new();
        // Of each row its key and that of its end.
        let mut keys: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut ended: Option<(Vec<u8>, Timestamp)> = None;
        from.scan(self.number(), &prefix, None, Direction::Backward, &mut |place, entry| {
            let own = place.get(prefix.len()..).unwrap_or_default();
            let placed = key::whole(key::read_order(own), "the key of a row")?;
            if placed.is_end {
                let end = key::whole(key::read_end(entry), "the end of a row")?;
                gone.extend(ended.replace((place.to_vec(), end)).map(|(of, _)| of));
                return Ok(true);
            }
            let (end, alone) = match ended.take() {
                Some((of, end)) if of.get(..of.len() - 1) == Some(place) => (Some((of, end)), None),
                other => (None, other),
            };
            gone.extend(alone.map(|(of, _)| of));
            let (event_time, visible_at) = (placed.event_time, placed.visible_at);
            let row = Answering { event_time, visible_at, next_version: end.as_ref().map(|(_, end)| *end) };
            let own = [Some(place.to_vec()), end.map(|(of, _)| of)].into_iter().flatten();
            if !versions {
                rows.push(row);
                keys.push(own.collect());
            } else if !stands(&row, keeping.horizon) || keeping.is_past(event_time) {
                gone.extend(own);
            }
            Ok(true)
        })?;
        gone.extend(ended.map(|(of, _)| of));
        let past: Vec<bool> = rows.iter().map(|row| keeping.is_past(row.event_time)).collect();
        let stays = retain(rows, keeping.horizon);
        for ((stays, past), keys) in stays.into_iter().zip(past).zip(keys) {
            if !stays || past {
                gone.extend(keys);
            }
        }
        Ok(())
    }
}
