//! A view's rows, evaluated, to be materialised.
