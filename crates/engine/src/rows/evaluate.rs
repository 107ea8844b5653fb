//! A view's expressions over rows of its source: which rows are of an entity, under which key, and what is kept
//! of them online.
//!
//! Of a view of latest values its features are kept. Of a view over windows the arguments of its calls and then
//! whether their filters are true ([`WindowColumns`]): what the calls come to is asked of them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::kernels::cmp::gt;
use arrow::compute::{and, filter, filter_record_batch, not};
use arrow::datatypes::{DataType as ArrowType, Int64Type, SchemaRef, TimestampMicrosecondType};
use asof_compute::{KeyEncoder, Op, Position, RowDigest, RowDigester, RowOrder, WindowColumns, arrow_type};
use asof_model::{Column, DataType, Expression, Place, SourceVersion, Timestamp, ViewVersion};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::TryStreamExt;
use tokio::sync::mpsc;

use super::UnitRead;
use crate::expression::{Bound, Compiled, Problem, Purpose, compile};
use crate::point_in_time::{Ends, WITHDRAWAL, passing, true_only, with_ends};
use crate::source::fixed;
use crate::{Engine, Error, Result};

/// Rows of one view, evaluated.
#[derive(Debug)]
pub struct EvaluatedRows {
    /// The entity's key of each row (`asof_compute::KeyEncoder`); none is null.
    pub keys: BinaryArray,
    /// What the rows are; all the same.
    pub op: Op,
    /// What is kept of them: the columns of [`ViewColumns`], in `asof_compute::arrow_type`; none for deletes.
    pub features: Vec<ArrayRef>,
    /// Which rows of the batch they are, ascending.
    pub rows: Vec<u32>,
    assumed: bool,
    times: Times,
    digests: Vec<RowDigest>,
}

#[derive(Debug)]
struct Times {
    event_time: ArrayRef,
    visible_at: ArrayRef,
    order_by: ArrayRef,
    position: ArrayRef,
    until: ArrayRef,
    /// Of rows that were read from a source with ids.
    ends: Option<ArrayRef>,
}

/// What counts of the rows that a plan gives.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted<'a> {
    /// Rows up to this position were read before.
    pub(super) after: Option<i64>,
    /// Rows past this position come another way.
    pub(super) until: Option<i64>,
    /// Of a source with ids the rows that end.
    pub(super) ends: Option<&'a Ends>,
}

/// Rows of a batch that count in a view, and what is said of those that do not.
#[derive(Debug)]
pub(crate) struct Evaluated {
    /// The values and the deletes.
    pub(crate) rows: Vec<EvaluatedRows>,
    /// Which rows belong to no entity, a key being null, ascending.
    pub(crate) null_keys: Vec<u32>,
    /// Which rows are never visible, ascending.
    pub(crate) never_known: Vec<u32>,
}

/// What is kept online of each row of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewColumns {
    /// The features of a view of latest values, by their names; of one over windows the arguments and then the
    /// filters of [`WindowColumns`], by their texts.
    pub columns: Vec<Column>,
    /// How many of the last are filters: a row counts where its is true.
    pub filters: usize,
}

impl ViewColumns {
    /// Their types in arrays and rows.
    pub fn arrow_types(&self) -> Vec<ArrowType> {
        self.columns.iter().map(|column| arrow_type(&column.data_type)).collect()
    }
}

impl Engine {
    /// What is kept online of each row of a view over this version of its source.
    ///
    /// # Errors
    /// [`Error::Invalid`] where an expression of the view does not fit the source.
    pub fn view_columns(&self, source: &SourceVersion, view: &ViewVersion) -> Result<ViewColumns> {
        Ok(Evaluator::new(self, source, view)?.kept)
    }
}

/// The view's expressions over rows of its source.
#[derive(Debug)]
pub(crate) struct Evaluator {
    filter: Option<Compiled>,
    values: Vec<Compiled>,
    kept: ViewColumns,
    key_columns: Vec<String>,
    keys: KeyEncoder,
    digester: RowDigester,
    /// A null visible time is the event time, not never.
    assumed: bool,
    /// Facts: a second row of a key is an error whatever its v, so rows never visible are handed on.
    clockless: bool,
    /// Deletes that name no event mean nothing to windows.
    windows: bool,
}

