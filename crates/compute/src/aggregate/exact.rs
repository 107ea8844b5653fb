//! Exact sums: what float64 values add up to as real numbers, whatever their order, and how that is rounded.
//!
//! Every float64 is a whole number times a power of 2, so their sum is one too. [`Exact`] keeps it so: as long as the
//! values lie near enough to each other and to their sum, in 128 bits; else in [`Digits`] of any number. How it
//! is kept depends on the order of rows, what it is does not, and encoded is what it is.

mod digits;
mod exp2;
mod fixed;
mod round;
#[cfg(test)]
pub(super) mod tests;

use std::cmp::Ordering;
use std::ops::RangeInclusive;

pub(super) use digits::Digits;
pub(super) use exp2::exp2_down;
pub(super) use fixed::{Fixed, I256, line_up};
#[cfg(test)]
pub(super) use round::tests as judge;
pub(super) use round::{
    round_big, round_big_ratio, round_product, round_ratio, round_root, round_whole, round_wide,
};

use super::stored::{Reading, write_number};
use crate::ComputeError;

/// A number as it is summed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// `number * 2^exponent`. The number has at most 127 bits, the exponent is within
    /// [`Exponent::RANGE`].
    Finite(i128, i64),
    /// An infinity or NaN.
    Special(Special),
}

/// What is no real number. Counted, so that it can be taken out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    NotANumber,
    Infinite,
    MinusInfinite,
}

/// The powers of 2 that a sum is counted in.
pub(super) trait Exponent: Copy + Default + Into<i64> + TryFrom<i64> {
    /// Those that sums can be counted in.
    const RANGE: RangeInclusive<i64>;
}

/// Of float64 values and of decimals.
impl Exponent for i16 {
    const RANGE: RangeInclusive<i64> = -1_100..=1_200;
}

/// Of values times 2 to the power of any time.
impl Exponent for i64 {
    const RANGE: RangeInclusive<i64> = -(1 << 61)..=1 << 61;
}

/// A float64 in parts.
#[inline]
pub(super) fn parts(of: f64) -> Part {
    let bits = of.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i64;
    let fraction = (bits & ((1 << 52) - 1)).cast_signed();
    if exponent == 0x7ff {
        return Part::Special(match (fraction, of > 0.0) {
            (0, true) => Special::Infinite,
            (0, false) => Special::MinusInfinite,
            _ => Special::NotANumber,
        });
    }
    let number = fraction | i64::from(exponent != 0) << 52;
    let signed = if bits >> 63 == 1 { -number } else { number };
    Part::Finite(i128::from(signed), exponent.max(1) - 1075)
}

/// How many values there are, and their exact sum. `X` holds the powers of 2 that 128 bits are counted in.
#[derive(Debug, Clone)]
pub(super) enum Exact<X> {
    /// `(high * 2^64 + low) * 2^exponent`; in halves so that it needs no room to be aligned by 16.
    Narrow { low: u64, high: i64, count: i64, exponent: X },
    /// A sum that has or had no room in 128 bits, or values that are no real numbers.
    Wide(Box<Wide>),
}

/// A sum of any size.
#[derive(Debug, Clone, Default)]
pub(super) struct Wide {
    count: i64,
    not_numbers: i64,
    infinite: i64,
    minus_infinite: i64,
    sum: Digits,
}

/// What a sum is.
#[derive(Debug)]
pub(super) enum Real<'a> {
    /// `number * 2^exponent`.
    Narrow(i128, i64),
    /// A number of any size.
    Wide(&'a Digits),
    /// An infinity, or NaN.
    Special(f64),
}

/// Powers of 2 that numbers of 128 bits are counted in are rounded down to a multiple of this.
const STEP: i64 = 32;

impl<X: Exponent> Exact<X> {
    /// The sum of no values.
    pub(super) fn empty() -> Exact<X> {
        Exact::Narrow { low: 0, high: 0, count: 0, exponent: X::default() }
    }

    /// How many values there are.
    #[inline]
    pub(super) fn count(&self) -> i64 {
        match self {
            Exact::Narrow { count, .. } => *count,
            Exact::Wide(wide) => wide.count,
        }
    }

