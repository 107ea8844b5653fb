//! SQL expressions of definitions, compiled by DataFusion.
