//! Writes memory dumps: ELF cores as QEMU, kdump and libvirt make them, and LiME's format.

use pvops::image::Bits;

/// A stretch of memory of a core.
#[derive(Clone)]
pub struct Stretch {
    pub virtual_: u64,
    pub physical: u64,
    pub bytes: Vec<u8>,
}

/// Writes an ELF core: the notes first, then the memory.
pub struct CoreWriter {
    bits: Bits,
    notes: Vec<u8>,
    memory: Vec<Stretch>,
    /// How often each stretch is listed: a core with page tables walked lists memory many times.
    listed: usize,
}

impl CoreWriter {
    pub fn new(bits: Bits) -> CoreWriter {
        CoreWriter { bits, notes: Vec::new(), memory: Vec::new(), listed: 1 }
    }

    /// A stretch of physical memory.
    pub fn physical(self, address: u64, bytes: &[u8]) -> CoreWriter {
        self.stretch(0, address, bytes)
    }

    /// A stretch of memory, where it lies and where a CPU sees it.
    pub fn stretch(mut self, virtual_: u64, physical: u64, bytes: &[u8]) -> CoreWriter {
        self.memory.push(Stretch { virtual_, physical, bytes: bytes.to_vec() });
        self
    }

    /// Lists every stretch this often.
    pub fn listed(mut self, times: usize) -> CoreWriter {
        self.listed = times;
        self
    }

    /// A note.
    pub fn note(mut self, name: &str, kind: u32, description: &[u8]) -> CoreWriter {
        for field in [name.len() as u32 + 1, description.len() as u32, kind] {
            self.notes.extend_from_slice(&field.to_le_bytes());
        }
        for part in [format!("{name}\0").as_bytes(), description] {
            self.notes.extend_from_slice(part);
            self.notes.resize(self.notes.len().next_multiple_of(4), 0);
        }
        self
    }

    /// QEMU's note of a CPU, with these control registers.
    pub fn cpu(self, cr3: u64, cr4: u64) -> CoreWriter {
        self.cpu_with(cr3, cr4, 0)
    }

    /// Likewise, with the register that says where the table of interrupts is.
    pub fn cpu_with(self, cr3: u64, cr4: u64, idt: u64) -> CoreWriter {
        let mut note = vec![0; 440];
        note[..8].copy_from_slice(&[1, 0, 0, 0, 184, 1, 0, 0]);
        note[384..392].copy_from_slice(&idt.to_le_bytes());
        note[416..424].copy_from_slice(&cr3.to_le_bytes());
        note[424..432].copy_from_slice(&cr4.to_le_bytes());
        self.note("QEMU", 0, &note)
    }

    /// QEMU's note of a CPU, with the addresses and limits of its global and its local table of segments.
    pub fn cpu_of(self, cr3: u64, gdt: (u64, u32), ldt: (u64, u32)) -> CoreWriter {
        let mut note = vec![0; 440];
        note[..8].copy_from_slice(&[1, 0, 0, 0, 184, 1, 0, 0]);
        for (at, (base, limit)) in [(344, gdt), (296, ldt)] {
            note[at + 4..at + 8].copy_from_slice(&limit.to_le_bytes());
            note[at + 16..at + 24].copy_from_slice(&base.to_le_bytes());
        }
        note[416..424].copy_from_slice(&cr3.to_le_bytes());
        note[424..432].copy_from_slice(&0x20u64.to_le_bytes());
        self.note("QEMU", 0, &note)
    }

    /// The notes so far.
    pub fn note_bytes(&self) -> &[u8] {
        &self.notes
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        let wide = self.bits == Bits::B64;
        let (header, entry, section) = if wide { (64, 56, 64) } else { (52, 32, 40) };
        let count = 1 + self.memory.len() * self.listed;
        let extended = count >= 0xffff;
        let table = header + section;
        let notes = table + entry * count;
        let word = |out: &mut Vec<u8>, value: u64| out.extend_from_slice(&value.to_le_bytes()[..self.bits.word()]);
        let mut out = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1, 0];
        out.resize(16, 0);
        out.extend_from_slice(&4u16.to_le_bytes());
        out.extend_from_slice(&(if wide { 62u16 } else { 3 }).to_le_bytes());
        out.extend_from_slice(&1u32.to_le_bytes());
        word(&mut out, 0);
        word(&mut out, table as u64);
        word(&mut out, header as u64);
        out.extend_from_slice(&[0; 4]);
        let listed = if extended { 0xffff } else { count as u16 };
        for field in [header as u16, entry as u16, listed, section as u16, 1, 0] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        // The one section header says how many program headers there are, where the file's header cannot (`PN_XNUM`).
        let mut null = vec![0; section];
        let info = if wide { 44 } else { 28 };
        null[info..info + 4].copy_from_slice(&(count as u32).to_le_bytes());
        out.extend_from_slice(&null);
        let mut program = |kind: u32, offset: usize, virtual_: u64, physical: u64, size: usize| {
            out.extend_from_slice(&kind.to_le_bytes());
            if wide {
                out.extend_from_slice(&[0; 4]);
            }
            for field in [offset as u64, virtual_, physical, size as u64, size as u64] {
                word(&mut out, field);
            }
            if !wide {
                out.extend_from_slice(&[0; 4]);
            }
            word(&mut out, 0);
        };
        program(4, notes, 0, 0, self.notes.len());
        for turn in 0..self.listed as u64 {
            let mut offset = notes + self.notes.len();
            for stretch in &self.memory {
                let seen = if stretch.virtual_ == 0 { 0 } else { stretch.virtual_.wrapping_sub(turn << 30) };
                program(1, offset, seen, stretch.physical, stretch.bytes.len());
                offset += stretch.bytes.len();
            }
        }
        out.extend_from_slice(&self.notes);
        self.memory.iter().for_each(|stretch| out.extend_from_slice(&stretch.bytes));
        out
    }
}

/// Ranges of physical memory in LiME's format.
pub fn lime(ranges: &[(u64, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (address, bytes) in ranges {
        out.extend_from_slice(b"EMiL\x01\0\0\0");
        out.extend_from_slice(&address.to_le_bytes());
        out.extend_from_slice(&(address + bytes.len() as u64 - 1).to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(bytes);
    }
    out
}