    /// Whether it is the sum of no values.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Exact::Narrow { low, high, count, .. } => (*low, *high, *count) == (0, 0, 0),
            Exact::Wide(wide) => {
                (wide.count, wide.not_numbers, wide.infinite, wide.minus_infinite) == (0, 0, 0, 0)
                    && wide.sum.top().is_none()
            }
        }
    }

    /// Takes in a value, or out where `times` is -1. Shifted by `room` it is still below 2^126.
    #[inline]
    pub(super) fn add(&mut self, part: Part, room: u64, times: i64) {
        if let (Exact::Narrow { low, high, count, exponent }, Part::Finite(number, from)) = (&mut *self, part)
        {
            let by = from.wrapping_sub((*exponent).into()).cast_unsigned();
            if by <= room {
                let sum = i128::from(*high) << 64 | i128::from(*low);
                let number = if times < 0 { -number } else { number };
                let (sum, over) = sum.overflowing_add(number << (by & 127));
                if !over {
                    (*low, *high) = (sum as u64, (sum >> 64) as i64);
                    *count = count.wrapping_add(times);
                    return;
                }
            }
        }
        self.add_slowly(part, room, times);
    }

    #[inline(never)]
    fn add_slowly(&mut self, part: Part, room: u64, times: i64) {
        // The first value, or the first after a sum of nothing: from here it goes on as others do.
        if let (Exact::Narrow { low: 0, high: 0, exponent, .. }, Part::Finite(number, from)) =
            (&mut *self, part)
            && number != 0
            && from.rem_euclid(STEP).cast_unsigned() <= room
            && let Ok(at) = X::try_from(from - from.rem_euclid(STEP))
        {
            *exponent = at;
            return self.add(part, room, times);
        }
        match part {
            Part::Finite(number, exponent) => self.add_sum(number * i128::from(times), exponent, times),
            Part::Special(special) => {
                self.widened(|wide| {
                    wide.count = wide.count.wrapping_add(times);
                    let kind = match special {
                        Special::NotANumber => &mut wide.not_numbers,
                        Special::Infinite => &mut wide.infinite,
                        Special::MinusInfinite => &mut wide.minus_infinite,
                    };
                    *kind = kind.wrapping_add(times);
                });
            }
        }
    }

    /// Takes in `number * 2^from`, the sum of `more` values.
    fn add_sum(&mut self, number: i128, from: i64, more: i64) {
        if let Exact::Narrow { low, high, count, exponent } = self {
            let sum = i128::from(*high) << 64 | i128::from(*low);
            if let Some((sum, at)) = line_up(sum, (*exponent).into(), number, from, STEP)
                && let Ok(at) = X::try_from(at)
            {
                (*low, *high, *exponent) = (sum as u64, (sum >> 64) as i64, at);
                *count = count.wrapping_add(more);
                return;
            }
        }
        self.widened(|wide| {
            wide.count = wide.count.wrapping_add(more);
            wide.sum.add(number, from, 1);
        });
    }

    /// Changes it in its wide form.
    fn widened(&mut self, change: impl FnOnce(&mut Wide)) {
        match self {
            Exact::Wide(wide) => change(wide),
            Exact::Narrow { low, high, count, exponent } => {
                let mut wide = Box::new(Wide { count: *count, ..Wide::default() });
                wide.sum.add(i128::from(*high) << 64 | i128::from(*low), (*exponent).into(), 1);
                change(&mut wide);
                *self = Exact::Wide(wide);
            }
        }
    }

    /// Takes in all that another has, or out where `times` is -1.
    #[inline]
    pub(super) fn add_all(&mut self, other: &Exact<X>, times: i64) {
        if let (
            Exact::Narrow { low, high, count, exponent },
            Exact::Narrow { low: other_low, high: other_high, count: others, exponent: from },
        ) = (&mut *self, other)
        {
            let (to, from): (i64, i64) = ((*exponent).into(), (*from).into());
            if to == from {
                let sum = i128::from(*high) << 64 | i128::from(*low);
                let other = i128::from(*other_high) << 64 | i128::from(*other_low);
                let (sum, over) =
                    if times < 0 { sum.overflowing_sub(other) } else { sum.overflowing_add(other) };
                if !over {
                    (*low, *high) = (sum as u64, (sum >> 64) as i64);
                    *count = count.wrapping_add(others.wrapping_mul(times));
                    return;
                }
            }
        }
        self.add_all_slowly(other, times);
    }

    #[inline(never)]
    fn add_all_slowly(&mut self, other: &Exact<X>, times: i64) {
        match other {
            Exact::Narrow { low, high, count, exponent } => {
                let sum = i128::from(*high) << 64 | i128::from(*low);
                let more = count.wrapping_mul(times);
                match sum.checked_mul(i128::from(times)) {
                    Some(sum) => self.add_sum(sum, (*exponent).into(), more),
                    // -2^127 has no counterpart of 128 bits.
                    None => self.widened(|wide| {
                        wide.count = wide.count.wrapping_add(more);
                        wide.sum.add(sum, (*exponent).into(), times);
                    }),
                }
            }
            Exact::Wide(other) => self.widened(|wide| {
                let add = |to: &mut i64, from: i64| *to = to.wrapping_add(from.wrapping_mul(times));
                add(&mut wide.count, other.count);
                add(&mut wide.not_numbers, other.not_numbers);
                add(&mut wide.infinite, other.infinite);
                add(&mut wide.minus_infinite, other.minus_infinite);
                wide.sum.add_all(&other.sum, times);
            }),
        }
    }

    /// What the sum is.
    #[inline]
    pub(super) fn real(&self) -> Real<'_> {
        match self {
            Exact::Narrow { low, high, exponent, .. } => {
                Real::Narrow(i128::from(*high) << 64 | i128::from(*low), (*exponent).into())
            }
            Exact::Wide(wide) => match (wide.not_numbers, wide.infinite, wide.minus_infinite) {
                (0, 0, 0) => Real::Wide(&wide.sum),
                (0, _, 0) => Real::Special(f64::INFINITY),
                (0, 0, _) => Real::Special(f64::NEG_INFINITY),
                _ => Real::Special(f64::NAN),
            },
        }
    }

    /// Bytes it holds besides itself.
    pub(super) fn heap(&self) -> usize {
        match self {
            Exact::Narrow { .. } => 0,
            Exact::Wide(wide) => size_of::<Wide>() + wide.sum.heap(),
        }
    }

    /// The version, the count, how many are NaN, infinity and minus infinity where any is, and the sum
    /// ([`write_real`]).
    pub(super) fn encode(&self, version: u8, out: &mut Vec<u8>) {
        out.push(version);
        write_number(i128::from(self.count()), out);
        match self {
            Exact::Narrow { low, high, exponent, .. } => {
                out.push(0);
                write_narrow(i128::from(*high) << 64 | i128::from(*low), (*exponent).into(), out);
            }
            Exact::Wide(wide) => {
                let specials = [wide.not_numbers, wide.infinite, wide.minus_infinite];
                out.push(u8::from(specials != [0; 3]));
                if specials != [0; 3] {
                    specials.iter().for_each(|count| write_number(i128::from(*count), out));
                }
                write_digits(&wide.sum, out);
            }
        }
    }

    /// What [`Exact::encode`] wrote.
    pub(super) fn decode(what: &'static str, version: u8, bytes: &[u8]) -> Result<Exact<X>, ComputeError> {
        Reading::new(what, version, bytes)?.whole(|from| {
            let count = from.number()?;
            let special = match from.byte()? {
                0 => [0; 3],
                1 => [from.number()?, from.number()?, from.number()?],
                _ => return Err(from.damaged("a mark is not known")),
            };
            let mut exact = Exact::empty();
            match read_real(from, X::RANGE)? {
                Stored::Narrow(number, exponent) if special == [0; 3] => {
                    exact.add_sum(number, exponent, count);
                }
                sum => exact.widened(|wide| {
                    wide.count = count;
                    [wide.not_numbers, wide.infinite, wide.minus_infinite] = special;
                    wide.sum = sum.digits();
                }),
            }
            Ok(exact)
        })
    }
}

