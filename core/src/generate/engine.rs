//! Continuous batching: sequences enter, grow by a token a step and leave, all in one packed forward pass a step.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use rayon::prelude::*;
use sipf_plugin::random::Stream;

use super::attend::Row;
use super::cache::{Pool, Step, bytes_per_token, with_slice};
use super::draw::{self, Scratch};
use super::network::{Network, Shape};
use super::prefix::{ROOT, State, Tree};
use super::sequence::Sequence;
use super::stop::{self, Letters};
use super::{Completion, Feed, Finish, Generator, Request, Usage};
use crate::machine::in_pool;
use crate::model::Tokenizer;
use crate::{Error, Result};

/// How an engine uses the machine. Nothing here changes a completion on the CPU.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The most sequences that run at once.
    pub batch: usize,
    /// Memory for keys, values and hidden states; the batch shrinks where it does not suffice.
    pub cache_bytes: usize,
    /// The most tokens of prompts in one step.
    pub prefill: usize,
    /// Whether sequences share what they have in common.
    pub share_prefixes: bool,
    /// Ids that end a sequence ([`stop::eos_ids`] reads them from a model folder).
    pub eos: Vec<u32>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { batch: 64, cache_bytes: 1 << 30, prefill: 256, share_prefixes: true, eos: Vec::new() }
    }
}

impl EngineOptions {
    /// The defaults, with the end-of-sequence ids of a model folder.
    ///
    /// # Errors
    /// As [`stop::eos_ids`].
    pub fn of(folder: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        Ok(Self { eos: stop::eos_ids(folder, tokenizer)?, ..Self::default() })
    }
}

/// The generator that runs a model of ours.
pub struct Engine {
    network: Arc<dyn Network>,
    tokenizer: Tokenizer,
    options: EngineOptions,
    /// What outlives a call: prefixes that the next one may meet again.
    memory: Mutex<Memory>,
}

struct Memory {
    pool: Pool,
    tree: Tree,
    /// The last private root given out, where sequences share nothing.
    roots: u32,
    letters: Letters,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("shape", &self.network.shape())
            .field("options", &self.options)
            .finish()
    }
}

impl Engine {
    /// An engine over any network.
    ///
    /// # Errors
    /// When the cache does not hold a single block of tokens, or the device has no room for it.
    pub fn over(network: Arc<dyn Network>, tokenizer: Tokenizer, options: EngineOptions) -> Result<Self> {
        let shape = network.shape();
        let bytes = bytes_per_token(&shape, network.device(), network.dtype());
        // More than the batch can ever hold is of use only to prefixes that come back.
        let tree = Tree::new((options.cache_bytes / bytes).min(u32::MAX as usize / 2));
        if tree.capacity() == 0 || options.batch == 0 {
            return Err(Error::unusable(format!(
                "a cache of {} bytes and a batch of {} hold no sequence: a token takes {bytes} bytes, and a block is 16",
                options.cache_bytes, options.batch
            )));
        }
        let pool = Pool::new(shape, tree.capacity(), network.device(), network.dtype())?;
        let memory = Memory { pool, tree, roots: ROOT, letters: Letters::default() };
        Ok(Self { network, tokenizer, options, memory: Mutex::new(memory) })
    }

    /// How it was made.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }
}

impl Generator for Engine {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn generate(&self, feed: &mut dyn Feed, stop: &AtomicBool) -> Result<Usage> {
        // A panic in an earlier call leaves a tree whose sequences never left; it only wastes room.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.tree.returned = 0;
        let mut call = Call {
            engine: self,
            shape: self.network.shape(),
            memory: &mut memory,
            running: Vec::new(),
            held: None,
            promised: 0,
            usage: Usage::default(),
            scratch: Vec::new(),
        };
        let result = call.run(feed, stop);
        call.leave_all();
        let mut usage = call.usage;
        usage.distinct_tokens = usage.forward_tokens - memory.tree.returned.min(usage.forward_tokens);
        result.map(|()| usage)
    }
}

/// One call of [`Engine::generate`].
struct Call<'a> {
    engine: &'a Engine,
    shape: Shape,
    memory: &'a mut Memory,
    running: Vec<Sequence>,
    /// A request that waits for room.
    held: Option<Request>,
    /// Slots that running sequences may still take.
    promised: usize,
    usage: Usage,
    scratch: Vec<Scratch>,
}

