//! The run folder: one run at a time in it, a manifest of finished stages, and which stages a changed setting undoes.
//!
//! A stage is finished when the manifest says so. Its key is a hash of its settings and of the contents of its inputs:
//! while the key stands and the files are there, the stage is skipped. A stage of another key is set aside, and with it
//! every later one; those whose key stands all the same are taken back when their turn comes. Layout: docs/run-folder.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::error::{AtPath, Error, Result};
use crate::model::save::write_text;
use crate::progress::Progress;
use crate::work;

/// Version of the layout and its records.
pub const SCHEMA: u32 = 1;
/// Begins the names of files that are being written.
const STAGED: &str = ".tmp";
/// Where finished stages lie that the settings have left behind.
const SUPERSEDED: &str = "superseded";
/// What such a stage was; beside its files.
const RECORD: &str = "stage.json";
/// Letters of a key in its folder's name.
const SHORT: usize = 12;

/// What a finished stage left.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Finished {
    /// Hash of settings and inputs.
    pub key: String,
    /// The inputs and the hashes of their contents.
    pub inputs: BTreeMap<String, String>,
    /// Files, relative to the run folder, and the hashes of their contents.
    pub files: BTreeMap<String, String>,
    /// Rows written.
    pub rows: u64,
    /// Counts and costs: tokens, FLOPs, rollouts, why paths were dropped.
    pub figures: Map<String, Value>,
}

/// The manifest; `manifest.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Manifest {
    schema: u32,
    program: String,
    instruction_set: String,
    /// Data sets and starting weights: name and hash of the contents.
    inputs: BTreeMap<String, String>,
    stages: BTreeMap<String, Finished>,
    /// Stages that had nothing to do, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    skipped: BTreeMap<String, String>,
}

/// Seconds of a stage over all its tries.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
struct Seconds {
    wall_s: f64,
    cpu_s: f64,
}

/// An open run folder; nobody else writes to it while this value lives.
pub struct RunDir {
    folder: PathBuf,
    manifest: Manifest,
    timings: BTreeMap<String, Seconds>,
    notes: Vec<String>,
    /// Stages that were asked for since the folder was opened: what the settings call for.
    met: BTreeSet<String>,
    _lock: File,
}

/// The inputs of a stage by name, hashed.
#[derive(Debug, Clone, Default)]
pub struct StageInputs(pub BTreeMap<String, String>);

impl StageInputs {
    /// With one more input.
    #[must_use]
    pub fn with(mut self, name: &str, hash: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), hash.into());
        self
    }
}

/// What a stage gives the folder when it is done.
#[derive(Debug, Clone, Default)]
pub struct Made {
    /// Files and folders, relative to the run folder.
    pub paths: Vec<String>,
    /// Rows written.
    pub rows: u64,
    /// Counts and costs.
    pub figures: Map<String, Value>,
}

