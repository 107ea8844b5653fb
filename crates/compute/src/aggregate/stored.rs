//! The bytes of states: a version byte, then numbers and values that say where they end (`docs/formats/state.md`).

use crate::ComputeError;

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

    /// A whole number that has room in a type.
    pub(super) fn number<T: TryFrom<i128>>(&mut self) -> Result<T, ComputeError> {
        let (mut found, mut shift) = (0_u128, 0);
        loop {
            let byte = self.byte()?;
            let bits = u128::from(byte & 0x7f);
            if shift > 126 || (shift == 126 && bits > 3) {
                return Err(self.damaged("a number is too long"));
            }
            found |= bits << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
        }
        let number = (found >> 1).cast_signed() ^ -(found & 1).cast_signed();
        T::try_from(number).map_err(|_| self.damaged("a number has no room"))
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.bytes.is_empty()
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
