//! `POST /v1/backup`: copies all stores into a folder, while the node goes on.

use std::path::PathBuf;

use asof_engine::no_progress;
use asof_flow::Operation;
use asof_model::Kind;
use axum::extract::State;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::backup::{BackupManifest, Unfinished, copy_growing};
use crate::error::Failure;
use crate::request::{Answer, Json, sees_all};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "POST",
    path: "/v1/backup",
    open: false,
    patience: Patience::Long,
    summary: "Copy all stores of the node into a new folder",
    about: "On the node's machine. The folder appears when it is whole. First the registry, then the online store and the live \
            store, then the tables and spines: each holds all that the one before names, so a restored node is consistent.",
    route: || post(backup),
    operation: || {
        json!({
            "requestBody": {"required": true, "content": {"application/json": {"example": {"to": "/backups/2026-06-01"}}}},
            "responses": {"200": {"description": "It stands", "content": {"application/json": {"example": {"to": "/backups/2026-06-01", "files": 12, "bytes": 3_400_000}}}}},
        })
    },
};

/// Where to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// An absolute path on the node's machine, where nothing stands.
    pub to: PathBuf,
}

/// What was copied.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackupAnswer {
    /// Where it stands.
    pub to: PathBuf,
    /// How many files.
    pub files: u64,
    /// How many bytes.
    pub bytes: u64,
}

async fn backup(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Json(request): Json<BackupRequest>,
) -> Result<Answer<BackupAnswer>, Failure> {
    sees_all(&principal)?;
    let to = request.to;
    if !to.is_absolute() {
        return Err(Failure::invalid(
            "relative_path",
            format!("the folder `{}` is no absolute path", to.display()),
        )
        .hint("name a folder on the node's machine from its root"));
    }
    if to.exists() {
        return Err(Failure::new(
            Kind::Conflict,
            "backup_exists",
            format!("`{}` exists already", to.display()),
        )
        .hint("name a folder that does not exist yet"));
    }
    let seat = state.flow.enter(Operation::Backup, &no_progress()).await?;
    // In a task of its own: where whoever asked goes away, it ends at the next step and leaves nothing.
    let gone = CancellationToken::new();
    let _asking = gone.clone().drop_guard();
    let making = make(state.clone(), to, gone);
    let made = state.tasks.spawn(async move {
        let _seat = seat;
        making.await
    });
    let answer = made.await.map_err(|_| defect())??;
    Ok(Answer(answer))
}

async fn make(state: Shared, to: PathBuf, gone: CancellationToken) -> Result<BackupAnswer, Failure> {
    let created_at = state.clock.now();
    let (data_dir, standing) = (state.data_dir.clone(), to.clone());
    let begun = tokio::task::spawn_blocking(move || Unfinished::begin(&data_dir, &standing));
    let unfinished = begun.await.map_err(|_| defect())??;
    state.registry.backup(&unfinished.aside.join("registry.db")).await?;
    // Log and tables of one moment: a row past the copy of the log would be in its table and in no view.
    let paused = state.flow.pause_flush().await;
    let (online, data_dir) = (state.copy_online.clone(), state.data_dir.clone());
    let code_version = state.engine.config().code_version.clone();
    let copied = tokio::task::spawn_blocking(move || -> Result<Unfinished, Failure> {
        let cut_off = || gone.is_cancelled();
        let aside = unfinished.aside.clone();
        (online.0)(&aside)?;
        copy_growing(&data_dir.join("offline"), &aside.join("offline"), &cut_off)?;
        copy_growing(&data_dir.join("spines"), &aside.join("spines"), &cut_off)?;
        Ok(unfinished)
    });
    let unfinished = copied.await.map_err(|_| defect())??;
    drop(paused);
    // What vanished while it was copied was passed over; no table may lack it.
    state.engine.check_copied(&unfinished.aside.join("offline")).await?;
    let listed = tokio::task::spawn_blocking(move || -> Result<BackupAnswer, Failure> {
        let aside = unfinished.aside.clone();
        let manifest = BackupManifest::write(&aside, created_at, &code_version)?;
        unfinished.publish(&to)?;
        let bytes = manifest.files.iter().map(|file| file.size).sum();
        Ok(BackupAnswer { to, files: manifest.files.len() as u64, bytes })
    });
    listed.await.map_err(|_| defect())?
}

fn defect() -> Failure {
    Failure::new(Kind::Internal, "internal", "the backup ended by a defect")
}
