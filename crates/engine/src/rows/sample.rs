//! Some rows of a view or a source, for people to look at.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{and, concat_batches, filter_record_batch, not};
use arrow::datatypes::{Field, Schema, SchemaRef};
use asof_compute::arrow_type;
use asof_model::{Catalog, SourceVersion, ViewVersion};
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use tokio::time::Instant;

use crate::expression::{Bound, EVENT_TIME, Purpose, compile};
use crate::source::columns::field;
use crate::source::instants::instant_type;
use crate::source::{ScanColumns, convert, fixed, scan};
use crate::{Engine, Error, Result};

/// Rows to look at.
#[derive(Debug, Clone)]
pub struct Sampled {
    /// The rows.
    pub rows: RecordBatch,
    /// The time was up before as many were found as were asked for.
    pub cut_short: bool,
}

impl Engine {
    /// The first rows of a view, in no stated order: its keys, `event_time`, its features. Deletes and
    /// rows that its `where` leaves out are not among them. What is found `within` that time is given.
    ///
    /// # Errors
    /// As reading its source; [`Error::Invalid`] of a view over windows; [`Error::Timeout`] where it could not even be opened in time.
    pub async fn sample(
        &self,
        catalog: &Catalog,
        view: &ViewVersion,
        rows: usize,
        within: Duration,
    ) -> Result<Sampled> {
        let source = Arc::clone(catalog.source_of(view)?);
        has_rows(view)?;
        let (engine, catalog, view) = (self.clone(), catalog.clone(), view.clone());
        let what = format!("opening source `{}`", source.address.name);
        let deadline = Instant::now() + within;
        self.run(async move {
            let want = ScanColumns { all_for_digest: true, ..ScanColumns::default() };
            let opening = scan(&engine, &catalog, &source, &want);
            let scan = in_time(deadline, within, what, opening).await?;
            let sample = Sample::new(&engine, &view, &source, &scan.plan.schema())?;
            let schema = Arc::clone(&sample.schema);
            first(&engine, &scan.plan, &schema, rows, deadline, |batch| sample.of(batch)).await
        })
        .await
    }

    /// The first rows of a source, in no stated order: all its columns, deletes too. What is found
    /// `within` that time is given.
    ///
    /// # Errors
    /// As [`Engine::sample`].
    pub async fn sample_source(
        &self,
        catalog: &Catalog,
        source: &SourceVersion,
        rows: usize,
        within: Duration,
    ) -> Result<Sampled> {
        catalog.still_reads(source)?;
        let (engine, catalog, source) = (self.clone(), catalog.clone(), source.clone());
        let what = format!("opening source `{}`", source.address.name);
        let deadline = Instant::now() + within;
        self.run(async move {
            let want = ScanColumns { all_for_digest: true, ..ScanColumns::default() };
            let opening = scan(&engine, &catalog, &source, &want);
            let scan = in_time(deadline, within, what, opening).await?;
            let whole = scan.plan.schema();
            let own: Vec<usize> = (fixed::ALL.len()..whole.fields().len()).collect();
            let schema = Arc::new(whole.project(&own)?);
            first(&engine, &scan.plan, &schema, rows, deadline, |batch| Ok(batch.project(&own)?)).await
        })
        .await
    }
}

/// Refuses a view over windows, which has none to list.
///
/// # Errors
/// [`Error::Invalid`] with code `view_of_windows`.
pub(crate) fn has_rows(view: &ViewVersion) -> Result<()> {
    if !view.definition.is_window() {
        return Ok(());
    }
    let (name, source) = (&view.address.name, &view.source.name);
    let message =
        format!("view `{name}` is over windows: it has values of an entity at a time, and no rows to list");
    let hint = format!(
        "`asof get --features '{name}.*' KEY=VALUE` gives them as of now, `asof train` as of any time; the rows behind them are those of source `{source}`"
    );
    Err(Error::invalid("view_of_windows", message).with_hint(hint))
}

/// What is done by the deadline.
async fn in_time<T>(
    deadline: Instant,
    within: Duration,
    what: String,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout_at(deadline, work).await {
        Ok(done) => done,
        Err(_) => Err(Error::Timeout { what, limit: format!("{} s", within.as_secs_f64()) }),
    }
}

/// The first rows that a plan gives, each batch made into rows of `schema`.
async fn first(
    engine: &Engine,
    plan: &Arc<dyn ExecutionPlan>,
    schema: &SchemaRef,
    rows: usize,
    deadline: Instant,
    made: impl Fn(&RecordBatch) -> Result<RecordBatch>,
) -> Result<Sampled> {
    let context = engine.session().task_ctx();
    let (mut batches, mut left, mut cut_short) = (Vec::new(), rows, false);
    'plan: for partition in 0..plan.properties().partitioning.partition_count() {
        if left == 0 {
            break;
        }
        let mut stream = plan.execute(partition, Arc::clone(&context))?;
        loop {
            // A stream that is always ready would never be asked for the time.
            if Instant::now() >= deadline {
                cut_short = true;
                break 'plan;
            }
            let Ok(next) = tokio::time::timeout_at(deadline, stream.next()).await else {
                cut_short = true;
                break 'plan;
            };
            let Some(batch) = next else { break };
            let batch = made(&batch?)?;
            let some = batch.slice(0, left.min(batch.num_rows()));
            left -= some.num_rows();
            batches.push(some);
            if left == 0 {
                break 'plan;
            }
        }
    }
    Ok(Sampled { rows: concat_batches(schema, &batches)?, cut_short })
}

