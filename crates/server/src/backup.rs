//! Copies of all stores of a node: what a backup holds, and that every byte of it is what was written
//! (`docs/formats/backup.md`).

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use asof_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::ServerError;

/// The name of a backup's list of files; it is written last.
const MANIFEST: &str = "manifest.json";

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupManifest {
    /// The format of this list.
    pub format: u32,
    /// When it was begun.
    pub created_at: Timestamp,
    /// The version of the program.
    pub code_version: String,
    /// Every file, by path.
    pub files: Vec<BackupFile>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// Relative to the data directory, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// BLAKE3, 64 hex digits.
    pub hash: String,
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ServerError {
    let path = path.to_owned();
    move |source| ServerError::Backup { doing, path, source }
}

impl BackupManifest {
    /// The newest format this program writes.
    pub const FORMAT: u32 = 1;

    /// Reads the list of a backup.
    ///
    /// # Errors
    /// The folder is no backup, or one of a newer program.
    pub fn read(folder: &Path) -> Result<BackupManifest, ServerError> {
        let not = |reason: String| ServerError::NotABackup { folder: folder.to_owned(), reason };
        let text = std::fs::read(folder.join(MANIFEST)).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => not(format!("it holds no {MANIFEST}")),
            _ => failed("read the backup", folder)(error),
        })?;
        let manifest: BackupManifest = serde_json::from_slice(&text)
            .map_err(|error| not(format!("its {MANIFEST} cannot be read: {error}")))?;
        if manifest.format > BackupManifest::FORMAT {
            let known = BackupManifest::FORMAT;
            return Err(not(format!("its format is {}; this program knows up to {known}", manifest.format)));
        }
        let inside = |file: &&BackupFile| {
            Path::new(&file.path).components().all(|part| matches!(part, std::path::Component::Normal(_)))
        };
        match manifest.files.iter().find(|file| !inside(file)) {
            Some(file) => Err(not(format!("it names the file `{}`, which is outside of it", file.path))),
            None => Ok(manifest),
        }
    }

    /// Copies the files of a backup into a new folder, each checked against the list; durable on return.
    ///
    /// # Errors
    /// A file is missing, is not what the list says, or cannot be written.
    pub fn copy(&self, from: &Path, to: &Path) -> Result<(), ServerError> {
        make_folder(to)?;
        for file in &self.files {
            let source = from.join(&file.path);
            let target = to.join(&file.path);
            let copied = copy(&source, &target, &|| false)?;
            if copied != (file.size, file.hash.clone()) {
                return Err(ServerError::BackupDamaged { file: source });
            }
        }
        sync_folders(to)
    }

    /// Lists every file below a folder and writes the list into it; durable on return.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn write(
        folder: &Path,
        created_at: Timestamp,
        code_version: &str,
    ) -> Result<BackupManifest, ServerError> {
        let mut files = Vec::new();
        for path in walk(folder)? {
            let (size, hash) = digest(&path)?;
            let relative = path.strip_prefix(folder).unwrap_or(&path);
            files.push(BackupFile { path: relative.to_string_lossy().replace('\\', "/"), size, hash });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let manifest = BackupManifest {
            format: BackupManifest::FORMAT,
            created_at,
            code_version: code_version.to_owned(),
            files,
        };
        let path = folder.join(MANIFEST);
        let text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
        std::fs::File::create(&path)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .map_err(failed("write", &path))?;
        sync_folders(folder)?;
        Ok(manifest)
    }
}

/// Copies what stands below a folder while others add to it. Files are never changed once they stand, and a
/// table's log names only files that stand: so the log is copied first, and what it names is there.
///
/// # Errors
/// A file cannot be copied, or `cut_off` says to end.
pub(crate) fn copy_growing(from: &Path, to: &Path, cut_off: &dyn Fn() -> bool) -> Result<(), ServerError> {
    if !from.is_dir() {
        return Ok(());
    }
    make_folder(to)?;
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(from).map_err(failed("read the folder", from))? {
        entries.push(entry.map_err(failed("read the folder", from))?.path());
    }
    let rank = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // The hint before the log: it must not name a checkpoint that is not copied.
        (name != "_last_checkpoint", name != "_delta_log", name)
    };
    entries.sort_by_key(rank);
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_temporary(&name) {
            continue;
        }
        let target = to.join(&name);
        if path.is_dir() {
            copy_growing(&path, &target, cut_off)?;
        } else {
            match copy(&path, &target, cut_off) {
                // A log entry that a checkpoint has replaced meanwhile is in the checkpoint; whether a table lacks
                // what vanished is looked at when all is copied.
                Err(ServerError::Backup { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                other => drop(other?),
            }
        }
    }
    Ok(())
}

/// Names of files that are being written, and of locks.
fn is_temporary(name: &str) -> bool {
    let numbered = name
        .rsplit_once('#')
        .is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    numbered
        || name == "lock"
        || name.ends_with(".lock")
        || name.ends_with(".partial")
        // A spine whose training goes on.
        || name.starts_with("incoming-")
        || name.ends_with(".tmp")
}

