//! A node: the rooms opened over one data directory. No process globals, so many fit in one process; one
//! node owns a data directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use asof_engine::{Engine, EngineConfig};
use asof_model::Clock;
use asof_registry::Registry;
use asof_server::{Access, App, Limits, Listen, Rooms, Server};
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;
use crate::lock::{DataDirLock, NodeFile, lock};
use crate::problem::Problem;

/// What a node is told at its start.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The folder of its stores; made where it is missing.
    pub data_dir: PathBuf,
    /// Bytes that queries may take.
    pub memory: u64,
    /// Threads that queries may use.
    pub threads: usize,
    /// What it calls itself to those it keeps out, e.g. `asof up`.
    pub name: String,
    /// How long to wait for another owner of the data directory to end.
    pub patience: Duration,
    /// Times, bytes and connections of its server.
    pub limits: Limits,
    /// Where the present comes from.
    pub clock: Arc<dyn Clock>,
}

impl NodeConfig {
    /// Over this folder, all else by default.
    pub fn new(data_dir: impl Into<PathBuf>) -> NodeConfig {
        NodeConfig {
            data_dir: data_dir.into(),
            memory: 2 << 30,
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            name: "asof".to_owned(),
            patience: Duration::ZERO,
            limits: Limits::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// A node. Drop it to close its stores.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    app: App,
    rooms: Rooms,
    stop: CancellationToken,
    _lock: DataDirLock,
}

impl Node {
    /// Opens the stores of a data directory.
    ///
    /// # Errors
    /// Another node owns it, or a store cannot be opened.
    pub async fn open(config: NodeConfig) -> Result<Node, Problem> {
        let lock = {
            let (data_dir, name, patience) = (config.data_dir.clone(), config.name.clone(), config.patience);
            let taken = tokio::task::spawn_blocking(move || lock(&data_dir, &name, patience)).await;
            taken.map_err(|_| Problem::new(asof_model::Kind::Internal, "lock", "the lock of the data directory was not taken"))??
        };
        let registry = Registry::open(&config.data_dir.join("registry.db"), Arc::clone(&config.clock)).await?;
        let interrupted = registry.interrupt_runs().await?;
        if interrupted > 0 {
            tracing::info!(runs = interrupted, "runs were interrupted by the end of the last node");
        }
        let engine = Engine::new(EngineConfig {
            data_dir: config.data_dir.clone(),
            memory: config.memory,
            threads: config.threads,
            code_version: code_version(),
        })?;
        let stop = CancellationToken::new();
        let rooms = Rooms {
            registry,
            engine,
            clock: Arc::clone(&config.clock),
            data_dir: config.data_dir.clone(),
            limits: config.limits.clone(),
            stop: stop.clone(),
        };
        Ok(Node { app: App::new(rooms.clone()), rooms, config, stop, _lock: lock })
    }

    /// Its operations.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Cancelled when it is told to stop.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Listens, tells the commands of this machine where, and serves until it is told to stop.
    ///
    /// # Errors
    /// It may not or cannot listen there.
    pub async fn serve(
        &self,
        listen: &Listen,
        token: Option<&str>,
        listening: impl FnOnce(&str),
    ) -> Result<(), Problem> {
        let server = Server::bind(listen).await?;
        let file = NodeFile {
            address: server.url(),
            pid: std::process::id(),
            token: token.map(str::to_owned),
            certificate: server.certificate().map(|der| blake3::hash(der).to_hex().to_string()),
        };
        file.write(&self.config.data_dir)?;
        listening(&file.address);
        let access = Access::new(token, listen.insecure);
        server.serve(self.app.clone(), access, self.stop.clone()).await;
        NodeFile::remove(&self.config.data_dir);
        Ok(())
    }

    /// Waits for the stores to be closed.
    pub async fn close(&self) {
        self.stop.cancel();
        self.rooms.registry.close().await;
    }
}

/// The version that records carry.
pub fn code_version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
