//! The problems of a task's split: from a folder, from one file, from the Hub, or made by the task itself.
//!
//! Leaves downloading to [`crate::hub`] and what a row means to the task.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use sipf_plugin::{DataFile, DataFormat, Problem, Row, Source, Split, Task};

use crate::error::{AtPath, Error, Result};
use crate::hub::Hub;

/// Where rows come from and how many problems are wanted.
#[derive(Debug, Clone, Default)]
pub struct DataOptions {
    /// A folder laid out as the task's paths, or one file; `None`: the published files from the Hub.
    pub data: Option<PathBuf>,
    /// The first so many problems; generated splits are endless and need it.
    pub limit: Option<usize>,
    /// Go on past bad rows and count them instead of stopping at the first.
    pub skip_bad_rows: bool,
}

/// A split's problems.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// In file order.
    pub problems: Vec<Problem>,
    /// Bad rows that were passed over: place and reason.
    pub skipped: Vec<String>,
    /// SHA-256 over the files read (or over the generated problems), in lower-case hex.
    pub sha256: String,
}

/// Loads the problems of one split.
///
/// # Errors
/// Names the file and row that cannot be read, the split that does not exist, or the file that is missing and where
/// to put it.
pub fn load(task: &dyn Task, split: Split, options: &DataOptions) -> Result<Loaded> {
    let name = task.card().name;
    match task.source(split)? {
        Source::Files { files } => from_files(task, split, &files, options),
        Source::Generated => generated(task, split, options),
        _ => {
            let there: Vec<&str> = [Split::Train, Split::Validation, Split::Test]
                .into_iter()
                .filter(|split| !matches!(task.source(*split), Ok(Source::Missing) | Err(_)))
                .map(Split::name)
                .collect();
            Err(Error::unusable(format!("task {name} has no {split} split, only: {}", there.join(", "))))
        }
    }
}

fn generated(task: &dyn Task, split: Split, options: &DataOptions) -> Result<Loaded> {
    let name = task.card().name;
    let limit = options.limit.ok_or_else(|| {
        Error::unusable(format!("the {split} split of {name} is endless: say how much with --limit"))
    })?;
    if let Some(path) = &options.data {
        if path.is_file() {
            let file = DataFile { path: String::new(), ..DataFile::default() };
            return from_files(task, split, &[file], options);
        }
    }
    let mut collector = Collector::new(task, split, options);
    let mut index = 0;
    while collector.wants_more() {
        let row = task.generate(split, index)?;
        collector.take(&row, &format!("{name} row {index}"))?;
        if index as usize > 100 * limit + 1000 {
            return Err(Error::unusable(format!(
                "{name}: {index} generated rows gave fewer than {limit} problems"
            )));
        }
        index += 1;
    }
    for problem in &collector.loaded.problems {
        collector.hash.update(serde_json::to_vec(problem)?);
    }
    Ok(collector.finish())
}

fn from_files(task: &dyn Task, split: Split, files: &[DataFile], options: &DataOptions) -> Result<Loaded> {
    let mut collector = Collector::new(task, split, options);
    let one_file = options.data.as_deref().filter(|path| path.is_file());
    for file in files {
        if !collector.wants_more() {
            break;
        }
        let (path, format) = match one_file {
            Some(path) => (path.to_path_buf(), format_of(path).unwrap_or(file.format)),
            None => locate(file, options.data.as_deref())?,
        };
        if let Some(one) = one_file.filter(|_| files.len() > 1) {
            // One file for a split of several: take the one whose name matches.
            if !file.path.ends_with(&one.file_name().unwrap_or_default().to_string_lossy().into_owned()) {
                continue;
            }
        }
        collector.hash.update(std::fs::read(&path).at(&path)?);
        read_rows(&path, format, &mut |index, data| {
            let row = Row { file: file.name.clone(), index, data };
            collector.take(&row, &format!("{}, row {index}", path.display()))?;
            Ok(collector.wants_more())
        })?;
    }
    if collector.loaded.problems.is_empty() && options.limit != Some(0) {
        let from = options.data.as_deref().unwrap_or(Path::new("the published files"));
        return Err(Error::file(
            from,
            format!("gives no problem of task {}, split {split}", task.card().name),
        ));
    }
    Ok(collector.finish())
}

/// The file of a split: below the data folder, or in the Hub's cache.
fn locate(file: &DataFile, data: Option<&Path>) -> Result<(PathBuf, DataFormat)> {
    if let Some(folder) = data {
        let path = folder.join(&file.path);
        return match path.is_file() {
            true => Ok((path, file.format)),
            false if folder.is_dir() => Err(Error::file(
                &path,
                format!("not found; --data takes a folder with {} in it, or the file itself", file.path),
            )),
            false => Err(Error::file(folder, "not found (--data)")),
        };
    }
    let published = file.published.as_ref().ok_or_else(|| {
        Error::unusable(format!(
            "{} is not published anywhere: give --data FOLDER with that file in it",
            file.path
        ))
    })?;
    match Hub::from_environment().dataset_file(published) {
        Ok(path) => Ok((path, published.format)),
        Err(error) => Err(Error::unusable(format!(
            "{error}\n  put the file at DIR/{} and say --data DIR, or fetch it once with a network",
            file.path
        ))),
    }
}

