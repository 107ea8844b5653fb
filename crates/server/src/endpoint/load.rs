//! `POST /v1/load`: copies files into the table of a stored source.

use std::path::PathBuf;

use asof_flow::{FileLoad, LoadFile, Operation};
use asof_model::{Address, Kind, Name};
use axum::extract::{Request, State};
use axum::routing::post;
use futures::TryStreamExt as _;
use http::header;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::body::{Unread, read_whole};
use crate::error::Failure;
use crate::request::{Answer, Query, known_project, not_json};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "POST",
    path: "/v1/load",
    open: false,
    patience: Patience::Long,
    summary: "Copy files into the table of a stored source",
    about: "The body is one file's bytes (`application/octet-stream`, with `name`), or several files' one after the other (with \
            `files`), or JSON that names files on the node's machine, or nothing: then the files of the source's own path are \
            loaded. All files of one request are loaded or none; the same content is loaded once.",
    route: || post(load),
    operation: || {
        json!({
            "parameters": [
                {"name": "project", "in": "query", "required": true, "schema": {"type": "string"}, "description": "The project"},
                {"name": "source", "in": "query", "required": true, "schema": {"type": "string"}, "description": "The stored source"},
                {"name": "name", "in": "query", "schema": {"type": "string"}, "description": "What the uploaded file is called in errors and records; folders of its path that are called `key=value` are columns"},
                {"name": "files", "in": "query", "schema": {"type": "string"}, "description": "What the body holds, where it is several files: JSON, `[{\"name\": \"a.csv\", \"bytes\": 120}, ...]`"},
                {"name": "on_bad_row", "in": "query", "schema": {"enum": ["stop", "quarantine"]}, "description": "What a bad row does; `stop` if not said"},
                {"name": "run", "in": "query", "schema": {"type": "string"}, "description": "An id to ask for progress by"},
            ],
            "requestBody": {"content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                "application/json": {"example": {"files": ["/data/2013-*.csv"]}},
            }},
            "responses": {"200": {"description": "What became of every file", "content": {"application/json": {"example": {
                "source": "shop.listings", "rows": 120, "quarantined": 0, "position": 120,
                "files": [{"name": "2013-06.csv", "hash": "9f...", "loaded_before": false, "rows": 120, "quarantined": 0}],
            }}}}},
        })
    },
};

/// What to load where.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadQuery {
    /// The project.
    pub project: Name,
    /// The stored source.
    pub source: Name,
    /// What the uploaded file is called.
    #[serde(default)]
    pub name: Option<String>,
    /// What the body holds, where it is several files one after the other: a JSON list of [`UploadedFile`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
    /// What a bad row does.
    #[serde(default)]
    pub on_bad_row: OnBadRow,
    /// An id to ask for progress by.
    #[serde(default)]
    pub run: Option<String>,
}

/// What a bad row does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// Ends the load; nothing is loaded.
    #[default]
    Stop,
    /// Goes to the quarantine table with its reason.
    Quarantine,
}

/// One of several files of a body.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadedFile {
    /// What it is called in errors and records.
    pub name: String,
    /// How many bytes of the body are its own.
    pub bytes: u64,
}

/// Files on the node's machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadFiles {
    /// Paths and globs; relative ones start from the project's folder. Rows get their positions by the
    /// files' names.
    pub files: Vec<String>,
}

/// What became of a load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadAnswer {
    /// The source.
    pub source: String,
    /// Rows stored.
    pub rows: u64,
    /// Rows in quarantine.
    pub quarantined: u64,
    /// The quarantine table's folder below the data directory, where rows went there.
    pub quarantine: Option<String>,
    /// The source's last position.
    pub position: Option<i64>,
    /// Every file.
    pub files: Vec<LoadedFile>,
}

/// What became of one file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadedFile {
    /// Its name.
    pub name: String,
    /// BLAKE3 of its content.
    pub hash: String,
    /// It was loaded before, so nothing was done.
    pub loaded_before: bool,
    /// Rows of it, bad ones too, that a load that was cut off had gone through: `rows` are of those behind.
    #[serde(default)]
    pub went_on_behind: u64,
    /// Rows stored.
    pub rows: u64,
    /// Rows in quarantine.
    pub quarantined: u64,
}

impl From<FileLoad> for LoadedFile {
    fn from(file: FileLoad) -> LoadedFile {
        LoadedFile {
            name: file.name,
            hash: file.hash,
            loaded_before: file.loaded_before,
            went_on_behind: file.went_on_behind,
            rows: file.rows,
            quarantined: file.quarantined,
        }
    }
}

