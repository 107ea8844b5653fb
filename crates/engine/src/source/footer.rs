//! How deep the schema of a Parquet file nests, found out before its reader descends into it.
//!
//! The reader goes one stack frame deeper for each group within a group, as deep as the file says, and a
//! stack has an end: a footer of a megabyte ends the process. Here the same list of schema elements (Thrift's
//! compact protocol, `parquet.thrift`) is walked without descending.

use std::io::{self, Read};

/// How many groups may stand within each other. A list takes two of them, a map three.
pub(crate) const DEEPEST: usize = 128;

/// How deep a footer's own structures nest; the format knows fewer than ten.
const DEEPEST_STRUCT: usize = 32;

/// What a footer is refused for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Groups nest deeper than [`DEEPEST`].
    TooDeep,
    /// It is no footer, or ends too early.
    Broken,
}

impl From<io::Error> for Refused {
    fn from(_: io::Error) -> Refused {
        Refused::Broken
    }
}

/// Walks the schema of a footer; `footer` gives its bytes from the first.
///
/// # Errors
/// [`Refused`].
pub(crate) fn check(footer: impl Read) -> Result<(), Refused> {
    const SCHEMA: i64 = 2;
    let mut thrift = Thrift(footer);
    let mut id = 0;
    while let Some(kind) = thrift.field(&mut id)? {
        if id == SCHEMA && kind == LIST {
            return schema(&mut thrift);
        }
        thrift.skip(kind, 0)?;
    }
    Err(Refused::Broken)
}

fn schema(thrift: &mut Thrift<impl Read>) -> Result<(), Refused> {
    const CHILDREN: i64 = 5;
    let (length, kind) = thrift.list()?;
    if kind != STRUCT {
        return Err(Refused::Broken);
    }
    // Of each group that is open, how many of its children are still to come.
    let mut open: Vec<u64> = Vec::new();
    for _ in 0..length {
        let mut children = 0;
        let mut id = 0;
        while let Some(kind) = thrift.field(&mut id)? {
            if id == CHILDREN && kind == I32 {
                children = u64::try_from(thrift.zigzag()?).map_err(|_| Refused::Broken)?;
            } else {
                thrift.skip(kind, 0)?;
            }
        }
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if children > 0 {
            open.push(children);
        }
        while open.last() == Some(&0) {
            open.pop();
        }
        if open.len() > DEEPEST {
            return Err(Refused::TooDeep);
        }
    }
    Ok(())
}

const I32: u8 = 5;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Thrift's compact protocol.
struct Thrift<R>(R);

impl<R: Read> Thrift<R> {
    fn byte(&mut self) -> Result<u8, Refused> {
        let mut byte = [0];
        self.0.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn varint(&mut self) -> Result<u64, Refused> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Refused::Broken)
    }

    fn zigzag(&mut self) -> Result<i64, Refused> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The next field's type, its number in `id`; none at the end of the structure.
    fn field(&mut self, id: &mut i64) -> Result<Option<u8>, Refused> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        *id = match head >> 4 {
            0 => self.zigzag()?,
            more => id.checked_add(i64::from(more)).ok_or(Refused::Broken)?,
        };
        Ok(Some(head & 0x0f))
    }

    /// A list's length and the type of its elements.
    fn list(&mut self) -> Result<(u64, u8), Refused> {
        let head = self.byte()?;
        let length = match head >> 4 {
            15 => self.varint()?,
            length => u64::from(length),
        };
        Ok((length, head & 0x0f))
    }

    fn bytes(&mut self, length: u64) -> Result<(), Refused> {
        let read = io::copy(&mut self.0.by_ref().take(length), &mut io::sink())?;
        if read == length { Ok(()) } else { Err(Refused::Broken) }
    }

    /// Passes over a value of a field.
    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), Refused> {
        if depth > DEEPEST_STRUCT {
            return Err(Refused::Broken);
        }
        match kind {
            // Of a field that is true or false the type says which.
            1 | 2 => Ok(()),
            3 => self.bytes(1),
            4 | I32 | 6 => self.varint().map(drop),
            7 => self.bytes(8),
            8 => {
                let length = self.varint()?;
                self.bytes(length)
            }
            LIST | 10 => {
                let (length, kind) = self.list()?;
                for _ in 0..length {
                    match kind {
                        1 | 2 => self.bytes(1)?,
                        kind => self.skip(kind, depth + 1)?,
                    }
                }
                Ok(())
            }
            STRUCT => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, depth + 1)?;
                }
                Ok(())
            }
            // The format has no maps, and no other type.
            _ => Err(Refused::Broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer whose schema is so many groups within each other, then a leaf; what follows is left out.
    fn nested(groups: usize) -> Vec<u8> {
        // version: 2; schema: a list of structures, its length as a varint.
        let mut out = vec![0x15, 0x04, 0x19, 0xfc];
        let mut length = groups as u64 + 1;
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        for _ in 0..groups {
            // repetition_type: REPEATED; name: "g"; num_children: 1.
            out.extend([0x35, 0x04, 0x18, 0x01, b'g', 0x15, 0x02, 0]);
        }
        // type: INT64; repetition_type: OPTIONAL; name: "x".
        out.extend([0x15, 0x04, 0x25, 0x02, 0x18, 0x01, b'x', 0]);
        out
    }

    #[test]
    fn groups_nest_so_deep_and_no_deeper() {
        for (groups, want) in [
            (1, Ok(())),
            (DEEPEST, Ok(())),
            (DEEPEST + 1, Err(Refused::TooDeep)),
            (1_000_000, Err(Refused::TooDeep)),
        ] {
            assert_eq!(check(nested(groups).as_slice()), want, "{groups}");
        }
        // Side by side they are no deeper.
        let mut flat = vec![0x15, 0x04, 0x19, 0xfc, 0xe9, 0x07];
        flat.extend([0x35, 0x04, 0x18, 0x01, b'g', 0x15, 0xd0, 0x0f, 0]);
        for _ in 0..1_000 {
            flat.extend([0x15, 0x04, 0x25, 0x02, 0x18, 0x01, b'x', 0]);
        }
        assert_eq!(check(flat.as_slice()), Ok(()));
    }

    #[test]
    fn what_is_no_footer_is_refused() {
        let whole = nested(3);
        for end in 0..whole.len() {
            assert_eq!(check(&whole[..end]), Err(Refused::Broken), "{end}");
        }
        // A number of a field past all numbers: i64::MAX written out, then one more.
        let mut past = vec![0x05, 0xfe];
        past.extend([0xff; 8]);
        past.extend([0x01, 0x00, 0x15, 0x00]);
        // Structures within structures, and a length beyond all bytes.
        for bytes in
            [past, vec![0x1c; 100_000], vec![0x18, 0xff, 0xff, 0xff, 0xff, 0x0f], vec![0x1b, 0], vec![0]]
        {
            assert_eq!(check(bytes.as_slice()), Err(Refused::Broken));
        }
    }
}
