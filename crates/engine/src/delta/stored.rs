//! How a stored source lies in its Delta table (`docs/formats/stored-source.md`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use asof_model::{Column, Place, SourceVersion, TimeRule};
use deltalake_core::DeltaTable;

use super::table::broken;
use crate::{Error, Result};

/// The application whose transaction version is the table's last position.
pub(crate) const INTAKE: &str = "asof.intake";

/// The property that says whose positions a table has: [`STORES`], or else its own.
pub(crate) const POSITIONS: &str = "asof.positions";

/// Those that the store of live rows gave.
pub(crate) const STORES: &str = "store";

/// The version of the layout, in the table's property `asof.format`: `docs/formats/stored-source.md`.
pub(super) const FORMAT: &str = "1";

/// The application that marks a file, by its content's hash, as loaded.
pub(crate) fn file_marker(hash: &str) -> String {
    format!("asof.file.{hash}")
}

/// Where the table of one family of source versions lies, and what its columns are.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The table's folder.
    pub(crate) folder: PathBuf,
    /// What names the family of versions that share the table; the folder's own name.
    pub(crate) family: String,
    /// The table's columns: the source's in types that Delta has, then our four.
    pub(crate) table: SchemaRef,
    /// The name of the column of `e`.
    pub(crate) event_time: String,
    /// The name of the column of `v`.
    pub(crate) visible_at: String,
    /// The name of the column of `s`.
    pub(crate) seq: String,
    /// The name of the column that is `value` or `delete`.
    pub(crate) op: String,
}

/// The folder of everything stored for a source.
pub(crate) fn source_folder(data_dir: &Path, source: &SourceVersion) -> PathBuf {
    data_dir.join("offline").join(source.address.project.as_str()).join(source.address.name.as_str())
}

/// Microseconds in UTC.
fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The way out where two columns differ in case only.
pub(crate) const RENAME: &str = "rename one of them in the file, or read the source in place";

/// The first column of a source that differs from one before it in case only.
pub(crate) fn case_twin(columns: &[Column]) -> Option<&Column> {
    columns.iter().enumerate().find_map(|(at, column)| {
        let folded = column.name.to_lowercase();
        columns[..at].iter().any(|other| other.name.to_lowercase() == folded).then_some(column)
    })
}

/// What is wrong with such a column.
pub(crate) fn differs_in_case(source: &str, column: &Column) -> String {
    let name = &column.name;
    format!(
        "source `{source}`: column `{name}` differs from another in case only, and a Delta table takes them for one"
    )
}

impl Layout {
    /// The layout of a source's table.
    ///
    /// # Errors
    /// [`Error::Invalid`] where two columns differ in case only, which Delta takes for one.
    pub(crate) fn of(data_dir: &Path, source: &SourceVersion) -> Result<Layout> {
        if let Some(column) = case_twin(&source.columns) {
            let message = differs_in_case(source.address.name.as_str(), column);
            return Err(Error::invalid("stored_column_case", message).with_hint(RENAME));
        }
        let mut taken: Vec<String> = source.columns.iter().map(|column| column.name.to_lowercase()).collect();
        let mut own = |name: &str| {
            let mut free = name.to_owned();
            while taken.contains(&free) {
                free = format!("asof_{free}");
            }
            taken.push(free.clone());
            free
        };
        let [event_time, visible_at, seq, op] = ["event_time", "visible_at", "seq", "op"].map(&mut own);
        let fields: Vec<Field> = source
            .columns
            .iter()
            .map(|column| Field::new(&column.name, asof_compute::arrow_type(&column.data_type), true))
            .collect();
        let mut stored: Vec<Field> = fields
            .iter()
            .map(|field| Field::new(field.name(), stored_type(field.data_type()), true))
            .collect();
        stored.push(Field::new(&event_time, instant(), true));
        stored.push(Field::new(&visible_at, instant(), true));
        stored.push(Field::new(&seq, DataType::Int64, true));
        stored.push(Field::new(&op, DataType::Utf8, true));
        let family = family(source)?;
        Ok(Layout {
            folder: source_folder(data_dir, source).join(&family),
            family,
            table: Arc::new(Schema::new(stored)),
            event_time,
            visible_at,
            seq,
            op,
        })
    }

    /// What the table is called: `PROJECT/SOURCE/FAMILY`.
    pub(crate) fn name(&self, source: &SourceVersion) -> String {
        format!("{}/{}/{}", source.address.project, source.address.name, self.family)
    }

