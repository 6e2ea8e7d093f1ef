//! Pictures as a browser writes them: PNG of eight bits, not interlaced.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::io::Read;

use flate2::read::ZlibDecoder;

/// A picture.
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Bytes of a pixel: 3 or 4.
    depth: usize,
    bytes: Vec<u8>,
}

impl Picture {
    /// Reads one (the PNG specification, third edition, sections 5, 9 and 10).
    pub(crate) fn read(file: &[u8]) -> Self {
        let mut rest = file.strip_prefix(b"\x89PNG\r\n\x1a\n").unwrap();
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap()) as usize;
        let (mut header, mut packed) = ([0; 13], Vec::new());
        while !rest.is_empty() {
            let (length, kind) = (number(&rest[..4]), &rest[4..8]);
            let data = &rest[8..8 + length];
            match kind {
                b"IHDR" => header.copy_from_slice(data),
                b"IDAT" => packed.extend_from_slice(data),
                _ => {}
            }
            rest = &rest[12 + length..];
        }
        let (width, height) = (number(&header[..4]), number(&header[4..8]));
        let depth = match header[8..] {
            [8, 2, 0, 0, 0] => 3,
            [8, 6, 0, 0, 0] => 4,
            ref other => panic!("this kind of PNG is not read: {other:?}"),
        };
        let mut bytes = Vec::new();
        ZlibDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        Self { width, height, depth, bytes: unfiltered(&bytes, width * depth, depth) }
    }

    /// Red, green and blue.
    pub(crate) fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        assert!(x < self.width && y < self.height, "{x} {y}");
        let start = (y * self.width + x) * self.depth;
        self.bytes[start..start + 3].try_into().unwrap()
    }
}

fn unfiltered(bytes: &[u8], row: usize, depth: usize) -> Vec<u8> {
    let mut above = vec![0; row];
    let mut out = Vec::new();
    for line in bytes.chunks(row + 1) {
        let (filter, line) = (line[0], &line[1..]);
        let mut now = vec![0; row];
        for n in 0..row {
            let (left, corner) =
                if n < depth { (0, 0) } else { (now[n - depth], above[n - depth]) };
            let guess = match filter {
                0 => 0,
                1 => left,
                2 => above[n],
                3 => ((u16::from(left) + u16::from(above[n])) / 2) as u8,
                _ => paeth(left, above[n], corner),
            };
            now[n] = line[n].wrapping_add(guess);
        }
        out.extend_from_slice(&now);
        above = now;
    }
    out
}

fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let [a, b, c] = [left, above, corner].map(i16::from);
    let guess = a + b - c;
    let far = |value: i16| (guess - value).abs();
    if far(a) <= far(b) && far(a) <= far(c) {
        left
    } else if far(b) <= far(c) {
        above
    } else {
        corner
    }
}
