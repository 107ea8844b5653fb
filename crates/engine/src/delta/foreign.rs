//! Delta tables that other engines write, read in place.
//!
//! Partition values, deletion vectors, column mapping by name and by id, checkpoints of both kinds and
//! times without a zone are read as the protocol says. A table that asks its readers for anything else is
//! refused before a row is read, naming the feature.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use deltalake_core::{DeltaTable, DeltaTableBuilder};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::scan::{provider, reading_state};
use super::table::{address, broken};
use crate::source::find::Found;
use crate::source::parquet::check_nesting_of;
use crate::{Engine, Error, Result};

/// What a table may ask of its readers.
const KNOWN: [&str; 5] =
    ["columnMapping", "deletionVectors", "timestampNtz", "timestampWithoutTimezone", "v2Checkpoint"];

/// The greatest protocol version of readers that the features above belong to.
const READER_VERSION: i32 = 3;

/// A table of another engine, at one version.
#[derive(Debug, Clone)]
pub(crate) struct Foreign {
    /// Its columns in its order, partition columns among them, no views and no dictionaries.
    pub(crate) schema: SchemaRef,
    /// Its own identifier.
    pub(crate) table_id: String,
    /// The version that is read.
    pub(crate) version: u64,
    folder: PathBuf,
    /// The addresses of the data files that are read, where not all of them are.
    only: Option<Arc<BTreeSet<String>>>,
    table: DeltaTable,
}

impl Foreign {
    /// Opens the table in a folder: at its latest version, or at the one asked for.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it needs a reader feature we do not know, [`Error::Changed`] where the
    /// version asked for is not there any more, [`Error::NotFound`] where there is no table.
    pub(crate) async fn open(folder: &Path, version: Option<u64>) -> Result<Foreign> {
        if !super::table::exists(folder) {
            return Err(Error::NotFound {
                what: "Delta table",
                name: folder.display().to_string(),
                hint: Some("a Delta table is a folder that holds `_delta_log`".to_owned()),
            });
        }
        let asked = folder.to_owned();
        tokio::task::spawn_blocking(move || may_be_read(&asked))
            .await
            .map_err(|ended| Error::internal(format!("reading a table's log ended: {ended}")))??;
        let failed = |e| broken("open the table", folder, e);
        let builder = DeltaTableBuilder::from_url(address(folder)?).map_err(failed)?;
        let builder = match version {
            Some(version) => builder.with_version(version),
            None => builder,
        };
        let table = match builder.load().await {
            Ok(table) => table,
            Err(error) if version.is_some() => {
                return Err(Error::Changed {
                    what: "Delta table",
                    name: folder.display().to_string(),
                    change: format!("no longer has version {}: {error}", version.unwrap_or(0)),
                });
            }
            Err(error) => return Err(failed(error)),
        };
        let state = table.snapshot().map_err(failed)?;
        names_agree_with_ids(&table, folder)?;
        let fields: Vec<Field> = state
            .snapshot()
            .arrow_schema()
            .fields()
            .iter()
            .map(|field| Field::new(field.name(), plain(field.data_type()), true))
            .collect();
        Ok(Foreign {
            schema: Arc::new(Schema::new(fields)),
            table_id: state.metadata().id().to_owned(),
            version: table.version().unwrap_or(0),
            folder: folder.to_owned(),
            only: None,
            table,
        })
    }

