//! `asof restore DIR`: brings a backup's stores into a project that has none.

use std::path::{Path, PathBuf};

use asof_server::BackupManifest;
use console::Style;

use crate::context::Context;
use crate::leftovers::{clear_partials, partial};
use crate::lock::{in_use, make_private_folder, try_lock};
use crate::problem::Problem;
use crate::table::counted;
use asof_model::Kind;

/// Flags of `restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder that `asof backup` made.
    dir: PathBuf,
}

/// Checks every file of the backup, copies them aside, lets them stand.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let settings = context.settings()?;
    let data_dir = settings.data_dir.value.clone();
    let from = args.dir;
    let restored = tokio::task::spawn_blocking({
        let data_dir = data_dir.clone();
        move || restore(&from, &data_dir)
    })
    .await
    .map_err(|_| Problem::new(Kind::Internal, "internal", "the restore ended"))??;
    if context.printer.json {
        context.printer.json_line(&restored);
    } else {
        let text = format!("{} into {}", counted(restored.files.len() as u64, "file"), data_dir.display());
        context.printer.note("Restored", Style::new().green().bold(), text);
    }
    Ok(())
}

fn restore(from: &Path, data_dir: &Path) -> Result<BackupManifest, Problem> {
    if let Err(error) = std::fs::metadata(from) {
        return Err(Problem::file("read the backup", from, &error));
    }
    let manifest = BackupManifest::read(from)?;
    let made = !data_dir.is_dir();
    // Held to the end: no node may come up in a folder that is about to be another.
    let lock = match try_lock(data_dir, "asof restore")? {
        Err(holder) => return Err(in_use(data_dir, holder.as_ref())),
        Ok(lock) => lock,
    };
    let restored = restore_alone(&manifest, from, data_dir);
    if restored.is_err() && made {
        // Fails where something else stands in it by now, which is not ours.
        drop(remove_marks(data_dir).and_then(|()| std::fs::remove_dir(data_dir)));
    }
    drop(lock);
    restored.map(|()| manifest)
}

fn restore_alone(manifest: &BackupManifest, from: &Path, data_dir: &Path) -> Result<(), Problem> {
    if !is_empty(data_dir)? {
        return Err(Problem::new(
            Kind::Conflict,
            "data_dir_not_empty",
            format!("the data directory `{}` holds stores already", data_dir.display()),
        )
        .hint("restore into another with --data-dir, or move the old one away"));
    }
    clear_partials(data_dir);
    let aside = partial(data_dir);
    make_private_folder(&aside)?;
    let stands =
        manifest.copy(from, &aside).map_err(Problem::from).and_then(|()| let_stand(&aside, data_dir));
    if stands.is_err() {
        // What is half copied is nobody's.
        drop(std::fs::remove_dir_all(&aside));
    }
    stands
}

/// Puts a folder in the place of one that holds nothing but the marks of its lock.
fn let_stand(aside: &Path, data_dir: &Path) -> Result<(), Problem> {
    let failed = |error: std::io::Error| Problem::file("restore into", data_dir, &error);
    remove_marks(data_dir).map_err(failed)?;
    // Takes the place of an empty folder only: whatever came into it meanwhile stays.
    std::fs::rename(aside, data_dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::AlreadyExists => Problem::new(
            Kind::Conflict,
            "data_dir_not_empty",
            format!("something came into the data directory `{}` meanwhile", data_dir.display()),
        )
        .hint("nothing was restored; stop what works there, or restore into another with --data-dir"),
        _ => failed(error),
    })?;
    let folder = data_dir.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Removes what the lock of a data directory leaves in it.
fn remove_marks(data_dir: &Path) -> std::io::Result<()> {
    for mark in MARKS {
        match std::fs::remove_file(data_dir.join(mark)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What stands in a data directory without stores.
const MARKS: [&str; 2] = ["lock", ".gitignore"];

/// Whether nothing but what a lock leaves stands in it.
fn is_empty(data_dir: &Path) -> Result<bool, Problem> {
    let failed = |error: std::io::Error| Problem::file("read the folder", data_dir, &error);
    for entry in std::fs::read_dir(data_dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !MARKS.iter().any(|mark| name == *mark) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_into_the_data_directory_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (aside, data_dir) = (dir.path().join("aside"), dir.path().join("data"));
        for (standing, code) in [("registry.db", Some("data_dir_not_empty")), ("lock", None), (".gitignore", None)] {
            std::fs::create_dir_all(&aside).unwrap();
            std::fs::create_dir_all(&data_dir).unwrap();
            std::fs::write(aside.join("restored"), "new").unwrap();
            std::fs::write(data_dir.join(standing), "old").unwrap();
            let refused = let_stand(&aside, &data_dir).map_err(|problem| problem.body.code.to_string());
            assert_eq!(refused.as_ref().err().map(String::as_str), code, "{standing}");
            assert_eq!(data_dir.join(standing).exists(), code.is_some(), "{standing}");
            assert_eq!(data_dir.join("restored").exists(), code.is_none(), "{standing}");
            std::fs::remove_dir_all(&data_dir).unwrap();
        }
    }
}