impl Call<'_> {
    fn run(&mut self, feed: &mut dyn Feed, stop: &AtomicBool) -> Result<()> {
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            self.cancel(feed)?;
            self.admit(feed)?;
            if self.running.is_empty() {
                return Ok(());
            }
            self.usage.peak_batch = self.usage.peak_batch.max(self.running.len() as u64);
            let fresh = self.forward()?;
            self.extend(fresh, feed)?;
        }
    }

    /// Ends what the feed no longer wants.
    fn cancel(&mut self, feed: &mut dyn Feed) -> Result<()> {
        let mut at = 0;
        while at < self.running.len() {
            if feed.wanted(self.running[at].tag) {
                at += 1;
            } else {
                self.finish(at, Finish::Cancelled, None, feed)?;
            }
        }
        Ok(())
    }

    /// Lets requests in while there is room in the batch and in the cache.
    fn admit(&mut self, feed: &mut dyn Feed) -> Result<()> {
        while self.running.len() < self.engine.options.batch {
            let Some(request) = self.held.take().or_else(|| feed.next()) else { return Ok(()) };
            if !feed.wanted(request.tag) {
                self.usage.requests += 1;
                feed.done(request.tag, Completion::empty(Finish::Cancelled))?;
                continue;
            }
            self.check(&request)?;
            let room = self.shape.context.saturating_sub(request.prompt.len());
            let new = request.sampling.max_tokens.min(room);
            if new == 0 {
                // The prompt alone fills the context.
                self.usage.requests += 1;
                feed.done(request.tag, Completion::empty(Finish::Length))?;
                continue;
            }
            // The last token drawn is never fed back.
            let future = new - 1;
            let Memory { tree, roots, .. } = &mut *self.memory;
            let root = if self.engine.options.share_prefixes { ROOT } else { *roots - 1 };
            let cost = tree.cost(root, &request.prompt) + future;
            if tree.held() + self.promised + cost > tree.capacity() {
                if self.running.is_empty() {
                    return Err(self.too_small(&request, new));
                }
                self.held = Some(request);
                return Ok(());
            }
            *roots = if root as usize > 2 * tree.capacity() { root } else { ROOT };
            self.promised += future;
            let mut sequence = Sequence::new(request, future);
            sequence.enter(tree, root)?;
            self.usage.prompt_tokens += sequence.prompt as u64;
            self.running.push(sequence);
        }
        Ok(())
    }

    fn check(&self, request: &Request) -> Result<()> {
        request.sampling.check()?;
        if request.prompt.is_empty() {
            return Err(Error::unusable("a prompt has no tokens; give at least the begin-of-sequence token"));
        }
        let vocab = self.shape.vocab as u32;
        match request.prompt.iter().find(|id| **id >= vocab) {
            Some(id) => Err(Error::unusable(format!(
                "a prompt holds token {id}, but the model has {vocab} tokens, 0 to {}",
                vocab - 1
            ))),
            None => Ok(()),
        }
    }

    fn too_small(&self, request: &Request, new: usize) -> Error {
        let network = &self.engine.network;
        let bytes = bytes_per_token(&self.shape, network.device(), network.dtype());
        let need = request.prompt.len() + new;
        Error::unusable(format!(
            "one sequence of {} prompt tokens and {new} new ones needs {} MiB of cache, which has {} MiB; \
             allow fewer new tokens or give the cache more memory",
            request.prompt.len(),
            (need * bytes).div_ceil(1 << 20),
            (self.memory.tree.capacity() * bytes) >> 20
        ))
    }

    /// One packed pass over tokens that are not in the cache yet. Returns their slots and hidden states.
    fn forward(&mut self) -> Result<Fresh> {
        let Memory { pool, tree, .. } = &mut *self.memory;
        let budget = self.engine.options.prefill.max(self.running.len());
        let (mut rows, mut ids, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for sequence in &mut self.running {
            sequence.skip_ready(tree);
            for (position, slot) in sequence.path.iter().enumerate().skip(sequence.ready) {
                if rows.len() >= budget {
                    break;
                }
                if tree.state(*slot) != State::Missing {
                    continue;
                }
                tree.set_state(*slot, State::Scheduled);
                rows.push(Row { slot: *slot, len: position + 1, chain: &sequence.chain });
                ids.push(tree.token(*slot));
                positions.push(position as u32);
            }
        }
        if rows.is_empty() {
            return Ok(Fresh { slots: Vec::new(), hidden: None });
        }
        let network = &*self.engine.network;
        let mut step = Step { pool, rows: &rows };
        let result = match self.shape.hidden.pow(2) * rows.len() < WORTH_THE_POOL {
            true => network.hidden(&ids, &positions, &mut step),
            false => in_pool(|| network.hidden(&ids, &positions, &mut step)),
        };
        let hidden = match result {
            Ok(hidden) => hidden,
            Err(error) => {
                rows.iter().for_each(|row| tree.set_state(row.slot, State::Missing));
                return Err(error);
            }
        };
        pool.keep(&rows, &hidden)?;
        let slots: Vec<u32> = rows.iter().map(|row| row.slot).collect();
        slots.iter().for_each(|slot| tree.set_state(*slot, State::Ready));
        self.usage.forward_tokens += slots.len() as u64;
        self.usage.steps += 1;
        Ok(Fresh { slots, hidden: Some(hidden) })
    }

    /// Draws a token for every sequence whose past is computed, and retires those that end with it.
    fn extend(&mut self, fresh: Fresh, feed: &mut dyn Feed) -> Result<()> {
        let Memory { pool, tree, .. } = &mut *self.memory;
        self.running.iter_mut().for_each(|sequence| sequence.skip_ready(tree));
        let mut tips: Vec<u32> = self.running.iter().filter_map(Sequence::tip).collect();
        tips.sort_unstable();
        tips.dedup();
        if tips.is_empty() {
            return Ok(());
        }
        let hidden = fresh.select(&tips, pool, self.engine.network.dtype())?;
        let (network, running, scratch) = (&*self.engine.network, &self.running, &mut self.scratch);
        let vocab = self.shape.vocab;
        let mut draw = || {
            let logits = network.logits(&hidden)?;
            with_slice(&logits, |logits| draw_all(running, &tips, logits, vocab, scratch))
        };
        let drawn = match vocab * self.shape.hidden * tips.len() < WORTH_THE_POOL {
            true => draw(),
            false => in_pool(draw),
        }?;
        self.usage.generated_tokens += drawn.iter().flatten().count() as u64;
        let mut at = 0;
        for drawn in drawn {
            let ended = match drawn {
                None => None,
                Some((token, log_probability)) => {
                    let sequence = &mut self.running[at];
                    let end = sequence.take(
                        token,
                        log_probability,
                        &self.engine.options.eos,
                        &self.engine.tokenizer,
                        &mut self.memory.letters,
                        &mut self.memory.tree,
                    )?;
                    if end.is_none() {
                        self.promised -= 1;
                    }
                    end
                }
            };
            match ended {
                Some((finish, text)) => self.finish(at, finish, text, feed)?,
                None => at += 1,
            }
        }
        Ok(())
    }

    /// Takes a sequence out of the batch and hands its completion over.
    fn finish(&mut self, at: usize, finish: Finish, text: Option<String>, feed: &mut dyn Feed) -> Result<()> {
        let sequence = self.running.remove(at);
        self.release(&sequence);
        self.usage.requests += 1;
        // Without a cache of prefixes: the prompt once, and every new token but the last.
        self.usage.unshared_tokens += (sequence.all.len().max(sequence.prompt + 1) - 1) as u64;
        let tag = sequence.tag;
        let completion = sequence.completion(finish, text, &self.engine.tokenizer)?;
        feed.done(tag, completion)
    }

    fn release(&mut self, sequence: &Sequence) {
        self.promised -= sequence.future;
        self.memory.tree.leave(&sequence.path);
    }

    fn leave_all(&mut self) {
        for sequence in std::mem::take(&mut self.running) {
            self.release(&sequence);
        }
    }
}

