//! A number of any size: digits to the base 2^64, each from -2^63 until 2^63, of which only some are kept.
//!
//! Digits of either sign make every number one row of digits and no other, as digits of one sign do; and a number
//! a little below zero is one digit, not a row of them without end, so that sums about zero, and digits far apart,
//! cost no more than others.

use std::cmp::Ordering;

use num_bigint::{BigInt, BigUint, Sign};

use super::fixed::{Fixed, I256};

/// The sum of its digits, each times 2^64 to the power of its place.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Digits {
    /// Places and digits, places ascending. Digits that became zero stay until room is needed: what slides over
    /// time adds digits at one end and makes those at the other end zero.
    digits: Vec<(i64, i64)>,
}

impl Digits {
    /// Adds `number * 2^exponent`, or takes it away where `times` is -1.
    pub(in super::super) fn add(&mut self, number: i128, exponent: i64, times: i64) {
        let (place, by) = (exponent.div_euclid(64), exponent.rem_euclid(64));
        let (low, high) = split(number);
        let times = i128::from(times);
        self.carry(place, (i128::from(low) * times) << by);
        self.carry(place + 1, (high * times) << by);
    }

    /// As [`Digits::add`].
    pub(in super::super) fn add_wide(&mut self, number: I256, exponent: i64, times: i64) {
        // A number below 2^64 each, and the sign in the highest.
        let half = u128::from(u64::MAX);
        self.add((number.low & half).cast_signed(), exponent, times);
        self.add((number.low >> 64).cast_signed(), exponent + 64, times);
        self.add(number.high, exponent + 128, times);
    }

    /// Adds all of another number, or takes it away where `times` is -1.
    pub(in super::super) fn add_all(&mut self, other: &Digits, times: i64) {
        for (place, digit) in &other.digits {
            self.carry(*place, i128::from(*digit) * i128::from(times));
        }
    }

    /// Adds a number to the digit of a place, and what is too much for it to the next. The number is below 2^127
    /// less 2^63.
    fn carry(&mut self, mut place: i64, mut carried: i128) {
        while carried != 0 {
            let at = self.find(place);
            let digit = &mut self.digits[at].1;
            let (low, high) = split(i128::from(*digit) + carried);
            *digit = low;
            carried = high;
            place += 1;
        }
    }

    /// Where the digit of a place is; it is put there if it was nowhere.
    #[inline]
    fn find(&mut self, place: i64) -> usize {
        let first = self.digits.first().map_or(place, |first| first.0);
        let guess = usize::try_from(place.wrapping_sub(first)).unwrap_or(usize::MAX);
        if self.digits.get(guess).is_some_and(|found| found.0 == place) {
            return guess;
        }
        self.search(place)
    }

    #[cold]
    fn search(&mut self, place: i64) -> usize {
        match self.digits.binary_search_by_key(&place, |digit| digit.0) {
            Ok(at) => at,
            Err(at) if self.digits.len() < self.digits.capacity() => {
                self.digits.insert(at, (place, 0));
                at
            }
            Err(_) => {
                self.digits.retain(|digit| digit.1 != 0);
                // Room for as many again, so that zeros are looked for once in as many steps.
                self.digits.reserve_exact(self.digits.len().max(2));
                let at = self.digits.partition_point(|digit| digit.0 < place);
                self.digits.insert(at, (place, 0));
                at
            }
        }
    }

    /// The digits that are not zero, places ascending.
    pub(in super::super) fn iter(&self) -> impl DoubleEndedIterator<Item = (i64, i64)> {
        self.digits.iter().copied().filter(|digit| digit.1 != 0)
    }

    /// The place of the highest digit.
    pub(in super::super) fn top(&self) -> Option<i64> {
        self.iter().next_back().map(|digit| digit.0)
    }

    /// The number as an odd one and a power of 2, where that has room in 128 bits; zero is 0 and 0.
    pub(in super::super) fn narrow(&self) -> Option<(i128, i64)> {
        let (number, exponent) = self.wide()?;
        let twos = if number == I256::ZERO { 0 } else { number.twos() };
        Some((number.halved(twos).narrow()?, exponent + i64::from(twos)))
    }

    /// The number as one of 256 bits and a power of 2, where that has room; zero is 0 and 0.
    pub(in super::super) fn wide(&self) -> Option<(I256, i64)> {
        let Some((first, _)) = self.iter().next() else { return Some((I256::ZERO, 0)) };
        let mut number = I256::ZERO;
        for (place, digit) in self.iter() {
            let digit = I256::from(i128::from(digit));
            number = number.plus(digit.shifted(64_u64.checked_mul(place.abs_diff(first))?)?)?;
        }
        Some((number, 64 * first))
    }

    /// The number as a whole one and a power of 2.
    pub(in super::super) fn big(&self) -> (BigInt, i64) {
        let Some((first, _)) = self.iter().next() else { return (BigInt::ZERO, 0) };
        (self.above(first), 64 * first)
    }

    /// What the digits from a place on come to, in units of that place, and whether those before it are more than
    /// nothing, or less.
    pub(in super::super) fn cut(&self, place: i64) -> (BigInt, Ordering) {
        // Of the digits before it, the highest outweighs the others.
        let below = self.digits[..self.digits.partition_point(|digit| digit.0 < place)].iter();
        let rest = below.rev().map(|digit| digit.1.cmp(&0)).find(|sign| sign.is_ne());
        (self.above(place), rest.unwrap_or(Ordering::Equal))
    }

    fn above(&self, place: i64) -> BigInt {
        let digits = &self.digits[self.digits.partition_point(|digit| digit.0 < place)..];
        let mut digits = digits.iter().filter(|digit| digit.1 != 0);
        let Some(highest) = digits.next_back() else { return BigInt::ZERO };
        let sign = if highest.1 < 0 { -1 } else { 1 };
        // The highest says the sign; with it taken off, digits below zero borrow of the next.
        let mut words: Vec<u32> = Vec::new();
        let mut borrowed = 0;
        let mut next = place;
        let mut push = |digit: i128| {
            let (low, borrow) = (digit as u64, digit >> 64);
            words.extend([low as u32, (low >> 32) as u32]);
            borrow
        };
        for (at, digit) in digits.chain([highest]) {
            while next < *at {
                borrowed = push(borrowed);
                next += 1;
            }
            borrowed = push(i128::from(*digit) * sign + borrowed);
            next += 1;
        }
        let sign = if sign < 0 { Sign::Minus } else { Sign::Plus };
        BigInt::from_biguint(sign, BigUint::new(words))
    }

    /// Bytes it holds besides itself.
    pub(in super::super) fn heap(&self) -> usize {
        size_of::<(i64, i64)>() * self.digits.capacity()
    }
}

/// A number as a digit and what is carried to the next.
#[inline]
fn split(number: i128) -> (i64, i128) {
    let low = number as i64;
    (low, (number >> 64) + i128::from(low < 0))
}
