//! A kernel in memory whose lists of who changes its text are made as the kernel keeps them.
#![allow(dead_code, clippy::unwrap_used)]

use pvops::Result;
use pvops::image::{Bits, Image};
use pvops::memory::{Entry, Memory, Reader, Registered, Registrar, registered};

use crate::elfwriter::{ElfWriter, flags};
use crate::memory_support::{BANNER, TEXT, noise};
use crate::symbols_support::btf::Builder;

pub const RODATA: u64 = TEXT + 0x20_0000;
pub const DATA: u64 = TEXT + 0x40_0000;
/// Where the lists begin, as linked.
pub const KPROBES: u64 = DATA;
pub const FTRACE: u64 = DATA + 0x400;
pub const BPF: u64 = DATA + 0x800;
pub const LIVEPATCH: u64 = DATA + 0x2800;
pub const TRACERS: u64 = DATA + 0x2900;
pub const END: u64 = DATA + 0x2a00;
pub const DISPATCHER: u64 = DATA + 0x2b00;
pub const DISARMED: u64 = DATA + 0x2c00;
/// Functions of the kernel's.
pub const TOGETHER: u64 = TEXT + 0x500;
pub const OF_PROBES: u64 = TEXT + 0x510;
pub const CALLERS: u64 = TEXT + 0x540;
pub const DISPATCHING: u64 = TEXT + 0x520;
pub const TRAMPOLINE: u64 = TEXT + 0x530;
/// Where what they hold is allocated.
pub const HEAP: u64 = 0xffff_8880_0100_0000;

pub fn btf() -> Vec<u8> {
    let mut b = Builder::default();
    let (int, long, pointer) = (b.int("unsigned int", 4), b.int("unsigned long", 8), b.pointer(0));
    let bits = |bytes: u32| 8 * bytes;
    let node = b.structure("hlist_node", 16, &[("next", pointer, 0), ("pprev", pointer, 64)]);
    let list = b.structure("list_head", 16, &[("next", pointer, 0), ("prev", pointer, 64)]);
    let probe = [
        ("hlist", node, 0),
        ("list", list, bits(16)),
        ("addr", pointer, bits(40)),
        ("pre_handler", pointer, bits(64)),
        ("flags", int, bits(112)),
    ];
    let probe = b.structure("kprobe", 120, &probe);
    let code = b.structure("arch_optimized_insn", 24, &[("insn", pointer, bits(8))]);
    b.structure("optimized_kprobe", 160, &[("kp", probe, 0), ("optinsn", code, bits(136))]);
    let ops = [
        ("func", pointer, 0),
        ("next", pointer, bits(8)),
        ("trampoline", long, bits(24)),
        ("func_hash", pointer, bits(32)),
    ];
    b.structure("ftrace_ops", 40, &ops);
    b.structure("ftrace_ops_hash", 16, &[("filter_hash", pointer, bits(8))]);
    b.structure("ftrace_hash", 24, &[("size_bits", long, 0), ("buckets", pointer, bits(8)), ("count", long, bits(16))]);
    b.structure("ftrace_func_entry", 24, &[("hlist", node, 0), ("ip", long, bits(16))]);
    b.structure("bpf_tramp_image", 16, &[("image", pointer, bits(8))]);
    let dispatcher = [("num_progs", int, 0), ("image", pointer, bits(8)), ("image_off", int, bits(16))];
    b.structure("bpf_dispatcher", 24, &dispatcher);
    b.structure("ftrace_page", 32, &[("next", pointer, 0), ("records", pointer, bits(8)), ("index", int, bits(16))]);
    b.structure("dyn_ftrace", 16, &[("ip", long, 0), ("flags", long, bits(8))]);
    let function = b.structure("", 16, &[("model", int, 0), ("addr", pointer, bits(8))]);
    b.structure(
        "bpf_trampoline",
        64,
        &[("hlist", node, 0), ("func", function, bits(24)), ("cur_image", pointer, bits(56))],
    );
    b.structure("klp_patch", 64, &[("list", list, bits(16)), ("obj_list", list, bits(32))]);
    b.structure("klp_object", 64, &[("func_list", list, bits(8)), ("node", list, bits(24))]);
    b.structure("klp_func", 64, &[("old_func", pointer, bits(8)), ("new_func", pointer, 0), ("node", list, bits(16))]);
    b.finish(None)
}

