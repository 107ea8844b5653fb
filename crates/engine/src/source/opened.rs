//! A source opened: one snapshot of its rows, that plans are made over.
//!
//! Files are opened once and held. A stored source is the data files of its table at one version, up to
//! one position. A Delta table is read at one version. A query is planned over sources that are opened
//! all at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use asof_compute::Position;
use asof_model::{
    Catalog, Column, Cut, FileIdentity, Format, Past, PastCut, Place, SourceCut, SourceVersion, Timestamp,
    VisibleTimes,
};
use datafusion::physical_plan::ExecutionPlan;

use super::ScanColumns;
use super::exec::{FilesExec, RulesExec};
use super::files::{self, OpenFile};
use super::find::{Found, find};
use super::options::Options;
use super::query::Query;
use super::rules::{FileRules, Given, Rules, StoredColumns};
use crate::delta::{Foreign, Known, Layout, StoredFiles, Tailed, in_order, reaches, stored_files, tail_file};
use crate::{Engine, Error, Result};

/// One snapshot of a source.
#[derive(Debug, Clone)]
pub(crate) enum Opened {
    Files(Arc<Vec<OpenFile>>),
    Stored {
        files: Arc<Vec<OpenFile>>,
        columns: StoredColumns,
        version: u64,
        rows: Option<u64>,
        past: Option<OpenedPast>,
        /// Of a source with ids, which rows are superseded, where that is known without reading them.
        superseded: Option<Arc<Known>>,
    },
    Delta {
        table: Arc<Foreign>,
        path: String,
    },
    Query(Arc<Query>),
}

/// The past of a push source, of which the last files are.
#[derive(Debug, Clone)]
pub(crate) struct OpenedPast {
    cut: PastCut,
    /// Rows of this event time and later do not count.
    until: Option<Timestamp>,
}

/// How deep sources with `sql` may stand on each other.
const DEEPEST: usize = 16;

/// Opens a source; with `at`, as it was at that cut.
pub(crate) fn open<'a>(
    engine: &'a Engine,
    catalog: &'a Catalog,
    source: &'a SourceVersion,
    at: Option<&'a Cut>,
    depth: usize,
) -> futures::future::BoxFuture<'a, Result<Opened>> {
    Box::pin(async move {
        let name = &source.address.name;
        if depth > DEEPEST {
            return Err(Error::invalid(
                "source_cycle",
                format!("source `{name}` reads itself through its `sql`"),
            )
            .with_hint("let each source with `sql` read only sources that do not read it"));
        }
        let root = root(catalog, source)?;
        if source.definition.is_stored() {
            return stored(engine, Some(&root), source, at, None).await;
        }
        if let Place::Files { path, .. } = &source.definition.place {
            there(&root, path)?;
        }
        match &source.definition.place {
            Place::Files { path, format: Format::Delta, .. } => {
                let version = match at {
                    Some(Cut::Delta { version, .. }) => Some(*version),
                    _ => None,
                };
                let table = foreign(&root, path, version).await?;
                if let Some(Cut::Delta { table_id, .. }) = at
                    && *table_id != table.table_id
                {
                    return Err(Error::Changed {
                        what: "Delta table",
                        name: path.clone(),
                        change: "is another table now: it was removed and made again".to_owned(),
                    });
                }
                Ok(Opened::Delta { table: Arc::new(table), path: path.clone() })
            }
            Place::Files { path, format, options } => {
                let (path, format, options) = (path.clone(), *format, options.clone());
                let at = match at {
                    Some(Cut::Files(files)) => Some(files.clone()),
                    _ => None,
                };
                let files = engine.blocking(move || {
                    let opened = files::open(&root, &path, format, &options)?;
                    match at {
                        Some(at) => as_recorded(opened, &at),
                        None => Ok(opened),
                    }
                });
                Ok(Opened::Files(Arc::new(files.await?)))
            }
            Place::Push { .. } => Err(Error::internal("what is pushed is stored")),
            Place::Sql { text } => {
                let query = Query::open(engine, catalog, source, text, at, depth).await?;
                Ok(Opened::Query(Arc::new(query)))
            }
        }
    })
}

