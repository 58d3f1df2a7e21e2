//! Tokens from a model: requests in, completions out, each a function of what it is and never of when it ran.
//!
//! [`Generator`] is the seam: the loop sees only it, so another backend fits without touching a caller. [`Engine`]
//! is the one here: continuous batching over a tree of shared prefixes. What a request is, and how its tokens are
//! drawn, is in [`Sampling`]; the determinism contract is in docs/generation.md.

mod attend;
mod cache;
mod decoder;
mod draw;
mod engine;
mod gather;
mod lanes;
mod network;
mod prefix;
mod request;
#[cfg(test)]
pub(crate) mod scripted;
mod sequence;
mod slots;
mod stop;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicBool;

pub use engine::{Engine, EngineOptions};
pub use network::{Network, Shape};
pub use request::{Completion, Finish, Request, Sampling};
pub use stop::eos_ids;

use crate::Result;
use crate::model::Tokenizer;

/// Where requests come from and completions go. All calls come from the thread that runs the generator.
pub trait Feed {
    /// The next request; `None` when there is none now. It is asked again after every [`Feed::done`], and the
    /// generator returns once nothing runs and nothing comes.
    fn next(&mut self) -> Option<Request>;

    /// Whether the result of a running request is still wanted; `false` ends it as [`Finish::Cancelled`].
    fn wanted(&self, tag: u64) -> bool {
        let _ = tag;
        true
    }

    /// Takes a finished request. The order is not that of the requests.
    ///
    /// # Errors
    /// Ends the generator with this error.
    fn done(&mut self, tag: u64, completion: Completion) -> Result<()>;
}

/// What a call of [`Generator::generate`] cost, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Requests that were finished or cancelled.
    pub requests: u64,
    /// Tokens of all prompts, shared ones counted each time.
    pub prompt_tokens: u64,
    /// Tokens drawn, final EOS included.
    pub generated_tokens: u64,
    /// Tokens that went through the network.
    pub forward_tokens: u64,
    /// Of these, the ones that were never computed before: `forward_tokens` less what the cache had to forget.
    pub distinct_tokens: u64,
    /// Tokens that a scheme without sharing would have sent through the network.
    pub unshared_tokens: u64,
    /// Steps: packed forward passes.
    pub steps: u64,
    /// The most sequences that ran at once.
    pub peak_batch: u64,
}

impl Usage {
    /// Adds the counts of another call.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.generated_tokens += other.generated_tokens;
        self.forward_tokens += other.forward_tokens;
        self.distinct_tokens += other.distinct_tokens;
        self.unshared_tokens += other.unshared_tokens;
        self.steps += other.steps;
        self.peak_batch = self.peak_batch.max(other.peak_batch);
    }
}

/// Something that completes prompts.
pub trait Generator: Send + Sync {
    /// The tokenizer whose ids requests and completions hold.
    fn tokenizer(&self) -> &Tokenizer;

    /// Runs until the feed has nothing more. A set `stop` flag ends it within a step.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`] when `stop` is set; an unusable request; what the feed or the device said.
    fn generate(&self, feed: &mut dyn Feed, stop: &AtomicBool) -> Result<Usage>;
}

/// Completes a list of requests and gives the results in the order of the list; `tag` is not used.
///
/// # Errors
/// As [`Generator::generate`].
pub fn complete(
    generator: &dyn Generator,
    requests: Vec<Request>,
    stop: &AtomicBool,
) -> Result<(Vec<Completion>, Usage)> {
    struct List {
        waiting: std::vec::IntoIter<Request>,
        next: u64,
        results: Vec<Option<Completion>>,
    }
    impl Feed for List {
        fn next(&mut self) -> Option<Request> {
            let request = self.waiting.next()?;
            self.next += 1;
            Some(Request { tag: self.next - 1, ..request })
        }

        fn done(&mut self, tag: u64, completion: Completion) -> Result<()> {
            self.results[tag as usize] = Some(completion);
            Ok(())
        }
    }
    let results = vec![None; requests.len()];
    let mut list = List { waiting: requests.into_iter(), next: 0, results };
    let usage = generator.generate(&mut list, stop)?;
    let results: Option<Vec<Completion>> = list.results.into_iter().collect();
    let results = results.ok_or_else(|| crate::Error::unusable("the generator left a request unanswered"))?;
    Ok((results, usage))
}
