//! Training sets: spine in, the same rows out with a column per feature.
