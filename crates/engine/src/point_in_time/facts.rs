//! The fixed columns of a batch, as what they say of its rows.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use asof_compute::{Address, Op, Position, RowDigester, RowOrder, order_numbers};
use asof_model::Timestamp;

use super::cursors::Standing;
use super::fold::true_only;
use super::spec::{Spec, compute};
use crate::source::fixed;
use crate::{Error, Result};

/// The fixed columns of a batch.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    event_times: arrow::buffer::ScalarBuffer<i64>,
    clockless: Option<NullBuffer>,
    /// v, or the numbers of o; [`Spec::then_by`].
    then: arrow::buffer::ScalarBuffer<i64>,
    /// Null where that is null.
    unseen: Option<NullBuffer>,
    /// The same, where that means never known.
    never: Option<NullBuffer>,
    /// Whether that is o.
    is_order: bool,
    ops: BooleanArray,
    /// Whether any row is a delete.
    deletes: bool,
    /// Of a source with ids the v of the next version, or before all time of a delete with an id.
    ends: Option<TimestampMicrosecondArray>,
}

/// A null o, which comes before all others; the least number there is ties with it, and is told apart as ties are.
const NULL_FIRST: Timestamp = Timestamp(i64::MIN);

impl Facts {
    pub(super) fn new(batch: &RecordBatch, spec: &Spec) -> Result<Facts> {
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| Error::internal(format!("the scan gives no `{name}`")))
        };
        let times = |name: &str| {
            let found = column(name)?.as_primitive_opt::<TimestampMicrosecondType>().cloned();
            found.ok_or_else(|| Error::internal(format!("`{name}` of the scan is no timestamp")))
        };
        let event = times(fixed::EVENT_TIME)?;
        let then = match &spec.then_by {
            Some(name) => order_numbers(column(name)?).map_err(compute)?,
            None => times(fixed::VISIBLE_AT)?.reinterpret_cast::<Int64Type>(),
        };
        let ops = column(fixed::OP)?;
        let ops = ops.as_boolean_opt().ok_or_else(|| Error::internal("`__op` of the scan is no boolean"))?;
        let clockless = event.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
        if clockless.is_some() && !spec.clockless {
            return Err(Error::internal(format!("source `{}` gives a null event time", spec.source)));
        }
        let unseen = then.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
        let ops = true_only(ops);
        let ends = spec.ids.then(|| times(fixed::ENDS)).transpose()?;
        Ok(Facts {
            ends: ends.filter(|ends| ends.null_count() < ends.len()),
            deletes: ops.has_true(),
            event_times: event.values().clone(),
            clockless,
            then: then.values().clone(),
            never: unseen.clone().filter(|_| !spec.assumed),
            is_order: spec.then_by.is_some(),
            unseen,
            ops,
        })
    }

    /// Which rows are deletes.
    pub(super) fn ops(&self) -> &BooleanArray {
        &self.ops
    }

    /// Whether a row is a delete.
    #[inline]
    pub(super) fn is_delete(&self, row: usize) -> bool {
        self.deletes && self.ops.value(row)
    }

    /// The v of the version after a row, where there is one; before all time of a delete with an id.
    #[inline]
    pub(super) fn next(&self, row: usize) -> Option<Timestamp> {
        let ends = self.ends.as_ref()?;
        ends.is_valid(row).then(|| Timestamp(ends.value(row)))
    }

    /// Whether a row is a delete with an id, which counts nowhere.
    #[inline]
    pub(super) fn is_withdrawal(&self, row: usize) -> bool {
        self.next(row) == Some(Timestamp::BEFORE_ALL)
    }

    /// The rows that are never known.
    pub(super) fn never(&self) -> Option<&NullBuffer> {
        self.never.as_ref()
    }

    /// When a row happened, and from when on it may be used.
    #[inline]
    pub(super) fn times(&self, row: usize) -> (Timestamp, Timestamp) {
        let event_time = self.event_time(row);
        (event_time, if self.is_order { event_time } else { self.then(row) })
    }

    /// The event times, of a source with a clock.
    pub(super) fn event_times(&self) -> &arrow::buffer::ScalarBuffer<i64> {
        &self.event_times
    }

    /// The places of all rows in the order of their source, of a batch with all its columns.
    pub(super) fn orders(&self, batch: &RecordBatch, spec: &Spec) -> Result<Arc<[RowOrder]>> {
        let lacks = |name: &str| Error::internal(format!("the scan gives no `{name}`"));
        let order_by = batch.column_by_name(fixed::ORDER_BY).and_then(|it| it.as_binary_opt::<i32>());
        let order_by = order_by.ok_or_else(|| lacks(fixed::ORDER_BY))?;
        let positions = batch.column_by_name(fixed::POSITION);
        let positions = positions.and_then(|it| it.as_primitive_opt::<Int64Type>());
        let positions = positions.ok_or_else(|| lacks(fixed::POSITION))?;
        // Rows with positions of their own never tie, so that nothing need tell them apart.
        let digests = match positions.null_count() {
            0 => Vec::new(),
            _ => {
                let own = spec
                    .columns
                    .iter()
                    .map(|column| batch.schema().index_of(&column.name).map_err(|_| lacks(&column.name)));
                let rows = batch.project(&own.collect::<Result<Vec<_>>>()?)?;
                RowDigester::new(&spec.columns).digest(&rows).map_err(compute)?
            }
        };
        let order = |row: usize| {
            let (event_time, visible_at) = self.times(row);
            RowOrder {
                event_time,
                visible_at,
                order_by: if order_by.is_null(row) { Box::default() } else { order_by.value(row).into() },
                position: if positions.is_null(row) {
                    Position::NONE
                } else {
                    Position(positions.value(row))
                },
                op: if self.is_delete(row) { Op::Delete } else { Op::Value },
                digest: digests.get(row).copied().unwrap_or_default(),
            }
        };
        Ok((0..batch.num_rows()).map(order).collect())
    }

    /// Whether its rows say all that there is to know of them, as those of most histories do: none is a delete,
    /// has no clock or no time it is known from, or no o, and none has a version after it.
    pub(super) fn are_plain(&self) -> bool {
        !self.deletes && self.clockless.is_none() && self.unseen.is_none() && self.ends.is_none()
    }

    /// Whether every row is known when it happens, and has no version after it.
    pub(super) fn are_known_at_once(&self) -> bool {
        let known = || self.is_order || self.event_times.iter().zip(&*self.then).all(|(e, v)| v <= e);
        self.are_plain() && known()
    }

    /// A row of those: what [`Facts::standing`] gives, without its questions.
    #[inline]
    pub(super) fn plain(&self, row: usize, named: u64) -> Standing {
        Standing {
            event_time: Timestamp(self.event_times[row]),
            then: Timestamp(self.then[row]),
            address: Address(named << 1),
        }
    }

    /// A row as states hold it, named so.
    #[inline]
    pub(super) fn standing(&self, row: usize, named: u64) -> Standing {
        Standing {
            event_time: self.event_time(row),
            then: self.then(row),
            address: Address(named << 1 | u64::from(self.is_delete(row))),
        }
    }

    #[inline]
    fn event_time(&self, row: usize) -> Timestamp {
        match &self.clockless {
            Some(nulls) if nulls.is_null(row) => Timestamp::BEFORE_ALL,
            _ => Timestamp(self.event_times[row]),
        }
    }

    #[inline]
    fn then(&self, row: usize) -> Timestamp {
        match &self.unseen {
            Some(nulls) if nulls.is_null(row) => match self.never {
                _ if self.is_order => NULL_FIRST,
                Some(_) => Timestamp::NEVER,
                None => self.event_time(row),
            },
            _ => Timestamp(self.then[row]),
        }
    }
}
