//! Functions whose answer can be many times as large as what they are given.
//!
//! `repeat('x', 2000000000)` is 25 bytes of text and 2 GB of memory, taken in one call that no pool of
//! memory sees and no cancelling reaches. So in a plan, and in an expression of a definition, every call of
//! such a function is put behind [`Bounded`]: it says beforehand how large its answer will be, and is not
//! made where that is over the bound. Names, types and answers stay what they are.

mod bounded;
mod size;

use std::sync::Arc;

use datafusion::common::config::ConfigNonZeroUsize;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, ScalarUDF};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::prelude::SessionConfig;
use datafusion::scalar::ScalarValue;

use bounded::{Bounded, Kept};

use crate::{Error, Result};

/// Rows of a batch in a query that can make large values: small, since a join or a constant gives each of
/// them to every row of a batch.
const ROWS_OF_LARGE: usize = 256;

/// Makes a query's batches small.
///
/// # Errors
/// Never: the number of rows is one.
pub(crate) fn small_batches(config: &mut SessionConfig) -> PlanResult<()> {
    config.options_mut().execution.batch_size = ConfigNonZeroUsize::try_new(ROWS_OF_LARGE)?;
    Ok(())
}

/// A constant of more bytes is large.
const LARGE: usize = 4 << 10;

/// The largest constant an expression of a definition may come to, in bytes: it is written for each row.
const LARGEST_CONSTANT: usize = 64 << 10;

/// How large answers may be, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Bounds {
    /// One call's answer for all rows of a batch.
    pub batch: usize,
    /// One value of a row.
    pub value: usize,
    /// One value that is the same for all rows.
    pub constant: usize,
}

impl Bounds {
    /// Of expressions evaluated on one batch after the other, within an engine's memory.
    pub(crate) fn of_expressions(memory: u64) -> Bounds {
        let batch = usize::try_from(memory / 4).unwrap_or(usize::MAX).max(1 << 20);
        Bounds { batch, value: batch, constant: LARGEST_CONSTANT }
    }

    /// Of a query with so many calls, on so many threads, within its memory.
    fn of_query(memory: usize, calls: usize, threads: usize) -> Bounds {
        let batch = memory / calls.max(1) / threads.max(1);
        let value = (batch / ROWS_OF_LARGE).max(LARGE);
        Bounds { batch: batch.max(1 << 20), value, constant: value }
    }
}

/// Whether a call of this function can give much more than it is given.
fn grows(expression: &Expr) -> bool {
    match expression {
        Expr::ScalarFunction(call) => size::grows(call.func.name()),
        Expr::BinaryExpr(BinaryExpr { op: Operator::StringConcat, .. }) => true,
        _ => false,
    }
}

/// How many calls in a plan can give much more than they are given, large constants counted with them.
pub(crate) fn calls(plan: &LogicalPlan) -> PlanResult<usize> {
    let mut calls = 0;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                let constant = matches!(part, Expr::Literal(value, _) if value.size() > LARGE);
                calls += usize::from(constant || grows(part));
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        if let LogicalPlan::Aggregate(node) = node {
            calls += node.aggr_expr.iter().filter(|it| gathers(it)).count();
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(calls)
}

/// Whether an aggregate gives one value of all its rows.
fn gathers(expression: &Expr) -> bool {
    match expression {
        Expr::AggregateFunction(call) => {
            matches!(call.func.name(), "array_agg" | "string_agg" | "listagg")
        }
        Expr::Alias(alias) => gathers(&alias.expr),
        _ => false,
    }
}

/// The plan with all such calls bounded, for a query within `memory` bytes on so many threads.
pub(crate) fn bounded_query(plan: LogicalPlan, memory: usize, threads: usize) -> PlanResult<LogicalPlan> {
    let calls = calls(&plan)?;
    if calls == 0 {
        return Ok(plan);
    }
    bounded_plan(plan, Bounds::of_query(memory, calls, threads))
}

/// The plan with all such calls bounded.
pub(crate) fn bounded_plan(plan: LogicalPlan, bounds: Bounds) -> PlanResult<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| {
        let node = node
            .map_expressions(|expression| expression.transform_up(|part| Ok(bounded_call(part, bounds))))?;
        let LogicalPlan::Aggregate(aggregate) = &node.data else { return Ok(node) };
        if !aggregate.aggr_expr.iter().any(gathers) {
            return Ok(node);
        }
        // What gathers a value of all rows is bounded by the pool of memory while it does; the value, which a
        // join could give to every row, by a projection above it.
        let groups = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
        let columns = aggregate.schema.columns().into_iter().enumerate().map(|(at, column)| {
            let gathered =
                at.checked_sub(groups).and_then(|at| aggregate.aggr_expr.get(at)).is_some_and(gathers);
            if !gathered {
                return Expr::Column(column);
            }
            let name = column.name.clone();
            let relation = column.relation.clone();
            kept(Expr::Column(column), bounds).alias_qualified(relation, name)
        });
        let columns = columns.collect();
        let below = Arc::new(node.data);
        let above = datafusion::logical_expr::Projection::try_new(columns, below)?;
        Ok(Transformed::yes(LogicalPlan::Projection(above)))
    })?;
    Ok(plan.data)
}

