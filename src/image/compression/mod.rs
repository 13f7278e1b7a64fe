//! The compressions a kernel may be packed with: one file a format, all of them `(input, memory) → bytes consumed`.
//!
//! The list is that of `lib/Kconfig`/`init/Kconfig` (`KERNEL_GZIP` … `KERNEL_ZSTD`) and of
//! `scripts/Makefile.lib` (`cmd_gzip` … `cmd_zstd22_with_size`), which says how each is called.

mod gzip;
mod lz4;
mod lzo;
mod xz;
mod zstd;

use std::fmt;
use std::io::{ErrorKind, Read};

use super::source::Memory;
use crate::error::{Error, Result};

/// How a kernel is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// `gzip -n -f -9`.
    Gzip,
    /// `bzip2 -9`.
    Bzip2,
    /// `lzma -9`: the `.lzma` ("alone") format that came before xz.
    Lzma,
    /// `xz --check=crc32 --x86 --lzma2=…`.
    Xz,
    /// `lzop -9`.
    Lzo,
    /// `lz4 -l -9`: the legacy frame format.
    Lz4,
    /// `zstd -22 --ultra`.
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Compression; 7] = [
        Compression::Gzip,
        Compression::Bzip2,
        Compression::Lzma,
        Compression::Xz,
        Compression::Lzo,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// The name of the command that undoes it.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Bzip2 => "bzip2",
            Compression::Lzma => "lzma",
            Compression::Xz => "xz",
            Compression::Lzo => "lzo",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// The compression whose stream these bytes begin, from the magic.
    pub fn detect(bytes: &[u8]) -> Option<Compression> {
        // Patterns, so that a search which asks at every offset of a file is decided by the first byte.
        Some(match *bytes {
            // RFC 1952: magic, then method 8, the only one ever defined.
            [0x1f, 0x8b, 8, ..] => Compression::Gzip,
            // The block size, then the first block's magic (pi in BCD).
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Compression::Bzip2,
            [0x5d, ..] if xz::begins_lzma(bytes) => Compression::Lzma,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [0x89, ..] if bytes.starts_with(&lzo::MAGIC) => Compression::Lzo,
            // 0x184C2102 and 0xFD2FB528, little-endian.
            [0x02, 0x21, 0x4c, 0x18, ..] => Compression::Lz4,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            _ => return None,
        })
    }

    /// Whether a stream of this kind that starts here runs its data through the x86 branch filter first.
    pub(super) fn has_bcj(self, stream: &[u8]) -> bool {
        self == Compression::Xz && xz::has_x86_filter(stream)
    }

    /// The unpacked size that a whole payload declares: gzip keeps it in its own last four bytes, behind the others the
    /// kernel's build appends it (`size_append` in `scripts/Makefile.lib`). Nobody vouches for it.
    pub(super) fn declared_size(self, payload: &[u8]) -> Option<usize> {
        let last = || Some(u64::from(u32::from_le_bytes(*payload.last_chunk()?)));
        let size = match self {
            Compression::Zstd => zstd::content_size(payload).or_else(last),
            _ => last(),
        };
        usize::try_from(size?).ok()
    }

    /// Unpacks the stream at the start of `input` to the end of `memory`; returns how much of `input` it took.
    pub(super) fn unpack(self, input: &[u8], memory: &mut Memory) -> Result<usize> {
        match self {
            Compression::Gzip => gzip::unpack(input, memory),
            Compression::Bzip2 => {
                let mut decoder = bzip2::bufread::BzDecoder::new(input);
                let result = read_all(&mut decoder, memory);
                finish(self, input, decoder.into_inner(), result)
            }
            Compression::Lzma => xz::unpack_lzma(input, memory),
            Compression::Xz => xz::unpack_xz(input, memory),
            Compression::Lzo => lzo::unpack(input, memory),
            Compression::Lz4 => lz4::unpack(input, memory),
            Compression::Zstd => zstd::unpack(input, memory),
        }
    }

    fn corrupt(self, offset: usize, why: impl fmt::Display) -> Error {
        Error::image(format!("{self} data is corrupt: {why}")).at_offset(offset as u64)
    }

    fn truncated(self, offset: usize) -> Error {
        Error::image(format!("{self} data ends early")).at_offset(offset as u64)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why [`read_all`] stopped before the end.
enum Stop {
    Full(Error),
    Decoder(std::io::Error),
}

/// Runs a decoder that is a reader to its end.
fn read_all(decoder: &mut impl Read, memory: &mut Memory) -> std::result::Result<(), Stop> {
    loop {
        match decoder.read(memory.spare().map_err(Stop::Full)?) {
            Ok(0) => return Ok(()),
            Ok(n) => memory.advance(n),
            Err(error) => return Err(Stop::Decoder(error)),
        }
    }
}

/// Turns what is left of the input and how the reading ended into this room's result.
fn finish(compression: Compression, input: &[u8], rest: &[u8], result: std::result::Result<(), Stop>) -> Result<usize> {
    let consumed = input.len().saturating_sub(rest.len());
    match result {
        Ok(()) => Ok(consumed),
        Err(Stop::Full(error)) => Err(error),
        Err(Stop::Decoder(error)) if error.kind() == ErrorKind::UnexpectedEof => Err(compression.truncated(consumed)),
        Err(Stop::Decoder(error)) => Err(compression.corrupt(consumed, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magics_tell_the_formats_apart() {
        assert_eq!(Compression::detect(&[0x1f, 0x8b, 8, 0]), Some(Compression::Gzip));
        assert_eq!(Compression::detect(b"BZh91AY&SY"), Some(Compression::Bzip2));
        assert_eq!(Compression::detect(b"BZh9 not bzip2"), None);
        assert_eq!(Compression::detect(&[0xfd, b'7', b'z', b'X', b'Z', 0]), Some(Compression::Xz));
        assert_eq!(Compression::detect(&[0x02, 0x21, 0x4c, 0x18]), Some(Compression::Lz4));
        assert_eq!(Compression::detect(&[0x28, 0xb5, 0x2f, 0xfd]), Some(Compression::Zstd));
        assert_eq!(Compression::detect(b"\x89LZO\0\r\n\x1a\n"), Some(Compression::Lzo));
        assert_eq!(Compression::detect(b""), None);
        assert_eq!(Compression::detect(b"\x7fELF"), None);
    }
}
