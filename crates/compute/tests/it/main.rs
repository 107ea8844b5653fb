//! The crate's integration tests, one binary.

#[cfg(test)]
mod canonical_bytes;
