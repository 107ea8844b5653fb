//! Reading a stored source: its rows with `s <= S`, in the source's own types.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use asof_model::SourceVersion;
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use datafusion::prelude::{Expr, SessionContext, col, lit};
use deltalake_core::DeltaTable;

use super::stored::Layout;
use super::table::{self, broken};
use crate::source::fixed;
use crate::{Engine, Error, Result};

/// A stored source ready to be read.
#[derive(Debug)]
pub(crate) struct StoredScan {
    /// Gives the columns asked for in the source's types, then `__e`, `__v`, `__s`, `__op`.
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    /// The greatest position that counts: the one asked for, or the table's last; none where there is
    /// no row.
    pub(crate) position: Option<i64>,
    /// The Delta version that is read.
    pub(crate) version: u64,
}

/// A data file of a stored source, for readers that go to the file themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredFile {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Bytes.
    pub(crate) size: u64,
    /// Rows.
    pub(crate) rows: u64,
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
    let output = output_schema(&layout, columns)?;
    let Some(table) = table::open(engine.files(), &layout.folder).await? else {
        reaches(source, None, cut)?;
        return Ok(StoredScan { plan: Arc::new(EmptyExec::new(output)), position: None, version: 0 });
    };
    layout.check(&table)?;
    let last = Some(layout.last_position(&table).await?).filter(|last| *last > 0);
    reaches(source, last, cut)?;
    let position = cut.or(last);
    let state = reading_state(&engine.session());
    let provider = provider(&table, &state).await?;
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
    let version = table.version().unwrap_or(0);
    Ok(StoredScan { plan, position, version })
}

/// The last position of a stored source; none where nothing was loaded.
pub(crate) async fn position(engine: &Engine, source: &SourceVersion) -> Result<Option<i64>> {
    let layout = Layout::of(&engine.config().data_dir, source)?;
    match table::open(engine.files(), &layout.folder).await? {
        Some(table) => Ok(Some(layout.last_position(&table).await?).filter(|last| *last > 0)),
        None => Ok(None),
    }
}

/// The data files of a stored source, in the order of their names, its last position (no less than the
/// cut asked for), and the version of its table.
///
/// # Errors
/// As [`stored_scan`].
pub(crate) async fn stored_files(
    engine: &Engine,
    source: &SourceVersion,
    cut: Option<i64>,
) -> Result<(Vec<StoredFile>, Option<i64>, u64)> {
    let layout = Layout::of(&engine.config().data_dir, source)?;
    let Some(table) = table::open(engine.files(), &layout.folder).await? else {
        reaches(source, None, cut)?;
        return Ok((Vec::new(), None, 0));
    };
    layout.check(&table)?;
    let state = table.snapshot().map_err(|e| broken("read the table", &layout.folder, e))?;
    let mut files: Vec<StoredFile> = state
        .log_data()
        .iter()
        .map(|file| StoredFile {
            path: layout.folder.join(file.path().as_ref()),
            size: u64::try_from(file.size()).unwrap_or(0),
            rows: file.num_records().and_then(|rows| u64::try_from(rows).ok()).unwrap_or(0),
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let last = Some(layout.last_position(&table).await?).filter(|last| *last > 0);
    reaches(source, last, cut)?;
    Ok((files, last, table.version().unwrap_or(0)))
}

fn reaches(source: &SourceVersion, last: Option<i64>, cut: Option<i64>) -> Result<()> {
    match cut {
        Some(cut) if last.is_none_or(|last| last < cut) => Err(Error::Changed {
            what: "stored source",
            name: source.address.name.to_string(),
            change: format!(
                "ends at position {} and was read up to {cut}: its table was removed or is an older copy",
                last.unwrap_or(0)
            ),
        }),
        _ => Ok(()),
    }
}

/// A session state whose Parquet scans give the types of the table, not views of them.
pub(crate) fn reading_state(session: &SessionContext) -> SessionState {
    let mut state = session.state();
    let options = state.config_mut().options_mut();
    options.execution.parquet.schema_force_view_types = false;
    // Filters are applied above, once; evaluating them in the decoder as well costs more than it saves.
    options.execution.parquet.pushdown_filters = false;
    state
}

/// The table at its loaded version, for DataFusion.
pub(crate) async fn provider(table: &DeltaTable, state: &SessionState) -> Result<Arc<dyn TableProvider>> {
    let builder = table.table_provider().with_session(Arc::new(state.clone()));
    Ok(builder.await?)
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn output_schema(layout: &Layout, columns: &[String]) -> Result<SchemaRef> {
    let mut fields = Vec::with_capacity(columns.len() + 4);
    for name in columns {
        fields.push(layout.source.field_with_name(name)?.clone());
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
