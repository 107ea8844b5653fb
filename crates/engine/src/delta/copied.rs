//! Whether copies of tables are whole.

use std::path::{Path, PathBuf};

use super::table::{self, broken};
use crate::{Engine, Error, Result};

impl Engine {
    /// Opens every table below a folder that tables were copied to, and looks for every file that the newest
    /// version of each names. How many tables there are.
    ///
    /// # Errors
    /// [`Error::Changed`] for a table that is not whole: another program removed files of it while it was
    /// copied, or from the table itself.
    pub async fn check_copied(&self, below: &Path) -> Result<usize> {
        let root = below.to_owned();
        let tables = self.blocking(move || tables(&root)).await?;
        for folder in &tables {
            let changed = |change: String| Error::Changed {
                what: "table",
                name: folder.strip_prefix(below).unwrap_or(folder).display().to_string(),
                change,
            };
            let opened = table::open(self.files(), folder).await;
            let opened = opened.map_err(|error| {
                changed(format!("cannot be opened from its copy: {}", error.without(below)))
            })?;
            // A folder whose table was about to be made.
            let Some(opened) = opened else { continue };
            let state = opened.snapshot().map_err(|e| broken("read the table", folder, e))?;
            for file in state.log_data().iter() {
                let path = folder.join(file.path().as_ref());
                let size = path.metadata().ok().map(|found| found.len());
                if size != u64::try_from(file.size()).ok() {
                    let name = file.path().to_string();
                    return Err(changed(format!("names the file `{name}`, which is not whole in its copy")));
                }
            }
        }
        Ok(tables.len())
    }
}

/// The folders of tables below a folder.
pub(super) fn tables(below: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![below.to_owned()];
    while let Some(folder) = folders.pop() {
        if folder.join("_delta_log").is_dir() {
            found.push(folder);
            continue;
        }
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(|error| Error::io("read the folder", &folder, &error))?,
        };
        folders.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    found.sort();
    Ok(found)
}
