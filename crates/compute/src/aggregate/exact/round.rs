//! Exact numbers rounded once to float64: to the nearest, of two that are as near to the even one, and to infinity
//! from where the exact number would be. Zero has no sign.

use num_bigint::{BigInt, BigUint, Sign};

use super::fixed::{Fixed, I256};

/// `±number * 2^exponent`; where `more`, a little more than `number` but less than the next one, which then is at
/// least 2^54.
#[inline]
pub(in super::super) fn round(negative: bool, number: u128, more: bool, exponent: i64) -> f64 {
    debug_assert!(!more || number >> 54 != 0, "what is left over may decide");
    if number == 0 {
        return 0.0;
    }
    let sign = u64::from(negative) << 63;
    // Below 2^above. A float64 has 53 bits, and none below 2^-1074.
    let unused = number.leading_zeros();
    let above = exponent.saturating_add(i64::from(128 - unused));
    if (-1021..=1024).contains(&above) {
        // As most numbers are: what 64 bits hold of it decides but for whether anything is left over.
        let number = number << unused;
        let (highest, left) = ((number >> 64) as u64, more || number as u64 != 0);
        let (whole, rest) = (highest >> 11, highest & 0x7ff);
        let up = rest > 0x400 || (rest == 0x400 && (left || whole & 1 == 1));
        return f64::from_bits((((above + 1021).cast_unsigned() << 52) + whole + u64::from(up)) | sign);
    }
    if above > 1024 {
        return f64::from_bits(f64::INFINITY.to_bits() | sign);
    }
    let unit = (above - 53).max(-1074);
    let dropped = unit.saturating_sub(exponent);
    let (whole, up) = if dropped <= 0 {
        ((number << -dropped) as u64, false)
    } else if dropped <= 128 {
        let half = 1_u128 << (dropped - 1);
        let whole = if dropped == 128 { 0 } else { number >> dropped };
        let rest = number & (half | (half - 1));
        let up = rest > half || (rest == half && (more || whole & 1 == 1));
        (whole as u64, up)
    } else {
        (0, false)
    };
    // Subnormal numbers are their bits, and one more bit than there is room for is the next power of 2.
    let bits = ((unit + 1074).cast_unsigned() << 52) + whole + u64::from(up);
    if bits == 0 { 0.0 } else { f64::from_bits(bits.min(f64::INFINITY.to_bits()) | sign) }
}

/// `number * 2^exponent`.
pub(in super::super) fn round_whole(number: i128, exponent: i64) -> f64 {
    round(number < 0, number.unsigned_abs(), false, exponent)
}

/// `number * 2^exponent`, of any size.
pub(in super::super) fn round_big(number: &BigInt, exponent: i64) -> f64 {
    round_natural(number.sign() == Sign::Minus, number.magnitude(), false, exponent)
}

/// As [`round`].
fn round_natural(negative: bool, number: &BigUint, more: bool, exponent: i64) -> f64 {
    let dropped = number.bits().saturating_sub(128);
    let more = more || (dropped > 0 && number.trailing_zeros().is_some_and(|twos| twos < dropped));
    let kept = u128::try_from(number >> dropped).unwrap_or(u128::MAX);
    round(negative, kept, more, exponent.saturating_add_unsigned(dropped))
}

/// `±numerator * factor * 2^exponent`.
#[inline]
pub(in super::super) fn round_product(negative: bool, numerator: u128, factor: u64, exponent: i64) -> f64 {
    if numerator == 0 || factor == 0 {
        return 0.0;
    }
    let (up, across) = (numerator.leading_zeros(), factor.leading_zeros());
    let (number, factor) = (numerator << up, u128::from(factor << across));
    let low = (number & u128::from(u64::MAX)) * factor;
    let high = (number >> 64) * factor + (low >> 64);
    round(negative, high, low as u64 != 0, exponent + 64 - i64::from(up) - i64::from(across))
}