/// The evaluator's expressions for batches of one schema.
#[derive(Debug)]
pub(crate) struct Ready {
    filter: Option<Bound>,
    values: Vec<Bound>,
}

/// Rows of a batch that is not read from a source but about to be taken in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    /// The digests of all its rows.
    pub(crate) digests: &'a [RowDigest],
    /// Rows that withdraw their event, which count in no view.
    pub(crate) withdrawals: Option<&'a BooleanArray>,
    /// A row without a visible time gets that of its batch.
    pub(crate) pushed: bool,
}

impl Evaluator {
    pub(crate) fn new(engine: &Engine, source: &SourceVersion, view: &ViewVersion) -> Result<Evaluator> {
        let clock = source.definition.event_time.is_some();
        // What is pushed has a `v` of its own, whatever the source says of its past.
        let pushed = matches!(source.definition.place, Place::Push { .. });
        let compiled = |expression: &Expression, purpose| {
            compile(engine, &expression.text, &source.columns, clock, purpose)
                .map_err(|problem| broken(view, &problem))
        };
        let windows = view.features.iter().any(|typed| typed.feature.aggregate.is_some());
        let (values, kept) = match windows {
            true => of_windows(engine, source, view)?,
            false => {
                let mut values = Vec::with_capacity(view.features.len());
                let mut columns = Vec::with_capacity(view.features.len());
                for typed in &view.features {
                    values.push(compiled(&typed.feature.expression, Purpose::Feature)?);
                    let name = typed.feature.name.to_string();
                    columns.push(Column { name, data_type: typed.data_type.clone() });
                }
                (values, ViewColumns { columns, filters: 0 })
            }
        };
        let types: Vec<DataType> = view.keys.iter().map(|key| key.key.data_type.clone()).collect();
        Ok(Evaluator {
            filter: view.filter().map(|filter| compiled(filter, Purpose::Condition)).transpose()?,
            values,
            kept,
            key_columns: view.keys.iter().map(|key| key.column.clone()).collect(),
            keys: KeyEncoder::new(&types),
            digester: RowDigester::new(&source.columns),
            assumed: source.definition.available_at.is_none() && !pushed,
            clockless: !clock,
            windows,
        })
    }

    /// What is kept of each row.
    pub(crate) fn columns(&self) -> &ViewColumns {
        &self.kept
    }

    /// Whether windows are asked.
    pub(super) fn is_window(&self) -> bool {
        self.windows
    }

    /// The columns that its entity's keys are read from.
    pub(crate) fn key_columns(&self) -> &[String] {
        &self.key_columns
    }

    /// Its expressions, ready for batches of a scan's schema.
    pub(crate) fn ready(&self, schema: &SchemaRef) -> Result<Ready> {
        Ok(Ready {
            filter: self.filter.as_ref().map(|filter| filter.bind(schema)).transpose()?,
            values: self.values.iter().map(|one| one.bind(schema)).collect::<Result<_>>()?,
        })
    }

    pub(super) async fn read(
        &self,
        engine: &Engine,
        plan: Arc<dyn ExecutionPlan>,
        counted: Counted<'_>,
        to: &mpsc::Sender<EvaluatedRows>,
    ) -> Result<UnitRead> {
        let schema = plan.schema();
        let ready = self.ready(&counted.ends.map_or_else(|| Arc::clone(&schema), |_| with_ends(&schema)))?;
        let plan = CoalescePartitionsExec::new(plan);
        let mut stream: SendableRecordBatchStream = plan.execute(0, engine.session().task_ctx())?;
        let mut read = UnitRead::default();
        while let Some(mut batch) = stream.try_next().await? {
            read.rows += batch.num_rows() as u64;
            if let Some(after) = counted.after {
                let positions = column(&batch, fixed::POSITION)?;
                let new = gt(positions, &Int64Array::new_scalar(after))?;
                batch = filter_record_batch(&batch, &true_only(&new))?;
            }
            if let Some(until) = counted.until {
                // Rows that are read in place have no position.
                let later = gt(column(&batch, fixed::POSITION)?, &Int64Array::new_scalar(until))?;
                batch = filter_record_batch(&batch, &not(&true_only(&later))?)?;
            }
            if let Some(ends) = counted.ends {
                batch = ends.beside(&batch)?;
                // A delete with an id counts nowhere, and says of no key that it is null.
                let ends = column(&batch, fixed::ENDS)?;
                let counts = |row| Some(instant(ends, row) != Some(Timestamp(WITHDRAWAL)));
                let counting: BooleanArray = (0..batch.num_rows()).map(counts).collect();
                batch = filter_record_batch(&batch, &counting)?;
            }
            let found = self.evaluate(&ready, &batch, None)?;
            read.null_keys += found.null_keys.len() as u64;
            read.never_known += found.never_known.len() as u64;
            for rows in found.rows {
                if to.send(rows).await.is_err() {
                    return Err(Error::internal("nobody takes the rows of the view"));
                }
            }
        }
        Ok(read)
    }