    /// Reads these columns, in this order, in the types of [`Foreign::schema`].
    pub(crate) async fn scan(&self, engine: &Engine, columns: &[String]) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.data_files()?;
        let looked = move || files.iter().try_for_each(|(path, shown)| check_nesting_of(path, shown));
        engine.blocking(looked).await?;
        let state = reading_state(&engine.session());
        let provider = provider(&self.table, &state, self.only.as_deref()).await?;
        let schema = provider.schema();
        let projection: Vec<usize> =
            columns.iter().map(|name| schema.index_of(name)).collect::<Result<_, _>>()?;
        let plan = provider.scan(&state, Some(&projection), &[], None).await?;
        let input = plan.schema();
        let mut expressions: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
        for name in columns {
            let wanted = self.schema.field_with_name(name)?.data_type();
            let at = input.index_of(name)?;
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, at));
            let expression = if input.field(at).data_type() == wanted {
                column
            } else {
                Arc::new(CastExpr::new(column, wanted.clone(), None))
            };
            expressions.push((expression, name.clone()));
        }
        Ok(Arc::new(ProjectionExec::try_new(expressions, plan)?))
    }

    /// The same version, of which only the data files are read that came after an earlier version; none
    /// where more was done since then than to append files, or where nobody can tell any more.
    ///
    /// A file of before that is gone, or has another deletion vector, is more; so is any change of the
    /// schema, since with column mapping the same file may then be read as other columns.
    pub(crate) async fn appended_since(&self, version: u64) -> Result<Option<Foreign>> {
        let Ok(before) = Foreign::open(&self.folder, Some(version)).await else { return Ok(None) };
        let failed = |e| broken("read the table", &self.folder, e);
        let (was, now) = (before.table.snapshot().map_err(failed)?, self.table.snapshot().map_err(failed)?);
        if before.table_id != self.table_id || was.schema() != now.schema() {
            return Ok(None);
        }
        let mut seen: HashMap<String, _> = was
            .log_data()
            .iter()
            .map(|file| (file.path().into_owned(), (file.size(), file.deletion_vector_descriptor())))
            .collect();
        let mut only = BTreeSet::new();
        for file in now.log_data().iter() {
            match seen.remove(file.path().as_ref()) {
                Some(was) if was == (file.size(), file.deletion_vector_descriptor()) => {}
                Some(_) => return Ok(None),
                None => {
                    only.insert(self.address_of(file.path().as_ref())?);
                }
            }
        }
        if !seen.is_empty() {
            return Ok(None);
        }
        Ok(Some(Foreign { only: Some(Arc::new(only)), ..self.clone() }))
    }

    /// The data files that are read: where each is, and how the log names it.
    fn data_files(&self) -> Result<Vec<(PathBuf, String)>> {
        let state = self.table.snapshot().map_err(|e| broken("read the table", &self.folder, e))?;
        let mut files = Vec::new();
        for file in state.log_data().iter() {
            let address = self.address_of(file.path().as_ref())?;
            if self.only.as_ref().is_some_and(|only| !only.contains(&address)) {
                continue;
            }
            let path = self.path_of(file.path().as_ref(), file.object_store_path().as_ref());
            files.extend(path.map(|path| (path, file.path().into_owned())));
        }
        Ok(files)
    }

    /// The data files of this version in the order of their paths, each with its partition values, for who reads them
    /// as the files they are. `shown`: the table as people named it.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the log says of them what they do not say themselves: rows that are deleted, columns by
    /// other names.
    pub(crate) fn plain_files(&self, shown: &str) -> Result<Vec<Found>> {
        let state = self.table.snapshot().map_err(|e| broken("read the table", &self.folder, e))?;
        let mapping = state.metadata().configuration().get("delta.columnMapping.mode");
        let mapped = mapping.is_some_and(|mode| mode != "none");
        let deletes = state.log_data().iter().any(|file| file.deletion_vector_descriptor().is_some());
        if mapped || deletes {
            let feature = if mapped { "columnMapping" } else { "deletionVectors" };
            let message = format!(
                "the Delta table `{shown}` uses the reader feature `{feature}`, and the past of a source is read by its \
                 data files alone"
            );
            return Err(Error::invalid("delta_reader_feature", message).with_hint(
                "have its owner rewrite it without (`REORG TABLE ... APPLY (PURGE)` for deletion vectors), or export it \
                 to Parquet and name these files",
            ));
        }
        let mut files = Vec::new();
        for file in state.log_data().iter() {
            let mut partitions: Vec<(String, Option<String>)> =
                file.partition_values_map().into_iter().collect();
            // An empty text is a null there.
            partitions.iter_mut().for_each(|(_, value)| *value = value.take().filter(|it| !it.is_empty()));
            partitions.sort();
            let path = self.path_of(file.path().as_ref(), file.object_store_path().as_ref());
            let path = path.ok_or_else(|| Error::internal("a data file of a table has no path"))?;
            let shown = format!("{}/{}", shown.trim_end_matches('/'), file.path());
            files.push(Found { path, shown, partitions });
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(files)
    }

    /// Where a data file is, by its address in the log, and by the path that this stands for.
    fn path_of(&self, address: &str, path: &str) -> Option<PathBuf> {
        match url::Url::parse(address) {
            Ok(elsewhere) => elsewhere.to_file_path().ok(),
            Err(_) => Some(self.folder.join(path)),
        }
    }

    /// The address of a data file.
    fn address_of(&self, path: &str) -> Result<String> {
        if url::Url::parse(path).is_ok() {
            return Ok(path.to_owned());
        }
        let root = address(&self.folder)?;
        let whole = root.to_file_path().map(|root| root.join(path));
        let whole = whole.and_then(url::Url::from_file_path);
        whole.map(String::from).map_err(|()| Error::internal("a data file of a table has no address"))
    }

    /// How many rows its statistics say; none where a file has none. Deleted rows are not counted.
    pub(crate) fn rows(&self) -> Option<u64> {
        let state = self.table.snapshot().ok()?;
        let mut rows = 0_u64;
        for file in state.log_data().iter() {
            if let Some(only) = &self.only
                && !only.contains(&self.address_of(file.path().as_ref()).ok()?)
            {
                continue;
            }
            let deleted = file.deletion_vector_descriptor().map_or(0, |vector| vector.cardinality);
            let here = i64::try_from(file.num_records()?).ok()? - deleted;
            rows += u64::try_from(here).ok()?;
        }
        Some(rows)
    }
}

