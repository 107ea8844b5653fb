//! The crate's integration tests, one binary.

#[cfg(test)]
mod aggregates;
#[cfg(test)]
mod canonical_bytes;
