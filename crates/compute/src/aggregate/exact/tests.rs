//! Exact sums against sums of big integers.

use num_bigint::BigInt;
use proptest::collection::vec;
use proptest::prelude::*;

use super::judge::{exactly, is_nearest};
use super::*;

/// Floats of all kinds: of every exponent, ordinary ones, whole ones, the ends of the range, and zeros; infinities and
/// NaN now and then.
pub(in super::super) fn floats() -> impl Strategy<Value = f64> {
    let any_bits = any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite());
    prop_oneof![
        8 => any_bits,
        4 => (-1_000_000_i32..1_000_000).prop_map(|cents| f64::from(cents) / 100.0),
        2 => (any::<f32>()).prop_filter("finite", |x| x.is_finite()).prop_map(f64::from),
        2 => any::<i16>().prop_map(f64::from),
        1 => proptest::sample::select(vec![0.0, -0.0, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -5e-324]),
    ]
}

/// Lists of floats, many of which sum up to nearly or wholly nothing.
pub(in super::super) fn lists() -> impl Strategy<Value = Vec<f64>> {
    let ordinary = vec((-1_000_000_i32..1_000_000).prop_map(|cents| f64::from(cents) / 100.0), 0..40);
    let all = vec(floats(), 0..40);
    let cancelling = (vec(floats(), 1..20), vec(floats(), 0..2), any::<proptest::sample::Index>()).prop_map(
        |(values, rest, cut)| {
            let cut = cut.index(values.len());
            let opposite: Vec<f64> = values.iter().map(|value| -value).collect();
            [&values[..], &opposite[cut..], &rest, &opposite[..cut]].concat()
        },
    );
    let special = (
        vec(floats(), 0..8),
        vec(proptest::sample::select(vec![f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY]), 0..3),
    )
        .prop_map(|(values, specials)| [values, specials].concat());
    prop_oneof![ordinary, all, cancelling, special]
}

/// What infinities and NaN come to; none where there are none.
pub(in super::super) fn special(values: &[f64]) -> Option<f64> {
    let has = |of: f64| values.contains(&of);
    match (values.iter().any(|x| x.is_nan()), has(f64::INFINITY), has(f64::NEG_INFINITY)) {
        (false, false, false) => None,
        (false, true, false) => Some(f64::INFINITY),
        (false, false, true) => Some(f64::NEG_INFINITY),
        _ => Some(f64::NAN),
    }
}

/// The sum of floats in units of 2^-1074.
pub(in super::super) fn sum_of(values: &[f64]) -> BigInt {
    values.iter().map(|value| exactly(*value)).sum()
}

fn total(values: &[f64]) -> Exact<i16> {
    let mut sum = Exact::empty();
    values.iter().for_each(|value| sum.add(parts(*value), 73, 1));
    sum
}

fn encoded<X: Exponent>(sum: &Exact<X>) -> Vec<u8> {
    let mut out = Vec::new();
    sum.encode(1, &mut out);
    out
}

/// The whole number of units of 2^-1300 that a sum is.
fn number<X: Exponent>(sum: &Exact<X>) -> BigInt {
    match sum.real() {
        Real::Narrow(number, exponent) => BigInt::from(number) << (exponent + 1300),
        Real::Wide(digits) => {
            let (number, exponent) = digits.big();
            number << (exponent + 1300)
        }
        Real::Special(_) => BigInt::ZERO,
    }
}

#[test]
fn a_state_is_small() {
    assert_eq!(size_of::<Exact<i16>>(), 32);
    assert_eq!(size_of::<Exact<i64>>(), 40);
}

#[test]
fn ordinary_values_stay_narrow() {
    let prices: Vec<f64> = (0..100_000).map(|i| f64::from(i * 7919 % 1_000_000) / 100.0).collect();
    assert!(matches!(total(&prices), Exact::Narrow { count: 100_000, .. }));
    assert!(matches!(total(&[1e300, 1e-300]), Exact::Wide(_)));
}

/// A sum written down, so that a change of the format is seen.
#[test]
fn sums_are_written_so() {
    assert_eq!(encoded(&total(&[])), [1, 0, 0, 0, 0, 0]);
    // 0.75 is 3 * 2^-2.
    assert_eq!(encoded(&total(&[0.5, 0.25])), [1, 4, 0, 0, 3, 6]);
    assert_eq!(encoded(&total(&[f64::NAN, 2.0])), [1, 4, 1, 2, 0, 0, 0, 2, 2]);
    // 2^192 + 2^-192 in digits at the places 3 and -3.
    let (large, small) = (2_f64.powi(192), 2_f64.powi(-192));
    assert_eq!(encoded(&total(&[large, small])), [1, 4, 0, 1, 4, 5, 2, 12, 2]);
}

#[test]
fn damage_is_an_error() {
    let whole = encoded(&total(&[1e300, 1e-300, f64::NAN]));
    for cut in 0..whole.len() {
        assert!(Exact::<i16>::decode("sum", 1, &whole[..cut]).is_err(), "{cut}");
    }
    for (bytes, reason) in [
        (&[2, 0, 0, 0, 0, 0][..], "version"),
        (&[1, 0, 2, 0, 0, 0], "mark"),
        (&[1, 0, 0, 2, 0, 0], "mark"),
        (&[1, 0, 0, 0, 0, 0, 0], "left"),
        // An exponent of 2^20, and a place of 2^20, are no float's.
        (&[1, 2, 0, 0, 128, 128, 128, 1, 2], "exponent"),
        (&[1, 2, 0, 1, 2, 128, 128, 128, 1, 2], "place"),
    ] {
        let found = Exact::<i16>::decode("sum", 1, bytes).unwrap_err().to_string();
        assert!(found.contains(reason), "{found}");
    }
}

