//! Read-only SQL over sources, views and recorded training sets.
//!
//! A query sees the tables of one catalog and nothing else: no files, no other stores, no functions
//! that read. It runs on threads of its own with a lower share of the processor and a memory limit of
//! its own, so that it can stall neither online reads nor training. A text is measured before it is
//! planned ([`SqlLimits`]); errors never hold a cell.
//!
//! A source is the table of its columns. A view is the table of the rows that pass its `where`: its
//! keys, `event_time`, `visible_at` and its features. Both are `name` in the project asked in, and
//! `project.name` anywhere. `training_set_ID` is a recorded set, made again when it is read; what the
//! registry holds are the tables handed in as [`SystemTable`]s, `name` where no thing of the project
//! is called so and always `system.name`.

pub(crate) mod fault;
mod limits;
mod room;
mod tables;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use asof_model::{Catalog, Name, Principal, SystemTable, TrainingSet};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as PlanResult;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{DataFrame, SQLOptions, SessionConfig};
use datafusion::sql::parser::Statement;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

pub use limits::SqlLimits;
pub(crate) use room::Room;
pub(crate) use tables::CATALOG;

use crate::integers::NoWrapping;
use crate::{Engine, Error, Result, growth};

/// What a query is asked over.
#[derive(Debug, Clone)]
pub struct SqlScope {
    /// Everything agreed.
    pub catalog: Arc<Catalog>,
    /// The project whose things go by their bare names.
    pub project: Name,
    /// Who asks; only projects open to it are there.
    pub principal: Principal,
    /// What the registry holds, as tables.
    pub system: Vec<SystemTable>,
    /// The ids of recorded training sets, for lists of what there is and for hints.
    pub training_sets: Vec<String>,
    /// Gives the record of one when a query names it, as `training_set_ID`.
    pub recall: Recall,
}

/// Gives the record of a training set by its id; none where there is none that the asker may see.
#[derive(Clone)]
pub struct Recall(pub Arc<dyn Fn(String) -> BoxFuture<'static, Result<Option<TrainingSet>>> + Send + Sync>);

impl std::fmt::Debug for Recall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recall")
    }
}

/// What a query gives: its schema at once, its rows as they come. Dropping it ends the query.
pub struct SqlAnswer {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows, in batches.
    pub rows: BoxStream<'static, Result<RecordBatch>>,
}

impl std::fmt::Debug for SqlAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlAnswer").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Engine {
    /// Runs one query that only reads.
    ///
    /// # Errors
    /// [`Error::Exhausted`] and [`Error::Timeout`] over a limit, also later from the rows;
    /// [`Error::Invalid`] where the text is no query that only reads; [`Error::NotFound`].
    pub async fn sql(&self, scope: SqlScope, text: &str, limits: SqlLimits) -> Result<SqlAnswer> {
        let deadline = Instant::now() + limits.time;
        let late = || Error::Timeout { what: "the query".to_owned(), limit: seconds(limits.time) };
        if text.len() > limits.bytes {
            // Before it is copied.
            limits::read(text, &limits).map(drop)?;
        }
        let room = self.sql_room()?;
        let seat = tokio::time::timeout_at(deadline, room.seats().acquire_owned());
        let seat = seat.await.map_err(|_| late())?.map_err(|_| Error::internal("the engine has stopped"))?;
        let (schema_sender, schema) = oneshot::channel();
        let (sender, receiver) = mpsc::channel(2);
        let (engine, text) = (self.clone(), text.to_owned());
        let task = room.spawn(async move {
            // Held until the work is over, also where nobody waits for it any more.
            let _seat = seat;
            let mut rows = match start(&engine, scope, &text, &limits).await {
                Ok((schema, rows)) => {
                    let _ = schema_sender.send(Ok(schema));
                    rows
                }
                Err(error) => {
                    let _ = schema_sender.send(Err(error));
                    return;
                }
            };
            while let Some(batch) = rows.next().await {
                let ended = batch.is_err();
                if sender.send(batch).await.is_err() || ended {
                    return;
                }
            }
        });
        let guard = EndOnDrop(task);
        let schema = match tokio::time::timeout_at(deadline, schema).await {
            Ok(Ok(schema)) => schema?,
            Ok(Err(_)) => return Err(Error::internal("the query ended by a defect")),
            Err(_) => return Err(late()),
        };
        let rows = futures::stream::unfold(Some((receiver, guard)), move |state| async move {
            let (mut receiver, guard) = state?;
            match tokio::time::timeout_at(deadline, receiver.recv()).await {
                Ok(Some(Ok(batch))) => Some((Ok(batch), Some((receiver, guard)))),
                Ok(Some(Err(error))) => Some((Err(error), None)),
                Ok(None) => None,
                Err(_) => {
                    let limit = seconds(limits.time);
                    Some((Err(Error::Timeout { what: "the query".to_owned(), limit }), None))
                }
            }
        });
        Ok(SqlAnswer { schema, rows: rows.boxed() })
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

struct EndOnDrop(AbortHandle);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The plan, with a pause in whatever makes many rows of few: a join of two batches may give billions of rows
/// without ever asking its inputs again, which is where a plan else can be ended.
fn interruptible(plan: Arc<dyn ExecutionPlan>) -> PlanResult<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|node| {
        let multiplies = node.children().len() > 1 || node.is::<UnnestExec>();
        Ok(match multiplies {
            true => Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>),
            false => Transformed::no(node),
        })
    })?;
    Ok(plan.data)
}

/// Checks, plans and starts a query, on a thread of the room.
async fn start(
    engine: &Engine,
    scope: SqlScope,
    text: &str,
    limits: &SqlLimits,
) -> Result<(SchemaRef, impl Stream<Item = Result<RecordBatch>> + use<>)> {
    let statement = limits::read(text, limits)?;
    let known = tables::names(&scope);
    let config = SessionConfig::new()
        .with_target_partitions(engine.config().threads.max(1))
        .with_information_schema(true)
        .with_default_catalog_and_schema(tables::CATALOG, scope.project.as_str())
        .with_create_default_catalog_and_schema(false);
    let mut state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(config)
        .with_runtime_env(room::environment(engine, limits)?)
        .with_analyzer_rule(Arc::new(NoWrapping))
        .with_catalog_list(tables::catalogs(engine, scope)?)
        .build();
    let statement = Statement::Statement(Box::new(statement));
    let plan = state.statement_to_plan(statement).await.map_err(|e| fault::planning(e, &known))?;
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)
        .map_err(|e| fault::planning(e, &known))?;
    if growth::calls(&plan).map_err(|e| fault::planning(e, &known))? > 0 {
        growth::small_batches(state.config_mut()).map_err(|e| fault::planning(e, &known))?;
    }
    let plan = growth::bounded_query(plan, limits.memory, engine.config().threads)
        .map_err(|e| fault::planning(e, &known))?;
    let frame = DataFrame::new(state, plan);
    let context = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await.and_then(interruptible);
    let plan = plan.map_err(|e| fault::planning(e, &known))?;
    let rows = execute_stream(plan, context).map_err(|e| fault::planning(e, &known))?;
    let schema = rows.schema();
    let limit = limits.rows;
    let mut given = 0;
    let rows = rows.map(move |batch| {
        let batch = batch.map_err(fault::running)?;
        given += batch.num_rows() as u64;
        if given > limit {
            return Err(Error::Exhausted {
                what: "the answer of a query".to_owned(),
                limit: format!("{limit} rows"),
                hint: Some("add `limit`, or aggregate".to_owned()),
            });
        }
        Ok(batch)
    });
    Ok((schema, rows))
}
