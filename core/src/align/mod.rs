//! Stage 4: alignment losses over rows (Eq. 7-8 for ORPO), one a file.

mod rows;
mod sft;

pub use rows::SftRow;
pub(crate) use rows::{format_of, text as row_text};
pub use sft::SftObjective;
