//! The bytes of entries in a view's table; `docs/formats/live-views.md`.
//!
//! ```text
//! row   = entity 0 order            -> format (1) flags (1) length of entity (2) [valid_until (8)] values
//! end   = entity 0 order 0          -> v of the next version (8) [length of entity (2)]
//! tiled = entity 1 0                -> until (8) [gone (8) many (1) [horizon (8)]]
//! late  = entity 1 1 s (8) order [0] -> as of row and end
//! tile  = entity 2 level (1) start (8) -> format (1) [length of entity (2)] s (8) newest (8) weight (4) states
//! order = e (8) v (8) o (escaped) 0 op (1) c (16) number (8), of a row without a position
//!       | e (8) v (8) o (escaped) 1 s (8)
//! ```
//!
//! Numbers in keys are big-endian with the sign bit turned, so that they compare as bytes. Escaped: 0 is written as
//! 0 255, the end is 0 0.

use asof_compute::{Op, Position, RowDigest, RowOrder};
use asof_model::Timestamp;

use crate::live::escaped_length;
use crate::{Error, Result};

/// The version byte of rows.
const ROW_FORMAT: u8 = 1;
/// The version byte of tiles.
const TILE_FORMAT: u8 = 1;
/// Of tiles that stand in for rows: who does not know them must not pass them over.
const KEPT_FORMAT: u8 = 2;

const ROWS: u8 = 0;
const STATE: u8 = 1;
const TILES: u8 = 2;
/// In [`STATE`].
const TILED_UNTIL: u8 = 0;
const LATE: u8 = 1;

const IS_DELETE: u8 = 1;
const HAS_VALID_UNTIL: u8 = 2;

/// The greatest bytes that an order can begin with after `e`.
const PAST_ALL: [u8; 9] = [0xFF; 9];

fn put(number: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&(number.cast_unsigned() ^ (1 << 63)).to_be_bytes());
}

fn take(bytes: &mut &[u8]) -> Option<i64> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some((u64::from_be_bytes(*number) ^ (1 << 63)).cast_signed())
}

/// What the keys of an entity's rows begin with.
pub(super) fn rows(entity: &[u8]) -> Vec<u8> {
    [entity, &[ROWS]].concat()
}

/// What the keys of an entity's own state, and of its late rows, begin with.
pub(super) fn state(entity: &[u8]) -> Vec<u8> {
    [entity, &[STATE]].concat()
}

/// Behind an entity's key: where what stands beside its rows begins, its state and then its tiles by level and start.
pub(super) const BESIDE: [u8; 1] = [STATE];

/// What stands beside an entity's rows.
pub(super) enum Beside<'a> {
    /// For [`read_state`].
    State(&'a [u8]),
    /// A tile of a level, and where it begins.
    Tile(usize, Timestamp),
}

/// Reads what follows an entity's key from [`BESIDE`] on.
pub(super) fn read_beside(key: &[u8]) -> Option<Beside<'_>> {
    match key.split_first()? {
        (&STATE, rest) => Some(Beside::State(rest)),
        (&TILES, [level, start @ ..]) => Some(Beside::Tile(usize::from(*level), read_start(start)?)),
        _ => None,
    }
}

/// Where it says how far an entity has tiles.
pub(super) fn tiled(entity: &[u8]) -> Vec<u8> {
    [entity, &[STATE, TILED_UNTIL]].concat()
}

/// What [`tiled`] says: before `until` there may be tiles; of an entity with much beside its rows, that late rows up to
/// a position have gone, so that nobody looks for them where they were, and whether its tiles are too many to be read with
/// its state; and of one that has tiles in place of rows, the least T that can be answered of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) until: Timestamp,
    pub(super) gone: Option<Position>,
    pub(super) many: bool,
    pub(super) horizon: Option<Timestamp>,
}