/// `±numerator / denominator * 2^exponent`; the denominator is not zero.
#[inline]
pub(in super::super) fn round_ratio(negative: bool, numerator: u128, denominator: u64, exponent: i64) -> f64 {
    if numerator == 0 {
        return 0.0;
    }
    // The quotient is to have 63 or 64 bits.
    let bits = u64::BITS - denominator.leading_zeros();
    let up = i64::from(bits) + 63 - i64::from(u128::BITS - numerator.leading_zeros());
    let (shifted, cut) = if up >= 0 {
        (numerator << up, false)
    } else {
        (numerator >> -up, numerator.trailing_zeros() < up.unsigned_abs() as u32)
    };
    let (quotient, rest) = divide(shifted, denominator);
    round(negative, u128::from(quotient), rest || cut, exponent - up)
}

/// A quotient below 2^64, and whether anything is left over.
#[inline]
fn divide(numerator: u128, denominator: u64) -> (u64, bool) {
    // As floats they come to the quotient but for 2^13 at most, and what that leaves is divided in 64 bits: of 128 it would
    // take longer than all else.
    if denominator >> 49 != 0 {
        let quotient = numerator / u128::from(denominator);
        return (quotient as u64, quotient * u128::from(denominator) != numerator);
    }
    let float = (numerator >> 64) as u64 as f64 * 2_f64.powi(64) + numerator as u64 as f64;
    let near = (float / denominator as f64) as u64;
    let left = numerator.wrapping_sub(u128::from(near) * u128::from(denominator)) as i64;
    let (more, denominator) = (left.div_euclid(denominator.cast_signed()), denominator.cast_signed());
    (near.wrapping_add_signed(more), more * denominator != left)
}

/// `numerator / denominator * 2^exponent`, or the square root of that; neither is below zero, nor the denominator zero.
pub(in super::super) fn round_wide(numerator: I256, denominator: u64, exponent: i64, root: bool) -> f64 {
    if numerator == I256::ZERO {
        return 0.0;
    }
    // The quotient of the highest 192 bits, the first of which is 1: at least 2^127.
    let up = numerator.unused() - 1;
    let shifted = numerator.lifted(up % 128);
    let (high, low) = if up < 128 { (shifted.high.cast_unsigned(), shifted.low) } else { (shifted.low, 0) };
    let (high, low) = (high << 1 | low >> 127, low << 1);
    let exponent = exponent + 127 - i64::from(up);
    let denominator = u128::from(denominator);
    let (first, rest) = (high / denominator, high % denominator);
    if !root {
        return round(false, first, rest != 0 || low != 0, exponent);
    }
    let below = rest << 64 | low >> 64;
    let (second, rest) = (below / denominator, below % denominator);
    let exponent = exponent - 64;
    // 126 or 127 bits of it, so that the power of 2 is even.
    let used = 64 + 128 - first.leading_zeros();
    let dropped = used - 127;
    let dropped = dropped + u32::from((exponent + i64::from(dropped)) % 2 != 0);
    let (quotient, more) = if dropped >= 64 {
        (first >> (dropped - 64), second != 0 || first & ((1 << (dropped - 64)) - 1) != 0)
    } else {
        (first << (64 - dropped) | second >> dropped, second & ((1 << dropped) - 1) != 0)
    };
    let more = more || rest != 0 || low as u64 != 0;
    let root = quotient.isqrt();
    round(false, root, more || root * root != quotient, (exponent + i64::from(dropped)) / 2)
}

/// `numerator / denominator * 2^exponent`, of any size; the denominator is not zero.
pub(in super::super) fn round_big_ratio(numerator: &BigInt, denominator: &BigUint, exponent: i64) -> f64 {
    // The quotient is to have 65 bits or more.
    let up = (denominator.bits() + 66).saturating_sub(numerator.bits());
    let whole = numerator.magnitude() << up;
    let quotient = &whole / denominator;
    let more = &quotient * denominator != whole;
    let exponent = exponent.saturating_sub_unsigned(up);
    round_natural(numerator.sign() == Sign::Minus, &quotient, more, exponent)
}

