//! SQL expressions of definitions, compiled by DataFusion over the columns of a source, and those of derived
//! features over features, the request and its time ([`compile_derived`]).
//!
//! [`compile`] types an expression and refuses what a definition may not hold: unknown names (with the
//! nearest), functions whose answer depends on when or where they run, aggregates, windows,
//! subqueries. [`Compiled::bind`] makes it ready for batches of a schema.
//!
//! What an expression gives of a row, or whether it fails, depends on that row alone: `and`, `or` and `case`
//! guard row by row, and integers that run over are an error ([`guard`]).
//!
//! The functions are DataFusion's scalar functions. `event_time` is the row's own time, where the
//! source has no column of that name. Names are matched as written, and else without regard to case.

mod aggregate;
mod derived;
mod guard;
mod problem;
mod read;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use asof_compute::{arrow_type, from_arrow_type};
use asof_model::{Column, DataType};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::ExprSchemable;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, ExprWithAlias};

pub use aggregate::{CallPart, CompiledAggregate, compile_call};
pub(crate) use derived::InUse;
pub use derived::{CompiledDerived, compile_derived};
pub use problem::Problem;

use self::read::Names;

use crate::growth::{self, Bounds};
use crate::integers::{self, RunsOver};
use crate::source::columns::canonical;
use crate::source::{convert, fixed};
use crate::{Engine, Error, Result};

/// The name by which an expression reads the row's own time.
pub const EVENT_TIME: &str = "event_time";

/// What an expression is for; decides what it may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A feature: any type of ours.
    Feature,
    /// `where` or `delete_when`: a bool.
    Condition,
    /// A time rule: a time, a date, or text that is one.
    Time,
    /// `order_by`: any type of ours.
    Order,
    /// `id`: any type of ours but floats and what holds several values.
    Id,
}

/// An expression typed over the columns of a source.
#[derive(Debug, Clone)]
pub struct Compiled {
    text: String,
    physical: Arc<dyn PhysicalExpr>,
    data_type: DataType,
    needs: Vec<String>,
}

/// An expression ready for batches of one schema.
#[derive(Debug, Clone)]
pub struct Bound {
    text: String,
    physical: Arc<dyn PhysicalExpr>,
    data_type: DataType,
}

/// Types an expression over the columns of a source. With `clock`, `event_time` is one more.
///
/// # Errors
/// [`Problem`] with the place within the text.
pub fn compile(
    engine: &Engine,
    text: &str,
    columns: &[Column],
    clock: bool,
    purpose: Purpose,
) -> Result<Compiled, Problem> {
    let mut fields: Vec<Field> =
        columns.iter().map(|column| Field::new(&column.name, arrow_type(&column.data_type), true)).collect();
    let own_time = clock && !columns.iter().any(|column| column.name == EVENT_TIME);
    if own_time {
        fields.push(Field::new(EVENT_TIME, arrow_type(&DataType::Timestamp), true));
    }
    let Typed { physical, data_type, .. } = typed(engine, text, fields, Names::OfColumns)?;
    match purpose {
        Purpose::Condition if data_type != DataType::Bool => {
            let problem = Problem::whole(
                text,
                "expression_not_bool",
                format!("gives {data_type}, where a bool is needed"),
            );
            return Err(problem.hint("compare it with something, e.g. `... > 0` or `... is not null`"));
        }
        Purpose::Time if !matches!(data_type, DataType::Timestamp | DataType::Date | DataType::String) => {
            let problem = Problem::whole(
                text,
                "expression_not_time",
                format!("gives {data_type}, where a time is needed"),
            );
            return Err(problem.hint("use e.g. `to_timestamp_micros(...)`, or name a column with its unit"));
        }
        Purpose::Id
            if matches!(
                data_type,
                DataType::Float32
                    | DataType::Float64
                    | DataType::Json
                    | DataType::List(_)
                    | DataType::Struct(_)
            ) =>
        {
            let problem =
                Problem::whole(text, "expression_not_id", format!("gives {data_type}, which names no event"));
            return Err(problem.hint("name a column of whole numbers, texts or uuids"));
        }
        _ => {}
    }
    let mut needs: Vec<String> = Vec::new();
    for column in datafusion::physical_expr::utils::collect_columns(&physical) {
        let name = if own_time && column.name() == EVENT_TIME { fixed::EVENT_TIME } else { column.name() };
        needs.push(name.to_owned());
    }
    needs.sort();
    Ok(Compiled { text: text.to_owned(), physical, data_type, needs })
}

/// What an expression is, and of which type.
struct Typed {
    read: SqlExpr,
    physical: Arc<dyn PhysicalExpr>,
    data_type: DataType,
}

/// Types an expression over these fields.
fn typed(engine: &Engine, text: &str, fields: Vec<Field>, of: Names) -> Result<Typed, Problem> {
    let state = engine.language();
    let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    let read = read::read(text, &names, of, state)?;
    let schema = DFSchema::try_from(Schema::new(fields.clone()))
        .map_err(|e| Problem::whole(text, "expression_failed", plain(&e)))?;
    let (physical, found) = match plan(&read, &schema, state, engine.bounds()) {
        Ok(planned) => planned,
        Err(error) => return Err(problem::locate(text, &read, (&schema, state, engine.bounds()), &error)),
    };
    growth::check_constants(&physical).map_err(|error| {
        let problem = Problem::whole(text, "expression_too_large", format!("makes too much: {error}"));
        problem.hint("a feature is a value of its row: make it smaller")
    })?;
    let Some(mut data_type) = from_arrow_type(&found) else {
        let problem =
            Problem::whole(text, "expression_type", format!("gives {found}, which no feature can be"));
        return Err(problem.hint("cast it, e.g. `cast(... as bigint)`"));
    };
    // A null literal alone is null of any type.
    if found == arrow::datatypes::DataType::Null {
        data_type = DataType::String;
    }
    Ok(Typed { read, physical, data_type })
}

