//! `asof show THING`: everything about one thing.

use asof_registry::Shown;
use console::Style;
use serde_json::value::RawValue;

use crate::client::path;
use crate::context::Context;
use crate::printer::Printer;
use crate::problem::Problem;
use crate::table::{Table, terminal_width};

/// Flags of `show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `view`, `view.feature`, `project.view`, or `source/NAME` where things of several kinds share a name.
    thing: String,
    /// Do not read a sample of the data.
    #[arg(long)]
    no_sample: bool,
}

/// Shows.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let printer = context.printer;
    let project = context.project()?;
    let client = context.client().await?;
    let parts = ["v1", "projects", project.as_str(), "things", &args.thing];
    if printer.json {
        let sample: &[(&str, &str)] = if args.no_sample { &[] } else { &[("sample", "5")] };
        let shown: Box<RawValue> = client.get(&path(&parts, sample)).await?;
        printer.json_line(&shown);
        return Ok(());
    }
    let shown: Shown = client.get(&path(&parts, &[])).await?;
    print(printer, &shown);
    let sampled = matches!(shown.kind, asof_model::ThingKind::View | asof_model::ThingKind::Source);
    if sampled && !args.no_sample {
        let text = format!("select * from {}.{} limit 5", shown.project, shown.name);
        match super::sql::batches(context, &text, Some(5)).await {
            Ok(batches) => {
                heading(printer, "Sample");
                printer.line(Table::of_batches(&batches, 5).text(terminal_width(), printer.color));
            }
            Err(problem) => printer.say(format!("No sample: {}", problem.body.message)),
        }
    }
    Ok(())
}

fn heading(printer: Printer, text: &str) {
    printer.line(format!("\n{}", Style::new().bold().apply_to(text)));
}

fn print(printer: Printer, shown: &Shown) {
    let feature = shown.feature.as_ref().map(|feature| format!(".{feature}")).unwrap_or_default();
    let title = format!("{} {}.{}{feature}", shown.kind, shown.project, shown.name);
    printer.line(Style::new().bold().apply_to(title));
    if let Some(description) = &shown.description {
        printer.line(description.trim_end());
    }
    printer.line("");
    let listed = |users: &[asof_registry::User]| {
        let names: Vec<String> = users.iter().map(|user| format!("{} {}", user.kind, user.name)).collect();
        names.join(", ")
    };
    let mut facts = Table::default();
    for (name, value) in [
        ("owner", shown.owner.clone().unwrap_or_default()),
        ("tags", shown.tags.join(", ")),
        ("version", shown.version.to_string()),
        ("stands on", listed(&shown.stands_on)),
        ("used by", listed(&shown.used_by)),
        ("same name", listed(&shown.also)),
    ] {
        if !value.is_empty() {
            facts.row([name.to_owned(), value]);
        }
    }
    printer.line(facts.text_without_head());
    if !shown.columns.is_empty() {
        heading(printer, "Columns");
        let mut table = Table::new(&["name", "type", "role", "expression", "description"]);
        for column in &shown.columns {
            let mut role = column.role.clone();
            if let Some(sensitivity) = &column.sensitivity {
                role = format!("{role}, {sensitivity}");
            }
            table.row([
                column.name.clone(),
                column.data_type.to_string(),
                role,
                column.expression.clone().unwrap_or_default(),
                column.description.clone().unwrap_or_default(),
            ]);
        }
        printer.line(table.text(terminal_width(), printer.color));
    }
    heading(printer, "Definition");
    printer.line(asof_model::to_yaml(&shown.definition).trim_end());
    if !shown.versions.is_empty() {
        heading(printer, "Versions");
        let mut table = Table::new(&["version", ">revision", "action", "by", "at"]);
        for version in &shown.versions {
            table.row([
                format!("{}{}", version.version.short(), if version.standing { " *" } else { "" }),
                version.revision.to_string(),
                version.action.name().to_owned(),
                version.by.clone(),
                version.at.to_string(),
            ]);
        }
        printer.line(table.text(terminal_width(), printer.color));
    }
}
