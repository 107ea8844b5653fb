//! `asof schema`: the JSON Schema of definitions, for editors.

use crate::context::Context;
use crate::problem::Problem;

/// Flags of `schema`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Prints it.
pub(crate) async fn run(_: Args, context: &Context) -> Result<(), Problem> {
    let schema = asof_model::json_schema();
    context.printer.line(serde_json::to_string_pretty(&schema).unwrap_or_default());
    Ok(())
}
