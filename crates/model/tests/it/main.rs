//! The definition language as users meet it: what is read, what is refused and how, what is stored.

#[cfg(test)]
mod documents;
#[cfg(test)]
mod good;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod records;
#[cfg(test)]
mod robust;
#[cfg(test)]
mod selecting;
#[cfg(test)]
mod shop;
#[cfg(test)]
mod versions;
#[cfg(test)]
mod wrong;
#[cfg(test)]
mod wrong_cases;
#[cfg(test)]
mod wrong_derived;
#[cfg(test)]
mod wrong_windows;
#[cfg(test)]
mod zones;