/// Refuses a plan with a constant of a definition too large to write for each row.
///
/// # Errors
/// [`Error::Exhausted`].
pub(crate) fn check_plan(plan: &LogicalPlan) -> Result<()> {
    let mut wrong = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                wrong = logical_fault(part);
                Ok(if wrong.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })?;
    wrong.map_or(Ok(()), Err)
}

fn logical_fault(part: &Expr) -> Option<Error> {
    match part {
        Expr::Literal(value, _) => large_constant(value),
        Expr::ScalarFunction(call) => {
            let bounded = call.func.inner().downcast_ref::<Bounded>()?;
            let values: Option<Vec<ScalarValue>> =
                call.args.iter().map(|it| it.as_literal().cloned()).collect();
            bounded.fault(values?)
        }
        _ => None,
    }
}

fn large_constant(value: &ScalarValue) -> Option<Error> {
    (value.size() > LARGEST_CONSTANT).then(|| Error::Exhausted {
        what: "a constant".to_owned(),
        limit: size::shown(LARGEST_CONSTANT),
        hint: Some("it would be written for each row: make it smaller".to_owned()),
    })
}

/// The expression with all such calls bounded.
pub(crate) fn bounded_expression(expression: Expr, bounds: Bounds) -> PlanResult<Expr> {
    Ok(expression.transform_up(|part| Ok(bounded_call(part, bounds)))?.data)
}

fn bounded_call(part: Expr, bounds: Bounds) -> Transformed<Expr> {
    match part {
        Expr::ScalarFunction(call) if size::grows(call.func.name()) && !call.func.inner().is::<Bounded>() => {
            let func = Arc::new(ScalarUDF::new_from_impl(Bounded::new(call.func, bounds)));
            Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: call.args }))
        }
        Expr::BinaryExpr(BinaryExpr { op: Operator::StringConcat, .. }) => {
            Transformed::yes(kept(part, bounds))
        }
        other => Transformed::no(other),
    }
}

fn kept(expression: Expr, bounds: Bounds) -> Expr {
    let func = Arc::new(ScalarUDF::new_from_impl(Kept::new(bounds)));
    Expr::ScalarFunction(ScalarFunction { func, args: vec![expression] })
}

/// Refuses an expression of a definition that comes to a constant too large to write for each row, or whose
/// call, all its arguments being constants, is over the bound.
///
/// # Errors
/// [`Error::Exhausted`].
pub(crate) fn check_constants(expression: &Arc<dyn PhysicalExpr>) -> Result<()> {
    let mut wrong = None;
    expression.apply(|part| {
        wrong = constant_fault(part.as_ref());
        Ok(if wrong.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    wrong.map_or(Ok(()), Err)
}

fn constant_fault(part: &dyn PhysicalExpr) -> Option<Error> {
    if let Some(literal) = part.downcast_ref::<Literal>() {
        return large_constant(literal.value());
    }
    let call = part.downcast_ref::<ScalarFunctionExpr>()?;
    let bounded = call.fun().inner().downcast_ref::<Bounded>()?;
    let values: Option<Vec<ScalarValue>> = part
        .children()
        .into_iter()
        .map(|child| child.downcast_ref::<Literal>().map(|literal| literal.value().clone()))
        .collect();
    bounded.fault(values?)
}
