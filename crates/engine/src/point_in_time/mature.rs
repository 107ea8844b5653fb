//! Which labels are mature (SEMANTICS 3.4): those asked at a time that their source has reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use asof_compute::Status;
use asof_model::{Address, Catalog, Cut, Length, Selection, SourceCut, SourceVersion, Timestamp};
use futures::StreamExt;
use tokio::task::JoinSet;

use crate::engine::gone;
use crate::source::{ScanColumns, fixed, open, scan_opened};
use crate::{Engine, Error, Result};

/// How far the sources of a selection's labels reach.
#[derive(Debug, Clone, Default)]
pub(super) struct Reach {
    /// Per label its length, and the greatest event time of its source; none without rows.
    labels: Vec<(Length, Option<Timestamp>)>,
    /// What was read to know it.
    pub(super) cuts: Vec<(Address, Cut)>,
}

impl Reach {
    /// Looks at the sources of all labels, as they were read in `at` where that names them.
    pub(super) async fn of(
        engine: &Engine,
        catalog: &Catalog,
        selection: &Selection,
        at: &[SourceCut],
    ) -> Result<Reach> {
        let mut reach = Reach::default();
        let mut greatest: Vec<Option<Timestamp>> = Vec::new();
        for label in &selection.labels {
            let source = &label.reading.source;
            let known = reach.cuts.iter().position(|(address, _)| *address == source.address);
            let known = match known {
                Some(known) => known,
                None => {
                    let at = at.iter().find(|cut| cut.source == source.address).map(|cut| &cut.cut);
                    let (found, cut) = greatest_event_time(engine, catalog, source, at).await?;
                    greatest.push(found);
                    reach.cuts.push((source.address.clone(), cut));
                    greatest.len() - 1
                }
            };
            reach.labels.push((label.after, greatest.get(known).copied().flatten()));
        }
        Ok(reach)
    }

    /// Per label which rows of these times are not mature.
    pub(super) fn immature(&self, times: &[i64]) -> Vec<BooleanBuffer> {
        let of = |(after, greatest): &(Length, Option<Timestamp>)| {
            let late = |time: &i64| {
                greatest.is_none_or(|greatest| {
                    i128::from(*time) + i128::from(after.micros()) > i128::from(greatest.0)
                })
            };
            times.iter().map(late).collect()
        };
        self.labels.iter().map(of).collect()
    }
}

/// The rows of which every label is mature.
pub(super) fn kept(immature: &[BooleanBuffer], rows: usize) -> BooleanArray {
    let none = BooleanBuffer::new_unset(rows);
    let dropped = immature.iter().fold(none, |all, one| &all | one);
    BooleanArray::new(!&dropped, None)
}

/// The rows of a spine that are kept.
pub(crate) fn kept_rows(batches: &[RecordBatch], keep: &BooleanArray) -> Result<Vec<RecordBatch>> {
    let mut before = 0;
    let kept = batches.iter().map(|batch| {
        let own = keep.slice(before, batch.num_rows());
        before += batch.num_rows();
        Ok(filter_record_batch(batch, &own)?)
    });
    kept.collect()
}

/// A label's values without those that are not mature, and its statuses with them.
pub(super) fn masked(
    values: &ArrayRef,
    status: &ArrayRef,
    immature: &BooleanBuffer,
) -> Result<(ArrayRef, arrow::array::UInt8Array)> {
    let mask = BooleanArray::new(immature.clone(), None);
    let values = arrow::compute::nullif(values, &mask)?;
    let codes = status.as_primitive::<arrow::datatypes::UInt8Type>().values();
    let told = codes.iter().zip(immature).map(
        |(code, immature)| {
            if immature { Status::NotMature.code() } else { *code }
        },
    );
    Ok((values, told.collect()))
}

/// The greatest event time of all rows of a source, and what was read: its event times alone.
async fn greatest_event_time(
    engine: &Engine,
    catalog: &Catalog,
    source: &SourceVersion,
    at: Option<&Cut>,
) -> Result<(Option<Timestamp>, Cut)> {
    let opened = open(engine, catalog, source, at, 0).await?;
    // With addresses the scan leaves out what only winners need.
    let want = ScanColumns { address: true, ..ScanColumns::default() };
    let scan = scan_opened(engine, source, &opened, &want).await?;
    let partitions = scan.plan.properties().output_partitioning().partition_count();
    let (next, greatest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicI64::new(i64::MIN)));
    let mut tasks = JoinSet::new();
    for _ in 0..engine.config().threads.clamp(1, partitions.max(1)) {
        let (plan, context) = (Arc::clone(&scan.plan), engine.session().task_ctx());
        let (next, greatest) = (Arc::clone(&next), Arc::clone(&greatest));
        tasks.spawn(async move {
            loop {
                let partition = next.fetch_add(1, Ordering::Relaxed);
                if partition >= partitions {
                    return Ok::<_, Error>(());
                }
                let mut batches = plan.execute(partition, Arc::clone(&context))?;
                while let Some(batch) = batches.next().await.transpose()? {
                    let times = batch
                        .column_by_name(fixed::EVENT_TIME)
                        .ok_or_else(|| Error::internal("a scan gives no event time"))?;
                    let times = times.as_primitive::<TimestampMicrosecondType>();
                    if let Some(found) = arrow::compute::max(times) {
                        greatest.fetch_max(found, Ordering::Relaxed);
                    }
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|ended| gone(&ended))??;
    }
    let scan = engine.blocking(move || scan.verify().map(|()| scan)).await?;
    let greatest = greatest.load(Ordering::Relaxed);
    Ok(((greatest != i64::MIN).then_some(Timestamp(greatest)), scan.identity.clone()))
}
