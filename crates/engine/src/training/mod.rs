//! Training sets: spine in, the same rows out with a column per feature, and behind them one per label.
//!
//! [`Engine::train`] reads the spine ([`spine`]), has it answered as of its own times
//! ([`crate::point_in_time`]), and gives the spine's rows, every one, once, in their order, with the
//! features behind; [`Training::finish`] gives the record, with a content hash ([`ContentHash`]) that
//! no batch size or array layout changes. [`Engine::rebuild`] does it again from a record and refuses
//! where anything is gone or changed. The spine itself is kept below the data directory, once, by
//! content.
//!
//! Not here: which row answers (`asof-compute`), where records are kept (the registry).

mod content;
mod kept;
mod parquet_file;
mod record;
mod spine;
mod write;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use asof_compute::arrow_type;
use asof_model::{
    Ask, Catalog, FileFormat, Name, OnImmature, OnNullKey, OnOverflow, Origin, Outcome, Question, Reading,
    Recipe, Selection, Timestamp, TrainingSet,
};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

pub use content::ContentHash;
pub use write::TrainingWriter;

use self::kept::Kept;
use self::spine::Spine;
pub(crate) use self::spine::WRITTEN_AS_FLOAT;
use self::write::bytes_of;
use crate::point_in_time::{AnswerBatch, Manner, SpineRows, answer, kept_rows};
use crate::query::SqlScope;
use crate::{Engine, Error, Progress, Result};

/// Bytes of pieces of a spine that are joined at most.
const JOINED: usize = 64 << 20;

/// What a training set is asked for with.
#[derive(Debug, Clone)]
pub struct TrainRequest {
    /// The project asked in.
    pub project: Name,
    /// What was asked, as the user said it; goes into the record.
    pub ask: Ask,
    /// Whether full names were asked for; goes into the record.
    pub full_names: bool,
    /// What was asked, resolved against the catalog.
    pub selection: Selection,
    /// The rows.
    pub spine: SpineInput,
    /// The column of the spine's times, `column` or `column:unit` for integers; none: its only
    /// timestamp column.
    pub time: Option<String>,
    /// Which rows count.
    pub question: Question,
    /// What a null key does.
    pub on_null_key: OnNullKey,
    /// What a value over a window does that is out of range, or over its cap.
    pub on_overflow: OnOverflow,
    /// What a row does, a label of which is not mature.
    pub on_immature: OnImmature,
    /// T of the request (SEMANTICS 5): labels over pushed sources are not mature past it.
    pub asked_at: Timestamp,
    /// The format the set will be written in; goes into the record.
    pub output: FileFormat,
}

/// Where a spine comes from.
#[derive(Debug, Clone)]
pub enum SpineInput {
    /// The bytes of a file.
    Bytes {
        /// All of them.
        bytes: Bytes,
        /// Their format.
        format: FileFormat,
        /// The file's name, for people.
        name: Option<String>,
    },
    /// A file on this machine.
    File {
        /// Where it is.
        path: PathBuf,
        /// Its format.
        format: FileFormat,
        /// The file's name, for people.
        name: Option<String>,
        /// Whether nobody writes to it any more, whatever its names: then it is kept without a copy. One that
        /// changes while it is read is refused.
        settled: bool,
    },
    /// A query; its rows in the order it gives them.
    Sql {
        /// The query.
        text: String,
        /// What it is asked over.
        scope: SqlScope,
    },
}

/// A training set being made. Read it to its end with [`Training::next`], then [`Training::finish`].
pub struct Training {
    schema: SchemaRef,
    rows: u64,
    /// The spine's rows not given yet.
    spine: VecDeque<RecordBatch>,
    answers: BoxStream<'static, Result<AnswerBatch>>,
    waiting: Option<AnswerBatch>,
    content: ContentHash,
    kept: Kept,
    recipe: Recipe,
    outcome: Outcome,
    /// The content hash it must come to.
    expected: Option<(String, String)>,
}

impl std::fmt::Debug for Training {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Training")
            .field("schema", &self.schema)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

/// What a training set came to; with an id, a time and a principal it is a record.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingReport {
    /// What it was made from.
    pub recipe: Recipe,
    /// What came out.
    pub outcome: Outcome,
}

