//! Alignment losses on a small model: what holds of every loss. Numbers of the reference implementations are in
//! `golden`.

use super::*;
use crate::model::tiny::{self, Tiny};
use crate::model::{Decoder, LoadOptions, Pass, Tokenizer, Trainable};
use crate::progress::Progress;
use crate::train::Objective;

fn decoder(trainable: Trainable) -> Decoder {
    let options = LoadOptions { trainable, ..LoadOptions::default() };
    Decoder::init(Tiny::Policy.config().expect("bundled"), &options, 3).expect("a model")
}

fn tokenizer() -> Tokenizer {
    tiny::tokenizer().expect("bundled")
}

fn rows() -> Vec<PreferenceRow> {
    let row = |prompt: &str, chosen: &str, rejected: &str| PreferenceRow {
        prompt: prompt.into(),
        chosen: chosen.into(),
        rejected: rejected.into(),
        place: format!("row {prompt}"),
        ..PreferenceRow::default()
    };
    vec![
        row("Q: 1+2?\nA:\n", "<<1+2=3>>3 apples.", "<<1+2=4>>4."),
        row("Q: Tom has 3 coins.\nA:\n", "3 coins.", "He has <<3*2=6>>6 coins in all."),
    ]
}

#[test]
fn a_pair_alone_and_beside_others_has_the_same_log_probabilities() {
    let decoder = decoder(Trainable::Frozen);
    let pairs: Vec<tokens::PairTokens> =
        rows().iter().map(|row| tokens::dpo(&tokenizer(), row, 512).expect("tokens")).collect();
    let together = Reference::compute(&decoder, &pairs, 2, &Progress::quiet()).expect("scores");
    let apart = Reference::compute(&decoder, &pairs, 1, &Progress::quiet()).expect("scores");
    assert_eq!(together, apart);
}

#[test]
fn what_a_pair_shares_is_computed_once_and_gives_the_same_bits() {
    use super::scored::{Item, pair_tokens, score};
    let decoder = decoder(Trainable::Frozen);
    let pairs: Vec<tokens::PairTokens> =
        rows().iter().map(|row| tokens::orpo(&tokenizer(), row, 512).expect("tokens")).collect();
    for pair in &pairs {
        assert!(pair_tokens(&pair.chosen, &pair.rejected) < pair.chosen.ids.len() + pair.rejected.ids.len());
    }
    let values = |items: &[Item<'_>]| -> Vec<Vec<f32>> {
        let scored = score(&decoder, items, &Pass::default()).expect("scores");
        let all = scored.tokens.logprobs.to_vec1::<f32>().expect("values");
        scored.parts.iter().map(|part| all[part.prompt.start..part.completion.end].to_vec()).collect()
    };
    let alone = |sequence, with_prompt| Item { first: sequence, with_prompt, second: None };
    let together: Vec<Item<'_>> = pairs
        .iter()
        .map(|pair| Item { first: &pair.chosen, with_prompt: true, second: Some(&pair.rejected) })
        .collect();
    let apart: Vec<Item<'_>> =
        pairs.iter().flat_map(|pair| [alone(&pair.chosen, true), alone(&pair.rejected, false)]).collect();
    assert_eq!(values(&together), values(&apart));
    // Nothing shared: two sequences.
    let odd = tokens::Sequence { ids: vec![9, 8, 7], completion: 1 };
    let pair = Item { first: &pairs[0].chosen, with_prompt: false, second: Some(&odd) };
    assert_eq!(values(&[pair]), values(&[alone(&pairs[0].chosen, false), alone(&odd, false)]));
}

#[test]
fn reference_log_probabilities_are_computed_once_and_anew_for_another_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("reference.safetensors");
    let model = decoder(Trainable::Frozen);
    let pairs: Vec<tokens::PairTokens> =
        rows().iter().map(|row| tokens::dpo(&tokenizer(), row, 512).expect("tokens")).collect();
    let fresh = Reference::cached(&file, &model, &pairs, 2, &Progress::quiet()).expect("computed");
    let before = std::fs::metadata(&file).and_then(|file| file.modified()).expect("written");
    let kept = Reference::cached(&file, &model, &pairs, 2, &Progress::quiet()).expect("read");
    assert_eq!(fresh, kept);
    assert_eq!(std::fs::metadata(&file).and_then(|file| file.modified()).expect("there"), before);
    let options = LoadOptions::default();
    let other = Decoder::init(Tiny::Policy.config().expect("bundled"), &options, 4).expect("a model");
    let other = Reference::cached(&file, &other, &pairs, 2, &Progress::quiet()).expect("computed");
    assert_ne!(fresh, other);
}

