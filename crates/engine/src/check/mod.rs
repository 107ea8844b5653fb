//! Definitions against the data: the columns there are, the types of expressions.
