//! Who has registered to change a kernel's text: its lists, read as the kernel keeps them, refused where they are broken.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;
mod symbols_support;

use elfwriter::{ElfWriter, flags};
use memory_support::{BANNER, TEXT, noise};
use pvops::Result;
use pvops::image::{Bits, Image};
use pvops::memory::{Entry, Memory, Reader, Registered, Registrar, registered};
use symbols_support::btf::Builder;

const RODATA: u64 = TEXT + 0x20_0000;
const DATA: u64 = TEXT + 0x40_0000;
/// Where the lists begin, as linked.
const KPROBES: u64 = DATA;
const FTRACE: u64 = DATA + 0x400;
const BPF: u64 = DATA + 0x800;
const LIVEPATCH: u64 = DATA + 0x2800;
/// Where what they hold is allocated.
const HEAP: u64 = 0xffff_8880_0100_0000;

fn btf() -> Vec<u8> {
    let mut b = Builder::default();
    let (int, long, pointer) = (b.int("unsigned int", 4), b.int("unsigned long", 8), b.pointer(0));
    let bits = |bytes: u32| 8 * bytes;
    let node = b.structure("hlist_node", 16, &[("next", pointer, 0), ("pprev", pointer, 64)]);
    let list = b.structure("list_head", 16, &[("next", pointer, 0), ("prev", pointer, 64)]);
    let probe = [
        ("hlist", node, 0),
        ("addr", pointer, bits(40)),
        ("pre_handler", pointer, bits(64)),
        ("flags", int, bits(112)),
    ];
    b.structure("kprobe", 120, &probe);
    b.structure("ftrace_page", 32, &[("next", pointer, 0), ("records", pointer, bits(8)), ("index", int, bits(16))]);
    b.structure("dyn_ftrace", 16, &[("ip", long, 0), ("flags", long, bits(8))]);
    let function = b.structure("", 16, &[("model", int, 0), ("addr", pointer, bits(8))]);
    b.structure("bpf_trampoline", 64, &[("hlist", node, 0), ("func", function, bits(24))]);
    b.structure("klp_patch", 64, &[("list", list, bits(16)), ("obj_list", list, bits(32))]);
    b.structure("klp_object", 64, &[("func_list", list, bits(8)), ("node", list, bits(24))]);
    b.structure("klp_func", 64, &[("old_func", pointer, bits(8)), ("new_func", pointer, 0), ("node", list, bits(16))]);
    b.finish(None)
}

fn rodata() -> Vec<u8> {
    let mut rodata = noise(2, 0x1000);
    rodata[..BANNER.len() + 1].copy_from_slice(format!("{BANNER}\0").as_bytes());
    rodata
}

fn image(with_btf: bool) -> Image {
    let mut writer = ElfWriter::new(Bits::B64).section(".text", TEXT, flags::TEXT, &noise(1, 0x1000)).section(
        ".rodata",
        RODATA,
        flags::RODATA,
        &rodata(),
    );
    if with_btf {
        writer = writer.section(".BTF", RODATA + 0x1000, flags::RODATA, &btf());
    }
    writer = writer.nobits(".data", DATA, flags::DATA, 0x4000);
    for (name, at) in [
        ("kprobe_table", KPROBES),
        ("ftrace_pages_start", FTRACE),
        ("trampoline_table", BPF),
        ("klp_patches", LIVEPATCH),
    ] {
        writer = writer.symbol(name, at, 8, 'D');
    }
    Image::from_bytes("vmlinux", writer.build()).unwrap()
}

/// Virtual memory: the kernel where it was linked, and a heap.
#[derive(Clone)]
struct Machine {
    text: Vec<u8>,
    rodata: Vec<u8>,
    data: Vec<u8>,
    heap: Vec<u8>,
}

impl Machine {
    fn new() -> Machine {
        Machine { text: noise(1, 0x1000), rodata: rodata(), data: vec![0; 0x4000], heap: vec![0; 0x4000] }
    }

    fn word(&mut self, address: u64, value: u64) {
        let (start, bytes) = if address >= DATA { (DATA, &mut self.data) } else { (HEAP, &mut self.heap) };
        bytes[(address - start) as usize..][..8].copy_from_slice(&value.to_le_bytes());
    }
}

