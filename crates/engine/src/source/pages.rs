//! Pages of flat Parquet columns, decompressed, and single values found in them without decoding the others
//! (<https://parquet.apache.org/docs/file-format/data-pages/encodings/>).
//!
//! Rows are asked for in ascending order. Everything here reads bytes that may be damaged: what does not fit
//! is `None`, and the caller says which file it was.

use arrow::array::BooleanBufferBuilder;
use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::Page;

/// How the values of a column stand in its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// A bit each.
    Bit,
    /// Four bytes each.
    Four,
    /// Eight bytes each.
    Eight,
    /// A length, then so many bytes.
    Varying,
}

/// The values that pages name by number.
#[derive(Debug)]
pub(super) struct Dictionary {
    pub(super) bytes: Bytes,
    /// Where each varying value begins and ends.
    places: Vec<(u32, u32)>,
}

/// A page of data.
#[derive(Debug)]
pub(super) struct DataPage {
    /// How many rows it has.
    pub(super) rows: u64,
    /// None: no value is null.
    pub(super) present: Option<Present>,
    pub(super) values: Values,
}

#[derive(Debug)]
pub(super) enum Values {
    /// One behind the other, bits from the lowest on.
    Plain(Bytes),
    /// Of varying length, one behind the other.
    Varying(Walk),
    /// By their numbers in the dictionary; of truth values, themselves.
    Coded(Codes),
}

/// Which rows of a page have a value.
#[derive(Debug)]
pub(super) struct Present {
    words: Vec<u64>,
    /// Values before each word, and in all.
    before: Vec<u32>,
    count: u32,
}

/// Numbers in runs, repeated or bit-packed: the "RLE/bit-packing hybrid".
#[derive(Debug)]
pub(super) struct Codes {
    bytes: Bytes,
    /// Where the next run begins.
    next: usize,
    width: u32,
    /// The number of the run's first value, and how many it has.
    first: u32,
    count: u32,
    run: Run,
}

#[derive(Debug, Clone, Copy)]
enum Run {
    Repeated(u32),
    /// Bit-packed from this byte on.
    Packed(usize),
}

/// Values of varying length, walked from the first on.
#[derive(Debug)]
pub(super) struct Walk {
    bytes: Bytes,
    /// The number of the value whose length stands at `at`.
    next: u32,
    at: usize,
}

impl Dictionary {
    pub(super) fn read(page: Page, width: Width) -> Option<Dictionary> {
        let Page::DictionaryPage { buf: bytes, num_values, encoding, .. } = page else { return None };
        if !matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY) {
            return None;
        }
        let mut places = Vec::new();
        if width == Width::Varying {
            let mut walk = Walk { bytes: bytes.clone(), next: 0, at: 0 };
            places.reserve_exact((num_values as usize).min(bytes.len() / 4));
            for number in 0..num_values {
                places.push(walk.place(number)?);
            }
        }
        Some(Dictionary { bytes, places })
    }

    /// A varying value.
    #[inline]
    pub(super) fn varying(&self, code: u32) -> Option<&[u8]> {
        let (from, to) = *self.places.get(code as usize)?;
        self.bytes.get(from as usize..to as usize)
    }
}

impl DataPage {
    /// Reads levels and says where values stand; of columns that do not repeat.
    pub(super) fn read(page: Page, width: Width, nullable: bool) -> Option<DataPage> {
        let (rows, encoding, present, bytes) = match page {
            Page::DataPage { buf, num_values, encoding, def_level_encoding, .. } => {
                let (levels, bytes) = match (nullable, def_level_encoding) {
                    (false, _) => (None, buf),
                    (true, Encoding::RLE) => {
                        let length = u32::from_le_bytes(*buf.first_chunk()?) as usize;
                        let end = length.checked_add(4).filter(|end| *end <= buf.len())?;
                        (Some(buf.slice(4..end)), buf.slice(end..))
                    }
                    // The older packing of levels, which readers do not agree on, is refused.
                    (true, _) => return None,
                };
                let present = levels.map_or(Some(None), |levels| read_levels(levels, num_values))?;
                (num_values, encoding, present, bytes)
            }
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                num_nulls,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => {
                let from = rep_levels_byte_len as usize;
                let to = from.checked_add(def_levels_byte_len as usize).filter(|to| *to <= buf.len())?;
                let present = match nullable && to > from {
                    true => read_levels(buf.slice(from..to), num_values)?,
                    false => None,
                };
                let nulls = present.as_ref().map_or(0, |present| num_values - present.count);
                if nulls != num_nulls {
                    return None;
                }
                (num_values, encoding, present, buf.slice(to..))
            }
            Page::DictionaryPage { .. } => return None,
        };
        let values = match (encoding, width) {
            (Encoding::PLAIN, Width::Varying) => Values::Varying(Walk { bytes, next: 0, at: 0 }),
            (Encoding::PLAIN, _) => Values::Plain(bytes),
            (Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY, _) => {
                // A page of nothing but nulls may have no byte at all.
                let width = bytes.first().copied().unwrap_or(0);
                Values::Coded(Codes::new(bytes.slice(bytes.len().min(1)..), u32::from(width))?)
            }
            (Encoding::RLE, Width::Bit) => {
                let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
                let end = length.checked_add(4).filter(|end| *end <= bytes.len())?;
                Values::Coded(Codes::new(bytes.slice(4..end), 1)?)
            }
            _ => return None,
        };
        Some(DataPage { rows: u64::from(rows), present, values })
    }

