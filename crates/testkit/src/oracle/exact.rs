//! Exact real numbers, rounded once to a float: sums, quotients and square roots of any floats.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use num_bigint::{BigInt, BigUint, Sign};

/// Finite floats as whole multiples of a power of two.
pub(super) struct Multiples {
    numbers: Vec<BigInt>,
    /// The power of two.
    unit: i64,
}

impl Multiples {
    /// Of finite floats.
    pub(super) fn of_floats(floats: &[f64]) -> Multiples {
        let parts: Vec<(i64, i64)> = floats.iter().map(|float| parts(*float)).collect();
        let unit = parts.iter().map(|(_, power)| *power).min().unwrap_or(0);
        let number = |(number, power): &(i64, i64)| BigInt::from(*number) << (power - unit) as u64;
        Multiples { numbers: parts.iter().map(number).collect(), unit }
    }

    /// Of whole numbers.
    pub(super) fn of_ints(ints: &[i64]) -> Multiples {
        Multiples { numbers: ints.iter().copied().map(BigInt::from).collect(), unit: 0 }
    }

    fn total(&self) -> BigInt {
        self.numbers.iter().sum()
    }

    fn len(&self) -> BigInt {
        BigInt::from(self.numbers.len())
    }

    /// The sum of all.
    pub(super) fn sum(&self) -> f64 {
        quotient(&self.total(), &BigInt::from(1), self.unit)
    }

    /// The sum of all over how many they are; there is at least one.
    pub(super) fn mean(&self) -> f64 {
        quotient(&self.total(), &self.len(), self.unit)
    }

    /// The sum of squared distances from the mean, over how many there are less `less`; there are more than that.
    pub(super) fn variance(&self, less: usize) -> f64 {
        let (above, below) = self.variance_parts(less);
        quotient(&above, &below, 2 * self.unit)
    }

    /// The square root of the variance.
    pub(super) fn stddev(&self, less: usize) -> f64 {
        let (above, below) = self.variance_parts(less);
        root(&above, &below, self.unit)
    }

    /// The sum at `t` of all, each halved for every half-life since its time.
    pub(super) fn decayed(&self, times: &[i64], half_life: i64, t: i64) -> f64 {
        let one = BigInt::from(1);
        // A term is x * exp2(-(R - e) / half_life) rounded once, R the next multiple of the half-life after e.
        let term = |(number, e): (&BigInt, &i64)| {
            let next = e.div_euclid(half_life) + 1;
            let halved = number * halved(next * half_life - e, half_life);
            let (number, power) = parts(quotient(&halved, &one, self.unit - 53));
            (number, power + next)
        };
        let terms: Vec<(i64, i64)> = self.numbers.iter().zip(times).map(term).collect();
        // Terms of different R combine by exact powers of two; rounded once at t.
        let unit = terms.iter().map(|(_, power)| *power).min().unwrap_or(0);
        let total: BigInt =
            terms.iter().map(|(number, power)| BigInt::from(*number) << (power - unit) as u64).sum();
        let (now, since) = (t.div_euclid(half_life), t.rem_euclid(half_life));
        quotient(&(total * halved(since, half_life)), &one, unit - 53 - now)
    }

    /// As (x - mean)^2 summed is sum(x^2) - sum(x)^2 / n.
    fn variance_parts(&self, less: usize) -> (BigInt, BigInt) {
        let total = self.total();
        let squares: BigInt = self.numbers.iter().map(|number| number * number).sum();
        let below = self.len() * (self.len() - BigInt::from(less));
        (self.len() * squares - &total * &total, below)
    }
}

/// A finite float as a whole number times a power of two.
fn parts(float: f64) -> (i64, i64) {
    let bits = float.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i64, (bits & ((1 << 52) - 1)) as i64);
    let (number, power) =
        if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) };
    if number == 0 {
        return (0, 0);
    }
    let zeros = i64::from(number.trailing_zeros());
    let number = number >> zeros;
    (if float.is_sign_negative() { -number } else { number }, power + zeros)
}

/// `2^(-part/whole)` to the nearest of 53 bits, in units of 2^-53: the root of a whole power.
///
/// The contract's own power is within 0.52 units of the exact one, so these are the same but near ties; of half-lives as
/// short as worlds have there is none.
fn halved(part: i64, whole: i64) -> BigInt {
    // Roots are slow, and worlds ask for few.
    static KNOWN: Mutex<BTreeMap<(i64, i64), BigInt>> = Mutex::new(BTreeMap::new());
    let root = || ((BigUint::from(1_u8) << (80 * whole) as u64) >> part as u64).nth_root(whole as u32);
    let halved = || BigInt::from((root() + (BigUint::from(1_u8) << 26)) >> 27);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry((part, whole)).or_insert_with(halved).clone()
}

/// `above / below * 2^power` to the nearest float, ties to even.
fn quotient(above: &BigInt, below: &BigInt, power: i64) -> f64 {
    // So many bits of the quotient that what is cut off lies far below those kept.
    let more = below.bits().saturating_sub(above.bits()) + 80;
    let (shifted, below) = (above.magnitude() << more, below.magnitude());
    let (number, rest) = (&shifted / below, &shifted % below);
    signed(above, nearest(&number, rest != BigUint::ZERO, power - more as i64))
}

/// The square root of `above / below`, times `2^power`, to the nearest float; `above` is not negative.
fn root(above: &BigInt, below: &BigInt, power: i64) -> f64 {
    let more = below.bits().saturating_sub(above.bits()) + 160;
    let more = more + more % 2;
    let (shifted, below) = (above.magnitude() << more, below.magnitude());
    let (square, rest) = (&shifted / below, &shifted % below);
    let number = square.sqrt();
    let cut = rest != BigUint::ZERO || &number * &number != square;
    nearest(&number, cut, power - (more / 2) as i64)
}

