//! A task written as one Python file, run by the sandbox's interpreter: no compiler, no trust.

use std::path::Path;

use sipf_plugin::text::without_mark;
use sipf_sandbox::PythonTask;

use crate::error::{Error, Result};
use crate::transport::{Kind, MAX_REPLY, Transport};

/// A loaded task file.
pub struct Python {
    task: PythonTask,
}

impl Python {
    /// Runs the file once in the interpreter.
    ///
    /// # Errors
    /// When the file cannot be read, does not run, or is no task; with Python's own message.
    pub fn load(path: &Path) -> Result<Self> {
        let source = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
        let task = PythonTask::load(without_mark(&source))
            .map_err(|error| Error::refused(path, error.to_string()))?;
        Ok(Self { task })
    }
}

impl Transport for Python {
    fn call(&self, request: &[u8]) -> std::result::Result<(i32, Vec<u8>), String> {
        let (status, reply) = self.task.call(request).map_err(|error| error.to_string())?;
        match reply.len() <= MAX_REPLY {
            true => Ok((status, reply)),
            false => Err(format!("a reply of {} bytes is over the limit of {MAX_REPLY}", reply.len())),
        }
    }

    fn kind(&self) -> Kind {
        Kind::Python
    }
}
