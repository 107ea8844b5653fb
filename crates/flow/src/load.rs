//! `asof load`: files into a stored source.

use std::collections::BTreeMap;
use std::sync::Arc;

use asof_engine::Progress;
use asof_engine::delta::{FileLoad, LoadFile, OnBadRow};
use asof_model::{Address, Catalog, Name, Principal, SourceVersion};
use asof_registry::{NewRun, RunError, RunKind};
use serde::Serialize;

use crate::{Flow, FlowError, Result};

/// What became of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// The run that the registry recorded.
    pub run: String,
    /// The source.
    pub source: Address,
    /// Every file, in the order of their names.
    pub files: Vec<FileLoad>,
    /// How many files were new.
    pub files_loaded: u64,
    /// How many were loaded before, by content, and passed over.
    pub files_skipped: u64,
    /// How many rows were stored.
    pub rows: u64,
    /// How many rows went to the quarantine.
    pub quarantined: u64,
    /// The folder of the quarantine table, relative to the data directory, where rows went there.
    pub quarantine: Option<String>,
    /// The source's last position now; none where nothing was ever loaded.
    pub position: Option<i64>,
}

impl Flow {
    /// Loads files into a stored source, all of them or none, and keeps the record of the run. Without
    /// files the source's own path is loaded. When this returns, what it says is durable.
    ///
    /// # Errors
    /// [`FlowError::NotFound`] for an unknown project or source; else what
    /// [`asof_engine::Engine::load`] says. After an error nothing is loaded.
    pub async fn load(
        &self,
        principal: &Principal,
        project: &Name,
        source: &Name,
        files: Vec<LoadFile>,
        on_bad_row: OnBadRow,
        progress: Progress,
    ) -> Result<LoadReport> {
        may_see(principal, project)?;
        let catalog = self.registry.catalog();
        let version = stored(&catalog, project, source)?;
        let new =
            NewRun { id: None, project: project.clone(), kind: RunKind::Load, subject: source.to_string() };
        let run = self.registry.start_run(principal, new).await?;
        let loaded = self.load_version(&catalog, &version, files, on_bad_row, &progress).await;
        let mut counts = BTreeMap::new();
        let report = match loaded {
            Ok((files, position)) => {
                let report = report(run.clone(), version.address.clone(), files, position);
                counts.insert("files".to_owned(), report.files_loaded);
                counts.insert("files_skipped".to_owned(), report.files_skipped);
                counts.insert("rows".to_owned(), report.rows);
                counts.insert("quarantined".to_owned(), report.quarantined);
                Ok(report)
            }
            Err(error) => Err(error),
        };
        let error = report.as_ref().err().map(|error| RunError::of(error));
        let finished = self.registry.finish_run(&run, error, counts).await;
        let report = report?;
        // The rows are in and durable, so the record's trouble is not the caller's.
        if let Err(error) = finished {
            tracing::warn!(run, %error, "a finished load could not be recorded");
        }
        Ok(report)
    }

    async fn load_version(
        &self,
        catalog: &Catalog,
        version: &Arc<SourceVersion>,
        files: Vec<LoadFile>,
        on_bad_row: OnBadRow,
        progress: &Progress,
    ) -> Result<(Vec<FileLoad>, Option<i64>)> {
        let files = if files.is_empty() {
            let root = catalog.projects.get(&version.address.project).map(|project| project.root.clone());
            self.engine.files_to_load(version, &root.unwrap_or_default(), &[]).await?
        } else {
            files
        };
        let keys = key_columns(catalog, &version.address);
        let done = self.engine.load(version, &files, on_bad_row, &keys, progress).await?;
        let position = self.engine.position(version).await?;
        Ok((done, position))
    }
}

fn report(run: String, source: Address, files: Vec<FileLoad>, position: Option<i64>) -> LoadReport {
    let skipped = files.iter().filter(|file| file.loaded_before).count() as u64;
    let quarantined = files.iter().map(|file| file.quarantined).sum();
    let quarantine =
        (quarantined > 0).then(|| format!("offline/{}/{}/quarantine", source.project, source.name));
    LoadReport {
        run,
        files_loaded: files.len() as u64 - skipped,
        files_skipped: skipped,
        rows: files.iter().map(|file| file.rows).sum(),
        quarantined,
        quarantine,
        position,
        source,
        files,
    }
}

/// The columns that any view binds to a key of its entity.
fn key_columns(catalog: &Catalog, source: &Address) -> Vec<String> {
    let mut columns: Vec<String> = catalog
        .views()
        .filter(|view| view.source == *source)
        .flat_map(|view| view.keys.iter().map(|key| key.column.clone()))
        .collect();
    columns.sort();
    columns.dedup();
    columns
}

fn stored(catalog: &Catalog, project: &Name, source: &Name) -> Result<Arc<SourceVersion>> {
    let address = Address { project: project.clone(), name: source.clone() };
    if let Some(found) = catalog.source(&address) {
        return Ok(Arc::clone(found));
    }
    let Some(state) = catalog.projects.get(project) else {
        return Err(FlowError::NotFound {
            what: "project",
            name: project.to_string(),
            hint: Some("run `asof apply` in its folder first".to_owned()),
        });
    };
    let stored: Vec<String> = state
        .sources
        .values()
        .filter(|found| found.definition.store)
        .map(|found| format!("`{}`", found.address.name))
        .collect();
    let hint = match stored.is_empty() {
        true => "the project has no source with `store: true`".to_owned(),
        false => format!("the project's stored sources are {}", stored.join(", ")),
    };
    Err(FlowError::NotFound { what: "source", name: source.to_string(), hint: Some(hint) })
}

pub(crate) fn may_see(principal: &Principal, project: &Name) -> Result<()> {
    match &principal.projects {
        Some(projects) if !projects.contains(project) => {
            Err(FlowError::Forbidden { project: project.to_string() })
        }
        _ => Ok(()),
    }
}
