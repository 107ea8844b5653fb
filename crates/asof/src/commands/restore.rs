//! `asof restore DIR`: brings a backup's stores into a project that has none.

use std::path::{Path, PathBuf};

use asof_server::BackupManifest;
use console::Style;

use crate::context::Context;
use crate::lock::{in_use, try_lock};
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
    let manifest = BackupManifest::read(from)?;
    if data_dir.is_dir() {
        match try_lock(data_dir, "asof restore")? {
            Err(holder) => return Err(in_use(data_dir, holder.as_ref())),
            Ok(lock) => drop(lock),
        }
        if !is_empty(data_dir)? {
            return Err(Problem::new(
                Kind::Conflict,
                "data_dir_not_empty",
                format!("the data directory `{}` holds stores already", data_dir.display()),
            )
            .hint("restore into another with --data-dir, or move the old one away"));
        }
    }
    let failed = |error: std::io::Error| Problem::file("restore into", data_dir, &error);
    let name = data_dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = data_dir.with_file_name(format!("{name}.{}.partial", std::process::id()));
    let copied = manifest.copy(from, &aside);
    if let Err(error) = copied {
        // What is half copied is nobody's.
        drop(std::fs::remove_dir_all(&aside));
        return Err(error.into());
    }
    std::fs::write(aside.join(".gitignore"), "*\n").map_err(failed)?;
    if data_dir.is_dir() {
        std::fs::remove_dir_all(data_dir).map_err(failed)?;
    }
    std::fs::rename(&aside, data_dir).map_err(failed)?;
    let folder = data_dir.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(manifest)
}

/// Whether nothing but what a lock leaves stands in it.
fn is_empty(data_dir: &Path) -> Result<bool, Problem> {
    let failed = |error: std::io::Error| Problem::file("read the folder", data_dir, &error);
    for entry in std::fs::read_dir(data_dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name != "lock" && name != ".gitignore" {
            return Ok(false);
        }
    }
    Ok(true)
}