impl RunDir {
    /// Opens a folder, or makes it, and takes its lock.
    ///
    /// # Errors
    /// When another run is in it, it holds something else, or it cannot be written.
    pub fn open(folder: &Path) -> Result<Self> {
        let new = !folder.exists();
        std::fs::create_dir_all(folder).at(folder)?;
        let entries = std::fs::read_dir(folder).at(folder)?.count();
        if !new && entries > 0 && !folder.join(".lock").is_file() {
            return Err(Error::file(
                folder,
                "is not empty and no run folder: give --run-dir an empty or new folder",
            ));
        }
        let path = folder.join(".lock");
        let lock = File::options().create(true).write(true).truncate(false).open(&path).at(&path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::file(
                    folder,
                    "another run is in this folder: wait for it, or give another --run-dir",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(error).at(&path),
        }
        sweep(folder)?;
        let path = folder.join("manifest.json");
        let manifest: Manifest = read_json(&path)
            .map_err(|error| {
                Error::unusable(format!(
                    "{error}; the run's manifest is damaged: put a whole copy in its place, or remove it and every stage \
                     is made anew"
                ))
            })?
            .unwrap_or_default();
        if manifest.schema > SCHEMA {
            return Err(Error::file(
                path,
                format!(
                    "has schema {}, this program knows up to {SCHEMA}: use a newer sipf",
                    manifest.schema
                ),
            ));
        }
        let timings = read_json(&folder.join("timings.json"))?.unwrap_or_default();
        let mut run = Self {
            folder: folder.to_path_buf(),
            manifest,
            timings,
            notes: Vec::new(),
            met: BTreeSet::new(),
            _lock: lock,
        };
        run.compare_program();
        run.manifest.schema = SCHEMA;
        // Said anew as the run comes by.
        run.manifest.skipped.clear();
        Ok(run)
    }

    /// Notes what was made by another version or on another instruction set; the run goes on all the same.
    fn compare_program(&mut self) {
        let (program, set) = (program(), instruction_set().to_owned());
        let known = &self.manifest;
        if !known.stages.is_empty() {
            for (before, now) in [(&known.program, &program), (&known.instruction_set, &set)] {
                if before != now {
                    self.notes.push(format!(
                        "begun by {before}, going on with {now}: bytes need not equal those of one uninterrupted run"
                    ));
                }
            }
        }
        if known.stages.is_empty() || known.program.is_empty() {
            (self.manifest.program, self.manifest.instruction_set) = (program, set);
        }
    }

    /// What the caller should be told once.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether a stage was asked for since the folder was opened.
    pub fn has_begun(&self) -> bool {
        !self.met.is_empty()
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Forgets what the run started from under earlier settings.
    pub fn forget_inputs(&mut self) {
        self.manifest.inputs.clear();
    }

    /// Notes the hash of something that the run starts from.
    pub fn input(&mut self, name: &str, hash: &str) {
        self.manifest.inputs.insert(name.to_owned(), hash.to_owned());
    }

    /// Writes `run.toml`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_settings(&self, text: &str) -> Result<()> {
        write_text(&self.path("run.toml"), text)
    }

    /// What a stage left, if it is finished and the settings call for it.
    pub fn finished(&self, stage: &str) -> Option<Finished> {
        self.manifest.stages.get(stage).filter(|_| self.met.contains(stage)).cloned()
    }

    /// Notes that a stage has nothing to do, and why.
    pub fn skip(&mut self, stage: &str, why: &str) {
        self.manifest.skipped.insert(stage.to_owned(), why.to_owned());
    }

    /// Stages that had nothing to do, and why.
    pub fn skipped(&self) -> &BTreeMap<String, String> {
        &self.manifest.skipped
    }

    /// The hash of a file that a finished stage left.
    ///
    /// # Errors
    /// When no finished stage left it.
    pub fn hash(&self, file: &str) -> Result<String> {
        let met = self.met.iter().filter_map(|stage| self.manifest.stages.get(stage));
        let found = met.filter_map(|done| done.files.get(file)).next().cloned();
        found.ok_or_else(|| Error::file(self.path(file), "was left by no finished stage"))
    }

    /// Runs a stage unless it is finished: `make(key)` does the work and says what it left. A stage that was finished with
    /// another key is set aside first.
    ///
    /// # Errors
    /// What `make` said, or that the folder cannot be written.
    pub fn stage(
        &mut self,
        name: &str,
        settings: &Value,
        inputs: StageInputs,
        make: impl FnOnce(&Self, &str) -> Result<Made>,
    ) -> Result<Finished> {
        let key = key_of(name, settings, &inputs);
        self.make_way(name, &key)?;
        self.met.insert(name.to_owned());
        if let Some(done) = self.finished(name) {
            if self.whole(&done)? {
                self.drop_journals(&done)?;
                return Ok(done);
            }
            self.note(name, "files are missing or changed; made anew");
            self.manifest.stages.remove(name);
            self.write_manifest()?;
        }
        if let Some(done) = self.taken_back(name, &key)? {
            return Ok(done);
        }
        let (started, cpu) = (Instant::now(), cpu_seconds());
        let made = make(self, &key);
        let spent = self.timings.entry(name.to_owned()).or_default();
        spent.wall_s += started.elapsed().as_secs_f64();
        spent.cpu_s += cpu_seconds() - cpu;
        write_text(
            &self.path("timings.json"),
            &format!("{}\n", serde_json::to_string_pretty(&self.timings)?),
        )?;
        let made = made?;
        let mut files = BTreeMap::new();
        for path in &made.paths {
            hash_into(&self.folder, path, &mut files)?;
        }
        let done = Finished { key, inputs: inputs.0, files, rows: made.rows, figures: made.figures };
        self.manifest.stages.insert(name.to_owned(), done.clone());
        self.write_manifest()?;
        self.drop_journals(&done)?;
        Ok(done)
    }

    /// Removes the journals of a finished stage: they lie beside its files, and beside its folders.
    fn drop_journals(&self, done: &Finished) -> Result<()> {
        let places: BTreeSet<&Path> = done
            .files
            .keys()
            .flat_map(|file| Path::new(file).ancestors())
            .filter(|place| place.file_name().is_some())
            .collect();
        places.into_iter().try_for_each(|place| work::finish(&self.folder.join(place)))
    }

    /// Ends a run that is complete: what its settings did not call for is set aside.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn close(&mut self) -> Result<()> {
        self.set_aside_unmet()?;
        self.write_manifest()?;
        // What is left of stages that were never finished, in folders that hold nothing else.
        for entry in std::fs::read_dir(&self.folder).at(&self.folder)? {
            let entry = entry.at(&self.folder)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let mut files = self.manifest.stages.values().flat_map(|done| done.files.keys());
            if is_of_stages(&name) && !files.any(|file| file.starts_with(&format!("{name}/"))) {
                let unfinished = self.path(SUPERSEDED).join("unfinished").join(&name);
                if unfinished.exists() {
                    std::fs::remove_dir_all(&unfinished).at(&unfinished)?;
                }
                move_file(&entry.path(), &unfinished)?;
            }
        }
        Ok(())
    }

