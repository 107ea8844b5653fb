//! The registry on real files.

mod applying;
mod fixture;
mod opening;
mod records;