/// The square root of `numerator / denominator * 2^exponent`, of any size; the denominator is not zero.
pub(in super::super) fn round_root(numerator: &BigUint, denominator: &BigUint, exponent: i64) -> f64 {
    // The quotient is to have 126 or 127 bits, so that its root has 63 or more, and its power of 2 is to be even.
    let up = denominator.bits() as i64 + 126 - numerator.bits() as i64;
    let up = up - (exponent - up).rem_euclid(2);
    let shifted = |number: &BigUint, by: i64| number << by.max(0).unsigned_abs();
    let (numerator, denominator) = (shifted(numerator, up), shifted(denominator, -up));
    let quotient = &numerator / &denominator;
    let rest = &quotient * &denominator != numerator;
    let quotient = u128::try_from(quotient).unwrap_or(u128::MAX);
    let root = quotient.isqrt();
    round(false, root, rest || root * root != quotient, (exponent - up) / 2)
}

#[cfg(test)]
pub(in super::super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A float64 as a whole number of 2^-1074.
    pub(in super::super::super) fn exactly(number: f64) -> BigInt {
        let bits = number.to_bits();
        let exponent = (bits >> 52) & 0x7ff;
        let fraction = bits & ((1 << 52) - 1);
        let number = BigInt::from(if exponent == 0 { fraction } else { fraction | 1 << 52 });
        let number = number << exponent.saturating_sub(1);
        if bits >> 63 == 1 { -number } else { number }
    }

    /// Whether a float64 is the nearest to `numerator / denominator * 2^-1074`, as IEEE 754 has it: no neighbour is
    /// nearer, and of two as near it is the even one. What infinity stands for is 2^1024.
    pub(in super::super::super) fn is_nearest(found: f64, numerator: &BigInt, denominator: &BigInt) -> bool {
        if found == 0.0 && found.is_sign_negative() || found.is_nan() {
            return false;
        }
        let (found, numerator) =
            if found < 0.0 { (-found, -numerator.clone()) } else { (found, numerator.clone()) };
        let value = |bits: u64| {
            if bits == f64::INFINITY.to_bits() {
                BigInt::from(1) << 2098
            } else {
                exactly(f64::from_bits(bits))
            }
        };
        let bits = found.to_bits();
        let even = bits & 1 == 0;
        // Twice the distance to the middle between it and a neighbour.
        let middle = |other: u64| (value(bits) + value(other)) * denominator;
        let twice = &numerator * 2;
        let below = match bits {
            0 => twice >= -middle(1) && (even || twice > -middle(1)),
            _ => twice > middle(bits - 1) || (even && twice == middle(bits - 1)),
        };
        let above = found.is_infinite() || twice < middle(bits + 1) || (even && twice == middle(bits + 1));
        below && above
    }

    /// Whether a float64 is the nearest to the square root of `numerator / denominator`: as [`is_nearest`], with all
    /// squared.
    pub(in super::super::super) fn is_nearest_root(
        found: f64,
        numerator: &BigInt,
        denominator: &BigInt,
    ) -> bool {
        if found.is_nan() || found.is_sign_negative() {
            return false;
        }
        let value = |bits: u64| match f64::from_bits(bits) {
            value if value.is_finite() => exactly(value),
            _ => BigInt::from(1) << 2098,
        };
        let bits = found.to_bits();
        let even = bits & 1 == 0;
        // In units of 2^-1075, of which a middle is a whole number.
        let middle = |other: u64| (value(bits) + value(other)).pow(2) * denominator;
        let square = numerator << 2150_u32;
        let below = bits == 0 || square > middle(bits - 1) || (even && square == middle(bits - 1));
        let above = found.is_infinite() || square < middle(bits + 1) || (even && square == middle(bits + 1));
        below && above
    }

    /// Whole numbers of all sizes, many of them near a middle between floats.
    pub(in super::super::super) fn numbers() -> impl Strategy<Value = u128> {
        (any::<u128>(), 0_u32..128, 0_u32..128, -2_i32..3).prop_map(|(number, less, zeros, near)| {
            let number = (number >> less >> zeros) << zeros;
            number.wrapping_add_signed(i128::from(near))
        })
    }

    #[test]
    fn the_judge_knows_right_from_wrong() {
        let unit = BigInt::from(1) << 1074;
        for number in [1.0, 0.1, f64::MAX, f64::MIN_POSITIVE, 5e-324, -3.5] {
            let one = BigInt::from(1);
            assert!(is_nearest(number, &exactly(number), &one), "{number}");
            assert!(!is_nearest(number.next_up(), &exactly(number), &one), "{number}");
            assert!(!is_nearest(number.next_down(), &exactly(number), &one), "{number}");
        }
        assert!(is_nearest(0.1, &unit, &BigInt::from(10)));
        assert!(is_nearest(f64::INFINITY, &(BigInt::from(1) << 2098), &BigInt::from(1)));
        assert!(is_nearest(0.0, &BigInt::from(1), &BigInt::from(2)));
        assert!(!is_nearest(5e-324, &BigInt::from(1), &BigInt::from(2)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn numbers_are_rounded_once(number in numbers(), negative: bool, exponent in -1230_i64..1030, more in 1_u64..1000) {
            let sign = |number: BigInt| if negative { -number } else { number };
            let scaled = |number: BigInt| sign(number) << (exponent + 1300);
            let one = BigInt::from(1) << (1300 - 1074);
            let found = round(negative, number, false, exponent);
            prop_assert!(is_nearest(found, &scaled(number.into()), &one), "{number} {exponent} {found}");
            if number >> 54 != 0 {
                let exact = scaled(BigInt::from(number) * 1000 + more);
                let found = round(negative, number, true, exponent);
                prop_assert!(is_nearest(found, &exact, &(one * 1000)), "{number} + {exponent} {found}");
            }
        }

        #[test]
        fn ratios_products_and_roots_are_rounded_once(
            number in numbers(),
            other in numbers(),
            divisor in numbers(),
            exponent in -1400_i64..1400,
            negative: bool,
        ) {
            let unit = |up: i64| BigInt::from(1) << (up - 1074);
            let scaled = |number: &BigInt, up: i64| if negative { -(number << (exponent + up)) } else { number << (exponent + up) };
            let short = divisor as u64;
            if short != 0 {
                let found = round_ratio(negative, number, short, exponent);
                prop_assert!(is_nearest(found, &scaled(&number.into(), 1500), &(unit(1500) * short)), "{number} / {short}: {found}");
            }
            let found = round_product(negative, number, short, exponent);
            prop_assert!(is_nearest(found, &scaled(&(BigInt::from(number) * short), 1500), &unit(1500)), "{number} * {short}: {found}");
            let product = BigInt::from(number) * BigInt::from(other);
            let product = if negative { -product } else { product };
            let found = round_big(&product, exponent);
            prop_assert!(is_nearest(found, &(&product << (exponent + 1500)), &unit(1500)));
            if divisor != 0 {
                let found = round_big_ratio(&product, &divisor.into(), exponent);
                prop_assert!(is_nearest(found, &(&product << (exponent + 1500)), &(unit(1500) * divisor)));
            }
        }

        #[test]
        fn wide_ratios_and_roots_are_rounded_once(low in numbers(), high in numbers(), less in 0_u32..256, divisor in numbers(), exponent in -2600_i64..2100, square: bool) {
            let divisor = (divisor as u64).max(1);
            let number = if square {
                I256::square((low >> 2).cast_signed())
            } else {
                I256 { low, high: high.cast_signed() & i128::MAX }.halved(less)
            };
            let divisor = if square { 1 } else { divisor };
            let exact = (BigInt::from(number.high) << 128) + number.low;
            let (up, down) = (exponent.max(0), (-exponent).max(0));
            let (numerator, denominator) = (exact << up, BigInt::from(divisor) << down);
            let found = round_wide(number, divisor, exponent, true);
            prop_assert!(is_nearest_root(found, &numerator, &denominator), "{found}");
            let found = round_wide(number, divisor, exponent, false);
            prop_assert!(is_nearest(found, &(numerator << 1074_u32), &denominator), "{found}");
        }

        #[test]
        fn roots_are_rounded_once(number in numbers(), other in numbers(), divisor in numbers(), exponent in -2600_i64..2100, square: bool) {
            prop_assume!(divisor != 0);
            let product = if square { BigUint::from(number) * number } else { BigUint::from(number) * other };
            let found = round_root(&product, &divisor.into(), exponent);
            let (up, down) = (exponent.max(0), (-exponent).max(0));
            let (numerator, denominator) = (BigInt::from(product) << up, BigInt::from(divisor) << down);
            prop_assert!(is_nearest_root(found, &numerator, &denominator), "{found}");
        }
    }
}
