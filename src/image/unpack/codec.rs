//! The names of the compressions, and what their decoders share.
//!
//! The list is that of `lib/Kconfig`/`init/Kconfig` (`KERNEL_GZIP` … `KERNEL_ZSTD`) and of
//! `scripts/Makefile.lib` (`cmd_gzip` … `cmd_zstd22_with_size`), which says how each is called.

use std::fmt;
use std::io::{ErrorKind, Read};

use crate::error::{Error, Result};
use crate::image::source::UnpackBuffer;

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

    pub(super) fn corrupt(self, offset: usize, why: impl fmt::Display) -> Error {
        Error::image(format!("{self} data is corrupt: {why}")).at_offset(offset as u64)
    }

    pub(super) fn truncated(self, offset: usize) -> Error {
        Error::image(format!("{self} data ends early")).at_offset(offset as u64)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why [`read_all`] stopped before the end.
pub(super) enum Stop {
    Full(Error),
    Decoder(std::io::Error),
}

/// Runs a decoder that is a reader to its end.
pub(super) fn read_all(decoder: &mut impl Read, memory: &mut UnpackBuffer) -> std::result::Result<(), Stop> {
    loop {
        match decoder.read(memory.spare().map_err(Stop::Full)?) {
            Ok(0) => return Ok(()),
            Ok(n) => memory.advance(n),
            Err(error) => return Err(Stop::Decoder(error)),
        }
    }
}

/// Turns what is left of the input and how the reading ended into this room's result.
pub(super) fn finish(
    compression: Compression,
    input: &[u8],
    rest: &[u8],
    result: std::result::Result<(), Stop>,
) -> Result<usize> {
    let consumed = input.len().saturating_sub(rest.len());
    match result {
        Ok(()) => Ok(consumed),
        Err(Stop::Full(error)) => Err(error),
        Err(Stop::Decoder(error)) if error.kind() == ErrorKind::UnexpectedEof => Err(compression.truncated(consumed)),
        Err(Stop::Decoder(error)) => Err(compression.corrupt(consumed, error)),
    }
}
