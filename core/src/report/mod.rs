//! The report: one HTML file about a run, made from the files of its folder alone.
//!
//! It needs no network, holds no times (but for [`Options::times`]) and no paths, and treats everything that a model
//! wrote as text. What it reads of a run: `read.rs`; stages that are not there yet are left out.

mod browser;
mod chart;
mod comparison;
mod escape;
mod page;
mod read;
mod sections;
mod statistics;

use std::io::Write;
use std::path::Path;

use crate::error::{AtPath, Result};

/// What goes into the page beyond the run's results.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Seconds by stage: for a copy outside the run folder, which holds no times.
    pub times: bool,
    /// Every question in the browser, however large the page; otherwise about 16 MB of them.
    pub all_questions: bool,
}

/// The page about a run folder.
///
/// # Errors
/// When it is no run folder, or a file in it cannot be read.
pub fn render(run: &Path, options: &Options) -> Result<String> {
    Ok(page::page(&read::run(run)?, options))
}

/// Writes the page about a run folder to `out`, all at once.
///
/// # Errors
/// As [`render`], or when `out` cannot be written.
pub fn write(run: &Path, out: &Path, options: &Options) -> Result<()> {
    let page = render(run, options)?;
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As any new file; tempfile's own are for their owner alone.
    let open = |name: &Path| std::fs::File::options().write(true).create_new(true).open(name);
    let mut staged = tempfile::Builder::new().make_in(folder, open).at(out)?;
    staged.as_file_mut().write_all(page.as_bytes()).at(out)?;
    staged.persist(out).map(drop).map_err(|error| error.error).at(out)
}
