//! From a project's files to what would stand: read, checked against the real sources, resolved. Plan and
//! apply share it, so that what is planned is what is applied.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use asof_engine::no_progress;
use asof_flow::Operation;
use asof_model::{
    Action, Catalog, Change, Diagnostic, Diagnostics, Format, Name, Place, Principal, Project, ProjectFile,
    ProjectState, Revision, Severity, Source, ThingKind, Version,
};

use crate::endpoint::{PlanAnswer, RowsToMaterialize};
use crate::error::Failure;
use crate::rooms::Shared;

/// A project's files, found good.
pub(crate) struct Agreed {
    pub(crate) project: Project,
    pub(crate) root: PathBuf,
    /// The revision it was resolved against.
    pub(crate) base: Revision,
    pub(crate) versions: Vec<Version>,
    pub(crate) warnings: Diagnostics,
    current: Arc<ProjectState>,
}

/// Reads, checks and resolves.
///
/// # Errors
/// All that is wrong with the definitions, at once, as diagnostics.
pub(crate) async fn prepare(
    state: &Shared,
    principal: &Principal,
    operation: Operation,
    files: &[ProjectFile],
    root: Option<PathBuf>,
) -> Result<Agreed, Failure> {
    let _seat = state.flow.enter(operation, &no_progress()).await?;
    let catalog = state.registry.catalog();
    let (project, mut diagnostics) = Project::read(files);
    let Some(project) = project else { return Err(refused(diagnostics)) };
    let name = project.config.project.clone();
    if !crate::access::may_see(principal, &name) {
        return Err(Failure::new(
            asof_model::Kind::Forbidden,
            "project_forbidden",
            format!("project `{name}` is not open to `{}`", principal.name),
        ));
    }
    let current = catalog.projects.get(&name).cloned().unwrap_or_default();
    let root = root.unwrap_or_else(|| current.root.clone());
    let (types, found) = state.engine.check(&project, &root, &catalog).await;
    diagnostics.extend(found);
    let (versions, found) = asof_model::resolve(&project, &catalog, &types);
    diagnostics.extend(found);
    let mut seen = Vec::new();
    diagnostics.retain(|it| {
        let new = !seen.contains(it);
        if new {
            seen.push(it.clone());
        }
        new
    });
    sort(&mut diagnostics, files);
    if diagnostics.iter().all(|it| it.severity != Severity::Error) {
        diagnostics.extend(over_deletes(state, &project, &catalog, &versions).await?);
        // Passed over in silence is only what stands on something that is told to be wrong.
        diagnostics.extend(passed_over(&project, &versions));
    }
    if diagnostics.iter().any(|it| it.severity == Severity::Error) {
        return Err(refused(diagnostics));
    }
    Ok(Agreed { project, root, base: catalog.revision, versions, warnings: diagnostics, current })
}

/// Views over windows of rows among which are deletes that name no event: what they end no window can leave out.
async fn over_deletes(
    state: &Shared,
    project: &Project,
    catalog: &Catalog,
    versions: &[Version],
) -> Result<Diagnostics, Failure> {
    let mut found = Diagnostics::new();
    for version in versions {
        let Version::View(view) = version else { continue };
        if !view.definition.is_window() {
            continue;
        }
        let new = versions.iter().find_map(|version| match version {
            Version::Source(source) if source.address == view.source => Some(source),
            _ => None,
        });
        let Some(source) = new.or_else(|| catalog.source(&view.source)) else { continue };
        if !state.flow.took_nameless_deletes(source).await? {
            continue;
        }
        let message = format!(
            "view `{}` has windows, and among the rows of its source `{}` are deletes that do not name the row they delete",
            view.address.name, source.address.name
        );
        let at = project
            .definitions
            .iter()
            .find(|it| it.value.kind() == ThingKind::View && *it.value.name() == view.address.name);
        let hint =
            "push the rows to another source, whose deletes carry an `id`, and have the view read that";
        let told = Diagnostic::error("deletes_without_id", message).hint(hint);
        found.push(match at {
            Some(at) => told.at(at.key(&["source"])),
            None => told,
        });
    }
    Ok(found)
}

/// Definitions that came to no version: applied without them, they would be gone.
fn passed_over(project: &Project, versions: &[Version]) -> Diagnostics {
    let made = |kind: ThingKind, name: &Name| {
        versions.iter().any(|it| it.kind() == kind && it.address().name == *name)
    };
    let lost = project.definitions.iter().filter(|it| !made(it.value.kind(), it.value.name()));
    lost.map(|it| {
        let (kind, name) = (it.value.kind(), it.value.name());
        Diagnostic::error(
            "internal",
            format!("{kind} `{name}` was passed over without a word, a defect in Asof"),
        )
        .at(it.span())
        .hint("nothing was applied; write it another way, and report this")
    })
    .collect()
}

/// What is asked of the definitions alone, and again with what the data says.
const ASKED_TWICE: [&str; 2] = ["default_type", "not_a_time"];

/// In the order of their places, each cause once.
fn sort(diagnostics: &mut Diagnostics, files: &[ProjectFile]) {
    let place = |file: &str| files.iter().position(|it| it.path == file).unwrap_or(usize::MAX);
    let of = |it: &Diagnostic| it.span.as_ref().map(|span| (place(&span.file), span.line, span.column));
    diagnostics.sort_by_key(of);
    let mut told = BTreeSet::new();
    diagnostics.retain(|it| match ASKED_TWICE.iter().find(|code| **code == it.code) {
        Some(code) => told.insert((*code, of(it))),
        None => true,
    });
}

