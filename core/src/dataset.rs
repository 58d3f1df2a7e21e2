//! The problems of a task's split: from a folder, from one file, from the Hub, or made by the task itself.
//!
//! Leaves downloading to [`crate::hub`] and what a row means to the task.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use sipf_plugin::{DataFile, DataFormat, Problem, Row, Source, Split, Task};

use crate::error::{AtPath, Error, Result, of_json_line};
use crate::hub::Hub;
use crate::text;

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
            let there: Vec<&str> = splits(task).into_iter().map(Split::name).collect();
            Err(Error::unusable(format!("task {name} has no {split} split, only: {}", there.join(", "))))
        }
    }
}

/// Loads the problems of several splits, one after the other; the limit holds for all of them together.
///
/// # Errors
/// As [`load`].
pub fn load_all(task: &dyn Task, splits: &[Split], options: &DataOptions) -> Result<Loaded> {
    if let [split] = splits {
        return load(task, *split, options);
    }
    let (mut all, mut hash) = (Loaded::default(), Sha256::new());
    for split in splits {
        let left = options.limit.map(|limit| limit.saturating_sub(all.problems.len()));
        if left == Some(0) {
            break;
        }
        let loaded = load(task, *split, &DataOptions { limit: left, ..options.clone() })?;
        all.problems.extend(loaded.problems);
        all.skipped.extend(loaded.skipped);
        hash.update(loaded.sha256);
    }
    all.sha256 = hex(&hash.finalize());
    Ok(all)
}

/// The splits that a task has, in the order train, validation, test.
pub fn splits(task: &dyn Task) -> Vec<Split> {
    [Split::Train, Split::Validation, Split::Test]
        .into_iter()
        .filter(|split| !matches!(task.source(*split), Ok(Source::Missing) | Err(_)))
        .collect()
}

/// Problems by id, over several splits. Rows of a generated split are made when they are asked for.
pub struct Lookup<'a> {
    task: &'a dyn Task,
    splits: Vec<Split>,
    known: BTreeMap<String, Problem>,
}

impl<'a> Lookup<'a> {
    /// Loads the splits that come from files. Where several are asked for, one whose file is not there is left out.
    ///
    /// # Errors
    /// When no split can be loaded, or one has a bad row.
    pub fn new(task: &'a dyn Task, splits: &[Split], options: &DataOptions) -> Result<Self> {
        let mut found = Self { task, splits: splits.to_vec(), known: BTreeMap::new() };
        let mut first_error = None;
        let mut loaded = 0;
        for split in splits_of_file(task, splits, options)? {
            let from_file = options.data.as_ref().is_some_and(|path| path.is_file());
            if matches!(task.source(split)?, Source::Generated) && !from_file {
                loaded += 1;
                continue;
            }
            match load(task, split, options) {
                Ok(rows) => {
                    loaded += 1;
                    found.known.extend(rows.problems.into_iter().map(|p| (p.id.clone(), p)));
                }
                Err(error @ Error::Row { .. }) => return Err(error),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) if loaded == 0 => Err(error),
            _ => Ok(found),
        }
    }

    /// The problem with this id.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, id: &str) -> Result<Problem> {
        if let Some(problem) = self.known.get(id) {
            return Ok(problem.clone());
        }
        // Ids of generated rows are NAME/SPLIT/INDEX.
        let mut parts = id.rsplit('/');
        let index = parts.next().and_then(|text| text.parse::<u64>().ok());
        let split = parts.next().and_then(|text| text.parse::<Split>().ok());
        if let (Some(index), Some(split)) = (index, split.filter(|split| self.splits.contains(split)))
            && matches!(self.task.source(split)?, Source::Generated)
        {
            let row = self.task.generate(split, index)?;
            let made = self.task.problems(&row, split)?;
            if let Some(problem) = made.into_iter().find(|problem| problem.id == id) {
                return Ok(problem);
            }
        }
        let name = self.task.card().name;
        let splits: Vec<&str> = self.splits.iter().map(|split| split.name()).collect();
        Err(Error::unusable(format!("task {name} has no problem {id:?} (split {})", splits.join(", "))))
    }
}

/// Where one file is given, only the splits that call a file by that name; all, where none does.
fn splits_of_file(task: &dyn Task, splits: &[Split], options: &DataOptions) -> Result<Vec<Split>> {
    let Some(given) = options.data.as_deref().filter(|path| path.is_file()).and_then(Path::file_name) else {
        return Ok(splits.to_vec());
    };
    let mut named = Vec::new();
    for split in splits {
        if let Source::Files { files } = task.source(*split)?
            && files.iter().any(|file| Path::new(&file.path).file_name() == Some(given))
        {
            named.push(*split);
        }
    }
    Ok(if named.is_empty() { splits.to_vec() } else { named })
}

