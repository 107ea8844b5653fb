//! The suite every online store must pass, on real files.

mod crash;
mod fixture;
mod random;
mod suite;
