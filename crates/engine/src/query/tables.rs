//! What a query sees: sources, views, recorded training sets and system tables, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::{Field, Schema, SchemaRef};
use asof_compute::arrow_type;
use asof_model::{
    Catalog, Column, DataType, Name, ProjectState, SourceVersion, SystemTable, TrainingSet, ViewVersion,
};
use async_trait::async_trait;
use datafusion::catalog::memory::MemoryCatalogProviderList;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemTable, SchemaProvider, Session, TableProvider,
};
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{Stream, StreamExt};

use super::{Recall, SqlScope};
use crate::expression::{Bound, Compiled, Purpose, compile};
use crate::rows::has_rows;
use crate::source::{ScanColumns, fixed, scan};
use crate::{Engine, Error, Result};

/// The one catalog of a query.
pub(crate) const CATALOG: &str = "asof";
/// The schema of system tables, and of training sets.
const SYSTEM: &str = "system";

/// Every table name a query may write, for hints.
pub(super) fn names(scope: &SqlScope) -> Vec<String> {
    let mut names = Vec::new();
    for (project, state) in open_projects(scope) {
        for thing in state.sources.keys().chain(state.views.keys()) {
            if *project == scope.project {
                names.push(thing.to_string());
            }
            names.push(format!("{project}.{thing}"));
        }
    }
    names.extend(scope.system.iter().map(|table| table.name.to_owned()));
    names.extend(scope.training_sets.iter().map(|id| format!("{SET}{id}")));
    names
}

/// How the table of a recorded training set is named, in front of its id.
const SET: &str = "training_set_";

fn open_projects(scope: &SqlScope) -> impl Iterator<Item = (&Name, &Arc<ProjectState>)> {
    scope
        .catalog
        .projects
        .iter()
        .filter(|(name, _)| scope.principal.projects.as_ref().is_none_or(|open| open.contains(name)))
}

/// The catalogs of a query: one, with a schema per project and one of the system's.
pub(super) fn catalogs(engine: &Engine, scope: SqlScope) -> Result<Arc<dyn CatalogProviderList>> {
    let mut tables: BTreeMap<&'static str, Arc<dyn TableProvider>> = BTreeMap::new();
    for table in &scope.system {
        tables.insert(table.name, Arc::new(system_table(table)?));
    }
    let system = Arc::new(System {
        engine: engine.clone(),
        tables,
        sets: scope.training_sets.clone(),
        recall: scope.recall.clone(),
    });
    let mut schemas: BTreeMap<String, Arc<dyn SchemaProvider>> = BTreeMap::new();
    for (name, state) in open_projects(&scope) {
        let own = *name == scope.project;
        let schema = ProjectSchema {
            engine: engine.clone(),
            catalog: Arc::clone(&scope.catalog),
            state: Arc::clone(state),
            system: own.then(|| Arc::clone(&system)),
        };
        schemas.insert(name.to_string(), Arc::new(schema));
    }
    if !schemas.contains_key(scope.project.as_str()) {
        // A project without things yet still has the system's tables.
        schemas.insert(scope.project.to_string(), Arc::clone(&system) as Arc<dyn SchemaProvider>);
    }
    schemas.entry(SYSTEM.to_owned()).or_insert(system);
    let list = MemoryCatalogProviderList::new();
    list.register_catalog(CATALOG.to_owned(), Arc::new(Schemas(schemas)));
    Ok(Arc::new(list))
}

/// The system's tables, and recorded training sets. The record of a set may be large: only that of a set
/// that is asked for is read.
#[derive(Debug)]
struct System {
    engine: Engine,
    tables: BTreeMap<&'static str, Arc<dyn TableProvider>>,
    sets: Vec<String>,
    recall: Recall,
}

#[async_trait]
impl SchemaProvider for System {
    fn table_names(&self) -> Vec<String> {
        let sets = self.sets.iter().map(|id| format!("{SET}{id}"));
        self.tables.keys().map(|name| (*name).to_owned()).chain(sets).collect()
    }

    async fn table(&self, name: &str) -> PlanResult<Option<Arc<dyn TableProvider>>> {
        if let Some(table) = self.tables.get(name) {
            return Ok(Some(Arc::clone(table)));
        }
        let Some(id) = name.strip_prefix(SET) else { return Ok(None) };
        match (self.recall.0)(id.to_owned()).await? {
            Some(set) => Ok(Some(Arc::new(recorded(&self.engine, set)?))),
            None => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
            || name.strip_prefix(SET).is_some_and(|id| self.sets.iter().any(|known| known == id))
    }
}

#[derive(Debug)]
struct Schemas(BTreeMap<String, Arc<dyn SchemaProvider>>);

impl CatalogProvider for Schemas {
    fn schema_names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.0.get(name).cloned()
    }
}