fn format_of(path: &Path) -> Option<DataFormat> {
    match path.extension()?.to_str()? {
        "jsonl" => Some(DataFormat::Jsonl),
        "json" => Some(DataFormat::Json),
        "csv" => Some(DataFormat::Csv),
        "parquet" => Some(DataFormat::Parquet),
        _ => None,
    }
}

struct Collector<'a> {
    task: &'a dyn Task,
    split: Split,
    options: &'a DataOptions,
    seen: BTreeSet<String>,
    hash: Sha256,
    loaded: Loaded,
}

impl<'a> Collector<'a> {
    fn new(task: &'a dyn Task, split: Split, options: &'a DataOptions) -> Self {
        let loaded = Loaded::default();
        Self { task, split, options, seen: BTreeSet::new(), hash: Sha256::new(), loaded }
    }

    fn wants_more(&self) -> bool {
        self.options.limit.is_none_or(|limit| self.loaded.problems.len() < limit)
    }

    fn take(&mut self, row: &Row, place: &str) -> Result<()> {
        match self.task.problems(row, self.split) {
            Ok(problems) => {
                for problem in problems {
                    if !self.wants_more() {
                        break;
                    }
                    if !self.seen.insert(problem.id.clone()) {
                        return Err(Error::unusable(format!(
                            "{place}: id {:?} was there before",
                            problem.id
                        )));
                    }
                    self.loaded.problems.push(problem);
                }
                Ok(())
            }
            Err(error) if self.options.skip_bad_rows => {
                self.loaded.skipped.push(format!("{place}: {error}"));
                Ok(())
            }
            Err(error) => Err(Error::unusable(format!("{place}: {error}"))),
        }
    }

    fn finish(mut self) -> Loaded {
        self.loaded.sha256 = hex(&self.hash.finalize());
        self.loaded
    }
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Calls `row(index, keys)` for every row of a file, until it says `false`. Rows are numbered from 0.
///
/// # Errors
/// Names the file and line that cannot be read, or what `row` says.
pub fn read_rows(
    path: &Path,
    format: DataFormat,
    row: &mut dyn FnMut(u64, Value) -> Result<bool>,
) -> Result<()> {
    match format {
        DataFormat::Json => json_rows(path, row),
        DataFormat::Csv => csv_rows(path, row),
        DataFormat::Parquet => parquet_rows(path, row),
        _ => jsonl_rows(path, row),
    }
}

fn jsonl_rows(path: &Path, row: &mut dyn FnMut(u64, Value) -> Result<bool>) -> Result<()> {
    let reader = BufReader::new(File::open(path).at(path)?);
    let mut index = 0;
    for (number, line) in reader.lines().enumerate() {
        let line = line.at(path)?;
        let text = if number == 0 { line.trim_start_matches('\u{feff}') } else { &line };
        if text.trim().is_empty() {
            continue;
        }
        let value: Value =
            serde_json::from_str(text).map_err(|error| Error::row(path, number + 1, error.to_string()))?;
        if !value.is_object() {
            return Err(Error::row(path, number + 1, "should be one JSON object"));
        }
        if !row(index, value)? {
            return Ok(());
        }
        index += 1;
    }
    Ok(())
}

fn json_rows(path: &Path, row: &mut dyn FnMut(u64, Value) -> Result<bool>) -> Result<()> {
    let reader = BufReader::new(File::open(path).at(path)?);
    let values: Vec<Value> =
        serde_json::from_reader(reader).map_err(|error| Error::file(path, error.to_string()))?;
    for (index, value) in values.into_iter().enumerate() {
        if !row(index as u64, value)? {
            return Ok(());
        }
    }
    Ok(())
}

fn csv_rows(path: &Path, row: &mut dyn FnMut(u64, Value) -> Result<bool>) -> Result<()> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_path(path)
        .map_err(|error| Error::file(path, error.to_string()))?;
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(|error| Error::file(path, error.to_string()))?;
        let keys: Map<String, Value> =
            record.iter().enumerate().map(|(column, cell)| (column.to_string(), cell.into())).collect();
        if !row(index as u64, Value::Object(keys))? {
            return Ok(());
        }
    }
    Ok(())
}

fn parquet_rows(path: &Path, row: &mut dyn FnMut(u64, Value) -> Result<bool>) -> Result<()> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let bad = |error: parquet::errors::ParquetError| Error::file(path, error.to_string());
    let reader = SerializedFileReader::new(File::open(path).at(path)?).map_err(bad)?;
    for (index, record) in reader.get_row_iter(None).map_err(bad)?.enumerate() {
        if !row(index as u64, record.map_err(bad)?.to_json_value())? {
            return Ok(());
        }
    }
    Ok(())
}
