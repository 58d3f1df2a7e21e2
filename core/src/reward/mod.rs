//! Stage 3: train the verifier on step labels (Eq. 3-4), score every path (Eq. 5).
//!
//! A reward model is described by a [`sipf_plugin::RewardModel`]; [`RewardNet`] holds its weights. Aggregation of step
//! scores is the descriptor's; labels come from [`crate::simulate`].

mod features;
mod fits;
mod head;
mod label_row;
pub mod layout;
mod loss;
mod net;
mod objective;
pub mod quality;
mod score;
#[cfg(test)]
mod tests;

pub use fits::fits;
pub use label_row::{LabelRow, asking};
pub use layout::Layout;
pub use net::RewardNet;
pub use objective::{Lost, PrmObjective, RowLayout};
pub use score::{ScoreInput, run as score};
