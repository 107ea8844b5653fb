//! Versions of events: what stands of each id, in version order `(v, o, s, c)`, also of batches that are on
//! their way to the disk.
//!
//! The last version of an id is its *head*, found by one look-up; the ones before it stand in a table of
//! their own. Most ids have one version, so most rows with an id cost one look-up that finds nothing.

use std::collections::{BTreeMap, HashMap};

use asof_compute::{Position, RowDigest};
use asof_model::Timestamp;

use super::Writing;
use super::store::{Direction, GivenRow, IncomingVersion, SourceNumber, TableNumber, Version};
use super::tree::{Error, View};
use crate::Result;

/// Source and id -> the last version in version order.
pub(super) const HEADS: TableNumber = TableNumber::own(1);
/// Source, id and order -> every other version.
pub(super) const REST: TableNumber = TableNumber::own(2);

/// The version byte of a stored version, `docs/formats/live-store.md`.
pub(super) const VERSION_FORMAT: u8 = 1;

const VERSION: &str = "a version of an id";

/// Versions of batches that are not published yet, by source and id.
#[derive(Debug, Default)]
pub(super) struct Pending {
    ids: HashMap<Vec<u8>, Chain>,
}

/// What batches on their way made of an id.
#[derive(Debug, Clone)]
struct Chain {
    /// The last batch that changed it.
    ticket: u64,
    head: Version,
    /// Versions that are not the head, by their order: those that a batch on its way put there.
    rest: BTreeMap<Vec<u8>, Version>,
}

/// What a batch does to ids, not yet part of [`Pending`].
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Of its ids, what batches on their way made of them.
    pending: HashMap<Vec<u8>, Chain>,
    ids: HashMap<Vec<u8>, Chain>,
}

/// What became of a row.
pub(super) enum Outcome {
    /// It equals the version that stands.
    AlreadyThere,
    Stored(GivenRow),
}

impl Changes {
    /// Takes one row of the batch. `s` is what it gets if it is stored; `view` is of the moment at which
    /// [`Pending::begin`] was asked.
    pub(super) fn take(
        &mut self,
        view: &View,
        source: SourceNumber,
        row: usize,
        incoming: &IncomingVersion<'_>,
        v: Timestamp,
        s: Position,
    ) -> Result<Outcome, Error> {
        let id = id_key(source, incoming.id);
        let version = Version {
            visible_at: incoming.visible_at.unwrap_or(v),
            order_by: incoming.order_by.into(),
            position: s,
            digest: incoming.digest,
            event_time: incoming.event_time,
            content: incoming.content,
            kept: incoming.kept.into(),
        };
        let changed = self.ids.get(&id);
        let pending = self.pending.get(&id);
        let stored;
        let head = match changed.or(pending) {
            Some(chain) => Some(&chain.head),
            None => {
                stored = read_head(view, &id)?;
                stored.as_ref()
            }
        };
        let may_equal = incoming.visible_at.is_none();
        let (before, after) = match head {
            None => (None, None),
            Some(head) if version.order() > head.order() => (Some(head.clone()), None),
            Some(head) => {
                let order = order_key(&version);
                let rests = [changed, pending].map(|chain| chain.map(|chain| &chain.rest));
                let mut below = neighbour(view, &id, &order, Direction::Backward)?;
                let mut above = neighbour(view, &id, &order, Direction::Forward)?;
                for rest in rests.into_iter().flatten() {
                    if let Some((_, found)) = rest.range::<Vec<u8>, _>(..&order).next_back()
                        && below.as_ref().is_none_or(|below| below.order() < found.order())
                    {
                        below = Some(found.clone());
                    }
                    if let Some((_, found)) = rest.range::<Vec<u8>, _>(&order..).next()
                        && above.as_ref().is_none_or(|above| above.order() > found.order())
                    {
                        above = Some(found.clone());
                    }
                }
                (below, Some(above.unwrap_or_else(|| head.clone())))
            }
        };
        if may_equal && before.as_ref().is_some_and(|before| before.content == version.content) {
            return Ok(Outcome::AlreadyThere);
        }
        let head = head.cloned();
        let chain = self.ids.entry(id).or_insert_with(|| Chain {
            ticket: 0,
            head: head.clone().unwrap_or_else(|| version.clone()),
            rest: BTreeMap::new(),
        });
        if after.is_some() {
            chain.rest.insert(order_key(&version), version);
        } else {
            if let Some(head) = head {
                chain.rest.insert(order_key(&head), head);
            }
            chain.head = version;
        }
        Ok(Outcome::Stored(GivenRow { row, position: s, before, after }))
    }

    /// Writes what the batch makes of its ids.
    pub(super) fn write(&self, writing: &mut Writing) -> Result<()> {
        let mut value = Vec::new();
        for (id, chain) in &self.ids {
            put(&mut value, &chain.head);
            writing.put(HEADS, id, &value)?;
            for (order, version) in &chain.rest {
                put(&mut value, version);
                writing.put(REST, &rest_key(id, order), &value)?;
            }
        }
        Ok(())
    }
}

