//! `sipf evaluate`: how right a model is on a task.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sipf_core::dataset::{self, DataOptions};
use sipf_core::evaluate::{self, EvaluateSettings, Evaluation, Journal, Subject, Summary, results};
use sipf_core::generate::{Engine, EngineOptions};
use sipf_core::progress::Progress;
use sipf_core::verify::Verifier;
use sipf_plugin::{Domain, Task};

use super::reward::open_trained;
use crate::given::{Given, Origin, at_least_one, of_setting};
use crate::open::Splits;
use crate::source::Source;
use crate::training::{print_settings, settings_object};
use crate::{exit, interrupt, open, stage, writable};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task: its name or a plugin file
    #[arg(long, value_name = "T")]
    task: String,
    #[command(flatten)]
    source: Source,
    /// test, train, validation or all
    #[arg(long, value_name = "S", default_value = "test")]
    split: Splits,
    /// A data folder or one file [default: the published files]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// The first so many problems
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    limit: Option<usize>,
    /// Samples of each problem beside the greedy answer, for pass@k and votes [default: 0]
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Temperature of the samples [default: the task's]
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Nucleus of the samples [default: 1]
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Most new tokens of an answer [default: the task's]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Text that ends an answer, in place of the task's (may stand several times)
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// The k of pass@k, separated by commas [default: 1, 2, 4, 5, 8, 10, ... as far as the samples go]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pass_at: Vec<usize>,
    /// Leave the greedy answers out
    #[arg(long)]
    no_greedy: bool,
    /// Put the task's worked examples before each question, for a model that was not trained on its prompt
    #[arg(long)]
    few_shot: bool,
    /// The answer rule that "right" means [default: the task's]
    #[arg(long, value_name = "R")]
    rule: Option<String>,
    /// Folder of a trained reward model, for best-of-n and votes weighted by reward
    #[arg(long, value_name = "M")]
    reward: Option<String>,
    /// Where results_TIME.json and samples_TASK_TIME.jsonl go; an interrupted evaluation goes on from there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The most sequences that run at once; changes the speed, not the answers
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one::<usize>())]
    batch_size: usize,
    /// Memory for keys and values, in MiB; changes the speed, not the answers
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = at_least_one::<usize>())]
    cache_mib: usize,
    /// Seed of the samples
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Print every setting and where it came from, and how much work it is, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    plugins: open::PluginFlags,
}

pub(crate) fn run(args: &Args, given: &Given) -> anyhow::Result<ExitCode> {
    args.out.as_deref().map(|out| writable::folder("--out", out)).transpose()?;
    let task = args.plugins.task(&args.task)?;
    let card = task.card();
    let settings = args.settings(&*task);
    settings.check()?;
    ensure!(
        args.reward.is_none() || settings.samples > 0,
        "--reward ranks samples, and there are none: say --samples N"
    );
    let verifier = Verifier::new(task.clone(), open::sandbox(args.source.threads()?), args.rule.as_deref())?;
    let options = DataOptions { data: args.data.clone(), limit: args.limit, ..DataOptions::default() };
    let loaded = dataset::load_all(&*task, &args.split.of(&*task), &options)?;
    if args.dry_run {
        args.print_plan(given, &settings, loaded.problems.len())?;
        return Ok(exit::DONE);
    }
    let reward =
        args.reward.as_deref().map(|m| open_trained(m, args.source.device(), &args.plugins)).transpose()?;
    let engine = args.engine()?;
    let subject = Subject {
        generator: &engine,
        verifier: &verifier,
        problems: &loaded.problems,
        reward: reward.as_ref().map(|(net, reward)| (net, &**reward)),
    };
    // Without --out the journal is as short-lived as the command.
    let scratch = tempfile::tempdir().context("a folder for the journal")?;
    let folder = args.out.as_deref().unwrap_or(scratch.path());
    std::fs::create_dir_all(folder).with_context(|| format!("--out {}", folder.display()))?;
    let key = args.key(&settings, &loaded.sha256)?;
    let file = results::samples_file(folder, &card.name);
    let lanes = if card.domain == Domain::Code { 2 } else { 1 };
    let journal = Journal { file: &file, key: &key, lanes };
    let progress = Progress::new("evaluate", Some(loaded.problems.len() as u64), "problems");
    let evaluation = evaluate::run(&subject, &settings, args.seed, &journal, interrupt::flag(), &progress);
    let evaluation = match &args.out {
        Some(out) => interrupt::kept(evaluation, out)?,
        None => evaluation?,
    };
    progress.finish();
    let summary = evaluation.summary();
    let written = args.out.as_deref().map(|out| args.write(out, &evaluation)).transpose()?;
    match args.json {
        true => {
            let mut object =
                json!({ "results": { summary.task.clone(): results::summary(&[evaluation], &[])? } });
            if let Some(files) = written {
                object["files"] = files;
            }
            exit::print_line(&object.to_string())?;
        }
        false => exit::print_line(&in_words(&summary))?,
    }
    Ok(exit::DONE)
}

