//! A small kernel for the verifier: functions with everything in them that others write, or may not.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use pvops::image::{Bits, Image};
use pvops::insn;
use pvops::plan::{self, Boot, LoadedCode, Rules};
use pvops::sites::Tables;
use pvops::verify::{FeatureNumbers, KernelInfo, Known, Report, Verifier, View};

use crate::elfwriter::{ElfWriter, flags};

pub const TEXT: u64 = 0xffff_ffff_8100_0000;
pub const DATA: u64 = 0xffff_ffff_8200_0000;
pub const INIT: u64 = 0xffff_ffff_8300_0000;
/// Where modules and what is allocated for code lie.
pub const OUTSIDE: u64 = 0xffff_ffff_c000_0000;
/// Bytes from one function to the next.
pub const STEP: u64 = 0x20;

/// `push %rbp; mov %rsp,%rbp; xor %eax,%eax; mov $1,%ecx; pop %rbp; ret`, and where its instructions begin.
const BODY: &[u8] = b"\x55\x48\x89\xe5\x31\xc0\xb9\x01\x00\x00\x00\x5d\xc3";
pub const STARTS: [u64; 6] = [0, 1, 4, 6, 11, 12];

/// The functions, in order, each at `STEP` from the one before.
pub const FUNCTIONS: [&str; 24] = [
    "traced",
    "quiet",
    "entry_SYSCALL_64",
    "blacklisted",
    "trapping",
    "fixed",
    "looping",
    "keyed",
    "__SCT__hook",
    "calling",
    "__fentry__",
    "ftrace_caller",
    "ftrace_stub",
    "bpf_dispatcher_xdp_func",
    "__cfi_plain",
    "plain",
    "short",
    "__hid_bpf_tail_call",
    "arch_ftrace_ops_list_func",
    "early_xen_iret_patch",
    "xen_iret",
    "padded",
    "grouped",
    "locked",
];

pub fn at(name: &str) -> u64 {
    let place = FUNCTIONS.iter().position(|&function| function == name).expect("a function of the image");
    TEXT + STEP * place as u64
}

fn code_of(name: &str) -> Vec<u8> {
    let here = at(name);
    let body = |head: &[u8]| [head, BODY].concat();
    match name {
        "traced" | "__hid_bpf_tail_call" => body(&insn::call(here, at("__fentry__"))),
        "early_xen_iret_patch" => insn::jmp(here, at("plain")).to_vec(),
        // A `ud2` behind the first instruction.
        "trapping" => [&BODY[..1], b"\x0f\x0b", &BODY[1..]].concat(),
        // Jumps back to its second instruction, one byte behind the first.
        "looping" => [&BODY[..11], b"\xeb\xf4\x5d\xc3"].concat(),
        "keyed" => body(b"\x0f\x1f\x44\x00\x00"),
        "__SCT__hook" => [&insn::jmp(here, at("plain"))[..], b"\x0f\xb9\xcc"].concat(),
        "calling" => body(&insn::call(here, at("__SCT__hook"))),
        "__fentry__" | "ftrace_stub" => b"\xc3".to_vec(),
        "ftrace_caller" => [&insn::call(here, at("ftrace_stub"))[..], b"\xc3"].concat(),
        "bpf_dispatcher_xdp_func" => b"\x0f\x1f\x44\x00\x00\xc3".to_vec(),
        "__cfi_plain" => b"\xb8\x78\x56\x34\x12\xc3".to_vec(),
        // A nop with a `cs` prefix, then `cs xor %eax,%eax`.
        "padded" => body(b"\x66\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00\x2e\x31\xc0"),
        // `shl %cl,%rax; divl (%rip)`, and `incl (%rax); inc %al; call *%rax`.
        "grouped" => body(b"\x48\xd3\xe0\xf7\x35\x00\x00\x00\x00\xff\x00\xfe\xc0\xff\xd0"),
        // `lock cmpxchg %ecx,(%rax)`.
        "locked" => body(b"\xf0\x0f\xb1\x08"),
        "short" => b"\x55\x5d\xc3".to_vec(),
        _ => BODY.to_vec(),
    }
}

pub struct Made {
    pub image: Image,
    pub tables: Tables,
}

