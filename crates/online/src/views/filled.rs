//! Rows that were read into a generation from their source, and how versions that come later find them.
//!
//! A push ends the row of the version before its own under the key that was kept with that version. Of a version that was
//! taken in when no view read its key so, none was kept. So of each row that is read into a generation it is written down,
//! under its position, which entity it is of. Until all are read it may be missing: whoever ends a row then writes down
//! when, under its position as well, and [`LiveGenerations::settle`] puts these ends behind their rows. What a push says is
//! newer than what was read, and stays.

use asof_compute::{Keeping, Op, Position, RowOrder};
use asof_model::Timestamp;

use super::generations::{RECORDS, place};
use super::key;
use super::{LiveGeneration, LiveGenerations, ViewRow};
use crate::live::{Direction, Given, Writing, sweep};
use crate::{GenerationId, Result};

/// In the table of records: position -> e, entity.
pub(super) const ENTITY: u8 = 3;
/// In the table of records: position -> v of the next version, order.
pub(super) const END: u8 = 4;

/// Ends that one batch puts behind their rows.
const SETTLED: usize = 1_000;

fn at_position(what: u8, id: GenerationId, position: Position) -> Vec<u8> {
    [&place(what, id)[..], &key::position(position)].concat()
}

fn put_entity(event_time: Timestamp, entity: &[u8]) -> Vec<u8> {
    [&event_time.0.to_le_bytes()[..], entity].concat()
}

fn read_entity(entry: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (event_time, entity) = entry.split_first_chunk::<8>()?;
    Some((Timestamp(i64::from_le_bytes(*event_time)), entity))
}

fn put_end(at: Timestamp, order: &RowOrder) -> Vec<u8> {
    let mut entry = key::end(at).to_vec();
    key::put_order(order, 0, &mut entry);
    entry
}

fn read_end(entry: &[u8]) -> Option<(Timestamp, RowOrder)> {
    let (at, order) = entry.split_at_checked(8)?;
    Some((key::read_end(at)?, key::read_order(order)?.order(Op::Value)))
}

impl LiveGenerations {
    /// Puts a row of a source with ids that was read from there into a generation that is being built; `end`: the `v` of
    /// the version after it, as of what was read.
    ///
    /// # Errors
    /// [`crate::Error::TooLong`].
    pub fn put_read(
        &self,
        generation: &LiveGeneration,
        row: &ViewRow<'_>,
        end: Option<Timestamp>,
        s: Position,
        writing: &mut Writing,
    ) -> Result<()> {
        let (id, position) = (generation.record.id, row.order.position);
        if generation.table.put(row, s, writing)? {
            self.note(id, row.key);
        }
        let entity = put_entity(row.order.event_time, row.key);
        writing.put(RECORDS, &at_position(ENTITY, id, position), &entity)?;
        match end {
            Some(end) => {
                let entry = put_end(end, row.order);
                writing.put_if_absent(RECORDS, &at_position(END, id, position), &entry)
            }
            None => Ok(()),
        }
    }

    /// Marks a row that a later version ends at `at`, of which no key was kept: one that was read into the generation, or
    /// that it does not hold. Called where that version's batch is made.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::Damaged`], [`crate::Error::TooLong`].
    pub fn end_read(
        &self,
        generation: &LiveGeneration,
        order: &RowOrder,
        at: Timestamp,
        given: &Given<'_>,
        writing: &mut Writing,
    ) -> Result<()> {
        let (id, table) = (generation.record.id, &generation.table);
        if !table.is_filled() {
            return writing.put(RECORDS, &at_position(END, id, order.position), &put_end(at, order));
        }
        let Some(entry) = (given.published)(RECORDS, &at_position(ENTITY, id, order.position))? else {
            return Ok(());
        };
        let (_, entity) = key::whole(read_entity(&entry), "the entity of a row")?;
        let row = ViewRow { key: entity, order, number: 0, valid_until: None, values: &[] };
        table.end(&row, at, given.first, writing)
    }

