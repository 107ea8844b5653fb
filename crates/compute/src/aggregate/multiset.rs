//! What aggregates over all values share: how often each value is there. Several of one argument keep it once.

use std::cmp::Reverse;
use std::marker::PhantomData;

use asof_model::DataType;

use super::algebra::{Algebra, Function, Input, Outcome, Sweep, argument};
use super::counts::Counts;
use super::last_seen::LastSeen;
use super::scalar::{SIGN, Scalar, ScalarBuilder, scalar_of};
use super::stored::{Reading, STATE_FORMAT};
use crate::ComputeError;

/// What a multiset comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// How many different values there are; more than a cap are an overflow.
    Distinct { cap: u64 },
    /// Each value with its count, in value order; more different ones than a cap are an overflow.
    Histogram { cap: u64 },
    /// The so many most frequent values with their counts, the most frequent first, then in value order; of more
    /// different ones than a cap it is an overflow.
    Top { first: u64, cap: u64 },
    /// All values in their order, as often as they are there; more than a cap are an overflow.
    List { cap: u64 },
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
    type Row = S;
    type Output = ScalarBuilder;

    const INVERTIBLE: bool = true;
    const LISTED: bool = true;

    fn data_type(&self) -> DataType {
        match self.asked {
            Asked::Distinct { .. } => DataType::Int64,
            Asked::Histogram { .. } | Asked::Top { .. } => {
                let fields = [("value", self.of.clone()), ("count", DataType::Int64)];
                let fields = fields.into_iter().map(|(name, of)| (name.to_owned(), of)).collect();
                DataType::List(Box::new(DataType::Struct(fields)))
            }
            Asked::List { .. } => DataType::List(Box::new(self.of.clone())),
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
    fn row(&self, values: &S::Values, row: usize) -> S {
        S::get(values, row)
    }

    #[inline]
    fn row_heap(&self, row: &S) -> usize {
        row.heap()
    }

    #[inline]
    fn take(&self, state: &mut Counts<S>, row: &S) {
        state.add(row.clone(), 1);
    }

    #[inline]
    fn give(&self, state: &mut Counts<S>, row: &S) {
        state.add(row.clone(), -1);
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
        let (found, cap) = match self.asked {
            Asked::Distinct { .. } => return self.finish_number(self.number(state), out),
            Asked::Histogram { cap } | Asked::Top { cap, .. } => (state.distinct() as u64, cap),
            Asked::List { cap } => (state.total(), cap),
        };
        if found > cap {
            out.push_null();
            return Outcome::Overflow;
        }
        if found == 0 {
            out.push_null();
            return Outcome::Nothing;
        }
        match self.asked {
            Asked::Distinct { .. } => {}
            Asked::Histogram { .. } => push_pairs(&state.to_sorted(), out),
            Asked::Top { first, .. } => {
                let mut list = state.to_sorted();
                // Stable: what is as frequent stays in value order.
                list.sort_by_key(|(_, count)| Reverse(*count));
                list.truncate(usize::try_from(first).unwrap_or(usize::MAX));
                push_pairs(&list, out);
            }
            Asked::List { .. } => out.push_list(|items| {
                for (value, count) in state.to_sorted() {
                    for _ in 0..count {
                        value.push(items);
                    }
                }
            }),
        }
        Outcome::Present
    }

    fn sweep(&self) -> Option<Box<dyn Sweep<S>>> {
        match self.asked {
            Asked::Distinct { .. } => Some(Box::new(LastSeen::default())),
            _ => None,
        }
    }

    fn number(&self, state: &Counts<S>) -> u64 {
        state.distinct() as u64
    }

    fn finish_number(&self, number: u64, out: &mut ScalarBuilder) -> Outcome {
        match self.asked {
            Asked::Distinct { cap } if number <= cap => {
                out.push_number(number ^ SIGN);
                Outcome::Present
            }
            _ => {
                out.push_null();
                Outcome::Overflow
            }
        }
    }

    fn encode(&self, state: &Counts<S>, out: &mut Vec<u8>) {
        out.push(STATE_FORMAT);
        state.write(&self.of, out);
    }

    fn decode(&self, bytes: &[u8]) -> Result<Counts<S>, ComputeError> {
        Reading::new("values and their counts", STATE_FORMAT, bytes)?
            .whole(|from| Counts::read(&self.of, from))
    }

    /// Without a state of its own in between: a window online is the sum of many tiles.
    fn merge_encoded(&self, state: &mut Counts<S>, bytes: &[u8]) -> Result<(), ComputeError> {
        Reading::new("values and their counts", STATE_FORMAT, bytes)?
            .whole(|from| state.add_read(&self.of, from))
    }

    fn heap(&self, state: &Counts<S>) -> usize {
        state.heap()
    }
}

fn push_pairs<S: Scalar>(list: &[(S, i64)], out: &mut ScalarBuilder) {
    out.push_list(|items| {
        for (value, count) in list {
            items.push_struct(|fields| {
                if let [values, counts] = fields {
                    value.push(values);
                    counts.push_number(count.cast_unsigned() ^ SIGN);
                }
            });
        }
    });
}
