//! The engine against real files. One module a subject; add a line for yours.

mod flock;
mod point_in_time;
mod project;
mod querying;
mod scan_parquet;
mod training;
