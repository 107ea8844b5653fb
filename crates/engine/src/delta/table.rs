//! Opening, making and locking the Delta tables that are ours.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::Schema;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{StructField, StructType};
use deltalake_core::protocol::SaveMode;
use deltalake_core::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use url::Url;

use super::durable::{self, DurableFiles};
use crate::{Error, Result};

/// What went wrong below, said in our terms.
pub(crate) fn broken(doing: &'static str, folder: &Path, error: DeltaTableError) -> Error {
    match error {
        DeltaTableError::ObjectStore { source } => {
            Error::Io { doing, path: folder.display().to_string(), reason: source.to_string() }
        }
        other => Error::internal(format!("cannot {doing} `{}`: {other}", folder.display())),
    }
}

/// The address of a folder as Delta wants it: absolute, with a slash at its end.
pub(crate) fn address(folder: &Path) -> Result<Url> {
    let absolute = std::path::absolute(folder).map_err(|e| Error::io("find the folder", folder, &e))?;
    Url::from_directory_path(&absolute)
        .map_err(|()| Error::internal(format!("`{}` is not a folder's path", folder.display())))
}

/// True where a first version was committed.
pub(crate) fn exists(folder: &Path) -> bool {
    // A log may begin at any version once it was cleaned up, so any commit or checkpoint counts.
    std::fs::read_dir(folder.join("_delta_log")).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.ends_with(".json") || name.ends_with(".parquet")
        })
    })
}

/// The table in this folder at its latest version; none where none was made yet.
pub(crate) async fn open(files: &DurableFiles, folder: &Path) -> Result<Option<DeltaTable>> {
    if !exists(folder) {
        return Ok(None);
    }
    let address = address(folder)?;
    DeltaTableBuilder::from_url(address.clone())
        .map(|builder| builder.with_storage_backend(Arc::new(files.clone()), address))
        .map_err(|e| broken("open the table", folder, e))?
        .load()
        .await
        .map(Some)
        .map_err(|e| broken("open the table", folder, e))
}

/// The table in this folder, made now where it is not there yet. `properties` are written at its making.
pub(crate) async fn open_or_make(
    files: &DurableFiles,
    folder: &Path,
    schema: &Schema,
    properties: &[(&str, String)],
) -> Result<DeltaTable> {
    if let Some(table) = open(files, folder).await? {
        return Ok(table);
    }
    durable::make_folder(folder)
        .and_then(|()| durable::sync_folders_above(folder))
        .map_err(|e| Error::io("make the folder", folder, &e))?;
    let fields: StructType = schema
        .try_into_kernel()
        .map_err(|e| Error::internal(format!("a schema that Delta cannot hold: {e}")))?;
    let columns: Vec<StructField> = fields.fields().cloned().collect();
    let address = address(folder)?;
    let empty = DeltaTableBuilder::from_url(address.clone())
        .map(|builder| builder.with_storage_backend(Arc::new(files.clone()), address))
        .and_then(DeltaTableBuilder::build)
        .map_err(|e| broken("make the table", folder, e))?;
    let configuration: HashMap<String, Option<String>> =
        properties.iter().map(|(key, value)| ((*key).to_owned(), Some(value.clone()))).collect();
    let made = empty
        .create()
        .with_save_mode(SaveMode::Ignore)
        .with_columns(columns)
        .with_configuration(configuration)
        .with_raise_if_key_not_exists(false)
        .await;
    match made {
        Ok(table) => Ok(table),
        // Another process made it in the same moment.
        Err(error) => match open(files, folder).await? {
            Some(table) => Ok(table),
            None => Err(broken("make the table", folder, error)),
        },
    }
}

/// The right to write to one table: held by at most one writer of any process. Without it two writers are
/// still safe (the commit loop sees to that) but write their files twice.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Closing the file gives the lock back, also when the process is killed.
    _file: File,
}

/// Waits for the right to write to the table in `folder`; the lock file lies beside the folder.
pub(crate) async fn lock(folder: &Path) -> Result<Lock> {
    let path = PathBuf::from(format!("{}.lock", folder.display()));
    let job = move || -> Result<Lock> {
        if let Some(parent) = path.parent() {
            durable::make_folder(parent).map_err(|e| Error::io("make the folder", parent, &e))?;
        }
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| Error::io("open the lock file", &path, &e))?;
        file.lock().map_err(|e| Error::io("lock", &path, &e))?;
        Ok(Lock { _file: file })
    };
    tokio::task::spawn_blocking(job)
        .await
        .map_err(|ended| Error::internal(format!("waiting for a table's lock ended: {ended}")))?
}

/// Removes what killed writers left: temporary files, and data files that no version names. Only under
/// the table's lock. Returns how many files went.
pub(crate) async fn remove_leftovers(table: &DeltaTable, folder: &Path, prefix: &str) -> Result<usize> {
    use futures::TryStreamExt;

    let mut removed =
        durable::remove_temporary_files(folder).map_err(|e| Error::io("clean the folder", folder, &e))?;
    let found: Vec<String> = std::fs::read_dir(folder)
        .map_err(|e| Error::io("read the folder", folder, &e))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix) && name.ends_with(".parquet"))
        .collect();
    if found.is_empty() {
        return Ok(removed);
    }
    let state = table.snapshot().map_err(|e| broken("read the table", folder, e))?;
    let mut named: std::collections::HashSet<String> =
        state.log_data().iter().map(|file| file.path().to_string()).collect();
    if found.iter().all(|name| named.contains(name)) {
        return Ok(removed);
    }
    // Files that another engine compacted away may still be read by its older versions.
    let tombstones: Vec<_> = state
        .all_tombstones(table.log_store().as_ref())
        .try_collect()
        .await
        .map_err(|e| broken("read the table", folder, e))?;
    named.extend(tombstones.iter().map(|tombstone| tombstone.path().to_string()));
    for name in found.iter().filter(|name| !named.contains(*name)) {
        let path = folder.join(name);
        std::fs::remove_file(&path).map_err(|e| Error::io("remove the file", &path, &e))?;
        removed += 1;
    }
    Ok(removed)
}