fn copy(from: &Path, to: &Path, cut_off: &dyn Fn() -> bool) -> Result<(u64, String), ServerError> {
    if let Some(folder) = to.parent() {
        make_folder(folder)?;
    }
    let mut source = std::fs::File::open(from).map_err(failed("read", from))?;
    let mut target = std::fs::File::create_new(to).map_err(failed("write", to))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        if cut_off() {
            let ended = std::io::Error::new(std::io::ErrorKind::Interrupted, "whoever asked went away");
            return Err(failed("write", to)(ended));
        }
        let read = source.read(&mut buffer).map_err(failed("read", from))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
        target.write_all(&buffer[..read]).map_err(failed("write", to))?;
    }
    target.sync_all().map_err(failed("write", to))?;
    Ok((size, hasher.finalize().to_hex().to_string()))
}

fn digest(path: &Path) -> Result<(u64, String), ServerError> {
    let mut hasher = blake3::Hasher::new();
    let file = std::fs::File::open(path).map_err(failed("read", path))?;
    hasher.update_reader(&file).map_err(failed("read", path))?;
    Ok((hasher.count(), hasher.finalize().to_hex().to_string()))
}

fn walk(folder: &Path) -> Result<Vec<PathBuf>, ServerError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(failed("read the folder", &folder))? {
            let path = entry.map_err(failed("read the folder", &folder))?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    Ok(files)
}

/// Makes a folder, with all above it, that only its owner enters.
///
/// # Errors
/// It cannot be made.
pub fn make_private_folder(path: &Path) -> std::io::Result<()> {
    if let Some(above) = path.parent() {
        std::fs::create_dir_all(above)?;
    }
    let mut folder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        folder.mode(0o700);
    }
    folder.create(path)
}

/// In the data directory: a file for each backup that is being made, which says where its folder grows.
const UNFINISHED: &str = "backups";

/// A backup on its way: a folder aside, which is removed unless it came to stand, also after a kill.
#[derive(Debug)]
pub(crate) struct Unfinished {
    /// Where it grows.
    pub(crate) aside: PathBuf,
    note: PathBuf,
}

impl Unfinished {
    /// Makes the folder beside the place where the backup is to stand, for its owner only.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn begin(data_dir: &Path, to: &Path) -> Result<Unfinished, ServerError> {
        let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = format!("{:08x}", rand::random::<u32>());
        let aside = to.with_file_name(format!(".{name}.{number}.partial"));
        let notes = data_dir.join(UNFINISHED);
        let note = notes.join(number);
        std::fs::create_dir_all(&notes)
            .and_then(|()| std::fs::write(&note, aside.as_os_str().as_encoded_bytes()))
            .map_err(failed("write", &note))?;
        let unfinished = Unfinished { aside, note };
        make_private_folder(&unfinished.aside).map_err(failed("make the folder", &unfinished.aside))?;
        Ok(unfinished)
    }

    /// Lets the folder stand under its name; of two to one name one is refused.
    ///
    /// # Errors
    /// It cannot stand there for good; then it does not.
    pub(crate) fn publish(self, to: &Path) -> Result<(), ServerError> {
        std::fs::rename(&self.aside, to).map_err(failed("write", to))?;
        let folder = to.parent().unwrap_or(Path::new("/"));
        let durable = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
        durable.map_err(|error| {
            drop(std::fs::rename(to, &self.aside));
            failed("write", to)(error)
        })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        remove_unfinished(&self.aside, &self.note);
    }
}

fn remove_unfinished(aside: &Path, note: &Path) {
    let removed = match std::fs::remove_dir_all(aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => std::fs::remove_file(note),
    };
    if let Err(error) = removed {
        tracing::warn!(folder = %aside.display(), %error, "an unfinished backup cannot be removed");
    }
}

/// Removes the folders of backups that a killed process was making; for the one owner of the data directory.
pub fn clear_unfinished_backups(data_dir: &Path) {
    let Ok(notes) = std::fs::read_dir(data_dir.join(UNFINISHED)) else { return };
    for note in notes.filter_map(|note| Some(note.ok()?.path())) {
        let aside = std::fs::read(&note).ok().and_then(|text| String::from_utf8(text).ok());
        let Some(aside) = aside.map(PathBuf::from) else { continue };
        // Nothing but what `Unfinished` made is ever removed.
        let name = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = note.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') && name.ends_with(&format!(".{number}.partial")) {
            remove_unfinished(&aside, &note);
        }
    }
}

fn make_folder(path: &Path) -> Result<(), ServerError> {
    std::fs::create_dir_all(path).map_err(failed("make the folder", path))
}

/// Makes the names in a folder and all below it durable.
fn sync_folders(folder: &Path) -> Result<(), ServerError> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        std::fs::File::open(&folder).and_then(|it| it.sync_all()).map_err(failed("write", &folder))?;
        for entry in std::fs::read_dir(&folder).map_err(failed("read the folder", &folder))? {
            let path = entry.map_err(failed("read the folder", &folder))?.path();
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(())
}
