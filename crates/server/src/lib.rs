//! asof-server
