//! The image as a core file, as `/proc/kcore` is one: program headers alone. perf takes such a file for the kernel's text
//! (`tools/perf/util/symbol.c: dso__load_kcore()`), and objdump disassembles what perf cuts out of it because it is a core.

use object::{LittleEndian as LE, elf, pod};

use crate::error::{Error, Result};
use crate::image::{Bits, Image};
use crate::patch::PatchedFile;

/// The image's file, changed or not, as `ET_CORE` without sections.
pub(super) fn made<'a>(image: &Image, mut file: PatchedFile<'a>) -> Result<PatchedFile<'a>> {
    let short = || Error::image("no ELF header").in_file(image.name());
    let size = match image.bits() {
        Bits::B64 => size_of::<elf::FileHeader64<LE>>(),
        Bits::B32 => size_of::<elf::FileHeader32<LE>>(),
    };
    file.head = image.bytes().get(..size).ok_or_else(short)?.to_vec();
    let segments = match image.bits() {
        Bits::B64 => {
            let (header, _) = pod::from_bytes_mut::<elf::FileHeader64<LE>>(&mut file.head).map_err(|()| short())?;
            header.e_type.set(LE, elf::ET_CORE);
            header.e_shoff.set(LE, 0);
            header.e_shnum.set(LE, 0);
            header.e_shstrndx.set(LE, elf::SHN_UNDEF);
            header.e_phnum.get(LE)
        }
        Bits::B32 => {
            let (header, _) = pod::from_bytes_mut::<elf::FileHeader32<LE>>(&mut file.head).map_err(|()| short())?;
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
    Ok(file)
}