async fn load(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Query(query): Query<LoadQuery>,
    request: Request,
) -> Result<Answer<LoadAnswer>, Failure> {
    known_project(&principal, &state.registry.catalog(), &query.project)?;
    state.flow.operations().admit(Operation::Load)?;
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let of_json = kind.split(';').next().unwrap_or_default().trim() == "application/json";
    let mut uploads = Vec::new();
    let files = if of_json {
        let limit = state.limits.body_bytes;
        let body = read_whole(request.into_body(), limit).await.map_err(|unread| unread.explain(limit))?;
        let files: LoadFiles = serde_json::from_slice(&body).map_err(|error| not_json(&error))?;
        let catalog = state.registry.catalog();
        let address = Address { project: query.project.clone(), name: query.source.clone() };
        match (catalog.source(&address), catalog.projects.get(&query.project)) {
            (Some(source), Some(project)) => {
                Some(state.engine.files_to_load(source, &project.root, Some(&files.files)).await?)
            }
            // The load itself says that there is no such source.
            _ => None,
        }
    } else {
        let mut names = Vec::new();
        match &query.files {
            None => {
                names.extend(query.name.clone().or_else(|| Some("upload".to_owned())));
                uploads.extend(Upload::take(&state, request).await?);
            }
            Some(files) => {
                let files: Vec<UploadedFile> =
                    serde_json::from_str(files).map_err(|error| not_json(&error))?;
                let sizes: Vec<u64> = files.iter().map(|file| file.bytes).collect();
                names.extend(files.into_iter().map(|file| file.name));
                uploads = Upload::take_several(&state, request, &sizes).await?;
            }
        }
        let places = uploads.iter().map(|upload| upload.path.clone());
        let address = Address { project: query.project.clone(), name: query.source.clone() };
        let mut files = match state.registry.catalog().source(&address) {
            Some(source) => LoadFile::uploaded(source, places.zip(names))?,
            // The load itself says that there is no such source.
            None => Vec::new(),
        };
        // Rows get their positions by the files' names.
        files.sort_by(|a, b| a.name.cmp(&b.name));
        // No body and no list of files at all is the source's own path; an empty list is nothing.
        (query.files.is_some() || !files.is_empty()).then_some(files)
    };
    let progress = state.work.progress(query.run.as_deref().unwrap_or_default());
    let on_bad_row = match query.on_bad_row {
        OnBadRow::Stop => asof_flow::OnBadRow::Stop,
        OnBadRow::Quarantine => asof_flow::OnBadRow::Quarantine,
    };
    let seat = state.flow.enter(Operation::Load, &progress).await?;
    // In a task of its own: an upload stays for as long as it is read, whoever waits for the answer.
    let flow = state.flow.clone();
    let loading = state.tasks.spawn(async move {
        let report = flow.load(&principal, &query.project, &query.source, files, on_bad_row, progress).await;
        drop((uploads, seat));
        report
    });
    let ended = |_| Failure::new(Kind::Internal, "internal", "the load ended by a defect");
    let report = loading.await.map_err(ended)??;
    Ok(Answer(LoadAnswer {
        source: report.source.to_string(),
        rows: report.rows,
        quarantined: report.quarantined,
        quarantine: report.quarantine,
        position: report.position,
        files: report.files.into_iter().map(LoadedFile::from).collect(),
    }))
}

/// A body kept in a file of the data directory for as long as its request lives.
pub(super) struct Upload {
    pub(super) path: PathBuf,
}

impl Upload {
    /// Writes a body to a file; none where the body is empty.
    pub(super) async fn take(state: &Shared, request: Request) -> Result<Option<Upload>, Failure> {
        let mut all = Upload::take_body(state, request, &[u64::MAX]).await?;
        let (upload, size) = all.pop().ok_or_else(|| broken("nothing came"))?;
        Ok((size > 0).then_some(upload))
    }

    /// Writes a body to as many files as there are sizes; it must be exactly so long.
    async fn take_several(state: &Shared, request: Request, sizes: &[u64]) -> Result<Vec<Upload>, Failure> {
        let all = Upload::take_body(state, request, sizes).await?;
        let short = all.iter().zip(sizes).position(|((_, size), wanted)| size < wanted);
        match short {
            Some(at) => Err(broken(&format!("the body ends within the file number {}", at + 1))),
            None => Ok(all.into_iter().map(|(upload, _)| upload).collect()),
        }
    }

    /// Files of at most these sizes, each with the size it got; a byte more than all of them is refused.
    async fn take_body(
        state: &Shared,
        request: Request,
        sizes: &[u64],
    ) -> Result<Vec<(Upload, u64)>, Failure> {
        let folder = state.data_dir.join("uploads");
        let unwritten = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Failure::new(Kind::Exhausted, "disk_full", "the upload cannot be written: the disk is full")
                    .hint("free space and try again; nothing was lost")
            }
            _ => {
                let message = format!("the upload cannot be written: {error}");
                Failure::new(Kind::Unavailable, "upload_failed", message)
            }
        };
        tokio::fs::create_dir_all(&folder).await.map_err(unwritten)?;
        let mut data = request.into_body().into_data_stream();
        let mut rest = bytes::Bytes::new();
        let mut all = Vec::new();
        for wanted in sizes {
            let upload = Upload { path: folder.join(format!("{:032x}", rand::random::<u128>())) };
            let mut file = tokio::fs::File::create(&upload.path).await.map_err(unwritten)?;
            let mut size = 0;
            while size < *wanted {
                if rest.is_empty() {
                    match next(state, &mut data).await? {
                        Some(bytes) => rest = bytes,
                        None => break,
                    }
                }
                let most = usize::try_from(wanted - size).unwrap_or(usize::MAX);
                let part = rest.split_to(rest.len().min(most));
                file.write_all(&part).await.map_err(unwritten)?;
                size += part.len() as u64;
            }
            file.flush().await.map_err(unwritten)?;
            all.push((upload, size));
        }
        if !rest.is_empty() || next(state, &mut data).await?.is_some() {
            return Err(broken("the body is longer than its files together"));
        }
        Ok(all)
    }
}

/// The next bytes of a body, none of them empty; none at its end.
async fn next(
    state: &Shared,
    data: &mut axum::body::BodyDataStream,
) -> Result<Option<bytes::Bytes>, Failure> {
    loop {
        match data.try_next().await {
            Ok(Some(bytes)) if bytes.is_empty() => {}
            Ok(found) => return Ok(found),
            Err(error) => {
                let unread = Unread::from_error(&error);
                return Err(unread.explain(state.limits.body_bytes));
            }
        }
    }
}

fn broken(what: &str) -> Failure {
    Failure::invalid("bad_upload", format!("the upload is not what `files` says: {what}"))
        .hint("send the files' bytes one after the other, each as long as `files` says; nothing was loaded")
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "no upload to remove");
        }
    }
}
