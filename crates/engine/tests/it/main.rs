//! The engine against real files. One module a subject; add a line for yours.
