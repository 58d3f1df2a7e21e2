//! `sipf align --loss orpo|dpo|rpo|sft`: rows, reference, objective.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};
use sipf_core::align::{
    BadRows, Dpo, NllScope, Orpo, PairLoss, PairObjective, PreferenceRow, Reference, Rpo, tokens,
};
use sipf_core::model::{Decoder, LoadOptions, ModelFolder, Tokenizer};
use sipf_core::progress::Progress;
use sipf_core::train::{Objective, TrainSettings};

use crate::command::sft;
use crate::given::Given;
use crate::source;
use crate::training::{Job, Resolved, TrainingFlags, conduct, read_rows};
use crate::writable;

/// TRL's weight of the odds ratio, and its pull towards the reference.
const BETA: f64 = 0.1;

/// TRL's learning rate for preference losses.
const LEARNING_RATE: f64 = 1e-6;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Loss {
    /// Odds-ratio preference optimisation
    Orpo,
    /// Direct preference optimisation
    Dpo,
    /// DPO and the likelihood of chosen completions
    Rpo,
    /// The likelihood of chosen completions alone
    Sft,
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What is minimised [default: orpo]
    #[arg(long, value_enum)]
    loss: Option<Loss>,
    /// Weight of the odds ratio (ORPO), pull towards the reference (DPO, RPO) [default: 0.1]
    #[arg(long, value_name = "F")]
    beta: Option<f64>,
    /// ORPO's likelihood: sequence (TRL), completion, sequence-mean or completion-mean (LLaMA-Factory) [default: sequence]
    #[arg(long, value_name = "SCOPE")]
    nll_scope: Option<String>,
    /// Reference of DPO and RPO: a folder, Hub id or bundled name [default: the model as it starts]
    #[arg(long, value_name = "M")]
    ref_model: Option<String>,
    #[command(flatten)]
    training: TrainingFlags,
}

/// What all losses over pairs share.
struct Pairs<'a> {
    given: &'a Given,
    flags: &'a TrainingFlags,
    resolved: &'a Resolved,
    folder: &'a ModelFolder,
    decoder: Decoder,
    tokenizer: &'a Tokenizer,
    rows: &'a [PreferenceRow],
    eval: Option<&'a [PreferenceRow]>,
}

pub(super) fn run(args: &Args, given: &Given) -> anyhow::Result<ExitCode> {
    let flags = &args.training;
    let defaults = TrainSettings { learning_rate: LEARNING_RATE, ..TrainSettings::default() };
    let own = [
        ("loss", json!("orpo"), args.loss.map(|loss| json!(loss))),
        ("beta", json!(BETA), args.beta.map(|beta| json!(beta))),
        ("nll-scope", json!("sequence"), args.nll_scope.as_ref().map(|scope| json!(scope))),
        ("ref-model", Value::Null, args.ref_model.as_ref().map(|model| json!(model))),
    ];
    let resolved = flags.resolve(given, &defaults, None, sft::MAX_LENGTH, &own)?;
    let loss: Loss = resolved.own("loss")?;
    if loss == Loss::Sft {
        anyhow::ensure!(
            args.beta.is_none() && args.nll_scope.is_none() && args.ref_model.is_none(),
            "--loss sft has neither --beta nor --nll-scope nor --ref-model"
        );
        return sft::train(given, flags, &resolved);
    }
    let beta: f64 = resolved.own("beta")?;
    sipf_core::Error::unless(beta >= 0.0 && beta.is_finite(), "beta", beta, "0 or more")?;
    let folder = ModelFolder::open(&resolved.model, resolved.settings.seed)?;
    let tokenizer = Tokenizer::load(folder.path())?;
    let mut bad = resolved.bad_rows();
    let shape = "{\"prompt\", \"chosen\", \"rejected\"}";
    let mut read = |file: &Path| PreferenceRow::read(file, &tokenizer, &mut bad);
    let rows = read_rows(&resolved.data, resolved.limit, shape, &mut read)?;
    let eval = resolved.eval_data.as_deref().map(read).transpose()?;
    let pairs = Pairs {
        given,
        flags,
        resolved: &resolved,
        folder: &folder,
        decoder: source::load(folder.path(), &resolved.load_options(flags.eval_only))?,
        tokenizer: &tokenizer,
        rows: &rows,
        eval: eval.as_deref(),
    };
    let reference: Option<String> = resolved.own("ref-model")?;
    match loss {
        Loss::Dpo => pairs.against(reference.as_deref(), &mut bad, |reference| Dpo { beta, reference }),
        Loss::Rpo => {
            let rpo = |reference| Rpo::new(Dpo { beta, reference });
            pairs.against(reference.as_deref(), &mut bad, rpo)
        }
        Loss::Orpo | Loss::Sft => {
            anyhow::ensure!(reference.is_none(), "ORPO has no reference model: leave --ref-model out");
            let nll_scope: NllScope = resolved.own::<String>("nll-scope")?.parse()?;
            let orpo = Orpo { beta, nll_scope };
            pairs.conduct(
                |_, decoder, pairs| Ok(PairObjective::of_tokens(decoder, pairs, orpo)),
                &mut bad,
                &orpo,
            )
        }
    }
}

