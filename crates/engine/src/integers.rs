//! Integers of a query that run over: an error, where DataFusion begins anew at the other end.
//!
//! [`NoWrapping`] puts sums, differences, products and negations of integers behind [`Exact`], and has sums of
//! 64-bit columns made in 128 bits, to be brought back by [`Exact::Fit`]. Names and types of columns stay
//! what they are. Expressions of definitions use [`exact`] alone (`crate::expression`).

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Datum, Decimal128Array};
use arrow::compute::kernels::numeric::{add, mul, neg, sub};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, UInt64Type};
use arrow::error::ArrowError;
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction, WindowFunction};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, Projection,
    ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, Window,
    WindowFunctionDefinition,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

/// An integer that its type has no room for. Says nothing of the integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunsOver {
    what: &'static str,
    data_type: DataType,
}

impl fmt::Display for RunsOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.data_type.to_string().to_lowercase();
        write!(f, "{} is out of the range of {kind}", self.what)
    }
}

impl std::error::Error for RunsOver {}

/// What `abs` says of the least number there is.
pub(crate) fn is_of_abs(text: &str) -> bool {
    text.contains("overflow on abs")
}

/// 128-bit integers: sums of as many 64-bit ones as anybody has.
const WIDE: DataType = DataType::Decimal128(38, 0);

/// Has integers of a query fail where they run over. Runs once types are known.
#[derive(Debug)]
pub(crate) struct NoWrapping;

impl AnalyzerRule for NoWrapping {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            let node =
                node.map_expressions(|expression| expression.transform_up(|part| exact(part, &schema)))?;
            let node = match node.transformed {
                true => Transformed::yes(node.data.recompute_schema()?),
                false => node,
            };
            match node.data {
                LogicalPlan::Aggregate(aggregate) => wide_aggregate(aggregate, &schema),
                LogicalPlan::Window(window) => wide_window(window, &schema),
                other => Ok(Transformed::new_transformed(other, node.transformed)),
            }
        })?;
        Ok(plan.data)
    }

    fn name(&self) -> &str {
        "no_wrapping"
    }
}

/// Integer arithmetic behind its check.
pub(crate) fn exact(part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (function, args) = match part {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let function = match op {
                Operator::Plus => Exact::Plus,
                Operator::Minus => Exact::Minus,
                Operator::Multiply => Exact::Multiply,
                _ => return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
            };
            let kind = left.get_type(schema)?;
            if !kind.is_integer() || right.get_type(schema)? != kind {
                return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })));
            }
            (function, vec![*left, *right])
        }
        Expr::Negative(inner) if inner.get_type(schema)?.is_signed_integer() => {
            (Exact::Negative, vec![*inner])
        }
        other => return Ok(Transformed::no(other)),
    };
    Ok(Transformed::yes(call(function, args)))
}

fn call(function: Exact, args: Vec<Expr>) -> Expr {
    let func = Arc::new(ScalarUDF::new_from_impl(function));
    Expr::ScalarFunction(ScalarFunction { func, args })
}

/// The argument of a sum that may run over, in 128 bits.
fn widened(name: &str, args: &[Expr], schema: &DFSchema) -> Result<Option<Expr>> {
    let ("sum", [arg]) = (name, args) else { return Ok(None) };
    if !matches!(arg.get_type(schema)?, DataType::Int64 | DataType::UInt64) {
        return Ok(None);
    }
    // Of less than 64 bits it takes billions of rows to run over.
    if let Expr::Cast(Cast { expr, .. }) = arg
        && let DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32 = expr.get_type(schema)?
    {
        return Ok(None);
    }
    Ok(Some(call(Exact::Widen, vec![arg.clone()])))
}

/// What a sum becomes, if it may run over.
fn wide_sum(sum: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    Ok(match sum {
        Expr::Alias(alias) => wide_sum(&alias.expr, schema)?,
        Expr::AggregateFunction(function) => widened(function.func.name(), &function.params.args, schema)?
            .map(|arg| {
                let mut function: AggregateFunction = function.clone();
                function.params.args = vec![arg];
                Expr::AggregateFunction(function)
            }),
        Expr::WindowFunction(function) => match &function.fun {
            WindowFunctionDefinition::AggregateUDF(of) => widened(of.name(), &function.params.args, schema)?
                .map(|arg| {
                    let mut function: Box<WindowFunction> = function.clone();
                    function.params.args = vec![arg];
                    Expr::WindowFunction(function)
                }),
            WindowFunctionDefinition::WindowUDF(_) => None,
        },
        _ => None,
    })
}

/// The columns of `old`, by name, over those of `new`, where the last are made of these.
fn fitted(old: &DFSchema, new: &DFSchema, wide: &[bool]) -> Vec<Expr> {
    let plain = old.fields().len() - wide.len();
    let columns = old.iter().zip(new.columns()).enumerate();
    let columns = columns.map(|(at, ((qualifier, field), column))| {
        let column = Expr::Column(column);
        match at.checked_sub(plain).is_some_and(|at| wide[at]) {
            true => call(Exact::fit(field.data_type()), vec![column])
                .alias_qualified(qualifier.cloned(), field.name()),
            false => column,
        }
    });
    columns.collect()
}

/// Sums with those that may run over in 128 bits, and which; none where none may.
fn wide_sums(sums: &[Expr], schema: &DFSchema) -> Result<Option<(Vec<Expr>, Vec<bool>)>> {
    let found: Vec<Option<Expr>> = sums.iter().map(|sum| wide_sum(sum, schema)).collect::<Result<_>>()?;
    let wide: Vec<bool> = found.iter().map(Option::is_some).collect();
    let sums = found.into_iter().zip(sums).map(|(wide, plain)| wide.unwrap_or_else(|| plain.clone()));
    Ok(wide.contains(&true).then(|| (sums.collect(), wide)))
}

