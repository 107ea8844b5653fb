//! A project of YAML files, checked and resolved as an apply does it, and trained from.

use std::sync::Arc;

use arrow::array::RecordBatch;
use asof_engine::training::{SpineInput, TrainRequest, TrainingReport};
use asof_engine::{Error, Progress, no_progress};
use asof_model::{
    Ask, Catalog, Diagnostics, FileFormat, OnImmature, OnNullKey, OnOverflow, Project, ProjectFile, Question,
    Revision, Selection, Timestamp, TrainingSet, has_errors, render, resolve,
};

use crate::project::{Folder, name};

pub(crate) struct Applied {
    pub folder: Folder,
    pub catalog: Arc<Catalog>,
}

fn files(text: &str) -> Vec<ProjectFile> {
    let file = |path: &str, text: &str| ProjectFile { path: path.to_owned(), text: text.to_owned() };
    vec![file("asof.yaml", "project: shop"), file("features/a.yaml", text)]
}

/// What is wrong with definitions, and the catalog they make.
fn look(folder: &Folder, text: &str) -> (Catalog, Diagnostics) {
    let (project, mut found) = Project::read(&files(text));
    let project = project.unwrap();
    let before = Catalog::default();
    let (types, told) = folder.runtime.block_on(folder.engine.check(&project, folder.root(), &before));
    found.extend(told);
    let (versions, told) = resolve(&project, &before, &types);
    found.extend(told);
    let roots = [(name("shop"), folder.root().to_owned())].into();
    (Catalog::from_versions(Revision(1), roots, versions), found)
}

/// What is wrong with definitions, as people see it.
pub(crate) fn wrong(folder: &Folder, text: &str) -> String {
    let (_, found) = look(folder, text);
    render(&found, &files(text), false)
}

impl Applied {
    pub(crate) fn new(folder: Folder, text: &str) -> Applied {
        let (catalog, found) = look(&folder, text);
        assert!(!has_errors(&found), "{}", render(&found, &files(text), false));
        Applied { folder, catalog: Arc::new(catalog) }
    }

    pub(crate) fn select(&self, ask: &Ask) -> Selection {
        self.catalog.select(&name("shop"), ask, false).unwrap()
    }

    pub(crate) fn request(&self, ask: Ask, spine: impl Into<Vec<u8>>, format: FileFormat) -> TrainRequest {
        TrainRequest {
            project: name("shop"),
            selection: self.select(&ask),
            ask,
            full_names: false,
            spine: SpineInput::Bytes { bytes: spine.into().into(), format, name: None },
            time: Some("at".to_owned()),
            question: Question::Known,
            on_null_key: OnNullKey::Keep,
            on_overflow: OnOverflow::Refuse,
            on_immature: OnImmature::Keep,
            asked_at: Timestamp::LAST,
            output: FileFormat::Parquet,
        }
    }

    fn end(
        &self,
        training: asof_engine::Result<asof_engine::training::Training>,
    ) -> Result<(RecordBatch, TrainingReport), Error> {
        let mut training = training?;
        self.folder.runtime.block_on(async move {
            let schema = Arc::clone(training.schema());
            let mut batches = Vec::new();
            while let Some(batch) = training.next().await? {
                batches.push(batch);
            }
            let report = training.finish().await?;
            Ok((arrow::compute::concat_batches(&schema, &batches).unwrap(), report))
        })
    }

    pub(crate) fn train(&self, request: TrainRequest) -> Result<(RecordBatch, TrainingReport), Error> {
        self.train_telling(request, no_progress())
    }

    pub(crate) fn train_telling(
        &self,
        request: TrainRequest,
        progress: Progress,
    ) -> Result<(RecordBatch, TrainingReport), Error> {
        let Folder { engine, runtime, .. } = &self.folder;
        self.end(runtime.block_on(engine.train(Arc::clone(&self.catalog), request, progress)))
    }

    pub(crate) fn rebuild(&self, set: &TrainingSet) -> Result<(RecordBatch, TrainingReport), Error> {
        let Folder { engine, runtime, .. } = &self.folder;
        self.end(runtime.block_on(engine.rebuild(set, no_progress())))
    }
}

pub(crate) fn features(all: &[&str]) -> Ask {
    Ask::Features(all.iter().map(|&it| it.to_owned()).collect())
}

/// Rows as a spine in Arrow's format, in batches of at most so many rows.
pub(crate) fn arrow_spine(rows: &RecordBatch, size: usize) -> Vec<u8> {
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &rows.schema()).unwrap();
    for at in (0..rows.num_rows()).step_by(size) {
        writer.write(&rows.slice(at, size.min(rows.num_rows() - at))).unwrap();
    }
    writer.into_inner().unwrap()
}
