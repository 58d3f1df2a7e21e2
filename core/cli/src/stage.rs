//! What the commands over one stage's files share: their flags, settings from what is given over the card, and a
//! note beside a finished file, so that the same command given again does nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sipf_core::generate::EngineOptions;
use sipf_core::model::Tokenizer;
use sipf_core::work::{self, Target};
use sipf_core::{record, run_dir};

use crate::given::{Given, at_least_one, of_setting};
use crate::training::{print_settings, settings_object};
use crate::{exit, writable};

/// Pieces in flight: programs of one are judged while the next is generated.
const LANES: usize = 2;

/// Flags of every stage over files.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StageFlags {
    /// Where the rows go; what is done of them is kept beside it, and the same command goes on from there
    #[arg(long, value_name = "O.jsonl", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Print every setting and where it came from, and start nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How the engine uses the machine; changes the speed, not the text.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EngineFlags {
    /// The most sequences that run at once; changes the speed, not the text
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one::<usize>())]
    batch_size: usize,
    /// Memory for keys and values, in MiB; changes the speed, not the text
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = at_least_one::<usize>())]
    cache_mib: usize,
}

impl EngineFlags {
    pub(crate) fn options(&self, folder: &Path, tokenizer: &Tokenizer) -> anyhow::Result<EngineOptions> {
        Ok(EngineOptions {
            batch: self.batch_size,
            cache_bytes: self.cache_mib << 20,
            ..EngineOptions::of(folder, tokenizer)?
        })
    }
}

/// Settings with nothing left open, and where each came from.
#[derive(Debug)]
pub(crate) struct Settled<T> {
    pub(crate) settings: T,
    /// Keys whose last word is a flag's or `--config`'s.
    pub(crate) said: Map<String, Value>,
    shown: Vec<(String, Value, String)>,
}

/// Values of flags under their settings' names; flags that do not stand are left out.
pub(crate) fn said<const N: usize>(flags: [(&str, Option<Value>); N]) -> Map<String, Value> {
    flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

impl StageFlags {
    /// Lays flags over other keys of `--config` over what the card says over the defaults.
    pub(crate) fn settle<T: Serialize + DeserializeOwned + Default>(
        &self,
        given: &Given,
        card: &T,
        flags: Map<String, Value>,
    ) -> anyhow::Result<Settled<T>> {
        let defaults = object(&T::default())?;
        let mut merged: BTreeMap<String, (Value, String)> = object(card)?
            .into_iter()
            .map(|(key, value)| {
                let origin = if defaults.get(&key) == Some(&value) { "default" } else { "card" };
                (key, (value, origin.to_owned()))
            })
            .collect();
        let file = given.config().map(|config| config.origin().to_string()).unwrap_or_default();
        let mut said = Map::new();
        for (key, value) in given.keys()? {
            let key = key.replace('_', "-");
            let Some(known) = merged.get_mut(&key) else {
                let place = given.config().map(|config| config.file.display().to_string());
                bail!("{}: unknown key {key:?}", place.unwrap_or_default());
            };
            *known = (value.clone(), file.clone());
            said.insert(key, value);
        }
        for (key, value) in flags {
            merged.insert(key.clone(), (value.clone(), given.origin(of_setting(&key)).to_string()));
            said.insert(key, value);
        }
        let tree: Map<String, Value> =
            merged.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect();
        let settings: T = serde_json::from_value(Value::Object(tree)).context("settings")?;
        let mut written = object(&settings)?;
        let shown = merged
            .into_iter()
            .map(|(key, (_, origin))| {
                let value = written.remove(&key).unwrap_or_default();
                (key, value, origin)
            })
            .collect();
        Ok(Settled { settings, said, shown })
    }

    /// Prints what the stage would do.
    pub(crate) fn print_plan<T>(
        &self,
        given: &Given,
        settled: &Settled<T>,
        plan: &Map<String, Value>,
    ) -> anyhow::Result<()> {
        let known = settled.shown.iter().map(|(key, ..)| of_setting(key)).collect();
        let shown: Vec<_> = settled.shown.iter().cloned().chain(given.others(&known)).collect();
        if self.json {
            let mut object = json!({ "settings": settings_object(&shown) });
            merge(&mut object, plan);
            return exit::print_line(&object.to_string());
        }
        print_settings(&shown)?;
        exit::print_line(&in_words(plan))
    }

    /// The file to write, made from `ingredients`.
    pub(crate) fn output(&self, stage: &'static str, ingredients: &Value) -> anyhow::Result<Output> {
        let file = self.out.clone().context("--out O.jsonl says where the rows go")?;
        writable::file("--out", &file)?;
        let made_from = json!({
            "stage": stage,
            "version": env!("CARGO_PKG_VERSION"),
            "ingredients": ingredients,
        });
        let key = run_dir::hash_rows(&[made_from])?;
        Ok(Output { file, key, json: self.json })
    }
}

/// A stage's file on its way.
pub(crate) struct Output {
    file: PathBuf,
    key: String,
    json: bool,
}

/// Beside a finished file: what it was made from, what it was then, and what was said of it.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    key: String,
    sha256: String,
    summary: Map<String, Value>,
}

