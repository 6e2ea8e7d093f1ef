//! Compressed lines in memory.

use std::io::{self, BufWriter, IntoInnerError, Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

/// So much is compressed at once. The compressor, ten times as large, lives only meanwhile.
const BLOCK: usize = 32 << 10;

/// Text that is written once and read seldom: gzip in pieces, and what does not fill a piece yet.
#[derive(Debug, Default)]
pub struct Log {
    pieces: Vec<Box<[u8]>>,
    size: usize,
    open: Vec<u8>,
}

impl Log {
    /// How many bytes the finished pieces take.
    pub fn size(&self) -> usize {
        self.size
    }

    /// All of it as gzip, appended to `file`.
    ///
    /// # Errors
    ///
    /// None are to be expected, because everything is in memory.
    pub fn append_to(&self, file: &mut Vec<u8>) -> io::Result<()> {
        for piece in &self.pieces {
            file.extend_from_slice(piece);
        }
        if !self.open.is_empty() {
            file.extend_from_slice(&compress(|gzip| gzip.write_all(&self.open))?);
        }
        Ok(())
    }

    fn close_piece(&mut self) -> io::Result<()> {
        let piece = compress(|gzip| gzip.write_all(&self.open))?.into_boxed_slice();
        self.size += piece.len();
        self.pieces.push(piece);
        self.open.clear();
        Ok(())
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.open.len());
        self.open.extend_from_slice(&bytes[..taken]);
        if self.open.len() == BLOCK {
            self.close_piece()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `write` writes, as gzip. The text is nowhere in memory as a whole.
///
/// # Errors
///
/// Those of `write`; none else are to be expected, because everything is in memory.
pub fn compress(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut writer = BufWriter::new(encoder);
    write(&mut writer)?;
    let encoder = writer.into_inner().map_err(IntoInnerError::into_error)?;
    let mut gzip = encoder.finish()?;
    gzip.shrink_to_fit();
    Ok(gzip)
}

/// The text of gzip, in one piece or several; no more than `limit` bytes of it.
///
/// # Errors
///
/// If it is damaged or ends too soon, or there is more.
pub fn decompress(gzip: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = MultiGzDecoder::new(gzip).take(limit + 1).read_to_end(&mut text)?;
    if read as u64 > limit {
        return Err(io::Error::other(format!("there are more than {} MiB in it", limit >> 20)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_however_it_was_cut() {
        let mut log = Log::default();
        let line = b"a line that comes again and again, with a number\n".repeat(40);
        for _ in 0..100 {
            log.write_all(&line).unwrap();
        }
        let mut file = Vec::new();
        log.append_to(&mut file).unwrap();
        assert!(log.size() > 0 && file.len() < line.len() * 10, "{}", file.len());
        assert_eq!(decompress(&file, 1 << 20).unwrap(), line.repeat(100));
        assert!(decompress(&file, 1000).is_err());
        assert!(decompress(&file[..file.len() - 9], 1 << 20).is_err());
    }
}