impl Pairs<'_> {
    /// Trains a loss that `make` builds from a reference's log-probabilities.
    fn against<L: PairLoss>(
        &self,
        model: Option<&str>,
        bad: &mut BadRows,
        make: impl Fn(Reference) -> L,
    ) -> anyhow::Result<ExitCode> {
        let reference = match model {
            Some(name) => {
                let folder = ModelFolder::open(name, self.resolved.settings.seed)?;
                let options = LoadOptions { trainable: Default::default(), ..self.resolved.options.clone() };
                source::load(folder.path(), &options)?
            }
            None => self.decoder.clone(),
        };
        let build = |set: &str, decoder, pairs: Vec<tokens::PairTokens>| {
            let batch = self.resolved.settings.batch_size;
            let progress = Progress::new("reference", Some(pairs.len() as u64), "pairs");
            let file = self.flags.out.as_ref().map(|out| out.join(set).with_extension("safetensors"));
            let writes = !self.flags.eval_only && !self.flags.dry_run;
            let known = match file.filter(|_| writes) {
                Some(file) => cached(&file, &reference, &pairs, batch, &progress)?,
                None if self.flags.dry_run => Reference::default(),
                None => Reference::compute(&reference, &pairs, batch, &progress)?,
            };
            Ok(PairObjective::of_tokens(decoder, pairs, make(known)))
        };
        self.conduct(build, bad, &make(Reference::default()))
    }

    /// Tokenises both sets as `loss` wants them, builds their objectives and trains.
    fn conduct<L: PairLoss>(
        &self,
        build: impl Fn(&str, Decoder, Vec<tokens::PairTokens>) -> anyhow::Result<PairObjective<L>>,
        bad: &mut BadRows,
        loss: &L,
    ) -> anyhow::Result<ExitCode> {
        let length = self.resolved.max_length;
        let mut objective = |set: &str, rows: &[PreferenceRow]| {
            let pairs = tokens::pairs(loss, self.tokenizer, rows, length, bad)?;
            anyhow::Ok(build(set, self.decoder.clone(), pairs)?.over(&self.resolved.model))
        };
        let train = objective("reference", self.rows)?;
        let eval = self.eval.map(|rows| objective("eval-reference", rows)).transpose()?;
        conduct(&Job {
            given: self.given,
            flags: self.flags,
            resolved: self.resolved,
            objective: &train,
            eval: eval.as_ref().map(|eval| eval as &dyn Objective),
            base: Some(self.folder.path()),
            bad,
        })
    }
}

fn cached(
    file: &Path,
    reference: &Decoder,
    pairs: &[tokens::PairTokens],
    batch: usize,
    progress: &Progress,
) -> anyhow::Result<Reference> {
    let folder = file.parent().context("--out names a folder")?;
    writable::folder("--out", folder)?;
    std::fs::create_dir_all(folder).with_context(|| format!("--out {}", folder.display()))?;
    Ok(Reference::cached(file, reference, pairs, batch, progress)?)
}
