//! What aggregates over all values share: how often each value is there. Several of one argument keep it once.

use std::marker::PhantomData;

use asof_model::DataType;

use super::algebra::{Algebra, Function, Input, Outcome, argument};
use super::counts::Counts;
use super::scalar::{SIGN, Scalar, ScalarBuilder, scalar_of};
use super::stored::Reading;
use crate::ComputeError;

/// What a multiset comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// How many different values there are, up to a cap.
    Distinct {
        /// More are an overflow.
        cap: u64,
    },
}

/// The function that answers so of values of a type.
pub(super) fn multiset(of: &DataType, asked: Asked) -> Function {
    let of = of.clone();
    scalar_of!(&of, S => Function::new(Multiset::<S> { of, asked, form: PhantomData }))
}

#[derive(Debug)]
struct Multiset<S> {
    of: DataType,
    asked: Asked,
    form: PhantomData<S>,
}

impl<S: Scalar> Algebra for Multiset<S> {
    type State = Counts<S>;
    type Values = S::Values;
    type Output = ScalarBuilder;

    const INVERTIBLE: bool = true;

    fn data_type(&self) -> DataType {
        match self.asked {
            Asked::Distinct { .. } => DataType::Int64,
        }
    }

    fn state_id(&self) -> String {
        self.of.to_string()
    }

    fn empty(&self) -> Counts<S> {
        Counts::default()
    }

    fn reset(&self, state: &mut Counts<S>) {
        state.reset();
    }

    fn is_empty(&self, state: &Counts<S>) -> bool {
        state.is_empty()
    }

    fn values(&self, input: &Input) -> Result<S::Values, ComputeError> {
        S::values(argument(input)?, &self.of)
    }

    #[inline]
    fn update(&self, state: &mut Counts<S>, values: &S::Values, row: usize) {
        state.add(S::get(values, row), 1);
    }

    #[inline]
    fn merge(&self, state: &mut Counts<S>, other: &Counts<S>) {
        state.add_all(other, 1);
    }

    #[inline]
    fn withdraw(&self, state: &mut Counts<S>, values: &S::Values, row: usize) {
        state.add(S::get(values, row), -1);
    }

    #[inline]
    fn subtract(&self, state: &mut Counts<S>, other: &Counts<S>) {
        state.add_all(other, -1);
    }

    fn finish(&self, state: &Counts<S>, _: i64, out: &mut ScalarBuilder) -> Outcome {
        match self.asked {
            Asked::Distinct { cap } => {
                let distinct = state.distinct() as u64;
                if distinct > cap {
                    out.push_null();
                    return Outcome::Overflow;
                }
                out.push_number(distinct ^ SIGN);
                Outcome::Present
            }
        }
    }

    fn encode(&self, state: &Counts<S>, out: &mut Vec<u8>) {
        out.push(1);
        state.write(&self.of, out);
    }

    fn decode(&self, bytes: &[u8]) -> Result<Counts<S>, ComputeError> {
        Reading::new("values and their counts", 1, bytes)?.whole(|from| Counts::read(&self.of, from))
    }

    fn heap(&self, state: &Counts<S>) -> usize {
        state.heap()
    }
}