    /// What is kept of rows.
    fn values(&self, ready: &Ready, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let mut values = ready.values.iter().map(|one| one.evaluate(rows)).collect::<Result<Vec<_>>>()?;
        let arguments = values.len().saturating_sub(self.kept.filters);
        for filter in values.iter_mut().skip(arguments) {
            // Whether they are true: a condition that is null is not met.
            let found = filter.as_boolean_opt().map(true_only);
            *filter =
                Arc::new(found.ok_or_else(|| Error::internal("a filter of an aggregate is no boolean"))?);
        }
        Ok(values)
    }

    /// The values and the deletes of a batch that belong to an entity and are visible at some time, and of which that is
    /// not so.
    pub(crate) fn evaluate(
        &self,
        ready: &Ready,
        batch: &RecordBatch,
        incoming: Option<Incoming<'_>>,
    ) -> Result<Evaluated> {
        let ops = column(batch, fixed::OP)?;
        let ops = ops.as_boolean_opt().ok_or_else(|| Error::internal("`__op` of the scan is no boolean"))?;
        let deletes = true_only(ops);
        let passing = match &ready.filter {
            Some(condition) => passing(condition, batch, &deletes)?,
            None => BooleanArray::from(vec![true; batch.num_rows()]),
        };
        let keys: Vec<ArrayRef> =
            self.key_columns.iter().map(|name| column(batch, name).cloned()).collect::<Result<_>>()?;
        let keys = self.keys.encode(&keys).map_err(|error| compute(&error))?;
        let mut kept = passing;
        if let Some(withdrawals) = incoming.and_then(|incoming| incoming.withdrawals) {
            kept = and(&kept, &not(withdrawals)?)?;
        }
        let (mut null_keys, mut never_known) = (Vec::new(), Vec::new());
        if keys.null_count() > 0 {
            let mask = arrow::compute::is_not_null(&keys)?;
            null_keys = and(&not(&mask)?, &kept)?.values().set_indices_u32().collect();
            kept = and(&kept, &mask)?;
        }
        let visible = column(batch, fixed::VISIBLE_AT)?;
        let pushed = incoming.is_some_and(|incoming| incoming.pushed);
        if !pushed && !self.assumed && visible.null_count() > 0 {
            let mask = arrow::compute::is_not_null(visible)?;
            never_known = and(&not(&mask)?, &kept)?.values().set_indices_u32().collect();
            if !self.clockless {
                kept = and(&kept, &mask)?;
            }
        }
        let mut found = Vec::with_capacity(2);
        for (op, mask) in [(Op::Value, and(&kept, &not(&deletes)?)?), (Op::Delete, and(&kept, &deletes)?)] {
            let count = mask.true_count();
            if count == 0 || (op == Op::Delete && self.windows) {
                continue;
            }
            let whole = count == batch.num_rows();
            let rows = if whole { batch.clone() } else { filter_record_batch(batch, &mask)? };
            let features = match op {
                Op::Value => self.values(ready, &rows)?,
                Op::Delete => Vec::new(),
            };
            let taken = |name| column(&rows, name).cloned();
            let numbers: Vec<u32> = mask.values().set_indices_u32().collect();
            let digests = match incoming {
                Some(Incoming { digests, .. }) => {
                    numbers.iter().filter_map(|row| digests.get(*row as usize).copied()).collect()
                }
                None => self.digester.digest(&rows).map_err(|error| compute(&error))?,
            };
            found.push(EvaluatedRows {
                keys: match whole {
                    true => keys.clone(),
                    false => filter(&keys, &mask)?.as_binary::<i32>().clone(),
                },
                op,
                features,
                rows: numbers,
                assumed: self.assumed,
                times: Times {
                    event_time: taken(fixed::EVENT_TIME)?,
                    visible_at: taken(fixed::VISIBLE_AT)?,
                    order_by: taken(fixed::ORDER_BY)?,
                    position: taken(fixed::POSITION)?,
                    until: taken(fixed::UNTIL)?,
                    ends: taken(fixed::ENDS).ok(),
                },
                digests,
            });
        }
        Ok(Evaluated { rows: found, null_keys, never_known })
    }
}

