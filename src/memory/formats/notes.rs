//! The notes of a core: what the kernel says of itself in VMCOREINFO, and what QEMU says of its CPUs.

use crate::error::{Error, Result};
use crate::memory::store::Store;
use crate::numbers::{u32_at, u64_at};

/// More than the notes of a guest of 4096 CPUs.
const MAX_NOTES: u64 = 16 << 20;
/// More than any VMCOREINFO: the kernel's is at most a page, some hypervisors' notes two.
const MAX_VMCOREINFO: usize = 64 << 10;

/// What the notes say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// What the kernel says of itself.
    pub vmcoreinfo: Option<VmCoreInfo>,
    /// The control registers of each CPU, where QEMU says them.
    pub cpus: Vec<ControlRegisters>,
    /// How many bytes of notes were read.
    pub(in crate::memory) read: u64,
}

/// What of a CPU tells how it translates addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlRegisters {
    /// Where the top page table lies.
    pub cr3: u64,
    /// PAE is bit 5, five levels of page tables are bit 12, FRED is bit 32.
    pub cr4: u64,
    /// Where its table of interrupts is, in virtual memory, if the dump says.
    pub idt: Option<u64>,
    /// Where its global table of segments is, in virtual memory, and its limit; 0 where the dump does not say.
    pub gdt: (u64, u32),
    /// The local one of what it runs, likewise; 0 where it has none.
    pub ldt: (u64, u32),
}

/// `VMCOREINFO`, lines of `KEY=value` (`kernel/crash_core.c`; x86's in `arch/x86/kernel/crash_core_64.c`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmCoreInfo(String);

impl VmCoreInfo {
    /// The text of a note.
    pub fn new(text: &str) -> VmCoreInfo {
        VmCoreInfo(text.to_owned())
    }

    /// What a key says: `OSRELEASE`, `KERNELOFFSET`, `SYMBOL(_stext)`, `NUMBER(phys_base)`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// The virtual slide: `KERNELOFFSET`, in hexadecimal. Absent in kernels that cannot slide.
    pub fn slide(&self) -> Option<u64> {
        u64::from_str_radix(self.get("KERNELOFFSET")?.trim(), 16).ok()
    }

    /// What physical addresses of the kernel's image are more than its virtual ones less `__START_KERNEL_map`, in decimal:
    /// negative where it lies below the place it was linked for.
    pub fn physical_base(&self) -> Option<u64> {
        self.get("NUMBER(phys_base)")?.trim().parse().ok().map(|base: i64| base as u64)
    }

    /// Where a symbol lies in virtual memory, in hexadecimal.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.get(&format!("SYMBOL({name})"))?.trim(), 16).ok()
    }
}

/// Reads the notes of a `PT_NOTE` segment, which lies in the file. Malformed notes end the list.
pub(super) fn read(store: &Store, offset: u64, size: u64, found: &mut Notes) -> Result<()> {
    // Segments may lie over each other.
    found.read = found.read.saturating_add(size);
    if found.read > MAX_NOTES {
        return Err(Error::memory(format!("{} bytes of notes are too many", found.read)).at_offset(offset));
    }
    let bytes = store.read_exactly(offset, size as usize, "its notes")?;
    let mut rest = bytes.as_slice();
    while let Some(header) = rest.first_chunk::<12>() {
        let field = |at: usize| u32_at(header, at).unwrap_or(0) as usize;
        let (name_size, size) = (field(0), field(4));
        let padded = |n: usize| n.checked_next_multiple_of(4);
        let Some(name) = rest.get(12..).and_then(|rest| rest.get(..name_size)) else { break };
        let Some(start) = padded(name_size).and_then(|n| n.checked_add(12)) else { break };
        let Some(description) = rest.get(start..).and_then(|rest| rest.get(..size)) else { break };
        match name.strip_suffix(b"\0").unwrap_or(name) {
            b"VMCOREINFO" if size <= MAX_VMCOREINFO => {
                let text = String::from_utf8_lossy(description);
                found.vmcoreinfo = Some(VmCoreInfo::new(text.trim_end_matches('\0')));
            }
            b"QEMU" => found.cpus.extend(cpu(description)),
            _ => {}
        }
        let Some(next) = padded(size).and_then(|n| n.checked_add(start)) else { break };
        rest = rest.get(next..).unwrap_or_default();
    }
    Ok(())
}

/// The control registers in QEMU's note (`QEMUCPUState` of `target/i386/arch_dump.c`): version 1, its size, 18 registers,
/// 10 segments of 24 bytes (selector, limit, flags, nothing, base; the last are LDT, TR, GDT, IDT), then cr0 to cr4.
fn cpu(note: &[u8]) -> Option<ControlRegisters> {
    const SEGMENTS: usize = 8 + 18 * 8;
    const CR: usize = SEGMENTS + 10 * 24;
    if u32_at(note, 0)? != 1 || (u32_at(note, 4)? as usize) < CR + 5 * 8 {
        return None;
    }
    let register = |n: usize| u64_at(note, CR + 8 * n);
    let segment = |n: usize| Some((u64_at(note, SEGMENTS + 24 * n + 16)?, u32_at(note, SEGMENTS + 24 * n + 4)?));
    let (idt, gdt, ldt) = (segment(9).map(|(base, _)| base), segment(8)?, segment(6)?);
    Some(ControlRegisters { cr3: register(3)?, cr4: register(4)?, idt, gdt, ldt })
}