/// Passes of fewer multiply-adds (a layer's, roughly) stay on the calling thread: waking another costs more.
const WORTH_THE_POOL: usize = 1 << 16;

/// What the last pass computed.
struct Fresh {
    slots: Vec<u32>,
    hidden: Option<Tensor>,
}

impl Fresh {
    /// Hidden states of the tips: from this pass where all of them are there, else from the pool.
    fn select(&self, tips: &[u32], pool: &Pool, dtype: candle_core::DType) -> Result<Tensor> {
        if let Some(hidden) = &self.hidden {
            if self.slots == tips {
                return Ok(hidden.clone());
            }
            if !hidden.device().is_cpu() {
                let mut order: Vec<(u32, u32)> = self.slots.iter().copied().zip(0..).collect();
                order.sort_unstable();
                let find =
                    |tip: &u32| order.binary_search_by_key(tip, |entry| entry.0).ok().map(|at| order[at].1);
                if let Some(index) = tips.iter().map(find).collect::<Option<Vec<u32>>>() {
                    let index = Tensor::from_vec(index, tips.len(), hidden.device())?;
                    return Ok(hidden.index_select(&index, 0)?);
                }
            }
        }
        pool.recall(tips, dtype)
    }
}

/// Draws below this many logits altogether stay on the calling thread.
const WORTH_A_THREAD: usize = 1 << 15;

/// The token and its log-probability of each sequence; `None` where the past is not computed yet.
fn draw_all(
    running: &[Sequence],
    tips: &[u32],
    logits: &[f32],
    vocab: usize,
    scratch: &mut Vec<Scratch>,
) -> Vec<Option<(u32, Option<f32>)>> {
    let one = |sequence: &Sequence, scratch: &mut Scratch| {
        let row = tips.binary_search(&sequence.tip()?).ok()?;
        let logits = &logits[row * vocab..(row + 1) * vocab];
        let unit = Stream::at(sequence.stream, sequence.new_tokens() as u64);
        let token = draw::draw(logits, &sequence.sampling, &sequence.all, unit, scratch);
        let log_probability =
            sequence.sampling.logprobs.then(|| draw::log_probability(logits, token, scratch));
        Some((token, log_probability))
    };
    if scratch.is_empty() {
        scratch.push(Scratch::default());
    }
    if running.len() * vocab < WORTH_A_THREAD || rayon::current_num_threads() == 1 {
        return running.iter().map(|sequence| one(sequence, &mut scratch[0])).collect();
    }
    running.par_iter().map_init(Scratch::default, |scratch, sequence| one(sequence, scratch)).collect()
}
