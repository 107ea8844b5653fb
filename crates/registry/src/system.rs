//! What the registry holds, as tables that SQL can read.

use std::sync::Arc;

use asof_model::{Catalog, Column, DataType, Name, Principal, SystemTable, Version};
use serde_json::{Value, json};

use crate::record::Fields;
use crate::registry::may_see;
use crate::{Registry, RegistryError, Result};

/// Rows of runs and training sets that a query sees at most, newest first.
const NEWEST: i64 = 10_000;

fn columns(all: &[(&str, DataType)]) -> Vec<Column> {
    all.iter()
        .map(|(name, data_type)| Column { name: (*name).to_owned(), data_type: data_type.clone() })
        .collect()
}

impl Registry {
    /// The tables `things`, `features`, `versions`, `runs` and `training_sets`, with the rows of the
    /// project asked in and of every other open to the principal.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn system_tables(&self, principal: &Principal, project: &Name) -> Result<Vec<SystemTable>> {
        may_see(principal, project)?;
        let catalog = self.catalog();
        let open = |name: &Name| principal.projects.as_ref().is_none_or(|open| open.contains(name));
        Ok(vec![
            things(&catalog, &open),
            features(&catalog, &open),
            self.versions(&open).await?,
            self.run_rows(&open).await?,
            self.training_set_rows(&open).await?,
        ])
    }

    /// A table of the rows of a query, those of open projects.
    async fn table(
        &self,
        name: &'static str,
        columns: Vec<Column>,
        sql: &'static str,
        open: &(dyn Fn(&Name) -> bool + Sync),
        line: impl Fn(&Fields<'_>, &Name) -> Result<Value>,
    ) -> Result<SystemTable> {
        let doing = "reading its tables";
        let query = sqlx::query(sql).bind(NEWEST);
        let found =
            query.fetch_all(&mut *self.reader(doing).await?).await.map_err(RegistryError::storage(doing))?;
        let mut rows = Vec::new();
        for row in &found {
            let fields = Fields { row, path: &self.inner.path };
            let project = fields.name("project")?;
            if open(&project) {
                rows.push(line(&fields, &project)?);
            }
        }
        Ok(SystemTable { name, columns, rows })
    }

    async fn versions(&self, open: &(dyn Fn(&Name) -> bool + Sync)) -> Result<SystemTable> {
        let sql = "SELECT v.project, v.kind, v.name, v.revision, v.action, v.id, c.by, c.at,
                          s.revision IS NOT NULL AS standing
                     FROM version v JOIN change c USING (revision)
                     LEFT JOIN standing s USING (project, kind, name, revision)
                    ORDER BY v.revision DESC, v.kind, v.name LIMIT ?";
        let columns = columns(&[
            ("project", DataType::String),
            ("kind", DataType::String),
            ("name", DataType::String),
            ("revision", DataType::Int64),
            ("action", DataType::String),
            ("version", DataType::String),
            ("by", DataType::String),
            ("at", DataType::Timestamp),
            ("standing", DataType::Bool),
        ]);
        self.table("versions", columns, sql, open, |fields, project| {
            Ok(json!({
                "project": project, "kind": fields.text("kind")?, "name": fields.text("name")?,
                "revision": fields.number("revision")?, "action": fields.text("action")?,
                "version": fields.text("id")?, "by": fields.text("by")?, "at": fields.number("at")?,
                "standing": fields.number("standing")? != 0,
            }))
        })
        .await
    }

    async fn run_rows(&self, open: &(dyn Fn(&Name) -> bool + Sync)) -> Result<SystemTable> {
        let sql = "SELECT * FROM run ORDER BY started_at DESC, id LIMIT ?";
        let columns = columns(&[
            ("id", DataType::String),
            ("project", DataType::String),
            ("kind", DataType::String),
            ("subject", DataType::String),
            ("by", DataType::String),
            ("started_at", DataType::Timestamp),
            ("ended_at", DataType::Timestamp),
            ("state", DataType::String),
            ("error", DataType::Json),
            ("counts", DataType::Json),
        ]);
        self.table("runs", columns, sql, open, |fields, project| {
            Ok(json!({
                "id": fields.text("id")?, "project": project, "kind": fields.text("kind")?,
                "subject": fields.text("subject")?, "by": fields.text("by")?,
                "started_at": fields.number("started_at")?, "ended_at": fields.maybe_number("ended_at")?,
                "state": fields.text("state")?, "error": fields.maybe_text("error")?,
                "counts": fields.text("counts")?,
            }))
        })
        .await
    }

    async fn training_set_rows(&self, open: &(dyn Fn(&Name) -> bool + Sync)) -> Result<SystemTable> {
        let sql = "SELECT id, project, created_at, created_by, content_hash, row_count
                     FROM training_set ORDER BY created_at DESC, id LIMIT ?";
        let columns = columns(&[
            ("id", DataType::String),
            ("project", DataType::String),
            ("created_at", DataType::Timestamp),
            ("created_by", DataType::String),
            ("rows", DataType::Int64),
            ("content_hash", DataType::String),
        ]);
        self.table("training_sets", columns, sql, open, |fields, project| {
            Ok(json!({
                "id": fields.text("id")?, "project": project, "created_at": fields.number("created_at")?,
                "created_by": fields.text("created_by")?, "rows": fields.number("row_count")?,
                "content_hash": fields.text("content_hash")?,
            }))
        })
        .await
    }
}

fn things(catalog: &Arc<Catalog>, open: &dyn Fn(&Name) -> bool) -> SystemTable {
    let columns = columns(&[
        ("project", DataType::String),
        ("kind", DataType::String),
        ("name", DataType::String),
        ("version", DataType::String),
        ("owner", DataType::String),
        ("description", DataType::String),
        ("tags", DataType::List(Box::new(DataType::String))),
    ]);
    let states = catalog.projects.iter().filter(|(name, _)| open(name)).map(|(_, state)| state);
    let rows: Vec<Value> = states
        .flat_map(|state| state.versions())
        .map(|version| {
            let (address, about) = (version.address(), version.about());
            json!({
                "project": address.project, "kind": version.kind(), "name": address.name,
                "version": version.id(), "owner": about.owner, "description": about.description,
                "tags": about.tags,
            })
        })
        .collect();
    SystemTable { name: "things", columns, rows }
}

fn features(catalog: &Arc<Catalog>, open: &dyn Fn(&Name) -> bool) -> SystemTable {
    let columns = columns(&[
        ("project", DataType::String),
        ("view", DataType::String),
        ("name", DataType::String),
        ("type", DataType::String),
        ("expression", DataType::String),
        ("sensitivity", DataType::String),
        ("owner", DataType::String),
        ("description", DataType::String),
    ]);
    let states = catalog.projects.iter().filter(|(name, _)| open(name)).map(|(_, state)| state);
    let mut rows: Vec<Value> = Vec::new();
    for version in states.flat_map(|state| state.versions()) {
        let Version::View(view) = version else { continue };
        for it in &view.features {
            let own = &it.feature;
            let owner = own.about.owner.as_ref().or(view.definition.about.owner.as_ref());
            rows.push(json!({
                "project": view.address.project, "view": view.address.name, "name": own.name,
                "type": it.data_type, "expression": own.expression.text, "sensitivity": own.sensitivity,
                "owner": owner, "description": own.about.description,
            }));
        }
    }
    SystemTable { name: "features", columns, rows }
}
