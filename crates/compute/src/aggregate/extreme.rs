//! What `min` and `max` share.

use std::cmp::Ordering;
use std::marker::PhantomData;

use arrow::array::ArrayRef;
use asof_model::DataType;

use super::Documentation;
use super::algebra::{Algebra, Function, Input, Outcome, argument};
use super::call::{CallError, FunctionCall};
use super::output::Output;
use super::scalar::{Scalar, ScalarBuilder, scalar_of};
use super::stored::{Reading, STATE_FORMAT, write_optional};
use crate::ComputeError;

/// The types that `min` and `max` take.
pub(super) const TAKES: &str = "bool, numbers, decimals, string, bytes, date, timestamp, uuid";

/// The least value, or the greatest where `than` is [`Ordering::Greater`].
pub(super) fn extreme(
    name: &'static str,
    documentation: &Documentation,
    call: &FunctionCall,
    than: Ordering,
) -> Result<Function, CallError> {
    call.no_constants(name, documentation.usage)?;
    let of = call.argument(name)?;
    if matches!(of, DataType::Json | DataType::List(_) | DataType::Struct(_)) {
        return Err(CallError::Argument { aggregate: name, takes: TAKES, found: of.clone() });
    }
    let of = of.clone();
    Ok(match than {
        Ordering::Greater => {
            scalar_of!(&of, S => Function::new(Extreme::<S, true> { of, form: PhantomData }))
        }
        _ => scalar_of!(&of, S => Function::new(Extreme::<S, false> { of, form: PhantomData })),
    })
}

#[derive(Debug)]
struct Extreme<S, const GREATEST: bool> {
    of: DataType,
    form: PhantomData<S>,
}

impl<S: Scalar, const GREATEST: bool> Algebra for Extreme<S, GREATEST> {
    type State = Option<S>;
    type Values = S::Values;
    type Row = ();
    type Output = ScalarBuilder;

    const INVERTIBLE: bool = false;

    fn data_type(&self) -> DataType {
        self.of.clone()
    }

    fn state_id(&self) -> String {
        self.of.to_string()
    }

    fn empty(&self) -> Option<S> {
        None
    }

    fn is_empty(&self, state: &Option<S>) -> bool {
        state.is_none()
    }

    fn values(&self, input: &Input) -> Result<S::Values, ComputeError> {
        S::values(argument(input)?, &self.of)
    }

    #[inline]
    fn update(&self, state: &mut Option<S>, values: &S::Values, row: usize) {
        if let Some(limit) = S::limit(!GREATEST) {
            better_of::<S, GREATEST>(state, S::get(values, row), limit);
            return;
        }
        let better = if GREATEST { Ordering::Greater } else { Ordering::Less };
        if state.as_ref().is_none_or(|state| S::compare(values, row, state) == better) {
            *state = Some(S::get(values, row));
        }
    }

    #[inline]
    fn merge(&self, state: &mut Option<S>, other: &Option<S>) {
        let Some(other) = other else { return };
        if let Some(limit) = S::limit(!GREATEST) {
            better_of::<S, GREATEST>(state, other.clone(), limit);
            return;
        }
        let better = if GREATEST { Ordering::Greater } else { Ordering::Less };
        if state.as_ref().is_none_or(|state| other.cmp(state) == better) {
            *state = Some(other.clone());
        }
    }

    fn finish(&self, state: &Option<S>, _: i64, out: &mut ScalarBuilder) -> Outcome {
        match state {
            Some(value) => {
                value.push(out);
                Outcome::Present
            }
            None => {
                out.push_null();
                Outcome::Nothing
            }
        }
    }

    fn encode(&self, state: &Option<S>, out: &mut Vec<u8>) {
        out.push(STATE_FORMAT);
        write_optional(state.as_ref(), out, |value, out| value.write(&self.of, out));
    }

    fn decode(&self, bytes: &[u8]) -> Result<Option<S>, ComputeError> {
        Reading::new("least or greatest value", STATE_FORMAT, bytes)?
            .whole(|from| from.optional(|from| S::read(&self.of, from)))
    }

    fn heap(&self, state: &Option<S>) -> usize {
        state.as_ref().map_or(0, Scalar::heap)
    }
}

/// Keeps the better of a state and a value, where none is worse than a limit: without asking which, which nobody could
/// guess.
#[inline]
fn better_of<S: Scalar, const GREATEST: bool>(state: &mut Option<S>, value: S, limit: S) {
    let kept = state.take().unwrap_or(limit);
    *state = Some(if GREATEST { kept.max(value) } else { kept.min(value) });
}

impl Output for ScalarBuilder {
    fn new(data_type: &DataType, capacity: usize) -> ScalarBuilder {
        ScalarBuilder::new(data_type, capacity)
    }

    fn finish(self) -> Option<ArrayRef> {
        ScalarBuilder::finish(self)
    }
}
