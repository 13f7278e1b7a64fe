//! The image as a core file, as `/proc/kcore` is one: program headers alone. perf takes such a file for the kernel's text
//! (`tools/perf/util/symbol.c: dso__load_kcore()`), and objdump disassembles what perf cuts out of it because it is a core.

use object::{LittleEndian as LE, elf, pod};

use crate::error::{Error, Result};
use crate::image::{Bits, Image};

/// The image's bytes, changed or not, as `ET_CORE` without sections.
pub(super) fn made(image: &Image, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let short = || Error::image("no ELF header").in_file(image.name());
    let segments = match image.bits() {
        Bits::B64 => {
            let (header, _) = pod::from_bytes_mut::<elf::FileHeader64<LE>>(&mut bytes).map_err(|()| short())?;
            header.e_type.set(LE, elf::ET_CORE);
            header.e_shoff.set(LE, 0);
            header.e_shnum.set(LE, 0);
            header.e_shstrndx.set(LE, elf::SHN_UNDEF);
            header.e_phnum.get(LE)
        }
        Bits::B32 => {
            let (header, _) = pod::from_bytes_mut::<elf::FileHeader32<LE>>(&mut bytes).map_err(|()| short())?;
            header.e_type.set(LE, elf::ET_CORE);
            header.e_shoff.set(LE, 0);
            header.e_shnum.set(LE, 0);
            header.e_shstrndx.set(LE, elf::SHN_UNDEF);
            header.e_phnum.get(LE)
        }
    };
    if segments == 0 {
        return Err(Error::image("no program headers: nothing of it is a core").in_file(image.name()));
    }
    Ok(bytes)
}
