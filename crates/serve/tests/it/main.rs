//! Requests against a real store.

mod fixture;
mod reading;
