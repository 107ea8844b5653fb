//! Whether what was agreed still stands on what it was agreed over. Within a project an apply sees to
//! that; things of other projects change on their own.

use std::sync::Arc;

use crate::hash::source_id;
use crate::{Address, Catalog, Explain, Kind, Place, Reference, SourceVersion, VersionId, ViewVersion};

/// How deep sources with `sql` may stand on each other.
const DEEPEST: usize = 16;

/// A thing stands on a version that is no more: what it would read is not what was agreed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// A view, on its source.
    #[error("view `{view}` stands on version {agreed} of source `{on}`, which is now {current}")]
    View {
        /// The view.
        view: Address,
        /// Its source.
        on: Address,
        /// The version the view was applied with, short.
        agreed: String,
        /// The version there is.
        current: String,
    },
    /// A view, on a source that is gone.
    #[error("view `{view}` stands on source `{on}`, which is gone")]
    Gone {
        /// The view.
        view: Address,
        /// Its source.
        on: Address,
    },
    /// Derived features, on a view or derived.
    #[error("derived `{derived}` stands on version {agreed} of `{on}`, which is {current}")]
    Derived {
        /// The derived features.
        derived: Address,
        /// What they read.
        on: Address,
        /// The version they were applied with, short.
        agreed: String,
        /// What there is: `now` and a version, or `gone`.
        current: String,
    },
    /// A source with `sql`, on what it reads.
    #[error("source `{query}` was applied with other versions of the sources its `sql` reads ({reads})")]
    Query {
        /// The source.
        query: Address,
        /// What it reads of other projects.
        reads: String,
    },
}

impl Explain for Stale {
    fn kind(&self) -> Kind {
        Kind::Conflict
    }

    fn code(&self) -> &'static str {
        match self {
            Stale::View { .. } | Stale::Gone { .. } => "view_stale",
            Stale::Derived { .. } => "derived_stale",
            Stale::Query { .. } => "source_stale",
        }
    }

    fn hint(&self) -> Option<String> {
        let (Stale::View { view: thing, .. }
        | Stale::Gone { view: thing, .. }
        | Stale::Derived { derived: thing, .. }
        | Stale::Query { query: thing, .. }) = self;
        Some(format!(
            "run `asof apply` in the folder of project `{}`: what stands on other projects takes their changes then, as a new version",
            thing.project
        ))
    }
}

impl Catalog {
    /// The source that a view reads, in the very version that the view was agreed with. Whoever reads rows
    /// of a view takes its source here.
    ///
    /// # Errors
    /// [`Stale`] where the source, or what its `sql` reads, has changed since in another project.
    pub fn source_of(&self, view: &ViewVersion) -> Result<&Arc<SourceVersion>, Stale> {
        let Some(source) = self.source(&view.source) else {
            return Err(Stale::Gone { view: view.address.clone(), on: view.source.clone() });
        };
        if source.id != view.source_id {
            return Err(Stale::View {
                view: view.address.clone(),
                on: view.source.clone(),
                agreed: view.source_id.short().to_owned(),
                current: source.id.short().to_owned(),
            });
        }
        self.still_reads(source)?;
        Ok(source)
    }

    /// Whether a source with `sql` still reads the versions that it was agreed with.
    ///
    /// # Errors
    /// [`Stale::Query`] where one of them has changed since in another project.
    pub fn still_reads(&self, source: &SourceVersion) -> Result<(), Stale> {
        self.still_reads_at(source, 0)
    }

    fn still_reads_at(&self, source: &SourceVersion, depth: usize) -> Result<(), Stale> {
        if !matches!(source.definition.place, Place::Sql { .. }) {
            return Ok(());
        }
        let home = &source.address.project;
        let reads: Vec<Address> =
            source.definition.reads_as_written().iter().map(|read| address_in(home, read)).collect();
        let stale = || {
            let mut others: Vec<String> =
                reads.iter().filter(|read| read.project != *home).map(|read| format!("`{read}`")).collect();
            others.sort();
            others.dedup();
            Stale::Query { query: source.address.clone(), reads: others.join(", ") }
        };
        // Its own project's sources are compared at every apply.
        if reads.iter().any(|read| read.project != *home) {
            let now: Option<Vec<VersionId>> =
                reads.iter().map(|read| Some(self.source(read)?.id.clone())).collect();
            let same = now.is_some_and(|now| {
                source_id(&source.address, &source.definition, &source.columns, &now) == source.id
            });
            if !same || depth > DEEPEST {
                return Err(stale());
            }
        }
        if depth > DEEPEST {
            // Planning refuses a circle by its name.
            return Ok(());
        }
        for read in reads.iter().filter_map(|read| self.source(read)) {
            self.still_reads_at(read, depth + 1)?;
        }
        Ok(())
    }
}

fn address_in(home: &crate::Name, reference: &Reference) -> Address {
    let project = reference.project.as_ref().unwrap_or(home);
    Address { project: project.clone(), name: reference.name.clone() }
}
