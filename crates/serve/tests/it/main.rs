//! Requests against a real store.

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod reading;