/// Whether a source's rows are not counted but judged by their bytes.
fn judged(source: &Source) -> bool {
    let text = matches!(source.place, Place::Files { format: Format::Csv | Format::Ndjson, .. });
    text && !source.store
}

/// Rows of a source that its new version does not read, and how they are brought over. Values alone can be read of it and
/// loaded again: of versions of events their order would be lost, and of a source with a past that would be read twice.
fn left_behind(source: &Source, table: &str, rows: u64) -> String {
    let name = &source.name;
    let has_past = matches!(&source.place, Place::Push { past: Some(_) });
    let noun = if rows == 1 { "row" } else { "rows" };
    let stay =
        format!("below `offline/{table}` of the data directory, and the new version does not read them");
    match source.store {
        true => {
            format!("its {rows} loaded {noun}: they stay {stay}; `asof load {name}` loads its files again")
        }
        false if source.id.is_none() && !has_past => format!(
            "its {rows} pushed {noun}: they stay {stay}. To bring their values over, `asof sql 'select * from {name}' \
             --format ndjson > {name}.ndjson` before this is applied and `asof load {name} {name}.ndjson` after; their \
             `visible_at` is then their `available_at` or event time, and rows that were pushed as deletes are none: leave \
             them out"
        ),
        false => format!(
            "its {rows} pushed {noun}: they stay {stay}. Push or load them again from where they came from, or give the \
             new definition a name of its own"
        ),
    }
}

fn refused(diagnostics: Diagnostics) -> Failure {
    let errors = diagnostics.iter().filter(|it| it.severity == Severity::Error).count();
    let problems = if errors == 1 { "a problem".to_owned() } else { format!("{errors} problems") };
    Failure::invalid("bad_definitions", format!("the definitions have {problems}")).diagnostics(diagnostics)
}

impl Agreed {
    /// What would change, with what it would leave behind.
    pub(crate) async fn changes(&self, state: &Shared) -> Vec<Change> {
        let mut changes = asof_model::diff(&self.current, &self.versions);
        let of_sources = changes.iter_mut().filter(|change| change.kind == ThingKind::Source);
        for change in of_sources.filter(|change| change.action == Action::Changed) {
            let of_it = |it: &&Version| it.kind() == ThingKind::Source && it.address().name == change.name;
            let old = self.current.sources.get(&change.name);
            let (Some(old), Some(Version::Source(new))) = (old, self.versions.iter().find(of_it)) else {
                continue;
            };
            match state.engine.left_behind(old, new, &self.root).await {
                Ok(Some((table, rows))) => {
                    change.invalidates.push(left_behind(&old.definition, &table, rows))
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(source = %old.address, %error, "the rows that a source has cannot be counted");
                }
            }
        }
        changes
    }

    /// What would be removed.
    pub(crate) fn removed(changes: &[Change]) -> Vec<(ThingKind, Name)> {
        let removed = changes.iter().filter(|change| change.action == Action::Removed);
        removed.map(|change| (change.kind, change.name.clone())).collect()
    }

    /// The plan, with what it would cost.
    pub(crate) async fn plan(&self, state: &Shared) -> PlanAnswer {
        let changes = self.changes(state).await;
        let mut rows = Vec::new();
        let next = self.next();
        for change in &changes {
            let new = matches!(change.action, Action::Created | Action::Changed);
            if change.kind != ThingKind::View || !new {
                continue;
            }
            let Some(Version::View(view)) = self
                .versions
                .iter()
                .find(|it| it.kind() == ThingKind::View && it.address().name == change.name)
            else {
                continue;
            };
            let source = next.source(&view.source).cloned();
            let estimated = source.as_ref().is_some_and(|source| judged(&source.definition));
            let count = match source {
                Some(source) => state.engine.estimate_rows(&source, &self.root).await.ok().flatten(),
                None => None,
            };
            rows.push(RowsToMaterialize { view: change.name.clone(), rows: count, estimated });
        }
        PlanAnswer {
            project: self.project.config.project.clone(),
            base: self.base,
            changes,
            moved_from: self.moved_from(),
            rows_to_materialize: rows,
            without_owner: asof_model::without_owner(&self.versions),
            diagnostics: self.warnings.clone(),
        }
    }

    /// The folder recorded, where the project has one and it is another.
    pub(crate) fn moved_from(&self) -> Option<PathBuf> {
        let recorded = &self.current.root;
        (!recorded.as_os_str().is_empty() && *recorded != self.root).then(|| recorded.clone())
    }

    /// The catalog as it would be.
    fn next(&self) -> Catalog {
        let roots = [(self.project.config.project.clone(), self.root.clone())].into();
        Catalog::from_versions(self.base, roots, self.versions.iter().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_without_a_version_is_told() {
        let text =
            "entity: seller\nkeys: {seller_id: int64}\n---\nsource: sellers\npath: a.csv\nevent_time: at\n";
        let file = |path: &str, text: &str| ProjectFile { path: path.to_owned(), text: text.to_owned() };
        let (project, found) =
            Project::read(&[file("asof.yaml", "project: shop\n"), file("features/a.yaml", text)]);
        assert!(found.is_empty(), "{found:?}");
        let lost = passed_over(&project.unwrap(), &[]);
        let told: Vec<_> =
            lost.iter().map(|it| (it.message.as_str(), it.span.as_ref().unwrap().line)).collect();
        assert_eq!(
            told,
            [
                ("entity `seller` was passed over without a word, a defect in Asof", 1),
                ("source `sellers` was passed over without a word, a defect in Asof", 4),
            ]
        );
        assert!(lost.iter().all(Diagnostic::is_error));
    }
}
