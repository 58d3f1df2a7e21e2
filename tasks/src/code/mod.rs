//! Python in model-written text: cutting it out, its names, its steps; and the docstrings of prompts.

pub mod docstring;
pub mod python;
pub mod steps;
