//! What variances are made of: how many values there are, their exact sum, and the exact sum of their squares.

use num_bigint::{BigInt, BigUint};

use super::exact::{Digits, Fixed, I256, Part, Stored, line_up, read_real, write_digits, write_narrow};
use super::stored::{Reading, STATE_FORMAT, write_number};
use crate::ComputeError;

/// A count and exact sums of values and of their squares.
#[derive(Debug, Clone)]
pub(super) enum Spread {
    /// Sums that have room in 128 and in 256 bits; one cache line.
    Narrow(Narrow),
    /// Sums that have or had no room there, or values that are no real numbers.
    Wide(Box<Wide>),
}

/// `sum * 2^sum_exponent` and `squares * 2^squares_exponent`, in words so that a state needs no room to be aligned by
/// 16.
#[derive(Debug, Clone, Copy)]
pub(super) struct Narrow {
    count: i64,
    sum: [u64; 2],
    squares: [u64; 4],
    sum_exponent: i16,
    squares_exponent: i16,
    #[expect(dead_code, reason = "only its other values are of use")]
    mark: Mark,
}

/// A byte that is always the same, in the others of which [`Spread`] has room to say which it is.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Mark {
    Narrow,
}

/// Sums of any size.
#[derive(Debug, Clone, Default)]
pub(super) struct Wide {
    count: i64,
    /// How many are infinite or NaN.
    specials: i64,
    sum: Digits,
    squares: Digits,
}

/// As in [`super::exact`]; squares lie twice as far apart.
const STEP: i64 = 32;
const SQUARES_STEP: i64 = 64;
/// The powers of 2 that squares of float64 values are counted in.
const SQUARES_RANGE: std::ops::RangeInclusive<i64> = -2_200..=2_300;
const SUM_RANGE: std::ops::RangeInclusive<i64> = -1_100..=1_200;
/// By how much the square of 64 bits can be shifted and stay below 2^254.
const SQUARE_ROOM: u64 = 126;

impl Narrow {
    #[inline]
    fn sum(&self) -> i128 {
        (u128::from(self.sum[1]) << 64 | u128::from(self.sum[0])).cast_signed()
    }

    #[inline]
    fn squares(&self) -> I256 {
        let [a, b, c, d] = self.squares.map(u128::from);
        I256 { low: b << 64 | a, high: (d << 64 | c).cast_signed() }
    }

    #[inline]
    fn set(&mut self, sum: i128, squares: I256) {
        self.sum = [sum as u64, (sum >> 64) as u64];
        let (low, high) = (squares.low, squares.high);
        self.squares = [low as u64, (low >> 64) as u64, high as u64, (high >> 64) as u64];
    }

    /// Itself with sums more of so many more values; none where that has no room.
    fn plus(&self, sum: (i128, i64), squares: (I256, i64), count: i64) -> Option<Narrow> {
        let (sum, sum_at) = line_up(self.sum(), self.sum_exponent.into(), sum.0, sum.1, STEP)?;
        let (squares, squares_at) =
            line_up(self.squares(), self.squares_exponent.into(), squares.0, squares.1, SQUARES_STEP)?;
        let mut narrow = Narrow {
            count: self.count.wrapping_add(count),
            sum_exponent: sum_at.try_into().ok()?,
            squares_exponent: squares_at.try_into().ok()?,
            ..*self
        };
        narrow.set(sum, squares);
        Some(narrow)
    }
}

impl Spread {
    /// Of no values.
    pub(super) fn empty() -> Spread {
        let (sum, squares) = ([0; 2], [0; 4]);
        Spread::Narrow(Narrow {
            count: 0,
            sum,
            squares,
            sum_exponent: 0,
            squares_exponent: 0,
            mark: Mark::Narrow,
        })
    }

