//! `asof load`: copies files into the table of a stored source.

use std::path::PathBuf;

use asof_model::Name;
use asof_server::{Body, LoadAnswer, LoadFiles, LoadQuery, OnBadRow, UploadedFile};
use clap::ValueEnum;
use console::Style;

use crate::client::{nothing, path_with, whole};
use crate::commands::train::{file_body, one_after_the_other, watched};
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

/// Loads: all files or none.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let project = context.project()?;
    let source = Name::new(args.source.clone())
        .map_err(|error| Problem::invalid("bad_name", error.to_string()).hint("`asof list sources` lists them"))?;
    let mut query = LoadQuery {
        project,
        source,
        name: None,
        files: None,
        on_bad_row: match args.on_bad_row {
            BadRow::Stop => OnBadRow::Stop,
            BadRow::Quarantine => OnBadRow::Quarantine,
        },
        run: Some(format!("{:016x}", rand::random::<u64>())),
    };
    if args.files.is_empty() {
        return send(context, &query, None, nothing()).await;
    }
    if context.settings()?.server.value.is_none() {
        let mut files = Vec::new();
        for file in &args.files {
            // The node may stand in another folder; a glob is kept as it is.
            let path = std::path::absolute(file).map_err(|error| Problem::file("find", file, &error))?;
            files.push(path.to_string_lossy().into_owned());
        }
        let body = serde_json::to_vec(&LoadFiles { files }).unwrap_or_default();
        return send(context, &query, Some("application/json"), whole(body)).await;
    }
    // The node sees only what is sent: all files in one request, so that all are loaded or none.
    let mut files = args.files;
    files.sort();
    let mut listed = Vec::new();
    let mut bodies = Vec::new();
    for file in &files {
        let (body, bytes) = file_body(file).await?;
        listed.push(UploadedFile { name: file.to_string_lossy().into_owned(), bytes });
        bodies.push(body);
    }
    query.files = Some(serde_json::to_string(&listed).unwrap_or_default());
    send(context, &query, Some("application/octet-stream"), one_after_the_other(bodies)).await
}

async fn send(context: &Context, query: &LoadQuery, kind: Option<&str>, body: Body) -> Result<(), Problem> {
    let printer = context.printer;
    let client = context.client().await?;
    let run = query.run.clone().unwrap_or_default();
    let path = path_with(&["v1", "load"], query);
    let work = async {
        let response = client.send(http::Method::POST, &path, kind, body).await?;
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
        let what = match file.went_on_behind {
            0 => what,
            rows => format!("{what}, behind the first {} that a load which was cut off had taken", counted(rows, "row")),
        };
        printer.note("Loaded", Style::new().green().bold(), format!("{}: {what}", file.name));
    }
    if let Some(folder) = &answer.quarantine
        && !printer.json
    {
        printer.warn(format!("bad rows, each with its reason, are in the table {folder} below the data directory"));
    }
    Ok(())
}
