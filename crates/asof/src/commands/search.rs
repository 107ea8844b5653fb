//! `asof search TEXT`: things by words.

use asof_registry::Found;

use crate::client::path;
use crate::context::Context;
use crate::problem::Problem;
use crate::table::{Table, terminal_width};

/// Flags of `search`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Words that must all be found.
    #[arg(required = true)]
    text: Vec<String>,
    /// Only in this project.
    #[arg(long)]
    here: bool,
}

/// Searches.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let printer = context.printer;
    let text = args.text.join(" ");
    let project = if args.here { Some(context.project()?.to_string()) } else { None };
    let mut query = vec![("text", text.as_str())];
    query.extend(project.as_deref().map(|project| ("project", project)));
    let found: Found = context.client().await?.get(&path(&["v1", "search"], &query)).await?;
    if printer.json {
        found.hits.iter().for_each(|hit| printer.json_line(hit));
        return Ok(());
    }
    if found.hits.is_empty() {
        printer.say(format!("Nothing is found for `{text}`."));
        if !found.nearest.is_empty() {
            printer.hint(format!("did you mean {}?", found.nearest.join(", ")));
        }
        return Ok(());
    }
    let mut table = Table::new(&["kind", "name", "found in", "owner", "description"]);
    for hit in &found.hits {
        table.row([
            hit.kind.clone(),
            hit.name.clone(),
            hit.matched.join(", "),
            hit.owner.clone().unwrap_or_default(),
            hit.summary.clone().unwrap_or_default(),
        ]);
    }
    printer.line(table.text(terminal_width(), printer.color));
    Ok(())
}