impl Args {
    fn settings(&self, task: &dyn Task) -> EvaluateSettings {
        let card = task.card();
        let from_card = EvaluateSettings::of(&card);
        EvaluateSettings {
            greedy: !self.no_greedy,
            samples: self.samples.unwrap_or(0),
            temperature: self.temperature.unwrap_or(card.temperature),
            top_p: self.top_p.unwrap_or(1.0),
            max_tokens: self.max_tokens.unwrap_or(card.max_tokens),
            stop: if self.stop.is_empty() { card.stop } else { self.stop.clone() },
            ks: if self.pass_at.is_empty() { from_card.ks } else { self.pass_at.clone() },
            few_shot: self.few_shot,
        }
    }

    /// Prints every setting and where it came from, and how much there is to ask.
    fn print_plan(&self, given: &Given, settings: &EvaluateSettings, problems: usize) -> anyhow::Result<()> {
        let completions = problems * (usize::from(settings.greedy) + settings.samples);
        let mut plan = stage::object(&json!({
            "rows_in": problems, "completions": completions,
            "tokens_at_most": completions * settings.max_tokens,
        }))?;
        let settings = stage::object(settings)?;
        let known = settings.keys().map(|key| of_setting(key)).chain(["no-greedy"]).collect();
        let own = settings.iter().map(|(key, value)| {
            let flag = if key == "greedy" { "no-greedy" } else { of_setting(key) };
            let from = match (given.origin(flag), key.as_str()) {
                (Origin::Default, "temperature" | "max-tokens" | "stop") => "card".to_owned(),
                (origin, _) => origin.to_string(),
            };
            (key.clone(), value.clone(), from)
        });
        let shown: Vec<_> = own.chain(given.others(&known)).collect();
        if self.json {
            plan.insert("settings".into(), settings_object(&shown));
            return exit::print_line(&Value::Object(plan).to_string());
        }
        print_settings(&shown)?;
        exit::print_line(&stage::in_words(&plan))
    }

    fn engine(&self) -> anyhow::Result<Engine> {
        let tokenizer = self.source.tokenizer()?;
        let decoder = self.source.decoder()?;
        let options = EngineOptions {
            batch: self.batch_size,
            cache_bytes: self.cache_mib << 20,
            ..EngineOptions::of(self.source.folder()?, &tokenizer)?
        };
        Ok(Engine::new(&decoder, tokenizer, options)?)
    }