/// The tables of one project; of the project asked in, the system's too, behind its own.
#[derive(Debug)]
struct ProjectSchema {
    engine: Engine,
    catalog: Arc<Catalog>,
    state: Arc<ProjectState>,
    system: Option<Arc<System>>,
}

#[async_trait]
impl SchemaProvider for ProjectSchema {
    fn table_names(&self) -> Vec<String> {
        let own = self.state.sources.keys().chain(self.state.views.keys()).map(ToString::to_string);
        let system = self.system.iter().flat_map(|system| system.table_names());
        let mut names: Vec<String> = own.chain(system).collect();
        names.sort();
        names.dedup();
        names
    }

    /// A view hides a source of its name, a project's thing a table of the system's.
    async fn table(&self, name: &str) -> PlanResult<Option<Arc<dyn TableProvider>>> {
        let table = if let Some(view) = self.state.views.get(name) {
            let source = self.catalog.source_of(view).map_err(Error::from)?;
            Reading::of_view(&self.engine, &self.catalog, source, view)?
        } else if let Some(source) = self.state.sources.get(name) {
            self.catalog.still_reads(source).map_err(Error::from)?;
            Reading::of_source(&self.engine, &self.catalog, source)?
        } else if let Some(system) = &self.system {
            return system.table(name).await;
        } else {
            return Ok(None);
        };
        Ok(Some(Arc::new(table)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.state.views.contains_key(name)
            || self.state.sources.contains_key(name)
            || self.system.as_ref().is_some_and(|system| system.table_exist(name))
    }
}

/// A table made of a source's rows.
#[derive(Debug)]
struct Reading {
    engine: Engine,
    catalog: Arc<Catalog>,
    source: Arc<SourceVersion>,
    /// Rows that are given: none where all are, deletes included.
    rows: Option<Passing>,
    columns: Vec<(Field, Value)>,
    schema: SchemaRef,
}

/// Which rows of a view are given: values, no deletes, that pass its `where`.
#[derive(Debug, Clone)]
struct Passing {
    filter: Option<Compiled>,
}

/// Where a column comes from.
#[derive(Debug, Clone)]
enum Value {
    /// A column of the scan.
    Column(String),
    /// An expression over columns of the scan.
    Expression(Compiled),
}

impl Reading {
    fn new(
        engine: &Engine,
        catalog: &Arc<Catalog>,
        source: &Arc<SourceVersion>,
        rows: Option<Passing>,
        columns: Vec<(Field, Value)>,
    ) -> Reading {
        let fields: Vec<Field> = columns.iter().map(|(field, _)| field.clone()).collect();
        Reading {
            engine: engine.clone(),
            catalog: Arc::clone(catalog),
            source: Arc::clone(source),
            rows,
            columns,
            schema: Arc::new(Schema::new(fields)),
        }
    }

    fn of_source(engine: &Engine, catalog: &Arc<Catalog>, source: &Arc<SourceVersion>) -> Result<Reading> {
        let columns = source
            .columns
            .iter()
            .map(|Column { name, data_type }| {
                (Field::new(name, arrow_type(data_type), true), Value::Column(name.clone()))
            })
            .collect();
        Ok(Reading::new(engine, catalog, source, None, columns))
    }

    fn of_view(
        engine: &Engine,
        catalog: &Arc<Catalog>,
        source: &Arc<SourceVersion>,
        view: &ViewVersion,
    ) -> Result<Reading> {
        has_rows(view)?;
        let clock = source.definition.event_time.is_some();
        let compiled = |text: &str, purpose| {
            compile(engine, text, &source.columns, clock, purpose).map_err(|problem| {
                let message = format!("view `{}`: expression `{text}` {}", view.address, problem.message);
                Error::Invalid { code: problem.code, message, hint: problem.hint }
            })
        };
        let mut columns: Vec<(Field, Value)> = Vec::new();
        for it in &view.keys {
            let field = Field::new(it.key.name.as_str(), arrow_type(&it.key.data_type), true);
            columns.push((field, Value::Column(it.column.clone())));
        }
        let taken = |name: &str| {
            view.keys.iter().any(|it| it.key.name.as_str() == name)
                || view.features.iter().any(|it| it.feature.name.as_str() == name)
        };
        let time = arrow_type(&DataType::Timestamp);
        // Facts without a clock have no time to show.
        let times = [
            clock.then_some(("event_time", fixed::EVENT_TIME)),
            (clock || source.definition.available_at.is_some()).then_some(("visible_at", fixed::VISIBLE_AT)),
        ];
        for (name, column) in times.into_iter().flatten() {
            let mut name = name.to_owned();
            while taken(&name) {
                name.push('_');
            }
            columns.push((Field::new(name, time.clone(), true), Value::Column(column.to_owned())));
        }
        for it in &view.features {
            let value = Value::Expression(compiled(&it.feature.expression.text, Purpose::Feature)?);
            columns.push((Field::new(it.feature.name.as_str(), arrow_type(&it.data_type), true), value));
        }
        let filter = view.filter().map(|it| compiled(&it.text, Purpose::Condition)).transpose()?;
        Ok(Reading::new(engine, catalog, source, Some(Passing { filter }), columns))
    }

    /// The source columns that these columns, and the rows' filter, are read from.
    fn needs(&self, columns: &[(Field, Value)]) -> Vec<String> {
        let mut needs: Vec<&str> = Vec::new();
        for (_, value) in columns {
            match value {
                Value::Column(name) => needs.push(name),
                Value::Expression(it) => needs.extend(it.needs().iter().map(String::as_str)),
            }
        }
        for filter in self.rows.iter().filter_map(|rows| rows.filter.as_ref()) {
            needs.extend(filter.needs().iter().map(String::as_str));
        }
        let of_source = self.source.columns.iter().map(|column| column.name.as_str());
        of_source.filter(|name| needs.contains(name)).map(str::to_owned).collect()
    }
}

#[async_trait]
impl TableProvider for Reading {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        if self.rows.is_some() { TableType::View } else { TableType::Base }
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let columns: Vec<(Field, Value)> = match projection {
            None => self.columns.clone(),
            Some(some) => some.iter().filter_map(|&at| self.columns.get(at).cloned()).collect(),
        };
        let want = ScanColumns { columns: self.needs(&columns), ..ScanColumns::default() };
        let found = scan(&self.engine, &self.catalog, &self.source, &want).await?;
        let schema = found.plan.schema();
        let bind = |it: &Compiled| it.bind(&schema);
        let shape = Shape {
            rows: match &self.rows {
                None => None,
                Some(rows) => Some(rows.filter.as_ref().map(bind).transpose()?),
            },
            columns: columns
                .iter()
                .map(|(_, value)| match value {
                    Value::Column(name) => Ok(BoundValue::Column(schema.index_of(name)?)),
                    Value::Expression(it) => Ok(BoundValue::Expression(bind(it)?)),
                })
                .collect::<Result<_>>()?,
            schema: Arc::new(Schema::new(columns.into_iter().map(|(field, _)| field).collect::<Vec<_>>())),
        };
        let shape = Arc::new(shape);
        let count = found.plan.properties().output_partitioning().partition_count();
        // The scan's own context: what it may open is no business of the query's.
        let context = self.engine.session().task_ctx();
        let parts = (0..count).map(|number| {
            Arc::new(Part {
                plan: Arc::clone(&found.plan),
                number,
                shape: Arc::clone(&shape),
                context: Arc::clone(&context),
            }) as Arc<dyn PartitionStream>
        });
        let exec = StreamingTableExec::try_new(
            Arc::clone(&shape.schema),
            parts.collect(),
            None,
            Vec::new(),
            false,
            limit,
        )?;
        Ok(Arc::new(exec))
    }
}

/// What becomes of a batch of the scan.
#[derive(Debug)]
struct Shape {
    rows: Option<Option<Bound>>,
    columns: Vec<BoundValue>,
    schema: SchemaRef,
}

#[derive(Debug)]
enum BoundValue {
    Column(usize),
    Expression(Bound),
}

impl Shape {
    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut batch = batch.clone();
        if let Some(filter) = &self.rows {
            if let Some(deletes) = batch.column_by_name(fixed::OP) {
                batch = filter_record_batch(&batch, &not(deletes.as_boolean())?)?;
            }
            if let Some(filter) = filter {
                // Null is no pass.
                let passing = filter.evaluate(&batch)?;
                batch = filter_record_batch(&batch, passing.as_boolean())?;
            }
        }
        let columns = self
            .columns
            .iter()
            .zip(self.schema.fields())
            .map(|(value, field)| {
                let array = match value {
                    BoundValue::Column(at) => Arc::clone(batch.column(*at)),
                    BoundValue::Expression(it) => it.evaluate(&batch)?,
                };
                same_type(array, field)
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// A key column may be narrower in the source than the entity's key is.
fn same_type(array: arrow::array::ArrayRef, field: &Field) -> Result<arrow::array::ArrayRef> {
    if array.data_type() == field.data_type() {
        return Ok(array);
    }
    arrow::compute::cast(&array, field.data_type()).map_err(|_| {
        Error::invalid("sql_key_type", format!("a value of `{}` is no {}", field.name(), field.data_type()))
    })
}

/// One partition of a table.
#[derive(Debug)]
struct Part {
    plan: Arc<dyn ExecutionPlan>,
    number: usize,
    shape: Arc<Shape>,
    context: Arc<TaskContext>,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.shape.schema
    }

    fn execute(&self, asked: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.shape.schema);
        let rows = asked.session_config().batch_size();
        match self.plan.execute(self.number, Arc::clone(&self.context)) {
            Ok(batches) => {
                let shape = Arc::clone(&self.shape);
                let batches = batches.map(move |batch| shape.apply(&batch?).map_err(DataFusionError::from));
                let batches = in_pieces(batches, rows);
                Box::pin(RecordBatchStreamAdapter::new(schema, batches))
            }
            Err(error) => {
                let failed = futures::stream::once(async move { Err(error) });
                Box::pin(RecordBatchStreamAdapter::new(schema, failed))
            }
        }
    }
}

/// The same rows in batches of so many at most.
fn in_pieces(
    batches: impl Stream<Item = PlanResult<RecordBatch>> + Send,
    rows: usize,
) -> impl Stream<Item = PlanResult<RecordBatch>> + Send {
    batches.flat_map(move |batch| {
        let pieces: Vec<PlanResult<RecordBatch>> = match batch {
            Ok(batch) if batch.num_rows() > rows.max(1) => (0..batch.num_rows())
                .step_by(rows.max(1))
                .map(|from| Ok(batch.slice(from, rows.min(batch.num_rows() - from))))
                .collect(),
            other => vec![other],
        };
        futures::stream::iter(pieces)
    })
}

fn schema_of(columns: &[Column]) -> SchemaRef {
    let fields: Vec<Field> =
        columns.iter().map(|it| Field::new(&it.name, arrow_type(&it.data_type), true)).collect();
    Arc::new(Schema::new(fields))
}

fn system_table(table: &SystemTable) -> Result<MemTable> {
    let schema = schema_of(&table.columns);
    let mut decoder = arrow::json::ReaderBuilder::new(Arc::clone(&schema)).build_decoder()?;
    decoder.serialize(&table.rows)?;
    let rows = decoder.flush()?;
    Ok(MemTable::try_new(schema, vec![rows.into_iter().collect()])?)
}

/// A recorded training set: made again whenever it is read.
fn recorded(engine: &Engine, set: TrainingSet) -> Result<StreamingTable> {
    let schema = schema_of(&set.outcome.columns);
    let again = Recorded { engine: engine.clone(), set: Arc::new(set), schema: Arc::clone(&schema) };
    Ok(StreamingTable::try_new(schema, vec![Arc::new(again)])?)
}

#[derive(Debug)]
struct Recorded {
    engine: Engine,
    set: Arc<TrainingSet>,
    schema: SchemaRef,
}

impl PartitionStream for Recorded {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, asked: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = asked.session_config().batch_size();
        let (engine, set, schema) = (self.engine.clone(), Arc::clone(&self.set), Arc::clone(&self.schema));
        let batches = futures::stream::once(async move {
            let training = engine.rebuild(&set, crate::no_progress()).await?;
            let batches = training.into_checked_stream();
            Ok::<_, Error>(batches.map(move |batch| {
                let batch = batch?;
                let columns = batch
                    .columns()
                    .iter()
                    .zip(schema.fields())
                    .map(|(array, field)| same_type(Arc::clone(array), field))
                    .collect::<Result<Vec<_>>>()?;
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                Ok::<_, Error>(RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?)
            }))
        });
        let batches = futures::TryStreamExt::try_flatten(batches).map(|it| it.map_err(DataFusionError::from));
        let batches = in_pieces(batches, rows);
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}
