//! The numbers that the store of live rows knows sources by: table 1 of its entries,
//! `docs/formats/live-entries.md`. A number stands for a table of rows (`PROJECT/SOURCE/FAMILY`), is given before
//! its first row is accepted, and never again.

use asof_online::live::{Direction, LiveStore, SourceNumber, TableNumber};

use crate::{FlowError, Result};

/// The entries' table.
const NUMBERS: Option<TableNumber> = TableNumber::new(1);

/// The first byte of a value, before the number in four bytes, little-endian: `docs/formats/live-entries.md`.
const NUMBER_FORMAT: u8 = 1;

fn entries() -> Result<TableNumber> {
    NUMBERS.ok_or_else(|| FlowError::Internal { what: "a table of live entries has no number".to_owned() })
}

/// The number of a table; none where it has none yet.
pub(crate) fn of(store: &dyn LiveStore, table: &str) -> Result<Option<SourceNumber>> {
    let value = store.read()?.get(entries()?, table.as_bytes())?;
    value.map(|value| read(&value)).transpose()
}

/// Every table that has a number, by name.
pub(crate) fn all(store: &dyn LiveStore) -> Result<Vec<String>> {
    let mut found = Vec::new();
    each(store, &mut |name, _| found.push(name.to_owned()))?;
    Ok(found)
}

fn each(store: &dyn LiveStore, take: &mut dyn FnMut(&str, SourceNumber)) -> Result<()> {
    let mut failed = None;
    store.read()?.scan(entries()?, b"", None, Direction::Forward, &mut |name, value| {
        match (std::str::from_utf8(name), read(value)) {
            (Ok(name), Ok(number)) => take(name, number),
            (Err(_), _) => failed = Some(damaged()),
            (_, Err(error)) => failed = Some(error),
        }
        Ok(failed.is_none())
    })?;
    failed.map_or(Ok(()), Err)
}

fn read(value: &[u8]) -> Result<SourceNumber> {
    match value {
        [NUMBER_FORMAT, a, b, c, d] => Ok(SourceNumber(u32::from_le_bytes([*a, *b, *c, *d]))),
        _ => Err(damaged()),
    }
}

fn damaged() -> FlowError {
    FlowError::Internal {
        what: "the store of live rows names its sources in a way that this Asof does not know".to_owned(),
    }
}
