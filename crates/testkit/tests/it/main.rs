//! Tests of the oracle itself, before it is the judge of anything.

#[cfg(test)]
mod agree;
#[cfg(test)]
mod catalogue;
#[cfg(test)]
mod intervals;
#[cfg(test)]
mod real;
#[cfg(test)]
mod sentences;
