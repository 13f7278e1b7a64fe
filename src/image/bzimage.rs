//! The setup header of a bzImage (`Documentation/arch/x86/boot.rst`, "The Real-Mode Kernel Header"), as far as it says
//! where the packed kernel lies.
//!
//! ```text
//! 0x1f1  u8   setup_sects     size of the real-mode code in 512-byte sectors, 0 means 4
//! 0x1fe  u16  boot_flag       0xaa55: a BIOS starts it
//! 0x202  u32  header          "HdrS"
//! 0x206  u16  version         boot protocol, 0x020f is 2.15
//! 0x20e  u16  kernel_version  where its release stands as text, less 0x200                since 2.00
//! 0x248  u32  payload_offset  of the payload, from the start of the protected-mode code   since 2.08
//! 0x24c  u32  payload_length                                                              since 2.08
//! ```

use std::ops::Range;

use crate::error::{Error, Result};
use crate::numbers::{u16_at, u32_at};

const SETUP_SECTS: usize = 0x1f1;
const BOOT_FLAG: usize = 0x1fe;
pub(super) const HEADER: usize = 0x202;
const VERSION: usize = 0x206;
const KERNEL_VERSION: usize = 0x20e;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// A release is no longer than this (`__NEW_UTS_LEN` of include/linux/utsname.h).
const MAX_RELEASE: usize = 64;

/// The first boot protocol that says where the payload is (Linux 2.6.26).
const PROTOCOL_WITH_PAYLOAD: u16 = 0x0208;

/// What the setup header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SetupHeader {
    /// Boot protocol: major and minor version.
    pub protocol: (u8, u8),
    /// Where the protected-mode code starts.
    pub protected_mode: usize,
    /// Offset of the payload in the file and its length, unchecked. `None` before protocol 2.08.
    pub payload: Option<(u64, u64)>,
}

impl SetupHeader {
    /// The setup header, if these bytes are a bzImage.
    pub fn parse(bytes: &[u8]) -> Option<SetupHeader> {
        if bytes.get(HEADER..)?.get(..4)? != b"HdrS" {
            return None;
        }
        let version = u16_at(bytes, VERSION)?;
        let sectors = match bytes.get(SETUP_SECTS)? {
            0 => 4,
            sectors => usize::from(*sectors),
        };
        let protected_mode = (sectors + 1) * 512;
        let payload = match (u32_at(bytes, PAYLOAD_OFFSET), u32_at(bytes, PAYLOAD_LENGTH)) {
            (Some(offset), Some(length)) if version >= PROTOCOL_WITH_PAYLOAD => {
                Some((u64::from(offset).saturating_add(protected_mode as u64), length.into()))
            }
            _ => None,
        };
        let [minor, major] = version.to_le_bytes();
        Some(SetupHeader { protocol: (major, minor), protected_mode, payload })
    }

    /// The setup header of what a BIOS would start, too.
    pub fn booted(bytes: &[u8]) -> Option<SetupHeader> {
        let booted = u16_at(bytes, BOOT_FLAG)? == 0xaa55;
        SetupHeader::parse(bytes).filter(|_| booted)
    }

    /// The release that the setup code names, `2.6.24.3`; `None` where it names none.
    pub fn release(&self, bytes: &[u8]) -> Option<String> {
        named(bytes, |byte| byte.is_ascii_graphic())
    }

    /// All that the setup code says it is: a release and who built it, or the name of another program, `Memtest86+ v6.10`.
    pub fn name(&self, bytes: &[u8]) -> Option<String> {
        named(bytes, |byte| (b' '..=b'~').contains(&byte))
    }

    /// Where the header says the payload is, checked against the file.
    pub fn payload_range(&self, file_len: usize) -> Result<Range<usize>> {
        let Some((offset, length)) = self.payload else {
            let (major, minor) = self.protocol;
            return Err(setup(format!("boot protocol {major}.{minor:02} does not say where the payload is")));
        };
        let end = offset.saturating_add(length);
        match (usize::try_from(offset), usize::try_from(end)) {
            (Ok(start), Ok(end)) if end <= file_len && start < end => Ok(start..end),
            _ => Err(setup(format!("payload of {length} bytes at {offset:#x} leaves the file of {file_len} bytes"))),
        }
    }
}

