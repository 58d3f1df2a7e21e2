//! Text that people hand in: UTF-8, with or without the byte order mark that some editors put first.

use std::fs::File;
use std::io::{BufReader, Chain, Cursor, Read};
use std::path::Path;

use sipf_plugin::text::without_mark;

use crate::error::{AtPath, Error, Result};

/// A file from behind its byte order mark.
pub type Reader = BufReader<Chain<Cursor<Vec<u8>>, File>>;

/// Opens a file to be read a line at a time.
///
/// # Errors
/// When it cannot be opened or read.
pub fn open(path: &Path) -> Result<Reader> {
    const MARK: &[u8] = "\u{feff}".as_bytes();
    let mut file = File::open(path).at(path)?;
    let mut start = Vec::new();
    file.by_ref().take(MARK.len() as u64).read_to_end(&mut start).at(path)?;
    if start == MARK {
        start.clear();
    }
    Ok(BufReader::new(Cursor::new(start).chain(file)))
}

/// A whole file.
///
/// # Errors
/// When it cannot be read or is no UTF-8.
pub fn read(path: &Path) -> Result<String> {
    let text = String::from_utf8(std::fs::read(path).at(path)?)
        .map_err(|error| Error::file(path, format!("is not UTF-8 ({})", error.utf8_error())))?;
    Ok(match without_mark(&text) {
        rest if rest.len() < text.len() => rest.to_owned(),
        _ => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        for (bytes, text) in
            [("\u{feff}a\nb", "a\nb"), ("a", "a"), ("", ""), ("\u{feff}", ""), ("a\u{feff}", "a\u{feff}")]
        {
            std::fs::write(&path, bytes).expect("written");
            assert_eq!(read(&path).expect("text"), text);
            let mut streamed = String::new();
            open(&path).expect("open").read_to_string(&mut streamed).expect("text");
            assert_eq!(streamed, text);
        }
        std::fs::write(&path, b"a\xff").expect("written");
        assert!(read(&path).expect_err("not text").to_string().contains("file: is not UTF-8"));
    }
}
