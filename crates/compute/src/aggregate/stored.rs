//! The bytes of states: a version byte, then numbers and values that say where they end (`docs/formats/state.md`).

use crate::ComputeError;

/// The first byte of states as `docs/formats/state.md` has them.
pub(super) const STATE_FORMAT: u8 = 1;

/// Appends a whole number: zigzag, seven bits a byte, lowest first.
pub(super) fn write_number(number: i128, out: &mut Vec<u8>) {
    let mut rest = (number.cast_unsigned() << 1) ^ (number >> 127).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends a length, then as many bytes.
pub(super) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_number(bytes.len() as i128, out);
    out.extend_from_slice(bytes);
}

/// Appends a value, behind a byte that says whether there is one.
pub(super) fn write_optional<T>(value: Option<&T>, out: &mut Vec<u8>, write: impl FnOnce(&T, &mut Vec<u8>)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        write(value, out);
    }
}

/// The bytes of a state, as far as they are read.
pub(super) struct Reading<'a> {
    what: &'static str,
    bytes: &'a [u8],
}

impl<'a> Reading<'a> {
    /// Behind the version byte.
    pub(super) fn new(what: &'static str, version: u8, bytes: &'a [u8]) -> Result<Reading<'a>, ComputeError> {
        match bytes.split_first() {
            Some((found, bytes)) if *found == version => Ok(Reading { what, bytes }),
            Some((found, _)) => {
                Err(Reading { what, bytes }.damaged(&format!("version {found} is not known")))
            }
            None => Err(Reading { what, bytes }.damaged("there are no bytes")),
        }
    }

    /// What is read of all of them.
    pub(super) fn whole<T>(
        mut self,
        read: impl FnOnce(&mut Self) -> Result<T, ComputeError>,
    ) -> Result<T, ComputeError> {
        let found = read(&mut self)?;
        if self.bytes.is_empty() { Ok(found) } else { Err(self.damaged("there are bytes left")) }
    }

    pub(super) fn damaged(&self, reason: &str) -> ComputeError {
        ComputeError::Damaged { what: self.what, reason: reason.to_owned() }
    }

    /// What a small number stands for, where it has room.
    #[inline]
    fn fits<T: TryFrom<i128>>(&self, found: u32) -> Result<T, ComputeError> {
        let number = (found >> 1).cast_signed() ^ -(found & 1).cast_signed();
        T::try_from(i128::from(number)).map_err(|_| self.damaged("a number has no room"))
    }

    /// A whole number that has room in a type.
    #[inline]
    pub(super) fn number<T: TryFrom<i128>>(&mut self) -> Result<T, ComputeError> {
        // Most are counts and small values, of one byte or two.
        match self.bytes {
            [first @ 0..0x80, rest @ ..] => {
                self.bytes = rest;
                self.fits(u32::from(*first))
            }
            [first, second @ 1..0x80, rest @ ..] => {
                self.bytes = rest;
                self.fits(u32::from(first & 0x7f) | u32::from(*second) << 7)
            }
            _ => self.long_number(),
        }
    }

    fn long_number<T: TryFrom<i128>>(&mut self) -> Result<T, ComputeError> {
        let (mut found, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            let bits = u128::from(byte & 0x7f);
            if shift > 126 || (shift == 126 && bits > 3) {
                return Err(self.damaged("a number is too long"));
            }
            found |= bits << shift;
            if byte & 0x80 == 0 {
                if bits == 0 && shift > 0 {
                    return Err(self.damaged("a number is longer than it need be"));
                }
                break;
            }
            shift += 7;
        }
        let number = (found >> 1).cast_signed() ^ -(found & 1).cast_signed();
        T::try_from(number).map_err(|_| self.damaged("a number has no room"))
    }

    /// A value, where a byte says that there is one.
    pub(super) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, ComputeError>,
    ) -> Result<Option<T>, ComputeError> {
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(self.damaged("it is neither said that there is a value nor that there is none")),
        }
    }

    /// One byte.
    pub(super) fn byte(&mut self) -> Result<u8, ComputeError> {
        let (byte, rest) = self.bytes.split_first().ok_or_else(|| self.damaged("it ends too early"))?;
        self.bytes = rest;
        Ok(*byte)
    }

    /// So many bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ComputeError> {
        let (found, rest) =
            self.bytes.split_at_checked(count).ok_or_else(|| self.damaged("it ends too early"))?;
        self.bytes = rest;
        Ok(found)
    }

    /// What [`write_bytes`] wrote.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], ComputeError> {
        let count = self.number::<usize>()?;
        self.take(count)
    }
}
