//! What every path to a value is held against: a naive oracle of SEMANTICS, random worlds that hit its
//! edges, and the count of edges hit.
//!
//! It is not a mock of anything: it makes rows and spines, and says what the contract answers. Paths
//! under test live in their own crates' tests. Beside that it has what these share: child processes that are
//! killed, how long a campaign is, and what a machine does not permit. SEMANTICS is
//! `docs/reference/semantics.md`.
//!
//! Start reading at [`oracle::counting`].

mod calls;
mod campaign;
mod child;
mod edges;
mod folder;
pub mod oracle;
mod random;
mod service;
mod skip;
mod value;
mod window;
mod world;

pub use calls::{called, every_call};
pub use campaign::{kill_rounds, kill_rounds_or, soak_program, soak_requests};
pub use child::Child;
pub use edges::Edges;
pub use folder::copy_folder;
pub use random::Random;
pub use service::{Label, Read, Service, Term, brought};
pub use skip::{is_permitted, skip};
pub use value::{Float, Value};
pub use window::{Aggregate, Argument, Function, Window, WindowView};
pub use world::{BEFORE_ALL, KeyValue, Kind, NEVER, Row, Shape, SpineRow, Step, View, World};
