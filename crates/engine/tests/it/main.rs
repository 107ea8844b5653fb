//! The engine against real files. One module a subject; add a line for yours.

#[cfg(test)]
mod applied;
#[cfg(test)]
mod compat;
#[cfg(test)]
mod derived;
#[cfg(test)]
mod expressions;
#[cfg(test)]
mod flock;
#[cfg(test)]
mod intake;
#[cfg(test)]
mod labels;
#[cfg(test)]
mod live_rows;
#[cfg(test)]
mod load;
#[cfg(test)]
mod load_kill;
#[cfg(test)]
mod looking;
#[cfg(test)]
mod many_files;
#[cfg(test)]
mod plain_files;
#[cfg(test)]
mod point_in_time;
#[cfg(test)]
mod project;
#[cfg(test)]
mod querying;
#[cfg(test)]
mod readings;
#[cfg(test)]
mod scan_files;
#[cfg(test)]
mod scan_parquet;
#[cfg(test)]
mod scan_query;
#[cfg(test)]
mod scan_text;
#[cfg(test)]
mod scan_times;
#[cfg(test)]
mod second_rows;
#[cfg(test)]
mod training;
#[cfg(test)]
mod wrong_sources;