pub(super) fn put_mark(mark: &Mark) -> Vec<u8> {
    let mut out = end(mark.until).to_vec();
    if mark.gone.is_some() || mark.horizon.is_some() {
        out.extend(mark.gone.unwrap_or(Position::NONE).0.to_le_bytes());
        out.push(u8::from(mark.many));
    }
    out.extend(mark.horizon.into_iter().flat_map(end));
    out
}

/// Reads [`put_mark`].
pub(super) fn read_mark(entry: &[u8]) -> Option<Mark> {
    let (until, rest) = entry.split_at_checked(8)?;
    let until = read_end(until)?;
    let Some((gone, rest)) = rest.split_first_chunk::<8>() else {
        return rest.is_empty().then_some(Mark { until, gone: None, many: false, horizon: None });
    };
    let gone = Some(Position(i64::from_le_bytes(*gone))).filter(|gone| *gone != Position::NONE);
    let (many @ (0 | 1), horizon) = rest.split_first()? else { return None };
    let horizon = if horizon.is_empty() { None } else { Some(read_end(horizon)?) };
    Some(Mark { until, gone, many: *many == 1, horizon })
}

/// Behind an entity's key: where its late rows past a position begin.
pub(super) fn late_past(position: Position) -> Vec<u8> {
    let mut from = vec![STATE, LATE];
    put(position.0.saturating_add(1), &mut from);
    from
}

/// What the keys of an entity's tiles of a level begin with.
pub(super) fn tiles(entity: &[u8], level: usize) -> Vec<u8> {
    [entity, &[TILES, level as u8]].concat()
}

/// Behind [`tiles`].
pub(super) fn start(start: Timestamp) -> [u8; 8] {
    (start.0.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// A position as keys have it.
pub(super) fn position(position: Position) -> [u8; 8] {
    start(Timestamp(position.0))
}

/// Reads [`start`].
pub(super) fn read_start(mut rest: &[u8]) -> Option<Timestamp> {
    let found = take(&mut rest).map(Timestamp);
    found.filter(|_| rest.is_empty())
}

/// Behind [`rows`]: where the rows of an event time begin.
pub(super) fn from_event_time(event_time: Timestamp) -> [u8; 8] {
    start(event_time)
}

/// Behind [`rows`]: past all rows of an event time, and before those of the next.
pub(super) fn past_event_time(event_time: Timestamp) -> Vec<u8> {
    [&start(event_time)[..], &PAST_ALL].concat()
}

/// Writes the place of a row among its entity's; `number` tells rows apart that have no position and are equal.
pub(super) fn put_order(order: &RowOrder, number: u64, out: &mut Vec<u8>) {
    put(order.event_time.0, out);
    put(order.visible_at.0, out);
    for &byte in &order.order_by {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0, 0]);
    if order.position == Position::NONE {
        out.push(0);
        out.push(u8::from(order.op == Op::Delete));
        out.extend_from_slice(&order.digest.0);
        out.extend_from_slice(&number.to_be_bytes());
    } else {
        out.push(1);
        put(order.position.0, out);
    }
}

/// The bytes of the longest key that a pushed row of an entity is ever stored under: where it came late, that of its end.
pub fn row_key_length(entity: &[u8], order_by: &[u8]) -> usize {
    // Behind the entity what it is, the position of its batch, e, v, the row's position, and the end.
    entity.len() + 2 + 8 + 8 + 8 + escaped_length(order_by) + 1 + 8 + 1
}

/// The place of a row, and whether the key is that of its end.
pub(super) struct Placed<'a> {
    pub(super) event_time: Timestamp,
    pub(super) visible_at: Timestamp,
    /// From `o` on.
    rest: &'a [u8],
    pub(super) is_end: bool,
}

