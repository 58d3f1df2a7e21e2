//! The flags of every command as clap knows them: which are settings, what their variables are called, how values are
//! read.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};

use clap::builder::RangedU64ValueParser;
use clap::{Arg, ArgAction, Command};

/// Flags that say what to do this once or where it goes, and not how: neither variables nor keys.
pub(super) const ACTS: [&str; 26] = [
    "append",
    "check",
    "color",
    "completions",
    "config",
    "dry-run",
    "eval-only",
    "help",
    "ids",
    "json",
    "no-control",
    "out",
    "prompt",
    "prompts",
    "quiet",
    "reference",
    "resume",
    "reuse",
    "run-dir",
    "same",
    "set",
    "soak",
    "test",
    "times",
    "verbose",
    "version",
];
/// Flags whose variable bears another flag's name.
const NAMED_AS: [(&str, &str); 1] = [("problems", "data")];
/// Settings whose flag bears another name.
const SETTINGS: [(&str, &str); 3] =
    [("wave", "samples-per-question"), ("policy", "pair-policy"), ("ks", "pass-at")];

/// The flag of a stage's setting.
pub(crate) fn of_setting(key: &str) -> &str {
    SETTINGS.iter().find(|(setting, _)| *setting == key).map_or(key, |(_, long)| long)
}

/// `SIPF_TOP_P` of `top-p`, `SIPF_ALIGN_BETA` of `align.beta`.
pub(crate) fn variable_of(key: &str) -> String {
    format!("SIPF_{}", key.replace(['-', '.'], "_").to_uppercase())
}

/// The variable of a flag. `SIPF_DATA` names data sets, never the rows that a stage reads: those may be several files.
pub(super) fn variable(arg: &Arg) -> Option<String> {
    let long = arg.get_long()?;
    let long = NAMED_AS.iter().find(|(flag, _)| *flag == long).map_or(long, |(_, other)| other);
    let rows =
        matches!(arg.get_action(), ArgAction::Append) && arg.get_value_parser().type_id() == path_type();
    (!rows || long == "plugin-dir").then(|| variable_of(long))
}

fn path_type() -> TypeId {
    TypeId::of::<std::path::PathBuf>()
}

/// Whether a flag's values are paths.
pub(super) fn is_path(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == path_type()
}

/// Counts from 1: 0 is refused with the flag's name.
pub(crate) fn at_least_one<T: TryFrom<u64> + Clone + Send + Sync>() -> RangedU64ValueParser<T> {
    RangedU64ValueParser::new().range(1..)
}

/// No flag takes NaN or infinity, and a negative number is a value and no flag.
pub(super) fn finite(command: Command) -> Command {
    let numbers = |arg: Arg| {
        let kind = arg.get_value_parser().type_id();
        let arg = match () {
            () if kind == TypeId::of::<f64>() => arg.value_parser(number::<f64>),
            () if kind == TypeId::of::<f32>() => arg.value_parser(number::<f32>),
            () => arg,
        };
        let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        arg.allow_negative_numbers(takes_value)
    };
    command.mut_args(numbers).mut_subcommands(finite)
}

fn number<T: std::str::FromStr + Copy + Into<f64>>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    let number: T = text.parse().map_err(|error: T::Err| error.to_string())?;
    match number.into().is_finite() {
        true => Ok(number),
        false => Err("it must be a finite number".into()),
    }
}

/// The command below this one.
pub(super) fn find<'a>(command: &'a Command, path: &[String]) -> &'a Command {
    path.iter().fold(command, |here, name| here.find_subcommand(name).unwrap_or(here))
}

/// The same command, with these values for flags of the subcommand at `path` that are not given.
pub(super) fn with_defaults(command: Command, path: &[String], laid: &[(String, Vec<OsString>)]) -> Command {
    match path.split_first() {
        Some((name, below)) => command.mut_subcommand(name, |command| with_defaults(command, below, laid)),
        None => laid.iter().fold(command, |command, (id, values)| {
            command.mut_arg(id, |arg| arg.required(false).default_values(values.clone()))
        }),
    }
}

/// Whether a flag can read this value.
pub(super) fn check(arg: &Arg, value: &OsStr) -> Result<(), String> {
    const NAME: &str = "value";
    let mut alone = Arg::new(NAME).long(NAME).num_args(1).value_parser(arg.get_value_parser().clone());
    if let Some(delimiter) = arg.get_value_delimiter() {
        alone = alone.value_delimiter(delimiter).action(ArgAction::Append);
    }
    let mut word = OsString::from("--value=");
    word.push(value);
    let reader = Command::new("sipf").no_binary_name(true).disable_help_flag(true).arg(alone);
    reader.try_get_matches_from([word]).map(drop).map_err(|error| {
        let text = error.to_string();
        let told = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
        let told = told.replace(" for '--value <value>'", "");
        told.split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

/// The known name that is most like this one.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = known.min_by_key(|other| sipf_plugin::Signature::distance(&name.replace('_', "-"), other));
    near.map_or_else(String::new, |near| format!("; did you mean {near}?"))
}
