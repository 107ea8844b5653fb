//! The registry on real files.

#[cfg(test)]
mod applying;
#[cfg(test)]
mod compat;
#[cfg(test)]
mod discovering;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod killing;
#[cfg(test)]
mod opening;
#[cfg(test)]
mod records;
