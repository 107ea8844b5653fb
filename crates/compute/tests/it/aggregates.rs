//! The laws of aggregates, asked of every member of the catalogue for every type it takes: a new member needs no new
//! test here.

mod answers;
mod catalogue;
mod latest;
mod laws;
mod page;
mod rows;
mod speed;
mod stored;
mod windows;