    /// A line about a stage, now.
    fn note(&self, stage: &str, text: &str) {
        Progress::new(stage, None, "").note(text);
    }

    /// Where a stage of this key lies once it is set aside.
    fn place_aside(&self, name: &str, key: &str) -> PathBuf {
        self.path(SUPERSEDED).join(format!("{}-{:.SHORT$}", name.replace('/', "-"), key))
    }

    /// Sets a stage of another key aside, and every stage whose turn has not come: it may rest on this one.
    fn make_way(&mut self, name: &str, key: &str) -> Result<()> {
        match self.manifest.stages.get(name).is_some_and(|done| done.key != key) {
            true => self.set_aside_unmet(),
            false => Ok(()),
        }
    }

    /// Moves every finished stage that was not asked for out of the way, with its record. Done again, it goes on.
    fn set_aside_unmet(&mut self) -> Result<()> {
        let unmet: BTreeMap<String, Finished> =
            self.manifest.stages.iter().filter(|(name, _)| !self.met.contains(*name)).map(own).collect();
        for (name, done) in &unmet {
            let place = self.place_aside(name, &done.key);
            std::fs::create_dir_all(&place).at(&place)?;
            write_text(&place.join(RECORD), &format!("{}\n", serde_json::to_string_pretty(done)?))?;
            let folders: BTreeSet<&Path> =
                done.files.keys().filter_map(|file| Path::new(file).parent()).collect();
            for file in done.files.keys() {
                move_file(&self.path(file), &place.join(file))?;
            }
            for folder in folders {
                self.move_timed(folder, &place)?;
                // Only empty ones go.
                folder.ancestors().take_while(|part| !part.as_os_str().is_empty()).for_each(|part| {
                    let _ = std::fs::remove_dir(self.folder.join(part));
                });
            }
        }
        let Some(first) = unmet.keys().next().cloned() else { return Ok(()) };
        self.manifest.stages.retain(|name, _| !unmet.contains_key(name));
        self.write_manifest()?;
        let more = if unmet.len() > 1 { format!(" (and {} more)", unmet.len() - 1) } else { String::new() };
        self.note(&first, &format!("made with other settings or inputs{more}; kept in {SUPERSEDED}/"));
        Ok(())
    }