/// The image.
pub fn made() -> Made {
    let mut text = vec![0xcc; FUNCTIONS.len() * STEP as usize + 0x100];
    for (place, name) in FUNCTIONS.iter().enumerate() {
        let code = code_of(name);
        text[place * STEP as usize..][..code.len()].copy_from_slice(&code);
    }
    let mut data = vec![0; 0x100];
    // __SCK__hook, then a static key, then the tables.
    data[..8].copy_from_slice(&at("plain").to_le_bytes());
    let relative = |place: u64, target: u64| (target.wrapping_sub(place) as u32).to_le_bytes();
    let labels = DATA + 0x40;
    data[0x40..0x44].copy_from_slice(&relative(labels, at("keyed")));
    data[0x44..0x48].copy_from_slice(&relative(labels + 4, at("keyed") + 16));
    data[0x48..0x50].copy_from_slice(&(DATA + 8).wrapping_sub(labels + 8).to_le_bytes());
    let calls = DATA + 0x60;
    data[0x60..0x64].copy_from_slice(&relative(calls, at("calling")));
    data[0x64..0x68].copy_from_slice(&relative(calls + 4, DATA));
    let init = [at("traced"), at("__hid_bpf_tail_call"), at("blacklisted")].map(u64::to_le_bytes).concat();
    let bugs = DATA + 0x1000;
    let bug = [&relative(bugs, at("trapping") + 1)[..], &[0; 8]].concat();
    let exceptions = DATA + 0x2000;
    let exception =
        [&relative(exceptions, at("fixed") + 4)[..], &relative(exceptions + 4, at("fixed") + 6), &[0; 4]].concat();
    let mut file = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &text)
        .section(".data", DATA, flags::DATA, &data)
        .section("__bug_table", bugs, flags::DATA, &bug)
        .section("__ex_table", exceptions, flags::RODATA, &exception)
        .section(".smp_locks", INIT + 0x1000, flags::RODATA, &relative(INIT + 0x1000, at("locked")))
        .section(".init.data", INIT, flags::DATA, &init);
    for name in FUNCTIONS {
        file = file.symbol(name, at(name), 0, 'T');
    }
    for (name, address) in [
        ("ftrace_call", at("ftrace_caller")),
        ("ftrace_graph_caller", at("short")),
        ("__noinstr_text_start", at("quiet")),
        ("__noinstr_text_end", at("quiet") + STEP),
        ("__entry_text_start", at("entry_SYSCALL_64")),
        ("__entry_text_end", at("entry_SYSCALL_64") + STEP),
        ("_text", TEXT),
        ("_etext", TEXT + text.len() as u64),
        ("__SCK__hook", DATA),
        ("__start___jump_table", labels),
        ("__stop___jump_table", labels + 16),
        ("__start_static_call_sites", calls),
        ("__stop_static_call_sites", calls + 8),
        ("__start_mcount_loc", INIT),
        ("__stop_mcount_loc", INIT + 16),
        ("__smp_locks", INIT + 0x1000),
        ("__smp_locks_end", INIT + 0x1004),
        ("__start_kprobe_blacklist", INIT + 16),
        ("__stop_kprobe_blacklist", INIT + 24),
    ] {
        file = file.symbol(name, address, 0, if address >= DATA { 'D' } else { 'T' });
    }
    let image = Image::from_bytes("made", file.build()).expect("an image");
    let tables = Tables::read(&image).expect("tables");
    Made { image, tables }
}

/// The number of `X86_FEATURE_XENPV` in the image.
pub const XENPV: u16 = 8 * 32 + 16;
/// The key of the static call.
pub const HOOK: u64 = DATA;

/// What the image says of itself.
pub fn info() -> KernelInfo {
    let numbers = FeatureNumbers { xenpv: Some(XENPV), ..FeatureNumbers::default() };
    KernelInfo { numbers, nops: vec![Boot::default().nops], ..KernelInfo::default() }
}

impl Made {
    /// `.text` after a boot.
    pub fn booted(&self, era: &str) -> Vec<u8> {
        self.booted_on(era, &Boot { features: vec![0; 32], ..Boot::default() })
    }

    /// `.text` after a boot of this machine.
    pub fn booted_on(&self, era: &str, boot: &Boot) -> Vec<u8> {
        let plan = plan::boot(&self.image, &self.tables, boot, Rules::by_name(era).unwrap()).expect("a plan");
        pvops::patch::text(&self.image, &plan).expect("a text")
    }

    /// What memory holds, judged.
    pub fn judged(&self, era: &str, memory: &[u8], known: &Known) -> Report {
        self.judged_as(era, info(), memory, known)
    }

    /// Likewise, with more that the image says.
    pub fn judged_as(&self, era: &str, info: KernelInfo, memory: &[u8], known: &Known) -> Report {
        let verifier = self.verifier(era, info).expect("a verifier");
        let view = View::new(verifier.text(), memory, &[]).expect("a view");
        verifier.verify(&view, known)
    }

    pub fn verifier(&self, era: &str, info: KernelInfo) -> pvops::Result<Verifier<'_>> {
        let rules = Rules::by_name(era).unwrap();
        Verifier::new(&self.image, &self.tables, rules, info, LoadedCode::of(&self.image))
    }
}

/// Puts bytes into memory.
pub fn put(memory: &mut [u8], address: u64, bytes: &[u8]) {
    let at = (address - TEXT) as usize;
    memory[at..at + bytes.len()].copy_from_slice(bytes);
}
