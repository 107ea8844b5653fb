//! The bytes of a row's key and of its entry; `docs/formats/online-store.md`.
//!
//! ```text
//! key   = generation (4, big-endian) entity-key ~e (8) ~v (8) ~o (escaped) ~s (1 or 9) op (1) ~c (16)
//! entry = format (1) flags (1) prefix (2) [valid_until (8)] [next_version (8)] values
//! ```
//!
//! `~` is every bit turned, so that the row that is last in order comes first. `prefix` is the length
//! of generation and entity key together.

use asof_compute::{Op, Position, RowOrder};
use asof_model::Timestamp;

use crate::{Found, GenerationId};

/// The first byte of every entry, `docs/formats/online-store.md`.
pub(crate) const ENTRY_FORMAT: u8 = 1;

const HAS_VALID_UNTIL: u8 = 1;
const HAS_NEXT_VERSION: u8 = 2;
/// `op` and `~c`, at the end of every key.
const TAIL: usize = 17;

/// Writes what all keys of one entity begin with.
pub(crate) fn put_prefix(generation: GenerationId, key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&generation.0.to_be_bytes());
    out.extend_from_slice(key);
}

/// Writes an instant so that later ones come first.
pub(crate) fn put_time(at: Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(&descending(at.0));
}

fn descending(number: i64) -> [u8; 8] {
    (!(number.cast_unsigned() ^ (1 << 63))).to_be_bytes()
}

fn ascending(bytes: &[u8]) -> Option<i64> {
    let bytes: [u8; 8] = bytes.try_into().ok()?;
    Some((!u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed())
}

/// Writes what orders the rows of one entity, the last in order first.
pub(crate) fn put_order(order: &RowOrder, out: &mut Vec<u8>) {
    put_time(order.event_time, out);
    put_time(order.visible_at, out);
    for &byte in &order.order_by {
        // 0 is written as 0, 255 and the end is 0, 0; all turned.
        out.push(!byte);
        if byte == 0 {
            out.push(0);
        }
    }
    out.extend_from_slice(&[0xFF, 0xFF]);
    if order.position == Position::NONE {
        out.push(0xFF);
    } else {
        out.push(0xFE);
        out.extend_from_slice(&descending(order.position.0));
    }
    out.push(u8::from(order.op == Op::Value));
    out.extend(order.digest.0.iter().map(|byte| !byte));
}

/// Writes what stands before the values in an entry.
pub(crate) fn put_entry_head(
    prefix: u16,
    valid_until: Option<Timestamp>,
    next_version: Option<Timestamp>,
    out: &mut Vec<u8>,
) {
    let flag = |some: bool, flag| if some { flag } else { 0 };
    out.push(ENTRY_FORMAT);
    out.push(flag(valid_until.is_some(), HAS_VALID_UNTIL) | flag(next_version.is_some(), HAS_NEXT_VERSION));
    out.extend_from_slice(&prefix.to_le_bytes());
    for at in [valid_until, next_version].into_iter().flatten() {
        out.extend_from_slice(&at.0.to_le_bytes());
    }
}

/// The length of what all keys of the entry's entity begin with.
pub(crate) fn prefix(entry: &[u8]) -> Option<usize> {
    let (&[format, _, low, high], _) = entry.split_first_chunk::<4>()?;
    (format == ENTRY_FORMAT).then(|| usize::from(u16::from_le_bytes([low, high])))
}

/// `e` and `v` of a key whose entity prefix is so long.
pub(crate) fn times(key: &[u8], prefix: usize) -> Option<(Timestamp, Timestamp)> {
    let event_time = ascending(key.get(prefix..prefix + 8)?)?;
    let visible_at = ascending(key.get(prefix + 8..prefix + 16)?)?;
    Some((Timestamp(event_time), Timestamp(visible_at)))
}

/// A row, and the `v` of its next version.
pub(crate) fn row<'a>(key: &[u8], prefix: usize, entry: &'a [u8]) -> Option<(Found<'a>, Option<Timestamp>)> {
    let (event_time, visible_at) = times(key, prefix)?;
    let op = if *key.get(key.len().checked_sub(TAIL)?)? == 0 { Op::Delete } else { Op::Value };
    let (&[format, flags, _, _], mut rest) = entry.split_first_chunk::<4>()?;
    if format != ENTRY_FORMAT {
        return None;
    }
    let mut instant = |flag: u8| -> Option<Option<Timestamp>> {
        if flags & flag == 0 {
            return Some(None);
        }
        let (bytes, after) = rest.split_first_chunk::<8>()?;
        rest = after;
        Some(Some(Timestamp(i64::from_le_bytes(*bytes))))
    };
    let valid_until = instant(HAS_VALID_UNTIL)?;
    let next_version = instant(HAS_NEXT_VERSION)?;
    Some((Found { event_time, visible_at, op, valid_until, values: rest }, next_version))
}

