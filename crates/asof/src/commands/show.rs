//! `asof show THING`: everything about one thing.

use asof_model::DataType;
use asof_registry::{Shown, ShownSample};
use console::Style;
use serde_json::Value;

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
    let rows = if args.no_sample { "0" } else { "5" };
    let path = path(&["v1", "projects", project.as_str(), "things", &args.thing], &[("sample", rows)]);
    let shown: Shown = client.get(&path).await?;
    if printer.json {
        printer.json_line(&shown);
        return Ok(());
    }
    print(printer, &shown);
    if let Some(sample) = &shown.sample {
        print_sample(printer, sample);
    }
    Ok(())
}

fn print_sample(printer: Printer, sample: &ShownSample) {
    if let Some(problem) = &sample.problem {
        let hint = sample.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        printer.say(format!("No sample: {problem}{hint}"));
        return;
    }
    if sample.rows == 0 {
        let why = if sample.cut_short { "none was found in time" } else { "there are no rows" };
        printer.say(format!("No sample: {why}."));
        return;
    }
    heading(printer, "Sample");
    let heads: Vec<String> = sample.columns.iter().map(|column| {
        let number = column.masked.is_none() && column.values.iter().any(Value::is_number);
        format!("{}{}", if number { ">" } else { "" }, column.name)
    }).collect();
    let mut table = Table::new(&heads.iter().map(String::as_str).collect::<Vec<_>>());
    for row in 0..sample.rows {
        table.row(sample.columns.iter().map(|column| match column.values.get(row) {
            None | Some(Value::Null) => "null".to_owned(),
            Some(Value::String(text)) if column.data_type == DataType::Timestamp => {
                text.replace(".000000Z", "Z")
            }
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }));
    }
    printer.line(table.text(terminal_width(), printer.color));
    let masked: Vec<&str> =
        sample.columns.iter().filter(|it| it.masked.is_some()).map(|it| it.name.as_str()).collect();
    if !masked.is_empty() {
        printer.say(format!("Not shown, being sensitive: {}.", masked.join(", ")));
    }
    if sample.cut_short {
        printer.say("The time was up before more rows were found.");
    }
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
