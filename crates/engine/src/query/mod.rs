//! Read-only SQL over sources, views and recorded training sets.
