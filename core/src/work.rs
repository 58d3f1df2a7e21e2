//! How a stage works through its units (questions, paths): in fixed pieces, each written to a journal when it is done,
//! so that a stage that was stopped goes on where it was.
//!
//! The journal lies beside the stage's file and goes when the file is there. Its first line names what the stage was made
//! from; a journal of anything else is thrown away. Results are in the order of the units whatever order they came in.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{AtPath, Error, Result};
use crate::progress::Progress;

/// What one unit gave: its rows, and what they cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unit<T> {
    /// Rows of the stage's file.
    pub rows: Vec<T>,
    /// Tokens drawn for it.
    #[serde(default)]
    pub tokens: u64,
}

/// How to go through the units.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The stage's file; the journal lies beside it.
    pub file: &'a Path,
    /// What the stage is made from: a journal with another key is not gone on with.
    pub key: &'a str,
    /// How many units.
    pub units: usize,
    /// Units of a piece. Fixed by the settings, never by the machine.
    pub piece: usize,
    /// Pieces in flight: with two, programs are judged while the next piece generates.
    pub lanes: usize,
}

/// Where a stage writes, and how wide it may work. The stage itself knows its units.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The stage's file; the journal lies beside it.
    pub file: &'a Path,
    /// What the stage is made from: a journal with another key is not gone on with.
    pub key: &'a str,
    /// Pieces in flight.
    pub lanes: usize,
}

impl<'a> Target<'a> {
    /// The plan for so many units.
    pub fn plan(self, units: usize, piece: usize) -> Plan<'a> {
        Plan { file: self.file, key: self.key, units, piece, lanes: self.lanes }
    }
}

/// The journal of a stage's file.
pub fn journal_path(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".journal");
    file.with_file_name(name)
}

