//! Definitions against the data: the columns there are, the types of expressions.
//!
//! Every problem is reported at once, at its place in the text. A thing that stands on a broken one is
//! passed over in silence.

mod derived;
mod source;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use asof_model::{
    Catalog, Definition, Diagnostic, Diagnostics, Explain, Located, Name, Place, Project, Source,
    SourceVersion, Span, TypedProject, VersionId,
};

use crate::expression::Problem;
use crate::source::{open, opened};
use crate::{Engine, Error, Result};

/// What a step of the check knows and fills.
struct Check<'a> {
    engine: &'a Engine,
    project: &'a Project,
    /// What is agreed, with this project's sources as the data has them.
    catalog: Catalog,
    /// Sources whose columns are known by their names alone.
    untyped: BTreeSet<Name>,
    /// Of each source the columns whose type the model does not have, with that type.
    left_out: BTreeMap<Name, Vec<(String, String)>>,
    types: TypedProject,
    out: Diagnostics,
}

impl Engine {
    /// Looks at the data of a project's definitions: the columns of its sources, the types of its
    /// features. `root`: the folder that relative paths start from; `current`: what is agreed, for
    /// sources and entities of other projects.
    pub async fn check(
        &self,
        project: &Project,
        root: &Path,
        current: &Catalog,
    ) -> (TypedProject, Diagnostics) {
        let engine = self.clone();
        let (owned, root, current) = (project.clone(), root.to_owned(), current.clone());
        // On the engine's threads: planning recurses deeper than a caller's stack may allow.
        let work = async move {
            let mut catalog = current;
            let home = owned.config.project.clone();
            let mut state = catalog.projects.get(&home).map(|state| (**state).clone()).unwrap_or_default();
            state.root = root;
            state.sources.clear();
            catalog.projects.insert(home, Arc::new(state));
            let mut check = Check {
                engine: &engine,
                project: &owned,
                catalog,
                untyped: owned.untyped.iter().cloned().collect(),
                left_out: BTreeMap::new(),
                types: TypedProject::default(),
                out: Diagnostics::new(),
            };
            check.sources().await;
            check.views();
            check.derived();
            Ok((check.types, check.out))
        };
        match self.run(work).await {
            Ok(answer) => answer,
            Err(error) => {
                let found = Diagnostic::error(error.code(), error.to_string()).maybe_hint(error.hint());
                (TypedProject::default(), vec![found])
            }
        }
    }

    /// How many rows a source has: counted where footers or a table's log say it, judged by size for
    /// text files, none for a query and for what is pushed. `root`: the folder that relative paths start from.
    ///
    /// # Errors
    /// As opening the source.
    pub async fn estimate_rows(&self, source: &SourceVersion, root: &Path) -> Result<Option<u64>> {
        if matches!(source.definition.place, Place::Sql { .. } | Place::Push { .. }) {
            return Ok(None);
        }
        let mut catalog = Catalog::default();
        let state = asof_model::ProjectState { root: root.to_owned(), ..Default::default() };
        catalog.projects.insert(source.address.project.clone(), Arc::new(state));
        Ok(open(self, &catalog, source, None, 0).await?.estimate())
    }

    /// What a new version of a stored source does not read of the old one's rows, because it keeps its own in another
    /// table: the old one's table, `PROJECT/SOURCE/FAMILY` below `offline/`, and how many rows are its own. None where
    /// they share one, or there are none. `root`: the folder that relative paths start from.
    ///
    /// # Errors
    /// Where the old one's rows cannot be read.
    pub async fn left_behind(
        &self,
        old: &SourceVersion,
        new: &SourceVersion,
        root: &Path,
    ) -> Result<Option<(String, u64)>> {
        if !old.definition.is_stored() {
            return Ok(None);
        }
        let table = self.table_of(old)?;
        if new.definition.is_stored() && self.table_of(new)? == table {
            return Ok(None);
        }
        // Its past is read where it is.
        let mut own = old.clone();
        if let Place::Push { past } = &mut own.definition.place {
            *past = None;
        }
        let rows = opened::stored(self, Some(root), &own, None, None).await?.estimate();
        Ok(rows.filter(|rows| *rows > 0).map(|rows| (table, rows)))
    }
}

