//! Names of random streams: a draw is keyed by what it is for, never by when it happens.

use sha2::{Digest, Sha256};

/// What a random stream is for. The key is the first 64 bits of SHA-256 over the length-prefixed fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamName<'a> {
    /// The run's seed.
    pub seed: u64,
    /// Stage name, for example `sample`, `simulate`, `shuffle`, `dropout`.
    pub stage: &'a str,
    /// Iteration, 0 for the first.
    pub iteration: u64,
    /// Problem id, or the row's id or number.
    pub problem: &'a str,
    /// Step of the path, 0 where there is none.
    pub step: u64,
    /// Sample or rollout number.
    pub index: u64,
}

impl StreamName<'_> {
    /// The 64-bit key for [`sipf_plugin::random::Stream`].
    pub fn key(&self) -> u64 {
        let mut hash = Sha256::new();
        let fields: [&[u8]; 6] = [
            &self.seed.to_le_bytes(),
            self.stage.as_bytes(),
            &self.iteration.to_le_bytes(),
            self.problem.as_bytes(),
            &self.step.to_le_bytes(),
            &self.index.to_le_bytes(),
        ];
        for field in fields {
            hash.update((field.len() as u64).to_le_bytes());
            hash.update(field);
        }
        let digest = hash.finalize();
        let mut first = [0u8; 8];
        first.copy_from_slice(&digest[..8]);
        u64::from_le_bytes(first)
    }
}
