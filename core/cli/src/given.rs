//! What a command's flags are given by: the command line, else a variable `SIPF_*`, else a key of `--config FILE.toml`.
//!
//! Variables and keys are laid below the flags as their defaults before the command line is parsed, so that each is read
//! exactly as the flag would be and no command asks for them itself. Keys that are no flag (`[align] beta`) are left to
//! the command that knows them.

mod config;
mod flags;
mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};
use serde_json::{Map, Value, json};

use crate::command::{Arguments, colour};

pub(crate) use flags::{at_least_one, of_setting, variable_of};

/// Where a value comes from, the weakest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// Nobody said anything.
    #[default]
    Default,
    /// `--config`, this file.
    Config(String),
    /// This variable.
    Variable(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Config(file) => write!(f, "config {file}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// Where the values of a command's flags came from, and what `--config` holds beside them.
#[derive(Debug, Default)]
pub(crate) struct Given {
    origins: BTreeMap<String, Origin>,
    /// Flags that have a value, as text.
    values: BTreeMap<String, String>,
    config: Option<Config>,
}

/// What is left of `--config` once the flags have taken their keys.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) file: PathBuf,
    pub(crate) keys: toml::Table,
}

impl Config {
    pub(crate) fn origin(&self) -> Origin {
        Origin::Config(self.file.display().to_string())
    }
}

/// Reads the command line, the variables and the file; ends the process where clap does (`--help`, a wrong flag).
///
/// # Errors
/// Names the variable, the file and key, or the path that is of no use.
pub(crate) fn parse() -> anyhow::Result<(Arguments, Given)> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let mut command = flags::finite(Arguments::command()).color(colour(&words));
    let mut given = Given::default();
    // What cannot be parsed yet for want of a variable's value, or at all, is for the second try to say.
    let first = command.clone().ignore_errors(true).try_get_matches_from(&words);
    let path = first.as_ref().map(|matches| deepest(matches).0).unwrap_or_default();
    if let Ok(matches) = &first {
        let laid = given.below(&command, &path, deepest(matches).1)?;
        command = flags::with_defaults(command, &path, &laid);
    }
    let matches = command.try_get_matches_from_mut(words).unwrap_or_else(|error| error.exit());
    let (path, asked) = deepest(&matches);
    let here = flags::find(&command, &path);
    given.note_values(here, asked);
    places::check(here, asked, &given)?;
    let arguments = Arguments::from_arg_matches(&matches);
    Ok((arguments.unwrap_or_else(|error| error.format(&mut command).exit()), given))
}

/// The subcommand that was asked for, and what it was given.
fn deepest(matches: &ArgMatches) -> (Vec<String>, &ArgMatches) {
    let (mut path, mut here) = (Vec::new(), matches);
    while let Some((name, below)) = here.subcommand() {
        path.push(name.to_owned());
        here = below;
    }
    (path, here)
}

impl Given {
    /// Notes where every flag's value comes from, and gives the values of those that do not stand on the command line.
    fn below(
        &mut self,
        command: &Command,
        path: &[String],
        asked: &ArgMatches,
    ) -> anyhow::Result<Vec<(String, Vec<OsString>)>> {
        let here = flags::find(command, path);
        let file = asked.try_get_one::<PathBuf>("config").ok().flatten();
        let mut config = file.map(|file| config::read(file, path)).transpose()?;
        let mut laid = Vec::new();
        for arg in here.get_arguments() {
            let Some(long) = arg.get_long().filter(|long| !flags::ACTS.contains(long)) else { continue };
            let key = match config::is_its_own(path, long)? {
                true => None,
                false => config.as_mut().and_then(|config| config::take(&mut config.keys, long)),
            };
            let variable = flags::variable(arg).and_then(|name| Some((std::env::var_os(&name)?, name)));
            let said = asked.value_source(arg.get_id().as_str());
            let (origin, values) = if said == Some(ValueSource::CommandLine) {
                (Origin::Flag, Vec::new())
            } else if let Some((value, name)) = variable.filter(|(value, _)| !value.is_empty()) {
                flags::check(arg, &value).map_err(|why| anyhow!("{name}: {why}"))?;
                (Origin::Variable(name), vec![value])
            } else if let (Some(value), Some(config)) = (key, &config) {
                let place = || format!("{}: {long}", config.file.display());
                let values = config::texts(&value).with_context(place)?;
                for value in &values {
                    flags::check(arg, value).map_err(|why| anyhow!("{}: {why}", place()))?;
                }
                (config.origin(), values)
            } else {
                continue;
            };
            if origin != Origin::Flag {
                laid.push((arg.get_id().to_string(), values));
            }
            self.origins.insert(long.to_owned(), origin);
        }
        if let Some(config) = config.as_ref().filter(|_| !config::has_keys(path))
            && let Some(key) = config.keys.keys().next()
        {
            let known = here.get_arguments().filter_map(clap::Arg::get_long);
            let near = flags::nearest(key, known.filter(|long| !flags::ACTS.contains(long)));
            bail!("{}: unknown key {key:?}{near}", config.file.display());
        }
        self.config = config;
        Ok(laid)
    }

    fn note_values(&mut self, here: &Command, asked: &ArgMatches) {
        for arg in here.get_arguments() {
            let Some(long) = arg.get_long().filter(|long| !flags::ACTS.contains(long)) else { continue };
            if let Ok(Some(raw)) = asked.try_get_raw(arg.get_id().as_str()) {
                let values: Vec<_> = raw.map(|value| value.to_string_lossy()).collect();
                self.values.insert(long.to_owned(), values.join(","));
            }
        }
    }

    /// Where a flag's value comes from.
    pub(crate) fn origin(&self, long: &str) -> Origin {
        self.origins.get(long).cloned().unwrap_or_default()
    }

    /// What to call a flag in a message: the variable or key that gave it its value, where one did.
    pub(crate) fn name(&self, long: &str) -> String {
        match self.origin(long) {
            Origin::Variable(name) => name,
            Origin::Config(file) => format!("{file}: {long}"),
            Origin::Flag | Origin::Default => format!("--{long}"),
        }
    }

    /// What `--config` holds beside flags.
    pub(crate) fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// The same, for JSON.
    pub(crate) fn keys(&self) -> anyhow::Result<Map<String, Value>> {
        let Some(config) = &self.config else { return Ok(Map::new()) };
        match serde_json::to_value(&config.keys)? {
            Value::Object(keys) => Ok(keys),
            other => bail!("{other} is no table"),
        }
    }

    /// Name, value and origin of every flag that has a value, but for `shown` ones.
    pub(crate) fn others(&self, shown: &BTreeSet<&str>) -> Vec<(String, Value, String)> {
        let others = self.values.iter().filter(|(long, _)| !shown.contains(long.as_str()));
        others.map(|(long, value)| (long.clone(), json!(value), self.origin(long).to_string())).collect()
    }

    /// An error about a setting, named as it was given.
    pub(crate) fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        let found = error.chain().find_map(|cause| cause.downcast_ref::<sipf_core::Error>());
        let Some(sipf_core::Error::Setting { key, value, range }) = found else { return error };
        let name = match (flags::of_setting(key), &self.config) {
            (long, _) if self.values.contains_key(long) => self.name(long),
            (_, Some(config)) if config.keys.contains_key(key) => format!("{}: {key}", config.file.display()),
            _ => key.clone(),
        };
        anyhow!("{name} is {value}; it must be {range}")
    }
}
