//! A reward model with its weights: a decoder, a head, and how both are read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sipf_plugin::{Problem, Readout, RewardCard, RewardModel, Step};

use super::features::{self, Annotations, StepTokens};
use super::head::Head;
use super::layout::{self, Layout};
use super::loss::sigmoid;
use crate::model::{Attention, Checkpoint, Decoder, LoadOptions, Packed, Pass, Tokenizer, Trainable, save};
use crate::train::token_logprobs;
use crate::{AtPath, Error, Result};

/// What is kept beside the weights: how the model is read.
const FILE: &str = "reward.json";
/// Files that make the tokenizer.
const TOKENIZER_FILES: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];
/// Tokens scored in one pass.
const SCORE_TOKENS: usize = 4096;

/// How a saved reward model is read; `reward.json`. A folder without it is a plain token classifier as TRL writes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    card: RewardCard,
    trained_length: usize,
}

/// A reward model with its weights. Cheap to clone; clones train the same weights.
#[derive(Clone)]
pub struct RewardNet {
    decoder: Decoder,
    head: Head,
    tokenizer: Tokenizer,
    annotations: Annotations,
    card: RewardCard,
    max_length: usize,
    /// The tokenizer's files as they are: the base's folder may be gone when the model is saved.
    files: Arc<Vec<(&'static str, Vec<u8>)>>,
}

impl RewardNet {
    /// A fresh head on a base model.
    ///
    /// # Errors
    /// When the base cannot be loaded or the card's read-out does not fit it.
    pub fn init(base: &Path, card: &RewardCard, options: &LoadOptions) -> Result<Self> {
        Self::open(base, card.clone(), options, !has_head(base))
    }

    /// A trained reward model's folder: one written here, or a token classifier of transformers or TRL, which is read
    /// as `card` says where it has no `reward.json`.
    ///
    /// # Errors
    /// Names the file or tensor at fault.
    pub fn load(folder: &Path, card: &RewardCard, options: &LoadOptions) -> Result<Self> {
        let path = folder.join(FILE);
        let card = match path.is_file() {
            true => {
                let text = std::fs::read_to_string(&path).at(&path)?;
                let kept: Kept =
                    serde_json::from_str(&text).map_err(|error| Error::file(&path, error.to_string()))?;
                kept.card
            }
            false => card.clone(),
        };
        Self::open(folder, card, options, false)
    }

    fn open(folder: &Path, card: RewardCard, options: &LoadOptions, fresh: bool) -> Result<Self> {
        let tokenizer = Tokenizer::load(folder)?;
        let checkpoint = Checkpoint::open_headless(folder)?;
        let decoder = Decoder::of_checkpoint(&checkpoint, options)?;
        let trainable = options.trainable != Trainable::Frozen;
        let kept = match fresh || matches!(card.readout, Readout::TokenPair { .. }) {
            true => None,
            false => Some(head_tensors(&checkpoint)?),
        };
        let head = Head::new(&card.readout, &decoder, &tokenizer, kept.as_ref(), trainable, options.seed)?;
        if head.uses_vocabulary() && !checkpoint.has_output_layer() {
            return Err(Error::file(folder, format!("has no output layer, which {} reads", card.name)));
        }
        let annotations = Annotations::of(&tokenizer);
        let max_length = card.training.max_length.max(1);
        let mut files = Vec::new();
        for name in TOKENIZER_FILES {
            let path = folder.join(name);
            if path.is_file() {
                files.push((name, std::fs::read(&path).at(&path)?));
            }
        }
        let files = Arc::new(files);
        Ok(Self { decoder, head, tokenizer, annotations, card, max_length, files })
    }