    /// Whether columns of such chunks can be read here: no page has an encoding that is not known.
    pub(super) fn is_known(encoding: Encoding) -> bool {
        #[expect(deprecated, reason = "files of old writers have them")]
        let known = matches!(
            encoding,
            Encoding::PLAIN
                | Encoding::RLE
                | Encoding::RLE_DICTIONARY
                | Encoding::PLAIN_DICTIONARY
                | Encoding::BIT_PACKED
        );
        known
    }
}

/// Which rows have a value; none within: all.
fn read_levels(levels: Bytes, rows: u32) -> Option<Option<Present>> {
    let mut bits = BooleanBufferBuilder::new(rows as usize);
    let mut codes = Codes::new(levels, 1)?;
    while bits.len() < rows as usize {
        codes.advance()?;
        let count = (codes.count as usize).min(rows as usize - bits.len());
        match codes.run {
            Run::Repeated(level) if count == rows as usize && level != 0 => return Some(None),
            Run::Repeated(level) => bits.append_n(count, level != 0),
            Run::Packed(at) => {
                let packed = codes.bytes.get(at..at + count.div_ceil(8))?;
                bits.append_packed_range(0..count, packed);
            }
        }
    }
    let words = bits.as_slice().chunks(8).map(|bytes| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    });
    let words: Vec<u64> = words.collect();
    let mut count = 0;
    let before = words.iter().map(|word| {
        count += word.count_ones();
        count - word.count_ones()
    });
    let before = before.collect();
    Some(Some(Present { words, before, count }))
}

impl Present {
    /// The number of a row's value among the values there are; none where it is null, and past the last.
    #[inline]
    pub(super) fn value(&self, row: u64) -> Option<u32> {
        let at = (row / 64) as usize;
        let (word, bit) = (*self.words.get(at)?, 1 << (row % 64));
        (word & bit != 0).then(|| self.before[at] + (word & (bit - 1)).count_ones())
    }
}

impl Codes {
    fn new(bytes: Bytes, width: u32) -> Option<Codes> {
        (width <= 32).then_some(Codes { bytes, next: 0, width, first: 0, count: 0, run: Run::Repeated(0) })
    }

    /// Goes on to the next run.
    fn advance(&mut self) -> Option<()> {
        let mut header: u32 = 0;
        for shift in (0..).step_by(7) {
            let byte = *self.bytes.get(self.next)?;
            self.next += 1;
            header |= u32::from(byte & 0x7F).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                break;
            }
        }
        self.first = self.first.checked_add(self.count)?;
        if header & 1 == 0 {
            let length = self.width.div_ceil(8) as usize;
            let mut value = [0; 4];
            value[..length].copy_from_slice(self.bytes.get(self.next..self.next + length)?);
            self.count = header >> 1;
            self.run = Run::Repeated(u32::from_le_bytes(value));
            self.next += length;
        } else {
            let groups = header >> 1;
            self.count = groups.checked_mul(8)?;
            self.run = Run::Packed(self.next);
            self.next += groups as usize * self.width as usize;
        }
        Some(())
    }

    /// The number at this place, which is not before the one asked for last.
    #[inline]
    pub(super) fn at(&mut self, place: u32) -> Option<u32> {
        while place - self.first >= self.count {
            self.advance()?;
        }
        match self.run {
            Run::Repeated(value) => Some(value),
            Run::Packed(at) => {
                let bit = (place - self.first) as usize * self.width as usize;
                let from = at + bit / 8;
                let word = match self.bytes.get(from..from + 8) {
                    Some(bytes) => u64::from_le_bytes(bytes.try_into().ok()?),
                    None => {
                        // The last run of a page.
                        let rest = self.bytes.get(from..)?;
                        if rest.len() * 8 < bit % 8 + self.width as usize {
                            return None;
                        }
                        let mut word = [0; 8];
                        word[..rest.len()].copy_from_slice(rest);
                        u64::from_le_bytes(word)
                    }
                };
                Some((word >> (bit % 8) & ((1 << self.width) - 1)) as u32)
            }
        }
    }
}

impl Walk {
    /// The value of this number, which is not before the one asked for last.
    #[inline]
    pub(super) fn value(&mut self, number: u32) -> Option<&[u8]> {
        let (from, to) = self.place(number)?;
        self.bytes.get(from as usize..to as usize)
    }

    fn place(&mut self, number: u32) -> Option<(u32, u32)> {
        loop {
            let length = u32::from_le_bytes(*self.bytes.get(self.at..)?.first_chunk()?) as usize;
            let from = self.at + 4;
            let to = from.checked_add(length).filter(|to| *to <= self.bytes.len())?;
            if self.next == number {
                return Some((u32::try_from(from).ok()?, u32::try_from(to).ok()?));
            }
            self.at = to;
            self.next += 1;
        }
    }
}
