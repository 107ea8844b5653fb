//! asof-testkit
