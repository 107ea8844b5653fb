//! What `first`, `last`, `first_n` and `last_n` share: values with the places of their rows.

use std::cmp::Ordering;
use std::marker::PhantomData;
use std::sync::Arc;

use asof_model::{DataType, Timestamp};

use super::algebra::{Algebra, Function, Input, Outcome, argument};
use super::scalar::{Scalar, ScalarBuilder, scalar_of};
use super::stored::{Reading, STATE_FORMAT, write_bytes, write_number, write_optional};
use crate::{ComputeError, Op, Position, RowDigest, RowOrder};

/// Which rows are picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Those that come first in the order of rows.
    First,
    /// Those that come last.
    Last,
}

/// The value at one end.
pub(super) fn one(of: &DataType, end: End) -> Function {
    let of = of.clone();
    scalar_of!(&of, S => Function::new(One::<S> { of, end, form: PhantomData }))
}

/// So many values at one end.
pub(super) fn several(of: &DataType, end: End, count: usize) -> Function {
    let of = of.clone();
    scalar_of!(&of, S => Function::new(Several::<S> { of, end, count, form: PhantomData }))
}

/// A value and its row's place. Rows of one place are interchangeable, for their values are equal; if ever they were
/// not, the value decides, so that nothing depends on which comes first.
type Placed<S> = (RowOrder, S);

/// The values of a batch and the places of its rows.
struct PlacedValues<S: Scalar> {
    values: S::Values,
    orders: Arc<[RowOrder]>,
}

impl<S: Scalar> PlacedValues<S> {
    fn new(input: &Input, of: &DataType) -> Result<PlacedValues<S>, ComputeError> {
        Ok(PlacedValues { values: S::values(argument(input)?, of)?, orders: Arc::clone(&input.orders) })
    }

    #[inline]
    fn compare(&self, row: usize, with: &Placed<S>) -> Ordering {
        self.orders[row].cmp(&with.0).then_with(|| S::compare(&self.values, row, &with.1))
    }

    fn get(&self, row: usize) -> Placed<S> {
        (self.orders[row].clone(), S::get(&self.values, row))
    }
}

impl End {
    /// What of two is nearer to the end, compared with the other.
    fn nearer(self) -> Ordering {
        match self {
            End::First => Ordering::Less,
            End::Last => Ordering::Greater,
        }
    }
}

#[derive(Debug)]
struct One<S> {
    of: DataType,
    end: End,
    form: PhantomData<S>,
}

impl<S: Scalar> Algebra for One<S> {
    type State = Option<Placed<S>>;
    type Values = PlacedValues<S>;
    type Row = ();
    type Output = ScalarBuilder;

    const INVERTIBLE: bool = false;
    const ORDERED: bool = true;

    fn data_type(&self) -> DataType {
        self.of.clone()
    }

    fn state_id(&self) -> String {
        format!("{:?} {}", self.end, self.of)
    }

    fn empty(&self) -> Option<Placed<S>> {
        None
    }

    fn is_empty(&self, state: &Option<Placed<S>>) -> bool {
        state.is_none()
    }

    fn values(&self, input: &Input) -> Result<PlacedValues<S>, ComputeError> {
        PlacedValues::new(input, &self.of)
    }

    #[inline]
    fn update(&self, state: &mut Option<Placed<S>>, values: &PlacedValues<S>, row: usize) {
        if state.as_ref().is_none_or(|state| values.compare(row, state) == self.end.nearer()) {
            *state = Some(values.get(row));
        }
    }

    fn merge(&self, state: &mut Option<Placed<S>>, other: &Option<Placed<S>>) {
        let Some(other) = other else { return };
        if state.as_ref().is_none_or(|state| other.cmp(state) == self.end.nearer()) {
            *state = Some(other.clone());
        }
    }

    fn finish(&self, state: &Option<Placed<S>>, _: i64, out: &mut ScalarBuilder) -> Outcome {
        match state {
            Some((_, value)) => {
                value.push(out);
                Outcome::Present
            }
            None => {
                out.push_null();
                Outcome::Nothing
            }
        }
    }

    fn encode(&self, state: &Option<Placed<S>>, out: &mut Vec<u8>) {
        out.push(STATE_FORMAT);
        write_optional(state.as_ref(), out, |placed, out| write(placed, &self.of, out));
    }

    fn decode(&self, bytes: &[u8]) -> Result<Option<Placed<S>>, ComputeError> {
        Reading::new("first or last value", STATE_FORMAT, bytes)?
            .whole(|from| from.optional(|from| read(&self.of, from)))
    }

    fn heap(&self, state: &Option<Placed<S>>) -> usize {
        state.as_ref().map_or(0, heap)
    }
}

#[derive(Debug)]
struct Several<S> {
    of: DataType,
    end: End,
    count: usize,
    form: PhantomData<S>,
}

