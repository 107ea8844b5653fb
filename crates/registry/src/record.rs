//! Stored versions to versions and back, and the catalog they make (`docs/formats/registry.md`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use asof_model::{Address, Catalog, Name, Revision, ThingKind, Version};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::{RegistryError, Result};

/// The newest format of a stored version this program writes; it reads every one up to it.
pub(crate) const VERSION_FORMAT: i64 = asof_model::VERSION_FORMAT as i64;

pub(crate) fn kind_from(name: &str) -> Option<ThingKind> {
    ThingKind::ALL.into_iter().find(|kind| kind.name() == name)
}

/// Reads a body. Those of the first registries lack `kind` and `format`, which stand in columns beside them.
fn decode(kind: ThingKind, format: i64, body: &str) -> std::result::Result<Version, String> {
    let mut value: Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let read = match &mut value {
        Value::Object(fields) if !fields.contains_key("format") => {
            fields.insert("format".to_owned(), json!(format));
            fields.insert("kind".to_owned(), json!(kind));
            Version::from_json(&value.to_string())
        }
        _ => Version::from_json(body),
    };
    read.map_err(|error| error.to_string())
}

/// Reads columns of a row; a value of another type than the schema's says the file is damaged.
pub(crate) struct Fields<'r> {
    pub(crate) row: &'r SqliteRow,
    pub(crate) path: &'r Path,
}

impl Fields<'_> {
    pub(crate) fn damaged(&self, what: String) -> RegistryError {
        RegistryError::Damaged { path: self.path.to_owned(), what }
    }

    pub(crate) fn text(&self, column: &str) -> Result<String> {
        self.row.try_get(column).map_err(|error| self.damaged(error.to_string()))
    }

    pub(crate) fn maybe_text(&self, column: &str) -> Result<Option<String>> {
        self.row.try_get(column).map_err(|error| self.damaged(error.to_string()))
    }

    pub(crate) fn number(&self, column: &str) -> Result<i64> {
        self.row.try_get(column).map_err(|error| self.damaged(error.to_string()))
    }

    pub(crate) fn maybe_number(&self, column: &str) -> Result<Option<i64>> {
        self.row.try_get(column).map_err(|error| self.damaged(error.to_string()))
    }

    pub(crate) fn revision(&self, column: &str) -> Result<Revision> {
        Ok(Revision(self.number(column)?.cast_unsigned()))
    }

    pub(crate) fn name(&self, column: &str) -> Result<Name> {
        Name::new(self.text(column)?).map_err(|error| self.damaged(error.to_string()))
    }

    pub(crate) fn address(&self) -> Result<(ThingKind, Address)> {
        let kind = self.text("kind")?;
        let kind = kind_from(&kind).ok_or_else(|| self.damaged(format!("`{kind}` is no kind of thing")))?;
        Ok((kind, Address { project: self.name("project")?, name: self.name("name")? }))
    }

    /// The version in columns `kind`, `project`, `name`, `id`, `format` and `body`.
    pub(crate) fn version(&self) -> Result<Version> {
        let (kind, address) = self.address()?;
        let format = self.number("format")?;
        if format > VERSION_FORMAT {
            return Err(RegistryError::NewerRecord {
                what: kind.name(),
                id: address.to_string(),
                found: format,
                known: VERSION_FORMAT,
            });
        }
        let version = decode(kind, format, &self.text("body")?)
            .map_err(|error| self.damaged(format!("{kind} `{address}`: {error}")))?;
        if version.kind() != kind || *version.address() != address || version.id().0 != self.text("id")? {
            return Err(self.damaged(format!("{kind} `{address}` is stored under another name")));
        }
        Ok(version)
    }
}

/// What stands, read in one statement each inside the connection's transaction if it has one.
pub(crate) async fn catalog(connection: &mut SqliteConnection, path: &Path) -> Result<Catalog> {
    let doing = "reading the catalog";
    // One statement, so that the answer is of one moment without a transaction.
    let rows = sqlx::query(
        "SELECT 'project' AS what, p.name AS project, '' AS kind, p.name AS name, p.revision AS revision,
                p.root AS body, '' AS id, 0 AS format
           FROM project p
         UNION ALL
         SELECT 'version', v.project, v.kind, v.name, v.revision, v.body, v.id, v.format
           FROM standing s JOIN version v USING (project, kind, name, revision)",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(RegistryError::storage(doing))?;
    let mut revision = Revision(0);
    let mut roots: BTreeMap<Name, PathBuf> = BTreeMap::new();
    let mut versions: Vec<Version> = Vec::new();
    for row in &rows {
        let fields = Fields { row, path };
        if fields.text("what")? == "project" {
            // The newest change of all is the newest of some project.
            revision = revision.max(fields.revision("revision")?);
            roots.insert(fields.name("name")?, fields.text("body")?.into());
        } else {
            versions.push(fields.version()?);
        }
    }
    Ok(Catalog::from_versions(revision, roots, versions))
}
