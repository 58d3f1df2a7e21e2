//! The engine over a small network written out in plain loops: what comes out depends on nothing but the request.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Device, Tensor};
use sipf_plugin::random::Stream;

use super::cache::with_slice;
use super::*;
use crate::Error;
use crate::model::{AttentionSpec, Cache};
use crate::stream::StreamName;

const SHAPE: Shape = Shape { layers: 2, kv_heads: 2, head_dim: 20, hidden: 24, vocab: 40, context: 96 };
const HEADS: usize = 4;

/// Two blocks of attention without rotation; positions enter through an embedding.
struct Toy {
    embed: Vec<f32>,
    place: Vec<f32>,
    /// q, k, v, o of each layer.
    layers: Vec<[Vec<f32>; 4]>,
    window: Option<usize>,
}

fn weights(name: &str, numbers: usize, scale: f32) -> Vec<f32> {
    let mut stream = Stream::new(sipf_plugin::random::key(name, 0));
    (0..numbers).map(|_| stream.normal() * scale).collect()
}

fn times(x: &[f32], weight: &[f32], inner: usize) -> Vec<f32> {
    let dot = |row: &[f32], column: &[f32]| row.iter().zip(column).map(|(a, b)| a * b).sum::<f32>();
    x.chunks(inner).flat_map(|row| weight.chunks(inner).map(move |column| dot(row, column))).collect()
}

impl Toy {
    fn new() -> Self {
        let (h, q, kv) = (SHAPE.hidden, HEADS * SHAPE.head_dim, SHAPE.kv_heads * SHAPE.head_dim);
        let layer = |l: usize| {
            [("q", h * q), ("k", h * kv), ("v", h * kv), ("o", h * q)]
                .map(|(name, numbers)| weights(&format!("{name}{l}"), numbers, 0.3))
        };
        Self {
            embed: weights("embed", SHAPE.vocab * h, 1.0),
            place: weights("place", SHAPE.context * h, 0.5),
            layers: (0..SHAPE.layers).map(layer).collect(),
            window: None,
        }
    }
}