impl Output {
    /// Where the stage works.
    pub(crate) fn target(&self) -> Target<'_> {
        Target { file: &self.file, key: &self.key, lanes: LANES }
    }

    fn note(&self) -> PathBuf {
        let mut name = self.file.file_name().unwrap_or_default().to_os_string();
        name.push(".made.json");
        self.file.with_file_name(name)
    }

    /// Says again what was said when this file was finished; `false` where it is not, or no longer, there.
    pub(crate) fn is_finished(&self) -> anyhow::Result<bool> {
        let Ok(text) = std::fs::read_to_string(self.note()) else { return Ok(false) };
        let Ok(note) = serde_json::from_str::<Note>(&text) else { return Ok(false) };
        if note.key != self.key || !self.file.is_file() || run_dir::hash_file(&self.file)? != note.sha256 {
            return Ok(false);
        }
        self.print(&note.summary)?;
        Ok(true)
    }

    /// Writes the rows, then the note, and removes the journal.
    pub(crate) fn finish<T: Serialize>(&self, rows: &[T], summary: Map<String, Value>) -> anyhow::Result<()> {
        record::write(&self.file, rows)?;
        let note = Note { key: self.key.clone(), sha256: run_dir::hash_file(&self.file)?, summary };
        sipf_core::model::save::write_text(&self.note(), &format!("{}\n", serde_json::to_string(&note)?))?;
        work::finish(&self.file)?;
        self.print(&note.summary)
    }

    fn print(&self, summary: &Map<String, Value>) -> anyhow::Result<()> {
        exit::print_line(&match self.json {
            true => {
                let mut object = json!({ "out": self.file });
                merge(&mut object, summary);
                object.to_string()
            }
            false => format!("{}; {}", in_words(summary), self.file.display()),
        })
    }
}

/// The keys of a summary.
pub(crate) fn object<T: Serialize>(value: &T) -> anyhow::Result<Map<String, Value>> {
    match serde_json::to_value(value)? {
        Value::Object(map) => Ok(map),
        other => bail!("{other} is no object"),
    }
}

fn merge(into: &mut Value, from: &Map<String, Value>) {
    for (key, value) in from {
        into[key.as_str()] = value.clone();
    }
}

/// `rows in 3, rows out 5, ...`: numbers that are 0 are left out.
pub(crate) fn in_words(summary: &Map<String, Value>) -> String {
    let told = summary.iter().filter(|(key, value)| key.starts_with("rows") || value.as_f64() != Some(0.0));
    told.map(|(key, value)| format!("{} {value}", key.replace('_', " "))).collect::<Vec<_>>().join(", ")
}

/// A list of texts as a setting; none given is no setting.
pub(crate) fn texts(list: &[String]) -> Option<Value> {
    (!list.is_empty()).then(|| json!(list))
}

/// A flag's value as a setting.
pub(crate) fn value<T: Serialize>(flag: Option<T>) -> Option<Value> {
    flag.map(|flag| json!(flag))
}
