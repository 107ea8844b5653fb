//! Powers of 2 below 1, the same on every processor: whole numbers only, and no library's `exp2`.

/// How many steps of 2^-8 the exponent's first eight bits can be.
const STEPS: usize = 256;

/// `2^(-i/256)` in units of 2^-64, but for the first, which is 1 and has no room.
const TABLE: [u64; STEPS] = table();

/// Roots of roots: `2^(-1/2)`, `2^(-1/4)` and so on, and their products. Each root is off by less than 2 units, so each
/// of the products of up to eight by less than 24.
const fn table() -> [u64; STEPS] {
    let mut roots = [0_u128; 8];
    let mut root = 1_u128 << 63;
    let mut at = 0;
    while at < 8 {
        root = (root << 64).isqrt();
        roots[at] = root;
        at += 1;
    }
    let mut table = [0; STEPS];
    let mut step = 1;
    while step < STEPS {
        let mut product = 1_u128 << 64;
        let mut at = 0;
        while at < 8 {
            if step >> (7 - at) & 1 == 1 {
                // What is dropped is half a unit at most.
                product =
                    if product == 1 << 64 { roots[at] } else { (product * roots[at] + (1 << 63)) >> 64 };
            }
            at += 1;
        }
        table[step] = product as u64;
        step += 1;
    }
    table
}

/// `ln(2)` in units of 2^-64.
const LN_2: u64 = 0xb172_17f7_d1cf_79ac;

/// `2^(-part/whole)` rounded to 53 bits, in units of 2^-53; `part` is at most `whole`, and `whole` is not zero.
///
/// Less than 0.52 of a unit in the last place from the exact power. The exponent is taken to 64 bits, its first eight
/// from a table and the rest from the series of `e^-y`, whose first term left out is below 2^-70 for `y` below
/// `ln(2)/256`; all that adds up to less than 2^-59.
#[inline]
pub(in super::super) fn exp2_down(part: u64, whole: u64) -> u64 {
    if part >= whole {
        return 1 << 52;
    }
    let exponent = ((u128::from(part) << 64) / u128::from(whole)) as u64;
    let step = (exponent >> 56) as usize;
    let times = |a: u64, b: u64| ((u128::from(a) * u128::from(b)) >> 64) as u64;
    let y = times(exponent & ((1 << 56) - 1), LN_2);
    // 1 - e^-y = y (1 - y/2 (1 - y/3 (...))), and 1 is taken as the greatest number there is.
    let less = [6, 5, 4, 3, 2].iter().fold(u64::MAX, |sum, n| u64::MAX - times(y, sum) / n);
    let less = times(y, less);
    let power = match step {
        0 if less == 0 => return 1 << 53,
        0 => less.wrapping_neg(),
        step => TABLE[step] - times(TABLE[step], less),
    };
    // From 2^63 on: 11 bits too many, to the nearest.
    (power >> 11) + (power >> 10 & 1)
}

#[cfg(test)]
mod tests {
    use std::iter::successors;
    use std::sync::LazyLock;

    use num_bigint::BigUint;
    use proptest::prelude::*;

    use super::*;

    const BITS: u64 = 320;

    /// `2^-1`, `2^(-1/2)`, `2^(-1/4)` and so on, in units of 2^-320.
    static ROOTS: LazyLock<Vec<BigUint>> = LazyLock::new(|| {
        let half = BigUint::from(1_u32) << (BITS - 1);
        successors(Some(half), |root| Some((root << BITS).sqrt())).take(BITS as usize + 1).collect()
    });

    /// `2^(-part/whole)` in units of 2^-256, by multiplying roots for each bit of the exponent: no table, no series.
    fn precisely(part: u64, whole: u64) -> BigUint {
        let exponent = (BigUint::from(part) << BITS) / whole;
        let roots = ROOTS.iter().enumerate().filter(|root| exponent.bit(BITS - root.0 as u64));
        let one = BigUint::from(1_u32) << BITS;
        roots.fold(one, |power, root| (power * root.1) >> BITS) >> (BITS - 256)
    }

    /// How far from exact, in thousandths of the last of 53 bits, rounded up.
    fn error(part: u64, whole: u64) -> u64 {
        let found = BigUint::from(exp2_down(part, whole)) << (256 - 53_u32);
        let exact = precisely(part, whole);
        let off = if found > exact { found - exact } else { exact - found };
        u64::try_from((off * 1000_u32) >> (256 - 53_u32)).unwrap() + 1
    }

    #[test]
    fn ends_and_steps_are_right() {
        assert_eq!(exp2_down(0, 1), 1 << 53);
        assert_eq!(exp2_down(7, 7), 1 << 52);
        // Half a second of a second: 0.70710678118654752440...
        assert_eq!(exp2_down(1, 2) as f64 / 9_007_199_254_740_992.0, std::f64::consts::FRAC_1_SQRT_2);
        for step in 0..=256 {
            for near in [step * 4096, (step * 4096 + 1).min(1 << 20), (step * 4096_u64).saturating_sub(1)] {
                assert!(error(near, 1 << 20) <= 520, "{near}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn powers_are_within_their_bound(a in 0_u64..1 << 59, b in 1_u64..1 << 59, less in 0_u32..59) {
            let whole = (b >> less).max(1);
            let part = a % (whole + 1);
            prop_assert!(error(part, whole) <= 520, "{part} / {whole}: {}", error(part, whole));
        }
    }
}