impl Network for Toy {
    fn shape(&self) -> Shape {
        SHAPE
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn hidden(&self, ids: &[u32], positions: &[u32], cache: &mut dyn Cache) -> Result<Tensor> {
        let (h, n) = (SHAPE.hidden, ids.len());
        let mut x = Vec::new();
        for (id, position) in ids.iter().zip(positions) {
            let (embed, place) = (&self.embed[*id as usize * h..], &self.place[*position as usize * h..]);
            x.extend((0..h).map(|i| embed[i] + place[i]));
        }
        let spec = AttentionSpec {
            heads: HEADS,
            kv_heads: SHAPE.kv_heads,
            head_dim: SHAPE.head_dim,
            scale: 0.3,
            window: self.window,
            softcap: None,
        };
        for (l, [q, k, v, o]) in self.layers.iter().enumerate() {
            let tensor = |x: Vec<f32>| Tensor::from_vec(x.clone(), (n, x.len() / n), &Device::Cpu);
            let (q, k, v) = (tensor(times(&x, q, h))?, tensor(times(&x, k, h))?, tensor(times(&x, v, h))?);
            let out = cache.attend(l, &q, &k, &v, &spec)?;
            let out = with_slice(&out, |out| times(out, o, HEADS * SHAPE.head_dim))?;
            x.iter_mut().zip(out).for_each(|(x, out)| *x = (*x + out).tanh());
        }
        Ok(Tensor::from_vec(x, (n, h), &Device::Cpu)?)
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let logits = with_slice(hidden, |hidden| times(hidden, &self.embed, SHAPE.hidden))?;
        let logits: Vec<f32> = logits.iter().map(|logit| logit * 0.4).collect();
        Ok(Tensor::from_vec(logits, (hidden.dim(0)?, SHAPE.vocab), &Device::Cpu)?)
    }
}

fn tokenizer() -> Tokenizer {
    Tokenizer::numbered(SHAPE.vocab).expect("a tokenizer")
}

fn engine(options: EngineOptions) -> Engine {
    Engine::over(std::sync::Arc::new(Toy::new()), tokenizer(), EngineOptions { eos: vec![7], ..options })
        .expect("an engine")
}

/// Prompts of several lengths, some beginning alike, three samples each, settings of every kind.
fn requests() -> Vec<Request> {
    let mut requests = Vec::new();
    let settings = [
        Sampling { max_tokens: 20, ..Sampling::default() },
        Sampling { max_tokens: 33, temperature: 0.7, top_p: 0.9, ..Sampling::default() },
        Sampling { max_tokens: 12, top_k: 9, min_p: 0.02, logprobs: true, ..Sampling::default() },
        Sampling { max_tokens: 25, repetition_penalty: 1.3, stop: vec!["w3".into()], ..Sampling::default() },
        Sampling::greedy(18),
    ]
    .map(std::sync::Arc::new);
    for problem in 0..10u32 {
        let mut prompt: Vec<u32> = (0..5).collect();
        prompt.extend((0..problem * 4).map(|i| 8 + (i * 7 + problem / 2) % 32));
        for index in 0..3 {
            let name = StreamName { seed: 1, problem: &problem.to_string(), index, ..StreamName::default() };
            let sampling = settings[problem as usize % settings.len()].clone();
            requests.push(Request { tag: 0, stream: name.key(), prompt: prompt.clone(), sampling });
        }
    }
    requests
}

fn run(options: EngineOptions, requests: Vec<Request>) -> (Vec<Completion>, Usage) {
    complete(&engine(options), requests, &AtomicBool::new(false)).expect("completions")
}

#[test]
fn bytes_do_not_depend_on_batch_chunks_sharing_memory_order_or_threads() {
    let options = EngineOptions { batch: 1, ..EngineOptions::default() };
    let (want, alone) = run(options.clone(), requests());
    assert!(want.iter().any(|c| c.finish == Finish::Eos) && want.iter().any(|c| c.finish == Finish::Length));
    assert!(want.iter().any(|c| c.finish == Finish::Stop));
    for batch in [7, 64] {
        for prefill in [3, 256] {
            for share_prefixes in [true, false] {
                let options = EngineOptions { batch, prefill, share_prefixes, ..options.clone() };
                let (got, usage) = run(options, requests());
                assert_eq!(got, want, "batch {batch}, prefill {prefill}, sharing {share_prefixes}");
                assert_eq!(usage.generated_tokens, alone.generated_tokens);
                if !share_prefixes {
                    assert_eq!(usage.forward_tokens, usage.unshared_tokens);
                }
            }
        }
    }
    let small = EngineOptions { batch: 64, cache_bytes: 128 * 750, ..options.clone() };
    // Given twice, so that what was forgotten comes back.
    let (got, usage) = run(small, [requests(), requests()].concat());
    assert_eq!(got, [want.as_slice(), want.as_slice()].concat(), "a small cache");
    assert!(usage.peak_batch < 30 && usage.forward_tokens > usage.distinct_tokens, "{usage:?}");
    let mut backwards = requests();
    backwards.reverse();
    let (mut got, _) = run(EngineOptions { batch: 7, ..options.clone() }, backwards);
    got.reverse();
    assert_eq!(got, want, "order");
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let (got, _) = pool.install(|| run(EngineOptions { batch: 64, ..options.clone() }, requests()));
        assert_eq!(got, want, "{threads} threads");
    }
}

#[test]
fn an_interrupted_call_can_be_given_again() {
    struct Interrupting<'a>(&'a AtomicBool, Vec<Request>, Vec<Option<Completion>>, usize);
    impl Feed for Interrupting<'_> {
        fn next(&mut self) -> Option<Request> {
            let at = self.1.iter().position(|request| self.2[request.tag as usize].is_none())?;
            Some(self.1.remove(at))
        }
        fn done(&mut self, tag: u64, completion: Completion) -> Result<()> {
            self.2[tag as usize] = Some(completion);
            self.3 += 1;
            if self.3.is_multiple_of(5) {
                self.0.store(true, Ordering::Relaxed);
            }
            Ok(())
        }
    }
    let (want, _) = run(EngineOptions::default(), requests());
    let engine = engine(EngineOptions { batch: 7, ..EngineOptions::default() });
    let stop = AtomicBool::new(false);
    let mut results = vec![None; want.len()];
    let mut interruptions = 0;
    loop {
        let all: Vec<Request> =
            requests().into_iter().zip(0..).map(|(request, tag)| Request { tag, ..request }).collect();
        let missing = all.into_iter().filter(|request| results[request.tag as usize].is_none()).collect();
        let mut feed = Interrupting(&stop, missing, results, 0);
        let end = engine.generate(&mut feed, &stop);
        results = feed.2;
        match end {
            Ok(_) => break,
            Err(Error::Interrupted) => interruptions += 1,
            Err(error) => panic!("{error}"),
        }
        stop.store(false, Ordering::Relaxed);
    }
    assert!(interruptions >= 5, "{interruptions}");
    assert_eq!(results.into_iter().flatten().collect::<Vec<_>>(), want);
}