    /// Whether it is of no values.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Spread::Narrow(narrow) => (narrow.count, narrow.sum, narrow.squares) == (0, [0; 2], [0; 4]),
            Spread::Wide(wide) => {
                (wide.count, wide.specials, wide.sum.top(), wide.squares.top()) == (0, 0, None, None)
            }
        }
    }

    /// How many values there are.
    pub(super) fn count(&self) -> i64 {
        match self {
            Spread::Narrow(narrow) => narrow.count,
            Spread::Wide(wide) => wide.count,
        }
    }

    /// Takes in a value, or out where `times` is -1. Shifted by `room` it is still below 2^126.
    #[inline]
    pub(super) fn add(&mut self, part: Part, room: u64, times: i64) {
        if let (Spread::Narrow(narrow), Part::Finite(number, exponent)) = (&mut *self, part)
            && number.unsigned_abs() >> 64 == 0
        {
            let by = (exponent - i64::from(narrow.sum_exponent)).cast_unsigned();
            let square_by = (2 * exponent - i64::from(narrow.squares_exponent)).cast_unsigned();
            if by <= room && square_by <= SQUARE_ROOM {
                let signed = if times < 0 { -number } else { number };
                let (sum, over) = narrow.sum().overflowing_add(signed << (by & 127));
                let whole = number.unsigned_abs();
                let square = I256 { low: whole.wrapping_mul(whole), high: 0 }.lifted(square_by as u32);
                let squares = narrow.squares();
                let squares = if times < 0 { squares.minus(square) } else { squares.plus(square) };
                if let (false, Some(squares)) = (over, squares) {
                    narrow.set(sum, squares);
                    narrow.count = narrow.count.wrapping_add(times);
                    return;
                }
            }
        }
        self.add_slowly(part, room, times);
    }

    #[inline(never)]
    fn add_slowly(&mut self, part: Part, room: u64, times: i64) {
        let Part::Finite(number, exponent) = part else {
            return self.widened(|wide| {
                wide.count = wide.count.wrapping_add(times);
                wide.specials = wide.specials.wrapping_add(times);
            });
        };
        // The first value, or the first after sums of nothing: from here it goes on as others do.
        if let Spread::Narrow(Narrow {
            sum: [0, 0],
            squares: [0, 0, 0, 0],
            sum_exponent,
            squares_exponent,
            ..
        }) = self
            && (number != 0 && number.unsigned_abs() >> 64 == 0)
            && exponent.rem_euclid(STEP).cast_unsigned() <= room
            && let Ok(at) = i16::try_from(exponent - exponent.rem_euclid(STEP))
            && let Ok(squares_at) = i16::try_from(2 * exponent - (2 * exponent).rem_euclid(SQUARES_STEP))
        {
            (*sum_exponent, *squares_exponent) = (at, squares_at);
            return self.add(part, room, times);
        }
        let square = I256::square(number);
        self.add_sums((number, exponent), (square, 2 * exponent), 1, times);
    }

    /// Takes in the sums of so many values, or out.
    fn add_sums(&mut self, sum: (i128, i64), squares: (I256, i64), count: i64, times: i64) {
        let count = count.wrapping_mul(times);
        if let Spread::Narrow(narrow) = self {
            let signed = match times {
                1 => Some((sum.0, squares.0)),
                _ => sum.0.checked_neg().zip(squares.0.negated()),
            };
            let more =
                signed.and_then(|(number, square)| narrow.plus((number, sum.1), (square, squares.1), count));
            if let Some(more) = more {
                *narrow = more;
                return;
            }
        }
        self.widened(|wide| {
            wide.count = wide.count.wrapping_add(count);
            wide.sum.add(sum.0, sum.1, times);
            wide.squares.add_wide(squares.0, squares.1, times);
        });
    }

    /// Takes in all that another has, or out where `times` is -1.
    #[inline]
    pub(super) fn add_all(&mut self, other: &Spread, times: i64) {
        if let (Spread::Narrow(narrow), Spread::Narrow(other)) = (&mut *self, other)
            && (narrow.sum_exponent, narrow.squares_exponent) == (other.sum_exponent, other.squares_exponent)
        {
            let (sum, squares) = (narrow.sum(), narrow.squares());
            let (sum, squares) = if times < 0 {
                (sum.checked_sub(other.sum()), squares.minus(other.squares()))
            } else {
                (sum.checked_add(other.sum()), squares.plus(other.squares()))
            };
            if let (Some(sum), Some(squares)) = (sum, squares) {
                narrow.set(sum, squares);
                narrow.count = narrow.count.wrapping_add(other.count.wrapping_mul(times));
                return;
            }
        }
        self.add_all_slowly(other, times);
    }

    #[inline(never)]
    fn add_all_slowly(&mut self, other: &Spread, times: i64) {
        match other {
            Spread::Narrow(other) => {
                let sum = (other.sum(), other.sum_exponent.into());
                let squares = (other.squares(), other.squares_exponent.into());
                self.add_sums(sum, squares, other.count, times);
            }
            Spread::Wide(other) => self.widened(|wide| {
                wide.count = wide.count.wrapping_add(other.count.wrapping_mul(times));
                wide.specials = wide.specials.wrapping_add(other.specials.wrapping_mul(times));
                wide.sum.add_all(&other.sum, times);
                wide.squares.add_all(&other.squares, times);
            }),
        }
    }

    /// Changes it in its wide form.
    fn widened(&mut self, change: impl FnOnce(&mut Wide)) {
        match self {
            Spread::Wide(wide) => change(wide),
            Spread::Narrow(narrow) => {
                let mut wide = Box::new(Wide { count: narrow.count, ..Wide::default() });
                wide.sum.add(narrow.sum(), narrow.sum_exponent.into(), 1);
                wide.squares.add_wide(narrow.squares(), narrow.squares_exponent.into(), 1);
                change(&mut wide);
                *self = Spread::Wide(wide);
            }
        }
    }

    /// `n * sum of x^2 - (sum of x)^2` as a whole number and a power of 2, which is the variance times `n^2`, or times
    /// `n * (n - 1)`; none where a value is infinite or NaN.
    pub(super) fn deviation(&self) -> Option<(BigUint, i64)> {
        let ((sum, sum_at), (squares, squares_at)) = match self {
            Spread::Narrow(narrow) => {
                let squares = narrow.squares();
                let squares = (BigInt::from(squares.high) << 128) + squares.low;
                let sum = (BigInt::from(narrow.sum()), narrow.sum_exponent.into());
                (sum, (squares, narrow.squares_exponent.into()))
            }
            Spread::Wide(wide) if wide.specials != 0 => return None,
            Spread::Wide(wide) => (wide.sum.big(), wide.squares.big()),
        };
        let at = squares_at.min(2 * sum_at);
        let squares = (squares * self.count()) << squares_at.abs_diff(at);
        let square = (&sum * &sum) << (2 * sum_at).abs_diff(at);
        // Never below zero, by Cauchy and Schwarz.
        Some(((squares - square).to_biguint().unwrap_or_default(), at))
    }

    /// [`Spread::deviation`] where it has room in 256 bits.
    pub(super) fn narrow_deviation(&self) -> Option<(I256, i64)> {
        let Spread::Narrow(narrow) = self else { return None };
        let (sum_at, squares_at) = (2 * i64::from(narrow.sum_exponent), i64::from(narrow.squares_exponent));
        let at = squares_at.min(sum_at);
        let squares =
            narrow.squares().times(narrow.count.unsigned_abs())?.shifted(squares_at.abs_diff(at))?;
        let square = I256::square(narrow.sum()).shifted(sum_at.abs_diff(at))?;
        squares.minus(square).filter(|deviation| deviation.high >= 0).map(|deviation| (deviation, at))
    }

    /// Bytes it holds besides itself.
    pub(super) fn heap(&self) -> usize {
        match self {
            Spread::Narrow(_) => 0,
            Spread::Wide(wide) => size_of::<Wide>() + wide.sum.heap() + wide.squares.heap(),
        }
    }

    /// The version, the count, how many are infinite or NaN, the sum and the sum of squares
    /// ([`super::exact::write_narrow`]).
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(STATE_FORMAT);
        write_number(i128::from(self.count()), out);
        match self {
            Spread::Narrow(narrow) => {
                write_number(0, out);
                write_narrow(narrow.sum(), narrow.sum_exponent.into(), out);
                let (squares, exponent) = (narrow.squares(), narrow.squares_exponent.into());
                let twos = if squares == I256::ZERO { 0 } else { squares.twos() };
                match squares.halved(twos).narrow() {
                    Some(number) => write_narrow(number, exponent + i64::from(twos), out),
                    None => {
                        let mut digits = Digits::default();
                        digits.add_wide(squares, exponent, 1);
                        write_digits(&digits, out);
                    }
                }
            }
            Spread::Wide(wide) => {
                write_number(i128::from(wide.specials), out);
                write_digits(&wide.sum, out);
                write_digits(&wide.squares, out);
            }
        }
    }

    /// What [`Spread::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Result<Spread, ComputeError> {
        Reading::new("variance", STATE_FORMAT, bytes)?.whole(|from| {
            let (count, specials) = (from.number()?, from.number()?);
            let (sum, squares) = (read_real(from, SUM_RANGE)?, read_real(from, SQUARES_RANGE)?);
            let narrow = match (&sum, &squares) {
                (Stored::Narrow(sum, at), squares) if specials == 0 => {
                    squares.wide().map(|(squares, squares_at)| ((*sum, *at), (squares, squares_at)))
                }
                _ => None,
            };
            let mut spread = Spread::empty();
            match narrow {
                Some((sum, squares)) => spread.add_sums(sum, squares, count, 1),
                None => spread.widened(|wide| {
                    *wide = Wide { count, specials, sum: sum.digits(), squares: squares.digits() };
                }),
            }
            Ok(spread)
        })
    }
}
