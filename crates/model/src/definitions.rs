//! The definitions that an answer was made of, kept beside it: with them it can be made again, whatever stands by
//! then.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Address, Ask, Catalog, DerivedVersion, LabelReading, Name, Place, Reading, Revision, Selection,
    ServiceVersion, SourceVersion, Step, StoredReading, StoredSelection, Version, ViewVersion,
};

/// A selection, with every version that it reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definitions {
    /// The project asked in.
    pub project: Name,
    /// The registry's revision it was resolved against.
    pub revision: Revision,
    /// What was asked, as the user said it.
    pub ask: Ask,
    /// Whether full names were asked for.
    #[serde(default)]
    pub full_names: bool,
    /// The service asked for, as it was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceVersion>,
    /// The readings and output columns.
    pub selection: StoredSelection,
    /// Every view read.
    pub views: Vec<ViewVersion>,
    /// Every derived that was computed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derived: Vec<DerivedVersion>,
    /// Every source read.
    pub sources: Vec<SourceVersion>,
    /// Per project, the folder that relative paths of its sources start from.
    pub roots: BTreeMap<Name, PathBuf>,
}

/// A selection names what is not there: a defect of whoever made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{name}` is not there")]
pub struct Missing {
    /// What kind of thing.
    pub what: &'static str,
    /// Its name.
    pub name: String,
}

fn missing(what: &'static str, name: impl std::fmt::Display) -> Missing {
    Missing { what, name: name.to_string() }
}

impl Catalog {
    /// All that a selection was made of.
    ///
    /// # Errors
    /// [`Missing`] where the selection is another catalog's.
    pub fn definitions(
        &self,
        ask: &Ask,
        full_names: bool,
        selection: &Selection,
    ) -> Result<Definitions, Missing> {
        let mut views: Vec<ViewVersion> = Vec::new();
        let mut sources: Vec<SourceVersion> = Vec::new();
        let mut waiting: Vec<Arc<SourceVersion>> = Vec::new();
        let labels = selection.labels.iter().map(|label| &label.reading);
        for reading in selection.readings.iter().chain(labels) {
            if !views.iter().any(|it| it.address == reading.view.address) {
                views.push(reading.view.as_ref().clone());
            }
            waiting.push(Arc::clone(&reading.source));
        }
        let mut derived: Vec<DerivedVersion> = Vec::new();
        for step in &selection.steps {
            if !derived.iter().any(|it| it.address == step.derived.address) {
                derived.push(step.derived.as_ref().clone());
            }
        }
        let mut roots: BTreeMap<Name, PathBuf> = BTreeMap::new();
        let mut next = 0;
        while let Some(source) = waiting.get(next).cloned() {
            next += 1;
            if sources.iter().any(|it| it.address == source.address) {
                continue;
            }
            let project = &source.address.project;
            let state = self.projects.get(project).ok_or_else(|| missing("project", project))?;
            roots.insert(project.clone(), state.root.clone());
            sources.push(source.as_ref().clone());
            if matches!(source.definition.place, Place::Sql { .. }) {
                // A query may read any source of its project, and those of others that it names.
                waiting.extend(state.sources.values().cloned());
                for read in source.definition.reads() {
                    let home = read.project.unwrap_or_else(|| project.clone());
                    waiting.extend(self.source(&Address { project: home, name: read.name }).cloned());
                }
            }
        }
        Ok(Definitions {
            project: selection.project.clone(),
            revision: self.revision,
            ask: ask.clone(),
            full_names,
            service: selection.service.as_deref().cloned(),
            selection: selection.stored(),
            views,
            derived,
            sources,
            roots,
        })
    }
}

impl Definitions {
    /// The catalog and the selection that these are of.
    ///
    /// # Errors
    /// [`Missing`] where the selection names what is not among them.
    pub fn restore(&self) -> Result<(Catalog, Selection), Missing> {
        let views = self.views.iter().cloned().map(|it| Version::View(Arc::new(it)));
        let sources = self.sources.iter().cloned().map(|it| Version::Source(Arc::new(it)));
        let derived = self.derived.iter().cloned().map(|it| Version::Derived(Arc::new(it)));
        let versions = sources.chain(views).chain(derived);
        let catalog = Catalog::from_versions(self.revision, self.roots.clone(), versions);
        let reading = |stored: &StoredReading| {
            let view = catalog.view(&stored.view).ok_or_else(|| missing("view", &stored.view))?;
            let source = catalog.source(&view.source).ok_or_else(|| missing("source", &view.source))?;
            Ok(Reading { view: Arc::clone(view), source: Arc::clone(source), keys: stored.keys.clone() })
        };
        let steps = self.selection.steps.iter().map(|stored| {
            let derived =
                catalog.derived(&stored.derived).ok_or_else(|| missing("derived", &stored.derived))?;
            Ok(Step { derived: Arc::clone(derived), feature: stored.feature, inputs: stored.inputs.clone() })
        });
        let labels = self.selection.labels.iter().map(|stored| {
            Ok(LabelReading {
                name: stored.name.clone(),
                reading: reading(&stored.reading)?,
                feature: stored.feature,
                after: stored.after,
                data_type: stored.data_type.clone(),
            })
        });
        let selection = Selection {
            project: self.project.clone(),
            service: self.service.clone().map(Arc::new),
            readings: self.selection.readings.iter().map(reading).collect::<Result<_, _>>()?,
            columns: self.selection.columns.clone(),
            request: self.selection.request.clone(),
            steps: steps.collect::<Result<_, _>>()?,
            labels: labels.collect::<Result<_, _>>()?,
        };
        Ok((catalog, selection))
    }
}