/// What the tracer's calls were last written to go to, and whether tracing is on.
pub const SAVED: u64 = DATA + 0x3f00;
pub const ENABLED: u64 = DATA + 0x3f08;
/// Who stops to trace.
pub const REMOVED: u64 = DATA + 0x3f10;

pub fn rodata() -> Vec<u8> {
    let mut rodata = noise(2, 0x1000);
    rodata[..BANNER.len() + 1].copy_from_slice(format!("{BANNER}\0").as_bytes());
    rodata
}

pub fn image(with_btf: bool) -> Image {
    image_with(with_btf, &noise(1, 0x1000), &[])
}

/// The image with another text, in which some functions are named, and the data that have the letter `D` are not.
pub fn image_with(with_btf: bool, text: &[u8], functions: &[(&str, u64)]) -> Image {
    let mut writer = ElfWriter::new(Bits::B64).section(".text", TEXT, flags::TEXT, text).section(
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
        ("ftrace_ops_list", TRACERS),
        ("ftrace_list_end", END),
        ("bpf_dispatcher_xdp", DISPATCHER),
        ("kprobes_all_disarmed", DISARMED),
        ("saved_ftrace_func", SAVED),
        ("ftrace_enabled", ENABLED),
        ("removed_ops", REMOVED),
    ] {
        if functions.is_empty() {
            writer = writer.symbol(name, at, 8, 'D');
        }
    }
    for (name, at) in [
        ("aggr_pre_handler", TOGETHER),
        ("ftrace_caller", CALLERS),
        ("ftrace_regs_caller", CALLERS + 0x10),
        ("kprobe_ftrace_handler", OF_PROBES),
        ("bpf_dispatcher_xdp_func", DISPATCHING),
        ("__SCT__bpf_dispatcher_xdp_call", TRAMPOLINE),
    ]
    .iter()
    .chain(functions)
    {
        writer = writer.symbol(name, *at, 8, 'T');
    }
    Image::from_bytes("vmlinux", writer.build()).unwrap()
}

/// Virtual memory: the kernel where it was linked, and a heap.
#[derive(Clone)]
pub struct Machine {
    text: Vec<u8>,
    rodata: Vec<u8>,
    data: Vec<u8>,
    heap: Vec<u8>,
}

impl Machine {
    pub fn new() -> Machine {
        let (text, rodata) = (noise(1, 0x1000), rodata());
        let mut machine = Machine { text, rodata, data: vec![0; 0x4000], heap: vec![0; 0x4000] };
        machine.word(TRACERS, END);
        machine
    }

    /// Puts code into text, and says what text is then.
    pub fn code(&mut self, address: u64, code: &[u8]) -> Vec<u8> {
        self.text[(address - TEXT) as usize..][..code.len()].copy_from_slice(code);
        self.text.clone()
    }

    pub fn word(&mut self, address: u64, value: u64) {
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

/// Where the list begins that has the probes of an address (`GOLDEN_RATIO_64`).
pub fn kprobes_of(address: u64) -> u64 {
    KPROBES + 8 * (address.wrapping_mul(0x61c8_8646_80b5_83eb) >> 58)
}

/// A kernel with two probes, one of them disabled; two pages of records; a trampoline; a live patch.
pub fn machine() -> Machine {
    let mut m = Machine::new();
    for (at, address, flags) in [(HEAP, TEXT + 0x10, 4), (HEAP + 0x100, TEXT + 0x20, 2)] {
        m.word(kprobes_of(address), at);
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

pub fn read(machine: Machine) -> Registered {
    read_by(&image(true), machine)
}

pub fn read_by(image: &Image, machine: Machine) -> Registered {
    let memory = Memory::from_reader("<read>", Box::new(machine));
    let found = memory.find(image, &mut |_, _| Ok(())).unwrap();
    registered(&memory, &found, image).unwrap()
}

pub fn entries(found: &Registered, owner: Registrar) -> Vec<(u64, u64)> {
    let of = found.entries.iter().filter(|entry| entry.owner == owner);
    of.map(|Entry { address, handler, .. }| (*address, *handler)).collect()
}

pub fn read_without_btf(machine: Machine) -> Registered {
    read_by(&image(false), machine)
}

/// What registers at one place, and where the text there goes then.
pub fn branches(found: &Registered) -> Vec<(Registrar, u64, Option<u64>)> {
    found.entries.iter().map(|entry| (entry.owner, entry.handler, entry.branch)).collect()
}
