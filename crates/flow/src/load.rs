//! `asof load`: files into a stored source.

use std::collections::BTreeMap;
use std::sync::Arc;

use asof_engine::Progress;
use asof_engine::delta::{FileLoad, LoadFile, OnBadRow, Standing};
use asof_model::{Address, Catalog, Name, Place, Principal, SourceVersion};
use asof_registry::{NewRun, RunKind};
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
    /// Loads files into a stored source, all of them or none, and keeps the record of the run; where none are
    /// named, those of the source's own path. Into a source that is pushed to, each is loaded in parts, and one that
    /// is cut off is gone on with when it is loaded again. When this returns, what it says is durable; where nobody
    /// waits for it any more, it goes on to its end.
    ///
    /// # Errors
    /// [`FlowError::NotFound`] for an unknown project or source; a conflict where the source is given another
    /// table meanwhile; else what [`asof_engine::Engine::load`] says. After an error nothing is loaded, but for
    /// [`FlowError::Stopping`], after which all of it may be: loaded again, it is passed over.
    pub async fn load(
        &self,
        principal: &Principal,
        project: &Name,
        source: &Name,
        files: Option<Vec<LoadFile>>,
        on_bad_row: OnBadRow,
        progress: Progress,
    ) -> Result<LoadReport> {
        may_see(principal, project)?;
        let catalog = self.registry.catalog();
        let version = stored(&catalog, project, source)?;
        let new =
            NewRun { id: None, project: project.clone(), kind: RunKind::Load, subject: source.to_string() };
        let flow = self.clone();
        let work = async move {
            tokio::select! {
                loaded = flow.load_version(&catalog, &version, files, on_bad_row, &progress) => {
                    loaded.map(|(files, position)| report(version.address.clone(), files, position))
                }
                // As if the process had ended here: what is committed is in, and asked for again it is
                // passed over.
                () = flow.stop.cancelled() => Err(FlowError::Stopping),
            }
        };
        let (run, report) = self.in_run(principal, new, work, LoadReport::counts).await?;
        Ok(LoadReport { run, ..report })
    }

    async fn load_version(
        &self,
        catalog: &Catalog,
        version: &Arc<SourceVersion>,
        files: Option<Vec<LoadFile>>,
        on_bad_row: OnBadRow,
        progress: &Progress,
    ) -> Result<(Vec<FileLoad>, Option<i64>)> {
        let files = match files {
            Some(files) => files,
            None => {
                let project = catalog.projects.get(&version.address.project);
                let root = project.map(|project| project.root.clone()).unwrap_or_default();
                self.engine.files_to_load(version, &root, None).await?
            }
        };
        if let Place::Push { .. } = &version.definition.place {
            return self.load_pushed(version, files, on_bad_row, progress).await;
        }
        let keys = key_columns(catalog, &version.address);
        let (registry, address) = (self.registry.clone(), version.address.clone());
        let standing: Standing = Arc::new(move || registry.catalog().source(&address).cloned());
        let done = self.engine.load(version, &files, on_bad_row, &keys, &standing, progress).await?;
        let given = done.iter().filter_map(|file| file.positions).map(|(_, last)| last).max();
        let position = match given {
            Some(last) => Some(last),
            // The rows are in: that the table cannot be asked about them is no failure of the load.
            None => self.engine.position(version).await.unwrap_or_else(|error| {
                tracing::warn!(source = %version.address, %error, "the last position of a source is not known");
                None
            }),
        };
        Ok((done, position))
    }
}

impl LoadReport {
    fn counts(&self) -> BTreeMap<String, u64> {
        [
            ("files", self.files_loaded),
            ("files_skipped", self.files_skipped),
            ("rows", self.rows),
            ("quarantined", self.quarantined),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
    }
}

fn report(source: Address, files: Vec<FileLoad>, position: Option<i64>) -> LoadReport {
    let skipped = files.iter().filter(|file| file.loaded_before).count() as u64;
    let quarantined = files.iter().map(|file| file.quarantined).sum();
    let quarantine =
        (quarantined > 0).then(|| format!("offline/{}/{}/quarantine", source.project, source.name));
    LoadReport {
        run: String::new(),
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
        .filter(|found| found.definition.is_stored())
        .map(|found| format!("`{}`", found.address.name))
        .collect();
    let hint = match stored.is_empty() {
        true => "the project has no source with `store: true` or `push: true`".to_owned(),
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