    /// Puts ends behind the rows that were read into a generation, all of which are published.
    ///
    /// # Errors
    /// As [`crate::live::LiveStore::write`].
    pub fn settle(&self, generation: &LiveGeneration) -> Result<()> {
        let (id, table) = (generation.record.id, &generation.table);
        // Every batch made after this one puts its ends behind their rows itself; all those before are published when
        // it returns.
        self.store().write_patiently(&mut |_, _| {
            table.set_filled();
            Ok(())
        })?;
        let prefix = place(END, id);
        let mut begin: Option<Vec<u8>> = None;
        loop {
            let from = self.store().read()?;
            let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            from.scan(RECORDS, &prefix, begin.as_deref(), Direction::Forward, &mut |key, entry| {
                found.push((key.to_vec(), entry.to_vec()));
                Ok(found.len() < SETTLED)
            })?;
            let Some((last, _)) = found.last() else { return Ok(()) };
            begin = last.get(prefix.len()..).map(|last| [last, &[0]].concat());
            let mut ends = Vec::with_capacity(found.len());
            for (_, entry) in &found {
                let (at, order) = key::whole(read_end(entry), "the end of a row")?;
                if let Some(entry) = from.get(RECORDS, &at_position(ENTITY, id, order.position))? {
                    let (_, entity) = key::whole(read_entity(&entry), "the entity of a row")?;
                    ends.push((entity.to_vec(), order, at));
                }
            }
            drop(from);
            self.store().write_patiently(&mut |s, writing| {
                for (entity, order, at) in &ends {
                    table.end_if_absent(entity, order, *at, s, writing)?;
                }
                found.iter().try_for_each(|(key, _)| writing.remove(RECORDS, key))
            })?;
        }
    }

    /// Forgets of which entities rows were that are too old to be kept, as long as it may go on.
    ///
    /// # Errors
    /// As [`crate::live::LiveStore::write`].
    pub fn expire_read(&self, id: GenerationId, keeping: Keeping, goes_on: &dyn Fn() -> bool) -> Result<()> {
        if keeping.oldest == Timestamp::BEFORE_ALL {
            return Ok(());
        }
        let (prefix, mut next) = (place(ENTITY, id), Some(Vec::new()));
        let goes = &mut |_: &[u8], entry: &[u8]| {
            let (event_time, _) = key::whole(read_entity(entry), "the entity of a row")?;
            Ok(keeping.is_past(event_time))
        };
        while let Some(from) = next.filter(|_| goes_on()) {
            next = sweep(self.store().as_ref(), RECORDS, &prefix, Some(&from), goes)?.next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use asof_compute::RowDigest;

    use super::*;

    /// Keys and entries of format 1 load forever, and are written as before.
    #[test]
    fn format_1_loads() {
        let stored = include_str!("../../tests/compat/live-views-1.txt");
        let field = |name: &str| -> Vec<u8> {
            let line = stored.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let text = line.unwrap_or_else(|| panic!("no {name}"));
            (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
        };
        let order = RowOrder {
            event_time: Timestamp(1_370_044_800_000_000),
            visible_at: Timestamp(1_370_048_400_000_000),
            order_by: vec![1, 0, 255].into(),
            position: Position(7),
            op: Op::Value,
            digest: RowDigest::default(),
        };
        let (entity, end) = (field("entity of a read row"), field("end of a read row"));
        assert_eq!(read_entity(&entity), Some((order.event_time, &b"\x01\x02key"[..])));
        assert_eq!(read_end(&end), Some((Timestamp(-1), order.clone())));
        let written = (put_entity(order.event_time, b"\x01\x02key"), put_end(Timestamp(-1), &order));
        assert_eq!(written, (entity, end), "written as before");
        assert_eq!(at_position(ENTITY, GenerationId(3), Position(7)), field("entity of a read row, key"));
        assert_eq!(at_position(END, GenerationId(3), Position(7)), field("end of a read row, key"));
    }
}
