//! From the file a user has to the ELF file in it.

use std::fmt;

use super::banner;
use super::bzimage::SetupHeader;
use super::carrier;
use super::refusal;
use super::section::Section;
use super::source::{Source, UnpackBuffer};
use super::unpack::Compression;
use crate::error::{Error, Result};

/// First bytes of an ELF file.
pub(super) const ELF_MAGIC: [u8; 4] = *b"\x7fELF";

/// How many places of an image that does not say where its payload is are tried. Enough for any kernel (the payload is
/// the first or second hit), few enough that a hostile file cannot make us unpack all day.
const MAX_CANDIDATES: usize = 16;

/// How many streams one after the other are unpacked as one.
const MAX_STREAMS: usize = 4096;

/// How many packings one in the other are undone: a bzImage in a stream, `vmlinuz.gz`, has two.
const MOST_NESTED: usize = 3;

/// How the error begins where a stream unpacks to something else.
const NO_ELF: &str = "does not hold an ELF file";

/// What kind of file the kernel came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerKind {
    /// An ELF file as it is.
    Elf,
    /// A bzImage: what is installed as `vmlinuz`. Also one in a unified kernel image, or in a stream, and what lies around
    /// its payload without the setup code (`boot/compressed/vmlinux`).
    BzImage,
    /// A compressed ELF file without anything around it: `vmlinux.xz`.
    Stream,
}

/// How the ELF file was packed. Displayed as one word: `elf`, `zstd`, `xz+bcj`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// What kind of file it came in.
    pub kind: ContainerKind,
    /// The compression, `None` if there was none.
    pub compression: Option<Compression>,
    /// Whether branch targets were made absolute before compressing (the x86 filter of xz).
    pub bcj: bool,
    /// Boot protocol of a bzImage: major and minor version.
    pub protocol: Option<(u8, u8)>,
    /// Where the (compressed) ELF file starts in the file.
    pub payload_offset: u64,
    /// How long it is there.
    pub payload_size: u64,
    /// How long it is unpacked, with what follows the ELF file.
    pub unpacked_size: u64,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.compression {
            None => f.write_str("elf"),
            Some(compression) => write!(f, "{compression}{}", if self.bcj { "+bcj" } else { "" }),
        }
    }
}

/// What may stand behind a compressed stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// Nothing, or the unpacked size in four bytes.
    Size,
    /// Anything: the stream was found by its magic, and no header says where it ends.
    Anything,
}

/// How much of a stream that begins so is worth reading: of one that holds no kernel as much as a refusal looks through.
pub(super) fn worth(first: &[u8]) -> usize {
    let kernel =
        first.starts_with(&ELF_MAGIC) || Compression::detect(first).is_some() || SetupHeader::parse(first).is_some();
    if kernel { usize::MAX } else { refusal::OF_A_STREAM }
}

/// Opens the container: the bytes of the ELF file, at most `limit` if they were packed, and what it was in.
pub(super) fn open(source: Source, limit: usize) -> Result<(Source, Container)> {
    let bytes = source.as_slice();
    if is_elf(bytes) {
        let size = bytes.len() as u64;
        let container = Container {
            kind: ContainerKind::Elf,
            compression: None,
            bcj: false,
            protocol: None,
            payload_offset: 0,
            payload_size: size,
            unpacked_size: size,
        };
        return Ok((source, container));
    }
    open_packed(bytes, limit, MOST_NESTED)
}

/// The kernel that the program holds which unpacks it: `arch/x86/boot/compressed/vmlinux` is an ELF file too, and no kernel.
/// `None` where these are the sections of anything else.
pub(super) fn open_decompressor(source: &Source, sections: &[Section], limit: usize) -> Option<(Source, Container)> {
    let range = carrier::in_decompressor(sections)?;
    search(source.as_slice().get(..range.end)?, range.start, limit)?.ok()
}

