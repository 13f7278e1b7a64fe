//! Tables of a CPU that its registers name: where interrupts go, and what segments there are.

use super::location::Location;
use super::pagetables::{MAX_CPUS, PAGE, Root, of_cpu, translate};
use super::read::{Memory, Place};
use crate::error::Result;
use crate::image::Image;
use crate::numbers::u64_at;

const CR4_FRED: u64 = 1 << 32;
/// Bytes of the longest table of segments.
const LONGEST: u64 = 1 << 16;

/// Where the table of interrupts of a CPU is, by its register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterruptTable {
    /// The CPU's number in the dump.
    pub cpu: usize,
    /// What the register has, an address at run time.
    pub base: u64,
    /// Which address of the image, as linked, lies there by the CPU's page tables; `None` where none is mapped.
    pub lies: Option<u64>,
}

/// The tables of interrupts of the CPUs whose page tables are this kernel's, where the dump has these registers, which it has
/// not where they are 0: not of those that use none (FRED).
///
/// # Errors
/// Memory that cannot be read.
pub fn interrupt_tables(memory: &Memory, found: &Location, image: &Image) -> Result<Vec<InterruptTable>> {
    let Place::Physical(delta) = found.place else { return Ok(Vec::new()) };
    let mut tables = Vec::new();
    for (cpu, root) in of_this(memory, found, image)? {
        let registers = &memory.notes.cpus[cpu];
        let Some(base) = registers.idt.filter(|&base| base != 0 && registers.cr4 & CR4_FRED == 0) else { continue };
        let lies = translate(memory, &root, base)?.map(|physical| physical.wrapping_sub(delta));
        tables.push(InterruptTable { cpu, base, lies });
    }
    Ok(tables)
}

/// A table of segments of a CPU: the global one, or the local one of what it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentTable {
    /// The CPU's number in the dump.
    pub cpu: usize,
    /// Where it is, an address at run time.
    pub base: u64,
    /// Whether it is the local one.
    pub local: bool,
    /// Its words of 8 bytes; 0 where nothing is mapped.
    pub words: Vec<u64>,
}

/// Hands over the tables of segments of the CPUs whose page tables are this kernel's, where the dump has these registers,
/// which it has not where they are 0.
///
/// # Errors
/// Memory that cannot be read.
pub fn segment_tables(
    memory: &Memory,
    found: &Location,
    image: &Image,
    each: &mut dyn FnMut(&SegmentTable),
) -> Result<()> {
    for (cpu, root) in of_this(memory, found, image)? {
        let registers = &memory.notes.cpus[cpu];
        for (local, (base, limit)) in [(false, registers.gdt), (true, registers.ldt)] {
            let mut bytes = vec![0; ((u64::from(limit) + 1).min(LONGEST) as usize) & !7];
            if base == 0 || bytes.is_empty() {
                continue;
            }
            let mut done = 0;
            while done < bytes.len() {
                let at = base.wrapping_add(done as u64);
                let n = (bytes.len() - done).min((PAGE - at % PAGE) as usize);
                if let Some(physical) = translate(memory, &root, at)? {
                    memory.read_physical(physical, &mut bytes[done..done + n])?;
                }
                done += n;
            }
            let words = (0..bytes.len()).step_by(8).filter_map(|at| u64_at(&bytes, at)).collect();
            each(&SegmentTable { cpu, base, local, words });
        }
    }
    Ok(())
}

/// The CPUs whose page tables map the kernel to where it lies, and these.
fn of_this(memory: &Memory, found: &Location, image: &Image) -> Result<Vec<(usize, Root)>> {
    let Place::Physical(delta) = found.place else { return Ok(Vec::new()) };
    let text = image.section(".text").map_or(0, |section| section.address);
    let run = text.wrapping_add(found.slide) & image.bits().max_address();
    let mut roots = Vec::new();
    for (cpu, registers) in memory.notes.cpus.iter().enumerate().take(MAX_CPUS) {
        for root in of_cpu(registers, cpu, image.bits()) {
            if translate(memory, &root, run)? == Some(text.wrapping_add(delta)) {
                roots.push((cpu, root));
                break;
            }
        }
    }
    Ok(roots)
}
