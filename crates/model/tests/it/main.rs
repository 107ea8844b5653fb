//! The definition language as users meet it: what is read, what is refused and how, what is stored.

mod documents;
mod good;
mod pages;
mod robust;
mod selecting;
mod shop;
mod versions;
mod wrong;
mod wrong_cases;
