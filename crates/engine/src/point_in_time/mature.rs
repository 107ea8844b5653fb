//! Which labels are mature (SEMANTICS 3.4): those asked at a time that their source has reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt8Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use asof_compute::{Outcome, Status};
use asof_model::{Address, Catalog, Cut, Length, Place, Selection, SourceCut, SourceVersion, Timestamp};
use futures::StreamExt;
use tokio::task::JoinSet;

use crate::engine::gone;
use crate::source::{ScanColumns, fixed, last_event, open, scan_opened};
use crate::{Engine, Error, Result};

/// How far the sources of a selection's labels reach.
#[derive(Debug, Clone, Default)]
pub(super) struct Reach {
    /// Per label its length, and the greatest event time of its source, which is before all time without rows.
    labels: Vec<(Length, Timestamp)>,
    /// What was read to know it.
    pub(super) cuts: Vec<(Address, Cut)>,
}

impl Reach {
    /// Looks at the sources of all labels, as they were read in `at` where that names them; of those that rows are
    /// pushed to no further than `asked_at`.
    pub(super) async fn of(
        engine: &Engine,
        catalog: &Catalog,
        selection: &Selection,
        at: &[SourceCut],
        asked_at: Option<Timestamp>,
    ) -> Result<Reach> {
        let mut reach = Reach::default();
        let mut greatest: Vec<Timestamp> = Vec::new();
        for label in &selection.labels {
            let source = &label.reading.source;
            let known = reach.cuts.iter().position(|(address, _)| *address == source.address);
            let known = match known {
                Some(known) => known,
                None => {
                    let at = at.iter().find(|cut| cut.source == source.address).map(|cut| &cut.cut);
                    let (found, cut) = greatest_event_time(engine, catalog, source, at).await?;
                    // What is pushed goes on coming until now, though some of it is dated later.
                    let is_pushed = matches!(source.definition.place, Place::Push { .. });
                    let present = asked_at.filter(|_| is_pushed).unwrap_or(Timestamp::NEVER);
                    greatest.push(found.min(present));
                    reach.cuts.push((source.address.clone(), cut));
                    greatest.len() - 1
                }
            };
            let greatest = greatest.get(known).copied().unwrap_or(Timestamp::BEFORE_ALL);
            reach.labels.push((label.after, greatest));
        }
        Ok(reach)
    }

