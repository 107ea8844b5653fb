//! asof-engine
