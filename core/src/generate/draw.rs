//! One token from logits: `transformers`' definitions, inverse CDF in vocabulary order, one random number a token.
#![allow(unsafe_code, reason = "vector loads over slices whose lengths are checked")]

use super::attend::tree_sum;
use super::lanes::{Lanes, WIDTH, widest};
use super::request::Sampling;

/// Probabilities are summed in blocks of this many, so that the search reads only one block closely.
const BLOCK: usize = 16 * WIDTH;

/// Memory that draws use again and again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    scores: Vec<f32>,
    sums: Vec<f32>,
    order: Vec<u32>,
    seen: Vec<bool>,
}

/// The next token. `history` holds the prompt and the tokens so far, `unit` the random number of this position.
pub(super) fn draw(
    logits: &[f32],
    sampling: &Sampling,
    history: &[u32],
    unit: f32,
    scratch: &mut Scratch,
) -> u32 {
    let vocab = logits.len();
    if sampling.temperature == 0.0 && sampling.repetition_penalty == 1.0 {
        return first_largest(logits);
    }
    let padded = vocab.next_multiple_of(BLOCK);
    scratch.scores.clear();
    scratch.scores.extend_from_slice(logits);
    scratch.scores.resize(padded, f32::NEG_INFINITY);
    if sampling.repetition_penalty != 1.0 {
        penalise(&mut scratch.scores[..vocab], sampling.repetition_penalty, history, &mut scratch.seen);
    }
    if sampling.temperature == 0.0 {
        return first_largest(&scratch.scores[..vocab]);
    }
    if sampling.top_k > 0 && sampling.top_k < vocab {
        keep_top_k(&mut scratch.scores[..vocab], sampling.top_k, &mut scratch.order);
    }
    let total = exponentials(&mut scratch.scores, sampling.temperature.recip(), &mut scratch.sums);
    let filtered = sampling.top_p < 1.0 || sampling.min_p > 0.0;
    if sampling.top_p < 1.0 {
        keep_top_p(&mut scratch.scores, sampling.top_p * total, &mut scratch.order);
    }
    if sampling.min_p > 0.0 {
        // The most likely token has e^0 = 1 here, so its share of it is the number itself.
        scratch.scores.iter_mut().filter(|p| **p < sampling.min_p).for_each(|p| *p = 0.0);
    }
    let total = if filtered { block_sums(&scratch.scores, &mut scratch.sums) } else { total };
    search(&scratch.scores[..vocab], &scratch.sums, unit * total)
}

/// ln of the probability of `token` under the logits as they are.
pub(super) fn log_probability(logits: &[f32], token: u32, scratch: &mut Scratch) -> f32 {
    scratch.scores.clear();
    scratch.scores.extend_from_slice(logits);
    scratch.scores.resize(logits.len().next_multiple_of(BLOCK), f32::NEG_INFINITY);
    let total = exponentials(&mut scratch.scores, 1.0, &mut scratch.sums);
    logits[token as usize] - largest(logits) - total.ln()
}

fn penalise(scores: &mut [f32], penalty: f32, history: &[u32], seen: &mut Vec<bool>) {
    seen.clear();
    seen.resize(scores.len(), false);
    for id in history {
        let id = *id as usize;
        if id < scores.len() && !std::mem::replace(&mut seen[id], true) {
            scores[id] = if scores[id] < 0.0 { scores[id] * penalty } else { scores[id] / penalty };
        }
    }
}

/// Drops what is less than the k-th largest score; equals stay, as in `transformers`.
fn keep_top_k(scores: &mut [f32], k: usize, order: &mut Vec<u32>) {
    order.clear();
    order.extend(0..scores.len() as u32);
    let by_score = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]);
    let (_, kth, _) = order.select_nth_unstable_by(k - 1, by_score);
    let limit = scores[*kth as usize];
    scores.iter_mut().filter(|score| **score < limit).for_each(|score| *score = f32::NEG_INFINITY);
}