/// Refuses a table with column mapping by id of which a data file names a column otherwise than the log.
/// The reader below finds columns by their names, as most writers of such tables give both; here it would
/// find nothing and give nulls.
fn names_agree_with_ids(table: &DeltaTable, folder: &Path) -> Result<()> {
    let failed = |e| broken("read the table", folder, e);
    let state = table.snapshot().map_err(failed)?;
    if state.metadata().configuration().get("delta.columnMapping.mode").map(String::as_str) != Some("id") {
        return Ok(());
    }
    let schema = serde_json::to_value(state.schema().as_ref())
        .map_err(|e| Error::internal(format!("a Delta schema that cannot be written down: {e}")))?;
    let mut expected = BTreeMap::new();
    physical_names(&schema, &mut expected);
    for file in state.log_data().iter() {
        let path = folder.join(file.object_store_path().as_ref());
        check_nesting_of(&path, file.path().as_ref())?;
        let opened = File::open(&path).map_err(|e| Error::io("read the file", &path, &e))?;
        let reader = SerializedFileReader::new(opened)
            .map_err(|e| Error::internal(format!("`{}`: {e}", path.display())))?;
        let mut found = Vec::new();
        named_ids(reader.metadata().file_metadata().schema(), &mut found);
        let other = found.iter().find(|(id, name)| expected.get(id).is_some_and(|wanted| wanted != name));
        if let Some((id, name)) = other {
            return Err(Error::invalid(
                "delta_mapping_by_id",
                format!(
                    "the Delta table `{}` maps columns by id, and its file `{}` names the column of id {id} `{name}` where the log says `{}`",
                    folder.display(),
                    file.path(),
                    expected.get(id).map_or("", String::as_str)
                ),
            )
            .with_hint("have its owner rewrite its files (`OPTIMIZE` or `REORG TABLE ... APPLY (UPGRADE UNIFORM)`), or export the table to Parquet"));
        }
    }
    Ok(())
}

/// Column ids and physical names, wherever they stand in a Delta schema.
fn physical_names(schema: &serde_json::Value, found: &mut BTreeMap<i64, String>) {
    match schema {
        serde_json::Value::Object(parts) => {
            let part = |key: &str| parts.get("metadata").and_then(|metadata| metadata.get(key));
            let id = part("delta.columnMapping.id").and_then(serde_json::Value::as_i64);
            let name = part("delta.columnMapping.physicalName").and_then(serde_json::Value::as_str);
            if let (Some(id), Some(name)) = (id, name) {
                found.insert(id, name.to_owned());
            }
            parts.values().for_each(|part| physical_names(part, found));
        }
        serde_json::Value::Array(parts) => parts.iter().for_each(|part| physical_names(part, found)),
        _ => {}
    }
}

/// Field ids and names, wherever they stand in a Parquet schema.
fn named_ids(node: &parquet::schema::types::Type, found: &mut Vec<(i64, String)>) {
    let info = node.get_basic_info();
    if info.has_id() {
        found.push((i64::from(info.id()), info.name().to_owned()));
    }
    if let parquet::schema::types::Type::GroupType { fields, .. } = node {
        fields.iter().for_each(|field| named_ids(field, found));
    }
}

/// The type of values, whatever their layout.
fn plain(of: &DataType) -> DataType {
    match of {
        DataType::Dictionary(_, value) => plain(value),
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        other => other.clone(),
    }
}

/// What the newest protocol action of a log asks of readers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    version: i32,
    features: Vec<String>,
}