/// Every distinct past of a token that had to be computed, counted from what came out.
fn distinct(requests: &[Request], completions: &[Completion]) -> u64 {
    let mut seen = HashSet::new();
    for (request, completion) in requests.iter().zip(completions) {
        let all = [request.prompt.as_slice(), &completion.ids[..completion.ids.len() - 1]].concat();
        (1..=all.len()).for_each(|len| {
            seen.insert(all[..len].to_vec());
        });
    }
    seen.len() as u64
}

#[test]
fn rollouts_from_every_step_compute_no_token_twice() {
    let sampling = std::sync::Arc::new(Sampling { max_tokens: 10, ..Sampling::default() });
    let mut requests = Vec::new();
    for problem in 0..6u64 {
        let path: Vec<u32> =
            (0..60u64).map(|i| 8 + ((i * i + 3 * i * problem + problem) % 31) as u32).collect();
        for step in 1..=4 {
            for index in 0..8 {
                let name = StreamName { problem: &problem.to_string(), step, index, ..StreamName::default() };
                let prompt = path[..20 + 10 * step as usize].to_vec();
                requests.push(Request { tag: 0, stream: name.key(), prompt, sampling: sampling.clone() });
            }
        }
    }
    for batch in [1, 16, 64] {
        let (completions, usage) = run(EngineOptions { batch, ..EngineOptions::default() }, requests.clone());
        let distinct = distinct(&requests, &completions);
        assert!(
            usage.forward_tokens as f64 <= 1.05 * distinct as f64,
            "batch {batch}: {} of {distinct}",
            usage.forward_tokens
        );
        assert_eq!(usage.distinct_tokens, distinct);
        assert!(usage.unshared_tokens > 2 * usage.forward_tokens);
    }
}

#[test]
fn what_is_not_wanted_is_cancelled_within_a_step() {
    struct Picky(u64, Vec<Finish>);
    impl Feed for Picky {
        fn next(&mut self) -> Option<Request> {
            self.0 += 1;
            let sampling =
                std::sync::Arc::new(Sampling { max_tokens: 30 + self.0 as usize, ..Sampling::greedy(1) });
            (self.0 <= 8).then(|| Request {
                tag: self.0,
                stream: self.0,
                prompt: vec![9, self.0 as u32 + 9],
                sampling,
            })
        }
        fn wanted(&self, tag: u64) -> bool {
            tag.is_multiple_of(2) || self.1.is_empty()
        }
        fn done(&mut self, _: u64, completion: Completion) -> Result<()> {
            self.1.push(completion.finish);
            Ok(())
        }
    }
    let engine = engine(EngineOptions { eos: Vec::new(), ..EngineOptions::default() });
    let mut feed = Picky(0, Vec::new());
    let usage = engine.generate(&mut feed, &AtomicBool::new(false)).expect("runs");
    assert_eq!((usage.requests, feed.1.len()), (8, 8));
    assert!(feed.1.contains(&Finish::Cancelled), "{:?}", feed.1);
}

#[test]
fn unusable_requests_and_caches_say_why() {
    let request = |prompt: Vec<u32>, sampling: Sampling| Request {
        tag: 0,
        stream: 0,
        prompt,
        sampling: std::sync::Arc::new(sampling),
    };
    let engine_of = |cache_bytes| engine(EngineOptions { cache_bytes, ..EngineOptions::default() });
    let error = |engine: &Engine, request| {
        complete(engine, vec![request], &AtomicBool::new(false)).expect_err("refused").to_string()
    };
    let large = engine_of(1 << 20);
    assert!(error(&large, request(vec![], Sampling::greedy(4))).contains("no tokens"));
    assert!(error(&large, request(vec![3, 40], Sampling::greedy(4))).contains("token 40"));
    assert!(
        error(&large, request(vec![3], Sampling { top_p: 0.0, ..Sampling::greedy(4) }))
            .contains("top-p is 0")
    );
    let small = engine_of(750 * 32);
    assert!(error(&small, request(vec![3; 30], Sampling::greedy(60))).contains("MiB of cache"));
    let none = Engine::over(
        std::sync::Arc::new(Toy::new()),
        tokenizer(),
        EngineOptions { cache_bytes: 100, ..EngineOptions::default() },
    );
    assert!(none.expect_err("too small").to_string().contains("hold no sequence"));
    let (full, _) = run(EngineOptions::default(), vec![request(vec![3; 96], Sampling::greedy(4))]);
    assert_eq!((full[0].finish, full[0].ids.len()), (Finish::Length, 0));
    let (end, _) = run(EngineOptions::default(), vec![request(vec![3; 94], Sampling::greedy(9))]);
    assert!(end[0].ids.len() <= 2, "the context ends it");
}
