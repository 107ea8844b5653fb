//! asof-flow