/// A Delta table that others write.
async fn foreign(root: &Path, path: &str, version: Option<u64>) -> Result<Foreign> {
    let opened = Foreign::open(&root.join(path), version).await;
    opened.map_err(|error| match error.without(root) {
        // A log that cannot be read is the table's owner's to mend, and no defect of ours.
        // Its reader's words go on with where in its code it stood.
        Error::Internal { what, .. } => {
            Error::invalid("delta_broken", what.lines().next().unwrap_or_default())
                .with_hint("read it with the engine that writes it, and mend it there")
        }
        other => other,
    })
}

/// Refuses a relative path from a project's folder that is gone.
fn there(root: &Path, path: &str) -> Result<()> {
    if root.as_os_str().is_empty() || Path::new(path).is_absolute() || path.contains("://") || root.is_dir() {
        return Ok(());
    }
    let message = format!(
        "the project's folder `{}` is not there, so `{}` cannot be read",
        root.display(),
        root.join(path).display()
    );
    Err(Error::invalid("project_folder_missing", message)
        .with_hint("if the folder was moved, run `asof apply` in it: the new place is known from then on"))
}

/// Opens a stored source; with `after`, without the data files that hold no later position. Of what is pushed
/// and not in the table yet a file is made for as long as it is read, the last of them.
/// `root`: the folder that the path of its past starts from; none where the past is not to be looked at.
pub(crate) async fn stored(
    engine: &Engine,
    root: Option<&Path>,
    source: &SourceVersion,
    at: Option<&Cut>,
    after: Option<i64>,
) -> Result<Opened> {
    let layout = Layout::of(&engine.config().data_dir, source)?;
    let cut = match at {
        Some(Cut::Stored { position, .. }) => Some(*position),
        _ => None,
    };
    // The log before the table: what is moved in between is in both then, and not in neither.
    let held = match &source.definition.place {
        Place::Push { .. } => engine.hold_tail().await?,
        Place::Files { .. } | Place::Sql { .. } => None,
    };
    let end = held.as_ref().map(|held| held.end().0);
    let StoredFiles { files: listed, last, version, covered } = stored_files(engine, source).await?;
    reaches(source, last.max(end.filter(|end| *end > 0)), cut.filter(|cut| *cut > 0))?;
    let upto = cut.or(end).or(last).unwrap_or(0);
    let tail = match &held {
        Some(held) => {
            let past = Position(last.max(after).unwrap_or(0));
            tail_file(engine, source, &layout, held, (past, Position(upto))).await?
        }
        None => Tailed { file: None, superseded: None },
    };
    drop(held);
    let superseded = match (tail.superseded, covered) {
        (Some(tail), Some(least)) if after.is_none() && source.definition.id.is_some() => {
            Known::open(engine, &layout, least, tail, Position(upto)).await?.map(Arc::new)
        }
        _ => None,
    };
    let tail = tail.file;
    let tailed = tail.as_ref().map_or(0, |(_, rows)| *rows);
    let readers = engine.readers().clone();
    let dense = !matches!(source.definition.place, Place::Push { .. });
    let files = engine.blocking(move || {
        let options = Options::read(Format::Parquet, &std::collections::BTreeMap::new())?;
        let mut open = Vec::with_capacity(listed.len() + 1);
        let held_before = |last: Option<i64>| last.zip(after).is_some_and(|(last, after)| last <= after);
        // Positions of a load are given row by row.
        let mut rows = if dense { u64::try_from(upto - after.unwrap_or(0)).ok() } else { Some(tailed) };
        for file in listed.into_iter().filter(|file| !held_before(file.last)) {
            let shown = file.path.file_name().map(|name| name.to_string_lossy().into_owned());
            let path = file.path.clone();
            let found = Found { shown: shown.unwrap_or_default(), path, partitions: Vec::new() };
            let held = Arc::new(readers.hold(&file.path));
            let opened = files::open_one(found, Format::Parquet, &options)?.keeping(held);
            if !dense {
                let counts = file.first.is_some_and(|first| first > after.unwrap_or(0))
                    && file.last.is_some_and(|last| last <= upto);
                rows = rows.filter(|_| counts).map(|rows| rows + opened.estimate());
            }
            open.push(opened);
        }
        if let Some((passing, _)) = tail {
            let found = Found {
                path: passing.path().to_owned(),
                shown: "rows that are not in the table yet".to_owned(),
                partitions: Vec::new(),
            };
            open.push(files::open_one(found, Format::Parquet, &options)?.keeping(Arc::new(passing)));
        }
        Ok((open, rows))
    });
    let (mut files, mut rows) = files.await?;
    let mut past = None;
    if let Some((opened, of)) = past_of(engine, root, source, at).await? {
        past = Some(of);
        // Read as a whole once, and then known by what it is.
        if after.is_none() {
            let exact =
                opened.iter().all(OpenFile::is_parquet) && past.as_ref().is_some_and(|it| it.until.is_none());
            let more: u64 = opened.iter().map(OpenFile::estimate).sum();
            rows = rows.filter(|_| exact).map(|rows| rows + more);
            files.extend(opened.into_iter().map(OpenFile::of_past));
        }
    }
    let columns = StoredColumns {
        event_time: layout.event_time,
        visible_at: layout.visible_at,
        seq: layout.seq,
        op: layout.op,
        upto,
    };
    Ok(Opened::Stored { files: Arc::new(files), columns, version, rows, past, superseded })
}

