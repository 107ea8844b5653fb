//! `POST /v1/train`: makes a training set.

use std::collections::BTreeMap;
use std::path::PathBuf;

use asof_engine::training::{SpineInput, TrainRequest, Training};
use asof_flow::Operation;
use asof_model::{Ask, FileFormat, Name, OnImmature, OnNullKey, OnOverflow, Principal, Question};
use asof_registry::{NewRun, RunError, RunKind};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use super::load::Upload;
use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::error::Failure;
use crate::outflow::{self, Rows};
use crate::request::{Query, known_project};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "POST",
    path: "/v1/train",
    open: false,
    patience: Patience::Long,
    summary: "Make a training set",
    about: "The body is the spine: rows with the entities' keys and a time. The answer is the same rows, in order, with a \
            column per feature as known at each row's time, and behind them the labels of the service. It is recorded: ask `/v1/runs/{run}` for its id. An answer that came \
            to its end is recorded; one that breaks off is not, and its run says why.",
    route: || post(train),
    operation: || {
        let text = json!({"type": "string"});
        json!({
            "parameters": [
                {"name": "project", "in": "query", "required": true, "schema": text, "description": "The project"},
                {"name": "service", "in": "query", "schema": text, "description": "The service whose features to add"},
                {"name": "features", "in": "query", "schema": text, "description": "Instead: `view.feature,view.*`"},
                {"name": "full_names", "in": "query", "schema": {"type": "boolean"}, "description": "Name columns `view__feature`"},
                {"name": "time", "in": "query", "schema": text, "description": "The spine's time column, `column` or `column:unit`; else its only timestamp"},
                {"name": "question", "in": "query", "schema": {"enum": ["known", "event"]}, "description": "Which rows count; `known` if not said"},
                {"name": "on_null_key", "in": "query", "schema": {"enum": ["keep", "refuse"]}, "description": "What a null key does; `keep` if not said"},
                {"name": "on_overflow", "in": "query", "schema": {"enum": ["refuse", "null"]}, "description": "What a value over a window does that is out of range or over its cap; `refuse` if not said"},
                {"name": "on_immature", "in": "query", "schema": {"enum": ["keep", "drop"]}, "description": "What a row does, a label of which lies past what its source holds; `keep`, with a null label, if not said"},
                {"name": "format", "in": "query", "schema": {"enum": ["parquet", "csv", "ndjson", "arrow"]}, "description": "Of the answer; parquet if not said"},
                {"name": "spine_format", "in": "query", "schema": {"enum": ["parquet", "csv", "ndjson", "arrow"]}, "description": "Of the body"},
                {"name": "spine_name", "in": "query", "schema": text, "description": "The spine's file name, for the record"},
                {"name": "sql", "in": "query", "schema": text, "description": "A query that gives the spine, instead of a body"},
                {"name": "run", "in": "query", "schema": text, "description": "An id to ask for progress and outcome by"},
            ],
            "requestBody": {"content": {"application/octet-stream": {"schema": text}}},
            "responses": {"200": {"description": "The training set, in the format asked for", "content": {"application/vnd.apache.parquet": {"schema": text}}}},
        })
    },
};

/// What to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainQuery {
    /// The project asked in.
    pub project: Name,
    /// The service whose features to add.
    #[serde(default)]
    pub service: Option<String>,
    /// Instead of a service: features, with commas between.
    #[serde(default)]
    pub features: Option<String>,
    /// Name columns `view__feature`.
    #[serde(default)]
    pub full_names: bool,
    /// The spine's time column, `column` or `column:unit`.
    #[serde(default)]
    pub time: Option<String>,
    /// Which rows count.
    #[serde(default)]
    pub question: Question,
    /// What a null key does.
    #[serde(default)]
    pub on_null_key: OnNullKey,
    /// What a value over a window does that is out of range, or over its cap.
    #[serde(default)]
    pub on_overflow: OnOverflow,
    /// What a row does, a label of which lies past what its source holds.
    #[serde(default)]
    pub on_immature: OnImmature,
    /// The format of the answer.
    #[serde(default = "parquet")]
    pub format: FileFormat,
    /// The format of the spine.
    #[serde(default)]
    pub spine_format: Option<FileFormat>,
    /// The spine's file name, for the record.
    #[serde(default)]
    pub spine_name: Option<String>,
    /// A query that gives the spine.
    #[serde(default)]
    pub sql: Option<String>,
    /// An id to ask for progress and outcome by.
    #[serde(default)]
    pub run: Option<String>,
}

pub(super) fn parquet() -> FileFormat {
    FileFormat::Parquet
}

/// What a request asks for, in words that select takes.
pub(crate) fn ask(service: Option<&str>, features: Option<Vec<String>>) -> Result<Ask, Failure> {
    match (service, features) {
        (Some(service), None) => Ok(Ask::Service(service.to_owned())),
        (None, Some(features)) if !features.is_empty() => Ok(Ask::Features(features)),
        (None, Some(_)) => Err(Failure::invalid("no_features", "the list of features is empty")
            .hint("name a service, or features as view.feature or view.*")),
        (None, None) => {
            Err(Failure::invalid("nothing_asked", "the request names neither a service nor features")
                .hint("name a service, or features as view.feature or view.*"))
        }
        (Some(_), Some(_)) => Err(Failure::invalid("both_asked", "the request names a service and features")
            .hint("name one of them")),
    }
}

