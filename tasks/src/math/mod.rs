//! Numbers and equations in model-written text.

pub mod equation;
pub mod number;
pub mod path;