/// Refuses where the past of a push source cannot be read with the source's columns; no row is looked at.
pub(crate) async fn check_past(engine: &Engine, catalog: &Catalog, source: &SourceVersion) -> Result<()> {
    let root = root(catalog, source)?;
    let Some((files, past)) = past_of(engine, Some(&root), source, None).await? else { return Ok(()) };
    let want = ScanColumns { all_for_digest: true, ..ScanColumns::default() };
    let (name, definition) = (source.address.name.as_str(), &source.definition);
    let rules =
        Rules::over(engine, name, definition, &source.columns, &want, Given::Nothing)?.before(past.until);
    engine
        .blocking(move || {
            for file in &files {
                let Some((_, part)) = file.parts().into_iter().next() else { continue };
                file.read(part, &rules, 1).map(drop)?;
            }
            Ok(())
        })
        .await
}

/// The files of the past of a push source, if it has one.
async fn past_of(
    engine: &Engine,
    root: Option<&Path>,
    source: &SourceVersion,
    at: Option<&Cut>,
) -> Result<Option<(Vec<OpenFile>, OpenedPast)>> {
    let Place::Push { past: Some(past) } = &source.definition.place else { return Ok(None) };
    let root = root.map(Path::to_owned).unwrap_or_default();
    there(&root, &past.path)?;
    let (found, format, options) = past_files(engine, &root, source, past).await?;
    let at = match at {
        Some(Cut::Stored { past: Some(past), .. }) => Some(past.files.clone()),
        _ => None,
    };
    let files = engine.blocking(move || {
        let opened = found.into_iter().map(|found| files::open_one(found, format, &options));
        let opened = opened.collect::<Result<Vec<OpenFile>>>()?;
        match at {
            Some(at) => as_recorded(opened, &at),
            None => Ok(opened),
        }
    });
    let files = files.await?;
    let cut = PastCut {
        visible: past_visible(source),
        files: files.iter().map(|file| file.identity.clone()).collect(),
    };
    Ok(Some((files, OpenedPast { cut, until: past.until })))
}