fn generated(task: &dyn Task, split: Split, options: &DataOptions) -> Result<Loaded> {
    let name = task.card().name;
    if options.data.as_ref().is_some_and(|path| path.is_file()) {
        let file = DataFile { path: String::new(), ..DataFile::default() };
        return from_files(task, split, &[file], options);
    }
    let limit = options.limit.ok_or_else(|| {
        Error::unusable(format!("the {split} split of {name} is endless: say how much with --limit"))
    })?;
    let mut collector = Collector::new(task, split, options);
    let mut index = 0;
    while collector.wants_more() {
        let row = task.generate(split, index)?;
        collector.take(&row, Place::Generated(&name, index))?;
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
        numbered_rows(&path, format, &mut |index, line, data| {
            let row = Row { file: file.name.clone(), index, data };
            collector.take(&row, Place::Line(&path, line))?;
            Ok(collector.wants_more())
        })?;
    }
    if collector.loaded.problems.is_empty() && options.limit != Some(0) {
        let from = options.data.as_deref().unwrap_or(Path::new("the published files"));
        if one_file.is_some_and(|file| file.metadata().is_ok_and(|data| data.len() == 0)) {
            return Err(Error::file(
                from,
                "is empty; --data takes a file of the task's rows, or a folder of them",
            ));
        }
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

/// Where a row came from, for messages.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// A file and its line (CSV: the record's first; JSON and Parquet: the row), from 1.
    Line(&'a Path, usize),
    /// A task that makes rows, and the row's number.
    Generated(&'a str, u64),
}

impl Place<'_> {
    fn error(self, message: String) -> Error {
        match self {
            Self::Line(path, line) => Error::row(path, line, message),
            Self::Generated(name, index) => {
                Error::unusable(format!("{name}, generated row {index}: {message}"))
            }
        }
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

    fn take(&mut self, row: &Row, place: Place<'_>) -> Result<()> {
        let bad = match self.task.problems(row, self.split) {
            Ok(problems) => {
                for problem in problems {
                    if !self.wants_more() {
                        break;
                    }
                    if !self.seen.insert(problem.id.clone()) {
                        return Err(place.error(format!("id {:?} was there before", problem.id)));
                    }
                    self.loaded.problems.push(problem);
                }
                return Ok(());
            }
            Err(error) => place.error(error.to_string()),
        };
        match self.options.skip_bad_rows {
            true => {
                self.loaded.skipped.push(bad.to_string());
                Ok(())
            }
            false => Err(bad),
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

/// What reads rows: gets number from 0, line from 1, keys; says whether to go on.
type OnRow<'a> = &'a mut dyn FnMut(u64, usize, Value) -> Result<bool>;

/// Calls `row(index, keys)` for every row of a file, until it says `false`. Rows are numbered from 0.
///
/// # Errors
/// Names the file and line that cannot be read, or what `row` says.
pub fn read_rows(
    path: &Path,
    format: DataFormat,
    row: &mut dyn FnMut(u64, Value) -> Result<bool>,
) -> Result<()> {
    numbered_rows(path, format, &mut |index, _, value| row(index, value))
}

/// As [`read_rows`], with lines counted from 1; lines of JSONL that hold no object come as errors, and reading goes on
/// where `row` says so.
///
/// # Errors
/// When the file cannot be read, or what `row` says.
pub fn read_rows_with(
    path: &Path,
    format: DataFormat,
    row: &mut dyn FnMut(usize, Result<Value>) -> Result<bool>,
) -> Result<()> {
    match format {
        DataFormat::Jsonl => jsonl_lines(path, &mut |_, line, value| row(line, value)),
        _ => numbered_rows(path, format, &mut |_, line, value| row(line, Ok(value))),
    }
}

fn numbered_rows(path: &Path, format: DataFormat, row: OnRow<'_>) -> Result<()> {
    match format {
        DataFormat::Json => json_rows(path, row),
        DataFormat::Csv => csv_rows(path, row),
        DataFormat::Parquet => parquet_rows(path, row),
        _ => jsonl_rows(path, row),
    }
}

fn jsonl_rows(path: &Path, row: OnRow<'_>) -> Result<()> {
    jsonl_lines(path, &mut |index, line, value| row(index, line, value?))
}

/// What reads lines: as [`OnRow`], with lines that hold no object as errors.
type OnLine<'a> = &'a mut dyn FnMut(u64, usize, Result<Value>) -> Result<bool>;

fn jsonl_lines(path: &Path, row: OnLine<'_>) -> Result<()> {
    let mut index = 0;
    for (line, number) in text::open(path)?.split(b'\n').zip(1..) {
        let line = line.at(path)?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let value = match serde_json::from_slice::<Value>(&line) {
            Ok(value) if value.is_object() => Ok(value),
            Ok(_) => Err(Error::row(path, number, "should be one JSON object")),
            Err(error) => Err(Error::row(path, number, of_json_line(&error))),
        };
        if !row(index, number, value)? {
            return Ok(());
        }
        index += 1;
    }
    Ok(())
}

fn json_rows(path: &Path, row: OnRow<'_>) -> Result<()> {
    let values: Vec<Value> = serde_json::from_reader(text::open(path)?)
        .map_err(|error| Error::file(path, format!("should be one JSON array of objects: {error}")))?;
    for (number, value) in (1..).zip(values) {
        if !row(number as u64 - 1, number, value)? {
            return Ok(());
        }
    }
    Ok(())
}

fn csv_rows(path: &Path, row: OnRow<'_>) -> Result<()> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text::open(path)?);
    for (index, record) in (0..).zip(reader.records()) {
        let record = record.map_err(|error| Error::file(path, error.to_string()))?;
        let line = record.position().map_or(index + 1, |place| place.line()) as usize;
        let keys: Map<String, Value> =
            record.iter().enumerate().map(|(column, cell)| (column.to_string(), cell.into())).collect();
        if !row(index, line, Value::Object(keys))? {
            return Ok(());
        }
    }
    Ok(())
}

fn parquet_rows(path: &Path, row: OnRow<'_>) -> Result<()> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let bad = |error: parquet::errors::ParquetError| Error::file(path, error.to_string());
    let reader = SerializedFileReader::new(File::open(path).at(path)?).map_err(bad)?;
    for (number, record) in (1..).zip(reader.get_row_iter(None).map_err(bad)?) {
        if !row(number as u64 - 1, number, record.map_err(bad)?.to_json_value())? {
            return Ok(());
        }
    }
    Ok(())
}