impl<S: Scalar> Several<S> {
    /// Takes a value in that belongs at a place of the state, in order, and leaves the count as it may be.
    fn insert(&self, state: &mut Vec<Placed<S>>, at: usize, placed: impl FnOnce() -> Placed<S>) {
        let full = state.len() == self.count;
        if state.len() < 4 {
            // Most slots hold few rows, and there are many slots.
            state.reserve_exact(1);
        }
        match self.end {
            End::First if full && at == self.count => {}
            End::First => {
                if full {
                    state.pop();
                }
                state.insert(at, placed());
            }
            End::Last if full && at == 0 => {}
            End::Last if full => {
                state[..at].rotate_left(1);
                state[at - 1] = placed();
            }
            End::Last => state.insert(at, placed()),
        }
    }
}

impl<S: Scalar> Algebra for Several<S> {
    /// In the order of rows.
    type State = Vec<Placed<S>>;
    type Values = PlacedValues<S>;
    type Row = ();
    type Output = ScalarBuilder;

    const INVERTIBLE: bool = false;
    const ORDERED: bool = true;

    fn data_type(&self) -> DataType {
        DataType::List(Box::new(self.of.clone()))
    }

    fn state_id(&self) -> String {
        format!("{:?} {} {}", self.end, self.count, self.of)
    }

    fn empty(&self) -> Vec<Placed<S>> {
        Vec::new()
    }

    fn reset(&self, state: &mut Vec<Placed<S>>) {
        state.clear();
    }

    fn is_empty(&self, state: &Vec<Placed<S>>) -> bool {
        state.is_empty()
    }

    fn values(&self, input: &Input) -> Result<PlacedValues<S>, ComputeError> {
        PlacedValues::new(input, &self.of)
    }

    fn update(&self, state: &mut Vec<Placed<S>>, values: &PlacedValues<S>, row: usize) {
        let at = state.partition_point(|placed| values.compare(row, placed) == Ordering::Greater);
        self.insert(state, at, || values.get(row));
    }

    fn merge(&self, state: &mut Vec<Placed<S>>, other: &Vec<Placed<S>>) {
        for placed in other {
            let at = state.partition_point(|there| there < placed);
            self.insert(state, at, || placed.clone());
        }
    }

    fn finish(&self, state: &Vec<Placed<S>>, _: i64, out: &mut ScalarBuilder) -> Outcome {
        if state.is_empty() {
            out.push_null();
            return Outcome::Nothing;
        }
        out.push_list(|items| state.iter().for_each(|(_, value)| value.push(items)));
        Outcome::Present
    }

    fn encode(&self, state: &Vec<Placed<S>>, out: &mut Vec<u8>) {
        out.push(STATE_FORMAT);
        write_number(state.len() as i128, out);
        for placed in state {
            write(placed, &self.of, out);
        }
    }

    fn decode(&self, bytes: &[u8]) -> Result<Vec<Placed<S>>, ComputeError> {
        Reading::new("first or last values", STATE_FORMAT, bytes)?.whole(|from| {
            let count = from.number::<usize>()?;
            if count > self.count {
                return Err(from.damaged("it has more values than were asked for"));
            }
            let mut state: Vec<Placed<S>> = Vec::new();
            for _ in 0..count {
                let placed = read(&self.of, from)?;
                if state.last().is_some_and(|last| *last > placed) {
                    return Err(from.damaged("its values are not in order"));
                }
                state.push(placed);
            }
            Ok(state)
        })
    }

    fn heap(&self, state: &Vec<Placed<S>>) -> usize {
        state.capacity() * size_of::<Placed<S>>() + state.iter().map(heap).sum::<usize>()
    }
}

fn heap<S: Scalar>((order, value): &Placed<S>) -> usize {
    order.order_by.len() + value.heap()
}

fn write<S: Scalar>((order, value): &Placed<S>, of: &DataType, out: &mut Vec<u8>) {
    write_number(i128::from(order.event_time.0), out);
    write_number(i128::from(order.visible_at.0), out);
    write_bytes(&order.order_by, out);
    write_number(i128::from(order.position.0), out);
    out.push(u8::from(order.op == Op::Delete));
    out.extend_from_slice(&order.digest.0);
    value.write(of, out);
}

fn read<S: Scalar>(of: &DataType, from: &mut Reading<'_>) -> Result<Placed<S>, ComputeError> {
    let order = RowOrder {
        event_time: Timestamp(from.number()?),
        visible_at: Timestamp(from.number()?),
        order_by: from.bytes()?.into(),
        position: Position(from.number()?),
        op: match from.byte()? {
            0 => Op::Value,
            1 => Op::Delete,
            _ => return Err(from.damaged("a row is neither a value nor a delete")),
        },
        digest: {
            let mut digest = [0; 16];
            digest.copy_from_slice(from.take(16)?);
            RowDigest(digest)
        },
    };
    Ok((order, S::read(of, from)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::scalar::Text;

    #[test]
    fn states_are_as_small_as_told() {
        assert_eq!(size_of::<Option<Placed<u64>>>(), 72);
        assert_eq!(size_of::<Option<Placed<Text>>>(), 80);
        assert_eq!(size_of::<Option<Placed<u128>>>(), 80);
    }
}