/// The distinct arguments and filters of a view's calls.
fn of_windows(
    engine: &Engine,
    source: &SourceVersion,
    view: &ViewVersion,
) -> Result<(Vec<Compiled>, ViewColumns)> {
    let wanted = WindowColumns::of(view.features.iter().map(|typed| &typed.feature));
    let mut values = Vec::with_capacity(wanted.arguments.len() + wanted.filters.len());
    let mut columns = Vec::with_capacity(values.capacity());
    let arguments = wanted.arguments.iter().map(|text| (text, Purpose::Feature));
    for (text, purpose) in arguments.chain(wanted.filters.iter().map(|text| (text, Purpose::Condition))) {
        let compiled = compile(engine, text, &source.columns, true, purpose);
        let compiled = compiled.map_err(|problem| broken(view, &problem))?;
        // A column keeps its own type, which an Arrow type alone does not tell (json).
        let expression = Expression { text: text.clone() };
        let own = expression.as_column();
        let own = own.and_then(|own| source.columns.iter().find(|column| column.name == own));
        let data_type = own.map_or(compiled.data_type(), |column| &column.data_type).clone();
        columns.push(Column { name: text.clone(), data_type });
        values.push(compiled);
    }
    Ok((values, ViewColumns { columns, filters: wanted.filters.len() }))
}

impl EvaluatedRows {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A row's place in the order of its key.
    pub fn order(&self, row: usize) -> RowOrder {
        let event_time = instant(&self.times.event_time, row).unwrap_or(Timestamp::BEFORE_ALL);
        let order_by = self.times.order_by.as_binary_opt::<i32>();
        let position = self.times.position.as_primitive_opt::<Int64Type>();
        RowOrder {
            event_time,
            visible_at: instant(&self.times.visible_at, row).unwrap_or(match self.assumed {
                true => event_time,
                false => Timestamp::NEVER,
            }),
            order_by: order_by
                .filter(|keys| keys.is_valid(row))
                .map(|keys| keys.value(row).into())
                .unwrap_or_default(),
            position: position
                .filter(|positions| positions.is_valid(row))
                .map_or(Position::NONE, |positions| Position(positions.value(row))),
            op: self.op,
            digest: self.digests.get(row).copied().unwrap_or_default(),
        }
    }

    /// A row's place in the order of its key, once its batch was given this `v` and the row this `s`. A row that
    /// brought a `v` of its own keeps it.
    pub fn accepted(&self, row: usize, visible_at: Timestamp, position: Position) -> RowOrder {
        let own = instant(&self.times.visible_at, row);
        RowOrder { visible_at: own.unwrap_or(visible_at), position, ..self.order(row) }
    }

    /// The `v` of the version after a row, where one is known; it may be never.
    pub fn end(&self, row: usize) -> Option<Timestamp> {
        instant(self.times.ends.as_ref()?, row)
    }

    /// From when on a row no longer answers.
    pub fn valid_until(&self, row: usize) -> Option<Timestamp> {
        instant(&self.times.until, row)
    }
}

pub(crate) fn instant(times: &ArrayRef, row: usize) -> Option<Timestamp> {
    let times = times.as_primitive_opt::<TimestampMicrosecondType>()?;
    times.is_valid(row).then(|| Timestamp(times.value(row)))
}

pub(crate) fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::internal(format!("the scan gives no `{name}`")))
}

pub(crate) fn compute(error: &asof_compute::ComputeError) -> Error {
    use asof_model::Explain;
    Error::Invalid { code: error.code(), message: error.to_string(), hint: error.hint() }
}

fn broken(view: &ViewVersion, problem: &Problem) -> Error {
    Error::Invalid {
        code: problem.code,
        message: format!("view `{}`: {}", view.address, problem.message),
        hint: problem.hint.clone().or_else(|| Some("its source changed: run `asof plan`".to_owned())),
    }
}
