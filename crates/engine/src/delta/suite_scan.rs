//! The rows of a stored source up to a position, as one plan: what the suites hold the readers against.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use asof_model::SourceVersion;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use datafusion::prelude::{Expr, col, lit};

use super::scan::{provider, reaches, reading_state};
use super::stored::Layout;
use super::table::{self};
use crate::source::fixed;
use crate::{Engine, Result};

/// A stored source ready to be read.
#[derive(Debug)]
pub(crate) struct StoredScan {
    /// Gives the columns asked for in the source's types, then `__e`, `__v`, `__s`, `__op`.
    pub(crate) plan: Arc<dyn ExecutionPlan>,
}

/// The rows of a stored source with `s <= cut`; all of them without a cut.
///
/// # Errors
/// [`Error::Changed`] where the table no longer reaches the cut, i.e. was removed or restored from before.
pub(crate) async fn stored_scan(
    engine: &Engine,
    source: &SourceVersion,
    columns: &[String],
    cut: Option<i64>,
) -> Result<StoredScan> {
    let layout = Layout::of(&engine.config().data_dir, source)?;
    let output = output_schema(source, columns)?;
    let Some(table) = table::open(engine.files(), &layout.folder).await? else {
        reaches(source, None, cut)?;
        return Ok(StoredScan { plan: Arc::new(EmptyExec::new(output)) });
    };
    layout.check(&table)?;
    let last = Some(layout.last_position(&table).await?).filter(|last| *last > 0);
    reaches(source, last, cut)?;
    let state = reading_state(&engine.session());
    let provider = provider(&table, &state, None).await?;
    let mut filters: Vec<Expr> = Vec::new();
    if let Some(cut) = cut {
        filters.push(col(format!("\"{}\"", layout.seq)).lt_eq(lit(cut)));
    }
    let schema = provider.schema();
    let own = [&layout.event_time, &layout.visible_at, &layout.seq, &layout.op];
    let wanted = columns.iter().chain(own);
    let projection: Vec<usize> = wanted.map(|name| schema.index_of(name)).collect::<Result<_, _>>()?;
    let mut plan = provider.scan(&state, Some(&projection), &filters, None).await?;
    if let Some(cut) = cut {
        let seq = plan.schema().index_of(&layout.seq)?;
        let within = BinaryExpr::new(
            Arc::new(Column::new(&layout.seq, seq)),
            Operator::LtEq,
            Arc::new(Literal::new(ScalarValue::Int64(Some(cut)))),
        );
        plan = Arc::new(FilterExec::try_new(Arc::new(within), plan)?);
    }
    let plan = projected(plan, &layout, &output)?;
    Ok(StoredScan { plan })
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The source's columns as every other room sees them.
pub(crate) fn source_schema(source: &SourceVersion) -> SchemaRef {
    let all = source.columns.iter();
    let fields = all.map(|it| Field::new(&it.name, asof_compute::arrow_type(&it.data_type), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn output_schema(source: &SourceVersion, columns: &[String]) -> Result<SchemaRef> {
    let mut fields = Vec::with_capacity(columns.len() + 4);
    for name in columns {
        fields.push(source_schema(source).field_with_name(name)?.clone());
    }
    fields.push(Field::new(fixed::EVENT_TIME, instant(), true));
    fields.push(Field::new(fixed::VISIBLE_AT, instant(), true));
    fields.push(Field::new(fixed::POSITION, DataType::Int64, true));
    fields.push(Field::new(fixed::OP, DataType::Boolean, true));
    Ok(Arc::new(Schema::new(fields)))
}

/// The plan's columns under the names and in the types that the reader expects.
fn projected(
    plan: Arc<dyn ExecutionPlan>,
    layout: &Layout,
    output: &Schema,
) -> Result<Arc<dyn ExecutionPlan>> {
    let input = plan.schema();
    let mut expressions: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
    for field in output.fields() {
        let name = match field.name().as_str() {
            fixed::EVENT_TIME => &layout.event_time,
            fixed::VISIBLE_AT => &layout.visible_at,
            fixed::POSITION => &layout.seq,
            fixed::OP => &layout.op,
            name => name,
        };
        let at = input.index_of(name)?;
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, at));
        let expression: Arc<dyn PhysicalExpr> = if field.name() == fixed::OP {
            let delete = ScalarValue::Utf8(Some("delete".to_owned()));
            Arc::new(BinaryExpr::new(
                Arc::new(CastExpr::new(column, DataType::Utf8, None)),
                Operator::Eq,
                Arc::new(Literal::new(delete)),
            ))
        } else if input.field(at).data_type() == field.data_type() {
            column
        } else {
            Arc::new(CastExpr::new(column, field.data_type().clone(), None))
        };
        expressions.push((expression, field.name().clone()));
    }
    Ok(Arc::new(ProjectionExec::try_new(expressions, plan)?))
}
