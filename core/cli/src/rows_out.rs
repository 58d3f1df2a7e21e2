//! Rows on their way to a file, which appears when all of them are there.
//!
//! Until then they stand in a hidden file beside it, named by what they are made from: the same command, given again
//! after it was stopped, goes on where that file ends. A device or a pipe is written at once.

use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use crate::exit::{self, EndedEarly};
use crate::writable;

/// The end of an unfinished file's name.
const UNFINISHED: &str = ".part";
/// Stands for the key of rows that begin anew.
const KEYLESS: &str = "new";

/// An open `--out`.
pub(crate) struct RowsOut {
    file: BufWriter<File>,
    /// Where the rows stand until they are whole; a device has no such place.
    unfinished: Option<PathBuf>,
    out: PathBuf,
}

impl RowsOut {
    /// Opens `--out`. `key` says what the rows are made from, in letters that a file name may hold; `earlier` is handed
    /// the rows that a stopped command of the same key has left, in their order. Without a key the rows begin anew.
    ///
    /// # Errors
    /// When the file cannot be made, another command is writing it, or `earlier` refuses a row.
    pub(crate) fn open(
        out: &Path,
        key: Option<&str>,
        earlier: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        writable::file("--out", out)?;
        Self::opened(out, key, earlier).with_context(|| format!("--out {}", out.display()))
    }

    fn opened(
        out: &Path,
        key: Option<&str>,
        mut earlier: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        if out.exists() && !out.is_file() {
            let file = BufWriter::new(File::create(out)?);
            return Ok(Self { file, unfinished: None, out: out.to_owned() });
        }
        let path = beside(out, key.unwrap_or(KEYLESS))?;
        let mut file = File::options().create(true).read(true).write(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => anyhow::bail!("another command is writing it"),
            // A file system without locks is no reason to refuse the work.
            Err(TryLockError::Error(_)) => {}
        }
        let mut whole = 0;
        let mut rows = BufReader::new(&file);
        let mut row = String::new();
        // The last row may be torn: it ends without a line feed, or in half a character.
        while key.is_some() && rows.read_line(&mut row).is_ok_and(|read| read > 0) && row.ends_with('\n') {
            earlier(row.trim_end())?;
            whole += row.len() as u64;
            row.clear();
        }
        file.set_len(whole)?;
        file.seek(SeekFrom::Start(whole))?;
        Ok(Self { file: BufWriter::new(file), unfinished: Some(path), out: out.to_owned() })
    }

    /// Adds a row; it is safe after the next [`Self::flush`].
    pub(crate) fn write(&mut self, row: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(row)?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(|error| self.ended(error))
    }

    /// Hands what was written to the system.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        self.file.flush().map_err(|error| self.ended(error))
    }

    /// The file takes nothing more: work that had begun ends early.
    fn ended(&self, error: std::io::Error) -> anyhow::Error {
        EndedEarly(exit::unwritten(error, &format!("--out {}", self.out.display()))).into()
    }

    /// Where the rows stand that are there so far.
    pub(crate) fn place(&self) -> &Path {
        self.unfinished.as_deref().unwrap_or(&self.out)
    }

    /// Puts the whole file in its place and removes what stopped commands of other keys left.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.flush()?;
        let Some(unfinished) = &self.unfinished else { return Ok(()) };
        let say = || format!("--out {}", self.out.display());
        std::fs::rename(unfinished, &self.out).with_context(say)?;
        for stale in left_beside(&self.out) {
            let _ = std::fs::remove_file(stale);
        }
        Ok(())
    }
}

fn folder_of(out: &Path) -> &Path {
    out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(out: &Path, key: &str) -> anyhow::Result<PathBuf> {
    let name = out.file_name().context("names no file")?.to_string_lossy();
    Ok(folder_of(out).join(format!(".{name}.{key}{UNFINISHED}")))
}

fn left_beside(out: &Path) -> Vec<PathBuf> {
    let Some(name) = out.file_name().map(|name| format!(".{}.", name.to_string_lossy())) else {
        return vec![];
    };
    let entries = std::fs::read_dir(folder_of(out)).into_iter().flatten().flatten();
    let ours = |path: &PathBuf| {
        let found = path.file_name().unwrap_or_default().to_string_lossy();
        found
            .strip_prefix(&name)
            .and_then(|rest| rest.strip_suffix(UNFINISHED))
            .is_some_and(|key| !key.is_empty() && key.chars().all(|letter| letter.is_ascii_alphanumeric()))
    };
    entries.map(|entry| entry.path()).filter(ours).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(out: &Path, key: &str) -> (RowsOut, Vec<String>) {
        let mut earlier = Vec::new();
        let rows = RowsOut::open(out, Some(key), |row| {
            earlier.push(row.to_owned());
            Ok(())
        });
        (rows.expect("opened"), earlier)
    }

    #[test]
    fn the_same_command_goes_on_behind_the_last_whole_row_and_another_starts_anew() {
        let folder = tempfile::tempdir().expect("folder");
        let out = folder.path().join("out.jsonl");
        let (mut rows, earlier) = open(&out, "a1");
        assert!(earlier.is_empty() && !out.exists());
        rows.write(&1).expect("written");
        rows.write(&2).expect("written");
        rows.flush().expect("flushed");
        let place = rows.place().to_owned();
        assert!(RowsOut::open(&out, Some("a1"), |_| Ok(())).is_err(), "two may not write it at once");
        drop(rows);
        std::fs::write(&place, "1\n2\n{\"tor").expect("torn");
        assert!(open(&out, "b2").1.is_empty());
        let (mut rows, earlier) = open(&out, "a1");
        assert_eq!(earlier, ["1", "2"]);
        rows.write(&3).expect("written");
        rows.finish().expect("finished");
        assert_eq!(std::fs::read_to_string(&out).expect("read"), "1\n2\n3\n");
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 1, "nothing else is left");
    }

    #[test]
    fn a_row_torn_within_a_character_is_cut_off() {
        let folder = tempfile::tempdir().expect("folder");
        let out = folder.path().join("out.jsonl");
        let place = open(&out, "k").0.place().to_owned();
        std::fs::write(&place, b"1\n\"\xc3").expect("torn");
        let (rows, earlier) = open(&out, "k");
        assert_eq!(earlier, ["1"]);
        rows.finish().expect("finished");
        assert_eq!(std::fs::read(&out).expect("read"), b"1\n");
    }
}