/// Which files a past means, and how they are read. Those of a Delta table are the data files of its newest version, which
/// may lack columns that it was given later.
pub(crate) async fn past_files(
    engine: &Engine,
    root: &Path,
    source: &SourceVersion,
    past: &Past,
) -> Result<(Vec<Found>, Format, Options)> {
    let mut options = Options::read(past.format, &past.options)?;
    let (path, format) = (past.path.clone(), past.format);
    if format != Format::Delta {
        let (root, hive) = (root.to_owned(), options.hive_partitioning);
        let found = engine.blocking(move || find(&root, &path, format, hive)).await?;
        return Ok((found, format, options));
    }
    let table = foreign(root, &path, None).await?;
    let lacks = |column: &&Column| table.schema.field_with_name(&column.name).is_err();
    if let Some(column) = source.columns.iter().find(lacks) {
        let name = &source.address.name;
        let message =
            format!("source `{name}`: the Delta table `{path}` of its past has no column `{}`", column.name);
        return Err(Error::invalid("column_not_found", message)
            .with_hint("add the column to the table, or take it out of the source's `schema`"));
    }
    let found = table.plain_files(&path)?;
    if found.is_empty() {
        let message = format!("the Delta table `{path}` has no rows");
        return Err(Error::invalid("source_no_files", message)
            .with_hint("write the past into it, or take `past` out of the source"));
    }
    options.union_by_name = true;
    Ok((found, Format::Parquet, options))
}

/// The files of a record, out of those there are now: files that came later are left out.
fn as_recorded(opened: Vec<OpenFile>, at: &[FileIdentity]) -> Result<Vec<OpenFile>> {
    let mut files = Vec::with_capacity(at.len());
    let mut left = opened;
    for was in at {
        let changed =
            |change: &str| Error::Changed { what: "file", name: was.path.clone(), change: change.to_owned() };
        let place = left
            .iter()
            .position(|file| file.identity.path == was.path)
            .ok_or_else(|| changed("is gone: it was read before"))?;
        let file = left.remove(place);
        if file.identity.size != was.size || file.identity.hash != was.hash {
            return Err(changed("is not what it was when it was read before"));
        }
        files.push(file);
    }
    Ok(files)
}

/// The folder that relative paths of a source start from.
pub(crate) fn root(catalog: &Catalog, source: &SourceVersion) -> Result<PathBuf> {
    match catalog.projects.get(&source.address.project) {
        Some(project) => Ok(project.root.clone()),
        None => Err(Error::internal(format!("project of source `{}` is not there", source.address))),
    }
}

impl Opened {
    /// What exactly is read.
    pub(crate) fn cut(&self) -> Cut {
        match self {
            Opened::Files(files) => Cut::Files(files.iter().map(|file| file.identity.clone()).collect()),
            Opened::Stored { columns, version, past, .. } => Cut::Stored {
                position: columns.upto,
                table_version: *version,
                past: past.as_ref().map(|past| past.cut.clone()),
            },
            Opened::Delta { table, .. } => {
                Cut::Delta { table_id: table.table_id.clone(), version: table.version, files: Vec::new() }
            }
            Opened::Query(query) => Cut::Sql(
                query
                    .inputs
                    .iter()
                    .map(|(source, opened)| SourceCut {
                        source: source.address.clone(),
                        source_id: source.id.clone(),
                        visible: visible_times(source),
                        cut: opened.cut(),
                    })
                    .collect(),
            ),
        }
    }

    /// All files held.
    pub(crate) fn files(&self) -> Vec<Arc<Vec<OpenFile>>> {
        match self {
            Opened::Files(files) | Opened::Stored { files, .. } => vec![Arc::clone(files)],
            Opened::Delta { .. } => Vec::new(),
            Opened::Query(query) => query.inputs.iter().flat_map(|(_, opened)| opened.files()).collect(),
        }
    }

    /// The files whose rows have addresses.
    pub(crate) fn addressed(&self) -> Option<&Arc<Vec<OpenFile>>> {
        match self {
            Opened::Stored { files, .. } | Opened::Files(files) if files.iter().all(OpenFile::is_parquet) => {
                Some(files)
            }
            _ => None,
        }
    }

    /// Whether a row can be told by its file and its number there.
    pub(crate) fn is_numbered(&self) -> bool {
        matches!(self, Opened::Files(_) | Opened::Stored { .. })
    }