    /// Logs that hold times are no files of the stage's record, but go where it goes.
    fn move_timed(&self, folder: &Path, place: &Path) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(self.folder.join(folder)) else { return Ok(()) };
        for entry in entries.flatten().filter(|entry| is_timed(&entry.file_name().to_string_lossy())) {
            move_file(&entry.path(), &place.join(folder).join(entry.file_name()))?;
        }
        Ok(())
    }

    /// A stage of this key that was set aside, in its place again.
    fn taken_back(&mut self, name: &str, key: &str) -> Result<Option<Finished>> {
        let place = self.place_aside(name, key);
        let Some(done) = read_json::<Finished>(&place.join(RECORD))?.filter(|done| done.key == key) else {
            return Ok(None);
        };
        // What another key has begun there since; not what an earlier try of this has moved already.
        self.drop_journals(&done)?;
        let folders: BTreeSet<&Path> =
            done.files.keys().filter_map(|file| Path::new(file).parent()).collect();
        let untouched = done.files.keys().all(|file| place.join(file).is_file());
        for folder in folders.into_iter().filter(|folder| untouched && is_training(folder)) {
            let folder = self.folder.join(folder);
            if folder.exists() {
                std::fs::remove_dir_all(&folder).at(&folder)?;
            }
        }
        for file in files_below(&place)?.into_iter().filter(|file| file != Path::new(RECORD)) {
            move_file(&place.join(&file), &self.folder.join(&file))?;
        }
        if !self.whole(&done)? {
            return Ok(None);
        }
        self.manifest.stages.insert(name.to_owned(), done.clone());
        self.write_manifest()?;
        std::fs::remove_dir_all(&place).at(&place)?;
        let _ = std::fs::remove_dir(self.path(SUPERSEDED));
        Ok(Some(done))
    }

    /// Takes a finished stage of another run as its own, where the key is the same. Returns whether it did.
    ///
    /// # Errors
    /// When the files cannot be copied.
    pub fn reuse(
        &mut self,
        other: &Path,
        name: &str,
        settings: &Value,
        inputs: &StageInputs,
    ) -> Result<bool> {
        let key = key_of(name, settings, inputs);
        if self.manifest.stages.get(name).is_some_and(|done| done.key == key) {
            return Ok(false);
        }
        let Some(manifest) = read_json::<Manifest>(&other.join("manifest.json"))? else { return Ok(false) };
        let Some(done) = manifest.stages.get(name).filter(|done| done.key == key) else { return Ok(false) };
        self.make_way(name, &key)?;
        for (file, hash) in &done.files {
            let (from, to) = (other.join(file), self.path(file));
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder).at(folder)?;
            }
            std::fs::copy(&from, &to).at(&from)?;
            if hash_file(&to)? != *hash {
                std::fs::remove_file(&to).at(&to)?;
                return Err(Error::file(from, "is not the file that its run wrote; leave out --reuse"));
            }
        }
        self.manifest.stages.insert(name.to_owned(), done.clone());
        self.write_manifest()?;
        self.met.insert(name.to_owned());
        Ok(true)
    }

    fn whole(&self, done: &Finished) -> Result<bool> {
        for (file, hash) in &done.files {
            let path = self.path(file);
            if !path.is_file() || hash_file(&path)? != *hash {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn write_manifest(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.manifest)?;
        write_text(&self.path("manifest.json"), &format!("{text}\n"))
    }
}

/// The key of a stage: SHA-256 over its name, settings and inputs.
fn key_of(name: &str, settings: &Value, inputs: &StageInputs) -> String {
    let text = json!({ "stage": name, "settings": settings, "inputs": inputs.0 }).to_string();
    hex(&Sha256::digest(text.as_bytes()))
}

/// `sipf` and its version.
fn program() -> String {
    format!("sipf {}", env!("CARGO_PKG_VERSION"))
}

/// The widest vectors that the kernels use here: they round differently.
pub fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f") {
            return "x86_64 avx512";
        }
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            return "x86_64 avx2";
        }
    }
    std::env::consts::ARCH
}

/// CPU time of this process, in seconds; 0 where the system does not tell.
fn cpu_seconds() -> f64 {
    let Ok(text) = std::fs::read_to_string("/proc/self/stat") else { return 0.0 };
    // After the program's name in parentheses: utime and stime are fields 14 and 15, in ticks of 10 ms.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Removes what a killed run was just writing.
fn sweep(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).at(folder)? {
        let entry = entry.at(folder)?;
        let path = entry.path();
        if entry.file_type().at(&path)?.is_dir() {
            sweep(&path)?;
        } else if entry.file_name().to_string_lossy().starts_with(STAGED) {
            std::fs::remove_file(&path).at(&path)?;
        }
    }
    Ok(())
}

