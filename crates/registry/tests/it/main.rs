//! The registry on real files.

mod applying;
mod discovering;
mod fixture;
mod opening;
mod records;
