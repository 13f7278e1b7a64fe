//! Kernels and machines at random: rows of every table over code made for them, and what decides a boot.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use pvops::image::{Bits, Image};
use pvops::insn::{self, X86_11_NOPS, X86_NOPS};
use pvops::patch;
use pvops::plan::{self, Bhi, Boot, Cfi, CfiMode, LoadedCode, Rules};
use pvops::sites::Tables;
use pvops::verify::{FeatureNumbers, KernelInfo, Known, Report, Unknown, Verifier, View};

#[path = "choices.rs"]
mod choices;
pub use choices::Choices;
#[path = "hashed.rs"]
mod hashed;

use crate::elfwriter::{ElfWriter, flags};

const TEXT: u64 = 0xffff_ffff_8100_0000;
const REPLACEMENTS: u64 = 0xffff_ffff_8180_0000;
const DATA: u64 = 0xffff_ffff_8200_0000;
const TABLES: u64 = 0xffff_ffff_8300_0000;
/// Bytes from one site to the next: more than any of them has.
const STEP: u64 = 0x40;
/// Features, keys, calls and constants there are, and how many sites each has at least: more than two must vote.
const POOL: u16 = 4;
const LEAST: usize = 4;
/// Numbers of features that other tables hang on, behind those of the pool.
const RETPOLINE: u16 = 32;
const LFENCE: u16 = 33;
const RETHUNK: u16 = 34;
const ITS: u16 = 35;
const CALL_DEPTH: u16 = 36;
/// What counts a call: `sarq $5, %gs:…`, and where it lies.
const TEMPLATE: &[u8] = b"\x65\x48\xc1\x3c\x25\x00\x10\x00\x00\x05";
const TEMPLATE_AT: u64 = TABLES + 0xe0_0000;
/// Where thunks are allocated; no kernel made here needs more.
const ITS_PAGES: [u64; 2] = [0xffff_ffff_c000_5000, 0xffff_ffff_c000_9000];
const ERAS: [&str; 5] = ["5.13", "6.1", "6.5", "6.12", "7.2"];

/// A kernel under construction.
#[derive(Default)]
struct Maker {
    text: Vec<u8>,
    replacements: Vec<u8>,
    /// Site, replacement, feature, inverted, length, its length.
    alternatives: Vec<(u64, u64, u16, bool, u8, u8)>,
    mcount: Vec<u64>,
    labels: Vec<(u64, u64, u64)>,
    calls: Vec<(u64, u64, bool)>,
    returns: Vec<u64>,
    retpolines: Vec<u64>,
    call_sites: Vec<u64>,
    locks: Vec<u64>,
    endbrs: Vec<u64>,
    constants: Vec<Vec<u64>>,
    preambles: Vec<u64>,
    /// Thunks that count calls, then those that count jumps.
    counted: u64,
    /// FineIBT's code is that of 6.18.
    paranoid: bool,
    /// From a preamble to its function.
    far: u64,
    functions: Vec<(String, u64)>,
}

impl Maker {
    fn next(&self) -> u64 {
        TEXT + self.text.len() as u64
    }

    /// Code in a place of its own, as a function.
    fn place(&mut self, name: &str, code: &[u8]) -> u64 {
        let address = self.next();
        self.text.extend_from_slice(code);
        let len = self.text.len().next_multiple_of(STEP as usize);
        self.text.resize(len, 0xcc);
        self.functions.push((format!("{name}_{:x}", address - TEXT), address));
        address
    }

    fn replacement(&mut self, code: &[u8]) -> u64 {
        let address = REPLACEMENTS + self.replacements.len() as u64;
        self.replacements.extend_from_slice(code);
        address
    }

