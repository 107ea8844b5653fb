//! Reading a stored source: its rows with `s <= S`, in the source's own types.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use asof_compute::Position;
use asof_model::SourceVersion;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::SessionState;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use deltalake_core::DeltaTable;

use super::stored::Layout;
use super::superseded;
use super::table::{self, broken};
use crate::{Engine, Error, Result};

/// A data file of a stored source, for readers that go to the file themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredFile {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// The least position of its rows, where the log says it.
    pub(crate) first: Option<i64>,
    /// The greatest position of its rows, where the log says it.
    pub(crate) last: Option<i64>,
}

/// The last position of a stored source; none where nothing was loaded.
pub(crate) async fn position(engine: &Engine, source: &SourceVersion) -> Result<Option<i64>> {
    let layout = Layout::of(&engine.config().data_dir, source)?;
    match table::open(engine.files(), &layout.folder).await? {
        Some(table) => Ok(Some(layout.last_position(&table).await?).filter(|last| *last > 0)),
        None => Ok(None),
    }
}

/// The data files of a stored source's table.
#[derive(Debug, Default)]
pub(crate) struct StoredFiles {
    /// In the order of their names.
    pub(crate) files: Vec<StoredFile>,
    /// The last position.
    pub(crate) last: Option<i64>,
    /// The version of the table.
    pub(crate) version: u64,
    /// Where the table beside it has everything that is known of its rows: the position which that stood at.
    pub(crate) covered: Option<Position>,
}

/// The data files of a stored source.
///
/// # Errors
/// [`Error::Io`], [`Error::Internal`] and [`Error::Invalid`] where the table cannot be read.
pub(crate) async fn stored_files(engine: &Engine, source: &SourceVersion) -> Result<StoredFiles> {
    let layout = Layout::of(&engine.config().data_dir, source)?;
    let Some(table) = table::open(engine.files(), &layout.folder).await? else {
        return Ok(StoredFiles { covered: Some(Position(0)), ..StoredFiles::default() });
    };
    layout.check(&table)?;
    let state = table.snapshot().map_err(|e| broken("read the table", &layout.folder, e))?;
    let mut files: Vec<StoredFile> = state
        .log_data()
        .iter()
        .map(|file| {
            let (first, last) = file.stats().map(|it| span(&it, &layout.seq)).unwrap_or_default();
            StoredFile { path: layout.folder.join(file.path().as_ref()), first, last }
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let last = Some(layout.last_position(&table).await?).filter(|last| *last > 0);
    let covered = superseded::covered(&layout, &table, Position(last.unwrap_or(0))).await?;
    Ok(StoredFiles { files, last, version: table.version().unwrap_or(0), covered })
}

/// The least and the greatest number of a column, as the statistics of a file say them.
pub(super) fn span(statistics: &str, column: &str) -> (Option<i64>, Option<i64>) {
    let statistics: serde_json::Value = serde_json::from_str(statistics).unwrap_or_default();
    let of = |which: &str| statistics.get(which)?.get(column)?.as_i64();
    (of("minValues"), of("maxValues"))
}

/// Refuses where what is there now ends before what was read then.
pub(crate) fn reaches(source: &SourceVersion, last: Option<i64>, cut: Option<i64>) -> Result<()> {
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

/// The table at its loaded version, for DataFusion; only these data files of it, where they are named.
pub(crate) async fn provider(
    table: &DeltaTable,
    state: &SessionState,
    only: Option<&BTreeSet<String>>,
) -> Result<Arc<dyn TableProvider>> {
    let mut builder = table.table_provider().with_session(Arc::new(state.clone()));
    if let Some(files) = only {
        builder = builder.with_file_paths(files.iter().map(String::as_str));
    }
    Ok(builder.await?)
}

/// The plan with its data files in the order of their names; a log lists them in another order once a
/// checkpoint stands in it. A table of up to 65,535 files is one partition then, and its rows come in one
/// order.
pub(crate) fn in_order(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let sorted = plan.transform_up(|node| {
        let config = node
            .downcast_ref::<DataSourceExec>()
            .and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>());
        let Some(config) = config else { return Ok(Transformed::no(node)) };
        // Statistics are those of the groups as they were; sizes of groups stay, too.
        let sizes: Vec<usize> = config.file_groups.iter().map(FileGroup::len).collect();
        let mut files: Vec<_> = config.file_groups.iter().flat_map(|group| group.iter().cloned()).collect();
        files.sort_by(|a, b| a.object_meta.location.cmp(&b.object_meta.location));
        let mut files = files.into_iter();
        let groups = sizes.into_iter().map(|size| files.by_ref().take(size).collect::<FileGroup>());
        let config = FileScanConfigBuilder::from(config.clone()).with_file_groups(groups.collect()).build();
        Ok(Transformed::yes(DataSourceExec::from_data_source(config) as Arc<dyn ExecutionPlan>))
    });
    Ok(sorted?.data)
}
