//! asof-serve
