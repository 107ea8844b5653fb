//! Runs: what moved data, when, and how it ended.

use std::collections::BTreeMap;

use asof_model::{Explain, Name, Principal, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::record::Fields;
use crate::registry::{Written, may_see};
use crate::{Registry, RegistryError, Result};

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Copies files into a stored source.
    Load,
    /// Brings a view up to date online.
    Materialize,
    /// Makes a training set.
    Train,
}

impl RunKind {
    /// Its name, e.g. `load`.
    pub fn name(self) -> &'static str {
        match self {
            RunKind::Load => "load",
            RunKind::Materialize => "materialize",
            RunKind::Train => "train",
        }
    }

    fn from_name(name: &str) -> Option<RunKind> {
        [RunKind::Load, RunKind::Materialize, RunKind::Train].into_iter().find(|kind| kind.name() == name)
    }
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Not ended.
    Running,
    /// Ended well.
    Done,
    /// Ended with an error.
    Failed,
    /// The process ended before it did.
    Interrupted,
}

impl RunState {
    /// Its name, e.g. `running`.
    pub fn name(self) -> &'static str {
        match self {
            RunState::Running => "running",
            RunState::Done => "done",
            RunState::Failed => "failed",
            RunState::Interrupted => "interrupted",
        }
    }

    fn from_name(name: &str) -> Option<RunState> {
        [RunState::Running, RunState::Done, RunState::Failed, RunState::Interrupted]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// A run that begins.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Its id, where the caller chose one; at most 64 letters, digits, `-` and `_`.
    pub id: Option<String>,
    /// The project.
    pub project: Name,
    /// What it does.
    pub kind: RunKind,
    /// What it does it to, e.g. the source's name.
    pub subject: String,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// The project.
    pub project: Name,
    /// What it does.
    pub kind: RunKind,
    /// What it does it to.
    pub subject: String,
    /// Who asked.
    pub by: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Where it is.
    pub state: RunState,
    /// Why it failed.
    pub error: Option<RunError>,
    /// What it did, e.g. `rows`.
    pub counts: BTreeMap<String, u64>,
}

/// Why a run failed: what its error says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// The kind, e.g. `invalid`.
    pub kind: String,
    /// The code, e.g. `source_not_found`.
    pub code: String,
    /// The text.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl RunError {
    /// What an error says.
    pub fn of(error: &dyn Explain) -> RunError {
        RunError {
            kind: error.kind().name().to_owned(),
            code: error.code().to_owned(),
            message: error.to_string(),
            hint: error.hint(),
        }
    }
}

/// A random id of `digits` hex digits, at most 16.
pub(crate) fn random_id(digits: usize) -> String {
    let number = format!("{:016x}", rand::random::<u64>());
    number.get(..digits).unwrap_or(&number).to_owned()
}

impl Registry {
    /// Records that a run begins; answers its id.
    ///
    /// # Errors
    /// [`RegistryError::Exists`] where the id chosen is taken.
    pub async fn start_run(&self, principal: &Principal, run: NewRun) -> Result<String> {
        may_see(principal, &run.project)?;
        let id = run.id.unwrap_or_else(|| random_id(16));
        let by = principal.name.clone();
        self.write("recording a run", move |connection, registry| {
            Box::pin(async move {
                let added = sqlx::query(
                    "INSERT INTO run (id, project, kind, subject, by, started_at, state)
                     VALUES (?, ?, ?, ?, ?, ?, 'running') ON CONFLICT (id) DO NOTHING",
                )
                .bind(id.as_str())
                .bind(run.project.as_str())
                .bind(run.kind.name())
                .bind(run.subject)
                .bind(by)
                .bind(registry.inner.clock.now().0)
                .execute(connection)
                .await
                .map_err(RegistryError::storage("recording a run"))?;
                if added.rows_affected() == 0 {
                    return Err(RegistryError::Exists { what: "run", id });
                }
                Ok(Written { value: id, catalog: None })
            })
        })
        .await
    }

