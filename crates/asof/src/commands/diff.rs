//! `asof diff`: the folder against what stands, as text.

use crate::commands::plan;
use crate::context::Context;
use crate::problem::Problem;

/// Flags of `diff`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these things.
    things: Vec<String>,
}

/// Shows every changed thing's lines.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let printer = context.printer;
    let (mut planned, _) = plan::plan(context).await?;
    let wanted = |name: &str| args.things.is_empty() || args.things.iter().any(|it| it == name);
    planned.changes.retain(|change| wanted(change.name.as_str()));
    for change in &planned.changes {
        if printer.json {
            printer.json_line(change);
        } else {
            printer.line(format!("{} {} ({})", change.kind, change.name, change.action.name()));
            plan::print_lines(printer, &change.lines);
        }
    }
    if planned.changes.is_empty() && !printer.json {
        printer.say("No differences: the folder is what stands.");
    }
    Ok(())
}
