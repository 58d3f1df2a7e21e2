//! What turns a hidden state into the log-odds of "right": a classifier, a two-layer one, or a pair of tokens.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use sipf_plugin::Readout;
use sipf_plugin::random::Stream;

use super::features;
use crate::model::{Decoder, Tokenizer};
use crate::stream::StreamName;
use crate::{Error, Result};

/// Standard deviation of fresh head weights (transformers' `initializer_range`).
const DEVIATION: f32 = 0.02;
/// Weight of each log-probability feature at the start: together with the other label's the log-odds move by .1.
const FEATURE_START: f32 = 0.05;

/// A head and its weights, under the names of transformers' token classifiers (`score.*`).
#[derive(Debug, Clone)]
pub(super) struct Head {
    kind: Kind,
    weights: BTreeMap<String, Tensor>,
    variables: Vec<(String, Var)>,
}

#[derive(Debug, Clone)]
enum Kind {
    Classifier { positive: usize, squash: bool, features: bool },
    Mlp { positive: usize },
    TokenPair { good: u32, bad: u32 },
}

/// Whether a read-out is supported and its tokens are in the vocabulary.
pub(super) fn check(readout: &Readout, tokenizer: &Tokenizer) -> Result<()> {
    kind_of(readout, tokenizer).map(drop)
}

fn kind_of(readout: &Readout, tokenizer: &Tokenizer) -> Result<Kind> {
    let two = |labels: u8, positive: u8| match (labels, positive) {
        (2, 0 | 1) => Ok(usize::from(positive)),
        _ => Err(Error::unusable(format!(
            "a head of {labels} labels, {positive} of them right: only two are supported"
        ))),
    };
    let token = |text: &str| {
        tokenizer
            .id(text)
            .ok_or_else(|| Error::unusable(format!("the tokenizer has no token {text:?} to read")))
    };
    Ok(match readout {
        Readout::Classifier { labels, positive, squash_hidden, with_logprobs } => Kind::Classifier {
            positive: two(*labels, *positive)?,
            squash: *squash_hidden,
            features: *with_logprobs,
        },
        Readout::Mlp { labels, positive } => Kind::Mlp { positive: two(*labels, *positive)? },
        Readout::TokenPair { good, bad } => Kind::TokenPair { good: token(good)?, bad: token(bad)? },
        other => return Err(Error::unusable(format!("read-out {other:?} is not supported"))),
    })
}

impl Kind {
    /// Names and shapes of the weights.
    fn shapes(&self, hidden: usize) -> Vec<(&'static str, Vec<usize>)> {
        match self {
            Self::Classifier { features, .. } => {
                let mut shapes = vec![("score.weight", vec![2, hidden]), ("score.bias", vec![2])];
                if *features {
                    shapes.push(("score_logprob.weight", vec![2, features::COUNT]));
                }
                shapes
            }
            Self::Mlp { .. } => vec![
                ("score.0.weight", vec![hidden, hidden]),
                ("score.0.bias", vec![hidden]),
                ("score.2.weight", vec![2, hidden]),
                ("score.2.bias", vec![2]),
            ],
            Self::TokenPair { .. } => Vec::new(),
        }
    }

    fn fresh(&self, name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
        let count: usize = shape.iter().product();
        if name.ends_with("bias") {
            return vec![0.0; count];
        }
        if let Self::Classifier { features: true, positive, .. } = self {
            // Nothing but the log-probabilities speaks at first.
            if name == "score.weight" {
                return vec![0.0; count];
            }
            let sign = |label: usize| if label == *positive { FEATURE_START } else { -FEATURE_START };
            return (0..count).map(|place| sign(place / features::COUNT)).collect();
        }
        let name = StreamName { seed, stage: "init", problem: name, ..StreamName::default() };
        let mut stream = Stream::new(name.key());
        (0..count).map(|_| stream.normal() * DEVIATION).collect()
    }
}

