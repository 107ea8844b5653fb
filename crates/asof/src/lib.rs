//! asof
