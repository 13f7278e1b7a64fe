//! Says what a dump is that cannot be read, and what would make it one that can.

use super::dump::{Dump, Opened};
use crate::error::{Error, Result};

pub(super) fn probe(dump: &Dump) -> Result<Option<Opened>> {
    explain(dump.head()).map_or(Ok(None), Err)
}

/// An error for a format that is known and not read; `None` for anything else, which may be plain memory.
fn explain(head: &[u8]) -> Option<Error> {
    let what = match head {
        // `struct disk_dump_header` of makedumpfile and QEMU; drgn reads it through libkdumpfile.
        [b'K', b'D', b'U', b'M', b'P', b' ', ..] | [b'D', b'I', b'S', b'K', b'D', b'U', b'M', b'P', ..] => {
            "is a kdump-compressed dump: give drgn's prog.read of it instead, or save it as ELF (QEMU's dump-guest-memory \
             and virsh dump --memory-only --format elf do, makedumpfile with -E)"
        }
        [b'm', b'a', b'k', b'e', b'd', b'u', b'm', b'p', ..] => {
            "is a dump in makedumpfile's flattened format: `makedumpfile -R OUT < THIS` puts it in order"
        }
        [b'L', b'i', b'b', b'v', b'i', b'r', b't', ..] | [b'Q', b'E', b'V', b'M', ..] => {
            "is the saved state of a virtual machine, not its memory: dump it with virsh dump --memory-only --format elf"
        }
        [b'A', b'V', b'M', b'L', ..] => "is compressed by AVML: avml-convert makes it LiME's format",
        [0x1f, 0x8b, ..] => "is compressed (gzip): unpack it first",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "is compressed (xz): unpack it first",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "is compressed (zstd): unpack it first",
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => "is compressed (bzip2): unpack it first",
        [b'P', b'K', 3, 4, ..] => "is a zip archive: unpack it first",
        [b'Q', b'F', b'I', 0xfb, ..] => "is a disk image (qcow2), not memory",
        [b'P', b'A', b'G', b'E', b'D', b'U' | b'6', ..] => "is a crash dump of Windows",
        _ => return None,
    };
    Some(Error::memory(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_that_is_not_read_is_named_with_what_helps() {
        assert!(explain(b"KDUMP   \x06").unwrap().reason.contains("prog.read"));
        assert!(explain(b"makedumpfile\0").unwrap().reason.contains("-R"));
        assert!(explain(&[0x1f, 0x8b, 8]).unwrap().reason.contains("gzip"));
        assert_eq!(explain(&[0; 64]), None);
    }
}
