//! Delta tables: sources in Delta format, and the tables of stored sources.

mod durable;