/// Reads what [`put_order`] wrote, with the 0 behind it where it is an end.
pub(super) fn read_order(mut bytes: &[u8]) -> Option<Placed<'_>> {
    let (event_time, visible_at) = (Timestamp(take(&mut bytes)?), Timestamp(take(&mut bytes)?));
    let mut at = 0;
    loop {
        match (*bytes.get(at)?, bytes.get(at + 1)) {
            (0, Some(0)) => break,
            (0, _) => at += 2,
            _ => at += 1,
        }
    }
    let tail = bytes.get(at + 2..)?;
    let length = match *tail.first()? {
        0 => 1 + 1 + 16 + 8,
        _ => 1 + 8,
    };
    let is_end = tail.len() == length + 1;
    (is_end || tail.len() == length).then_some(Placed { event_time, visible_at, rest: bytes, is_end })
}

impl Placed<'_> {
    /// The whole place; `op` is that of the row.
    pub(super) fn order(&self, op: Op) -> RowOrder {
        let mut order_by = Vec::new();
        let mut bytes = self.rest.iter();
        while let Some(&byte) = bytes.next() {
            if byte == 0 && bytes.next() == Some(&0) {
                break;
            }
            order_by.push(byte);
        }
        let mut rest = bytes.as_slice();
        let position = match rest.first() {
            Some(1) => {
                rest = &rest[1..];
                take(&mut rest).map_or(Position::NONE, Position)
            }
            _ => Position::NONE,
        };
        let digest = match position {
            Position::NONE => rest.get(2..18).and_then(|digest| digest.first_chunk()).copied(),
            _ => None,
        };
        RowOrder {
            event_time: self.event_time,
            visible_at: self.visible_at,
            order_by: order_by.into(),
            position,
            op,
            digest: RowDigest(digest.unwrap_or_default()),
        }
    }
}

/// A row as its entry holds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) op: Op,
    pub(super) valid_until: Option<Timestamp>,
    pub(super) values: &'a [u8],
}

/// Writes a row's entry; `entity`: the length of its entity's key.
pub(super) fn put_row(row: &Row<'_>, entity: u16, out: &mut Vec<u8>) {
    let flag = |some: bool, flag| if some { flag } else { 0 };
    out.push(ROW_FORMAT);
    out.push(flag(row.op == Op::Delete, IS_DELETE) | flag(row.valid_until.is_some(), HAS_VALID_UNTIL));
    out.extend_from_slice(&entity.to_le_bytes());
    if let Some(until) = row.valid_until {
        out.extend_from_slice(&until.0.to_le_bytes());
    }
    out.extend_from_slice(row.values);
}

pub(super) fn read_row(entry: &[u8]) -> Option<Row<'_>> {
    let (&[format, flags, _, _], rest) = entry.split_first_chunk::<4>()?;
    if format != ROW_FORMAT {
        return None;
    }
    let op = if flags & IS_DELETE == 0 { Op::Value } else { Op::Delete };
    if flags & HAS_VALID_UNTIL == 0 {
        return Some(Row { op, valid_until: None, values: rest });
    }
    let (until, values) = rest.split_first_chunk::<8>()?;
    Some(Row { op, valid_until: Some(Timestamp(i64::from_le_bytes(*until))), values })
}

/// The entity that an entry belongs to, where it is a row or a tile in place of rows.
pub(super) fn entity_of<'a>(place: &'a [u8], entry: &[u8]) -> Option<&'a [u8]> {
    entity_of_row(place, entry).or_else(|| entity_of_kept(place, entry))
}

/// The entity of an entry that is a row.
fn entity_of_row<'a>(place: &'a [u8], entry: &[u8]) -> Option<&'a [u8]> {
    let &[format, _, low, high] = entry.first_chunk::<4>()?;
    let length = (format == ROW_FORMAT).then(|| u16::from_le_bytes([low, high]))?;
    entity_at(place, length, false)
}

/// The entity of an entry that is a tile in place of rows.
fn entity_of_kept<'a>(place: &'a [u8], entry: &[u8]) -> Option<&'a [u8]> {
    let &[format, low, high] = entry.first_chunk::<3>()?;
    let (entity, rest) = place.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
    let is_tile = matches!(read_beside(rest), Some(Beside::Tile(..)));
    (format == KEPT_FORMAT && is_tile).then_some(entity)
}