/// Refuses a table whose protocol asks for more than we know, or whose checkpoints nest deeper than a reader
/// should descend.
fn may_be_read(folder: &Path) -> Result<()> {
    let log = folder.join("_delta_log");
    for below in [log.clone(), log.join("_sidecars")] {
        for entry in std::fs::read_dir(&below).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "parquet") {
                check_nesting_of(&path, &path.to_string_lossy())?;
            }
        }
    }
    let Some(asked) = newest_protocol(folder)? else {
        return Err(Error::internal(format!("the table `{}` has no protocol in its log", folder.display())));
    };
    let unknown: BTreeSet<&str> =
        asked.features.iter().map(String::as_str).filter(|name| !KNOWN.contains(name)).collect();
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|name| format!("`{name}`")).collect();
        let (noun, they) = if names.len() == 1 { ("feature", "it") } else { ("features", "them") };
        return Err(Error::invalid(
            "delta_reader_feature",
            format!(
                "the Delta table `{}` needs the reader {noun} {}, which Asof does not know",
                folder.display(),
                names.join(", ")
            ),
        )
        .with_hint(format!(
            "have its owner drop {they} (`ALTER TABLE ... DROP FEATURE`), or export the table to Parquet; Asof reads {}",
            ["columnMapping", "deletionVectors", "timestampNtz", "v2Checkpoint"].join(", ")
        )));
    }
    if asked.version > READER_VERSION {
        return Err(Error::invalid(
            "delta_reader_version",
            format!(
                "the Delta table `{}` needs reader version {}, and Asof knows up to {READER_VERSION}",
                folder.display(),
                asked.version
            ),
        )
        .with_hint("export the table to Parquet"));
    }
    Ok(())
}

/// The protocol as of the latest version: in the newest commit that holds one, else in the checkpoint
/// before them. An upgrade is a commit of its own, so nearly every log is asked from its newest file on.
fn newest_protocol(folder: &Path) -> Result<Option<Asked>> {
    let log = folder.join("_delta_log");
    let mut names: Vec<String> = std::fs::read_dir(&log)
        .map_err(|e| Error::io("read the folder", &log, &e))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.len() > 20 && name.as_bytes()[..20].iter().all(u8::is_ascii_digit))
        .collect();
    // Version by version from the newest; of one version the commit before its checkpoint.
    names.sort_by(|a, b| b[..20].cmp(&a[..20]).then(a.len().cmp(&b.len())));
    for name in names {
        let path = log.join(&name);
        let found = if name.ends_with(".json") {
            in_json(&path)?
        } else if name.contains(".checkpoint") && name.ends_with(".parquet") {
            in_parquet(&path)?
        } else {
            None
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn in_json(path: &Path) -> Result<Option<Asked>> {
    #[derive(serde::Deserialize)]
    struct Line {
        protocol: Option<Protocol>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Protocol {
        min_reader_version: i32,
        #[serde(default)]
        reader_features: Option<Vec<String>>,
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read the file", path, &e))?;
    for line in text.lines().filter(|line| line.contains("\"protocol\"")) {
        let line: Line = serde_json::from_str(line)
            .map_err(|e| Error::internal(format!("`{}` is not a Delta log: {e}", path.display())))?;
        if let Some(found) = line.protocol {
            return Ok(Some(Asked {
                version: found.min_reader_version,
                features: found.reader_features.unwrap_or_default(),
            }));
        }
    }
    Ok(None)
}

fn in_parquet(path: &Path) -> Result<Option<Asked>> {
    let damaged = |e: parquet::errors::ParquetError| Error::internal(format!("`{}`: {e}", path.display()));
    let file = File::open(path).map_err(|e| Error::io("read the file", path, &e))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["protocol"]);
    for batch in builder.with_projection(mask).build().map_err(damaged)? {
        let batch = batch?;
        let Some(protocol) = batch.column_by_name("protocol").and_then(|column| column.as_struct_opt())
        else {
            return Ok(None);
        };
        let Some(row) = (0..protocol.len()).find(|row| protocol.is_valid(*row)) else { continue };
        let version = protocol
            .column_by_name("minReaderVersion")
            .and_then(|column| column.as_primitive_opt::<Int32Type>())
            .map_or(0, |column| column.value(row));
        let features = protocol
            .column_by_name("readerFeatures")
            .and_then(|column| column.as_list_opt::<i32>())
            .filter(|column| column.is_valid(row))
            .map(|column| arrow::compute::cast(&column.value(row), &DataType::Utf8))
            .transpose()?
            .map(|names| names.as_string::<i32>().iter().flatten().map(str::to_owned).collect())
            .unwrap_or_default();
        return Ok(Some(Asked { version, features }));
    }
    Ok(None)
}

#[cfg(test)]
#[path = "foreign_suite.rs"]
mod suite;
