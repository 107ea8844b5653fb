//! What a case gives: rows of its sources with their times, and definitions under which they come another way.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, concat_batches, take_record_batch};
use arrow::datatypes::{DataType as ArrowType, TimestampMicrosecondType};
use asof_compute::arrow_type;
use asof_engine::Engine;
use asof_engine::source::{ScanColumns, scan};
use asof_model::{Catalog, Column, DataType, Place, SourceVersion, TimeRule};
use futures::TryStreamExt;
use tokio::runtime::Runtime;

use super::folder::{Case, TIME, table};
use crate::fixture::name;

/// The rows of a source, in the order of its file.
pub(super) struct Given {
    pub(super) source: Arc<SourceVersion>,
    /// The file's columns in their types.
    pub(super) rows: RecordBatch,
    /// As a scan gives them.
    pub(super) scanned: RecordBatch,
    pub(super) e: Vec<Option<i64>>,
    /// None of rows that are never known.
    pub(super) v: Vec<Option<i64>>,
}

/// A column of texts in another type; a cell that is none of it is an error.
pub(super) fn typed(texts: &ArrayRef, to: &ArrowType) -> ArrayRef {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(texts, to, &strict).unwrap_or_else(|error| panic!("{to}: {error}"))
}

fn file_of(source: &SourceVersion) -> &str {
    match &source.definition.place {
        Place::Files { path, .. } => path,
        other => panic!("source `{}` of a case is {other:?}: write `path: FILE.csv`", source.address.name),
    }
}

impl Given {
    /// Of every source of a case, whose definitions are in a catalog as they are written.
    pub(super) fn all(case: &Case, catalog: &Catalog, engine: &Engine, runtime: &Runtime) -> Vec<Given> {
        let sources = &catalog.projects[&name("shop")].sources;
        sources.values().map(|source| Given::of(case, source, catalog, engine, runtime)).collect()
    }

    fn of(
        case: &Case,
        source: &Arc<SourceVersion>,
        catalog: &Catalog,
        engine: &Engine,
        runtime: &Runtime,
    ) -> Given {
        let texts = table(&case.folder.join(file_of(source)));
        let zoned = |rule: &Option<TimeRule>| matches!(rule, Some(TimeRule::Column { zone: Some(_), .. }));
        let definition = &source.definition;
        let zoned = [&definition.event_time, &definition.available_at, &definition.valid_until]
            .into_iter()
            .any(zoned);
        let columns = source.columns.iter().map(|column| {
            let texts = texts.column_by_name(&column.name).unwrap();
            let data_type = match arrow_type(&column.data_type) {
                // A rule's zone is that of times which have none.
                ArrowType::Timestamp(unit, _) if zoned => ArrowType::Timestamp(unit, None),
                data_type => data_type,
            };
            (column.name.as_str(), typed(texts, &data_type), true)
        });
        let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        // Numbered, so that rows stand as in the file.
        let want = ScanColumns { all_for_digest: true, named: true, ..ScanColumns::default() };
        let scan = runtime.block_on(scan(engine, catalog, source, &want)).unwrap();
        assert_eq!(scan.plan.properties().partitioning.partition_count(), 1);
        let stream = scan.plan.execute(0, engine.session().task_ctx()).unwrap();
        let batches: Vec<RecordBatch> = runtime.block_on(stream.try_collect()).unwrap();
        let scanned = concat_batches(&scan.plan.schema(), &batches).unwrap();
        assert_eq!(scanned.num_rows(), rows.num_rows(), "{}: rows of `{}`", case.name, source.address.name);
        let times = |column: &str| -> Vec<Option<i64>> {
            scanned
                .column_by_name(column)
                .unwrap()
                .as_primitive::<TimestampMicrosecondType>()
                .iter()
                .collect()
        };
        let (e, v) = (times("__e"), times("__v"));
        Given { source: Arc::clone(source), rows, scanned, e, v }
    }

    pub(super) fn name(&self) -> &str {
        self.source.address.name.as_str()
    }

    /// The name of its file, without the ending.
    pub(super) fn file(&self) -> &str {
        file_of(&self.source).strip_suffix(".csv").unwrap_or_else(|| panic!("`{}` is no CSV", self.name()))
    }

    /// Whether rows of it may be pushed.
    pub(super) fn has_clock(&self) -> bool {
        self.source.definition.event_time.is_some()
    }

    /// Some of its rows, in this order.
    pub(super) fn take(&self, rows: &[usize]) -> RecordBatch {
        let rows: UInt32Array = rows.iter().map(|row| Some(*row as u32)).collect();
        take_record_batch(&self.rows, &rows).unwrap()
    }

    /// Writes rows as a Parquet file.
    pub(super) fn parquet(&self, rows: &RecordBatch, path: &Path) {
        let file = std::fs::File::create(path).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, rows.schema(), None).unwrap();
        writer.write(rows).unwrap();
        writer.close().unwrap();
    }
}

/// The spine's rows with every column in the type that it is asked for with: keys, what requests bring, the time; the
/// others as texts.
pub(super) fn spine(case: &Case, wanted: &[Column]) -> RecordBatch {
    let columns = case.spine.schema();
    let columns = columns.fields().iter().zip(case.spine.columns()).map(|(field, texts)| {
        let data_type = match wanted.iter().find(|column| column.name == *field.name()) {
            Some(column) => column.data_type.clone(),
            None if field.name() == TIME => DataType::Timestamp,
            None => DataType::String,
        };
        (field.name().clone(), typed(texts, &arrow_type(&data_type)), true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// The times of a spine.
pub(super) fn times(spine: &RecordBatch) -> Vec<i64> {
    spine.column_by_name(TIME).unwrap().as_primitive::<TimestampMicrosecondType>().values().to_vec()
}

/// How rows come to a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coming {
    /// As files, of this ending.
    Files(&'static str),
    /// Pushed and loaded.
    Pushed,
}

/// A case's definitions where its rows come another way; `history`: its views answer every instant online.
pub(super) fn definitions(case: &Case, given: &[Given], coming: Coming, history: bool) -> String {
    let documents = case.definitions.split("\n---\n").map(|document| {
        let mut lines: Vec<String> = Vec::new();
        let of = |line: &str, key: &str| line.strip_prefix(key).map(|it| it.trim().to_owned());
        let source = document.lines().find_map(|line| of(line, "source: "));
        let is_view = document.lines().any(|line| line.starts_with("view: "));
        let given = given.iter().find(|given| Some(given.name()) == source.as_deref() && !is_view);
        let has = |key: &str| document.lines().any(|line| line.starts_with(key));
        for line in document.lines() {
            match (of(line, "path: "), given, coming) {
                (Some(path), Some(_), Coming::Files(ending)) => {
                    let stem = path.strip_suffix(".csv").unwrap_or(&path);
                    lines.push(format!("path: {stem}.{ending}"));
                }
                (Some(_), Some(given), Coming::Pushed) if given.has_clock() => {
                    lines.push("push: true".to_owned());
                    if !has("schema: ") {
                        let columns = given.source.columns.iter();
                        let columns = columns.map(|it| format!("\"{}\": \"{}\"", it.name, it.data_type));
                        lines.push(format!("schema: {{{}}}", columns.collect::<Vec<_>>().join(", ")));
                    }
                }
                _ => lines.push(line.to_owned()),
            }
            if history && line.starts_with("view: ") {
                lines.push("history: all".to_owned());
            }
        }
        lines.join("\n")
    });
    documents.collect::<Vec<_>>().join("\n---\n")
}
