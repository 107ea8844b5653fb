//! A project folder with real files, an engine over it, and sources as an apply would have made them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use asof_engine::source::{FetchRows, ScanColumns, SourceScan, scan};
use asof_engine::{Engine, EngineConfig, Error};
use asof_model::{
    About, Address, Catalog, Column, DataType, Expression, Format, Name, NullKeys, Place, ProjectState,
    Source, SourceVersion, TimeRule, VersionId,
};
use futures::TryStreamExt;

pub(crate) struct Folder {
    pub dir: tempfile::TempDir,
    pub engine: Engine,
    pub runtime: tokio::runtime::Runtime,
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn columns(all: &[(&str, &str)]) -> Vec<Column> {
    all.iter()
        .map(|(name, kind)| Column { name: (*name).to_owned(), data_type: DataType::parse(kind).unwrap() })
        .collect()
}

pub(crate) fn at(column: &str) -> Option<TimeRule> {
    Some(TimeRule::Column { name: column.to_owned(), unit: None, zone: None })
}

pub(crate) fn expression(text: &str) -> Expression {
    Expression { text: text.to_owned() }
}

/// A source of Parquet files without any rule.
pub(crate) fn files(called: &str, path: &str, format: Format) -> Source {
    Source {
        name: name(called),
        place: Place::Files { path: path.to_owned(), format, options: BTreeMap::new() },
        store: false,
        event_time: None,
        available_at: None,
        valid_until: None,
        id: None,
        order_by: None,
        delete_when: None,
        null_keys: NullKeys::Keep,
        schema: Vec::new(),
        about: About::default(),
    }
}

pub(crate) fn version(definition: Source, columns: Vec<Column>) -> SourceVersion {
    SourceVersion {
        address: Address { project: name("shop"), name: definition.name.clone() },
        id: VersionId("0".repeat(32)),
        definition,
        columns,
    }
}

/// The version that stands, for a load: this one, throughout.
pub(crate) fn standing(source: &SourceVersion) -> asof_engine::delta::Standing {
    let source = Arc::new(source.clone());
    Arc::new(move || Some(Arc::clone(&source)))
}

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder::with_memory(256 << 20)
    }

    /// With an engine that is told it may take so many bytes.
    pub(crate) fn with_memory(memory: u64) -> Folder {
        Folder::with(memory, 2)
    }

    /// The same, with so many threads.
    pub(crate) fn with(memory: u64, threads: usize) -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::new(EngineConfig {
            data_dir: dir.path().join(".asof"),
            memory,
            threads,
            code_version: "test".to_owned(),
        })
        .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Folder { dir, engine, runtime }
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let whole = self.root().join(path);
        std::fs::create_dir_all(whole.parent().unwrap()).unwrap();
        std::fs::write(whole, content).unwrap();
    }

    /// Writes batches as one Parquet file with row groups of at most so many rows.
    pub(crate) fn parquet(&self, path: &str, group: usize, batches: &[RecordBatch]) {
        let whole = self.root().join(path);
        std::fs::create_dir_all(whole.parent().unwrap()).unwrap();
        let file = std::fs::File::create(whole).unwrap();
        let properties = parquet::file::properties::WriterProperties::builder()
            .set_max_row_group_row_count(Some(group))
            .build();
        let mut writer =
            parquet::arrow::ArrowWriter::try_new(file, batches[0].schema(), Some(properties)).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
        }
        writer.close().unwrap();
    }

    pub(crate) fn catalog(&self, sources: &[SourceVersion]) -> Catalog {
        let mut state = ProjectState { root: self.root().to_owned(), ..ProjectState::default() };
        for source in sources {
            state.sources.insert(source.address.name.clone(), Arc::new(source.clone()));
        }
        let mut catalog = Catalog::default();
        catalog.projects.insert(name("shop"), Arc::new(state));
        catalog
    }

    pub(crate) fn scan(&self, source: &SourceVersion, want: &ScanColumns) -> Result<SourceScan, Error> {
        let catalog = self.catalog(std::slice::from_ref(source));
        self.runtime.block_on(scan(&self.engine, &catalog, source, want))
    }

    /// All rows of a scan.
    pub(crate) fn rows(&self, source: &SourceVersion, want: &ScanColumns) -> Result<RecordBatch, Error> {
        let scan = self.scan(source, want)?;
        self.collect(&scan)
    }

    pub(crate) fn collect(&self, scan: &SourceScan) -> Result<RecordBatch, Error> {
        let batches = self.partitions(scan)?.concat();
        Ok(arrow::compute::concat_batches(&scan.plan.schema(), &batches).unwrap())
    }

    /// The batches of each partition.
    pub(crate) fn partitions(&self, scan: &SourceScan) -> Result<Vec<Vec<RecordBatch>>, Error> {
        let context = self.engine.session().task_ctx();
        let read = |partition| {
            let stream = scan.plan.execute(partition, Arc::clone(&context))?;
            Ok(self.runtime.block_on(stream.try_collect())?)
        };
        (0..scan.plan.properties().partitioning.partition_count()).map(read).collect()
    }
}

/// Rows by their addresses.
pub(crate) fn fetched(
    fetch: &dyn FetchRows,
    addresses: &[u64],
    columns: &[String],
) -> Result<Vec<RecordBatch>, Error> {
    let mut batches = Vec::new();
    fetch.fetch(addresses, columns, &mut |batch| {
        batches.push(batch);
        Ok(())
    })?;
    Ok(batches)
}

/// Every column of a source.
pub(crate) fn all() -> ScanColumns {
    ScanColumns { all_for_digest: true, ..ScanColumns::default() }
}

/// A batch as a table of text, one line a row, the fixed columns first.
pub(crate) fn table(batch: &RecordBatch) -> String {
    arrow::util::pretty::pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string()
}

/// An error as people see it.
pub(crate) fn said(error: &Error) -> String {
    use asof_model::Explain;
    let hint = error.hint().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
    format!("{} [{}] {error}{hint}", error.kind(), error.code())
}