/// Wide sums brought back to the columns that there were.
fn fit_over(old: &DFSchema, below: LogicalPlan, wide: &[bool]) -> Result<Transformed<LogicalPlan>> {
    let columns = fitted(old, below.schema(), wide);
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(below))?)))
}

fn wide_aggregate(aggregate: Aggregate, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    let Some((sums, wide)) = wide_sums(&aggregate.aggr_expr, schema)? else {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    };
    let below = Aggregate::try_new(aggregate.input, aggregate.group_expr, sums)?;
    fit_over(&aggregate.schema, LogicalPlan::Aggregate(below), &wide)
}

fn wide_window(window: Window, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    let Some((sums, wide)) = wide_sums(&window.window_expr, schema)? else {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    };
    let below = Window::try_new(sums, window.input)?;
    fit_over(&window.schema, LogicalPlan::Window(below), &wide)
}

/// Arithmetic of integers of one type that fails where it runs over.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Exact {
    Plus,
    Minus,
    Multiply,
    Negative,
    /// An integer in 128 bits.
    Widen,
    /// Brings a sum back from 128 bits.
    Fit {
        /// The type it has as a sum.
        data_type: DataType,
    },
}

impl Exact {
    fn fit(data_type: &DataType) -> Exact {
        Exact::Fit { data_type: data_type.clone() }
    }

    /// What came of it, for people.
    fn what(&self) -> &'static str {
        match self {
            Exact::Plus => "an addition",
            Exact::Minus => "a subtraction",
            Exact::Multiply => "a multiplication",
            Exact::Negative => "a negation",
            Exact::Widen | Exact::Fit { .. } => "a sum",
        }
    }

    fn compute(&self, values: &[ArrayRef], scalars: &[bool]) -> Result<ArrayRef, ArrowError> {
        let one = |at: usize| -> Result<Box<dyn Datum>, ArrowError> {
            let value = values.get(at).ok_or_else(|| ArrowError::ComputeError("one argument".to_owned()))?;
            Ok(match scalars[at] {
                true => Box::new(arrow::array::Scalar::new(Arc::clone(value))),
                false => Box::new(Arc::clone(value)),
            })
        };
        match self {
            Exact::Plus => add(one(0)?.as_ref(), one(1)?.as_ref()),
            Exact::Minus => sub(one(0)?.as_ref(), one(1)?.as_ref()),
            Exact::Multiply => mul(one(0)?.as_ref(), one(1)?.as_ref()),
            Exact::Negative => neg(values[0].as_ref()),
            Exact::Widen => widen(&values[0]),
            Exact::Fit { data_type } => {
                let options = CastOptions { safe: false, ..CastOptions::default() };
                cast_with_options(&values[0], data_type, &options)
            }
        }
    }
}

/// As a cast does, which also looks whether each has too many digits, and none has.
fn widen(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let wide: Decimal128Array = match values.data_type() {
        DataType::Int64 => values.as_primitive::<Int64Type>().unary(i128::from),
        DataType::UInt64 => values.as_primitive::<UInt64Type>().unary(i128::from),
        _ => return cast_with_options(values, &WIDE, &CastOptions { safe: false, ..CastOptions::default() }),
    };
    Ok(Arc::new(wide.with_precision_and_scale(38, 0)?))
}

impl ScalarUDFImpl for Exact {
    fn name(&self) -> &str {
        match self {
            Exact::Plus => "exact_plus",
            Exact::Minus => "exact_minus",
            Exact::Multiply => "exact_multiply",
            Exact::Negative => "exact_negative",
            Exact::Widen => "exact_widen",
            Exact::Fit { .. } => "exact_sum",
        }
    }

    /// As the operator would be named, since others refer to the column it makes.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let names: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(match (self, names.as_slice()) {
            (Exact::Plus, [left, right]) => format!("{left} + {right}"),
            (Exact::Minus, [left, right]) => format!("{left} - {right}"),
            (Exact::Multiply, [left, right]) => format!("{left} * {right}"),
            (Exact::Negative, [one]) => format!("(- {one})"),
            _ => names.join(","),
        })
    }

    fn signature(&self) -> &Signature {
        static ANY: std::sync::OnceLock<Signature> = std::sync::OnceLock::new();
        ANY.get_or_init(|| Signature::variadic_any(Volatility::Immutable))
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match (self, types.first()) {
            (Exact::Fit { data_type }, _) => Ok(data_type.clone()),
            (Exact::Widen, _) => Ok(WIDE),
            (_, Some(kind)) => Ok(kind.clone()),
            (_, None) => Err(DataFusionError::Internal("arithmetic without arguments".to_owned())),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalars: Vec<bool> =
            args.args.iter().map(|value| matches!(value, ColumnarValue::Scalar(_))).collect();
        let values = args.args.iter().map(|value| match value {
            ColumnarValue::Array(array) => Ok(Arc::clone(array)),
            ColumnarValue::Scalar(scalar) => scalar.to_array(),
        });
        let values: Vec<ArrayRef> = values.collect::<Result<_>>()?;
        let found = self.compute(&values, &scalars).map_err(|error| match error {
            ArrowError::ArithmeticOverflow(_) | ArrowError::CastError(_) => {
                let data_type = args.return_field.data_type().clone();
                DataFusionError::External(Box::new(RunsOver { what: self.what(), data_type }))
            }
            other => other.into(),
        })?;
        match scalars.iter().all(|scalar| *scalar) && found.len() == 1 {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)),
            false => Ok(ColumnarValue::Array(found)),
        }
    }
}