impl Engine {
    /// Makes a training set: the spine's rows with the features asked for.
    ///
    /// # Errors
    /// Where the spine cannot be read, lacks a key or a time, or shares a column name with a feature;
    /// where a source cannot be read or changes meanwhile.
    pub async fn train(
        &self,
        catalog: Arc<Catalog>,
        request: TrainRequest,
        progress: Progress,
    ) -> Result<Training> {
        let sql = match &request.spine {
            SpineInput::Sql { text, .. } => Some(text.clone()),
            _ => None,
        };
        let spine = spine::read(self, request.spine, request.time.as_deref(), &request.selection).await?;
        if request.on_null_key == OnNullKey::Refuse {
            spine::refuse_null_keys(&spine, &request.selection)?;
        }
        let recipe = record::recipe(
            self,
            &catalog,
            record::Asked {
                ask: request.ask,
                full_names: request.full_names,
                question: request.question,
                on_null_key: request.on_null_key,
                on_overflow: request.on_overflow,
                on_immature: request.on_immature,
                asked_at: request.asked_at,
                output: request.output,
            },
            &request.selection,
            spine.record(sql),
        )?;
        self.answer_spine(catalog, request.selection, spine, recipe, &[], progress).await
    }

    /// Makes a recorded training set again. Its rows, in order, are those that were given; or
    /// [`Training::finish`] and [`Training::into_checked_stream`] fail.
    ///
    /// # Errors
    /// [`Error::Conflict`] `training_set_changed` with the spine, file or stored rows that are gone or
    /// not what they were.
    pub async fn rebuild(&self, set: &TrainingSet, progress: Progress) -> Result<Training> {
        let (catalog, selection) = record::restore(set)?;
        let recipe = set.recipe.clone();
        let spine = spine::kept(self, &recipe.spine, &selection).await?;
        let training =
            self.answer_spine(Arc::new(catalog), selection, spine, recipe, &set.recipe.cuts, progress);
        let mut training = training.await.map_err(record::of_rebuild)?;
        record::compare_cuts(&set.recipe.cuts, &training.recipe.cuts)?;
        training.expected = Some((set.id.clone(), set.outcome.content_hash.clone()));
        Ok(training)
    }

    async fn answer_spine(
        &self,
        catalog: Arc<Catalog>,
        selection: Selection,
        spine: Spine,
        mut recipe: Recipe,
        at: &[asof_model::SourceCut],
        progress: Progress,
    ) -> Result<Training> {
        let schema = output_schema(&spine.schema, &selection)?;
        tracing::debug!(rows = spine.rows, "the spine is read");
        let asked = SpineRows { batches: spine.asked.clone(), time: spine::TIME.to_owned() };
        let manner = Manner {
            question: recipe.question,
            on_overflow: recipe.on_overflow,
            outcomes: false,
            on_immature: recipe.on_immature,
            asked_at: recipe.asked_at,
            in_halves: false,
        };
        let answers = answer(self, &catalog, &selection, &asked, manner, at, Some(progress)).await?;
        tracing::debug!("all sources are read");
        recipe.cuts = record::cuts(&selection, &answers.cuts)?;
        let counts = record::counts(&selection, &answers.readings);
        let warnings = record::warnings(recipe.question, &selection, &counts);
        let batches = match &answers.kept {
            Some(kept) => kept_rows(&spine.batches, kept)?,
            None => spine.batches,
        };
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let outcome = Outcome {
            rows,
            dropped: spine.rows - rows,
            labels: record::labels(&selection, &answers.not_mature),
            columns: record::columns(&schema),
            content_hash: String::new(),
            counts,
            warnings,
        };
        Ok(Training {
            content: ContentHash::new(&schema, self.config().threads),
            schema,
            rows,
            spine: batches.into(),
            answers: answers.batches,
            waiting: None,
            kept: spine.kept,
            recipe,
            outcome,
            expected: None,
        })
    }
}

