//! The engine against real files. One module a subject; add a line for yours.

mod flock;
mod project;
mod scan_files;
mod scan_parquet;
mod scan_text;
mod scan_times;
mod point_in_time;
mod project;
mod querying;
mod scan_parquet;
mod training;
