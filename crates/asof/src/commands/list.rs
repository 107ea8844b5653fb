//! `asof list`: what is defined.

use asof_model::ThingKind;
use asof_server::{Things, TrainingSets};
use clap::ValueEnum;

use crate::client::path;
use crate::context::Context;
use crate::problem::Problem;
use crate::table::{Table, grouped, terminal_width};

/// Flags of `list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only things of this kind.
    kind: Option<Kind>,
    /// The things of every project of the node.
    #[arg(long)]
    all_projects: bool,
}

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Entities
    Entities,
    /// Sources
    Sources,
    /// Views
    Views,
    /// Derived features
    Derived,
    /// Services
    Services,
    /// Training sets that were recorded
    TrainingSets,
}

/// Lists.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let printer = context.printer;
    let project = if args.all_projects { "*".to_owned() } else { context.project()?.to_string() };
    let kind = match args.kind {
        None => None,
        Some(Kind::Entities) => Some(ThingKind::Entity),
        Some(Kind::Sources) => Some(ThingKind::Source),
        Some(Kind::Views) => Some(ThingKind::View),
        Some(Kind::Derived) => Some(ThingKind::Derived),
        Some(Kind::Services) => Some(ThingKind::Service),
        Some(Kind::TrainingSets) => return training_sets(context).await,
    };
    let query: Vec<(&str, &str)> = kind.map(|kind| ("kind", kind.name())).into_iter().collect();
    let answer: Things =
        context.client().await?.get(&path(&["v1", "projects", &project, "things"], &query)).await?;
    if printer.json {
        answer.things.iter().for_each(|thing| printer.json_line(thing));
        return Ok(());
    }
    if answer.things.is_empty() {
        printer.say("Nothing is defined yet; `asof apply` makes the folder's definitions stand.");
        return Ok(());
    }
    let mut table = Table::new(&["kind", "name", ">columns", "version", "owner", "description"]);
    for thing in &answer.things {
        let name = if args.all_projects {
            format!("{}.{}", thing.project, thing.name)
        } else {
            thing.name.to_string()
        };
        table.row([
            thing.kind.to_string(),
            name,
            thing.columns.to_string(),
            thing.version.short().to_owned(),
            thing.owner.clone().unwrap_or_default(),
            thing.summary.clone().unwrap_or_default(),
        ]);
    }
    printer.line(table.text(terminal_width(), printer.color));
    Ok(())
}

async fn training_sets(context: &Context) -> Result<(), Problem> {
    let printer = context.printer;
    let project = context.project()?;
    let answer: TrainingSets = context
        .client()
        .await?
        .get(&path(&["v1", "training-sets"], &[("project", project.as_str())]))
        .await?;
    if printer.json {
        answer.training_sets.iter().for_each(|set| printer.json_line(set));
        return Ok(());
    }
    if answer.training_sets.is_empty() {
        printer.say("No training set was made yet; `asof train` makes one.");
        return Ok(());
    }
    let mut table = Table::new(&["id", "service", "question", ">rows", ">columns", "made", "by"]);
    for set in &answer.training_sets {
        table.row([
            set.id.clone(),
            set.service.clone().unwrap_or_default(),
            set.question.name().to_owned(),
            grouped(set.rows),
            set.columns.to_string(),
            set.created_at.to_string(),
            set.created_by.clone(),
        ]);
    }
    printer.line(table.text(terminal_width(), printer.color));
    Ok(())
}