    /// A site of alternatives, a row for each feature.
    fn alternative(&mut self, dice: &mut Choices<'_>, features: &[u16]) {
        const CODE: [&[u8]; 5] = [b"\xfa", b"\x0f\x01\xca", b"\xb8\x01\x00\x00\x00", b"\x0f\xae\xe8", b"\x90\x90\x90"];
        let len = 3 + dice.roll(6);
        let mut code = vec![0x90; len];
        let fills: &[u8] = dice.pick(&[b"\xfb", b"\x9c\x58", b"\x31\xc0"]);
        code[..fills.len()].copy_from_slice(fills);
        let site = self.place("alternative", &code);
        for (at, &feature) in features.iter().enumerate() {
            // Each row leaves its mark: else several states are one text.
            let mut with = CODE[(dice.roll(2) + 2 * at) % CODE.len()].to_vec();
            with.truncate(len);
            if with.len() == 3 && with[0] == 0x90 {
                with = vec![0xf4];
            }
            let replacement = self.replacement(&with);
            self.alternatives.push((site, replacement, feature, dice.flag(), len as u8, with.len() as u8));
        }
    }
}

/// A kernel, and the machine that it booted on.
pub struct Scene {
    pub image: Image,
    pub tables: Tables,
    pub rules: &'static Rules,
    pub boot: Boot,
}

/// A kernel and a machine by these choices.
pub fn scene(dice: &mut Choices<'_>) -> Scene {
    let rules = Rules::by_name(dice.pick(&ERAS)).unwrap();
    let mut maker = Maker { far: dice.pick(&[16, 16, 32, 64]), ..Maker::default() };
    let thunk = maker.place("__x86_return_thunk", b"\xc3\xcc\xcc\xcc\xcc");
    let tracer = maker.place("__fentry__", b"\xc3");
    let targets: Vec<u64> = (0..4).map(|_| maker.place("target", b"\x31\xc0\xc3")).collect();
    let array = maker.next();
    maker.place("thunks", &[0xcc; 16 * insn::THUNK_SIZE as usize]);
    maker.counted = maker.next();
    maker.place("counted_thunks", &[0xcc; 32 * insn::THUNK_SIZE as usize]);
    // A function with room before it for what counts its calls.
    let padded = maker.next() + 16;
    maker.place("padding", &[[0x90; 16].as_slice(), b"\x31\xc0\xc3"].concat());
    maker.functions.push(("padded".to_owned(), padded));
    let keys = |at: u16| DATA + 0x100 + 16 * u64::from(at);
    let hooks = |at: u16| DATA + 8 * u64::from(at);
    let constants = 2;
    maker.constants = vec![Vec::new(); constants];
    for at in 0..POOL {
        for _ in 0..LEAST + dice.roll(3) {
            maker.alternative(dice, &[at]);
            let branch = [b"\x0f\x1f\x44\x00\x00".to_vec(), vec![0x31; 11], vec![0xc3]].concat();
            let label = maker.place("label", &branch);
            maker.labels.push((label, label + 16, keys(at) | u64::from(dice.flag())));
            let tail = dice.flag();
            let address = maker.next();
            let to = targets[usize::from(at)];
            let code = if tail { insn::jmp(address, to) } else { insn::call(address, to) };
            maker.place("call", &code);
            maker.calls.push((address, hooks(at), tail));
        }
    }
    for _ in 0..LEAST + dice.roll(6) {
        let mut features: Vec<u16> = (0..POOL).filter(|_| dice.flag()).collect();
        features.truncate(3);
        if !features.is_empty() {
            maker.alternative(dice, &features);
        }
        let address = maker.next();
        maker.place("traced", &[&insn::call(address, tracer)[..], b"\x31\xc0\xc3"].concat());
        maker.mcount.push(address);
        let address = maker.next();
        maker.place("return", &insn::jmp(address, thunk));
        maker.returns.push(address);
        let address = maker.next();
        let to = array + insn::THUNK_SIZE * dice.roll(16) as u64;
        maker.place("branch", &if dice.flag() { insn::call(address, to) } else { insn::jmp(address, to) });
        maker.retpolines.push(address);
        let address = maker.next();
        maker.place("caller", &insn::call(address, padded));
        maker.call_sites.push(address);
        let lock = maker.place("lock", b"\xf0\x83\x04\x24\x00\xc3");
        maker.locks.push(lock);
        // A kernel may look for a preamble before it.
        let endbr = maker.place("endbr", &[&[0x90; 64][..], b"\xf3\x0f\x1e\xfa\xc3"].concat()) + 64;
        maker.endbrs.push(endbr);
        // A function with its hash, sealed or not, and a caller that asks for one.
        let hash: Vec<u8> = (0..4).map(|_| 1 + dice.roll(255) as u8).collect();
        let head = hashed::preamble(dice.roll(8) as u8, &hash, maker.far);
        let called = dice.flag() || dice.flag();
        let begins = maker.next() + maker.far;
        let function = match (called, dice.flag()) {
            (true, _) => *b"\xf3\x0f\x1e\xfa\xc3",
            (false, true) => *b"\x31\xc0\x31\xc0\xc3",
            (false, false) => {
                maker.call_sites.push(begins);
                maker.endbrs.extend(dice.flag().then_some(begins));
                insn::call(begins, padded)
            }
        };
        let preamble = maker.place("hashed", &[&head[..], &function].concat());
        maker.preambles.push(preamble);
        if called && dice.flag() {
            maker.endbrs.push(preamble + maker.far);
        }
        let check = hashed::check(&hash, maker.far);
        let address = maker.next() + check.len() as u64;
        let to = array + insn::THUNK_SIZE * 11;
        let branch = if dice.flag() { insn::call(address + 1, to) } else { insn::jmp(address + 1, to) };
        maker.place("checked", &[&check[..], b"\x2e", &branch].concat());
        maker.retpolines.push(address);
        for at in 0..constants {
            let load = maker.place("constant", b"\x48\xb8\xef\xcd\xab\x89\x67\x45\x23\x01\xc3");
            maker.constants[at].push(load + 2);
        }
    }
    maker.place("seals", &hashed::seals(dice.pick(&[maker.far, 16])));
    let plain: Vec<u8> = (0..dice.roll(64)).map(|_| dice.roll(256) as u8).collect();
    maker.place("plain", &plain);
    maker.paranoid = dice.flag();
    let (image, tables) = image(&maker, &targets, array, thunk, tracer);
    let boot = machine(dice, &tables, &targets, thunk, rules);
    Scene { image, tables, rules, boot }
}