#[test]
fn dpo_starts_at_ln_2_and_rpo_adds_imitation() {
    let model = decoder(Trainable::Full);
    let pairs: Vec<tokens::PairTokens> =
        rows().iter().map(|row| tokens::dpo(&tokenizer(), row, 512).expect("tokens")).collect();
    let reference = Reference::compute(&model, &pairs, 2, &Progress::quiet()).expect("scores");
    let dpo = Dpo { beta: 0.1, reference };
    let loss = |objective: &dyn Objective| {
        let partial = objective.loss(&[0, 1], &Pass::default()).expect("a loss");
        let loss = f64::from(partial.sum.to_scalar::<f32>().expect("a number")) / 2.0;
        (loss, partial.metrics)
    };
    let (value, metrics) = loss(&DpoObjective::of_tokens(model.clone(), pairs.clone(), dpo.clone()));
    assert!((value - std::f64::consts::LN_2).abs() < 1e-6, "{value}");
    assert_eq!(metrics.mean("rewards/accuracies"), Some(0.0));
    let (value, metrics) = loss(&RpoObjective::of_tokens(model, pairs, Rpo::new(dpo)));
    let nll = metrics.mean("nll_loss").expect("logged");
    assert!((value - std::f64::consts::LN_2 - nll).abs() < 1e-5, "{value} {nll}");
}

#[test]
fn every_trained_weight_is_reached_by_every_loss() {
    let model = decoder(Trainable::Full);
    let tokenizer = tokenizer();
    let pairs: Vec<tokens::PairTokens> =
        rows().iter().map(|row| tokens::dpo(&tokenizer, row, 512).expect("tokens")).collect();
    let reference = Reference::of_values(vec![(-1.0, -2.0); 2]);
    let dpo = Dpo { beta: 0.1, reference };
    let orpo = OrpoObjective::new(model.clone(), &tokenizer, &rows(), Orpo::default(), 512);
    let sft: Vec<SftRow> = rows().into_iter().map(PreferenceRow::into_chosen).collect();
    let objectives: Vec<Box<dyn Objective>> = vec![
        Box::new(orpo.expect("an objective")),
        Box::new(DpoObjective::of_tokens(model.clone(), pairs.clone(), dpo.clone())),
        Box::new(RpoObjective::of_tokens(model.clone(), pairs, Rpo::new(dpo))),
        Box::new(SftObjective::new(model, &tokenizer, &sft, 512).expect("an objective")),
    ];
    for objective in objectives {
        let partial = objective.loss(&[0, 1], &Pass::default()).expect("a loss");
        let grads = partial.sum.backward().expect("gradients");
        for (name, var) in objective.trainable() {
            let grad = grads.get(&var).unwrap_or_else(|| panic!("no gradient of {name}"));
            let size = grad.abs().and_then(|x| x.max_all()?.to_scalar::<f32>()).expect("a number");
            assert!(size > 0.0 && size.is_finite(), "{name}: {size}");
        }
    }
}

#[test]
fn what_cannot_be_learned_from_names_its_row() {
    let mut bad = rows();
    bad[1].rejected.clear();
    let error = OrpoObjective::new(decoder(Trainable::Full), &tokenizer(), &bad, Orpo::default(), 512);
    let error = error.err().expect("an empty half").to_string();
    assert!(error.contains("row Q: Tom") && error.contains("rejected is empty"), "{error}");
    let mut sift = BadRows::skip();
    let kept =
        OrpoObjective::sifted(decoder(Trainable::Full), &tokenizer(), &bad, Orpo::default(), 512, &mut sift)
            .expect("an objective");
    assert_eq!((kept.rows(), sift.found().len()), (1, 1));
    let error = OrpoObjective::new(decoder(Trainable::Full), &tokenizer(), &rows(), Orpo::default(), 5);
    assert!(error.is_err_and(|error| error.to_string().contains("within 5 tokens")));
}
