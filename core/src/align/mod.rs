//! Stage 4: alignment losses over rows (Eq. 7-8 for ORPO), one a file.
//!
//! Rows are read by `rows`, tokenised by [`tokens`] and pushed through the decoder in one packed pass; a loss only
//! sees the log-probabilities that came out. [`pairs`] makes the rows of scored paths (Eq. 6).

mod bad_rows;
mod dpo;
#[cfg(test)]
mod golden;
mod objective;
mod orpo;
pub mod pairs;
mod reference;
mod rows;
mod rpo;
mod scored;
mod sft;
#[cfg(test)]
mod tests;
pub mod tokens;

pub use bad_rows::BadRows;
pub use dpo::Dpo;
pub use objective::{Half, PairLoss, PairObjective, PairSlopes, PairsOutcome};
pub use orpo::{NllScope, Orpo};
pub use pairs::{PairCounts, PairPolicy, PairSettings, Pairs};
pub use reference::Reference;
pub use rows::{PreferenceRow, SftRow};
pub(crate) use rows::{format_of, text as row_text};
pub use rpo::Rpo;
pub use sft::SftObjective;

/// ORPO on preference pairs.
pub type OrpoObjective = PairObjective<Orpo>;
/// DPO on preference pairs.
pub type DpoObjective = PairObjective<Dpo>;
/// RPO on preference pairs.
pub type RpoObjective = PairObjective<Rpo>;
