//! Answers held against each other: value by value, to the bit, and their statuses.

use arrow::array::{Array, ArrayRef, AsArray, UInt8Array};
use arrow::compute::cast;
use asof_compute::{Outcome, Status};

use crate::{FlowError, Result};

/// How an answer differs from what it is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Differs {
    /// Other values, or both null for other reasons.
    Mismatched,
    /// Null, and the other has a value.
    Missing,
    /// A value, and the other is null.
    Extra,
}

/// Why an answer is as it is. `expired` and `not_found` are the same (SEMANTICS section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    NoKey,
    /// With a value, or by what has none: a row's null, the variance of one.
    Answered,
    Nothing,
    /// The value of a window is out of range, or over its cap.
    Overflow,
    /// Of what is derived there is no status.
    Untold,
}

/// As the serving log tells it of a feature.
pub(super) fn logged(statuses: &ArrayRef) -> Option<Vec<Why>> {
    let statuses = statuses.as_string_opt::<i32>()?;
    let why = |status: Option<&str>| match status {
        None => Some(Why::Untold),
        Some("present") => Some(Why::Answered),
        Some("no_key") => Some(Why::NoKey),
        Some("not_found" | "expired" | "null") => Some(Why::Nothing),
        Some("overflow") => Some(Why::Overflow),
        Some(_) => None,
    };
    statuses.iter().map(why).collect()
}

/// As a training tells it of a feature: of its reading, and of one over windows by what each answer is.
pub(super) fn trained(statuses: &UInt8Array, outcomes: Option<&UInt8Array>) -> Vec<Why> {
    let over_windows = |row: usize| match outcomes.filter(|told| told.is_valid(row))?.value(row) {
        it if it == Outcome::Present as u8 => Some(Why::Answered),
        it if it == Outcome::Overflow as u8 => Some(Why::Overflow),
        _ => Some(Why::Nothing),
    };
    let why = |(row, status): (usize, &u8)| match Status::from_code(*status) {
        Some(Status::NoKey) => Why::NoKey,
        Some(Status::Present) if outcomes.is_none() => Why::Answered,
        _ => over_windows(row).unwrap_or(Why::Nothing),
    };
    statuses.values().iter().enumerate().map(why).collect()
}

/// Values with why they are as they are.
pub(super) struct Answers<'a> {
    pub(super) values: &'a ArrayRef,
    pub(super) why: &'a [Why],
}

/// The rows in which answers differ from others.
pub(super) fn differing(answers: &Answers<'_>, from: &Answers<'_>) -> Result<Vec<(usize, Differs)>> {
    let bad = |what: String| FlowError::Internal { what };
    if answers.values.len() != from.values.len() || answers.why.len() != from.why.len() {
        return Err(bad("answers are held against others of another number".to_owned()));
    }
    let values = match answers.values.data_type() == from.values.data_type() {
        true => ArrayRef::clone(answers.values),
        false => cast(answers.values, from.values.data_type())
            .map_err(|_| bad("answers are held against others of another type".to_owned()))?,
    };
    if values.to_data() == from.values.to_data() && answers.why == from.why {
        return Ok(Vec::new());
    }
    let nulls = |array: &ArrayRef| array.logical_nulls();
    let (nulls_of, nulls_from) = (nulls(&values), nulls(from.values));
    let is_null = |nulls: &Option<arrow::buffer::NullBuffer>, row: usize| {
        nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    };
    let mut found = Vec::new();
    for (row, why) in answers.why.iter().zip(from.why).enumerate() {
        let differs = match (is_null(&nulls_of, row), is_null(&nulls_from, row)) {
            (true, false) => Some(Differs::Missing),
            (false, true) => Some(Differs::Extra),
            (true, true) => None,
            // Arrow compares numbers by their bits.
            (false, false) => {
                let same = values.slice(row, 1).to_data() == from.values.slice(row, 1).to_data();
                (!same).then_some(Differs::Mismatched)
            }
        };
        let differs = differs.or((why.0 != why.1).then_some(Differs::Mismatched));
        found.extend(differs.map(|differs| (row, differs)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, ListArray, StringArray};
    use arrow::datatypes::Float64Type;

    use super::*;

    fn differs(a: ArrayRef, b: ArrayRef) -> Vec<(usize, Differs)> {
        let why = vec![Why::Untold; a.len()];
        differing(&Answers { values: &a, why: &why }, &Answers { values: &b, why: &why }).unwrap()
    }

    #[test]
    fn values_are_compared_to_the_bit() {
        let quiet = f64::NAN;
        let a = Float64Array::from(vec![Some(0.1 + 0.2), Some(0.0), Some(quiet), None, Some(1.0), None]);
        let b = Float64Array::from(vec![Some(0.3), Some(-0.0), Some(quiet), Some(1.0), None, None]);
        use Differs::{Extra, Mismatched, Missing};
        let found = differs(Arc::new(a), Arc::new(b));
        assert_eq!(found, [(0, Mismatched), (1, Mismatched), (3, Missing), (4, Extra)]);
        let list = |last: f64| -> ArrayRef {
            let lists = [Some(vec![Some(1.0), Some(last)]), None];
            Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists))
        };
        assert_eq!(differs(list(2.0), list(2.0)), []);
        assert_eq!(differs(list(2.0), list(3.0)), [(0, Mismatched)]);
    }

    #[test]
    fn nulls_are_compared_by_why() {
        let logged = logged(&(Arc::new(StringArray::from(vec!["not_found", "expired", "no_key"])) as _));
        let values: ArrayRef = Arc::new(Float64Array::from(vec![None, None, None]));
        let status = |all: [Status; 3]| UInt8Array::from(all.map(Status::code).to_vec());
        let found = |all: [Status; 3]| {
            let (status, logged) = (status(all), logged.as_ref().unwrap());
            let why = trained(&status, None);
            differing(&Answers { values: &values, why: logged }, &Answers { values: &values, why: &why })
                .unwrap()
        };
        assert_eq!(found([Status::Expired, Status::NotFound, Status::NoKey]), []);
        let other = found([Status::NoKey, Status::Present, Status::NoKey]);
        assert_eq!(other, [(0, Differs::Mismatched), (1, Differs::Mismatched)]);
    }

    #[test]
    fn each_null_of_a_window_is_told_from_the_others() {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![None::<f64>]));
        let agree = |logged_as: &str, status: Status, outcome: Option<Outcome>| {
            let logged = logged(&(Arc::new(StringArray::from(vec![logged_as])) as _)).unwrap();
            let outcome = UInt8Array::from(vec![outcome.map(|it| it as u8)]);
            let why = trained(&UInt8Array::from(vec![status.code()]), Some(&outcome));
            let served = Answers { values: &values, why: &logged };
            differing(&served, &Answers { values: &values, why: &why }).unwrap().is_empty()
        };
        let trained = [
            ("present", Status::Present, Some(Outcome::Present)),
            ("present", Status::NotFound, Some(Outcome::Present)),
            ("null", Status::Present, Some(Outcome::Nothing)),
            ("null", Status::NotFound, Some(Outcome::Nothing)),
            ("overflow", Status::Present, Some(Outcome::Overflow)),
            ("no_key", Status::NoKey, None),
        ];
        for logged_as in ["present", "null", "overflow", "no_key"] {
            for (is, status, outcome) in trained {
                assert_eq!(agree(logged_as, status, outcome), logged_as == is, "{logged_as}, {outcome:?}");
            }
        }
    }
}
