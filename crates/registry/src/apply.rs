//! One apply: compare with what stands, then put, remove and describe in one transaction.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use asof_model::{
    Action, Address, Catalog, Name, Principal, Revision, ThingKind, Timestamp, Version, VersionId,
};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use crate::record::{self, Fields};
use crate::registry::{Written, may_see};
use crate::{Registry, RegistryError, Result};

/// A change to one project, resolved and checked against the catalog at `base`.
#[derive(Debug, Clone)]
pub struct Apply {
    /// The project.
    pub project: Name,
    /// The folder that relative paths of its sources start from.
    pub root: PathBuf,
    /// The catalog's revision that the change was made against.
    pub base: Revision,
    /// Versions to stand from now on. One that stands already, word for word, changes nothing.
    pub put: Vec<Version>,
    /// Things to remove. Their versions are kept.
    pub remove: Vec<(ThingKind, Name)>,
}

/// One thing that one apply changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRecord {
    /// The revision the apply made.
    pub revision: Revision,
    /// The project applied.
    pub project: Name,
    /// Who applied.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// What happened to the thing.
    pub action: Action,
    /// The thing; none where only the project's folder moved.
    pub thing: Option<(ThingKind, Address)>,
}

/// One entry of a thing's history.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionRecord {
    /// The revision it was written at.
    pub revision: Revision,
    /// Who applied it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// What happened to the thing.
    pub action: Action,
    /// Whether it is what stands.
    pub standing: bool,
    /// The version; of a removal, the one removed.
    pub version: Version,
}

impl Registry {
    /// Makes a change to one project, whole or not at all. Answers the revision that holds it, which
    /// is the standing one where nothing changes.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] where the project, or a thing of another project that the change
    /// stands on, was changed after `base`; [`RegistryError::InUse`] where a removed thing is used.
    pub async fn apply(&self, principal: &Principal, apply: Apply) -> Result<Revision> {
        may_see(principal, &apply.project)?;
        check_own(&apply)?;
        let by = principal.name.clone();
        let doing = "applying a change";
        let answer = self
            .write(doing, move |connection, registry| {
                Box::pin(async move { apply_within(connection, registry, by, apply).await })
            })
            .await;
        if matches!(answer, Err(RegistryError::Conflict { .. })) {
            // Another process may have written the file: the next plan should see what it did.
            self.refresh().await?;
        }
        answer
    }

    /// Everything that happened to a thing, newest first.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] where there never was such a thing.
    pub async fn history(&self, project: &Name, kind: ThingKind, name: &Name) -> Result<Vec<VersionRecord>> {
        let doing = "reading a history";
        let mut connection = self.reader(doing).await?;
        let rows = sqlx::query(
            "SELECT v.*, c.at, c.by, s.revision AS standing
               FROM version v JOIN change c USING (revision)
               LEFT JOIN standing s ON s.project = v.project AND s.kind = v.kind AND s.name = v.name
              WHERE v.project = ? AND v.kind = ? AND v.name = ?
              ORDER BY v.revision DESC",
        )
        .bind(project.as_str())
        .bind(kind.name())
        .bind(name.as_str())
        .fetch_all(&mut *connection)
        .await
        .map_err(RegistryError::storage(doing))?;
        if rows.is_empty() {
            return Err(RegistryError::NotFound {
                what: kind.name(),
                name: format!("{project}.{name}"),
                nearest: Vec::new(),
            });
        }
        let mut records = Vec::with_capacity(rows.len());
        for row in &rows {
            let fields = Fields { row, path: &self.inner.path };
            let revision = fields.revision("revision")?;
            let standing = fields.maybe_number("standing")?;
            records.push(VersionRecord {
                revision,
                by: fields.text("by")?,
                at: Timestamp(fields.number("at")?),
                action: action(&fields)?,
                standing: standing == Some(revision.0.cast_signed()),
                version: fields.version()?,
            });
        }
        Ok(records)
    }

    /// The version of a thing with this id, standing or not, in the words it was first given.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] where it has no such version.
    pub async fn version(&self, kind: ThingKind, address: &Address, id: &VersionId) -> Result<Version> {
        let doing = "reading a version";
        let mut connection = self.reader(doing).await?;
        let row = sqlx::query(
            "SELECT * FROM version
              WHERE project = ? AND kind = ? AND name = ? AND id = ? ORDER BY revision LIMIT 1",
        )
        .bind(address.project.as_str())
        .bind(kind.name())
        .bind(address.name.as_str())
        .bind(id.0.as_str())
        .fetch_optional(&mut *connection)
        .await
        .map_err(RegistryError::storage(doing))?;
        match &row {
            Some(row) => Fields { row, path: &self.inner.path }.version(),
            None => Err(RegistryError::NotFound {
                what: kind.name(),
                name: format!("{address} {}", id.short()),
                nearest: Vec::new(),
            }),
        }
    }