/// Keeps the smallest set of most likely tokens whose sum reaches `enough`; of equals the lower ids.
fn keep_top_p(probabilities: &mut [f32], enough: f32, order: &mut Vec<u32>) {
    order.clear();
    order.extend((0..probabilities.len() as u32).filter(|id| probabilities[*id as usize] > 0.0));
    let by_probability =
        |a: &u32, b: &u32| probabilities[*b as usize].total_cmp(&probabilities[*a as usize]).then(a.cmp(b));
    // Sorting the head is enough nearly always: take as many again until they reach it.
    let mut sorted = 0;
    let mut sum = 0.0f32;
    let mut keep = 0;
    while keep == sorted && sorted < order.len() {
        let rest = &mut order[sorted..];
        let many = (sorted * 3 + 64).min(rest.len());
        if many < rest.len() {
            rest.select_nth_unstable_by(many, by_probability);
        }
        rest[..many].sort_unstable_by(by_probability);
        sorted += many;
        while keep < sorted && (sum < enough || keep == 0) {
            sum += probabilities[order[keep] as usize];
            keep += 1;
        }
    }
    for id in &order[keep..] {
        probabilities[*id as usize] = 0.0;
    }
}

fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; WIDTH];
    let chunks = values.chunks_exact(WIDTH);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a })
}

fn first_largest(values: &[f32]) -> u32 {
    let top = largest(values);
    values.iter().position(|value| *value == top).unwrap_or(0) as u32
}

/// Turns scores into e^((score - largest) * scale) and fills `sums` with the sums of blocks; returns the whole sum.
fn exponentials(scores: &mut [f32], scale: f32, sums: &mut Vec<f32>) -> f32 {
    let top = largest(scores);
    exponentials_of(scores, top, scale);
    block_sums(scores, sums)
}

widest! { fn exponentials_of(scores: &mut [f32], top: f32, scale: f32) = exponentials_body }

/// # Safety
/// The instruction set of `L` is there.
#[inline(always)]
unsafe fn exponentials_body<L: Lanes>(scores: &mut [f32], top: f32, scale: f32) {
    for chunk in scores.chunks_exact_mut(WIDTH) {
        // SAFETY: a chunk is WIDTH numbers.
        unsafe {
            let x = L::load(chunk.as_ptr()).add(L::splat(-top)).mul(L::splat(scale));
            x.exp().store(chunk.as_mut_ptr());
        }
    }
}

fn block_sums(values: &[f32], sums: &mut Vec<f32>) -> f32 {
    sums.clear();
    for block in values.chunks_exact(BLOCK) {
        let mut lanes = [0.0f32; WIDTH];
        for chunk in block.chunks_exact(WIDTH) {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += value;
            }
        }
        sums.push(tree_sum(&lanes));
    }
    sums.iter().sum()
}

