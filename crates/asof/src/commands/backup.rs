//! `asof backup DIR`: copies all stores of the node into a folder.

use std::path::PathBuf;

use asof_server::{BackupAnswer, BackupRequest};
use console::Style;

use crate::context::Context;
use crate::problem::Problem;
use crate::table::counted;

/// Flags of `backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A folder that does not exist yet, on the node's machine.
    dir: PathBuf,
}

/// Asks the node, which may be serving meanwhile.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let to = std::path::absolute(&args.dir).map_err(|error| Problem::file("find", &args.dir, &error))?;
    let client = context.client().await?;
    let answer: BackupAnswer = client.post("/v1/backup", &BackupRequest { to }).await?;
    if context.printer.json {
        context.printer.json_line(&answer);
    } else {
        let text = format!("{} ({}, {:.1} MB)", answer.to.display(), counted(answer.files, "file"), answer.bytes as f64 / 1e6);
        context.printer.note("Backed up", Style::new().green().bold(), text);
    }
    Ok(())
}
