//! The latest row of an entity.

use asof_compute::Op;
use asof_model::Timestamp;

use super::ViewTable;
use super::key;
use crate::Result;
use crate::live::{Direction, LiveSnapshot};

/// The row that is last in order at T.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestRow {
    /// `e`
    pub event_time: Timestamp,
    /// `v`
    pub visible_at: Timestamp,
    /// A delete answers `not_found` and has no values.
    pub op: Op,
    /// From then on it no longer answers.
    pub valid_until: Option<Timestamp>,
    /// The bytes of `asof_compute::RowLayout`; empty for a delete.
    pub values: Vec<u8>,
}

impl ViewTable {
    /// The row of an entity that is last in order at `at`: with `e <= at` and `v <= at`, that no version known by
    /// then ends.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::Damaged`].
    pub fn last(&self, from: &dyn LiveSnapshot, key: &[u8], at: Timestamp) -> Result<Option<LatestRow>> {
        let prefix = key::rows(key);
        let mut found = None;
        // Behind a row, so before it on the way back, stands when it ended.
        let mut ended: Option<(Vec<u8>, Timestamp)> = None;
        let begin = key::past_event_time(at);
        from.scan(self.number(), &prefix, Some(&begin), Direction::Backward, &mut |place, entry| {
            let place = place.get(prefix.len()..).unwrap_or_default();
            let placed = key::whole(key::read_order(place), "the key of a row")?;
            if placed.is_end {
                let end = key::whole(key::read_end(entry), "the end of a row")?;
                ended = Some((place.get(..place.len() - 1).unwrap_or_default().to_vec(), end));
                return Ok(true);
            }
            let end = ended.take().filter(|(of, _)| of == place).map(|(_, end)| end);
            if placed.visible_at > at || end.is_some_and(|end| end <= at) {
                return Ok(true);
            }
            let row = key::whole(key::read_row(entry), "a row")?;
            found = Some(LatestRow {
                event_time: placed.event_time,
                visible_at: placed.visible_at,
                op: row.op,
                valid_until: row.valid_until,
                values: row.values.to_vec(),
            });
            Ok(false)
        })?;
        Ok(found)
    }
}