fn signed(like: &BigInt, float: f64) -> f64 {
    if like.sign() == Sign::Minus { -float } else { float }
}

/// `number * 2^power`, and a little more where something was cut off below it, to the nearest float, ties to even.
/// The number is 0 or has more bits than a float.
fn nearest(number: &BigUint, cut: bool, power: i64) -> f64 {
    // The power of the last bit that the float has: 53 bits, fewer at the lower end.
    let last = (number.bits() as i64 + power - 53).max(-1074);
    let drop = (last - power).max(0) as u64;
    if drop > number.bits() + 1 {
        return 0.0;
    }
    let kept = number >> drop;
    let half = BigUint::from(2_u8) * (number - (&kept << drop));
    let whole = BigUint::from(1_u8) << drop;
    let odd = kept.bit(0);
    let up = half > whole || half == whole && (cut || odd);
    let kept = (kept + u8::from(up)).iter_u64_digits().next().unwrap_or(0);
    // Both factors are floats, and so is what they come to, or it is infinite.
    let scale = |power: i64| match power {
        ..-1022 => f64::from_bits(1 << (power + 1074)),
        -1022..1024 => f64::from_bits(((power + 1023) as u64) << 52),
        _ => f64::INFINITY,
    };
    if kept == 0 { 0.0 } else { kept as f64 * scale(last) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    fn finite(random: &mut Random) -> f64 {
        let ordinary = [0.1, 3.0, 1e16, 7.25, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e-310, 2.0_f64.powi(53)];
        match random.between(0, 3) {
            0 => *random.pick(&ordinary),
            1 => -*random.pick(&ordinary),
            _ => Some(f64::from_bits(random.bits())).filter(|float| float.is_finite()).unwrap_or(1.0),
        }
    }

    /// The machine rounds a sum of two, a quotient by a whole number and a square root once.
    #[test]
    fn as_the_machine_rounds() {
        let mut random = Random::new(1);
        let equal = |ours: f64, machine: f64, of: &[f64]| {
            assert_eq!((ours + 0.0).to_bits(), (machine + 0.0).to_bits(), "{ours:e} {machine:e} of {of:?}");
        };
        for _ in 0..100_000 {
            let pair = [finite(&mut random), finite(&mut random)];
            equal(Multiples::of_floats(&pair).sum(), pair[0] + pair[1], &pair);
            let count = random.between(1, 9) as usize;
            let mut one = vec![0.0; count];
            one[0] = pair[0];
            equal(Multiples::of_floats(&one).mean(), pair[0] / count as f64, &one);
            let (number, power) = parts(pair[0].abs());
            // An even power stands outside of the root.
            let even = power - power.rem_euclid(2);
            let number = BigInt::from(number) << (power - even) as u64;
            equal(root(&number, &BigInt::from(1), even / 2), pair[0].abs().sqrt(), &pair);
            equal(quotient(&number, &BigInt::from(1), even), pair[0].abs(), &pair);
        }
    }

    #[test]
    fn what_floats_lose_is_kept() {
        let sum = |floats: &[f64]| Multiples::of_floats(floats).sum();
        assert_eq!(sum(&[1e16, 1.0, -1e16]), 1.0);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
        assert_eq!(sum(&[f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(sum(&[f64::MAX, 2.0_f64.powi(969)]), f64::MAX);
        // Half of the last place of the greatest float: a tie, whose even side is infinite.
        assert_eq!(sum(&[-f64::MAX, -2.0_f64.powi(970)]), f64::NEG_INFINITY);
        assert_eq!(sum(&[0.1, 0.2, -0.3]), 2.0_f64.powi(-55));
        assert_eq!(Multiples::of_floats(&[f64::MAX, f64::MAX]).mean(), f64::MAX);
        assert_eq!(Multiples::of_floats(&[5e-324, 0.0]).mean(), 0.0);
        assert_eq!(Multiples::of_floats(&[1.5e-323, 0.0]).mean(), 1e-323);
        assert_eq!(Multiples::of_ints(&[i64::MAX, i64::MAX]).mean(), 9_223_372_036_854_775_807.0);
        // 1/3 and the deviations of 0, 0, 1.
        assert_eq!(Multiples::of_ints(&[0, 0, 1]).mean(), 1.0 / 3.0);
        assert_eq!(Multiples::of_ints(&[0, 0, 1]).variance(1), 1.0 / 3.0);
        assert_eq!(Multiples::of_ints(&[0, 0, 1]).variance(0), 2.0 / 9.0);
        assert_eq!(Multiples::of_ints(&[0, 2]).stddev(1), 2.0_f64.sqrt());
        assert_eq!(Multiples::of_ints(&[4, 4, 4]).stddev(0), 0.0);
        // Eight, of which half is left after each two: 8 / 2^1.5, and 2^40 of them.
        let decayed = |number: i64, e, t| Multiples::of_ints(&[number]).decayed(&[e], 2, t);
        assert_eq!((decayed(8, 0, 0), decayed(8, 0, 4), decayed(8, -4, 0)), (8.0, 2.0, 2.0));
        assert_eq!((decayed(8, 0, 3), decayed(8 << 40, -80, 3)), (8.0_f64.sqrt(), 8.0_f64.sqrt()));
        // Far from zero, where a formula in floats would lose all of it.
        assert_eq!(Multiples::of_floats(&[1e15, 1e15 + 1.0]).variance(0), 0.25);
        assert_eq!(Multiples::of_floats(&[1e200, -1e200]).stddev(0), 1e200);
        assert_eq!(Multiples::of_floats(&[1e200, -1e200]).variance(0), f64::INFINITY);
    }
}
