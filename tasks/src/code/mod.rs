//! Python in model-written text: cutting it out, its names, its steps.

pub mod python;
pub mod steps;
