//! Memory taken while the kernel wrote to its text: what its own list says that was to be written.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;
mod symbols_support;

use elfwriter::{ElfWriter, flags};
use memory_support::{TEXT, noise, read_from, rodata};
use pvops::Result;
use pvops::image::{Bits, Image};
use pvops::memory::{Memory, Poke, Reader, pokes};
use symbols_support::btf::Builder;

const RODATA: u64 = TEXT + 0x20_0000;
const DATA: u64 = TEXT + 0x40_0000;
/// What describes the list, the queue and its length, and a list elsewhere.
const DESCRIBED: u64 = DATA;
const QUEUE: u64 = DATA + 0x100;
const QUEUED: u64 = DATA + 0x1100;
const PER_CPU: u64 = DATA + 0x1200;
const ARRAY: u64 = DATA + 0x1300;
const STACK: u64 = 0xffff_c900_0000_0f00;
const OFFSET: u64 = 0xffff_8880_3000_0000;
/// Functions, and a site in the first that was built as a nop.
const FUNCTIONS: [u64; 3] = [TEXT + 0x100, TEXT + 0x200, TEXT + 0x300];
const SITE: u64 = TEXT + 0x110;
const NOP: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];
const ENTRY: u64 = 16;

/// How a release keeps its list.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Release {
    /// 5.10: `bp_desc` points to it, and no entry has its length.
    Pointed,
    /// 6.1.
    Described,
    /// 6.14: a count of its own for each CPU.
    PerCpu,
    /// 6.16.
    Array,
}

use Release::{Array, Described, PerCpu, Pointed};

fn btf(release: Release) -> Vec<u8> {
    let mut b = Builder::default();
    let (int, byte, pointer) = (b.int("int", 4), b.int("unsigned char", 1), b.pointer(0));
    let text = b.array(byte, 5);
    let mut members = vec![("rel_addr", int, 0), ("opcode", byte, 72), ("text", text, 80), ("old", byte, 120)];
    if release != Pointed {
        members.insert(1, ("len", byte, 64));
    }
    let name = if release == Array { "smp_text_poke_loc" } else { "text_poke_loc" };
    let entry = b.structure(name, ENTRY as u32, &members);
    if release == Array {
        let entries = b.array(entry, 256);
        b.structure("smp_text_poke_array", 4100, &[("vec", entries, 0), ("nr_entries", int, 8 * 0x100)]);
    } else {
        let mut members = vec![("vec", pointer, 0), ("nr_entries", int, 64)];
        if release != PerCpu {
            members.push(("refs", int, 96));
        }
        b.structure("bp_patching_desc", 16, &members);
    }
    b.finish(None)
}

fn built() -> Vec<u8> {
    let mut text = noise(1, 0x1000);
    text[(SITE - TEXT) as usize..][..5].copy_from_slice(&NOP);
    text
}

fn image(release: Release) -> Image {
    let mut writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &built())
        .section(".rodata", RODATA, flags::RODATA, &rodata())
        .section(".BTF", RODATA + 0x1000, flags::RODATA, &btf(release))
        .nobits(".data", DATA, flags::DATA, 0x2000);
    let mut names = vec![("__per_cpu_offset", PER_CPU)];
    match release {
        Array => names.push(("text_poke_array", ARRAY)),
        _ => names.extend([("bp_desc", DESCRIBED), ("tp_vec", QUEUE), ("tp_vec_nr", QUEUED), ("bp_refs", 0x1000)]),
    }
    names.extend((release == Pointed).then_some(("behind", DESCRIBED + 8)));
    for (name, at) in names {
        writer = writer.symbol(name, at, 8, 'D');
    }
    for (name, at) in ["one", "two", "three"].into_iter().zip(FUNCTIONS).chain([("_stext", TEXT)]) {
        writer = writer.symbol(name, at, 8, 'T');
    }
    Image::from_bytes("vmlinux", writer.build()).unwrap()
}

/// A machine of one of these releases.
#[derive(Clone)]
struct Machine {
    release: Release,
    text: Vec<u8>,
    data: Vec<u8>,
    stack: Vec<u8>,
    cpu: Vec<u8>,
}

impl Machine {
    fn new(release: Release) -> Machine {
        let (data, stack, cpu) = (vec![0; 0x2000], vec![0; 0x100], vec![0; 0x2000]);
        Machine { release, text: built(), data, stack, cpu }
    }