    /// What the table's properties say at its making.
    pub(crate) fn properties(&self, source: &SourceVersion) -> Vec<(&'static str, String)> {
        let own = [&self.event_time, &self.visible_at, &self.seq];
        let own: Vec<String> = own.iter().map(|name| format!("`{name}`")).collect();
        let mut properties = vec![
            ("asof.format", FORMAT.to_owned()),
            ("asof.source", source.address.to_string()),
            ("asof.column.event_time", self.event_time.clone()),
            ("asof.column.visible_at", self.visible_at.clone()),
            ("asof.column.seq", self.seq.clone()),
            ("asof.column.op", self.op.clone()),
            // Statistics outlive deleted rows in the log, so no column of a user's ever has any.
            ("delta.dataSkippingStatsColumns", own.join(",")),
            ("delta.appendOnly", "false".to_owned()),
        ];
        if let Place::Push { .. } = source.definition.place {
            properties.push((POSITIONS, STORES.to_owned()));
            // A commit a minute: a cut is a position, so old versions are needed by their readers alone.
            properties.push(("delta.logRetentionDuration", "interval 2 days".to_owned()));
            properties.push(("delta.deletedFileRetentionDuration", "interval 2 days".to_owned()));
        }
        properties
    }

    /// Refuses a table that a newer Asof laid out otherwise.
    pub(crate) fn check(&self, table: &DeltaTable) -> Result<()> {
        let state = table.snapshot().map_err(|e| broken("read the table", &self.folder, e))?;
        let format = state.metadata().configuration().get("asof.format");
        if format.is_some_and(|format| format == FORMAT) {
            return Ok(());
        }
        Err(Error::invalid(
            "stored_format",
            format!(
                "the table `{}` has the format `{}`, and this version of Asof reads `{FORMAT}`",
                self.folder.display(),
                format.map_or("none", String::as_str)
            ),
        )
        .with_hint("use the version of Asof that wrote it"))
    }

    /// The last position given; zero before the first.
    pub(crate) async fn last_position(&self, table: &DeltaTable) -> Result<i64> {
        Ok(self.marker(table, INTAKE).await?.unwrap_or(0))
    }

    /// The version of an application transaction in the table's loaded state.
    pub(crate) async fn marker(&self, table: &DeltaTable, application: &str) -> Result<Option<i64>> {
        let failed = |e| broken("read the table", &self.folder, e);
        let state = table.snapshot().map_err(failed)?;
        state.transaction_version(table.log_store().as_ref(), application).await.map_err(failed)
    }
}

/// What decides the table: everything that the stored rows depend on, but how their files are written
/// (their format and path). Eight hex digits.
fn family(source: &SourceVersion) -> Result<String> {
    let definition = &source.definition;
    let mut parts = serde_json::json!({
        "format": FORMAT,
        "columns": source.columns,
        "event_time": definition.event_time,
        "available_at": definition.available_at,
        "delete_when": definition.delete_when,
    });
    // Of a zone for `valid_until` the table keeps what clocks show, and else instants.
    if let Some(TimeRule::Column { name, zone: Some(zone), .. }) = &definition.valid_until
        && let Some(parts) = parts.as_object_mut()
    {
        parts.insert("valid_until".to_owned(), serde_json::json!({ "column": name, "zone": zone }));
    }
    // Tables of before there were options in here keep their names.
    if let Place::Files { options, .. } = &definition.place
        && !options.is_empty()
        && let Some(parts) = parts.as_object_mut()
    {
        parts.insert("options".to_owned(), serde_json::json!(options));
    }
    // A store's positions and a load's are two counts, so a table has those of one. Which version of an event
    // stands is judged as rows are accepted, so what names events belongs to the rows as well.
    if let (Place::Push { .. }, Some(parts)) = (&definition.place, parts.as_object_mut()) {
        let versions = definition.id.as_ref().map(|id| serde_json::json!([id, definition.order_by]));
        parts.insert("push".to_owned(), serde_json::json!({ "versions": versions }));
    }
    let text = serde_json::to_string(&parts)
        .map_err(|e| Error::internal(format!("a source that cannot be written down: {e}")))?;
    Ok(blake3::hash(text.as_bytes()).to_hex().chars().take(8).collect())
}

/// The type a column is stored with: its own where Delta has it, else the smallest that holds all of it.
pub(crate) fn stored_type(of: &DataType) -> DataType {
    match of {
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::FixedSizeBinary(_) | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::List(item) | DataType::LargeList(item) => {
            DataType::List(Arc::new(Field::new("element", stored_type(item.data_type()), true)))
        }
        DataType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|field| Field::new(field.name(), stored_type(field.data_type()), true))
                .collect::<Fields>(),
        ),
        other => other.clone(),
    }
}