/// Whether a folder at a run's top is one that stages write to.
fn is_of_stages(name: &str) -> bool {
    ["sft", "reward", "control"].contains(&name) || name.starts_with("iter-")
}

/// Whether a folder is a training's alone.
fn is_training(folder: &Path) -> bool {
    ["sft", "reward", "policy"].iter().any(|name| folder.ends_with(name))
}

fn own((name, done): (&String, &Finished)) -> (String, Finished) {
    (name.clone(), done.clone())
}

/// Moves a file or folder to a place whose folder need not be there; what is not there was moved before.
fn move_file(from: &Path, to: &Path) -> Result<()> {
    if !from.exists() {
        return Ok(());
    }
    let folder = to.parent().unwrap_or(to);
    std::fs::create_dir_all(folder).at(folder)?;
    std::fs::rename(from, to).at(from)
}

/// Every file below a folder, by its path from there.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).at(folder)? {
        let entry = entry.at(folder)?;
        let name = PathBuf::from(entry.file_name());
        match entry.path().is_dir() {
            true => found.extend(files_below(&entry.path())?.into_iter().map(|file| name.join(file))),
            false => found.push(name),
        }
    }
    Ok(found)
}

fn hash_into(root: &Path, name: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    let path = root.join(name);
    if path.is_dir() {
        for entry in std::fs::read_dir(&path).at(&path)? {
            let entry = entry.at(&path)?.file_name();
            let entry = entry.to_string_lossy();
            if !is_timed(&entry) {
                hash_into(root, &format!("{name}/{entry}"), files)?;
            }
        }
        return Ok(());
    }
    files.insert(name.to_owned(), hash_file(&path)?);
    Ok(())
}

/// Files that hold times by their nature.
fn is_timed(name: &str) -> bool {
    name.starts_with("events.out.") || name.ends_with(".log")
}

/// SHA-256 of a file, in lower-case hex.
///
/// # Errors
/// When it cannot be read.
pub fn hash_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).at(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).at(path)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

/// SHA-256 over the names and contents of a model folder's files.
///
/// # Errors
/// When one cannot be read.
pub fn hash_folder(folder: &Path) -> Result<String> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).at(folder)? {
        let name = entry.at(folder)?.file_name().to_string_lossy().into_owned();
        let wanted = [".json", ".safetensors", ".jinja"].iter().any(|end| name.ends_with(end));
        if wanted && folder.join(&name).is_file() {
            hash_into(folder, &name, &mut files)?;
        }
    }
    Ok(hex(&Sha256::digest(serde_json::to_vec(&files)?)))
}