    /// What the answers are made from. Weights are known by their files' sizes and times here: a journal is only gone on
    /// with on the machine that began it.
    fn key(&self, settings: &EvaluateSettings, data: &str) -> anyhow::Result<String> {
        let mut folders = vec![self.source.folder()?];
        folders.extend(self.source.adapter());
        let reward = self.reward.as_deref().map(Path::new).filter(|path| path.is_dir());
        folders.extend(reward);
        let mut files = Vec::new();
        for folder in folders {
            // A bundled model is unpacked anew every time; its name says enough.
            let bundled =
                !Path::new(&self.source.given()).is_dir() && folder.starts_with(std::env::temp_dir());
            for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
                let entry = entry?;
                let meta = entry.metadata()?;
                let time = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                let time = time.filter(|_| !bundled).map(|time| time.as_nanos().to_string());
                files.push((entry.file_name().to_string_lossy().into_owned(), meta.len(), time));
            }
        }
        files.sort();
        let parts = json!({
            "program": env!("CARGO_PKG_VERSION"), "task": self.task, "split": format!("{:?}", self.split), "rule": self.rule,
            "data": data, "seed": self.seed, "settings": settings, "model": self.source.given(),
            "reward": self.reward, "files": files, "plugins": self.plugins.plugins,
        });
        Ok(parts.to_string())
    }

    /// Writes the files under names with the time, as lm-eval does; returns the names.
    fn write(&self, out: &Path, evaluation: &Evaluation) -> anyhow::Result<Value> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Ok(results::write_stamped(out, evaluation, &self.source.name(), &timestamp(seconds))?.into())
    }
}

/// `2026-01-31T23-59-59` of seconds since 1970, in UTC.
fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years from 1 March 0000, in eras of 400 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, turn) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + turn;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}")
}

/// The numbers for a person.
fn in_words(summary: &Summary) -> String {
    let percent = |share: f64| format!("{:.1}%", share * 100.0);
    let range = |(low, high): (f64, f64)| format!("95% interval {} to {}", percent(low), percent(high));
    let units = summary.groups.map_or_else(String::new, |groups| format!(" in {groups} groups"));
    let mut lines = vec![format!("{}: {} problems{units}", summary.task, summary.problems)];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<18} {text}"));
    if let (Some(accuracy), Some(interval)) = (summary.accuracy, summary.interval) {
        line("greedy", format!("{} right, {}", percent(accuracy), range(interval)));
    }
    for (rule, share) in &summary.by_rule {
        line(&format!("rule {rule}"), percent(*share));
    }
    if let (Some(accuracy), Some(interval)) = (summary.sampled_accuracy, summary.sampled_interval) {
        let each = summary.settings.samples;
        let temperature = summary.settings.temperature;
        line(
            "sampled",
            format!("{} right, {} ({each} each at {temperature})", percent(accuracy), range(interval)),
        );
    }
    for (k, share) in &summary.pass_at_k {
        line(&format!("pass@{k}"), percent(*share));
    }
    for (k, share) in &summary.greedy_pass_at_k {
        line(&format!("pass@{k}, greedy"), percent(*share));
    }
    for (name, share) in [
        ("majority", summary.majority),
        ("best of n", summary.best_of_n),
        ("reward vote", summary.reward_vote),
    ] {
        if let Some(share) = share {
            line(name, percent(share));
        }
    }
    for (name, measured) in &summary.measures {
        let of = |what: &str, value: Option<f64>| value.map(|value| format!("{what} {value:.3}"));
        let parts: Vec<String> =
            [of("greedy", measured.greedy), of("sampled", measured.sampled)].into_iter().flatten().collect();
        line(name, parts.join(", "));
    }
    for (what, count) in [
        ("without a verdict (counted as wrong)", summary.errors),
        ("not judged by the sandbox (counted as wrong)", summary.undecided),
        ("without a reward", summary.unscored),
        ("cut at the token limit", summary.cut),
    ] {
        if count > 0 {
            lines.push(format!("  {count} answers {what}"));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn times_are_dates() {
        assert_eq!(timestamp(0), "1970-01-01T00-00-00");
        assert_eq!(timestamp(951_782_400), "2000-02-29T00-00-00");
        assert_eq!(timestamp(1_795_679_999), "2026-11-26T07-59-59");
        assert_eq!(timestamp(4_107_542_399), "2100-02-28T23-59-59");
    }
}