impl Head {
    /// A head for this read-out; `kept` gives the weights of a trained one, otherwise they are drawn from `seed`.
    ///
    /// # Errors
    /// When the read-out is not supported, or a kept weight is missing or has another shape.
    pub(super) fn new(
        readout: &Readout,
        decoder: &Decoder,
        tokenizer: &Tokenizer,
        kept: Option<&BTreeMap<String, Tensor>>,
        trainable: bool,
        seed: u64,
    ) -> Result<Self> {
        let kind = kind_of(readout, tokenizer)?;
        let (mut weights, mut variables) = (BTreeMap::new(), Vec::new());
        for (name, shape) in kind.shapes(decoder.config().hidden) {
            let tensor = match kept {
                Some(kept) => kept
                    .get(name)
                    .filter(|tensor| tensor.dims() == shape)
                    .ok_or_else(|| {
                        Error::unusable(format!("the reward model has no {name} of shape {shape:?}"))
                    })?
                    .to_dtype(DType::F32)?,
                None => Tensor::from_vec(kind.fresh(name, &shape, seed), shape, &Device::Cpu)?,
            };
            let tensor = tensor.to_device(decoder.device())?;
            if trainable {
                let variable = Var::from_tensor(&tensor)?;
                weights.insert(name.to_owned(), variable.as_tensor().clone());
                variables.push((name.to_owned(), variable));
            } else {
                weights.insert(name.to_owned(), tensor.detach());
            }
        }
        Ok(Self { kind, weights, variables })
    }

    /// Whether it reads the base's log-probabilities.
    pub(super) fn wants_features(&self) -> bool {
        matches!(self.kind, Kind::Classifier { features: true, .. })
    }

    /// Whether it reads through the base's own output layer.
    pub(super) fn uses_vocabulary(&self) -> bool {
        self.wants_features() || matches!(self.kind, Kind::TokenPair { .. })
    }

    pub(super) fn weights(&self) -> &BTreeMap<String, Tensor> {
        &self.weights
    }

    pub(super) fn variables(&self) -> &[(String, Var)] {
        &self.variables
    }

    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let part = |suffix: &str| {
            let name = format!("{name}.{suffix}");
            self.weights.get(&name).ok_or_else(|| Error::unusable(format!("the head has no {name}")))
        };
        Ok(x.matmul(&part("weight")?.t()?)?.broadcast_add(part("bias")?)?)
    }

    /// `[n, H]` hidden states at the read positions (and `[n, 6]` features) to `[n]` log-odds of "right".
    pub(super) fn log_odds(
        &self,
        decoder: &Decoder,
        hidden: &Tensor,
        features: Option<&Tensor>,
    ) -> Result<Tensor> {
        let difference = |logits: &Tensor, good: usize, bad: usize| -> Result<Tensor> {
            Ok((logits.narrow(1, good, 1)? - logits.narrow(1, bad, 1)?)?.squeeze(1)?)
        };
        match &self.kind {
            Kind::TokenPair { good, bad } => {
                difference(&decoder.logits(hidden)?, *good as usize, *bad as usize)
            }
            Kind::Mlp { positive } => {
                let inner = self.linear(&hidden.to_dtype(DType::F32)?, "score.0")?.relu()?;
                difference(&self.linear(&inner, "score.2")?, *positive, 1 - positive)
            }
            Kind::Classifier { positive, squash, .. } => {
                let mut hidden = hidden.to_dtype(DType::F32)?;
                if *squash {
                    hidden = candle_nn::ops::sigmoid(&hidden)?;
                }
                let mut logits = self.linear(&hidden, "score")?;
                if let (Some(features), Some(weight)) = (features, self.weights.get("score_logprob.weight")) {
                    logits = (logits + features.matmul(&weight.t()?)?)?;
                }
                difference(&logits, *positive, 1 - positive)
            }
        }
    }
}