/// Works through all units and gives their results in order. `make(range)` gives one [`Unit`] for each unit of a piece; it
/// is called from as many threads as there are lanes. Nothing is written but the journal: the caller writes the stage's
/// file and then calls [`finish`].
///
/// # Errors
/// [`Error::Interrupted`] once `stop` is set (what is done is in the journal), what `make` said, or that the journal
/// cannot be written.
pub fn through<T: Serialize + DeserializeOwned + Send>(
    plan: &Plan<'_>,
    stop: &AtomicBool,
    progress: &Progress,
    make: &(dyn Fn(Range<usize>) -> Result<Vec<Unit<T>>> + Sync),
) -> Result<Vec<Unit<T>>> {
    let (journal, known) = Journal::open(&journal_path(plan.file), plan.key)?;
    let mut done: BTreeMap<usize, Unit<T>> = known;
    done.retain(|number, _| *number < plan.units);
    progress.advance_to(done.len() as u64);
    let pieces: Vec<Range<usize>> = (0..plan.units)
        .step_by(plan.piece.max(1))
        .map(|from| from..(from + plan.piece.max(1)).min(plan.units))
        .filter(|piece| piece.clone().any(|unit| !done.contains_key(&unit)))
        .collect();
    let next = AtomicUsize::new(0);
    let shared = Mutex::new((journal, done, None::<Error>));
    let lane = || {
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            let failed = lock(&shared).2.is_some();
            if failed || stop.load(Ordering::Relaxed) {
                return;
            }
            let made = make(piece.clone());
            let mut shared = lock(&shared);
            let (journal, done, error) = &mut *shared;
            let add = |units| journal.add(piece.start, units).map_err(|why| unwritten(done.len(), plan, why));
            match made.and_then(add) {
                Ok(units) => {
                    progress
                        .add(units.iter().filter(|(number, _)| !done.contains_key(number)).count() as u64);
                    done.extend(units);
                }
                Err(failure) => {
                    // Of several, the one that says more than "interrupted".
                    if error.as_ref().is_none_or(|known| matches!(known, Error::Interrupted)) {
                        *error = Some(failure);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..plan.lanes.max(1) {
            scope.spawn(lane);
        }
        lane();
    });
    let (_, done, error) = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    match error {
        Some(error) => Err(error),
        None if done.len() < plan.units => Err(Error::Interrupted),
        None => Ok(done.into_values().collect()),
    }
}

/// The journal takes nothing more, a full disk for example: what it holds is not lost.
fn unwritten(done: usize, plan: &Plan<'_>, why: Error) -> Error {
    Error::EndedEarly {
        after: format!("{done} of {} done", plan.units),
        kept: "make room and give the same command again: it goes on from there".into(),
        source: Box::new(why),
    }
}

/// Removes the journal of a file that is finished.
///
/// # Errors
/// When it cannot be removed.
pub fn finish(file: &Path) -> Result<()> {
    let journal = journal_path(file);
    match std::fs::remove_file(&journal) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at(&journal),
        _ => Ok(()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Journal {
    path: PathBuf,
    file: File,
}

#[derive(Deserialize)]
struct Line<T> {
    unit: usize,
    #[serde(flatten)]
    result: Unit<T>,
}

impl Journal {
    /// Opens a journal of this key and reads what is done; a torn last line is cut off.
    fn open<T: DeserializeOwned>(path: &Path, key: &str) -> Result<(Self, BTreeMap<usize, Unit<T>>)> {
        let mut done = BTreeMap::new();
        let head = format!("{}\n", json!({ "key": key }));
        let mut whole = 0;
        if path.is_file() {
            let mut reader = BufReader::new(File::open(path).at(path)?);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                let fits = match whole {
                    0 => line == head,
                    _ if !line.ends_with('\n') => false,
                    _ => match serde_json::from_str::<Line<T>>(&line) {
                        Ok(row) => {
                            done.insert(row.unit, row.result);
                            true
                        }
                        Err(_) => false,
                    },
                };
                if !fits {
                    break;
                }
                whole += line.len() as u64;
                line.clear();
            }
        }
        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(path).at(path)?;
        file.set_len(whole).at(path)?;
        file.seek(std::io::SeekFrom::End(0)).at(path)?;
        if whole == 0 {
            file.write_all(head.as_bytes()).at(path)?;
        }
        Ok((Self { path: path.to_path_buf(), file }, done))
    }

    /// Writes what a piece gave, and reads it back: a number that went through text may differ from the one before in its
    /// last bit, and a stage that was stopped has only what it read.
    fn add<T: Serialize + DeserializeOwned>(
        &mut self,
        first: usize,
        units: Vec<Unit<T>>,
    ) -> Result<Vec<(usize, Unit<T>)>> {
        let (mut text, mut numbered) = (Vec::new(), Vec::new());
        for (number, unit) in (first..).zip(units) {
            let line = json!({ "unit": number, "rows": unit.rows, "tokens": unit.tokens }).to_string();
            let read: Line<T> = serde_json::from_str(&line)?;
            numbered.push((read.unit, read.result));
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        self.file.write_all(&text).at(&self.path)?;
        Ok(numbered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squares(range: Range<usize>) -> Result<Vec<Unit<usize>>> {
        Ok(range.map(|n| Unit { rows: vec![n * n], tokens: n as u64 }).collect())
    }

    #[test]
    fn a_stopped_stage_goes_on_where_it_was_and_gives_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("squares.jsonl");
        let plan = Plan { file: &file, key: "a", units: 25, piece: 4, lanes: 1 };
        let (calls, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let counted = |range: Range<usize>| {
            if calls.fetch_add(1, Ordering::Relaxed) == 2 {
                stop.store(true, Ordering::Relaxed);
            }
            squares(range)
        };
        let first = through(&plan, &stop, &Progress::quiet(), &counted);
        assert!(matches!(first, Err(Error::Interrupted)));
        // As after a kill in the middle of a line.
        let journal = journal_path(&file);
        let mut text = std::fs::read(&journal).expect("a journal");
        text.extend_from_slice(b"{\"unit\":12,\"ro");
        std::fs::write(&journal, text).expect("written");
        let again = Plan { lanes: 2, ..plan };
        let done = through(&again, &AtomicBool::new(false), &Progress::quiet(), &counted).expect("results");
        assert_eq!(
            done.iter().map(|unit| unit.rows[0]).collect::<Vec<_>>(),
            (0..25).map(|n| n * n).collect::<Vec<_>>()
        );
        assert_eq!(calls.load(Ordering::Relaxed), 7, "three pieces were there already");
        finish(&file).expect("removed");
        assert!(!journal.exists());
    }

    #[test]
    fn a_journal_of_other_settings_is_thrown_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("squares.jsonl");
        let plan = Plan { file: &file, key: "a", units: 3, piece: 2, lanes: 1 };
        through(&plan, &AtomicBool::new(false), &Progress::quiet(), &squares).expect("results");
        let calls = AtomicUsize::new(0);
        let counted = |range: Range<usize>| {
            calls.fetch_add(1, Ordering::Relaxed);
            squares(range)
        };
        let other = Plan { key: "b", ..plan };
        through(&other, &AtomicBool::new(false), &Progress::quiet(), &counted).expect("results");
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}