struct Sample {
    keys: Vec<(String, asof_model::DataType)>,
    filter: Option<Bound>,
    features: Vec<Bound>,
    schema: SchemaRef,
}

impl Sample {
    fn new(
        engine: &Engine,
        view: &ViewVersion,
        source: &SourceVersion,
        scanned: &SchemaRef,
    ) -> Result<Sample> {
        let clock = source.definition.event_time.is_some();
        let bound = |what: &str, text: &str, purpose: Purpose| -> Result<Bound> {
            compile(engine, text, &source.columns, clock, purpose)
                .map_err(|problem| Error::Invalid {
                    code: problem.code,
                    message: format!("{what} of view `{}`: {}", view.address.name, problem.message),
                    hint: problem.hint,
                })?
                .bind(scanned)
        };
        let filter = view.filter().map(|it| bound("where", &it.text, Purpose::Condition)).transpose()?;
        let mut keys = Vec::new();
        let mut fields = Vec::new();
        for key in &view.keys {
            keys.push((key.column.clone(), key.key.data_type.clone()));
            fields.push(field(key.key.name.as_str(), &key.key.data_type));
        }
        fields.push(Field::new(EVENT_TIME, instant_type(), true));
        let mut features = Vec::new();
        for it in &view.features {
            let name = it.feature.name.as_str();
            features.push(bound(
                &format!("feature `{name}`"),
                &it.feature.expression.text,
                Purpose::Feature,
            )?);
            fields.push(Field::new(name, arrow_type(&it.data_type), true));
        }
        Ok(Sample { keys, filter, features, schema: Arc::new(Schema::new(fields)) })
    }

    fn of(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let column = |batch: &RecordBatch, name: &str| -> Result<ArrayRef> {
            let found = batch.column_by_name(name).cloned();
            found.ok_or_else(|| Error::internal(format!("a scan lost `{name}`")))
        };
        let mut kept = not(column(batch, fixed::OP)?.as_boolean())?;
        if let Some(filter) = &self.filter {
            let met = filter.evaluate(batch)?;
            let met = met.as_boolean();
            let met = match met.nulls() {
                Some(nulls) => BooleanArray::new(met.values() & nulls.inner(), None),
                None => met.clone(),
            };
            kept = and(&kept, &met)?;
        }
        let rows = filter_record_batch(batch, &kept)?;
        let mut out = Vec::with_capacity(self.schema.fields().len());
        for (name, kind) in &self.keys {
            let key = convert(&column(&rows, name)?, kind);
            out.push(
                key.map_err(|bad| Error::invalid("key_type", format!("key column `{name}` {}", bad.reason)))?,
            );
        }
        out.push(column(&rows, fixed::EVENT_TIME)?);
        for feature in &self.features {
            out.push(feature.evaluate(&rows)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), out)?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use datafusion::datasource::memory::MemorySourceConfig;

    use super::*;
    use crate::EngineConfig;

    #[tokio::test]
    async fn opening_ends_in_time() {
        let never = std::future::pending::<Result<()>>();
        let what = "opening source `events`".to_owned();
        let ended = in_time(Instant::now(), Duration::ZERO, what, never).await.unwrap_err();
        assert!(matches!(ended, Error::Timeout { .. }), "{ended}");
        assert_eq!(ended.to_string(), "opening source `events` took longer than 0 s");
    }

    /// A stream that always has a batch ready is asked for the time before each.
    #[tokio::test]
    async fn reading_ends_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::new(EngineConfig {
            data_dir: folder.path().to_owned(),
            memory: 1 << 28,
            threads: 1,
            code_version: "test".to_owned(),
        })
        .unwrap();
        let batch =
            RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]).unwrap();
        let schema = batch.schema();
        let batches = vec![vec![batch.clone(); 3]];
        let plan: Arc<dyn ExecutionPlan> =
            MemorySourceConfig::try_new_exec(&batches, Arc::clone(&schema), None).unwrap();
        let later = Instant::now() + Duration::from_secs(3_600);
        for (deadline, rows, found) in
            [(later, 10, (6, false)), (later, 3, (3, false)), (Instant::now(), 10, (0, true))]
        {
            let same = |batch: &RecordBatch| Ok(batch.clone());
            let sampled = first(&engine, &plan, &schema, rows, deadline, same).await.unwrap();
            assert_eq!((sampled.rows.num_rows(), sampled.cut_short), found);
        }
    }
}
