//! TensorBoard's event files: scalars in the TFRecord framing, written without protobuf or TensorFlow.
//!
//! A record is its length (u64), a checksum of the length, the bytes and a checksum of the bytes; checksums are CRC-32C,
//! rotated and offset. The bytes are an `Event` message of tensorflow/core/util/event.proto. Event files are the only
//! output that holds times.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::{AtPath, Result};

/// An event file that grows.
pub(super) struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// A new event file in `folder`, for steps from `first` on: TensorBoard drops later steps of earlier files there.
    pub(super) fn create(folder: &Path, first: usize) -> Result<Self> {
        let stamp = now();
        let name = |number: u32| format!("events.out.tfevents.{:010}.{number}.sipf", stamp as u64);
        let mut number = 0;
        while folder.join(name(number)).exists() {
            number += 1;
        }
        let path = folder.join(name(number));
        let file = File::create(&path).at(&path)?;
        let mut events = Self { file, path };
        let mut version = double(1, stamp);
        bytes_field(&mut version, 3, b"brain.Event:2");
        events.record(&version)?;
        if first > 0 {
            // SessionLog { status: START }.
            let mut start = double(1, stamp);
            varint_field(&mut start, 2, first as u64);
            bytes_field(&mut start, 7, &[0x08, 0x01]);
            events.record(&start)?;
        }
        Ok(events)
    }

    /// Every number of a line of metrics but its step.
    pub(super) fn write(&mut self, step: usize, line: &Map<String, Value>) -> Result<()> {
        let mut summary = Vec::new();
        for (name, value) in line.iter().filter(|(name, _)| *name != "step") {
            let Some(value) = value.as_f64() else { continue };
            let mut scalar = Vec::new();
            // TRL's names under the prefixes that TensorBoard groups by.
            let (group, name) = match name.strip_prefix("eval_") {
                Some(name) => ("eval", name),
                None => ("train", name.as_str()),
            };
            bytes_field(&mut scalar, 1, format!("{group}/{name}").as_bytes());
            scalar.push(0x15);
            scalar.extend((value as f32).to_le_bytes());
            bytes_field(&mut summary, 1, &scalar);
        }
        let mut event = double(1, now());
        varint_field(&mut event, 2, step as u64);
        bytes_field(&mut event, 5, &summary);
        self.record(&event)
    }

    fn record(&mut self, bytes: &[u8]) -> Result<()> {
        let length = (bytes.len() as u64).to_le_bytes();
        let mut whole = Vec::with_capacity(bytes.len() + 16);
        whole.extend(length);
        whole.extend(masked(&length).to_le_bytes());
        whole.extend(bytes);
        whole.extend(masked(bytes).to_le_bytes());
        self.file.write_all(&whole).at(&self.path)
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

fn double(field: u8, value: f64) -> Vec<u8> {
    let mut out = vec![field << 3 | 1];
    out.extend(value.to_le_bytes());
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_field(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    varint(out, value);
}

fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected, bit by bit: lines of metrics are short.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnoli_s() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa); // RFC 3720, B.4
    }

    #[test]
    fn records_can_be_taken_apart_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut events = EventFile::create(folder.path(), 3).expect("a file");
        let line = serde_json::json!({"step": 300, "loss": 1.5, "eval_loss": 2.0, "name": "x"});
        events.write(300, line.as_object().expect("an object")).expect("written");
        let bytes = std::fs::read(&events.path).expect("bytes");
        let (mut at, mut records) = (0, Vec::new());
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight")) as usize;
            let sum = |from: usize| u32::from_le_bytes(bytes[from..from + 4].try_into().expect("four"));
            assert_eq!(sum(at + 8), masked(&bytes[at..at + 8]));
            let record = &bytes[at + 12..at + 12 + length];
            assert_eq!(sum(at + 12 + length), masked(record));
            records.push(record.to_vec());
            at += length + 16;
        }
        assert_eq!(records.len(), 3);
        let last = &records[2];
        assert_eq!(last[9..12], [0x10, 0xac, 0x02], "step 300 as a varint");
        for (tag, value) in [("train/loss", 1.5_f32), ("eval/loss", 2.0)] {
            let at = last.windows(tag.len()).position(|window| window == tag.as_bytes()).expect("the tag");
            assert_eq!(last[at + tag.len()], 0x15);
            assert_eq!(last[at + tag.len() + 1..][..4], value.to_le_bytes());
        }
        assert!(!last.windows(10).any(|window| window == b"train/name"));
    }
}