/// The entity of an entry that is the end of a row, where it says it.
fn entity_of_end<'a>(place: &'a [u8], entry: &[u8]) -> Option<&'a [u8]> {
    let length = <[u8; 2]>::try_from(entry.get(8..)?).ok()?;
    entity_at(place, u16::from_le_bytes(length), true)
}

/// The entity of an entry that is a row, or the end of one.
pub(super) fn entity_of_either<'a>(place: &'a [u8], entry: &[u8]) -> Option<&'a [u8]> {
    entity_of(place, entry).or_else(|| entity_of_end(place, entry))
}

/// The entity of a key, if that is the key of a row, or of the end of one, and the entity's is so long.
fn entity_at(place: &[u8], length: u16, is_end: bool) -> Option<&[u8]> {
    let (entity, rest) = place.split_at_checked(usize::from(length))?;
    let placed = rest.strip_prefix(&[ROWS]).and_then(read_order)?;
    (placed.is_end == is_end).then_some(entity)
}

/// The length of an entity's key, as entries have it.
pub(super) fn length(entity: &[u8]) -> Result<u16> {
    u16::try_from(entity.len()).map_err(|_| Error::TooLong { what: "an entity's key", limit: 65_535 })
}

/// When something ends.
pub(super) fn end(at: Timestamp) -> [u8; 8] {
    at.0.to_le_bytes()
}

/// The entry of the end of a row. It names the entity: its row may not be there.
pub(super) fn end_of(at: Timestamp, entity: u16) -> [u8; 10] {
    let mut entry = [0; 10];
    entry[..8].copy_from_slice(&end(at));
    entry[8..].copy_from_slice(&entity.to_le_bytes());
    entry
}

/// Reads [`end`] and [`end_of`].
pub(super) fn read_end(entry: &[u8]) -> Option<Timestamp> {
    let (at, entity) = entry.split_first_chunk::<8>()?;
    matches!(entity.len(), 0 | 2).then(|| Timestamp(i64::from_le_bytes(*at)))
}

/// Writes what the key of a late row begins with.
pub(super) fn put_late(entity: &[u8], s: Position, out: &mut Vec<u8>) {
    out.extend_from_slice(entity);
    out.extend_from_slice(&[STATE, LATE]);
    put(s.0, out);
}

/// What stands in an entity's own state, behind [`state`].
pub(super) enum State<'a> {
    /// Up to there it has tiles.
    Tiled,
    /// A row, or the end of one, that came late, with the position of its batch.
    Late(Position, Placed<'a>),
}

pub(super) fn read_state(key: &[u8]) -> Option<State<'_>> {
    match key.split_first()? {
        (&TILED_UNTIL, []) => Some(State::Tiled),
        (&LATE, mut rest) => {
            let s = Position(take(&mut rest)?);
            Some(State::Late(s, read_order(rest)?))
        }
        _ => None,
    }
}

/// A tile as its entry holds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile<'a> {
    /// It holds everything up to there that is known at `newest`.
    pub(super) position: Position,
    /// The greatest `v` of anything it holds, and of what ended rows in its stretch; or later, where it stands in for rows.
    pub(super) newest: Timestamp,
    /// What reading its rows would cost, in rows.
    pub(super) weight: u32,
    /// It stands in for its rows, which are let go of: the length of its entity's key.
    pub(super) kept: Option<u16>,
    pub(super) states: &'a [u8],
}

impl Tile<'_> {
    /// Whether it holds what was written at this position with this `v`.
    pub(super) fn holds(&self, s: Position, visible_at: Timestamp) -> bool {
        s <= self.position && visible_at <= self.newest
    }
}