/// Opens what is no ELF file; `more` packings may be in it.
fn open_packed(bytes: &[u8], limit: usize, more: usize) -> Result<(Source, Container)> {
    let deeper = || more.checked_sub(1).ok_or_else(|| Error::image(format!("is packed more than {MOST_NESTED} times")));
    if let Some(compression) = Compression::detect(bytes) {
        let stream = Stream { compression, payload: bytes, offset: 0, behind: Behind::Size };
        let (source, container) = stream.unpack(ContainerKind::Stream, limit)?;
        if is_elf(source.as_slice()) {
            return Ok((source, container));
        }
        let (source, inner) = open_packed(source.as_slice(), limit, deeper()?)?;
        let Container { payload_offset, payload_size, .. } = container;
        return Ok((source, Container { payload_offset, payload_size, ..inner }));
    }
    let Some(setup) = SetupHeader::parse(bytes) else {
        let Some(range) = carrier::in_unified(bytes) else { return Err(refusal::explain(bytes)) };
        let range = range?;
        let moved = |offset: u64| offset.saturating_add(range.start as u64);
        let (source, container) = open_packed(&bytes[range.clone()], limit, deeper()?).map_err(|error| {
            let within = error.place.offset.unwrap_or(0);
            error.at_offset(moved(within))
        })?;
        return Ok((source, Container { payload_offset: moved(container.payload_offset), ..container }));
    };
    let (source, mut container) = open_bzimage(bytes, setup, limit).map_err(|error| refused(error, bytes, setup))?;
    container.protocol = Some(setup.protocol);
    Ok((source, container))
}

fn open_bzimage(bytes: &[u8], setup: SetupHeader, limit: usize) -> Result<(Source, Container)> {
    let complaint = match setup.payload_range(bytes.len()) {
        Ok(range) => {
            let (offset, payload) = (range.start, &bytes[range]);
            if let Some(compression) = Compression::detect(payload) {
                let stream = Stream { compression, payload, offset, behind: Behind::Size };
                return stream.unpack(ContainerKind::BzImage, limit);
            }
            Error::image("is in no compression the kernel supports").in_section("payload").at_offset(offset as u64)
        }
        Err(complaint) => complaint,
    };
    match search(bytes, setup.protected_mode, limit) {
        Some(Err(error)) if setup.payload.is_none() => Err(error),
        Some(Ok(found)) => Ok(found),
        _ => Err(complaint),
    }
}

/// Whether these bytes begin an ELF file, and no bzImage that pretends to be one, as RHEL 5's and Fedora 6's: their setup
/// code, which a BIOS starts, stands behind the header of an ELF file without sections.
fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(&ELF_MAGIC) && SetupHeader::booted(bytes).is_none()
}

/// Why a bzImage is refused, with the release that its setup code names.
fn refused(mut error: Error, bytes: &[u8], setup: SetupHeader) -> Error {
    let release = setup.release(bytes);
    let raw = match setup.payload {
        None => error.reason.starts_with(NO_ELF),
        Some((_, length)) => length == 0,
    };
    if let (Some(release), Some(name)) = (&release, setup.name(bytes))
        && !banner::of_linux(release)
    {
        error.reason = format!("begins as a bzImage does, but names itself {name}, which is no release of Linux");
    } else if let Some(reason) = release.as_deref().and_then(banner::too_old) {
        error.reason = reason;
    } else if raw {
        let unnamed = if setup.payload.is_none() { "a kernel before 2.6.26" } else { "a kernel" };
        let release = release.as_deref().unwrap_or(unnamed);
        error.reason = format!("{release}, packed as a raw binary, which has no section tables: give its vmlinux");
    } else if let Some(release) = release {
        return banner::named(error, &release);
    }
    error
}

