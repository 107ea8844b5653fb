//! The command line: what all commands share, and which there are.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::commands::{self, Command};
use crate::config::Flags;
use crate::context::Context;
use crate::printer::Printer;
use crate::problem::Problem;

/// Features with a clock: training sets that never leak the future, and the same values online.
#[derive(Debug, Parser)]
#[command(
    name = "asof",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    styles = styles(),
    after_help = "Start with `asof demo`. A project is a folder with an asof.yaml; commands work on the one you stand in."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// The project's folder, instead of the one you stand in.
    #[arg(long, global = true, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Speak to the node at this URL, with the token of ASOF_TOKEN.
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// The folder of the node's stores [default: .asof in the project].
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Answer in lines of JSON.
    #[arg(long, global = true)]
    json: bool,
    /// When to colour what is shown.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

fn styles() -> clap::builder::Styles {
    use clap::builder::styling::{AnsiColor, Effects, Styles};
    Styles::styled()
        .header(AnsiColor::Green.on_default() | Effects::BOLD)
        .usage(AnsiColor::Green.on_default() | Effects::BOLD)
        .literal(AnsiColor::Cyan.on_default() | Effects::BOLD)
        .placeholder(AnsiColor::Cyan.on_default())
}

/// Runs the program: parses, then starts what the command needs, then runs it.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return unread(&error),
    };
    let color = match cli.global.color {
        When::Auto => None,
        When::Always => Some(true),
        When::Never => Some(false),
    };
    let printer = Printer::new(cli.global.json, color);
    open_more_files();
    match run(cli, printer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            printer.problem(&problem);
            ExitCode::from(problem.kind().exit_code())
        }
    }
}

/// Lets the process open as many files as the system allows it. The usual limit of 1,024 is one for
/// programs of old that wait by `select`; a node has stores, sources of many files and connections.
fn open_more_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Where it may not be, it stays as it is: sources then hold fewer files open.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// A command line that cannot be read, or that asks for help.
fn unread(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().take_while(|it| it != "--").any(|it| it == "--json");
    if !error.use_stderr() || !json {
        error.exit();
    }
    let text = error.render().to_string();
    let mut parts = text.split("\n\n").map(str::trim);
    let said = |part: &str| part.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let message = parts.next().map(said).unwrap_or_default();
    let hint = parts.find_map(|part| part.strip_prefix("tip: ")).map(said);
    let hint = hint.unwrap_or_else(|| "`asof COMMAND --help` shows what a command takes".to_owned());
    let problem = Problem::invalid("usage", message.trim_start_matches("error: ")).hint(hint);
    Printer::new(true, None).problem(&problem);
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn run(cli: Cli, printer: Printer) -> Result<(), Problem> {
    let flags = Flags {
        project: cli.global.project,
        server: cli.global.server,
        data_dir: cli.global.data_dir,
        ..Flags::default()
    };
    start_log(&cli.command);
    let name = format!("asof {}", commands::name(&cli.command));
    let context = Context::new(printer, flags, name);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .enable_all()
        .thread_name("asof")
        .build();
    let runtime = runtime.map_err(|error| {
        Problem::new(asof_model::Kind::Unavailable, "no_threads", format!("no threads: {error}"))
    })?;
    let ended = runtime.block_on(async {
        let ended = commands::run(cli.command, &context).await;
        context.close().await;
        ended
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    ended
}

/// How many threads answer requests: one less than there are cores. With one for each, whoever else runs, a
/// client on the same machine or a refresh, puts a worker aside for a whole slice of the scheduler, and the
/// requests it holds wait as long: on two cores one in a hundred waited for 3 ms, and for 0.3 ms so.
fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.saturating_sub(1).max(1)
}

/// Logs go to stderr: warnings of commands, and what a server does.
fn start_log(command: &Command) {
    let default = if commands::serves(command) { "asof=info,warn" } else { "error" };
    let filter = crate::config::log_filter().unwrap_or_else(|| default.to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // Where nobody reads stderr any more there is nobody to tell so; trying to would end the thread that logs.
        .log_internal_errors(false)
        .try_init();
    if started.is_err() {
        tracing::debug!("logs were started before");
    }
}
