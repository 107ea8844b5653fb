//! Whole numbers of a fixed width that say where they have no room.

use std::cmp::Ordering;

/// A signed whole number of a fixed width, as far as exact sums need it.
pub(in super::super) trait Fixed: Copy + PartialEq {
    const ZERO: Self;

    /// Itself times 2 to the power of `by`; none where that has no room.
    fn shifted(self, by: u64) -> Option<Self>;

    /// The sum; none where it has no room.
    fn plus(self, other: Self) -> Option<Self>;

    /// How often 2 divides it; of zero, any number.
    fn twos(self) -> u32;

    /// Itself divided by 2 so often; what is left over is dropped.
    fn halved(self, by: u32) -> Self;
}

impl Fixed for i128 {
    const ZERO: i128 = 0;

    #[inline]
    fn shifted(self, by: u64) -> Option<i128> {
        let unused = (self ^ (self >> 127)).leading_zeros();
        if by < u64::from(unused) {
            Some(self << by)
        } else if self == 0 {
            Some(0)
        } else {
            None
        }
    }

    #[inline]
    fn plus(self, other: i128) -> Option<i128> {
        self.checked_add(other)
    }

    #[inline]
    fn twos(self) -> u32 {
        self.trailing_zeros()
    }

    #[inline]
    fn halved(self, by: u32) -> i128 {
        self >> by.min(127)
    }
}

/// 256 bits in two's complement: what squares are summed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct I256 {
    pub(in super::super) low: u128,
    pub(in super::super) high: i128,
}

const HALF: u128 = u64::MAX as u128;

impl I256 {
    /// The square of a number, which has 255 bits at most.
    #[inline]
    pub(in super::super) fn square(of: i128) -> I256 {
        let whole = of.unsigned_abs();
        let (high, low) = (whole >> 64, whole & HALF);
        if high == 0 {
            return I256 { low: low * low, high: 0 };
        }
        // (high * 2^64 + low)^2, the middle part doubled.
        let (bottom, middle, top) = (low * low, high * low, high * high);
        let (low, carried) = bottom.overflowing_add(middle << 65);
        I256 { low, high: (top + (middle >> 63) + u128::from(carried)).cast_signed() }
    }

    /// Itself as often as said; none where it is below zero, or where that has no room.
    #[inline]
    pub(in super::super) fn times(self, by: u64) -> Option<I256> {
        let by = u128::from(by);
        let [a, b] = [self.low & HALF, self.low >> 64].map(|half| half * by);
        let (low, carried) = a.overflowing_add(b << 64);
        let high = u128::try_from(self.high).ok()?.checked_mul(by)?;
        let high = high.checked_add((b >> 64) + u128::from(carried))?;
        Some(I256 { low, high: i128::try_from(high).ok()? })
    }

    /// The number; none where it has more than 128 bits.
    pub(in super::super) fn narrow(self) -> Option<i128> {
        let low = self.low.cast_signed();
        (low >> 127 == self.high).then_some(low)
    }

    /// The difference; none where it has no room.
    #[inline]
    pub(in super::super) fn minus(self, other: I256) -> Option<I256> {
        let (low, borrowed) = self.low.overflowing_sub(other.low);
        let (high, over) = self.high.overflowing_sub(other.high);
        let (high, borrowed_over) = high.overflowing_sub(i128::from(borrowed));
        (over == borrowed_over).then_some(I256 { low, high })
    }

    /// The number below zero; none where that has no room.
    #[inline]
    pub(in super::super) fn negated(self) -> Option<I256> {
        let (low, carried) = (!self.low).overflowing_add(1);
        Some(I256 { low, high: (!self.high).checked_add(i128::from(carried))? })
    }

    /// Itself times 2 to the power of `by`, where `by` is below 128 and there is room.
    #[inline]
    pub(in super::super) fn lifted(self, by: u32) -> I256 {
        // Two steps: no number can be shifted by its own width.
        let carried = (self.low >> 1) >> (127 - by);
        I256 { low: self.low << by, high: self.high << by | carried.cast_signed() }
    }

    /// How many of the highest bits say no more than the sign.
    #[inline]
    pub(in super::super) fn unused(self) -> u32 {
        let sign = self.high >> 127;
        let high = (self.high ^ sign).cast_unsigned();
        if high != 0 { high.leading_zeros() } else { 128 + (self.low ^ sign.cast_unsigned()).leading_zeros() }
    }
}

impl From<i128> for I256 {
    #[inline]
    fn from(number: i128) -> I256 {
        I256 { low: number.cast_unsigned(), high: number >> 127 }
    }
}

impl Fixed for I256 {
    const ZERO: I256 = I256 { low: 0, high: 0 };

    #[inline]
    fn shifted(self, by: u64) -> Option<I256> {
        if by >= u64::from(self.unused()) {
            return (self == I256::ZERO).then_some(self);
        }
        let by = by as u32;
        Some(if by < 128 {
            self.lifted(by)
        } else {
            I256 { low: 0, high: (self.low << (by - 128)).cast_signed() }
        })
    }