impl Reader for Machine {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        for (start, bytes) in [(TEXT, &self.text), (RODATA, &self.rodata), (DATA, &self.data), (HEAP, &self.heap)] {
            let at = usize::try_from(address.wrapping_sub(start)).unwrap();
            if let Some(found) = at.checked_add(buffer.len()).and_then(|end| bytes.get(at..end)) {
                buffer.copy_from_slice(found);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A kernel with two probes in one list, one of them disabled; two pages of records; a trampoline; a live patch.
fn machine() -> Machine {
    let mut m = Machine::new();
    m.word(KPROBES + 8 * 5, HEAP);
    for (at, next, address, flags) in [(HEAP, HEAP + 0x100, TEXT + 0x10, 4), (HEAP + 0x100, 0, TEXT + 0x20, 2)] {
        m.word(at, next);
        m.word(at + 40, address);
        m.word(at + 64, 0xffff_ffff_c000_1234);
        m.word(at + 112, flags);
    }
    m.word(FTRACE, HEAP + 0x200);
    for (page, next, records, ip) in
        [(HEAP + 0x200, HEAP + 0x240, HEAP + 0x300, TEXT + 0x100), (HEAP + 0x240, 0, HEAP + 0x400, TEXT + 0x200)]
    {
        m.word(page, next);
        m.word(page + 8, records);
        m.word(page + 16, 2);
        for (i, flags) in [(0, 1u64 << 31 | 1), (1, 1)] {
            m.word(records + 16 * i, ip + 16 * i);
            m.word(records + 16 * i + 8, flags);
        }
    }
    m.word(BPF + 8 * 1023, HEAP + 0x500);
    m.word(HEAP + 0x500 + 32, TEXT + 0x300);
    m.word(HEAP + 0x500, 0);
    // A live patch of one object with one function; each list's node points back to its head.
    let (patch, object, function) = (HEAP + 0x600, HEAP + 0x700, HEAP + 0x800);
    for (head, node) in [(LIVEPATCH, patch + 16), (patch + 32, object + 24), (object + 8, function + 16)] {
        m.word(head, node);
        m.word(node, head);
    }
    m.word(function, 0xffff_ffff_c000_5000);
    m.word(function + 8, TEXT + 0x400);
    m
}

fn read(machine: Machine) -> Registered {
    let image = image(true);
    let memory = Memory::from_reader("<read>", Box::new(machine));
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    registered(&memory, &found, &image).unwrap()
}

fn entries(found: &Registered, owner: Registrar) -> Vec<(u64, u64)> {
    let of = found.entries.iter().filter(|entry| entry.owner == owner);
    of.map(|Entry { address, handler, .. }| (*address, *handler)).collect()
}

#[test]
fn every_list_is_read() {
    let found = read(machine());
    assert_eq!(found.read, [Registrar::Kprobes, Registrar::Ftrace, Registrar::Bpf, Registrar::Livepatch]);
    assert_eq!(entries(&found, Registrar::Kprobes), [(TEXT + 0x10, 0xffff_ffff_c000_1234)], "one is disabled");
    assert_eq!(entries(&found, Registrar::Ftrace), [(TEXT + 0x100, 0), (TEXT + 0x200, 0)], "two are on");
    assert_eq!(entries(&found, Registrar::Bpf), [(TEXT + 0x300, 0)]);
    assert_eq!(entries(&found, Registrar::Livepatch), [(TEXT + 0x400, 0xffff_ffff_c000_5000)]);
}

#[test]
fn a_kernel_where_nobody_registered() {
    let mut quiet = Machine::new();
    quiet.word(LIVEPATCH, LIVEPATCH);
    let found = read(quiet);
    assert_eq!((found.entries.len(), found.read.len(), found.unread.len()), (0, 4, 0));
}

#[test]
fn lists_that_are_broken_are_said_to_be_and_end() {
    let why = |change: &dyn Fn(&mut Machine)| {
        let mut machine = machine();
        change(&mut machine);
        let found = read(machine);
        assert_eq!(found.read.len(), 3);
        found.unread[0].1.clone()
    };
    assert!(why(&|m| m.word(HEAP + 0x100, HEAP)).contains("a circle"), "kprobes");
    assert!(why(&|m| m.word(HEAP + 0x240, HEAP + 0x200)).contains("a circle"), "pages of records");
    assert!(why(&|m| m.word(HEAP + 0x210, u64::from(u32::MAX))).contains("more records than any kernel"));
    assert!(why(&|m| m.word(HEAP + 0x208, 0x1234)).contains("not in memory"));
    assert!(why(&|m| m.word(KPROBES, 0xdead_0000)).contains("not in memory"));
    assert!(why(&|m| m.word(LIVEPATCH, 0)).contains("not in memory"));
}

fn read_without_btf(machine: Machine) -> Registered {
    let image = image(false);
    let memory = Memory::from_reader("<read>", Box::new(machine));
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    registered(&memory, &found, &image).unwrap()
}

#[test]
fn without_btf_what_is_declared_alike_in_all_releases_is_read_and_the_rest_said_to_be_unknown() {
    let mut machine = machine();
    // A probe that is off where another release would have its flags: nobody can tell, and it is said.
    let found = read_without_btf(machine.clone());
    assert_eq!(found.read, [Registrar::Ftrace, Registrar::Bpf]);
    assert!(found.unread[0].1.contains("several places"), "{:?}", found.unread);
    machine.word(HEAP + 0x100 + 112, 0);
    let found = read_without_btf(machine.clone());
    assert_eq!(found.read, [Registrar::Kprobes, Registrar::Ftrace, Registrar::Bpf]);
    let probed: Vec<u64> = entries(&found, Registrar::Kprobes).into_iter().map(|(address, _)| address).collect();
    assert_eq!(probed, [TEXT + 0x10, TEXT + 0x20]);
    assert_eq!(entries(&found, Registrar::Ftrace), [(TEXT + 0x100, 0), (TEXT + 0x200, 0)]);
    for (owner, why) in &found.unread {
        assert!(*owner == Registrar::Livepatch && why.contains("has no BTF"), "{why}");
    }
    // With the flags of the two releases in the other places, the one that can be flags decides.
    for flags in [112, 120, 128] {
        for (probe, off) in [(HEAP, 0), (HEAP + 0x100, 2)] {
            [112, 120, 128].iter().for_each(|at| machine.word(probe + at, 0xffff_ffff_8123_4567));
            machine.word(probe + flags, 4 | off);
        }
        let found = read_without_btf(machine.clone());
        assert_eq!(entries(&found, Registrar::Kprobes), [(TEXT + 0x10, 0xffff_ffff_c000_1234)], "{flags}");
    }
}

#[test]
fn without_btf_what_does_not_look_as_declared_is_not_believed() {
    let why = |change: &dyn Fn(&mut Machine)| {
        let mut machine = machine();
        machine.word(HEAP + 0x100 + 112, 0);
        change(&mut machine);
        read_without_btf(machine).unread.remove(0).1
    };
    assert!(why(&|m| m.word(HEAP + 40, 0x1234)).contains("no code can be there"));
    assert!(why(&|m| m.word(HEAP + 0x300, 0x1234)).contains("no code can be there"));
    assert!(why(&|m| [112, 120, 128].iter().for_each(|at| m.word(HEAP + at, 0x1000))).contains("none of their flags"));
}

#[test]
fn without_btf_trampolines_are_read_where_one_member_names_a_function_in_all() {
    let (first, second) = (HEAP + 0x500, HEAP + 0x900);
    let mut two = machine();
    two.word(first, second);
    two.word(second + 32, TEXT + 0x380);
    // Elsewhere both have what is no function of the kernel's.
    for trampoline in [first, second] {
        two.word(trampoline + 40, HEAP);
        two.word(trampoline + 48, 0xffff_ffff_c000_0000);
    }
    assert_eq!(entries(&read_without_btf(two.clone()), Registrar::Bpf), [(TEXT + 0x300, 0), (TEXT + 0x380, 0)]);
    let why = |machine: Machine| {
        let found = read_without_btf(machine);
        assert!(!found.read.contains(&Registrar::Bpf) && entries(&found, Registrar::Bpf).is_empty());
        found.unread.into_iter().find(|(owner, _)| *owner == Registrar::Bpf).unwrap().1
    };
    let mut other = two.clone();
    other.word(second + 32, 0);
    assert!(why(other).contains("of its 2 trampolines no member names a function"));
    for trampoline in [first, second] {
        two.word(trampoline + 40, TEXT + 0x10);
    }
    assert!(why(two).contains("more than one member names a function"));
}

#[test]
fn without_btf_a_kernel_that_nobody_changed_has_empty_lists() {
    let mut quiet = Machine::new();
    quiet.word(LIVEPATCH, LIVEPATCH);
    let found = read_without_btf(quiet);
    assert_eq!((found.entries.len(), found.read.len(), found.unread.len()), (0, 4, 0));
}
