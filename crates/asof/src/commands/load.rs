//! `asof load`: copies files into the table of a stored source.

use std::path::{Path, PathBuf};

use asof_server::{Body, LoadAnswer, LoadQuery, OnBadRow};
use clap::ValueEnum;
use console::Style;

use crate::client::{nothing, path_with};
use crate::commands::train::{file_body, watched};
use crate::context::Context;
use crate::problem::Problem;
use crate::table::{counted, grouped};

/// Flags of `load`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stored source.
    source: String,
    /// The files, by name in the order of their rows [default: those of the source's path].
    files: Vec<PathBuf>,
    /// What a bad row does.
    #[arg(long, value_name = "WHAT", default_value = "stop")]
    on_bad_row: BadRow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BadRow {
    /// Ends the load; nothing of its file is loaded
    Stop,
    /// Goes to the source's quarantine table with its reason
    Quarantine,
}

/// Loads one file after the other.
pub(crate) async fn run(mut args: Args, context: &Context) -> Result<(), Problem> {
    let project = context.project()?;
    args.files.sort();
    let one = |name: Option<&Path>| LoadQuery {
        project: project.clone(),
        source: args.source.clone(),
        name: name.map(|name| name.to_string_lossy().into_owned()),
        on_bad_row: match args.on_bad_row {
            BadRow::Stop => OnBadRow::Stop,
            BadRow::Quarantine => OnBadRow::Quarantine,
        },
        run: Some(format!("{:016x}", rand::random::<u64>())),
    };
    if args.files.is_empty() {
        return send(context, one(None), nothing()).await;
    }
    for file in &args.files {
        send(context, one(Some(file)), file_body(file).await?).await?;
    }
    Ok(())
}

async fn send(context: &Context, query: LoadQuery, body: Body) -> Result<(), Problem> {
    let printer = context.printer;
    let client = context.client().await?;
    let run = query.run.clone().unwrap_or_default();
    let path = path_with(&["v1", "load"], &query);
    let work = async {
        let octets = Some("application/octet-stream");
        let response = client.send(http::Method::POST, &path, octets, body).await?;
        client.collect(response.into_body()).await
    };
    let body = watched(context, client, &run, "load", work).await?;
    let answer: LoadAnswer = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(asof_model::Kind::Internal, "bad_answer", error.to_string()))?;
    for file in &answer.files {
        if printer.json {
            printer.json_line(file);
            continue;
        }
        let what = if file.loaded_before {
            "was loaded before: nothing to do".to_owned()
        } else if file.quarantined > 0 {
            format!("{}, {} in quarantine", counted(file.rows, "row"), grouped(file.quarantined))
        } else {
            counted(file.rows, "row")
        };
        printer.note("Loaded", Style::new().green().bold(), format!("{}: {what}", file.name));
    }
    Ok(())
}
