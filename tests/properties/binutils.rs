//! Our encoders beside GNU as and objdump.

use std::path::PathBuf;
use std::process::Command;

use pvops::image::Bits;
use pvops::insn::{self, NopTable, X86_11_NOPS, X86_NOPS};
use pvops::plan::relocate::{self, Move};
use pvops::plan::{Boot, Landmarks, LoadedCode, Rules, Run};
use pvops::sites::{AddressTable, Tables};

const SITE: u64 = 0xffff_ffff_8100_0000;
const THUNKS: u64 = SITE + 0x1000;

/// A folder of one test's own, and binutils in it.
struct Binutils(PathBuf);

impl Drop for Binutils {
    fn drop(&mut self) {
        // What is left of it is in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Binutils {
    /// None, and a note, where binutils is missing.
    fn find(test: &str) -> Option<Binutils> {
        for tool in ["as", "objcopy", "objdump"] {
            let found = Command::new(tool).arg("--version").output();
            if !found.is_ok_and(|done| String::from_utf8_lossy(&done.stdout).contains("GNU")) {
                eprintln!("skipped: GNU {tool} is missing (Debian: binutils)");
                return None;
            }
        }
        let folder = std::env::temp_dir().join(format!("pvops-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder is made");
        Some(Binutils(folder))
    }

    fn run(&self, tool: &str, arguments: &[&str]) -> String {
        let done = Command::new(tool).args(arguments).current_dir(&self.0).output().expect("it starts");
        assert!(done.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("text")
    }

    /// The code of every piece of source.
    fn assembled(&self, bits: Bits, pieces: &[String]) -> Vec<Vec<u8>> {
        let mut source = String::from(".allow_index_reg\n");
        for (i, piece) in pieces.iter().enumerate() {
            source += &format!("b{i}:\n{piece}\ne{i}:\n.pushsection lengths\n.long e{i}-b{i}\n.popsection\n");
        }
        std::fs::write(self.0.join("in.s"), source).expect("written");
        let mode = if bits == Bits::B64 { "--64" } else { "--32" };
        self.run("as", &[mode, "-W", "-O0", "in.s", "-o", "in.o"]);
        let section = |name: &str| {
            self.run("objcopy", &["-O", "binary", "--set-section-flags", "lengths=alloc", "-j", name, "in.o", "out"]);
            std::fs::read(self.0.join("out")).expect("read")
        };
        let (code, lengths) = (section(".text"), section("lengths"));
        let mut rest = &code[..];
        let mut split = |len: &[u8]| {
            let len = u32::from_le_bytes(len.try_into().expect("4 bytes"));
            let (piece, tail) = rest.split_at(len as usize);
            rest = tail;
            piece.to_vec()
        };
        let found: Vec<_> = lengths.chunks(4).map(&mut split).collect();
        assert!(rest.is_empty() && found.len() == pieces.len());
        found
    }

    /// Address, length and text of every instruction.
    fn disassembled(&self, bits: Bits, address: u64, code: &[u8]) -> Vec<(u64, usize, String)> {
        std::fs::write(self.0.join("code"), code).expect("written");
        let machine = if bits == Bits::B64 { "i386:x86-64" } else { "i386" };
        let vma = format!("--adjust-vma={address:#x}");
        let out = self.run("objdump", &["-D", "-w", "-b", "binary", "-m", machine, &vma, "code"]);
        let line = |line: &str| {
            let (at, rest) = line.trim().split_once(":\t")?;
            let (bytes, text) = rest.split_once('\t')?;
            Some((u64::from_str_radix(at, 16).ok()?, bytes.split_whitespace().count(), text.trim().to_owned()))
        };
        out.lines().filter_map(line).collect()
    }
}

fn distances() -> Vec<i32> {
    let near = [-0x1000, -200, -130, -129, -128, -127, -126, -125, -5, -1, 0, 1, 2, 5, 6, 127, 128, 129, 130, 131, 132];
    let far = [0x1000, 0x1234_5678, 0x7fff_0000, -0x1234_5678, -0x7fff_0000];
    [&near[..], &far[..]].concat()
}

fn to(distance: i32) -> u64 {
    SITE.wrapping_add(distance as u64)
}

#[test]
fn calls_and_jumps_are_those_of_gnu_as() {
    let Some(binutils) = Binutils::find("branches") else { return };
    let mut pieces = Vec::new();
    let mut ours = Vec::new();
    for distance in distances() {
        pieces.extend([format!("call .+({distance})"), format!("jmp.d32 .+({distance})")]);
        ours.extend([insn::call(SITE, to(distance)).to_vec(), insn::jmp(SITE, to(distance)).to_vec()]);
    }
    for bits in [Bits::B32, Bits::B64] {
        for ((piece, ours), theirs) in pieces.iter().zip(&ours).zip(binutils.assembled(bits, &pieces)) {
            assert_eq!(*ours, theirs, "{piece}");
        }
    }
}

#[test]
fn a_jump_is_as_short_as_gnu_as_makes_it_since_6_5_and_to_6_4_forward_only() {
    let Some(binutils) = Binutils::find("short") else { return };
    let jumps: Vec<String> = distances().iter().map(|distance| format!("jmp .+({distance})")).collect();
    for (distance, mut theirs) in distances().into_iter().zip(binutils.assembled(Bits::B64, &jumps)) {
        let from = SITE + 0x10_0000;
        let linked = insn::jmp(from, to(distance));
        let whole = Move { from, len: linked.len(), to: SITE };
        let (mut first, mut every) = (linked, linked);
        relocate::jump(whole, &X86_NOPS, &mut first);
        relocate::every(whole, Bits::B64, &mut every).expect("no BUG");
        let short = theirs.len() == 2;
        theirs.resize(5, 0xcc);
        assert_eq!(every[..], theirs, "{distance}");
        if distance < 0 {
            assert_eq!(first, insn::jmp(SITE, to(distance)), "{distance}");
        } else {
            assert_eq!(first[..2], theirs[..2], "{distance}");
            assert_eq!(&first[2..] == b"\x0f\x1f\x00", short, "{distance}");
        }
    }
}

/// A table's nops as one would write them. Prefixes stand alone where the assembler would choose another order.
const NOPS: [(&str, Bits, &[&str]); 5] = [
    (
        "x86-11",
        Bits::B64,
        &[
            "nop",
            "xchg %ax,%ax",
            "nopl (%rax)",
            "{disp8} nopl 0(%rax)",
            "{disp8} nopl 0(%rax,%rax,1)",
            "{disp8} nopw 0(%rax,%rax,1)",
            "{disp32} nopl 0(%rax)",
            "{disp32} nopl 0(%rax,%rax,1)",
            "{disp32} nopl %cs:0(%rax,%rax,1)",
            "data16; {disp32} nopl %cs:0(%rax,%rax,1)",
            "data16; data16; {disp32} nopl %cs:0(%rax,%rax,1)",
        ],
    ),
    (
        "k8",
        Bits::B64,
        &[
            "nop",
            "xchg %ax,%ax",
            "data16; xchg %ax,%ax",
            "data16; data16; xchg %ax,%ax",
            "data16; xchg %ax,%ax; xchg %ax,%ax",
            "data16; xchg %ax,%ax; data16; xchg %ax,%ax",
            "data16; data16; xchg %ax,%ax; data16; xchg %ax,%ax",
            "data16; data16; xchg %ax,%ax; data16; data16; xchg %ax,%ax",
        ],
    ),
    (
        "x86-32",
        Bits::B32,
        &[
            "nop",
            "mov %esi,%esi",
            "{disp8} lea 0(%esi),%esi",
            "{disp8} lea 0(%esi,%eiz,1),%esi",
            "ds; {disp8} lea 0(%esi,%eiz,1),%esi",
            "{disp32} lea 0(%esi),%esi",
            "{disp32} lea 0(%esi,%eiz,1),%esi",
            "ds; {disp32} lea 0(%esi,%eiz,1),%esi",
        ],
    ),
    (
        "generic",
        Bits::B32,
        &[
            "nop",
            "mov %esi,%esi",
            "{disp8} lea 0(%esi),%esi",
            "{disp8} lea 0(%esi,%eiz,1),%esi",
            "nop; {disp8} lea 0(%esi,%eiz,1),%esi",
            "{disp32} lea 0(%esi),%esi",
            "{disp32} lea 0(%esi,%eiz,1),%esi",
            "nop; {disp32} lea 0(%esi,%eiz,1),%esi",
        ],
    ),
    (
        "k7",
        Bits::B32,
        &[
            "nop",
            "{load} mov %eax,%eax",
            "lea (%eax,%eiz,1),%eax",
            "{disp8} lea 0(%eax,%eiz,1),%eax",
            "{disp8} lea 0(%eax,%eiz,1),%eax; nop",
            "{disp32} lea 0(%eax),%eax",
            "lea 0(,%eax,1),%eax",
            "lea 0(,%eax,1),%eax; nop",
        ],
    ),
];

#[test]
fn every_nop_of_the_tables_is_what_gnu_as_makes_of_its_source() {
    let Some(binutils) = Binutils::find("nops") else { return };
    for (table, bits, sources) in NOPS {
        let names: &[&str] = if table == "x86-11" { &["x86-11", "x86", "p6"] } else { &[table] };
        let pieces: Vec<String> = sources.iter().map(|&source| source.to_owned()).collect();
        let assembled = binutils.assembled(bits, &pieces);
        for name in names {
            let nops = NopTable::by_name(name).expect("a table");
            let longest = if *name == "x86-11" { 11 } else { 8 };
            for (source, theirs) in sources.iter().zip(&assembled).take(longest) {
                let mut ours = vec![0; theirs.len()];
                nops.fill(&mut ours);
                assert_eq!(ours, *theirs, "{name}: {source}");
            }
        }
    }
}

#[test]
fn nops_of_12_bytes_and_more_are_the_jump_gnu_as_makes_over_int3() {
    let Some(binutils) = Binutils::find("span") else { return };
    let lens = [12, 13, 40, 127, 128, 129, 130, 200, 254];
    // The kernel takes the long form for 128 and 129 already, which the short one would reach.
    let piece = |len: &usize| {
        let jump = if *len < 128 { "jmp" } else { "jmp.d32" };
        format!("s{len}: {jump} f{len}\n.fill {len} - (. - s{len}), 1, 0xcc\nf{len}:")
    };
    let pieces: Vec<String> = lens.iter().map(piece).collect();
    for (len, theirs) in lens.into_iter().zip(binutils.assembled(Bits::B64, &pieces)) {
        let mut ours = vec![0; len];
        X86_11_NOPS.span(&mut ours);
        assert_eq!(ours, theirs, "{len}");
    }
}

#[test]
fn objdump_reads_nops_of_every_length_and_direct_calls_as_we_meant_them() {
    let Some(binutils) = Binutils::find("objdump") else { return };
    for (table, bits, sources) in NOPS {
        let nops = NopTable::by_name(table).expect("a table");
        // All lengths behind one another, each between two breakpoints.
        let mut code = Vec::new();
        for len in 1..=40 {
            let start = code.len();
            code.resize(start + len, 0);
            nops.fill(&mut code[start..]);
            code.push(0xcc);
        }
        let listing = binutils.disassembled(bits, 0, &code);
        let mut runs = listing.split(|(_, _, text)| text == "int3");
        for len in 1..=40 {
            let run = runs.next().expect("a run");
            assert_eq!(run.iter().map(|(_, len, _)| len).sum::<usize>(), len, "{table}: {run:?}");
            let known = |text: &str| ["nop", "xchg", "mov", "lea"].iter().any(|nop| text.contains(nop));
            assert!(run.iter().all(|(_, _, text)| known(text)), "{table}: {run:?}");
            let most = len.div_ceil(sources.len()) * if matches!(table, "x86-11" | "x86-32") { 1 } else { 2 };
            assert!(run.len() <= most, "{table}: {run:?}");
        }
    }
    let mut code = Vec::new();
    let mut targets = Vec::new();
    for distance in distances() {
        for encode in [insn::call, insn::jmp] {
            targets.push(to(distance));
            code.extend(encode(SITE + code.len() as u64, to(distance)));
        }
    }
    let listing = binutils.disassembled(Bits::B64, SITE, &code);
    assert_eq!(listing.len(), targets.len());
    for (i, ((at, len, text), target)) in listing.iter().zip(targets).enumerate() {
        let (name, shown) = text.split_once(' ').expect("an operand");
        assert_eq!((*at, *len), (SITE + 5 * i as u64, 5), "{text}");
        assert!(name.starts_with(["call", "jmp"][i % 2]), "{text}");
        assert_eq!(shown.trim(), format!("{target:#x}"));
    }
}

/// What `apply_retpolines()` makes of one site.
fn retpoline(era: &str, site: &[u8], lfence: bool) -> Vec<u8> {
    let marks = Landmarks { text: (SITE, SITE + 0x10000), indirect_thunks: Some(THUNKS), ..Landmarks::default() };
    let tables = Tables {
        retpolines: AddressTable { section: ".retpoline_sites".to_owned(), sites: vec![SITE] },
        ..Tables::default()
    };
    let boot = Boot {
        features: vec![0b10 | u32::from(lfence) << 2],
        retpoline: Some(if lfence { 1 } else { 0 }),
        retpoline_lfence: Some(2),
        nops: if era == "6.1" { &X86_NOPS } else { &X86_11_NOPS },
        ..Boot::default()
    };
    let memory = LoadedCode::new(Bits::B64, [(SITE, site)]);
    let data = |_, _| None;
    let run = Run::new(memory, &tables, &marks, &boot, Rules::by_name(era).expect("an era"), &data);
    run.all().expect("no BUG").1.from(SITE).to_vec()
}

/// Sites through every register but `%rsp`, whether with a fence, and what they become, as source.
fn indirect(era: &str) -> Vec<(Vec<u8>, bool, String)> {
    let low = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"].map(str::to_owned);
    let names = low.into_iter().chain((8..16).map(|n| format!("r{n}")));
    let mut cases = Vec::new();
    for (number, name) in names.enumerate().filter(|&(number, _)| number != 4) {
        let thunk = THUNKS + 32 * number as u64;
        for (lfence, opcode, source) in
            [(false, 0xe8, "call"), (false, 0xe9, "jmp"), (true, 0xe8, "call"), (true, 0xe9, "jmp")]
        {
            // With the fence, a branch through %r8 and later needs six bytes.
            let prefix: &[u8] = if lfence && number >= 8 { b"\x2e" } else { b"" };
            let len = prefix.len() + insn::CALL_LEN;
            let field = (thunk.wrapping_sub(SITE + len as u64) as u32).to_le_bytes();
            let spare = len - if lfence { 3 } else { 0 } - if number >= 8 { 3 } else { 2 };
            let stretch = if era == "7.2" && source == "call" { "cs; ".repeat(spare) } else { String::new() };
            let fence = if lfence { "lfence; " } else { "" };
            cases.push(([prefix, &[opcode], &field].concat(), lfence, format!("{fence}{stretch}{source} *%{name}")));
        }
        let field = (thunk.wrapping_sub(SITE + 6) as u32).to_le_bytes();
        let rest = match (number >= 8, era) {
            (true, _) => "int3",
            (false, "7.2") => "int3; int3",
            (false, _) => "int3; nop",
        };
        cases.push(([&b"\x0f\x85"[..], &field].concat(), false, format!("je 1f; jmp *%{name}; {rest}; 1:")));
    }
    cases
}

#[test]
fn indirect_branches_that_replace_thunks_are_those_of_gnu_as() {
    let Some(binutils) = Binutils::find("retpolines") else { return };
    for era in ["6.1", "6.12", "7.2"] {
        let cases = indirect(era);
        let pieces: Vec<String> = cases.iter().map(|(.., source)| source.clone()).collect();
        for ((site, lfence, source), theirs) in cases.iter().zip(binutils.assembled(Bits::B64, &pieces)) {
            assert_eq!(retpoline(era, site, *lfence)[..theirs.len()], theirs, "{era}: {source}");
        }
    }
}
