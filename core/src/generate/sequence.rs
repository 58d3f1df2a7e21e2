//! A running sequence: its tokens, its path through the prefix tree, and how it ends.

use std::sync::Arc;

use super::attend::Chain;
use super::prefix::{State, Tree};
use super::stop::{self, Letters, Scanner};
use super::{Completion, Finish, Request, Sampling};
use crate::model::Tokenizer;
use crate::{Error, Result};

/// One request while it runs.
pub(super) struct Sequence {
    pub(super) tag: u64,
    pub(super) stream: u64,
    pub(super) sampling: Arc<Sampling>,
    /// Prompt and new tokens.
    pub(super) all: Vec<u32>,
    /// Tokens of the prompt.
    pub(super) prompt: usize,
    /// Slots of all tokens but a last one that ended it.
    pub(super) path: Vec<u32>,
    /// The same, as the kernel reads them.
    pub(super) chain: Chain,
    /// So many of the path are known to be computed.
    pub(super) ready: usize,
    /// Slots it may still take.
    pub(super) future: usize,
    scanner: Scanner,
    log_probabilities: Vec<f32>,
}

impl Sequence {
    pub(super) fn new(request: Request, future: usize) -> Self {
        Self {
            tag: request.tag,
            stream: request.stream,
            sampling: request.sampling,
            prompt: request.prompt.len(),
            path: Vec::with_capacity(request.prompt.len() + future),
            all: request.prompt,
            chain: Chain::default(),
            ready: 0,
            future,
            scanner: Scanner::default(),
            log_probabilities: Vec::new(),
        }
    }

    /// New tokens so far.
    pub(super) fn new_tokens(&self) -> usize {
        self.all.len() - self.prompt
    }

    /// Takes the prompt's place in the tree.
    pub(super) fn enter(&mut self, tree: &mut Tree, root: u32) -> Result<()> {
        let mut parent = root;
        for at in 0..self.prompt {
            parent = self.step(tree, parent, self.all[at])?;
        }
        Ok(())
    }

    fn step(&mut self, tree: &mut Tree, parent: u32, token: u32) -> Result<u32> {
        let Some(node) = tree.enter(parent, token) else {
            return Err(Error::unusable("the cache is full although room was kept: please report this"));
        };
        self.path.push(node);
        self.chain.push(node);
        Ok(node)
    }

    /// Moves past tokens that are computed by now, by whomever.
    pub(super) fn skip_ready(&mut self, tree: &Tree) {
        while self.ready < self.path.len() && tree.state(self.path[self.ready]) == State::Ready {
            self.ready += 1;
        }
    }

    /// The slot whose hidden state the next token is drawn from, once everything is computed.
    pub(super) fn tip(&self) -> Option<u32> {
        if self.ready == self.path.len() { self.path.last().copied() } else { None }
    }

    /// Appends a drawn token; says how it ends if that ends it, with the text where that is known.
    pub(super) fn take(
        &mut self,
        token: u32,
        log_probability: Option<f32>,
        eos: &[u32],
        tokenizer: &Tokenizer,
        letters: &mut Letters,
        tree: &mut Tree,
    ) -> Result<Option<(Finish, Option<String>)>> {
        self.all.push(token);
        self.log_probabilities.extend(log_probability);
        if eos.contains(&token) {
            return Ok(Some((Finish::Eos, None)));
        }
        if letters.may_end(tokenizer, &self.sampling.stop, token)?
            && let Some(text) = self.scanner.push(tokenizer, &self.sampling, &self.all, self.prompt)?
        {
            return Ok(Some((Finish::Stop, Some(text))));
        }
        if self.future == 0 {
            return Ok(Some((Finish::Length, None)));
        }
        self.future -= 1;
        let parent = self.path[self.path.len() - 1];
        self.step(tree, parent, token)?;
        Ok(None)
    }

    /// The completion of a sequence that ended.
    pub(super) fn completion(
        self,
        finish: Finish,
        text: Option<String>,
        tokenizer: &Tokenizer,
    ) -> Result<Completion> {
        let (prompt, ids) = self.all.split_at(self.prompt);
        let written = if finish == Finish::Eos { &ids[..ids.len() - 1] } else { ids };
        let text = match text {
            Some(text) => text,
            None => stop::continuation(tokenizer, prompt, written)?,
        };
        let logprobs = self.sampling.logprobs.then_some(self.log_probabilities);
        Ok(Completion { ids: ids.to_vec(), text, finish, logprobs })
    }
}

impl Completion {
    /// A completion without a token.
    pub(super) fn empty(finish: Finish) -> Self {
        Self { ids: Vec::new(), text: String::new(), finish, logprobs: None }
    }
}