impl Check<'_> {
    /// Sources of files first, then queries in an order in which each comes after what it reads.
    async fn sources(&mut self) {
        let project = self.project;
        let mut waiting: BTreeMap<&Name, (&Located<Definition>, &Source)> = BTreeMap::new();
        for it in project.definitions.iter().chain(&project.half_read) {
            if let Definition::Source(source) = &it.value
                // Of two of one name the first is looked at.
                && project.source(&source.name).is_some_and(|first| std::ptr::eq(first, source))
            {
                match source.place {
                    Place::Sql { .. } => drop(waiting.insert(&source.name, (it, source))),
                    Place::Push { .. } => self.pushed(it, source).await,
                    Place::Files { .. } => {
                        let before = self.out.len();
                        self.source(it, source).await;
                        self.of_names(&source.name, before);
                    }
                }
            }
        }
        loop {
            let before = waiting.len();
            let names: Vec<&Name> = waiting.keys().copied().collect();
            for name in names {
                let Some((at, source)) = waiting.get(name).copied() else { continue };
                let before = self.out.len();
                if self.query(at, source).await {
                    waiting.remove(name);
                    let own = |read: &asof_model::Reference| {
                        self.project.address(read).project == self.project.config.project
                    };
                    if source.reads().iter().any(|read| own(read) && self.untyped.contains(&read.name)) {
                        self.untyped.insert(source.name.clone());
                    }
                    self.of_names(&source.name, before);
                }
            }
            if waiting.is_empty() || waiting.len() == before {
                break;
            }
        }
        for (at, source) in waiting.into_values() {
            self.left(at, source).await;
        }
    }

    /// Where the types of a source's columns are not known, drops what was said behind `before` of its columns
    /// or of a view over them, but for those that are not there.
    fn of_names(&mut self, source: &Name, before: usize) {
        if self.untyped.contains(source) {
            let said = self.out.split_off(before);
            self.out.extend(said.into_iter().filter(|it| it.code == "column_not_found"));
        }
    }

    /// A query that still cannot be opened. What it names and is not there is reported where names are
    /// resolved, what is there and broken is reported already; anything else is reported here.
    async fn left(&mut self, at: &Located<Definition>, source: &Source) {
        let known = |read: &asof_model::Reference| {
            let address = self.project.address(read);
            self.catalog.source(&address).is_some()
        };
        if !source.reads().iter().all(known) {
            return;
        }
        if let Err(error) = open(self.engine, &self.catalog, &self.version(source), None, 0).await {
            self.failed(&error, source, at.at(&["sql"]));
        }
    }

    /// A source as it would be agreed, for opening it.
    fn version(&self, source: &Source) -> SourceVersion {
        SourceVersion {
            address: asof_model::Address {
                project: self.project.config.project.clone(),
                name: source.name.clone(),
            },
            id: VersionId(String::new()),
            definition: source.clone(),
            columns: Vec::new(),
        }
    }

    /// A source that is pushed to: its columns are what its schema says.
    async fn pushed(&mut self, at: &Located<Definition>, source: &Source) {
        self.declared_only(at, source).await;
        if let Place::Push { past: Some(_) } = source.place {
            self.past(at, source).await;
        }
    }

    /// The files of its past have its columns, in types that can be read as those.
    async fn past(&mut self, at: &Located<Definition>, source: &Source) {
        let version = SourceVersion { columns: source.schema.clone(), ..self.version(source) };
        if let Err(error) = opened::check_past(self.engine, &self.catalog, &version).await {
            self.failed(&error, source, at.at(&["past"]));
        }
    }

    /// Takes a source's columns as found.
    fn put(&mut self, source: &Source, columns: Vec<asof_model::Column>) {
        let mut version = self.version(source);
        version.columns = columns.clone();
        if let Some(state) = self.catalog.projects.get_mut(&self.project.config.project) {
            Arc::make_mut(state).sources.insert(source.name.clone(), Arc::new(version));
        }
        self.types.source_columns.insert(source.name.clone(), columns);
    }

    /// Reports an error of reading a source.
    fn failed(&mut self, error: &Error, source: &Source, span: Span) {
        let text = error.to_string();
        let whose = format!("source `{}`: ", source.name);
        let message = if text.starts_with(whose.trim_end_matches(": ")) { text } else { whose + &text };
        self.out.push(Diagnostic::error(error.code(), message).at(span).maybe_hint(error.hint()));
    }

    /// Reports a problem of an expression: `what` it is, e.g. ``feature `tier` of view `seller` ``.
    fn problem(&mut self, problem: Problem, what: &str, span: Span) {
        let message = format!("{what}: {}", problem.message);
        self.out.push(Diagnostic::error(problem.code, message).at(span).maybe_hint(problem.hint));
    }
}
