//! One node owns a data directory: a file lock held for as long as the node lives, and beside it who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use asof_model::Kind;

/// Who holds a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// What it does, e.g. `asof up`.
    pub name: String,
    /// Its process.
    pub pid: u32,
}

/// The lock; dropped with the file, by the kernel too when the process is killed.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    _file: File,
}

/// Takes the lock of a data directory, or says who has it.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn try_lock(data_dir: &Path, name: &str) -> Result<Result<DataDirLock, Option<Holder>>, Problem> {
    make_private_folder(data_dir)?;
    let path = data_dir.join("lock");
    let failed = |error: &std::io::Error| Problem::file("lock the data directory with", &path, error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| failed(&error))?;
    match file.try_lock() {
        // A restore has put another folder in this one's place: the lock of the old one holds nobody off.
        Ok(()) if !stands(&file, &path) => Ok(Err(None)),
        Ok(()) => {
            let holder = Holder { name: name.to_owned(), pid: std::process::id() };
            let text = serde_json::to_vec(&holder).unwrap_or_default();
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(&text))
                .map_err(|error| failed(&error))?;
            Ok(Ok(DataDirLock { _file: file }))
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let holder = file.read_to_string(&mut text).ok().and_then(|_| serde_json::from_str(&text).ok());
            Ok(Err(holder))
        }
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// Whether an open file is the one that stands at this path now.
fn stands(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let of = |found: std::io::Result<std::fs::Metadata>| found.ok().map(|it| (it.dev(), it.ino()));
        let held = of(file.metadata());
        held.is_some() && held == of(path.metadata())
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

/// Takes the lock, waiting a little for a command that is just ending.
///
/// # Errors
/// Another process holds it: refused by its name and pid.
pub(crate) fn lock(data_dir: &Path, name: &str, patience: Duration) -> Result<DataDirLock, Problem> {
    let until = Instant::now() + patience;
    loop {
        match try_lock(data_dir, name)? {
            Ok(lock) => return Ok(lock),
            Err(holder) if Instant::now() >= until => return Err(in_use(data_dir, holder.as_ref())),
            Err(_) => std::thread::sleep(Duration::from_millis(25)),
        }
    }
}

/// The refusal of a second node.
pub(crate) fn in_use(data_dir: &Path, holder: Option<&Holder>) -> Problem {
    let who = holder.map_or_else(
        || "another process".to_owned(),
        |holder| format!("`{}`, process {}", holder.name, holder.pid),
    );
    Problem::new(
        Kind::Conflict,
        "data_dir_in_use",
        format!("the data directory `{}` is owned by {who}", data_dir.display()),
    )
    .hint("one node owns a data directory: wait for it, stop it, or use another with --data-dir")
}

/// Makes a folder that only its owner enters, which version control does not look into; one that stands
/// stays as it is, and is kept from version control where nothing but a node's stores is in it.
///
/// # Errors
/// It cannot be made.
pub(crate) fn make_private_folder(path: &Path) -> Result<(), Problem> {
    if path.is_dir() {
        if is_ours(path)
            && let Err(error) = ignore(path)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            tracing::warn!(folder = %path.display(), %error, "the data directory is not kept from version control");
        }
        return Ok(());
    }
    let made = asof_server::make_private_folder(path)
        // Another command may have been quicker.
        .or_else(|error| if path.is_dir() { Ok(()) } else { Err(error) })
        .and_then(|()| match ignore(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
    made.map_err(|error| Problem::file("make the data directory", path, &error))
}

/// Keeps version control out of a folder, unless it was told something else there.
fn ignore(path: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path.join(".gitignore"))?;
    file.write_all(b"*\n")
}

/// What stands in a data directory.
const OURS: [&str; 14] = [
    "backups",
    "live",
    "lock",
    "lost+found",
    "node.json",
    "offline",
    "online",
    "registry.db",
    "registry.db-shm",
    "registry.db-wal",
    "serving-log",
    "spill",
    "spines",
    "uploads",
];

/// Whether nothing stands in a folder but what a node puts there: a user's folder is the user's.
fn is_ours(path: &Path) -> bool {
    let ours = |name: &std::ffi::OsStr| OURS.iter().any(|known| name == *known);
    std::fs::read_dir(path).is_ok_and(|entries| entries.flatten().all(|entry| ours(&entry.file_name())))
}

/// Where a running node tells the commands of its machine how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeFile {
    /// `http://host:port` or `https://host:port`.
    pub address: String,
    /// Its process.
    pub pid: u32,
    /// The token requests carry, if it asks for one.
    pub token: Option<String>,
    /// BLAKE3 of its TLS certificate, 64 hex digits, if it speaks TLS: its commands trust exactly this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

impl NodeFile {
    fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("node.json")
    }

    /// Reads it; none where there is none or it cannot be read.
    pub(crate) fn read(data_dir: &Path) -> Option<NodeFile> {
        serde_json::from_slice(&std::fs::read(NodeFile::path(data_dir)).ok()?).ok()
    }

    /// Writes it whole, readable by the owner only.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn write(&self, data_dir: &Path) -> Result<(), Problem> {
        let path = NodeFile::path(data_dir);
        let aside = data_dir.join(format!("node.json.{}", self.pid));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        options
            .open(&aside)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| std::fs::rename(&aside, &path))
            .map_err(|error| Problem::file("write", &path, &error))
    }

    /// Takes it away.
    pub(crate) fn remove(data_dir: &Path) {
        if let Err(error) = std::fs::remove_file(NodeFile::path(data_dir)) {
            tracing::debug!(%error, "no node.json to remove");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_by_name_and_pid() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join(".asof");
        let first = lock(&data, "asof up", Duration::ZERO).unwrap();
        let refused = lock(&data, "asof plan", Duration::from_millis(60)).unwrap_err();
        let expected = format!("`asof up`, process {}", std::process::id());
        assert!(refused.body.message.contains(&expected), "{}", refused.body.message);
        drop(first);
        lock(&data, "asof plan", Duration::ZERO).unwrap();
    }

    #[test]
    fn a_folder_of_stores_is_kept_from_version_control() {
        let dir = tempfile::tempdir().unwrap();
        for (made, holds, kept) in [
            (false, None, true),
            (true, None, true),
            (true, Some("registry.db"), true),
            (true, Some("lost+found"), true),
            (true, Some("asof.yaml"), false),
            (true, Some("src"), false),
        ] {
            let data = dir.path().join(format!("{made}{holds:?}"));
            if made {
                std::fs::create_dir(&data).unwrap();
            }
            if let Some(holds) = holds {
                std::fs::write(data.join(holds), "").unwrap();
            }
            drop(lock(&data, "asof plan", Duration::ZERO).unwrap());
            assert_eq!(data.join(".gitignore").exists(), kept, "{holds:?}");
        }
        // What a user says there stays.
        let data = dir.path().join("told");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join(".gitignore"), "!registry.db").unwrap();
        drop(lock(&data, "asof plan", Duration::ZERO).unwrap());
        assert_eq!(std::fs::read_to_string(data.join(".gitignore")).unwrap(), "!registry.db");
    }

    #[test]
    fn the_node_file_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = NodeFile {
            address: "http://127.0.0.1:1".into(),
            pid: 7,
            token: Some("t".into()),
            certificate: None,
        };
        assert_eq!(NodeFile::read(dir.path()), None);
        file.write(dir.path()).unwrap();
        assert_eq!(NodeFile::read(dir.path()), Some(file));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(dir.path().join("node.json")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        NodeFile::remove(dir.path());
        assert_eq!(NodeFile::read(dir.path()), None);
    }
}