/// Counts and sums of very many rows, as merging a state with itself makes them.
#[test]
fn huge_counts_are_exact() {
    for value in [0.01, -1e300, 5e-324, f64::MAX] {
        let mut sum = total(&[value]);
        for _ in 0..60 {
            let same = sum.clone();
            sum.add_all(&same, 1);
        }
        assert_eq!(sum.count(), 1 << 60);
        assert_eq!(number(&sum), exactly(value) << (60 + 1300 - 1074));
        assert_eq!(encoded(&Exact::<i16>::decode("sum", 1, &encoded(&sum)).unwrap()), encoded(&sum));
    }
}

/// The least number of 128 bits has no counterpart of 128 bits.
#[test]
fn the_least_number_is_taken_out() {
    let mut sum: Exact<i16> = Exact::empty();
    sum.add_sum(i128::MIN, 0, 1);
    let mut rest: Exact<i16> = Exact::empty();
    rest.add_all(&sum, -1);
    assert_eq!(number(&rest), BigInt::from(1) << (127 + 1300));
    rest.add_all(&sum, 1);
    assert!(rest.is_empty());
}

/// Digits slide: what is added at the one end and taken out at the other needs no more room than what stands.
#[test]
fn sliding_sums_stay_small() {
    let mut sum: Exact<i64> = Exact::empty();
    for step in 0..100_000_i64 {
        sum.add(Part::Finite(3, step * 100), 73, 1);
        if step >= 20 {
            sum.add(Part::Finite(3, (step - 20) * 100), 73, -1);
        }
    }
    assert!(sum.heap() < 4_000, "{}", sum.heap());
    assert_eq!(sum.count(), 20);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    /// Whatever the form, a sum is the exact one, and one sum has one encoding.
    #[test]
    fn sums_are_exact(values in lists(), scale in prop_oneof![Just(0_i64), -1_000_i64..1_000]) {
        let narrow = total(&values);
        if special(&values).is_none() {
            prop_assert_eq!(number(&narrow), sum_of(&values) << (1300 - 1074));
        }
        // The same in the wide form from the first value on.
        let mut wide: Exact<i16> = Exact::empty();
        wide.widened(|_| ());
        values.iter().for_each(|value| wide.add(parts(*value), 73, 1));
        prop_assert_eq!(encoded(&wide), encoded(&narrow));
        prop_assert_eq!(wide.is_empty(), narrow.is_empty());
        // And with exponents far from 0.
        let mut moved: Exact<i64> = Exact::empty();
        for value in &values {
            if let Part::Finite(number, exponent) = parts(*value) {
                moved.add(Part::Finite(number, exponent + scale), 73, 1);
            }
        }
        if special(&values).is_none() && scale > 0 {
            prop_assert_eq!(number(&moved), number(&narrow) << scale);
        }
        let read = Exact::<i64>::decode("sum", 1, &encoded(&moved)).unwrap();
        prop_assert_eq!(encoded(&read), encoded(&moved));
    }

    /// Looking at leading digits gives what looking at all of them gives; most numbers here are near a middle between
    /// two floats, or a long row of ones or zeros.
    #[test]
    fn leading_digits_are_enough(
        digits in vec((0_i64..2, prop_oneof![Just(0_i64), Just(1), Just(-1), Just(i64::MAX), Just(i64::MIN), any::<i64>()]), 1..40),
        top in any::<u64>(),
        near in -1_i128..2,
        factor in prop_oneof![Just(1_u64 << 53), Just(1_u64 << 52), (1_u64 << 52)..(1 << 53)],
        exponent in -1_300_i64..0,
    ) {
        let mut sum = Digits::default();
        let mut place = 0;
        for (gap, digit) in digits {
            sum.add(i128::from(digit), place * 64, 1);
            place += 1 + gap * 3;
        }
        // A number that the factor takes to just about a middle: half of an odd number of 54 bits, by the factor.
        let middle = (u128::from(top >> 10 | 1) << 72) / u128::from(factor);
        sum.add(middle.cast_signed() + near, place * 64, 1);
        let exponent = exponent - place * 64;
        let (whole, at) = sum.big();
        prop_assert_eq!(
            round_leading(&sum, factor, exponent).to_bits(),
            round_big(&(whole * factor), exponent + at).to_bits()
        );
    }
}

/// A tie is decided by what is ever so far below it, and that is found at once.
#[test]
fn what_lies_far_below_decides_ties() {
    let tie = (1_i128 << 53) + 1;
    for (rest, expected) in
        [(0, 9_007_199_254_740_992.0), (1, 9_007_199_254_740_994.0), (-1, 9_007_199_254_740_992.0)]
    {
        let mut sum = Digits::default();
        sum.add(tie, 0, 1);
        sum.add(rest, -(1 << 50), 1);
        assert_eq!(round_leading(&sum, 1 << 53, -53), expected, "{rest}");
        assert!(is_nearest(expected, &(BigInt::from(tie * 4 + rest) << 1072_u32), &BigInt::from(1)));
    }
}