/// How the text begins that the setup code has where Linux has its release, as far as its bytes are such.
fn named(bytes: &[u8], such: impl Fn(u8) -> bool) -> Option<String> {
    let at = usize::from(u16_at(bytes, KERNEL_VERSION)?);
    let text = bytes.get(at + 0x200..)?;
    let end = text.iter().take(MAX_RELEASE + 1).position(|&byte| !such(byte))?;
    (at != 0 && end != 0).then(|| String::from_utf8_lossy(&text[..end]).into_owned())
}

fn setup(reason: String) -> Error {
    Error::image(reason).in_section("setup header").at_offset(PAYLOAD_OFFSET as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u16, sectors: u8, offset: u32, length: u32) -> Vec<u8> {
        let mut bytes = vec![0; 0x1000];
        bytes[SETUP_SECTS] = sectors;
        bytes[HEADER..HEADER + 4].copy_from_slice(b"HdrS");
        bytes[VERSION..VERSION + 2].copy_from_slice(&version.to_le_bytes());
        bytes[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&offset.to_le_bytes());
        bytes[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    #[test]
    fn payload_counts_from_the_protected_mode_code() {
        let setup = SetupHeader::parse(&header(0x20f, 2, 0x10, 0x20)).unwrap();
        assert_eq!(setup.protocol, (2, 15));
        assert_eq!(setup.payload_range(0x1000).unwrap(), 0x610..0x630);
    }

    #[test]
    fn no_sectors_means_four() {
        assert_eq!(SetupHeader::parse(&header(0x20f, 0, 0, 1)).unwrap().protected_mode, 5 * 512);
    }

    #[test]
    fn a_payload_beyond_the_file_is_an_error() {
        for (offset, length) in [(u32::MAX, u32::MAX), (0, 0x1000), (0, 0), (0x1000, 1)] {
            let setup = SetupHeader::parse(&header(0x20f, 1, offset, length)).unwrap();
            let error = setup.payload_range(0x1000).unwrap_err().to_string();
            assert!(error.starts_with("setup header (offset 0x248): payload of"), "{error}");
        }
    }

    #[test]
    fn the_setup_code_names_a_release() {
        let mut bytes = header(0x204, 1, 0, 1);
        assert_eq!(SetupHeader::parse(&bytes).unwrap().release(&bytes), None);
        bytes[KERNEL_VERSION..KERNEL_VERSION + 2].copy_from_slice(&0x300u16.to_le_bytes());
        bytes[0x500..0x513].copy_from_slice(b"2.6.24.3 (me@here) ");
        assert_eq!(SetupHeader::parse(&bytes).unwrap().release(&bytes).as_deref(), Some("2.6.24.3"));
        bytes[KERNEL_VERSION..KERNEL_VERSION + 2].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(SetupHeader::parse(&bytes).unwrap().release(&bytes), None);
        bytes[KERNEL_VERSION..KERNEL_VERSION + 2].copy_from_slice(&0x300u16.to_le_bytes());
        bytes[0x500..0x600].fill(b'9');
        assert_eq!(SetupHeader::parse(&bytes).unwrap().release(&bytes), None);
    }

    #[test]
    fn old_protocols_do_not_say() {
        let setup = SetupHeader::parse(&header(0x207, 1, 0, 1)).unwrap();
        assert!(setup.payload_range(0x1000).unwrap_err().to_string().contains("boot protocol 2.07"));
    }

    #[test]
    fn anything_else_is_not_a_bzimage() {
        assert_eq!(SetupHeader::parse(b"MZ"), None);
        assert_eq!(SetupHeader::parse(&[0; 0x1000]), None);
        assert_eq!(SetupHeader::parse(&header(0x20f, 1, 0, 1)[..0x206]), None);
    }
}