impl Pending {
    /// The changes of a batch of these versions, none of them taken yet.
    pub(super) fn begin(&self, source: SourceNumber, rows: &[Option<IncomingVersion<'_>>]) -> Changes {
        let mut changes = Changes::default();
        if !self.ids.is_empty() {
            for row in rows.iter().flatten() {
                let id = id_key(source, row.id);
                if let Some(chain) = self.ids.get(&id) {
                    changes.pending.insert(id, chain.clone());
                }
            }
        }
        changes
    }

    /// The batch of this ticket is on its way.
    pub(super) fn add(&mut self, changes: Changes, ticket: u64) -> Vec<Vec<u8>> {
        let mut ids = Vec::with_capacity(changes.ids.len());
        for (id, mut chain) in changes.ids {
            chain.ticket = ticket;
            if let Some(mut before) = self.ids.remove(&id) {
                before.rest.append(&mut chain.rest);
                chain.rest = before.rest;
            }
            self.ids.insert(id.clone(), chain);
            ids.push(id);
        }
        ids
    }

    /// A batch is published: of these ids the store knows what it made.
    pub(super) fn published(&mut self, ids: &[Vec<u8>], ticket: u64) {
        for id in ids {
            if self.ids.get(id).is_some_and(|chain| chain.ticket <= ticket) {
                self.ids.remove(id);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.ids.clear();
    }
}

/// The versions of an id, in version order.
pub(super) fn versions(view: &View, source: SourceNumber, id: &[u8]) -> Result<Vec<Version>, Error> {
    let id = id_key(source, id);
    let mut found = Vec::new();
    view.scan(REST, &rest_key(&id, &[]), None, Direction::Forward, &mut |_, value| {
        found.push(read(value).ok_or(Error::Damaged(VERSION))?);
        Ok(true)
    })?;
    found.extend(read_head(view, &id)?);
    Ok(found)
}

fn read_head(view: &View, id: &[u8]) -> Result<Option<Version>, Error> {
    let Some(value) = view.seek(HEADS, id)? else { return Ok(None) };
    read(&value).map(Some).ok_or(Error::Damaged(VERSION))
}

/// The stored version that is no head, next to this order.
fn neighbour(view: &View, id: &[u8], order: &[u8], direction: Direction) -> Result<Option<Version>, Error> {
    let mut found = None;
    view.scan(REST, &rest_key(id, &[]), Some(order), direction, &mut |_, value| {
        found = Some(read(value).ok_or(Error::Damaged(VERSION))?);
        Ok(false)
    })?;
    Ok(found)
}

pub(super) fn id_key(source: SourceNumber, id: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + id.len());
    key.extend_from_slice(&source.0.to_be_bytes());
    key.extend_from_slice(id);
    key
}

/// Source, id with an end that no longer id has, order.
pub(super) fn rest_key(id: &[u8], order: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(id.len() + order.len() + 4);
    let (source, id) = id.split_at_checked(4).unwrap_or_default();
    key.extend_from_slice(source);
    put_escaped(id, &mut key);
    key.extend_from_slice(order);
    key
}

/// The bytes of the longest key that a version is ever stored under: the one it gets where another comes after it.
pub fn version_key_length(id: &[u8], order_by: &[u8]) -> usize {
    // Source, v, position, digest.
    4 + 8 + 8 + 16 + escaped_length(id) + escaped_length(order_by)
}

/// The bytes that [`put_escaped`] makes of some.
pub(crate) fn escaped_length(bytes: &[u8]) -> usize {
    bytes.len() + bytes.iter().filter(|byte| **byte == 0).count() + 2
}

/// 0 is written as 0, 255 and the end is 0, 0: the bytes compare as before, and none begins another.
fn put_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(255);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

fn ascending(number: i64) -> [u8; 8] {
    (number.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// Bytes that compare as versions are ordered.
pub(super) fn order_key(version: &Version) -> Vec<u8> {
    let mut key = Vec::with_capacity(34 + version.order_by.len());
    key.extend_from_slice(&ascending(version.visible_at.0));
    put_escaped(&version.order_by, &mut key);
    key.extend_from_slice(&ascending(version.position.0));
    key.extend_from_slice(&version.digest.0);
    key
}

/// ```text
/// version = format (1) v (8) s (8) c (16) e (8) content (16) o-length (4) o kept
/// ```
pub(super) fn put(out: &mut Vec<u8>, version: &Version) {
    out.clear();
    out.push(VERSION_FORMAT);
    out.extend_from_slice(&version.visible_at.0.to_le_bytes());
    out.extend_from_slice(&version.position.0.to_le_bytes());
    out.extend_from_slice(&version.digest.0);
    out.extend_from_slice(&version.event_time.0.to_le_bytes());
    out.extend_from_slice(&version.content);
    out.extend_from_slice(&(version.order_by.len() as u32).to_le_bytes());
    out.extend_from_slice(&version.order_by);
    out.extend_from_slice(&version.kept);
}

pub(super) fn read(bytes: &[u8]) -> Option<Version> {
    let (&VERSION_FORMAT, rest) = bytes.split_first()? else { return None };
    let (v, rest) = rest.split_first_chunk::<8>()?;
    let (s, rest) = rest.split_first_chunk::<8>()?;
    let (c, rest) = rest.split_first_chunk::<16>()?;
    let (e, rest) = rest.split_first_chunk::<8>()?;
    let (content, rest) = rest.split_first_chunk::<16>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (o, kept) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some(Version {
        visible_at: Timestamp(i64::from_le_bytes(*v)),
        order_by: o.into(),
        position: Position(i64::from_le_bytes(*s)),
        digest: RowDigest(*c),
        event_time: Timestamp(i64::from_le_bytes(*e)),
        content: *content,
        kept: kept.into(),
    })
}
