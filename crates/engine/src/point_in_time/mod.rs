//! The point-in-time operator.
