//! `POST /v1/backup`: copies all stores into a folder, while the node goes on.

use std::path::{Path, PathBuf};

use asof_model::Kind;
use axum::extract::State;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::backup::{BackupManifest, copy_growing};
use crate::error::{Failure, ServerError};
use crate::request::{Answer, Json};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "POST",
    path: "/v1/backup",
    open: false,
    patience: Patience::Long,
    summary: "Copy all stores of the node into a new folder",
    about: "On the node's machine. The folder appears when it is whole. First the registry, then the online store, then the \
            tables and spines: each holds all that the one before names, so a restored node is consistent.",
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
    Caller(_): Caller,
    State(state): State<Shared>,
    Json(request): Json<BackupRequest>,
) -> Result<Answer<BackupAnswer>, Failure> {
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
    let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = to.with_file_name(format!(".{name}.{:08x}.partial", rand::random::<u32>()));
    let copied = copy(&state, &aside).await;
    let manifest = match copied {
        Ok(manifest) => manifest,
        Err(failure) => {
            drop(tokio::fs::remove_dir_all(&aside).await);
            return Err(failure);
        }
    };
    let bytes = manifest.files.iter().map(|file| file.size).sum();
    let files = manifest.files.len() as u64;
    publish(&aside, &to).map_err(|source| ServerError::Backup {
        doing: "write",
        path: to.clone(),
        source,
    })?;
    Ok(Answer(BackupAnswer { to, files, bytes }))
}

async fn copy(state: &Shared, aside: &Path) -> Result<BackupManifest, Failure> {
    let created_at = state.clock.now();
    state.registry.backup(&aside.join("registry.db")).await?;
    let (online, data_dir, aside) = (state.copy_online.clone(), state.data_dir.clone(), aside.to_owned());
    let code_version = state.engine.config().code_version.clone();
    let copied = tokio::task::spawn_blocking(move || -> Result<BackupManifest, Failure> {
        (online.0)(&aside.join("online"))?;
        copy_growing(&data_dir.join("offline"), &aside.join("offline"))?;
        copy_growing(&data_dir.join("spines"), &aside.join("spines"))?;
        Ok(BackupManifest::write(&aside, created_at, &code_version)?)
    });
    copied.await.map_err(|_| Failure::new(Kind::Internal, "internal", "the backup ended by a defect"))?
}

/// Lets the folder stand under its name; of two to one name one is refused.
fn publish(aside: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::rename(aside, to)?;
    let folder = to.parent().unwrap_or(Path::new("/"));
    std::fs::File::open(folder)?.sync_all()
}