    /// The name of the reward model that a folder was trained as, where it says.
    ///
    /// # Errors
    /// When its `reward.json` cannot be read.
    pub fn kept_name(folder: &Path) -> Result<Option<String>> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).at(&path)?;
        let kept: Kept =
            serde_json::from_str(&text).map_err(|error| Error::file(&path, error.to_string()))?;
        Ok(Some(kept.card.name))
    }

    /// Most tokens the model can read.
    pub fn context(&self) -> usize {
        self.decoder.config().context
    }

    /// Its decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// How it is read.
    pub fn card(&self) -> &RewardCard {
        &self.card
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Longest sequence, in tokens.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Number of the base's weights.
    pub fn parameters(&self) -> usize {
        self.decoder.config().parameters()
    }

    /// Sets the longest sequence.
    pub fn set_max_length(&mut self, tokens: usize) {
        self.max_length = tokens;
    }

    pub(super) fn trainable(&self) -> Vec<(String, Var)> {
        // Without features and token pairs nothing reads the output layer: it would get no gradient.
        let reads_output = self.head.uses_vocabulary() || self.decoder.config().tied;
        let mut all: Vec<_> = self
            .decoder
            .trainable()
            .into_iter()
            .filter(|(name, _)| reads_output || !name.starts_with("lm_head"))
            .collect();
        all.extend(self.head.variables().iter().cloned());
        all
    }

    /// The layout of a path, as the reward model asks for it.
    ///
    /// # Errors
    /// When there is not one place to read for each step.
    pub fn layout(&self, reward: &dyn RewardModel, problem: &Problem, steps: &[&str]) -> Result<Layout> {
        let pieces = reward.layout(problem, steps)?;
        layout::of_pieces(&self.tokenizer, &self.card, &pieces, steps.len())
            .map_err(|error| Error::unusable(format!("{}: {error}", problem.id)))
    }

    /// `[steps]` log-odds of all steps of these paths, with their graph, on the CPU.
    pub(super) fn log_odds(&self, paths: &[&Layout], pass: &Pass) -> Result<Tensor> {
        let packed = Packed::of_lengths(paths.iter().map(|path| path.ids.len()));
        let ids: Vec<u32> = paths.iter().flat_map(|path| path.ids.iter().copied()).collect();
        let hidden = self.decoder.hidden(&ids, &packed.positions(), Attention::Packed(&packed), pass)?;
        let reads: Vec<u32> = paths
            .iter()
            .zip(&packed.starts)
            .flat_map(|(path, start)| path.reads.iter().map(move |read| (start + read) as u32))
            .collect();
        let features = match self.head.wants_features() {
            true => Some(self.features(paths, &packed, &hidden)?),
            false => None,
        };
        let reads = Tensor::from_vec(reads.clone(), reads.len(), hidden.device())?;
        let odds = self.head.log_odds(&self.decoder, &hidden.index_select(&reads, 0)?, features.as_ref())?;
        Ok(odds.to_device(&Device::Cpu)?)
    }

    fn features(&self, paths: &[&Layout], packed: &Packed, hidden: &Tensor) -> Result<Tensor> {
        let (mut places, mut targets, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        for (path, start) in paths.iter().zip(&packed.starts) {
            let decided = self.annotations.decided(&path.ids);
            for (number, span) in path.spans.iter().enumerate() {
                let first = places.len();
                // The first token of a text has no prediction.
                let tokens = span.start.max(1)..span.end;
                places.extend(tokens.clone().map(|at| (start + at - 1) as u32));
                targets.extend_from_slice(&path.ids[tokens.clone()]);
                steps.push(StepTokens {
                    all: first..places.len(),
                    decided: tokens
                        .enumerate()
                        .filter(|(_, at)| decided[*at])
                        .map(|(n, _)| first + n)
                        .collect(),
                    first: number == 0,
                });
            }
        }
        let count = places.len();
        let places = Tensor::from_vec(places, count, hidden.device())?;
        let logprobs = token_logprobs(&self.decoder, &hidden.index_select(&places, 0)?, &targets)?;
        Ok(features::features(&logprobs.to_device(&Device::Cpu)?, steps)?.to_device(hidden.device())?)
    }

    /// The probability of "right" of every step of every path. A path's scores do not depend on the other paths.
    ///
    /// # Errors
    /// When the device fails.
    pub fn score_layouts(&self, paths: &[Layout]) -> Result<Vec<Vec<f32>>> {
        let mut scores: Vec<Vec<f32>> = Vec::with_capacity(paths.len());
        let mut from = 0;
        while from < paths.len() {
            let (mut to, mut tokens) = (from, 0);
            while to < paths.len() && (to == from || tokens + paths[to].ids.len() <= SCORE_TOKENS) {
                tokens += paths[to].ids.len();
                to += 1;
            }
            let batch: Vec<&Layout> = paths[from..to].iter().collect();
            let steps: usize = batch.iter().map(|path| path.reads.len()).sum();
            let odds = match steps {
                0 => Vec::new(),
                _ => self.log_odds(&batch, &Pass::default())?.to_vec1::<f32>()?,
            };
            let mut odds = odds.into_iter().map(sigmoid);
            scores.extend(batch.iter().map(|path| odds.by_ref().take(path.reads.len()).collect::<Vec<_>>()));
            from = to;
        }
        Ok(scores)
    }

    /// Step scores of completions. Steps beyond the longest sequence score 0.
    ///
    /// # Errors
    /// When a layout does not fit the tokenizer, or the device fails.
    pub fn score(
        &self,
        reward: &dyn RewardModel,
        items: &[(&Problem, &str, &[Step])],
    ) -> Result<Vec<Vec<f32>>> {
        let mut layouts = Vec::with_capacity(items.len());
        for (problem, completion, steps) in items {
            let texts: Vec<&str> = steps.iter().map(|step| &completion[step.start..step.end]).collect();
            let mut layout = self.layout(reward, problem, &texts)?;
            layout.truncate(self.decoder.config().context);
            layouts.push(layout);
        }
        let mut scores = self.score_layouts(&layouts)?;
        for (scores, (_, _, steps)) in scores.iter_mut().zip(items) {
            scores.resize(steps.len(), 0.0);
        }
        Ok(scores)
    }

    /// A copy for scoring: adapter merged, weights packed.
    ///
    /// # Errors
    /// What the device says.
    pub fn frozen(&self) -> Result<Self> {
        Ok(Self {
            decoder: self.decoder.frozen_for_inference()?,
            head: self.head.clone(),
            tokenizer: self.tokenizer.clone(),
            annotations: self.annotations.clone(),
            card: self.card.clone(),
            max_length: self.max_length,
            files: self.files.clone(),
        })
    }

    /// Writes a model folder that transformers opens as a token classifier: `model.safetensors` with `score.*`,
    /// `config.json`, the tokenizer's files, and `reward.json`.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).at(folder)?;
        let mut tensors = self.decoder.merged()?;
        if !self.head.uses_vocabulary() {
            tensors.remove("lm_head.weight");
            tensors.remove("lm_head.bias");
        }
        for (name, tensor) in self.head.weights() {
            tensors.insert(name.clone(), tensor.to_dtype(self.decoder.dtype())?.detach());
        }
        save::write_checkpoint(folder, &tensors)?;
        let config = serde_json::to_string_pretty(&self.classifier_config())?;
        save::write_text(&folder.join("config.json"), &format!("{config}\n"))?;
        let kept = Kept { card: self.card.clone(), trained_length: self.max_length };
        save::write_text(&folder.join(FILE), &format!("{}\n", serde_json::to_string_pretty(&kept)?))?;
        for (name, bytes) in self.files.iter() {
            save::write_bytes(&folder.join(name), bytes)?;
        }
        Ok(())
    }

    fn classifier_config(&self) -> Value {
        let mut config = self.decoder.config().source.clone();
        if matches!(self.card.readout, Readout::Classifier { .. } | Readout::Mlp { .. }) {
            let family = config
                .get("architectures")
                .and_then(|names| names.get(0))
                .and_then(Value::as_str)
                .map(|name| name.replace("ForCausalLM", "ForTokenClassification"));
            if let Some(name) = family {
                config["architectures"] = json!([name]);
            }
            config["id2label"] = json!({ "0": "LABEL_0", "1": "LABEL_1" });
            config["label2id"] = json!({ "LABEL_0": 0, "LABEL_1": 1 });
        }
        config
    }
}

/// Whether a model folder holds a trained head.
fn has_head(folder: &Path) -> bool {
    let Ok(checkpoint) = Checkpoint::open_headless(folder) else { return false };
    checkpoint.has("score.weight") || checkpoint.has("score.0.weight")
}

fn head_tensors(checkpoint: &Checkpoint) -> Result<BTreeMap<String, Tensor>> {
    let names = [
        "score.weight",
        "score.bias",
        "score_logprob.weight",
        "score.0.weight",
        "score.0.bias",
        "score.2.weight",
        "score.2.bias",
    ];
    names
        .into_iter()
        .filter(|name| checkpoint.has(name))
        .map(|name| Ok((name.to_owned(), checkpoint.tensor(name, None, &Device::Cpu)?)))
        .collect()
}
