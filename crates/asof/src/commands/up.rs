//! `asof up`: the project's node, until it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;

use asof_server::{Listen, TlsFiles};
use console::Style;

use crate::config::{Flags, Settings};
use crate::context::Context;
use crate::node::{Node, NodeConfig};
use crate::problem::Problem;

/// Flags of `up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:2763].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// How much memory queries may take, e.g. 8GB [default: half of the machine's].
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// How many threads queries may use [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// How many trainings, loads, materialisations and the like go on at once [default: half of the threads, 2 to 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    operations: Option<u16>,
    /// The server's certificate chain, in PEM form.
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Its private key, in PEM form.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Listen beyond this machine even without token and TLS.
    #[arg(long)]
    insecure: bool,
}

/// Serves until Ctrl-C or SIGTERM, then finishes what was accepted.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let flags = Flags {
        listen: args.listen,
        memory: args.memory,
        threads: args.threads.map(usize::from),
        operations: args.operations.map(usize::from),
        tls_certificate: args.tls_certificate,
        tls_key: args.tls_key,
        insecure: args.insecure,
        ..context.flags.clone()
    };
    let settings = Settings::read(&flags)?;
    if settings.project.is_none() && !settings.data_dir.value.is_dir() {
        return Err(crate::config::no_project(&settings.root.value));
    }
    // What can be refused is refused before any store is opened.
    listen(&settings).check().await?;
    let node_config = NodeConfig { serves: true, ..context.node_config(&settings) };
    let node = Arc::new(Node::open(node_config).await?);
    let printer = context.printer;
    let json = printer.json;
    let ended = serve(&node, &settings, std::future::ready(()), |url| {
        if json {
            printer.json_line(&serde_json::json!({"address": url, "pid": std::process::id()}));
        } else {
            printer.note("Serving", Style::new().green().bold(), format!("{url}  (docs at {url}/docs, Ctrl-C stops)"));
        }
    })
    .await;
    node.close().await;
    ended
}

/// Listens as the settings say and, from `refresh_from` on, refreshes views, until the process is told to
/// stop.
///
/// # Errors
/// It may not or cannot listen there.
pub(crate) async fn serve(
    node: &Arc<Node>,
    settings: &Settings,
    refresh_from: impl Future<Output = ()> + Send + 'static,
    listening: impl FnOnce(&str),
) -> Result<(), Problem> {
    let stop = node.stop().clone();
    let mut tasks = tokio::task::JoinSet::new();
    {
        let stop = stop.clone();
        // Heard before anybody can know that the process listens.
        let told = told_to_stop();
        tasks.spawn(async move {
            told.await;
            stop.cancel();
        });
    }
    let listen = listen(settings);
    let token = settings.token.value.as_deref();
    let serving = node.serve(&listen, token, |url| {
        let refreshing = Arc::clone(node);
        tasks.spawn(async move {
            refresh_from.await;
            refreshing.refresh().await;
        });
        listening(url);
    });
    let ended = serving.await;
    stop.cancel();
    tasks.abort_all();
    ended
}

/// Where and how to listen.
pub(crate) fn listen(settings: &Settings) -> Listen {
    let tls = match (&settings.tls_certificate.value, &settings.tls_key.value) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate: certificate.clone(), key: key.clone() }),
        _ => None,
    };
    Listen {
        address: settings.listen.value.clone(),
        token: settings.token.value.is_some(),
        tls,
        insecure: settings.insecure.value,
        limits: asof_server::Limits::default(),
    }
}

/// Ends at Ctrl-C or SIGTERM, either of which is heard from the call on.
fn told_to_stop() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let heard = [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| {
        signal(kind).inspect_err(|error| tracing::warn!(%error, ?kind, "a signal to stop is not heard")).ok()
    });
    async fn next(heard: Option<tokio::signal::unix::Signal>) {
        match heard {
            Some(mut heard) => _ = heard.recv().await,
            None => std::future::pending().await,
        }
    }
    async move {
        let [interrupt, terminate] = heard;
        tokio::select! {
            () = next(interrupt) => {}
            () = next(terminate) => {}
        }
    }
}
