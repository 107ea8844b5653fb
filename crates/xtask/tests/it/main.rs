//! What is made from other files and committed is what they give.

#[cfg(test)]
mod proto;
