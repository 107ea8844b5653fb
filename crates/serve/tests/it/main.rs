//! Requests against a real store.

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod logging;
#[cfg(test)]
mod reading;