pub(super) fn put_tile(tile: &Tile<'_>, out: &mut Vec<u8>) {
    match tile.kept {
        None => out.push(TILE_FORMAT),
        Some(entity) => {
            out.push(KEPT_FORMAT);
            out.extend_from_slice(&entity.to_le_bytes());
        }
    }
    out.extend_from_slice(&tile.position.0.to_le_bytes());
    out.extend_from_slice(&tile.newest.0.to_le_bytes());
    out.extend_from_slice(&tile.weight.to_le_bytes());
    out.extend_from_slice(tile.states);
}

pub(super) fn read_tile(entry: &[u8]) -> Option<Tile<'_>> {
    let (kept, rest) = match entry.split_first()? {
        (&TILE_FORMAT, rest) => (None, rest),
        (&KEPT_FORMAT, rest) => {
            let (entity, rest) = rest.split_first_chunk::<2>()?;
            (Some(u16::from_le_bytes(*entity)), rest)
        }
        _ => return None,
    };
    let (position, rest) = rest.split_first_chunk::<8>()?;
    let (newest, rest) = rest.split_first_chunk::<8>()?;
    let (weight, states) = rest.split_first_chunk::<4>()?;
    Some(Tile {
        position: Position(i64::from_le_bytes(*position)),
        newest: Timestamp(i64::from_le_bytes(*newest)),
        weight: u32::from_le_bytes(*weight),
        kept,
        states,
    })
}

/// Whether a tile stands in for its rows.
pub(super) fn is_kept(entry: &[u8]) -> bool {
    entry.first() == Some(&KEPT_FORMAT)
}

/// What an entry that cannot be read makes of a request.
pub(super) fn damaged(what: &str) -> Error {
    Error::Damaged { path: "live".to_owned(), what: format!("{what} of a view is not what was written") }
}