/// Looks for a stream that unpacks to an ELF file: the payload of a bzImage that does not say where it is, or lies. `None`
/// if nothing looks like one; the error of the first candidate if all of them fail.
fn search(bytes: &[u8], start: usize, limit: usize) -> Option<Result<(Source, Container)>> {
    let mut first_error = None;
    let candidates = (start..bytes.len().min(refusal::LOOKED_THROUGH)).filter_map(|offset| {
        let payload = &bytes[offset..];
        Some(Stream { compression: Compression::detect(payload)?, payload, offset, behind: Behind::Anything })
    });
    for stream in candidates.take(MAX_CANDIDATES) {
        match stream.unpack(ContainerKind::BzImage, limit) {
            Ok(found) => return Some(Ok(found)),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    first_error.map(Err)
}

/// A compressed stream in a file.
struct Stream<'a> {
    compression: Compression,
    payload: &'a [u8],
    /// Where it starts in the file.
    offset: usize,
    behind: Behind,
}

impl Stream<'_> {
    fn unpack(&self, kind: ContainerKind, limit: usize) -> Result<(Source, Container)> {
        let Stream { compression, payload, offset, behind } = *self;
        let check = if kind == ContainerKind::Stream { check_stream } else { check_content };
        let mut memory = UnpackBuffer::with_capacity(self.capacity(), limit, check).map_err(|e| self.place(e))?;
        let mut length = compression.unpack(payload, &mut memory).map_err(|e| self.place(e))?;
        if kind == ContainerKind::Stream {
            length = self.unpack_next(length, &mut memory)?;
        }
        memory.finish().map_err(|e| self.place(e))?;
        let rest = payload.get(length..).unwrap_or_default();
        let padding = kind == ContainerKind::Stream && rest.iter().all(|&byte| byte == 0);
        if behind == Behind::Size && !padding {
            check_size(compression, rest, memory.len())
                .map_err(|reason| self.place(Error::image(reason).at_offset(length as u64)))?;
        }
        let container = Container {
            kind,
            compression: Some(compression),
            bcj: compression.has_bcj(payload),
            protocol: None,
            payload_offset: offset as u64,
            payload_size: length as u64,
            unpacked_size: memory.len() as u64,
        };
        Ok((Source::UnpackBuffer(memory), container))
    }

    /// Unpacks the streams that follow the first, which ends at `length`: for `gzip`, `xz` and `zstd` they are one with it.
    /// Returns where the last ends.
    fn unpack_next(&self, mut length: usize, memory: &mut UnpackBuffer) -> Result<usize> {
        for _ in 0..MAX_STREAMS {
            let rest = self.payload.get(length..).unwrap_or_default();
            if Compression::detect(rest) != Some(self.compression) {
                break;
            }
            let unpacked = self.compression.unpack(rest, memory);
            length += unpacked.map_err(|error| {
                let inner = error.place.offset.unwrap_or(0);
                self.place(error.at_offset(inner.saturating_add(length as u64)))
            })?;
        }
        Ok(length)
    }

    /// How much memory to reserve. The declared size is only believed within what real kernels reach (they shrink to a tenth
    /// at best), so that a few bytes cannot reserve a gigabyte; the memory grows when they reach more.
    fn capacity(&self) -> usize {
        let length = self.payload.len();
        let declared = match self.behind {
            Behind::Size => self.compression.declared_size(self.payload).filter(|&size| size >= length),
            Behind::Anything => None,
        };
        declared.unwrap_or(length.saturating_mul(8)).min(length.saturating_mul(64))
    }

    /// Moves an error from the stream into the file.
    fn place(&self, error: Error) -> Error {
        let inner = error.place.offset.unwrap_or(0);
        error.in_section("payload").at_offset(inner.saturating_add(self.offset as u64))
    }
}

/// Checks what comes out of a stream that is a whole file: an ELF file, or a bzImage.
fn check_stream(unpacked: &[u8]) -> Result<()> {
    if SetupHeader::parse(unpacked).is_some() { Ok(()) } else { check_content(unpacked) }
}

/// Checks what comes out of a payload.
fn check_content(unpacked: &[u8]) -> Result<()> {
    if unpacked.starts_with(&ELF_MAGIC) {
        return Ok(());
    }
    let what = refusal::explain(unpacked).reason;
    Err(Error::image(format!("{NO_ELF}: what it unpacks to {what}")))
}

/// Checks what stands behind the stream.
fn check_size(compression: Compression, rest: &[u8], unpacked: usize) -> std::result::Result<(), String> {
    if rest.is_empty() {
        return Ok(());
    }
    match *rest {
        [a, b, c, d] if compression != Compression::Gzip => match u32::from_le_bytes([a, b, c, d]) {
            size if u64::from(size) == unpacked as u64 => Ok(()),
            size => Err(format!("payload says that it unpacks to {size} bytes, but it is {unpacked}")),
        },
        _ => Err(format!("{} bytes follow the {compression} data", rest.len())),
    }
}