fn image(maker: &Maker, targets: &[u64], array: u64, thunk: u64, tracer: u64) -> (Image, Tables) {
    let relative = |place: u64, target: u64| (target.wrapping_sub(place) as u32).to_le_bytes();
    let addresses = |start: u64, sites: &[u64]| -> Vec<u8> {
        (start..).step_by(4).zip(sites).flat_map(|(place, &site)| relative(place, site)).collect()
    };
    let mut data = vec![0; 0x1000];
    for (at, target) in targets.iter().enumerate() {
        data[8 * at..8 * at + 8].copy_from_slice(&target.to_le_bytes());
    }
    let mut rows = Vec::new();
    for &(site, replacement, feature, inverted, len, replacement_len) in &maker.alternatives {
        let place = TABLES + rows.len() as u64;
        rows.extend(relative(place, site));
        rows.extend(relative(place + 4, replacement));
        rows.extend(feature.to_le_bytes());
        rows.extend(u16::from(inverted).to_le_bytes());
        rows.extend([len, replacement_len]);
    }
    let base = |number: u64| TABLES + 0x10_0000 * number;
    let mut labels = Vec::new();
    for &(site, target, key) in &maker.labels {
        let place = base(1) + labels.len() as u64;
        labels.extend(relative(place, site));
        labels.extend(relative(place + 4, target));
        labels.extend(key.wrapping_sub(place + 8).to_le_bytes());
    }
    let mut calls = Vec::new();
    for &(site, key, tail) in &maker.calls {
        let place = base(2) + calls.len() as u64;
        calls.extend(relative(place, site));
        calls.extend(relative(place + 4, key | u64::from(tail)));
    }
    let mcount: Vec<u8> = maker.mcount.iter().flat_map(|site| site.to_le_bytes()).collect();
    let mut file = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &maker.text)
        .section(".altinstr_replacement", REPLACEMENTS, flags::TEXT, &maker.replacements)
        .section(".data", DATA, flags::DATA, &data)
        .section(".altinstructions", TABLES, flags::RODATA, &rows)
        .section("labels", base(1), flags::RODATA, &labels)
        .section("calls", base(2), flags::RODATA, &calls)
        .section("mcount", base(3), flags::RODATA, &mcount)
        .section(".return_sites", base(4), flags::RODATA, &addresses(base(4), &maker.returns))
        .section(".retpoline_sites", base(5), flags::RODATA, &addresses(base(5), &maker.retpolines))
        .section(".call_sites", base(15), flags::RODATA, &addresses(base(15), &maker.call_sites))
        .section(".template", TEMPLATE_AT, flags::RODATA, TEMPLATE)
        .section(".smp_locks", base(6), flags::RODATA, &addresses(base(6), &maker.locks))
        .section(".cfi_sites", base(12), flags::RODATA, &addresses(base(12), &maker.preambles))
        .section(".ibt_endbr_seal", base(7), flags::RODATA, &addresses(base(7), &maker.endbrs));
    for (at, sites) in (0..).zip(&maker.constants) {
        let name = format!("runtime_ptr_{at}");
        file = file.section(&name, base(8 + at), flags::RODATA, &addresses(base(8 + at), sites));
    }
    for (name, address) in &maker.functions {
        file = file.symbol(name, *address, 0, 'T');
    }
    if maker.paranoid {
        file =
            file.section(".rodata", base(13), flags::RODATA, hashed::FINEIBT_6_18).symbol("__bhi_args", tracer, 0, 'T');
    }
    let end = TEXT + maker.text.len() as u64;
    let named = [
        ("_text", TEXT),
        ("_etext", end),
        ("__x86_return_thunk", thunk),
        ("__fentry__", tracer),
        ("__x86_indirect_thunk_array", array),
        ("__x86_indirect_call_thunk_array", maker.counted),
        ("__x86_indirect_jump_thunk_array", maker.counted + 16 * insn::THUNK_SIZE),
        ("skl_call_thunk_template", TEMPLATE_AT),
        ("skl_call_thunk_tail", TEMPLATE_AT + TEMPLATE.len() as u64),
        ("__start___jump_table", base(1)),
        ("__stop___jump_table", base(1) + labels.len() as u64),
        ("__start_static_call_sites", base(2)),
        ("__stop_static_call_sites", base(2) + calls.len() as u64),
        ("__start_mcount_loc", base(3)),
        ("__stop_mcount_loc", base(3) + mcount.len() as u64),
    ];
    for (name, address) in named {
        file = file.symbol(name, address, 0, if address >= DATA { 'D' } else { 'T' });
    }
    let image = Image::from_bytes("random", file.build()).expect("an image");
    let tables = Tables::read(&image).expect("tables");
    (image, tables)
}