    fn put(&mut self, address: u64, bytes: &[u8]) -> &mut Machine {
        let stretches =
            [(STACK, &mut self.stack), (OFFSET, &mut self.cpu), (DATA, &mut self.data), (TEXT, &mut self.text)];
        let (start, held) =
            stretches.into_iter().find(|(start, held)| address.wrapping_sub(*start) < held.len() as u64).unwrap();
        held[(address - start) as usize..][..bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Has the list begin at an address, with so many entries, and in use.
    fn describe(&mut self, list: u64, count: u32) -> &mut Machine {
        let description = [&list.to_le_bytes()[..], &count.to_le_bytes(), &1u32.to_le_bytes()].concat();
        match self.release {
            Pointed => self.put(DESCRIBED, &STACK.to_le_bytes()).put(STACK, &description),
            Described => self.put(DESCRIBED, &description),
            PerCpu => {
                let offset = OFFSET.to_le_bytes();
                self.put(DESCRIBED, &description[..12]).put(PER_CPU, &offset).put(OFFSET + 0x1000, &1u32.to_le_bytes())
            }
            Array => self.put(ARRAY + 0x100, &count.to_le_bytes()),
        }
    }

    /// An entry: where, the instruction that is to be written, and the first byte before.
    fn entry(&mut self, at: u64, address: u64, code: &[u8], old: u8) -> &mut Machine {
        let mut entry = vec![0; ENTRY as usize];
        entry[..4].copy_from_slice(&(address.wrapping_sub(TEXT) as u32).to_le_bytes());
        entry[8..10].copy_from_slice(&[code.len() as u8, if code[0] == 0x0f { 0xe9 } else { code[0] }]);
        let kept = if code.len() == 6 { &code[1..] } else { code };
        entry[10..10 + kept.len()].copy_from_slice(kept);
        entry[15] = old;
        self.put(at, &entry)
    }

    /// What is on the list.
    fn read(&self) -> Vec<Poke> {
        let image = image(self.release);
        let memory = Memory::from_reader("<read>", Box::new(self.clone()));
        let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
        pokes(&memory, &found, &image).unwrap()
    }
}

impl Reader for Machine {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        let rodata = rodata();
        let stretches: [(u64, &[u8]); 5] =
            [(TEXT, &self.text), (RODATA, &rodata), (DATA, &self.data), (STACK, &self.stack), (OFFSET, &self.cpu)];
        Ok(read_from(&stretches, address, buffer))
    }
}

fn branch(opcode: u8, address: u64, target: u64) -> Vec<u8> {
    [&[opcode][..], &(target.wrapping_sub(address + 5) as u32).to_le_bytes()].concat()
}

/// A machine that writes a jump to the second function over the nop: its entry is there.
fn writing(release: Release) -> Machine {
    let mut machine = Machine::new(release);
    let list = if release == Array { ARRAY } else { QUEUE };
    machine.describe(list, 1).entry(list, SITE, &branch(0xe9, SITE, FUNCTIONS[1]), NOP[0]);
    machine
}

#[test]
fn the_list_of_every_release_is_read() {
    let new = branch(0xe9, SITE, FUNCTIONS[1]);
    for release in [Pointed, Described, PerCpu, Array] {
        let pokes = writing(release).read();
        assert_eq!(pokes, [Poke { address: SITE, bytes: new.clone(), old: NOP[0] }], "{release:?}");
    }
}

#[test]
fn a_list_that_is_not_in_use_has_nothing() {
    for release in [Pointed, Described, PerCpu, Array] {
        let mut machine = writing(release);
        let (unused, at) = match release {
            Pointed => (DESCRIBED, vec![0; 8]),
            Described => (DESCRIBED + 12, vec![0; 4]),
            PerCpu => (OFFSET + 0x1000, vec![0; 4]),
            Array => (ARRAY + 0x100, vec![0; 4]),
        };
        assert_eq!(machine.put(unused, &at).read(), [], "{release:?}");
    }
}

#[test]
fn what_is_queued_is_to_be_written_too() {
    let mut machine = Machine::new(Described);
    let new = branch(0xe8, SITE, FUNCTIONS[2]);
    machine.entry(QUEUE, SITE, &new, 0).put(QUEUED, &1u32.to_le_bytes());
    assert_eq!(machine.read(), [Poke { address: SITE, bytes: new, old: 0 }]);
}

#[test]
fn a_list_on_the_stack_and_conditional_jumps_are_read() {
    let mut machine = Machine::new(Described);
    let new = [&[0x0f][..], &branch(0x84, SITE + 1, FUNCTIONS[1])].concat();
    machine.describe(STACK + 0x40, 1).entry(STACK + 0x40, SITE, &new, 0x0f);
    assert_eq!(machine.read(), [Poke { address: SITE, bytes: new, old: 0x0f }]);
}

#[test]
fn a_list_that_says_anything_is_no_error() {
    for (at, bytes) in [
        (DESCRIBED, &[0xff; 16][..]),
        (DESCRIBED, &0x1234u64.to_le_bytes()),
        (DESCRIBED + 8, &i32::MAX.to_le_bytes()),
        (QUEUE + 8, &[0xff]),
        (QUEUE, &[0xff; 4]),
        (QUEUED, &[0xff; 4]),
    ] {
        for release in [Pointed, Described, PerCpu, Array] {
            let mut machine = writing(release);
            machine.put(at, bytes).read();
        }
    }
}
