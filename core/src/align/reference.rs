//! Log-probabilities of pairs under a reference model: computed once, kept in a file.

use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::objective::{halves, score_pairs};
use super::tokens::PairTokens;
use crate::model::{Decoder, Pass, save};
use crate::progress::Progress;
use crate::train::Fingerprint;
use crate::{AtPath, Error, Result};

/// Summed log-probabilities of chosen and rejected completions, one a pair.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reference {
    values: Vec<(f64, f64)>,
    /// Of the model and the pairs.
    print: String,
}

impl Reference {
    /// Given values.
    pub fn of_values(values: Vec<(f64, f64)>) -> Self {
        Self { values, print: String::new() }
    }

    /// Of these pairs under `decoder` as it is now; `batch` pairs a pass.
    ///
    /// # Errors
    /// When the model or the device fails.
    pub fn compute(
        decoder: &Decoder,
        pairs: &[PairTokens],
        batch: usize,
        progress: &Progress,
    ) -> Result<Self> {
        let mut values = Vec::with_capacity(pairs.len());
        for chunk in pairs.chunks(batch.max(1)) {
            let chunk: Vec<&PairTokens> = chunk.iter().collect();
            let scored = score_pairs(decoder, &chunk, false, &Pass::default())?;
            values.extend(halves(&scored)?.iter().map(|(w, l)| (w.completion, l.completion)));
            progress.add(chunk.len() as u64);
        }
        Ok(Self { values, print: fingerprint(decoder, pairs) })
    }

    /// What `file` holds, where it was computed with this model over these pairs; otherwise computed and kept there.
    ///
    /// # Errors
    /// When the model or the device fails, or the file cannot be written.
    pub fn cached(
        file: &Path,
        decoder: &Decoder,
        pairs: &[PairTokens],
        batch: usize,
        progress: &Progress,
    ) -> Result<Self> {
        if let Some(kept) = Self::load(file)?.filter(|kept| kept.print == fingerprint(decoder, pairs)) {
            return Ok(kept);
        }
        let fresh = Self::compute(decoder, pairs, batch, progress)?;
        fresh.save(file)?;
        Ok(fresh)
    }

    /// Chosen and rejected of a pair.
    pub(super) fn of(&self, row: usize) -> (f64, f64) {
        self.values[row]
    }

    /// What it was computed with.
    pub(super) fn print(&self) -> &str {
        &self.print
    }

    fn save(&self, file: &Path) -> Result<()> {
        let bytes = |half: fn(&(f64, f64)) -> f64| -> Vec<u8> {
            self.values.iter().flat_map(|pair| half(pair).to_le_bytes()).collect()
        };
        let (chosen, rejected) = (bytes(|pair| pair.0), bytes(|pair| pair.1));
        let shape = vec![self.values.len()];
        let view = |bytes| {
            TensorView::new(Dtype::F64, shape.clone(), bytes)
                .map_err(|error| Error::file(file, error.to_string()))
        };
        let tensors = [("chosen", view(&chosen)?), ("rejected", view(&rejected)?)];
        let metadata = [("fingerprint".to_owned(), self.print.clone())].into();
        let whole = safetensors::serialize(tensors, Some(metadata))
            .map_err(|error| Error::file(file, error.to_string()))?;
        save::write_bytes(file, &whole)
    }

    /// A file that is damaged counts as not there.
    fn load(file: &Path) -> Result<Option<Self>> {
        if !file.is_file() {
            return Ok(None);
        }
        let bytes = std::fs::read(file).at(file)?;
        Ok(Self::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
        let print = header.metadata().as_ref()?.get("fingerprint")?.clone();
        let tensors = SafeTensors::deserialize(bytes).ok()?;
        let read = |name: &str| -> Option<Vec<f64>> {
            let view = tensors.tensor(name).ok().filter(|view| view.dtype() == Dtype::F64)?;
            Some(view.data().as_chunks::<8>().0.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect())
        };
        let values = read("chosen")?.into_iter().zip(read("rejected")?).collect();
        Some(Self { values, print })
    }
}

fn fingerprint(decoder: &Decoder, pairs: &[PairTokens]) -> String {
    let mut print = Fingerprint::new(&serde_json::json!("reference"));
    print.model(decoder);
    for sequence in pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]) {
        print.ids(&sequence.ids, sequence.completion);
    }
    print.finish()
}