    #[inline]
    fn plus(self, other: I256) -> Option<I256> {
        let (low, carried) = self.low.overflowing_add(other.low);
        let (high, over) = self.high.overflowing_add(other.high);
        let (high, carried_over) = high.overflowing_add(i128::from(carried));
        // Both at once cancel: -2^127 - 1 + 1.
        (over == carried_over).then_some(I256 { low, high })
    }

    #[inline]
    fn twos(self) -> u32 {
        match self.low {
            0 => 128 + self.high.trailing_zeros(),
            low => low.trailing_zeros(),
        }
    }

    #[inline]
    fn halved(self, by: u32) -> I256 {
        match by.cmp(&128) {
            Ordering::Less => {
                let carried = (self.high.cast_unsigned() << 1) << (127 - by);
                I256 { low: self.low >> by | carried, high: self.high >> by }
            }
            _ => I256 { low: (self.high >> (by - 128).min(127)).cast_unsigned(), high: self.high >> 127 },
        }
    }
}

/// `a * 2^at + b * 2^from` as a number and the power of 2 it is counted in; none where it has no room.
///
/// The power is rounded down to a multiple of `step` where there is room, so that numbers a little smaller than
/// those before them change nothing: only few numbers come here.
pub(in super::super) fn line_up<F: Fixed>(a: F, at: i64, b: F, from: i64, step: i64) -> Option<(F, i64)> {
    if b == F::ZERO {
        return Some((a, at));
    }
    let at = if a == F::ZERO { from } else { at };
    let sum = |a: F, at: i64, b: F, from: i64, to: i64| {
        let (a, b) = (a.shifted(at.abs_diff(to))?, b.shifted(from.abs_diff(to))?);
        Some((a.plus(b)?, to))
    };
    let least = at.min(from);
    sum(a, at, b, from, least - least.rem_euclid(step)).or_else(|| sum(a, at, b, from, least)).or_else(|| {
        let (twos, others) = (a.twos(), b.twos());
        let (a, b) = (a.halved(twos), b.halved(others));
        let (at, from) = if a == F::ZERO {
            (from + i64::from(others), from + i64::from(others))
        } else {
            (at + i64::from(twos), from + i64::from(others))
        };
        sum(a, at, b, from, at.min(from))
    })
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;
    use proptest::prelude::*;

    use super::*;

    fn big(number: I256) -> BigInt {
        (BigInt::from(number.high) << 128) + BigInt::from(number.low)
    }

    fn wide() -> impl Strategy<Value = I256> {
        (any::<u128>(), any::<i128>(), 0_u32..256).prop_map(|(low, high, by)| I256 { low, high }.halved(by))
    }

    fn fits(number: &BigInt, bits: u32) -> bool {
        let limit = BigInt::from(1) << (bits - 1);
        -limit.clone() <= *number && *number < limit
    }

    proptest! {
        #[test]
        fn wide_numbers_are_numbers(a in wide(), b in wide(), by in 0_u64..300, root in any::<i128>(), less in 0_u32..128) {
            let sum = big(a) + big(b);
            prop_assert_eq!(a.plus(b).map(big), fits(&sum, 256).then_some(sum));
            let difference = big(a) - big(b);
            prop_assert_eq!(a.minus(b).map(big), fits(&difference, 256).then_some(difference));
            let product = big(a) * by;
            let expected = (a.high >= 0 && fits(&product, 256)).then_some(product);
            prop_assert_eq!(a.times(by).map(big), expected);
            let product = big(a) << by;
            prop_assert_eq!(a.shifted(by).map(big), fits(&product, 256).then_some(product));
            let down = by.min(255) as u32;
            prop_assert_eq!(big(a.halved(down)), big(a) >> down);
            prop_assert_eq!(a.negated().map(big), fits(&-big(a), 256).then(|| -big(a)));
            prop_assert_eq!(a.narrow().map(BigInt::from), fits(&big(a), 128).then(|| big(a)));
            if a != I256::ZERO {
                prop_assert_eq!(u64::from(a.twos()), big(a).trailing_zeros().unwrap());
            }
            let root = root >> less;
            prop_assert_eq!(big(I256::square(i128::MIN)), BigInt::from(1) << 254);
            prop_assert_eq!(big(I256::square(root)), BigInt::from(root) * root);
            let narrow = BigInt::from(root) << by;
            prop_assert_eq!(root.shifted(by).map(BigInt::from), fits(&narrow, 128).then_some(narrow));
        }

        /// What has room is the sum, and what has none does not fit however it is counted.
        #[test]
        fn lined_up_sums_are_sums(a in any::<i128>(), less in 0_u32..128, b in any::<i128>(), fewer in 0_u32..128, at in -200_i64..200, from in -200_i64..200) {
            let (a, b) = (a >> less, b >> fewer);
            let scaled = |number: i128, at: i64| BigInt::from(number) << (at + 300);
            let sum = scaled(a, at) + scaled(b, from);
            match line_up(a, at, b, from, 32) {
                Some((number, to)) => prop_assert_eq!(scaled(number, to) , sum),
                None => {
                    let twos = scaled(a, at).trailing_zeros().into_iter().chain(scaled(b, from).trailing_zeros()).min().unwrap();
                    prop_assert!(!fits(&(sum >> twos), 128) || !fits(&(scaled(a, at) >> twos), 128) || !fits(&(scaled(b, from) >> twos), 128));
                }
            }
        }
    }
}
