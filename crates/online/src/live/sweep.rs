//! Taking entries out of a table in the background, a step at a time: rows past their retention, the tables
//! of a view that is gone. Who pushes waits for no more than one small batch.

use super::store::{Direction, LiveStore, TableNumber};
use crate::Result;

/// Entries that a step removes at most.
const REMOVED: usize = 1_000;
/// Entries that a step looks at at most.
const LOOKED_AT: usize = 20_000;

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Entries removed.
    pub removed: usize,
    /// What follows the prefix where the next step begins; none where there is no more.
    pub next: Option<Vec<u8>>,
}

/// Looks at the next entries whose keys begin with `prefix`, from `from` on (see [`Swept::next`]; none is the
/// beginning), and removes in one durable batch those of which `goes` says so.
///
/// An entry is judged as it was when the step began: what may go must not be put again meanwhile.
///
/// # Errors
/// As [`LiveStore::read`] and [`LiveStore::write`], and what `goes` gives: nothing was removed then, and the
/// step may be done again. [`crate::Error::Busy`] is the time to let writers go first.
pub fn sweep(
    store: &dyn LiveStore,
    table: TableNumber,
    prefix: &[u8],
    from: Option<&[u8]>,
    goes: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
) -> Result<Swept> {
    let (mut keys, mut looked_at, mut next) = (Vec::new(), 0, None);
    // Let go of before the batch is written: what is removed may then be merged away.
    store.read()?.scan(table, prefix, from, Direction::Forward, &mut |key, value| {
        if keys.len() == REMOVED || looked_at == LOOKED_AT {
            next = key.get(prefix.len()..).map(<[u8]>::to_vec);
            return Ok(false);
        }
        looked_at += 1;
        if goes(key, value)? {
            keys.push(key.to_vec());
        }
        Ok(true)
    })?;
    if !keys.is_empty() {
        store
            .write_patiently(&mut |_, writing| keys.iter().try_for_each(|key| writing.remove(table, key)))?;
    }
    Ok(Swept { removed: keys.len(), next })
}