fn machine(dice: &mut Choices<'_>, tables: &Tables, targets: &[u64], thunk: u64, rules: &Rules) -> Boot {
    let mut boot = Boot {
        features: vec![0; 40],
        retpoline: Some(RETPOLINE),
        retpoline_lfence: Some(LFENCE),
        rethunk: Some(RETHUNK),
        its: Some(ITS),
        call_depth: Some(CALL_DEPTH),
        its_pages: ITS_PAGES.to_vec(),
        return_thunk: Some(thunk),
        uniprocessor: dice.flag(),
        nops: if rules.era == "6.1" { &X86_NOPS } else { &X86_11_NOPS },
        ..Boot::default()
    };
    for feature in (0..POOL).chain([RETPOLINE, LFENCE, RETHUNK, ITS, CALL_DEPTH]) {
        boot.features[usize::from(feature / 32)] |= u32::from(dice.flag()) << (feature % 32);
    }
    // its_apply_mitigation(): no thunks beside retpolines.
    let without = u32::from(boot.features[1] & 1 << (RETPOLINE - 32) != 0) << (ITS - 32);
    boot.features[1] &= !without;
    // retbleed_update_mitigation(): calls are counted with retpolines alone.
    let has = |feature: u16| boot.features[1] & 1 << (feature - 32) != 0;
    if !has(RETPOLINE) || has(LFENCE) || rules.era == "6.1" {
        boot.features[1] &= !(1 << (CALL_DEPTH - 32));
    }
    let mode = dice.pick(&[CfiMode::Kcfi, CfiMode::FineIbt, CfiMode::Paranoid, CfiMode::Off]);
    let seed = (0..4).fold(0, |seed, _| seed << 8 | dice.roll(256) as u32);
    let bhi = if mode.is_fineibt() { dice.pick(&[Bhi::Keeps, Bhi::Clears, Bhi::Calls]) } else { Bhi::Keeps };
    boot.cfi = Cfi { mode, bhi, seed: Some(seed) };
    let known = |value| plan::Known { value, certain: true };
    for label in &tables.jump_labels {
        let on = dice.flag();
        boot.keys.entry(label.key).or_insert_with(|| plan::Known { value: on, certain: true });
    }
    for site in &tables.static_calls {
        let target = [targets, &[0]].concat()[dice.roll(targets.len() + 1)];
        boot.static_calls.entry(site.key).or_insert_with(|| known(target));
    }
    for constant in &tables.constants {
        let value = (0..8).fold(0, |value, _| value << 8 | dice.roll(256) as u64);
        boot.constants.insert(constant.table.section.clone(), known(value));
    }
    boot
}

