//! The first rows of a view, for people to look at.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{and, filter_record_batch, not};
use arrow::datatypes::{Field, Schema, SchemaRef};
use asof_compute::arrow_type;
use asof_model::{Catalog, SourceVersion, ViewVersion};
use futures::StreamExt;

use crate::expression::{Bound, EVENT_TIME, Purpose, compile};
use crate::source::columns::field;
use crate::source::instants::instant_type;
use crate::source::{ScanColumns, convert, fixed, scan};
use crate::{Engine, Error, Result};

impl Engine {
    /// The first rows of a view, in no stated order: its keys, `event_time`, its features. Deletes and
    /// rows that its `where` leaves out are not among them.
    ///
    /// # Errors
    /// As reading its source.
    pub async fn sample(&self, catalog: &Catalog, view: &ViewVersion, rows: usize) -> Result<RecordBatch> {
        let source = catalog.source(&view.source).cloned().ok_or_else(|| Error::NotFound {
            what: "source",
            name: view.source.to_string(),
            hint: None,
        })?;
        let (engine, catalog, view) = (self.clone(), catalog.clone(), view.clone());
        self.run(async move {
            let want = ScanColumns { all_for_digest: true, ..ScanColumns::default() };
            let scan = scan(&engine, &catalog, &source, &want).await?;
            let sample = Sample::new(&engine, &view, &source, &scan.plan.schema())?;
            let context = engine.session().task_ctx();
            let mut batches = Vec::new();
            let mut left = rows;
            for partition in 0..scan.plan.properties().partitioning.partition_count() {
                let mut stream = scan.plan.execute(partition, Arc::clone(&context))?;
                while left > 0
                    && let Some(batch) = stream.next().await
                {
                    let batch = sample.of(&batch?)?;
                    let some = batch.slice(0, left.min(batch.num_rows()));
                    left -= some.num_rows();
                    batches.push(some);
                }
            }
            Ok(arrow::compute::concat_batches(&sample.schema, &batches)?)
        })
        .await
    }
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
