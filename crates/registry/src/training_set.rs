//! Records of training sets.

use asof_model::{Cut, Name, Outcome, Principal, Question, Recipe, SourceCut, Timestamp, TrainingSet};
use sqlx::Row;

use crate::record::Fields;
use crate::registry::{Written, may_see};
use crate::run::random_id;
use crate::{Registry, RegistryError, Result};

/// No list of training sets is longer.
pub const LISTED: i64 = 1_000;

/// What a list shows of a training set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSet {
    /// Its id.
    pub id: String,
    /// The service it is of, `project.service`, if it is of one.
    pub service: Option<String>,
    /// Which rows count.
    pub question: Question,
    /// Its rows.
    pub rows: u64,
    /// Its columns.
    pub columns: usize,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Its content hash.
    pub content_hash: String,
}

impl Registry {
    /// Records a training set that was made; answers the record, with its id.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub async fn record_training_set(
        &self,
        principal: &Principal,
        project: &Name,
        recipe: Recipe,
        outcome: Outcome,
    ) -> Result<TrainingSet> {
        may_see(principal, project)?;
        let doing = "recording a training set";
        let set = TrainingSet {
            format: TrainingSet::FORMAT,
            id: random_id(12),
            project: project.clone(),
            created_at: self.inner.clock.now(),
            created_by: principal.name.clone(),
            recipe,
            outcome,
        };
        self.write(doing, move |connection, _| {
            Box::pin(async move {
                let body = serde_json::to_string(&set).map_err(|error| RegistryError::Storage {
                    doing,
                    source: sqlx::Error::Encode(error.into()),
                })?;
                let added = sqlx::query(
                    "INSERT INTO training_set
                         (id, project, created_at, created_by, content_hash, row_count, format, body, position)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                )
                .bind(set.id.as_str())
                .bind(set.project.as_str())
                .bind(set.created_at.0)
                .bind(set.created_by.as_str())
                .bind(set.outcome.content_hash.as_str())
                .bind(set.outcome.rows.cast_signed())
                .bind(i64::from(set.format))
                .bind(body)
                .bind(greatest(&set.recipe.cuts))
                .execute(connection)
                .await
                .map_err(RegistryError::storage(doing))?;
                if added.rows_affected() == 0 {
                    return Err(RegistryError::Exists { what: "training set", id: set.id });
                }
                Ok(Written { value: set, catalog: None })
            })
        })
        .await
    }

    /// The training set with this id, or the only one whose id begins so (at least four digits).
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], or [`RegistryError::Ambiguous`] for a beginning of several.
    pub async fn training_set(&self, principal: &Principal, id: &str) -> Result<TrainingSet> {
        let doing = "reading a training set";
        let what = "training set";
        let rows = sqlx::query(
            "SELECT * FROM training_set
              WHERE id = ?1 OR (length(?1) >= 4 AND substr(id, 1, length(?1)) = ?1)
              ORDER BY id <> ?1, id LIMIT 5",
        )
        .bind(id)
        .fetch_all(&mut *self.reader(doing).await?)
        .await
        .map_err(RegistryError::storage(doing))?;
        let mut sets = Vec::new();
        for row in &rows {
            sets.push(read(&Fields { row, path: &self.inner.path })?);
        }
        sets.retain(|set| may_see(principal, &set.project).is_ok());
        let exact = sets.first().is_some_and(|set| set.id == id);
        if !exact && sets.len() > 1 {
            let candidates = sets.into_iter().map(|set| set.id).collect();
            return Err(RegistryError::Ambiguous { what, name: id.to_owned(), candidates });
        }
        match sets.into_iter().next() {
            Some(set) => Ok(set),
            None => {
                let nearest = self.near_ids(id).await?;
                Err(RegistryError::NotFound { what, name: id.to_owned(), nearest })
            }
        }
    }

    /// The greatest position up to which a training set read a stored source: none that is given from now on may be in
    /// its cut, or it would be built again with other rows where tables were lost.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn greatest_position(&self) -> Result<i64> {
        let doing = "reading the cuts of training sets";
        let row = sqlx::query("SELECT max(position) AS position FROM training_set")
            .fetch_one(&mut *self.reader(doing).await?)
            .await
            .map_err(RegistryError::storage(doing))?;
        let fields = Fields { row: &row, path: &self.inner.path };
        Ok(fields.maybe_number("position")?.unwrap_or(0))
    }

    /// The training sets of a project, newest first, at most [`LISTED`]: what a list shows of each, without
    /// reading its whole record.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn training_sets(&self, principal: &Principal, project: &Name) -> Result<Vec<ListedSet>> {
        may_see(principal, project)?;
        let doing = "reading training sets";
        let rows = sqlx::query(
            "SELECT id, created_at, created_by, content_hash, row_count,
                    json_extract(body, '$.recipe.service.address.project') AS service_project,
                    json_extract(body, '$.recipe.service.address.name') AS service_name,
                    json_extract(body, '$.recipe.question') AS question,
                    json_array_length(body, '$.outcome.columns') AS columns
               FROM training_set WHERE project = ? ORDER BY created_at DESC, id LIMIT ?",
        )
        .bind(project.as_str())
        .bind(LISTED)
        .fetch_all(&mut *self.reader(doing).await?)
        .await
        .map_err(RegistryError::storage(doing))?;
        rows.iter()
            .map(|row| {
                let fields = Fields { row, path: &self.inner.path };
                let service = fields.maybe_text("service_project")?.zip(fields.maybe_text("service_name")?);
                let question = fields.maybe_text("question")?.unwrap_or_default();
                Ok(ListedSet {
                    id: fields.text("id")?,
                    service: service.map(|(project, name)| format!("{project}.{name}")),
                    question: [Question::Known, Question::Event]
                        .into_iter()
                        .find(|known| known.name() == question)
                        .ok_or_else(|| fields.damaged(format!("`{question}` is no question")))?,
                    rows: u64::try_from(fields.number("row_count")?).unwrap_or_default(),
                    columns: usize::try_from(fields.maybe_number("columns")?.unwrap_or_default())
                        .unwrap_or_default(),
                    created_at: Timestamp(fields.number("created_at")?),
                    created_by: fields.text("created_by")?,
                    content_hash: fields.text("content_hash")?,
                })
            })
            .collect()
    }

    /// The ids of a project's training sets, newest first, at most [`LISTED`].
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn training_set_ids(&self, principal: &Principal, project: &Name) -> Result<Vec<String>> {
        may_see(principal, project)?;
        let doing = "reading training sets";
        let rows =
            sqlx::query("SELECT id FROM training_set WHERE project = ? ORDER BY created_at DESC, id LIMIT ?")
                .bind(project.as_str())
                .bind(LISTED)
                .fetch_all(&mut *self.reader(doing).await?)
                .await
                .map_err(RegistryError::storage(doing))?;
        rows.iter().map(|row| Fields { row, path: &self.inner.path }.text("id")).collect()
    }

    async fn near_ids(&self, id: &str) -> Result<Vec<String>> {
        let doing = "reading training sets";
        let rows = sqlx::query("SELECT id FROM training_set ORDER BY created_at DESC LIMIT 1000")
            .fetch_all(&mut *self.reader(doing).await?)
            .await
            .map_err(RegistryError::storage(doing))?;
        let ids = rows.iter().filter_map(|row| row.try_get::<String, _>(0).ok());
        Ok(ids.filter(|other| strsim::levenshtein(id, other) <= 2).take(3).collect())
    }
}

/// The greatest position of these cuts, and of those that queries read.
fn greatest(cuts: &[SourceCut]) -> Option<i64> {
    let of = |cut: &SourceCut| match &cut.cut {
        Cut::Stored { position, .. } => Some(*position),
        Cut::Sql(cuts) => greatest(cuts),
        Cut::Files(_) | Cut::Delta { .. } => None,
    };
    cuts.iter().filter_map(of).max()
}

fn read(fields: &Fields<'_>) -> Result<TrainingSet> {
    let id = fields.text("id")?;
    let format = fields.number("format")?;
    let known = i64::from(TrainingSet::FORMAT);
    if format > known {
        return Err(RegistryError::NewerRecord { what: "training set", id, found: format, known });
    }
    serde_json::from_str(&fields.text("body")?)
        .map_err(|error| fields.damaged(format!("training set `{id}`: {error}")))
}
