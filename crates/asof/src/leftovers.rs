//! What a process that was killed left behind: removed by the next owner of its data directory, who knows
//! that nobody else works in it.

use std::path::{Path, PathBuf};

/// Removes what no process can go on with: bodies of requests, spilled rows, copies that were not
/// finished. What cannot be removed is told in the log and left.
pub(crate) fn clear(data_dir: &Path) {
    clear_folder(&data_dir.join("uploads"));
    clear_folder(&data_dir.join("spill"));
    asof_server::clear_unfinished_backups(data_dir);
    clear_partials(data_dir);
}

/// Where a restore gathers what is to become a data directory.
pub(crate) fn partial(data_dir: &Path) -> PathBuf {
    let name = data_dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    data_dir.with_file_name(format!("{name}.{}.partial", std::process::id()))
}

/// Removes what earlier restores into this data directory left.
pub(crate) fn clear_partials(data_dir: &Path) {
    let Some(name) = data_dir.file_name().map(|name| name.to_string_lossy().into_owned()) else { return };
    let folder = data_dir.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for path in entries(folder) {
        let found = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = found
            .strip_prefix(&name)
            .and_then(|rest| rest.strip_prefix('.'))
            .and_then(|rest| rest.strip_suffix(".partial"));
        if number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())) {
            remove(&path);
        }
    }
}

fn clear_folder(folder: &Path) {
    for path in entries(folder) {
        remove(&path);
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn remove(path: &Path) {
    let is_folder = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    let removed = if is_folder { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "what a killed process left cannot be removed");
    }
}
