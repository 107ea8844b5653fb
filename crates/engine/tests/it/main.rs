//! The engine against real files. One module a subject; add a line for yours.

mod point_in_time;
mod project;
mod scan_parquet;
