//! Views into the online store, over real files, a real registry and a real store.

mod fixture;
mod killed;
mod materialize;
mod refresh;
mod serving;