fn plan(
    expression: &SqlExpr,
    schema: &DFSchema,
    state: &SessionState,
    bounds: Bounds,
) -> Result<(Arc<dyn PhysicalExpr>, arrow::datatypes::DataType), DataFusionError> {
    let whole = ExprWithAlias { expr: expression.clone(), alias: None };
    let logical = state.create_logical_expr_from_sql_expr(whole, schema)?;
    logical.get_type(schema)?;
    let logical = growth::bounded_expression(logical, bounds)?;
    // Some functions, `coalesce` among them, can be evaluated only in the form they are simplified to.
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(Arc::clone(state.config_options()))
        .build();
    let simplifier = ExprSimplifier::new(context);
    let exact = simplifier.coerce(logical, schema)?.transform_up(|part| integers::exact(part, schema))?;
    let logical = simplifier.simplify(exact.data)?;
    let physical = guard::guarded(state.create_physical_expr(logical, schema)?)?;
    let found = physical.data_type(schema.as_arrow())?;
    Ok((physical, found))
}

/// DataFusion's words without its prefixes and its own lists of candidates.
pub(crate) fn plain(error: &DataFusionError) -> String {
    let root = error.find_root().message().into_owned();
    let text = root.lines().next().unwrap_or_default();
    // Its own account of every signature it tried.
    let text = text.split(" failed to match any signature").next().unwrap_or_default();
    let taken = text.strip_prefix("Internal error: ").unwrap_or(text);
    if let Some(function) = taken.strip_prefix("Function '").and_then(|rest| rest.strip_suffix('\'')) {
        return format!("function `{function}` takes arguments of other types");
    }
    let text = text.split(" No function matches").next().unwrap_or_default();
    let text = text.split(". Candidate functions").next().unwrap_or_default();
    text.trim().trim_end_matches('.').to_owned()
}

impl Compiled {
    /// The type it gives.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// The columns it reads, sorted; the row's own time is [`fixed::EVENT_TIME`].
    pub fn needs(&self) -> &[String] {
        &self.needs
    }

    /// The text as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Ready for batches of this schema, which holds at least the columns it [needs](Self::needs).
    ///
    /// # Errors
    /// [`Error::Internal`] where one is missing.
    pub fn bind(&self, schema: &SchemaRef) -> Result<Bound> {
        let physical = Arc::clone(&self.physical).transform_down(|node| {
            let Some(column) = node.downcast_ref::<PhysicalColumn>() else {
                return Ok(Transformed::no(node));
            };
            let name = column.name();
            let index = match schema.index_of(name) {
                Ok(index) => index,
                Err(_) if name == EVENT_TIME => schema.index_of(fixed::EVENT_TIME)?,
                Err(error) => return Err(error.into()),
            };
            let found: Arc<dyn PhysicalExpr> =
                Arc::new(PhysicalColumn::new(schema.field(index).name(), index));
            Ok(Transformed::yes(found))
        })?;
        Ok(Bound { text: self.text.clone(), physical: physical.data, data_type: self.data_type.clone() })
    }
}

impl Bound {
    /// The type it gives.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Its value for every row, in `asof_compute::arrow_type` of its type; floats in their one form.
    ///
    /// # Errors
    /// [`Error::Invalid`] with code `expression_failed` where a row cannot be evaluated (a division by
    /// zero, an overflow, a cast); without the values.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let failed = |reason: &str| {
            Error::invalid("expression_failed", format!("expression `{}` fails: {reason}", self.text))
                .with_hint("guard it, e.g. with `nullif`, `try_cast` or `case`")
        };
        let told = |error: DataFusionError| match Error::within(&error) {
            Some(Error::Exhausted { what, limit, hint }) => Error::Exhausted {
                what: format!("expression `{}`: {what}", self.text),
                limit: limit.clone(),
                hint: hint.clone(),
            },
            _ => failed(cause(&error)),
        };
        let value = self.physical.evaluate(batch).map_err(told)?;
        let array = value.into_array(batch.num_rows()).map_err(told)?;
        let array = convert(&array, &self.data_type);
        let array = array.map_err(|bad| failed(&format!("a value {}", bad.reason)))?;
        // One form of each float: which NaN comes out of the hardware is nobody's to see.
        Ok(canonical(&array)?)
    }
}

/// Why an evaluation failed, in words that never hold a cell.
fn cause(error: &DataFusionError) -> &'static str {
    use arrow::error::ArrowError;
    match error.find_root() {
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            ArrowError::DivideByZero => "division by zero",
            ArrowError::ArithmeticOverflow(_) => "a number is out of range",
            ArrowError::CastError(_) | ArrowError::ParseError(_) => "a value cannot be cast",
            ArrowError::ComputeError(text) if integers::is_of_abs(text) => "a number is out of range",
            _ => "a value cannot be computed",
        },
        DataFusionError::External(root) if root.is::<RunsOver>() => "a number is out of range",
        _ => "a value cannot be computed",
    }
}