/// A number as it is stored.
pub(super) enum Stored {
    /// An odd number and a power of 2.
    Narrow(i128, i64),
    /// Digits.
    Wide(Digits),
}

impl Stored {
    /// As 256 bits and a power of 2, where that has room.
    pub(super) fn wide(&self) -> Option<(I256, i64)> {
        match self {
            Stored::Narrow(number, exponent) => Some((I256::from(*number), *exponent)),
            Stored::Wide(digits) => digits.wide(),
        }
    }

    /// As digits.
    pub(super) fn digits(self) -> Digits {
        match self {
            Stored::Narrow(number, exponent) => {
                let mut digits = Digits::default();
                digits.add(number, exponent, 1);
                digits
            }
            Stored::Wide(digits) => digits,
        }
    }
}

/// Appends a number and a power of 2: 0, how often 2 divides it, and the odd number that leaves; zero is 0 of both.
pub(super) fn write_narrow(number: i128, exponent: i64, out: &mut Vec<u8>) {
    out.push(0);
    let (number, exponent) = match number {
        0 => (0, 0),
        _ => (number >> number.trailing_zeros(), exponent + i64::from(number.trailing_zeros())),
    };
    write_number(i128::from(exponent), out);
    write_number(number, out);
}

/// Appends a number of any size: as [`write_narrow`] where the odd number has room in 128 bits; else 1, how
/// many digits are not zero, the first one's place, and the digits, each but the first behind by how many places it is
/// after the one before it.
pub(super) fn write_digits(digits: &Digits, out: &mut Vec<u8>) {
    if let Some((number, exponent)) = digits.narrow() {
        return write_narrow(number, exponent, out);
    }
    out.push(1);
    write_number(digits.iter().count() as i128, out);
    let mut before = 0;
    for (place, digit) in digits.iter() {
        write_number(i128::from(place - before), out);
        write_number(i128::from(digit), out);
        before = place;
    }
}