    /// Records how a run ended.
    ///
    /// # Errors
    /// [`RegistryError::NotRunning`] where it ended before.
    pub async fn finish_run(
        &self,
        id: &str,
        error: Option<RunError>,
        counts: BTreeMap<String, u64>,
    ) -> Result<()> {
        let id = id.to_owned();
        let state = if error.is_some() { RunState::Failed } else { RunState::Done };
        let doing = "recording a run";
        self.write(doing, move |connection, registry| {
            Box::pin(async move {
                let encoded = |error: serde_json::Error| RegistryError::Storage {
                    doing,
                    source: sqlx::Error::Encode(error.into()),
                };
                let error = error.map(|it| serde_json::to_string(&it)).transpose().map_err(encoded)?;
                let ended = sqlx::query(
                    "UPDATE run SET ended_at = ?, state = ?, error = ?, counts = ?
                      WHERE id = ? AND state = 'running'",
                )
                .bind(registry.inner.clock.now().0)
                .bind(state.name())
                .bind(error)
                .bind(serde_json::to_string(&counts).map_err(encoded)?)
                .bind(id.as_str())
                .execute(&mut *connection)
                .await
                .map_err(RegistryError::storage(doing))?;
                if ended.rows_affected() == 0 {
                    let row = sqlx::query("SELECT * FROM run WHERE id = ?")
                        .bind(id.as_str())
                        .fetch_optional(connection)
                        .await
                        .map_err(RegistryError::storage(doing))?;
                    return Err(match &row {
                        Some(row) => {
                            let run = read(&Fields { row, path: &registry.inner.path })?;
                            RegistryError::NotRunning { id, state: run.state.name() }
                        }
                        None => RegistryError::NotFound { what: "run", name: id, nearest: Vec::new() },
                    });
                }
                Ok(Written { value: (), catalog: None })
            })
        })
        .await
    }

    /// Marks every run that is still running as interrupted; the owner of the data directory calls it
    /// once at start, before it begins any. Answers how many there were.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub async fn interrupt_runs(&self) -> Result<u64> {
        let doing = "recording a run";
        self.write(doing, move |connection, registry| {
            Box::pin(async move {
                let done =
                    sqlx::query("UPDATE run SET ended_at = ?, state = 'interrupted' WHERE state = 'running'")
                        .bind(registry.inner.clock.now().0)
                        .execute(connection)
                        .await
                        .map_err(RegistryError::storage(doing))?;
                Ok(Written { value: done.rows_affected(), catalog: None })
            })
        })
        .await
    }

    /// A run.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] where there is none of this id.
    pub async fn run(&self, id: &str) -> Result<Run> {
        let doing = "reading a run";
        let row = sqlx::query("SELECT * FROM run WHERE id = ?")
            .bind(id)
            .fetch_optional(&mut *self.reader(doing).await?)
            .await
            .map_err(RegistryError::storage(doing))?;
        match &row {
            Some(row) => read(&Fields { row, path: &self.inner.path }),
            None => Err(RegistryError::NotFound { what: "run", name: id.to_owned(), nearest: Vec::new() }),
        }
    }

    /// The newest runs of a project, newest first, at most `limit`.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn runs(&self, project: &Name, limit: u32) -> Result<Vec<Run>> {
        let doing = "reading runs";
        let rows: Vec<SqliteRow> =
            sqlx::query("SELECT * FROM run WHERE project = ? ORDER BY started_at DESC, id LIMIT ?")
                .bind(project.as_str())
                .bind(i64::from(limit))
                .fetch_all(&mut *self.reader(doing).await?)
                .await
                .map_err(RegistryError::storage(doing))?;
        rows.iter().map(|row| read(&Fields { row, path: &self.inner.path })).collect()
    }
}

fn read(fields: &Fields<'_>) -> Result<Run> {
    let kind = fields.text("kind")?;
    let state = fields.text("state")?;
    let damaged = |error: serde_json::Error| fields.damaged(format!("a run: {error}"));
    Ok(Run {
        id: fields.text("id")?,
        project: fields.name("project")?,
        kind: RunKind::from_name(&kind).ok_or_else(|| fields.damaged(format!("`{kind}` is no run")))?,
        subject: fields.text("subject")?,
        by: fields.text("by")?,
        started_at: Timestamp(fields.number("started_at")?),
        ended_at: fields.maybe_number("ended_at")?.map(Timestamp),
        state: RunState::from_name(&state)
            .ok_or_else(|| fields.damaged(format!("`{state}` is no state of a run")))?,
        error: fields
            .maybe_text("error")?
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(damaged)?,
        counts: serde_json::from_str(&fields.text("counts")?).map_err(damaged)?,
    })
}
