//! Asof as a library and as a program: a node over one data directory ([`Node::open`]), and the command line.
//!
//! A node is everything in one process: registry, engine, online store and server. Many fit in
//! one process, and share memory to remember in but nothing that decides; one node owns a data directory, and a
//! second is refused by name.
//!
//! Every command is an HTTP operation. It speaks to the node that runs in its project, or to `--server`;
//! where none runs it opens the stores itself and asks the same operations of them, without a socket.
//!
//! What it is not: no operation is written here twice. What a command shows is what the server answers.
//!
//! Start reading at [`Node`] and `commands/`, one file each.

mod cli;
mod client;
mod clock;
mod codes;
mod commands;
mod config;
mod context;
mod example;
mod leftovers;
mod lock;
mod node;
mod printer;
mod problem;
mod progress;
mod stream;
mod table;

pub use cli::main;
pub use clock::SystemClock;
pub use node::{Node, NodeConfig};
pub use problem::Problem;
