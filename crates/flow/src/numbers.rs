//! The numbers that the store of live rows knows sources by: table 1 of its entries,
//! `docs/formats/live-entries.md`. A number stands for a table of rows (`PROJECT/SOURCE/FAMILY`), is given before
//! its first row is accepted, and never again.

use std::sync::{Mutex, PoisonError};

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

/// The number of a table, given now where it has none yet. `giving`: of this store, held while one is given.
pub(crate) fn give(store: &dyn LiveStore, giving: &Mutex<()>, table: &str) -> Result<SourceNumber> {
    let _alone = giving.lock().unwrap_or_else(PoisonError::into_inner);
    let mut greatest = 0;
    let mut found = None;
    each(store, &mut |name, number| {
        greatest = greatest.max(number.0);
        if name == table {
            found = Some(number);
        }
    })?;
    if let Some(number) = found {
        return Ok(number);
    }
    let full =
        || FlowError::Internal { what: "there are no more numbers for tables of pushed rows".to_owned() };
    let number = greatest.checked_add(1).ok_or_else(full)?;
    let mut value = vec![NUMBER_FORMAT];
    value.extend_from_slice(&number.to_le_bytes());
    let entries = entries()?;
    store.write(&mut |_, writing| writing.put(entries, table.as_bytes(), &value))?;
    Ok(SourceNumber(number))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_format_1_load() {
        let stored = include_str!("../tests/compat/live-entries-1.txt");
        for line in stored.lines() {
            let (_, value) = line.split_once(' ').unwrap();
            let value: Vec<u8> = (0..value.len() / 2)
                .map(|at| u8::from_str_radix(&value[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            assert_eq!(read(&value).unwrap(), SourceNumber(7));
        }
        for value in [&[][..], &[2, 7, 0, 0, 0], &[1, 7, 0, 0], &[1, 7, 0, 0, 0, 0]] {
            assert!(read(value).unwrap_err().to_string().contains("does not know"));
        }
    }
}
