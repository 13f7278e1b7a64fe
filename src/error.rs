//! The one error of the crate: what went wrong, where, and why.
//!
//! Every malformed byte ends here. A message names the file, then as much of the place as is known (section, row,
//! address, offset in the file), then the reason, on one line:
//!
//! ```text
//! vmlinux: .parainstructions row 12 (0xffffffff81008502): site of 6 bytes leaves .text
//! ```

use std::fmt;
use std::path::Path;

/// What kind of input or request an [`Error`] is about. The Python side has one exception class for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A file could not be read or written.
    Io,
    /// The image cannot be opened: container, compression, ELF, or what is embedded in it (symbols, BTF, config).
    Image,
    /// A table of sites in the image is malformed, or its rows disagree.
    Table,
    /// The ops, template or rules asked for make no sense together.
    Ops,
    /// A memory dump cannot be read, or does not hold the kernel asked for.
    Memory,
    /// The kernel itself would have stopped here: a `BUG()` in its patching code.
    Bug,
    /// This machine does not let code that was made here run, or cannot run it.
    Execution,
    /// What was asked of a lock, of its checker or its simulator makes no sense.
    Lock,
    /// A fault of this crate, not of its input: a panic that was caught.
    Internal,
}

/// Where in the input an [`Error`] lies. Any part may be unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it, `<bytes>` or `<stdin>`.
    pub file: Option<String>,
    /// Section of the ELF file, or part of the container (`payload`, `setup header`).
    pub section: Option<String>,
    /// Index of the row in that section's table.
    pub row: Option<usize>,
    /// Address in the kernel's address space, as linked.
    pub address: Option<u64>,
    /// Offset in bytes from the start of the file (of the unpacked image where there is one).
    pub offset: Option<u64>,
}

/// What went wrong, where and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// What it is about.
    pub kind: ErrorKind,
    /// Where it lies. Boxed, so that a `Result` stays small.
    pub place: Box<Place>,
    /// Why, in words, without the place.
    pub reason: String,
}

/// A path as it is shown: bytes of it that are no UTF-8 as `\xff`, so that no two paths look the same.
pub(crate) fn shown(path: &Path) -> String {
    let mut out = String::new();
    for part in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        out.push_str(part.valid());
        for byte in part.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of this kind, place unknown.
    pub fn new(kind: ErrorKind, reason: impl Into<String>) -> Error {
        Error { kind, place: Box::default(), reason: reason.into() }
    }

    /// An [`ErrorKind::Image`] error.
    pub fn image(reason: impl Into<String>) -> Error {
        Error::new(ErrorKind::Image, reason)
    }

    /// An [`ErrorKind::Table`] error.
    pub fn table(reason: impl Into<String>) -> Error {
        Error::new(ErrorKind::Table, reason)
    }

    /// An [`ErrorKind::Ops`] error.
    pub fn ops(reason: impl Into<String>) -> Error {
        Error::new(ErrorKind::Ops, reason)
    }

    /// An [`ErrorKind::Memory`] error.
    pub fn memory(reason: impl Into<String>) -> Error {
        Error::new(ErrorKind::Memory, reason)
    }

    /// An [`ErrorKind::Bug`] error.
    pub fn bug(reason: impl Into<String>) -> Error {
        Error::new(ErrorKind::Bug, reason)
    }

    /// An [`ErrorKind::Execution`] error.
    pub fn execution(reason: impl Into<String>) -> Error {
        Error::new(ErrorKind::Execution, reason)
    }

    /// An [`ErrorKind::Lock`] error.
    pub fn lock(reason: impl Into<String>) -> Error {
        Error::new(ErrorKind::Lock, reason)
    }

    /// An [`ErrorKind::Internal`] error.
    pub fn internal(reason: impl Into<String>) -> Error {
        Error::new(ErrorKind::Internal, reason)
    }

    /// An [`ErrorKind::Io`] error from the operating system's.
    pub fn io(error: &std::io::Error) -> Error {
        let reason = error.to_string();
        // The number that Rust puts behind the system's words tells a user nothing.
        let words = reason.rfind(" (os error ").map_or(reason.as_str(), |end| &reason[..end]);
        Error::new(ErrorKind::Io, words)
    }

    /// The same error, in this file; a file already named stays.
    #[must_use]
    pub fn in_file(mut self, file: &str) -> Error {
        self.place.file.get_or_insert_with(|| file.to_owned());
        self
    }

    /// The same error, in this section; a section already named stays.
    #[must_use]
    pub fn in_section(mut self, section: &str) -> Error {
        self.place.section.get_or_insert_with(|| section.to_owned());
        self
    }

    /// The same error, in this row of the section's table.
    #[must_use]
    pub fn at_row(mut self, row: usize) -> Error {
        self.place.row = Some(row);
        self
    }

    /// The same error, at this address.
    #[must_use]
    pub fn at_address(mut self, address: u64) -> Error {
        self.place.address = Some(address);
        self
    }

    /// The same error, at this offset in the file.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Error {
        self.place.offset = Some(offset);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { file, section, row, address, offset } = &*self.place;
        if let Some(file) = file {
            write!(f, "{file}: ")?;
        }
        let mut place = String::new();
        if let Some(section) = section {
            place.push_str(section);
        }
        if let Some(row) = row {
            place.push_str(&format!(" row {row}"));
        }
        match (address, offset) {
            (Some(a), Some(o)) => place.push_str(&format!(" ({a:#x}, offset {o:#x})")),
            (Some(a), None) => place.push_str(&format!(" ({a:#x})")),
            (None, Some(o)) => place.push_str(&format!(" (offset {o:#x})")),
            (None, None) => {}
        }
        let place = place.trim_start();
        if !place.is_empty() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_file_section_row_address_offset_and_reason() {
        let error = Error::table("site of 6 bytes leaves .text")
            .in_section(".parainstructions")
            .at_row(12)
            .at_address(0xffff_ffff_8100_8502)
            .at_offset(0x40)
            .in_file("vmlinux");
        assert_eq!(
            error.to_string(),
            "vmlinux: .parainstructions row 12 (0xffffffff81008502, offset 0x40): site of 6 bytes leaves .text"
        );
    }

    #[test]
    fn the_innermost_place_wins() {
        let error = Error::image("x").in_section("payload").in_section("outer").in_file("a").in_file("b");
        assert_eq!(error.to_string(), "a: payload: x");
    }
}