/// An entry, or why it cannot be read.
pub(super) fn whole<T>(found: Option<T>, what: &str) -> Result<T> {
    found.ok_or_else(|| damaged(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(stored: &str, name: &str) -> Vec<u8> {
        let line = stored.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let text = line.unwrap_or_else(|| panic!("no {name}"));
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    /// Keys and entries of format 1 load forever, and are written as before.
    #[test]
    fn format_1_loads() {
        let stored = include_str!("../../tests/compat/live-views-1.txt");
        let field = |name: &str| field(stored, name);
        let entity = b"\x01\x02key";
        let mut late = Vec::new();
        let pushed = RowOrder {
            event_time: Timestamp(1_370_044_800_000_000),
            visible_at: Timestamp(1_370_048_400_000_000),
            order_by: vec![1, 0, 255].into(),
            position: Position(7),
            op: Op::Value,
            digest: RowDigest::default(),
        };
        let read = RowOrder {
            event_time: Timestamp(-1),
            order_by: Box::default(),
            position: Position::NONE,
            op: Op::Delete,
            digest: RowDigest(*b"0123456789abcdef"),
            ..pushed.clone()
        };
        put_late(entity, Position(1), &mut late);
        put_order(&pushed, 0, &mut late);
        assert_eq!(late.len() + 1, row_key_length(entity, &pushed.order_by), "that of its end");
        let until = Some(Timestamp(1_370_131_200_000_000));
        for (name, order, number, valid_until, values) in
            [("row", &pushed, 0, until, &b"values"[..]), ("delete", &read, 9, None, b"")]
        {
            let mut place = rows(entity);
            put_order(order, number, &mut place);
            let mut entry = Vec::new();
            put_row(&Row { op: order.op, valid_until, values }, 5, &mut entry);
            let (key, stored) = (field(&format!("{name} key")), field(&format!("{name} entry")));
            assert_eq!((&place, &entry), (&key, &stored), "written as before");
            let placed = read_order(&key[6..]).unwrap();
            assert_eq!((placed.order(order.op), placed.is_end), (order.clone(), false));
            let row = read_row(&stored).unwrap();
            assert_eq!((row.op, row.valid_until, row.values), (order.op, valid_until, values));
            assert_eq!(entity_of(&key, &stored), Some(&entity[..]));
            assert_eq!(entity_of_end(&key, &stored), None);
            for short in 0..key.len() - 6 {
                assert!(read_order(&key[6..6 + short]).is_none(), "cut at {short}");
            }
        }
        let mut late = Vec::new();
        put_late(entity, Position(41), &mut late);
        put_order(&pushed, 0, &mut late);
        assert_eq!(late, field("late key"));
        match read_state(&late[6..]).unwrap() {
            State::Late(s, placed) => {
                assert_eq!((s, placed.order(Op::Value)), (Position(41), pushed.clone()))
            }
            State::Tiled => panic!("it is a late row"),
        }
        assert_eq!(tiled(entity), field("tiled key"));
        assert!(matches!(read_state(&tiled(entity)[6..]), Some(State::Tiled)));
        let until = Timestamp(-7);
        for (gone, many) in [(None, false), (Some(Position(9)), false), (Some(Position(-1)), true)] {
            for horizon in [None, Some(Timestamp(-8)), Some(Timestamp(8))] {
                let mark = Mark { until, gone, many: many && gone.is_some(), horizon };
                assert_eq!(read_mark(&put_mark(&mark)), Some(mark));
            }
        }
        for damaged in [9, 15, 18, 24, 26] {
            assert_eq!(read_mark(&vec![0; damaged]), None);
        }
        let end_key = field("end key");
        let placed = read_order(&end_key[6..]).unwrap();
        assert_eq!((placed.order(Op::Value), placed.is_end), (pushed, true));
        assert_eq!(
            (read_end(&field("end entry")), end(Timestamp(-1)).to_vec()),
            (Some(Timestamp(-1)), field("end entry"))
        );
        let stored = field("end of an entity entry");
        assert_eq!(end_of(Timestamp(-1), 5).to_vec(), stored, "written as before");
        assert_eq!(read_end(&stored), Some(Timestamp(-1)));
        assert_eq!(entity_of_end(&end_key, &stored), Some(&entity[..]));
        assert_eq!(entity_of_end(&end_key, &field("end entry")), None, "as it was written before");
        let place = [&tiles(entity, 3)[..], &start(Timestamp(-60_000_000))].concat();
        assert_eq!((&place, read_start(&place[7..])), (&field("tile key"), Some(Timestamp(-60_000_000))));
        let stored = field("tile entry");
        let tile = read_tile(&stored).unwrap();
        let parts = (tile.position, tile.newest, tile.weight, tile.kept, tile.states);
        assert_eq!(parts, (Position(41), Timestamp(1_370_048_400_000_000), 17, None, &b"states"[..]));
        let mut written = Vec::new();
        put_tile(&tile, &mut written);
        assert_eq!(written, stored, "written as before");
        assert_eq!(entity_of(&place, &stored), None);
    }

    /// What format 2 has beside: tiles in place of rows.
    #[test]
    fn format_2_loads() {
        let stored = include_str!("../../tests/compat/live-views-2.txt");
        let place = field(stored, "kept tile key");
        let stored = (field(stored, "kept tile entry"), field(stored, "tiled entry"));
        let tile = read_tile(&stored.0).unwrap();
        let parts = (tile.position, tile.newest, tile.weight, tile.kept, tile.states);
        assert_eq!(parts, (Position(41), Timestamp(1_370_048_400_000_000), 17, Some(5), &b"states"[..]));
        assert!(is_kept(&stored.0));
        assert_eq!(entity_of(&place, &stored.0), Some(&b"\x01\x02key"[..]));
        let mark = read_mark(&stored.1).unwrap();
        let horizon = Some(Timestamp(1_370_048_400_000_000));
        assert_eq!(mark, Mark { until: Timestamp(-7), gone: Some(Position(9)), many: true, horizon });
        let mut written = Vec::new();
        put_tile(&tile, &mut written);
        assert_eq!((written, put_mark(&mark)), stored, "written as before");
    }
}