/// SHA-256 of serialised rows.
///
/// # Errors
/// When a row cannot be serialised.
pub fn hash_rows<T: Serialize>(rows: &[T]) -> Result<String> {
    let mut hash = Sha256::new();
    for row in rows {
        hash.update(serde_json::to_vec(row)?);
        hash.update(b"\n");
    }
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).at(path)?;
    serde_json::from_str(&text).map(Some).map_err(|error| Error::file(path, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn write(run: &RunDir, text: &str) -> Result<Made> {
        write_text(&run.path("a.jsonl"), text)?;
        Ok(Made { paths: vec!["a.jsonl".into()], rows: 1, ..Made::default() })
    }

    #[test]
    fn a_finished_stage_is_skipped_until_its_settings_inputs_or_files_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let calls = Cell::new(0);
        let stage = |settings: Value, input: &str| {
            let mut run = RunDir::open(folder.path()).expect("a run");
            let inputs = StageInputs::default().with("data", input);
            run.stage("a", &settings, inputs, |run, _| {
                calls.set(calls.get() + 1);
                write(run, input)
            })
            .expect("made");
        };
        stage(json!(1), "x");
        stage(json!(1), "x");
        assert_eq!(calls.get(), 1);
        stage(json!(2), "x");
        stage(json!(2), "y");
        assert_eq!(calls.get(), 3);
        std::fs::write(folder.path().join("a.jsonl"), "changed").expect("written");
        stage(json!(2), "y");
        assert_eq!(calls.get(), 4, "a changed file is made anew");
        assert_eq!(std::fs::read_to_string(folder.path().join("a.jsonl")).expect("text"), "y");
    }

    /// Stages `a`, then `b` on what `a` wrote; the names of those that were made.
    fn chain(folder: &Path, text: &str, stages: &[&str]) -> Vec<String> {
        let mut run = RunDir::open(folder).expect("a run");
        let made = std::cell::RefCell::new(Vec::new());
        let mut before = String::new();
        for name in stages {
            let inputs = StageInputs::default().with("before", before.clone());
            let file = format!("{name}/rows.jsonl");
            let settings = if *name == "a" { json!(text) } else { json!(0) };
            run.stage(name, &settings, inputs, |run, _| {
                made.borrow_mut().push((*name).to_owned());
                std::fs::create_dir_all(run.path(name)).at(run.path(name))?;
                write_text(&run.path(&file), text)?;
                write_text(&run.path(&format!("{name}/events.out.1")), "times")?;
                Ok(Made { paths: vec![(*name).to_owned()], rows: 1, ..Made::default() })
            })
            .expect("made");
            before = run.hash(&file).expect("a hash");
        }
        run.close().expect("closed");
        made.into_inner()
    }

    #[test]
    fn stages_of_other_settings_are_set_aside_and_taken_back_when_the_settings_return() {
        let folder = tempfile::tempdir().expect("a folder");
        let there = |name: &str| folder.path().join(name).exists();
        assert_eq!(chain(folder.path(), "x", &["a", "b", "c"]), ["a", "b", "c"]);
        assert_eq!(chain(folder.path(), "x", &["a", "b"]), [""; 0], "fewer stages: nothing is made");
        assert!(!there("c") && there("superseded"), "what is not called for does not lie in its place");
        assert_eq!(chain(folder.path(), "y", &["a", "b"]), ["a", "b"]);
        assert_eq!(chain(folder.path(), "x", &["a", "b", "c"]), [""; 0], "nothing that was made is lost");
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("text");
        assert_eq!((text("c/rows.jsonl"), text("c/events.out.1")), ("x".into(), "times".into()));
    }

    #[test]
    fn a_damaged_manifest_says_what_it_is_and_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        chain(folder.path(), "x", &["a"]);
        std::fs::write(folder.path().join("manifest.json"), "{\"schema\": 1,").expect("written");
        let error = RunDir::open(folder.path()).err().expect("refused").to_string();
        assert!(error.contains("manifest.json") && error.contains("remove it"), "{error}");
    }

    #[test]
    fn two_runs_in_one_folder_at_a_time_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = RunDir::open(folder.path()).expect("a run");
        let second = RunDir::open(folder.path()).err().expect("refused").to_string();
        assert!(second.contains("another run"), "{second}");
        drop(first);
        assert!(RunDir::open(folder.path()).is_ok());
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("thesis.tex"), "x").expect("written");
        let error = RunDir::open(folder.path()).err().expect("refused").to_string();
        assert!(error.contains("no run folder"), "{error}");
        assert!(!folder.path().join(".lock").exists());
    }

    #[test]
    fn stages_of_another_run_are_taken_where_the_key_is_the_same() {
        let (a, b) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let mut first = RunDir::open(a.path()).expect("a run");
        first.stage("a", &json!(1), StageInputs::default(), |run, _| write(run, "x")).expect("made");
        let mut second = RunDir::open(b.path()).expect("a run");
        assert!(!second.reuse(a.path(), "a", &json!(2), &StageInputs::default()).expect("asked"));
        assert!(second.reuse(a.path(), "a", &json!(1), &StageInputs::default()).expect("asked"));
        assert_eq!(second.finished("a"), first.finished("a"));
    }

    #[test]
    fn leftovers_of_a_killed_run_are_swept() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(RunDir::open(folder.path()).expect("a run"));
        let left = folder.path().join(".tmpAbC123");
        std::fs::write(&left, "half").expect("written");
        drop(RunDir::open(folder.path()).expect("a run"));
        assert!(!left.exists());
    }
}
