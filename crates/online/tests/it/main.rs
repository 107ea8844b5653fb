//! The suite every online store must pass, on real files.

#[cfg(test)]
mod crash;
#[cfg(test)]
mod filled;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod live;
#[cfg(test)]
mod random;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod views;
