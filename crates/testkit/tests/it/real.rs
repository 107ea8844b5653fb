//! Exact real numbers, and whether a float is what one of them rounds to: asked of the numbers half way between the
//! float and its neighbours, so that nothing is rounded here.

use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};

/// `above / below * 2^unit`, or its square root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Real {
    pub above: BigInt,
    /// Positive.
    pub below: BigInt,
    pub unit: i64,
    pub root: bool,
}

impl Real {
    /// Whether a float is the nearest one, an even one of two.
    pub(crate) fn rounds_to(&self, float: f64) -> bool {
        if float.is_nan() || float != 0.0 && (self.above.sign() == Sign::Minus) != (float < 0.0) {
            return false;
        }
        let bits = float.abs().to_bits();
        let even = bits.is_multiple_of(2);
        let at_most = |order| order == Ordering::Less || order == Ordering::Equal && even;
        let above = bits == 0 || at_most(self.against(bits - 1).reverse());
        // Beyond infinity there is nothing.
        above && (bits == f64::INFINITY.to_bits() || at_most(self.against(bits)))
    }

    /// Its magnitude against the middle between the float of these bits and the next one.
    fn against(&self, bits: u64) -> Ordering {
        // In halves of the least float; the sum of two floats in its wholes is their middle in its halves.
        let mut middle = wholes(bits) + wholes(bits + 1);
        let mut power = 1075 + self.unit;
        if self.root {
            middle = &middle * &middle;
            power += 1075;
        }
        let above = BigInt::from(self.above.magnitude().clone());
        let shift = power.unsigned_abs();
        match power {
            0.. => (above << shift).cmp(&(middle * &self.below)),
            _ => above.cmp(&((middle * &self.below) << shift)),
        }
    }
}

/// A float in multiples of the least one, 2^-1074; infinity as if it were 2^1024.
pub(crate) fn wholes(bits: u64) -> BigInt {
    let (exponent, fraction) = (bits >> 52, bits & ((1 << 52) - 1));
    match exponent {
        0 => BigInt::from(fraction),
        _ => BigInt::from(fraction | 1 << 52) << (exponent - 1),
    }
}

#[test]
fn middles_are_known() {
    let real =
        |above: i64, below: i64, root| Real { above: above.into(), below: below.into(), unit: 0, root };
    let check = |real: &Real, float: f64| {
        assert!(real.rounds_to(float), "{real:?} {float:e}");
        assert!(!real.rounds_to(-float) || float == 0.0);
        for other in [float.next_up(), float.next_down()] {
            assert!(!real.rounds_to(other), "{real:?} {other:e}");
        }
    };
    check(&real(1, 3, false), 1.0 / 3.0);
    check(&real(-1, 3, false), -1.0 / 3.0);
    check(&real(2, 1, true), 2.0_f64.sqrt());
    check(&real((1 << 53) + 1, 1, false), 2.0_f64.powi(53));
    check(&real((1 << 53) + 3, 1, false), 2.0_f64.powi(53) + 4.0);
    check(&real(0, 1, false), 0.0);
    check(&Real { above: 1.into(), below: 2.into(), unit: -1074, root: false }, 0.0);
    check(&Real { above: 3.into(), below: 2.into(), unit: -1074, root: false }, 1e-323);
    let greatest = BigInt::from(((1_u64 << 53) - 1) * 2);
    let most = |more: i64| Real { above: &greatest + more, below: 1.into(), unit: 970, root: false };
    assert!(most(0).rounds_to(f64::MAX) && !most(0).rounds_to(f64::INFINITY));
    assert!(most(1).rounds_to(f64::INFINITY) && !most(1).rounds_to(f64::MAX));
    assert!(most(5000).rounds_to(f64::INFINITY));
}
