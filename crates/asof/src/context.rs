//! What a command works with: its settings, how it speaks, and the node it asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use asof_flow::FlushBounds;
use asof_model::{Kind, Name, ServingLogOptions};
use tokio::sync::OnceCell;

use crate::client::{Client, Remote, Trust};
use crate::config::{Flags, Settings};
use crate::lock::{NodeFile, in_use, try_lock};
use crate::node::{Node, NodeConfig};
use crate::printer::Printer;
use crate::problem::Problem;

/// How long a command waits for another that has just the stores open.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// How it speaks.
    pub printer: Printer,
    /// What the flags say.
    pub flags: Flags,
    name: String,
    client: OnceCell<Client>,
}

impl Context {
    /// For one command.
    pub(crate) fn new(printer: Printer, flags: Flags, name: String) -> Context {
        Context { printer, flags, name, client: OnceCell::new() }
    }

    /// The configuration.
    ///
    /// # Errors
    /// `asof.yaml` or a variable is wrong.
    pub(crate) fn settings(&self) -> Result<Settings, Problem> {
        Settings::read(&self.flags)
    }

    /// The project's name.
    ///
    /// # Errors
    /// The folder holds no project.
    pub(crate) fn project(&self) -> Result<Name, Problem> {
        self.settings()?.project().cloned()
    }

    /// The node to ask: a remote one where one is named, the one that runs in this project, else the stores
    /// opened here.
    ///
    /// # Errors
    /// The node cannot be reached, or the stores cannot be opened.
    pub(crate) async fn client(&self) -> Result<&Client, Problem> {
        self.client.get_or_try_init(|| async { self.connect(&self.settings()?).await }).await
    }

    async fn connect(&self, settings: &Settings) -> Result<Client, Problem> {
        if let Some(url) = &settings.server.value {
            let trust = Trust::Authorities(settings.tls_authorities.value.clone());
            let remote = Remote::new(url, settings.token.value.clone(), &trust)?;
            return Ok(Client::Remote(Arc::new(remote)));
        }
        if settings.project.is_none() && !settings.data_dir.value.is_dir() {
            return Err(crate::config::no_project(&settings.root.value));
        }
        let data_dir = &settings.data_dir.value;
        let until = Instant::now() + PATIENCE;
        loop {
            let holder = match try_lock(data_dir, &self.name)? {
                Ok(lock) => {
                    drop(lock);
                    match Node::open(self.node_config(settings)).await {
                        Ok(node) => return Ok(Client::Inside(Arc::new(node))),
                        // Somebody else was quicker.
                        Err(problem) if problem.body.code == "data_dir_in_use" && Instant::now() < until => {
                            continue;
                        }
                        Err(problem) => return Err(problem),
                    }
                }
                Err(holder) => holder,
            };
            if let Some(file) = NodeFile::read(data_dir)
                && holder.as_ref().is_none_or(|holder| holder.pid == file.pid)
            {
                let trust = Trust::Certificate(file.certificate.unwrap_or_default());
                let remote = Remote::new(&file.address, file.token, &trust)?;
                return Ok(Client::Remote(Arc::new(remote)));
            }
            if Instant::now() >= until {
                return Err(in_use(data_dir, holder.as_ref()));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// What a node over this project is told.
    pub(crate) fn node_config(&self, settings: &Settings) -> NodeConfig {
        NodeConfig {
            project: settings.project.clone(),
            memory: settings.memory.value,
            threads: settings.threads.value,
            operations: settings.operations.value,
            serving_log: ServingLogOptions {
                sample: settings.serving_log_sample.value,
                keep: settings.serving_log_keep.value,
            },
            flush: FlushBounds {
                wait: Duration::from_micros(settings.flush_interval.value.micros().unsigned_abs()),
                ..FlushBounds::default()
            },
            name: self.name.clone(),
            ..NodeConfig::new(settings.data_dir.value.clone())
        }
    }

    /// Closes the stores, if they were opened here.
    pub(crate) async fn close(&self) {
        if let Some(Client::Inside(node)) = self.client.get() {
            node.close().await;
        }
    }

    /// Asks a yes-or-no question at the terminal; only yes is yes.
    ///
    /// # Errors
    /// The terminal went away.
    pub(crate) fn confirm(&self, question: &str) -> Result<bool, Problem> {
        use std::io::Write as _;
        let gone = |error: std::io::Error| {
            Problem::new(Kind::Unavailable, "no_answer", format!("the question was not answered: {error}"))
        };
        let mut err = std::io::stderr().lock();
        write!(err, "{question} [y/N] ").and_then(|()| err.flush()).map_err(gone)?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map_err(gone)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}