impl Scene {
    /// `.text` as the passes leave it; `None` where the kernel would stop.
    pub fn booted(&self) -> Option<Vec<u8>> {
        let plan = plan::boot(&self.image, &self.tables, &self.boot, self.rules).ok()?;
        Some(patch::text(&self.image, &plan).expect("a text"))
    }

    pub fn verifier(&self) -> Verifier<'_> {
        let numbers = FeatureNumbers {
            retpoline: Some(RETPOLINE),
            retpoline_lfence: Some(LFENCE),
            rethunk: Some(RETHUNK),
            its: Some(ITS),
            call_depth: Some(CALL_DEPTH),
            ..FeatureNumbers::default()
        };
        let info = KernelInfo { numbers, nops: vec![self.boot.nops], ..KernelInfo::default() };
        Verifier::new(&self.image, &self.tables, self.rules, info, LoadedCode::of(&self.image)).expect("a verifier")
    }

    /// What an address may hang on with fewer than three votes.
    fn few(&self, report: &Report, address: u64) -> bool {
        let few = |about: Unknown| report.votes.iter().find(|vote| vote.about == about).is_none_or(|v| v.votes < 3);
        let holds = |start: u64, len: u64| (start..start + len).contains(&address);
        (0..).zip(&self.tables.constants).any(|(at, constant)| {
            few(Unknown::Constant(at)) && constant.table.rows().any(|(_, site)| holds(site, constant.width.into()))
        }) || self.boot.cfi.bhi != Bhi::Keeps && self.tables.cfi.rows().any(|(_, preamble)| holds(preamble, 68))
            || self.tables.static_calls.iter().any(|site| few(Unknown::Call(site.key)) && holds(site.address, 6))
            || self.tables.jump_labels.iter().any(|label| few(Unknown::Key(label.key)) && holds(label.address, 5))
            || self
                .tables
                .alternatives
                .iter()
                .flat_map(|table| &table.rows)
                .any(|row| few(Unknown::Feature(row.feature)) && holds(row.address, row.len.into()))
    }
}

/// What the passes write is explained in every byte; one byte changed is one run, there.
pub fn check(bytes: &[u8]) {
    let mut dice = Choices(bytes);
    let scene = scene(&mut dice);
    let Some(mut text) = scene.booted() else { return };
    let verifier = scene.verifier();
    let judged = |text: &[u8]| {
        let view = View::new(verifier.text(), text, &[]).expect("a view");
        verifier.verify(&view, &Known::default())
    };
    let report = judged(&text);
    assert!(report.unexplained.is_empty(), "{} unexplained: {:x?}", scene.rules.era, report.unexplained.first());
    let at = (dice.roll(256) << 8 | dice.roll(256)) % text.len();
    if scene.few(&report, TEXT + at as u64) {
        return;
    }
    text[at] ^= 1 << dice.roll(8);
    let found: Vec<_> = judged(&text).unexplained.iter().map(|run| (run.address, run.wrong)).collect();
    assert_eq!(found, [(TEXT + at as u64, 1)], "{}", scene.rules.era);
}
