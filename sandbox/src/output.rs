//! Standard output and standard error of an instance: counted, the beginning kept, cut off at the limit.

use std::sync::{Arc, Mutex, PoisonError};

use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

use crate::limits::KEPT_OUTPUT;

/// More was printed than allowed.
#[derive(Debug, thiserror::Error)]
#[error("printed more than allowed")]
pub(crate) struct Flooded;

/// What an instance printed; clones share it.
#[derive(Clone)]
pub(crate) struct Printed {
    limit: u64,
    inner: Arc<Mutex<(Vec<u8>, u64)>>,
}

impl Printed {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, inner: Arc::default() }
    }

    /// As if nothing was printed.
    pub(crate) fn clear(&self) {
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = (Vec::new(), 0);
    }

    /// The beginning of the output as text.
    pub(crate) fn text(&self) -> String {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&inner.0).into_owned()
    }
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl OutputStream for Printed {
    fn write(&mut self, bytes: bytes::Bytes) -> Result<(), StreamError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.1 += bytes.len() as u64;
        let room = KEPT_OUTPUT.min(usize::try_from(self.limit).unwrap_or(KEPT_OUTPUT)) - inner.0.len();
        inner.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if inner.1 > self.limit {
            return Err(StreamError::Trap(wasmtime::Error::new(Flooded)));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(1 << 16)
    }
}