    /// What was applied to a project after a revision, oldest first.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn changes(&self, project: &Name, after: Revision) -> Result<Vec<ChangeRecord>> {
        let mut connection = self.reader("reading changes").await?;
        let mut changes = changes_since(&mut connection, self, after).await?;
        changes.retain(|change| change.project == *project);
        Ok(changes)
    }
}

/// Whether the apply speaks only of its own project, and once of each thing.
fn check_own(apply: &Apply) -> Result<()> {
    let mut seen: BTreeSet<(ThingKind, &Name)> = BTreeSet::new();
    let put = apply.put.iter().map(|version| (version.kind(), version.address()));
    for (kind, thing) in put {
        if thing.project != apply.project {
            let project = apply.project.clone();
            return Err(RegistryError::Foreign { kind, thing: thing.clone(), project });
        }
        if !seen.insert((kind, &thing.name)) {
            return Err(RegistryError::Twice { kind, thing: thing.clone() });
        }
    }
    for (kind, name) in &apply.remove {
        if !seen.insert((*kind, name)) {
            let thing = Address { project: apply.project.clone(), name: name.clone() };
            return Err(RegistryError::Twice { kind: *kind, thing });
        }
    }
    Ok(())
}

async fn apply_within(
    connection: &mut SqliteConnection,
    registry: &Registry,
    by: String,
    apply: Apply,
) -> Result<Written<Revision>> {
    let doing = "applying a change";
    let standing = record::catalog(connection, &registry.inner.path).await?;
    compare(connection, registry, &standing, &apply).await?;

    let project = standing.projects.get(&apply.project);
    let mut steps: Vec<(Action, Version)> = Vec::new();
    for version in &apply.put {
        let old = standing.get(version.kind(), version.address());
        let action = match &old {
            None => Action::Created,
            Some(old) if old == version => continue,
            Some(old) if old.id() == version.id() => Action::Described,
            Some(_) => Action::Changed,
        };
        steps.push((action, version.clone()));
    }
    for (kind, name) in &apply.remove {
        let old = project.and_then(|it| it.get(*kind, name.as_str()));
        let old = old.ok_or_else(|| RegistryError::NotFound {
            what: kind.name(),
            name: format!("{}.{name}", apply.project),
            nearest: Vec::new(),
        })?;
        steps.push((Action::Removed, old));
    }
    let moved = project.is_none_or(|it| it.root != apply.root);
    if steps.is_empty() && !moved {
        return Ok(Written { value: standing.revision, catalog: None });
    }

    let revision = Revision(standing.revision.0 + 1);
    let root = apply
        .root
        .to_str()
        .ok_or_else(|| RegistryError::BadRoot { project: apply.project.clone(), root: apply.root.clone() })?;
    let number = revision.0.cast_signed();
    let storage = || RegistryError::storage(doing);
    sqlx::query("INSERT INTO change (revision, project, base, at, by, root) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(number)
        .bind(apply.project.as_str())
        .bind(apply.base.0.cast_signed())
        .bind(registry.inner.clock.now().0)
        .bind(by)
        .bind(root)
        .execute(&mut *connection)
        .await
        .map_err(storage())?;
    sqlx::query(
        "INSERT INTO project (name, root, revision) VALUES (?, ?, ?)
             ON CONFLICT (name) DO UPDATE SET root = excluded.root, revision = excluded.revision",
    )
    .bind(apply.project.as_str())
    .bind(root)
    .bind(number)
    .execute(&mut *connection)
    .await
    .map_err(storage())?;
    for (action, version) in &steps {
        step(connection, number, *action, version).await?;
    }

    let next = record::catalog(connection, &registry.inner.path).await?;
    check_whole(&next, &apply)?;
    Ok(Written { value: revision, catalog: Some(Arc::new(next)) })
}

async fn step(
    connection: &mut SqliteConnection,
    revision: i64,
    action: Action,
    version: &Version,
) -> Result<()> {
    let doing = "applying a change";
    let storage = || RegistryError::storage(doing);
    let body = version.to_json();
    let (kind, thing) = (version.kind().name(), version.address());
    sqlx::query(
        "INSERT INTO version (project, kind, name, revision, action, id, format, body)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(thing.project.as_str())
    .bind(kind)
    .bind(thing.name.as_str())
    .bind(revision)
    .bind(action.name())
    .bind(version.id().0.as_str())
    .bind(i64::from(version.format()))
    .bind(body)
    .execute(&mut *connection)
    .await
    .map_err(storage())?;
    let pointer = if action == Action::Removed {
        sqlx::query("DELETE FROM standing WHERE project = ? AND kind = ? AND name = ?")
            .bind(thing.project.as_str())
            .bind(kind)
            .bind(thing.name.as_str())
    } else {
        sqlx::query(
            "INSERT INTO standing (project, kind, name, revision) VALUES (?, ?, ?, ?)
                 ON CONFLICT (project, kind, name) DO UPDATE SET revision = excluded.revision",
        )
        .bind(thing.project.as_str())
        .bind(kind)
        .bind(thing.name.as_str())
        .bind(revision)
    };
    pointer.execute(&mut *connection).await.map_err(storage())?;
    Ok(())
}

/// The compare of compare-and-swap: nothing of the project, and nothing of another project that the
/// change stands on, was changed after `base`.
async fn compare(
    connection: &mut SqliteConnection,
    registry: &Registry,
    standing: &Catalog,
    apply: &Apply,
) -> Result<()> {
    if apply.base == standing.revision {
        return Ok(());
    }
    let conflict = |changes| RegistryError::Conflict {
        project: apply.project.clone(),
        base: apply.base,
        now: standing.revision,
        changes,
    };
    if apply.base > standing.revision {
        // Made against a registry that this one is an older copy of.
        return Err(conflict(Vec::new()));
    }
    let elsewhere: BTreeSet<(ThingKind, Address)> = apply.put.iter().flat_map(Version::stands_on).collect();
    let mut changes = changes_since(connection, registry, apply.base).await?;
    changes.retain(|change| {
        change.project == apply.project
            || (change.action != Action::Described
                && change.thing.as_ref().is_some_and(|thing| elsewhere.contains(thing)))
    });
    if changes.is_empty() { Ok(()) } else { Err(conflict(changes)) }
}

async fn changes_since(
    connection: &mut SqliteConnection,
    registry: &Registry,
    after: Revision,
) -> Result<Vec<ChangeRecord>> {
    let doing = "reading changes";
    let rows = sqlx::query(
        "SELECT c.revision, c.project, c.by, c.at, v.kind, v.name, v.action
           FROM change c LEFT JOIN version v USING (revision)
          WHERE c.revision > ? ORDER BY c.revision, v.kind, v.name",
    )
    .bind(after.0.cast_signed())
    .fetch_all(&mut *connection)
    .await
    .map_err(RegistryError::storage(doing))?;
    let mut changes = Vec::with_capacity(rows.len());
    for row in &rows {
        let fields = Fields { row, path: &registry.inner.path };
        let thing = match fields.maybe_text("kind")? {
            Some(_) => Some(fields.address()?),
            None => None,
        };
        changes.push(ChangeRecord {
            revision: fields.revision("revision")?,
            project: fields.name("project")?,
            by: fields.text("by")?,
            at: Timestamp(fields.number("at")?),
            action: if thing.is_some() { action(&fields)? } else { Action::Changed },
            thing,
        });
    }
    Ok(changes)
}

fn action(fields: &Fields<'_>) -> Result<Action> {
    let name = fields.text("action")?;
    Action::from_name(&name).ok_or_else(|| fields.damaged(format!("`{name}` is no action")))
}

/// Whether everything that stands has what it stands on. Of its own project, in the very version.
fn check_whole(next: &Catalog, apply: &Apply) -> Result<()> {
    for (name, project) in &next.projects {
        for version in project.versions() {
            for (kind, thing) in version.stands_on() {
                let user = format!("{} `{}`", version.kind(), version.address());
                let Some(found) = next.get(kind, &thing) else {
                    if thing.project == apply.project && apply.remove.contains(&(kind, thing.name.clone())) {
                        return Err(RegistryError::InUse { kind, used_by: users(next, kind, &thing), thing });
                    }
                    let problem = "which does not exist".to_owned();
                    return Err(RegistryError::Dangling { user, kind, thing, problem });
                };
                let wanted = wanted_id(&version, kind, &thing);
                if thing.project == *name
                    && let Some(wanted) = wanted
                    && found.id() != wanted
                {
                    let problem = format!("version {}, but {} stands", wanted.short(), found.id().short());
                    return Err(RegistryError::Dangling { user, kind, thing, problem });
                }
            }
        }
    }
    Ok(())
}

/// The version of a thing that a version says it stands on, if it says.
fn wanted_id<'v>(version: &'v Version, kind: ThingKind, thing: &Address) -> Option<&'v VersionId> {
    match version {
        Version::View(view) if kind == ThingKind::Source => Some(&view.source_id),
        Version::Derived(derived) => {
            derived.stands_on.iter().find(|on| on.address == *thing).map(|on| &on.id)
        }
        Version::Service(service) if kind == ThingKind::Derived => {
            let step = service.selection.steps.iter().find(|step| step.derived == *thing);
            step.map(|step| &step.derived_id)
        }
        Version::Service(service) => {
            let labels = service.selection.labels.iter().map(|label| &label.reading);
            let reading = service.selection.readings.iter().chain(labels).find(|it| it.view == *thing);
            reading.map(|reading| &reading.view_id)
        }
        _ => None,
    }
}

fn users(catalog: &Catalog, kind: ThingKind, thing: &Address) -> Vec<String> {
    let mut users: Vec<String> = Vec::new();
    for project in catalog.projects.values() {
        for version in project.versions() {
            if version.stands_on().iter().any(|(other, address)| *other == kind && address == thing) {
                users.push(format!("{} `{}`", version.kind(), version.address()));
            }
        }
    }
    users
}