/// Features written with commas between.
fn listed(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

/// Where a caller in this process has the spine instead of a body: it is then read where it is, and copied
/// beside the training.
#[derive(Debug, Clone)]
pub struct SpineFile(pub PathBuf);

async fn train(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Query(query): Query<TrainQuery>,
    request: Request,
) -> Result<Response, Failure> {
    let catalog = state.registry.catalog();
    known_project(&principal, &catalog, &query.project)?;
    let ask = ask(query.service.as_deref(), query.features.as_deref().map(listed))?;
    let selection = catalog.select(&query.project, &ask, query.full_names)?;
    state.flow.operations().admit(Operation::Train)?;
    let mut upload = None;
    let spine = match &query.sql {
        Some(text) => {
            let scope = super::sql::scope(&state, principal.clone(), query.project.clone()).await?;
            SpineInput::Sql { text: text.clone(), scope }
        }
        None => {
            let Some(format) = query.spine_format else {
                return Err(Failure::invalid(
                    "no_spine_format",
                    "the request does not say the spine's format",
                )
                .hint("say spine_format=parquet, csv, ndjson or arrow"));
            };
            let (path, settled) = match request.extensions().get::<SpineFile>() {
                Some(SpineFile(path)) => (path.clone(), false),
                None => {
                    let taken = Upload::take(&state, request).await?.ok_or_else(|| {
                        Failure::invalid("no_spine", "the request has no spine")
                            .hint("send the rows to add features to as the body, or a query as `sql`")
                    })?;
                    (upload.insert(taken).path.clone(), true)
                }
            };
            SpineInput::File { path, format, name: query.spine_name.clone(), settled }
        }
    };
    let subject = match &ask {
        Ask::Service(service) => service.clone(),
        Ask::Features(features) => features.join(","),
    };
    let run = begin(&state, &principal, &query.project, subject, query.run.clone()).await?;
    let request = TrainRequest {
        project: query.project.clone(),
        ask,
        full_names: query.full_names,
        selection,
        spine,
        time: query.time.clone(),
        question: query.question,
        on_null_key: query.on_null_key,
        on_overflow: query.on_overflow,
        on_immature: query.on_immature,
        asked_at: state.flow.present().await?,
        output: query.format,
    };
    let (engine, progress) = (state.engine.clone(), state.work.progress(&run));
    let making = async move { engine.train(catalog, request, progress).await };
    answer(&state, principal, Operation::Train, Some(query.project), query.format, run, making, upload).await
}

/// Records that a training begins; its run's id.
pub(super) async fn begin(
    state: &Shared,
    principal: &Principal,
    project: &Name,
    subject: String,
    run: Option<String>,
) -> Result<String, Failure> {
    let new = NewRun { id: run, project: project.clone(), kind: RunKind::Train, subject };
    Ok(state.registry.start_run(principal, new).await?)
}

/// Answers with a training set's rows, once there is a seat to make them; records it, where `record` names a project, before the last of them.
#[expect(clippy::too_many_arguments, reason = "one answer's whole context, named at both calls")]
pub(super) async fn answer(
    state: &Shared,
    principal: Principal,
    operation: Operation,
    record: Option<Name>,
    format: FileFormat,
    run: String,
    making: impl Future<Output = asof_engine::Result<Training>> + Send + 'static,
    upload: Option<Upload>,
) -> Result<Response, Failure> {
    let rows = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let work = {
        let (state, run, rows) = (state.clone(), run.clone(), rows.clone());
        move |chunks: outflow::Chunks| async move {
            let _seat = state.flow.enter(operation, &state.work.progress(&run)).await?;
            let to = chunks.clone();
            let (engine, threads) = (state.engine.clone(), state.engine.config().threads);
            let made = state.engine.run(async move {
                let mut training = making.await?;
                let mut file = Rows::new(format, training.schema(), to, threads)?;
                // Rows are hashed while those before them are written.
                let (to_write, mut rows) = mpsc::channel(1);
                let hashed = engine.run(async move {
                    while let Some(batch) = training.next().await? {
                        if to_write.send(batch).await.is_err() {
                            // Writing has failed, and says why.
                            break;
                        }
                    }
                    Ok(training)
                });
                let written = async move {
                    while let Some(batch) = rows.recv().await {
                        file.write(&batch).await?;
                    }
                    Ok(file)
                };
                let (training, file) = futures::try_join!(hashed, written)?;
                let last = file.finish().await?;
                Ok((training.finish().await?, last))
            });
            let (report, last) = made.await?;
            drop(upload);
            rows.store(report.outcome.rows, std::sync::atomic::Ordering::Relaxed);
            if let Some(project) = record {
                let registry = &state.registry;
                let set =
                    registry.record_training_set(&principal, &project, report.recipe, report.outcome).await?;
                state.work.made(&run, &set.id);
            }
            outflow::send_last(&chunks, last).await;
            Ok(())
        }
    };
    let ended = {
        let state = state.clone();
        move |outcome: Result<(), Failure>| async move {
            let error = outcome.as_ref().err().map(|failure| RunError {
                kind: failure.body.kind.to_string(),
                code: failure.body.code.to_string(),
                message: failure.body.message.clone(),
                hint: failure.body.hint.clone(),
            });
            if let Err(failure) = outcome {
                state.work.failed(&run, *failure.body);
            }
            let counts =
                BTreeMap::from([("rows".to_owned(), rows.load(std::sync::atomic::Ordering::Relaxed))]);
            if let Err(error) = state.registry.finish_run(&run, error, counts).await {
                tracing::warn!(run, %error, "a finished training could not be recorded");
            }
        }
    };
    outflow::respond(state, format, false, work, ended).await
}