/// The first id whose running sum passes `target`; where rounding leaves it short, the last id with any weight.
fn search(weights: &[f32], sums: &[f32], target: f32) -> u32 {
    let mut before = 0.0f32;
    let mut last = 0;
    for (block, sum) in sums.iter().enumerate() {
        let within = before + sum > target;
        if within {
            let start = block * BLOCK;
            let end = (start + BLOCK).min(weights.len());
            let mut running = before;
            for (id, weight) in (start..end).zip(&weights[start..end]) {
                running += weight;
                if *weight > 0.0 {
                    last = id;
                    if running > target {
                        return id as u32;
                    }
                }
            }
        } else if *sum > 0.0 {
            last = block * BLOCK;
        }
        before += sum;
    }
    if weights[last] > 0.0 {
        return last as u32;
    }
    weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use sipf_plugin::random::Stream;

    use super::*;

    fn sampling(temperature: f32) -> Sampling {
        Sampling { temperature, ..Sampling::default() }
    }

    fn frequencies(logits: &[f32], sampling: &Sampling, draws: u64) -> Vec<f64> {
        let mut scratch = Scratch::default();
        let mut counts = vec![0.0; logits.len()];
        for n in 0..draws {
            counts[draw(logits, sampling, &[], Stream::at(11, n), &mut scratch) as usize] += 1.0;
        }
        counts.iter().map(|count| count / draws as f64).collect()
    }

    #[test]
    fn draws_follow_the_softmax() {
        let logits: Vec<f32> = (0..600).map(|i| ((i * 37 % 101) as f32) / 20.0).collect();
        for temperature in [0.5f32, 1.0, 2.0] {
            let got = frequencies(&logits, &sampling(temperature), 60_000);
            let weights: Vec<f64> = logits.iter().map(|x| f64::from(x / temperature).exp()).collect();
            let total: f64 = weights.iter().sum();
            let squares: f64 = got
                .iter()
                .zip(&weights)
                .map(|(got, weight)| (got - weight / total).powi(2) / (weight / total))
                .sum();
            let chi = squares * 60_000.0;
            assert!(
                chi < 599.0 + 5.0 * (2.0f64 * 599.0).sqrt(),
                "temperature {temperature}: chi square {chi}"
            );
        }
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        let mut scratch = Scratch::default();
        assert_eq!(draw(&[1.0, 3.0, 3.0, 0.0], &sampling(0.0), &[], 0.9, &mut scratch), 1);
    }

    #[test]
    fn filters_keep_what_transformers_keeps() {
        let logits = [2.0f32, 1.0, 0.0, -1.0, -2.0]; // softmax .6364 .2341 .0861 .0317 .0117
        let kept = |sampling: &Sampling| -> Vec<usize> {
            frequencies(&logits, sampling, 20_000)
                .iter()
                .enumerate()
                .filter(|(_, share)| **share > 0.0)
                .map(|(id, _)| id)
                .collect()
        };
        assert_eq!(kept(&Sampling { top_k: 2, ..sampling(1.0) }), [0, 1]);
        assert_eq!(kept(&Sampling { top_p: 0.6, ..sampling(1.0) }), [0]);
        assert_eq!(kept(&Sampling { top_p: 0.7, ..sampling(1.0) }), [0, 1]);
        assert_eq!(kept(&Sampling { top_p: 0.9, ..sampling(1.0) }), [0, 1, 2]);
        assert_eq!(kept(&Sampling { min_p: 0.1, ..sampling(1.0) }), [0, 1, 2]);
        assert_eq!(kept(&Sampling { top_k: 3, top_p: 0.9, ..sampling(1.0) }), [0, 1]);
        assert_eq!(kept(&sampling(1.0)).len(), 5);
    }

    #[test]
    fn the_penalty_counts_the_prompt_and_each_token_once() {
        let mut scratch = Scratch::default();
        let greedy = Sampling { repetition_penalty: 2.0, ..sampling(0.0) };
        assert_eq!(draw(&[4.0, 3.0, -1.0], &greedy, &[0, 0, 0], 0.0, &mut scratch), 1);
        assert_eq!(draw(&[4.0, 1.5, -1.0], &greedy, &[0, 0, 0], 0.0, &mut scratch), 0);
        assert_eq!(draw(&[-0.6, -1.0], &greedy, &[0], 0.0, &mut scratch), 1);
    }

    #[test]
    fn the_end_of_the_unit_interval_gives_a_possible_token() {
        let mut scratch = Scratch::default();
        let mut logits = vec![0.0f32; 1000];
        logits[900..].fill(f32::NEG_INFINITY);
        let last = draw(&logits, &sampling(1.0), &[], 0.999_999_94, &mut scratch);
        assert_eq!(last, 899);
        assert_eq!(draw(&logits, &sampling(1.0), &[], 0.0, &mut scratch), 0);
    }

    #[test]
    fn log_probabilities_sum_to_one() {
        let mut scratch = Scratch::default();
        let logits = [2.0f32, 1.0, 0.0, -1.0, -2.0];
        let sum: f32 = (0..5).map(|id| log_probability(&logits, id, &mut scratch).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        assert!((log_probability(&logits, 0, &mut scratch) + 0.451_914).abs() < 1e-5);
    }
}