    /// The rules of its rows.
    pub(crate) fn rules(
        &self,
        engine: &Engine,
        source: &SourceVersion,
        want: &ScanColumns,
    ) -> Result<FileRules> {
        let name = source.address.name.as_str();
        let of = |given| Rules::over(engine, name, &source.definition, &source.columns, want, given);
        let past = match self {
            Opened::Stored { past: Some(past), .. } => Some(of(Given::Nothing)?.before(past.until)),
            _ => None,
        };
        Ok(FileRules::new(of(self.given())?, past))
    }

    /// What a plan over it has of the fixed columns.
    pub(crate) fn given(&self) -> Given {
        match self {
            Opened::Stored { columns, .. } => Given::Stored(columns.clone()),
            _ => Given::Nothing,
        }
    }

    /// The types of its columns as they are in the data, for those who infer.
    pub(crate) fn schema(&self) -> Option<arrow::datatypes::SchemaRef> {
        match self {
            Opened::Delta { table, .. } => Some(Arc::clone(&table.schema)),
            Opened::Query(query) => Some(query.schema()),
            Opened::Files(_) | Opened::Stored { .. } => None,
        }
    }

    /// A plan of its rows by these rules, in at most so many partitions; in one they come in one order,
    /// that of the files' names and the rows within, whatever else the machine does.
    pub(crate) async fn plan(
        &self,
        engine: &Engine,
        rules: &FileRules,
        threads: usize,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(match self {
            Opened::Files(files) | Opened::Stored { files, .. } => {
                Arc::new(FilesExec::new(Arc::clone(files), rules.clone(), threads))
            }
            Opened::Delta { table, path } => {
                let rules = rules.own();
                let mut input = table.scan(engine, &rules.inputs()).await?;
                if threads == 1 {
                    input = in_order(input)?;
                }
                let place = format!("{path}, version {}", table.version);
                Arc::new(RulesExec::new(input, Arc::clone(rules), &place, |error, _| error.into()))
            }
            Opened::Query(query) => {
                let rules = rules.own();
                let input = query.plan(&rules.inputs()).await?;
                let failing = |error, source: &str| {
                    crate::query::fault::on_row(error, &format!("source `{source}`: its `sql`"))
                };
                Arc::new(RulesExec::new(input, Arc::clone(rules), "the result of its `sql`", failing))
            }
        })
    }

    /// How many rows it gives, where that is known without reading them.
    pub(crate) fn rows(&self) -> Option<u64> {
        match self {
            Opened::Stored { rows, .. } => *rows,
            Opened::Delta { table, .. } => table.rows(),
            Opened::Files(_) | Opened::Query(_) => None,
        }
    }

    /// How many rows there are: counted where footers or a log say it, else judged by size.
    pub(crate) fn estimate(&self) -> Option<u64> {
        match self {
            Opened::Files(files) | Opened::Stored { files, .. } => {
                Some(files.iter().map(OpenFile::estimate).sum())
            }
            Opened::Delta { table, .. } => table.rows(),
            Opened::Query(_) => None,
        }
    }
}

/// How the visible times of the rows of its past are known.
pub(crate) fn past_visible(source: &SourceVersion) -> VisibleTimes {
    match source.definition.available_at {
        Some(_) => VisibleTimes::Declared,
        None => VisibleTimes::Assumed,
    }
}

/// How the visible times of a source's rows are known.
pub(crate) fn visible_times(source: &SourceVersion) -> VisibleTimes {
    match (&source.definition.place, &source.definition.available_at) {
        (Place::Push { .. }, _) => VisibleTimes::Recorded,
        (_, Some(_)) => VisibleTimes::Declared,
        (_, None) => VisibleTimes::Assumed,
    }
}

/// The columns of a schema in the model's types, and those it has no type for.
pub(crate) fn columns_of(schema: &arrow::datatypes::Schema) -> (Vec<Column>, Vec<(String, String)>) {
    let mut columns = Vec::new();
    let mut left_out = Vec::new();
    for field in schema.fields() {
        match super::columns::model_type(field) {
            Some(data_type) => columns.push(Column { name: field.name().clone(), data_type }),
            None => left_out.push((field.name().clone(), field.data_type().to_string())),
        }
    }
    (columns, left_out)
}