    /// Per label which rows of these times are not mature.
    pub(super) fn immature(&self, times: &[i64]) -> Vec<BooleanBuffer> {
        let of = |(after, greatest): &(Length, Timestamp)| {
            let late = |time: &i64| i128::from(*time) + i128::from(after.micros()) > i128::from(greatest.0);
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
    status: &UInt8Array,
    immature: &BooleanBuffer,
) -> Result<(ArrayRef, UInt8Array)> {
    let mask = BooleanArray::new(immature.clone(), None);
    let values = arrow::compute::nullif(values, &mask)?;
    let told = status.values().iter().zip(immature);
    let told = told.map(|(code, immature)| if immature { Status::NotMature.code() } else { *code });
    Ok((values, told.collect()))
}

/// What the outcomes of a label over a window are as statuses: where nothing counted, nothing was found; what is out of
/// range is present, and null.
pub(super) fn status_of_window(outcomes: &UInt8Array) -> UInt8Array {
    let status = |outcome: Option<u8>| match outcome {
        None => Status::NoKey,
        Some(code) if code == Outcome::Nothing as u8 => Status::NotFound,
        Some(_) => Status::Present,
    };
    outcomes.iter().map(|outcome| status(outcome).code()).collect()
}

/// The greatest event time of all rows of a source, and what was read: the statistics of its files, or where these
/// do not say it, its event times.
async fn greatest_event_time(
    engine: &Engine,
    catalog: &Catalog,
    source: &SourceVersion,
    at: Option<&Cut>,
) -> Result<(Timestamp, Cut)> {
    let opened = open(engine, catalog, source, at, 0).await?;
    if let Some(greatest) = last_event(engine, source, &opened)? {
        return Ok((greatest, opened.cut()));
    }
    // With addresses the scan leaves out what only winners need.
    let want = ScanColumns { address: true, ..ScanColumns::default() };
    let scan = scan_opened(engine, source, &opened, &want).await?;
    let partitions = scan.plan.properties().output_partitioning().partition_count();
    let (next, greatest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicI64::new(Timestamp::BEFORE_ALL.0)));
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
    Ok((Timestamp(greatest.load(Ordering::Relaxed)), scan.identity.clone()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use arrow::array::{
        Date32Array, Int32Array, Int64Array, StringArray, TimestampMillisecondArray,
        TimestampNanosecondArray, UInt32Array,
    };
    use asof_model::{
        About, Column, DataType, Format, Name, NullKeys, Place, ProjectState, Source, TimeRule, TimeUnit,
        VersionId,
    };
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::{EnabledStatistics, WriterProperties};

    use super::*;
    use crate::EngineConfig;

    const SECOND: i64 = 1_000_000;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    /// Row groups of two rows.
    fn write(path: &Path, at: ArrayRef, statistics: EnabledStatistics) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let rows = RecordBatch::try_from_iter_with_nullable([("at", at, true)]).unwrap();
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(2))
            .set_statistics_enabled(statistics)
            .build();
        let file = std::fs::File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
    }

    /// What statistics say, and what is found in the end; or the code of the error.
    fn greatest(
        folder: &Path,
        kind: &str,
        unit: Option<TimeUnit>,
    ) -> (Option<Timestamp>, Result<Timestamp, &'static str>) {
        let config = EngineConfig {
            data_dir: folder.join(".asof"),
            memory: 1 << 28,
            threads: 2,
            code_version: "test".to_owned(),
        };
        let engine = Engine::new(config).unwrap();
        let place = Place::Files {
            path: "data/**/*.parquet".to_owned(),
            format: Format::Parquet,
            options: BTreeMap::new(),
        };
        let source = SourceVersion {
            address: Address { project: name("shop"), name: name("orders") },
            id: VersionId("0".repeat(32)),
            definition: Source {
                name: name("orders"),
                place,
                store: false,
                event_time: Some(TimeRule::Column { name: "at".to_owned(), unit, zone: None }),
                available_at: None,
                valid_until: None,
                id: None,
                order_by: None,
                delete_when: None,
                null_keys: NullKeys::Keep,
                schema: Vec::new(),
                about: About::default(),
            },
            columns: vec![Column { name: "at".to_owned(), data_type: DataType::parse(kind).unwrap() }],
        };
        let mut catalog = Catalog::default();
        let state = ProjectState { root: folder.to_owned(), ..ProjectState::default() };
        catalog.projects.insert(name("shop"), Arc::new(state));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let opened = open(&engine, &catalog, &source, None, 0).await.unwrap();
            let said = last_event(&engine, &source, &opened).unwrap();
            let found = greatest_event_time(&engine, &catalog, &source, None).await;
            (said, found.map(|(found, _)| found).map_err(|error| asof_model::Explain::code(&error)))
        })
    }

    /// Some of each type, the greatest of them second.
    #[test]
    fn statistics_say_the_greatest_event_time_where_they_are_exact() {
        let millis = TimestampMillisecondArray::from(vec![1_000, 7_001, 3_000]);
        let nanos = TimestampNanosecondArray::from(vec![-1, 7_000_001_999, 3]).with_timezone("UTC");
        let texts = StringArray::from(vec!["1970-01-01T00:00:01Z", "1970-01-01T02:00:07+02:00"]);
        let seconds = Some(TimeUnit::S);
        for (kind, unit, at, expected, is_said) in [
            ("timestamp", None, Arc::new(millis.clone()) as ArrayRef, 7_001_000, true),
            ("timestamp", None, Arc::new(nanos), 7_000_001, true),
            ("int64", seconds, Arc::new(Int64Array::from(vec![1, 7, -3])), 7 * SECOND, true),
            ("int32", seconds, Arc::new(Int32Array::from(vec![-1, -2, -3])), -SECOND, true),
            ("date", None, Arc::new(Date32Array::from(vec![1, 2, 0])), 2 * 86_400 * SECOND, true),
            (
                "uint32",
                seconds,
                Arc::new(UInt32Array::from(vec![1, u32::MAX, 3])),
                4_294_967_295 * SECOND,
                false,
            ),
            ("string", None, Arc::new(texts), 7 * SECOND, false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("data/a.parquet");
            write(&file, Arc::clone(&at), EnabledStatistics::Chunk);
            let expected = Timestamp(expected);
            assert_eq!(
                greatest(folder.path(), kind, unit),
                (is_said.then_some(expected), Ok(expected)),
                "{kind}"
            );
            // One file without statistics, and all are read.
            write(&folder.path().join("data/b.parquet"), at.slice(0, 1), EnabledStatistics::None);
            assert_eq!(greatest(folder.path(), kind, unit), (None, Ok(expected)), "{kind}");
        }
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("data/a.parquet"), Arc::new(millis.slice(0, 0)), EnabledStatistics::Chunk);
        let none = Timestamp::BEFORE_ALL;
        assert_eq!(greatest(folder.path(), "timestamp", None), (Some(none), Ok(none)));
    }

    #[test]
    fn what_statistics_leave_out_is_read() {
        let at = TimestampMillisecondArray::from(vec![Some(1_000), Some(2_000), None]);
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("data/a.parquet"), Arc::new(at.clone()), EnabledStatistics::Chunk);
        // A row without a time is refused, as the label's own reading does.
        let (said, found) = greatest(folder.path(), "timestamp", None);
        assert_eq!((said, found), (None, Err("bad_row")));
        // The name of the folder is the column, whatever stands in the file.
        let folder = tempfile::tempdir().unwrap();
        write(
            &folder.path().join("data/at=2024-01-05/a.parquet"),
            Arc::new(at.slice(0, 2)),
            EnabledStatistics::Chunk,
        );
        let midnight = Timestamp::parse("2024-01-05T00:00:00Z").unwrap();
        assert_eq!(greatest(folder.path(), "string", None), (None, Ok(midnight)));
    }
}