impl Training {
    /// The spine's columns, then the features, then the labels.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows it will have.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The next rows; none after the last.
    ///
    /// # Errors
    /// Where an expression fails on a row, or a file went away.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let answers = match self.waiting.take() {
            Some(answers) => answers,
            None => loop {
                match self.answers.try_next().await? {
                    Some(answers) if answers.rows == 0 => {}
                    Some(answers) => break answers,
                    None if self.spine.iter().all(|batch| batch.num_rows() == 0) => return Ok(None),
                    None => return Err(Error::internal("fewer answers than spine rows")),
                }
            },
        };
        let Some(spine) = self.next_spine(answers.rows)? else {
            return Err(Error::internal("more answers than spine rows"));
        };
        let rows = spine.num_rows();
        if rows < answers.rows {
            self.waiting = Some(answers.slice(rows, answers.rows - rows));
        }
        let mut columns = spine.columns().to_vec();
        let answers = answers.slice(0, rows);
        record::count_labels(&mut self.outcome.labels, &answers);
        columns.extend(answers.columns);
        columns.extend(answers.labels);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        self.content.update(&batch)?;
        Ok(Some(batch))
    }

    /// So many of the spine's next rows, or fewer where these are large; none after the last. Answers are not cut where
    /// the spine is: they are the most columns, and rows that come in lengths of their own are copied to be written.
    fn next_spine(&mut self, rows: usize) -> Result<Option<RecordBatch>> {
        let (mut pieces, mut count, mut bytes) = (Vec::new(), 0, 0);
        while count < rows
            && let Some(piece) = self.spine.pop_front()
        {
            let taken = piece.num_rows().min(rows - count);
            if taken < piece.num_rows() {
                self.spine.push_front(piece.slice(taken, piece.num_rows() - taken));
            }
            let piece = piece.slice(0, taken);
            bytes += bytes_of(&piece);
            if count > 0 && bytes > JOINED {
                self.spine.push_front(piece);
                break;
            }
            count += taken;
            pieces.extend(Some(piece).filter(|_| taken > 0));
        }
        Ok(match pieces.as_slice() {
            [] => None,
            [piece] => Some(piece.clone()),
            [first, ..] => Some(concat_batches(&first.schema(), &pieces)?),
        })
    }

    /// The record. Keeps the spine below the data directory, durably.
    ///
    /// # Errors
    /// [`Error::Internal`] where it was not read to its end; [`Error::Conflict`] where a rebuild came
    /// to something else; [`Error::Io`] where the spine cannot be kept.
    pub async fn finish(mut self) -> Result<TrainingReport> {
        if self.content.rows() != self.rows {
            return Err(Error::internal("a training set is finished before all its rows were read"));
        }
        self.outcome.content_hash = self.content.finish();
        tracing::debug!("the training set is hashed and handed on");
        self.check()?;
        if let Some(content) = self.kept.keep().await? {
            self.recipe.spine.hash = content.hash;
            self.recipe.spine.bytes = content.bytes;
        }
        Ok(TrainingReport { recipe: self.recipe, outcome: self.outcome })
    }

    /// Its rows, with an error behind the last where a rebuild came to something else.
    pub fn into_checked_stream(self) -> BoxStream<'static, Result<RecordBatch>> {
        let rows = futures::stream::try_unfold(self, |mut training| async move {
            match training.next().await? {
                Some(batch) => Ok(Some((batch, training))),
                None => {
                    training.outcome.content_hash = training.content.finish();
                    training.check()?;
                    Ok(None)
                }
            }
        });
        rows.boxed()
    }

    fn check(&self) -> Result<()> {
        match &self.expected {
            Some((id, expected)) if *expected != self.outcome.content_hash => Err(record::changed(
                "training set",
                id,
                &format!(
                    "comes to other content ({} instead of {}), though everything it names is as it was",
                    start(&self.outcome.content_hash),
                    start(expected)
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn start(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// The spine's fields, then one per output column; refuses names that stand twice.
fn output_schema(spine: &SchemaRef, selection: &Selection) -> Result<SchemaRef> {
    let mut fields: Vec<FieldRef> = spine.fields().iter().cloned().collect();
    let mut taken: BTreeMap<&str, String> = BTreeMap::new();
    for field in spine.fields() {
        if taken.insert(field.name(), format!("column `{}` of the spine", field.name())).is_some() {
            let message = format!("the spine has two columns `{}`", field.name());
            return Err(Error::invalid("spine_column_twice", message).with_hint("rename one of them"));
        }
    }
    let columns = selection.columns.iter().map(|column| {
        let feature = match column.from {
            Origin::Feature { reading, feature } => selection.readings.get(reading).and_then(|reading| {
                let feature = reading.view.features.get(feature)?;
                Some((&reading.view.address.name, &feature.feature.name))
            }),
            Origin::Derived { step } => selection
                .steps
                .get(step)
                .and_then(|step| Some((&step.derived.address.name, &step.feature()?.feature.name))),
        };
        let said = feature.map_or_else(
            || format!("feature `{}`", column.name),
            |(of, feature)| format!("feature `{of}.{feature}`"),
        );
        (&column.name, &column.data_type, said)
    });
    let labels = selection.labels.iter().map(|it| (&it.name, &it.data_type, format!("label `{}`", it.name)));
    for (name, data_type, feature) in columns.chain(labels) {
        if let Some(other) = taken.get(name.as_str()) {
            let message = format!("{other} and {feature} would both be column `{name}`");
            return Err(Error::invalid("column_collision", message)
                .with_hint("ask for full names (`view__feature`), or give one another name with `as:`"));
        }
        taken.insert(name, feature);
        fields.push(Arc::new(Field::new(name, arrow_type(data_type), true)));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The distinct names of keys that a selection asks the spine with.
fn key_names(selection: &Selection) -> BTreeSet<&Name> {
    all_readings(selection).flat_map(|reading| &reading.keys).collect()
}

/// The readings of a selection, those of its labels behind.
fn all_readings(selection: &Selection) -> impl Iterator<Item = &Reading> {
    selection.readings.iter().chain(selection.labels.iter().map(|label| &label.reading))
}