#[cfg(test)]
mod tests {
    use asof_compute::RowDigest;
    use proptest::prelude::*;

    use super::*;

    fn order() -> impl Strategy<Value = RowOrder> {
        let times = prop_oneof![any::<i64>(), -2_i64..3, Just(i64::MIN), Just(i64::MAX)];
        let bytes = proptest::collection::vec(prop_oneof![Just(0_u8), Just(255), Just(1), Just(254)], 0..4);
        (times.clone(), times, bytes, prop_oneof![Just(i64::MIN), -1_i64..2], any::<bool>(), 0_u8..3)
            .prop_map(|(e, v, o, s, delete, c)| RowOrder {
                event_time: Timestamp(e),
                visible_at: Timestamp(v),
                order_by: o.into(),
                position: Position(s),
                op: if delete { Op::Delete } else { Op::Value },
                digest: RowDigest([c; 16]),
            })
    }

    /// Keys and entries of format 1 load forever, and are written as before.
    #[test]
    fn format_1_loads() {
        let unhex = |text: &str| -> Vec<u8> {
            (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
        };
        let stored = include_str!("../tests/compat/online-store-1.txt");
        let field = |name: &str| {
            let line = stored.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("no {name}"))
        };
        let order = RowOrder {
            event_time: Timestamp(1_370_044_800_000_000),
            visible_at: Timestamp(1_370_048_400_000_000),
            order_by: vec![1, 0, 255].into(),
            position: Position(7),
            op: Op::Value,
            digest: RowDigest(*b"0123456789abcdef"),
        };
        let facts = RowOrder {
            event_time: Timestamp::BEFORE_ALL,
            visible_at: Timestamp::BEFORE_ALL,
            order_by: Box::default(),
            position: Position::NONE,
            op: Op::Delete,
            digest: RowDigest([0; 16]),
        };
        for (name, order, valid_until, next_version, values) in [
            ("value", &order, Some(Timestamp(1_370_131_200_000_000)), Some(Timestamp(-1)), &b"values"[..]),
            ("delete", &facts, None, None, b""),
        ] {
            let (key, entry) = (unhex(field(&format!("{name} key"))), unhex(field(&format!("{name} entry"))));
            assert_eq!(prefix(&entry), Some(9));
            let (found, next) = row(&key, 9, &entry).unwrap();
            assert_eq!(
                (found.event_time, found.visible_at, found.op, found.valid_until, next, found.values),
                (order.event_time, order.visible_at, order.op, valid_until, next_version, values)
            );
            let (mut written, mut head) = (Vec::new(), Vec::new());
            put_prefix(GenerationId(3), b"\x01\x02key", &mut written);
            put_order(order, &mut written);
            put_entry_head(9, valid_until, next_version, &mut head);
            head.extend_from_slice(values);
            assert_eq!((written, head), (key, entry), "written as before");
        }
        let record: crate::Generation = serde_json::from_str(field("generation")).unwrap();
        assert_eq!(
            (record.id, record.version.0.as_str(), record.past_retention),
            (GenerationId(3), "0123abcd", 5)
        );
        assert_eq!(serde_json::to_string(&record).unwrap(), field("generation"), "written as before");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]
        /// Keys compare as orders do, backwards, and give back the times and the op.
        #[test]
        fn keys_are_in_descending_order(mut a in order(), b in order(), same: (bool, bool, bool)) {
            if same.0 { a.event_time = b.event_time; }
            if same.1 { a.visible_at = b.visible_at; }
            if same.2 { a.order_by = b.order_by.clone(); }
            let bytes = |order: &RowOrder| {
                let mut bytes = Vec::new();
                put_prefix(GenerationId(7), b"key", &mut bytes);
                put_order(order, &mut bytes);
                bytes
            };
            prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), b.cmp(&a));
            let mut entry = Vec::new();
            let next = Some(a.visible_at);
            put_entry_head(7, None, next, &mut entry);
            entry.extend_from_slice(b"values");
            let key = bytes(&a);
            let (found, next_version) = row(&key, 7, &entry).unwrap();
            prop_assert_eq!((found.event_time, found.visible_at, found.op), (a.event_time, a.visible_at, a.op));
            prop_assert_eq!(prefix(&entry), Some(7));
            prop_assert_eq!((found.valid_until, next_version, found.values), (None, next, &b"values"[..]));
        }
    }
}
