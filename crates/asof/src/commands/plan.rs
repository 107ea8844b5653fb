//! `asof plan`: what applying the folder would change.

use asof_model::{Change, Action, ProjectFile};
use asof_server::{PlanAnswer, PlanRequest};
use console::Style;

use crate::config::project_files;
use crate::context::Context;
use crate::printer::Printer;
use crate::problem::Problem;
use crate::table::{counted, grouped};

/// Flags of `plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Plans and shows.
pub(crate) async fn run(_: Args, context: &Context) -> Result<(), Problem> {
    let (plan, files) = plan(context).await?;
    if context.printer.json {
        context.printer.json_line(&plan);
        return Ok(());
    }
    show(context.printer, &plan, &files);
    if !plan.changes.is_empty() || plan.moved_from.is_some() {
        context.printer.hint("`asof apply` makes it so");
    }
    Ok(())
}

/// Asks the node for the plan of the folder.
///
/// # Errors
/// The definitions' problems, all at once.
pub(crate) async fn plan(context: &Context) -> Result<(PlanAnswer, Vec<ProjectFile>), Problem> {
    let settings = context.settings()?;
    let files = project_files(&settings.root.value)?;
    let request = PlanRequest { root: Some(settings.root.value.clone()), files: files.clone() };
    let client = context.client().await?;
    let answer = client.post("/v1/plan", &request).await.map_err(|problem| problem.in_files(&files))?;
    Ok((answer, files))
}

/// Shows a plan to a person.
pub(crate) fn show(printer: Printer, plan: &PlanAnswer, files: &[ProjectFile]) {
    if !plan.diagnostics.is_empty() {
        let text = asof_model::render(&plan.diagnostics, files, console::colors_enabled_stderr());
        printer.say(format!("{}\n", text.trim_end()));
    }
    if let Some(from) = &plan.moved_from {
        printer.line(format!(
            "The folder of project {} moved: its sources are read from {} until this one is applied.",
            plan.project,
            from.display()
        ));
    }
    if plan.changes.is_empty() && plan.moved_from.is_some() {
        printer.line("Nothing else changed.");
    } else if plan.changes.is_empty() {
        printer.line(format!("Project {} is up to date: nothing to apply.", plan.project));
        if let [_] = files {
            printer.hint("definitions are the YAML files under `features/`, where there are none");
        }
    } else {
        for change in &plan.changes {
            print_change(printer, change);
        }
        printer.line(format!("\n{}", summary(&plan.changes)));
    }
    let rows: Vec<String> = plan
        .rows_to_materialize
        .iter()
        .map(|it| match it.rows {
            Some(rows) if it.estimated => format!("{} about {}", it.view, grouped(rows)),
            Some(rows) => format!("{} {}", it.view, grouped(rows)),
            None => format!("{} (unknown)", it.view),
        })
        .collect();
    if !rows.is_empty() {
        printer.line(format!("Rows to materialise: {}", rows.join(", ")));
    }
    if !plan.without_owner.is_empty() {
        printer.line(format!("Without owner: {}", plan.without_owner.join(", ")));
    }
}

/// One change, with its lines and what it invalidates.
pub(crate) fn print_change(printer: Printer, change: &Change) {
    let (sign, style) = match change.action {
        Action::Created => ("+", Style::new().green()),
        Action::Changed => ("~", Style::new().yellow()),
        Action::Removed => ("-", Style::new().red()),
        Action::Described => (".", Style::new().dim()),
    };
    let head = format!("{sign} {} {}", change.kind, change.name);
    printer.line(style.bold().apply_to(head));
    if !matches!(change.action, Action::Created | Action::Removed) {
        print_lines(printer, &change.lines);
    }
    for invalid in &change.invalidates {
        printer.line(format!("    {} {invalid}", Style::new().yellow().apply_to("invalidates:")));
    }
}

/// The lines of a text diff.
pub(crate) fn print_lines(printer: Printer, lines: &[String]) {
    for line in lines {
        let style = match line.as_bytes().first() {
            Some(b'+') => Style::new().green(),
            Some(b'-') => Style::new().red(),
            _ => Style::new().dim(),
        };
        printer.line(format!("    {}", style.apply_to(line)));
    }
}

/// `2 created, 1 changed`.
pub(crate) fn summary(changes: &[Change]) -> String {
    let count = |action: Action| changes.iter().filter(|change| change.action == action).count();
    let mut parts = Vec::new();
    for (action, word) in [
        (Action::Created, "created"),
        (Action::Changed, "changed"),
        (Action::Described, "described anew"),
        (Action::Removed, "removed"),
    ] {
        let many = count(action);
        if many > 0 {
            parts.push(format!("{many} {word}"));
        }
    }
    format!("{}: {}", counted(changes.len() as u64, "change"), parts.join(", "))
}