/// What [`write_narrow`] or [`write_digits`] wrote of a number counted in a power of 2 of a range.
pub(super) fn read_real(from: &mut Reading<'_>, range: RangeInclusive<i64>) -> Result<Stored, ComputeError> {
    match from.byte()? {
        0 => {
            let exponent: i64 = from.number()?;
            if !range.contains(&exponent) {
                return Err(from.damaged("an exponent is out of range"));
            }
            Ok(Stored::Narrow(from.number()?, exponent))
        }
        1 => {
            let count: usize = from.number()?;
            let mut digits = Digits::default();
            let mut place: i64 = 0;
            for _ in 0..count {
                place = place.saturating_add(from.number()?);
                if !(range.start() / 64 - 1..=range.end() / 64 + 1).contains(&place) {
                    return Err(from.damaged("a place is out of range"));
                }
                digits.add(i128::from(from.number::<i64>()?), place * 64, 1);
            }
            Ok(Stored::Wide(digits))
        }
        _ => Err(from.damaged("a mark is not known")),
    }
}

/// A sum of any size times `±factor * 2^exponent`, rounded once, of which only as many digits are looked at as can
/// matter.
///
/// With the highest few digits known, the number lies between what they come to and the same with 1 more, or 1 less, in
/// the last of them; where both round to the same float64, so does the number, for rounding keeps order. Else
/// more digits are taken. That ends: after a gap of two digits the rest is below 2^-64 of the last digit before it, and
/// the product with 53 bits is no nearer than that to a middle between floats unless it is one, where the sign of the
/// rest says which way it goes. So the work is bounded by the digits there are, and of a long row of them a few are
/// enough but in one of 2^100 cases.
pub(super) fn round_leading(sum: &Digits, factor: u64, exponent: i64) -> f64 {
    let Some(top) = sum.top() else { return 0.0 };
    let mut depth = 4;
    loop {
        let place = top - depth + 1;
        let (number, rest) = sum.cut(place);
        let exponent = exponent.saturating_add(place * 64);
        let product = &number * factor;
        if rest == Ordering::Equal {
            return round_big(&product, exponent);
        }
        // A quarter of the last bit stands for the least that the rest can be, so many bits are behind it.
        let least: num_bigint::BigInt = (product << 2_u32) + if rest == Ordering::Less { -1 } else { 1 };
        let most = (number + if rest == Ordering::Less { -1 } else { 1 }) * factor;
        let (near, far) = (round_big(&least, exponent - 2), round_big(&most, exponent));
        if near == far {
            return near;
        }
        depth *= 4;
    }
}
