//! The registry on real files.

mod applying;
mod compat;
mod discovering;
mod fixture;
mod killing;
mod opening;
mod records;
