//! Keys that other numbers of the kernel tell of than variables beside them: lists, pointers, features, each CPU's data,
//! other calls, and what is done in every boot.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;
mod symbols_support;
mod verify_support;

use elfwriter::{ElfWriter, flags};
use memory_support::{TEXT, noise, read_from, rodata};
use pvops::Result;
use pvops::image::{Bits, Image};
use pvops::memory::{Memory, Reader};
use pvops::verify::{Known, Slots, Unknown, Vote, hear};
use symbols_support::btf::Builder;
use verify_support::made;

const RODATA: u64 = TEXT + 0x20_0000;
const DATA: u64 = TEXT + 0x40_0000;
/// What a kernel allocated, and where the data of its two CPUs are.
const HEAP: u64 = 0xffff_8880_0100_0000;
const CPUS: [u64; 2] = [HEAP + 0x400, HEAP + 0x800];
const STATE: u64 = DATA;
/// What tells of keys.
const OFFSETS: u64 = DATA + 0x10;
const COUNT: u64 = DATA + 0x20;
const FEATURES: u64 = DATA + 0x40;
const DELAY: u64 = DATA + 0x80;
const CPUSET: u64 = DATA + 0xa0;
const PAGES: u64 = DATA + 0xc0;
const ONLINE: u64 = DATA + 0x120;
const PRESENT: u64 = DATA + 0x130;
const BOOTED: u64 = DATA + 0x138;
const SHORTHAND_OFF: u64 = DATA + 0x140;
const OPTIMISED: u64 = DATA + 0x148;
const HYPERVISOR: u64 = DATA + 0x150;
const FLUSH: u64 = DATA + 0x160;
const LINE: u64 = DATA + 0x168;
/// Functions.
const LOOP: u64 = TEXT + 0x100;
const TSC: u64 = TEXT + 0x200;
/// The keys.
const KEYS: [(&str, u64); 13] = [
    ("sched_clock_running", DATA + 0x400),
    ("deferred_pages", DATA + 0x410),
    ("context_tracking_key", DATA + 0x420),
    ("blake2s_use_ssse3", DATA + 0x430),
    ("__use_tsc", DATA + 0x440),
    ("cpusets_enabled_key", DATA + 0x450),
    ("hugetlb_optimize_vmemmap_key", DATA + 0x460),
    ("apic_use_ipi_shorthand", DATA + 0x480),
    ("bpf_pred_flush_enabled", DATA + 0x490),
    ("perf_swevent_enabled", DATA + 0x4a0),
    ("force_irqthreads_key", DATA + 0x4d0),
    ("bypass_usercopy_checks", DATA + 0x4e0),
    ("have_aes", DATA + 0x4f0),
];
/// The second of several software events.
const EVENT: u64 = DATA + 0x4b0;
/// Another file's key of the same name.
const HAVE_AES: u64 = DATA + 0x510;
const HYPERV: u64 = DATA + 0x500;

fn key(name: &str) -> u64 {
    KEYS.iter().find(|(of, _)| *of == name).unwrap().1
}

fn btf() -> Vec<u8> {
    let mut b = Builder::default();
    let (pointer, int, byte, long) = (b.pointer(0), b.int("int", 4), b.int("bool", 1), b.int("long", 8));
    b.structure("static_key", 16, &[("enabled", int, 0)]);
    let list = b.structure("list_head", 16, &[("next", pointer, 0), ("prev", pointer, 64)]);
    let state = b.structure("cgroup_subsys_state", 24, &[("id", long, 0), ("children", list, 64)]);
    b.structure("cpuset", 24, &[("css", state, 0)]);
    b.structure("context_tracking", 16, &[("depth", int, 0), ("active", byte, 32)]);
    b.structure("swevent_htable", 16, &[("swevent_hlist", pointer, 0), ("hlist_refcount", int, 64)]);
    b.structure("hstate", 16, &[("order", int, 0), ("nr_huge_pages", long, 64)]);
    let words = b.array(int, 8);
    b.structure("cpuinfo_x86", 48, &[("x86", byte, 0), ("x86_capability", words, 64), ("model", int, 320)]);
    b.finish(None)
}

/// The kernel's image, with per-CPU symbols that are distances or lie in it.
fn image(distances: bool) -> Image {
    let mut writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &noise(1, 0x1000))
        .section(".rodata", RODATA, flags::RODATA, &rodata())
        .section(".BTF", RODATA + 0x1000, flags::RODATA, &btf())
        .nobits(".data", DATA, flags::DATA, 0x1000);
    let base = if distances { 0 } else { DATA + 0x800 };
    let names = [
        ("system_state", STATE),
        ("__per_cpu_offset", OFFSETS),
        ("nr_cpu_ids", COUNT),
        ("boot_cpu_data", FEATURES),
        ("delay_fn", DELAY),
        ("top_cpuset", CPUSET),
        ("hstates", PAGES),
        ("vmemmap_optimize_enabled", OPTIMISED),
        ("__num_online_cpus", ONLINE),
        ("__cpu_present_mask", PRESENT),
        ("cpus_booted_once_mask", BOOTED),
        ("apic_ipi_shorthand_off", SHORTHAND_OFF),
        ("x86_hyper_type", HYPERVISOR),
        ("isolation_type_snp", HYPERV),
        ("__SCK__bpf_arch_pred_flush", FLUSH),
        ("context_tracking", base + 0x20),
        ("swevent_htable", base + 0x40),
        ("saved_command_line", LINE),
        ("have_aes", HAVE_AES),
        ("behind", EVENT + 16),
    ];
    for (name, at) in names.into_iter().chain(KEYS) {
        writer = writer.symbol(name, at, 8, 'D');
    }
    for (name, at) in [("delay_loop", LOOP), ("delay_tsc", TSC)] {
        writer = writer.symbol(name, at, 8, 'T');
    }
    Image::from_bytes("vmlinux", writer.build()).unwrap()
}

struct Machine(Vec<u8>, Vec<u8>);

impl Reader for Machine {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        let (text, rodata) = (noise(1, 0x1000), rodata());
        Ok(read_from(&[(TEXT, &text), (RODATA, &rodata), (DATA, &self.0), (HEAP, &self.1)], address, buffer))
    }
}

/// A kernel that is up on two CPUs, none of which does what is counted, after these changes. What its data say of keys of
/// which the text says that these alone are on.
fn wrong(changes: &[(u64, u64)], on: &[u64]) -> Vec<(u64, u64)> {
    [true, false]
        .map(|distances| wrong_with(distances, changes, on))
        .into_iter()
        .reduce(|one, other| {
            assert_eq!(one, other, "wherever symbols of each CPU's data are");
            one
        })
        .unwrap()
}

fn wrong_with(distances: bool, changes: &[(u64, u64)], on: &[u64]) -> Vec<(u64, u64)> {
    let (mut data, mut heap) = (vec![0; 0x1000], vec![0; 0x1000]);
    let base = if distances { 0 } else { DATA + 0x800 };
    let usual = [
        (STATE, 3),
        (OFFSETS, CPUS[0].wrapping_sub(base)),
        (OFFSETS + 8, CPUS[1].wrapping_sub(base)),
        (COUNT, 2),
        (DELAY, TSC),
        (CPUSET + 8, CPUSET + 8),
        (ONLINE, 2),
        (PRESENT, 3),
        (BOOTED, 3),
        (LINE, HEAP + 0xa00),
    ];
    for &(at, value) in usual.iter().chain(changes) {
        let (bytes, start) = if at >= DATA { (&mut data, DATA) } else { (&mut heap, HEAP) };
        bytes[(at - start) as usize..][..8].copy_from_slice(&value.to_le_bytes());
    }
    let made = made();
    let mut report = made.judged("6.1", &made.booted("6.1"), &Known::default());
    let keys = KEYS.iter().map(|&(_, key)| key).chain([EVENT, HYPERV, HAVE_AES]);
    let vote = |about, value| Vote { about, value, votes: 1, against: 0, known: false };
    report.votes = keys.map(|key| vote(Unknown::Key(key), on.contains(&key).into())).collect();
    report.votes.push(vote(Unknown::Call(FLUSH), if on.contains(&FLUSH) { LOOP } else { 0 }));
    let image = image(distances);
    let memory = Memory::from_reader("<read>", Box::new(Machine(data, heap)));
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    let heard = hear(&report, &[], &Slots::default(), (&memory, &found, &image), Ok(&[])).unwrap();
    heard.disagreements.iter().filter(|d| d.what == "variable").map(|d| (d.which, d.found)).collect()
}

/// The keys that are on in that kernel.
fn usual() -> Vec<u64> {
    ["sched_clock_running", "__use_tsc", "apic_use_ipi_shorthand"].map(key).to_vec()
}

#[track_caller]
fn told(name: &str, changes: &[(u64, u64)], on: bool) {
    let without: Vec<u64> = usual().into_iter().filter(|&other| other != key(name)).collect();
    let with = [&without[..], &[key(name)]].concat();
    let (right, other) = if on { (&with, &without) } else { (&without, &with) };
    assert_eq!(wrong(changes, right), [], "{name}");
    assert_eq!(wrong(changes, other), [(key(name), u64::from(on))], "{name}");
}

/// What one thing alone tells of, either way is right.
#[track_caller]
fn untold(name: &str, changes: &[(u64, u64)]) {
    let without: Vec<u64> = usual().into_iter().filter(|&other| other != key(name)).collect();
    for keys in [without.clone(), [&without[..], &[key(name)]].concat()] {
        assert_eq!(wrong(changes, &keys), [], "{name}");
    }
}

#[test]
fn nothing_is_wrong_in_a_kernel_that_is_up() {
    assert_eq!(wrong(&[], &usual()), []);
}

#[test]
fn what_every_boot_does_is_done() {
    told("sched_clock_running", &[], true);
    told("deferred_pages", &[], false);
}

#[test]
fn what_a_cpu_has_tells() {
    told("context_tracking_key", &[], false);
    for cpu in CPUS {
        told("context_tracking_key", &[(cpu + 0x20, 1 << 32)], true);
    }
    untold("context_tracking_key", &[(OFFSETS + 8, 0x1234)]);
}

#[test]
fn of_an_array_one_thing_tells_of_all() {
    assert_eq!(wrong(&[], &[&usual()[..], &[EVENT]].concat()), [(EVENT, 0)]);
    told("perf_swevent_enabled", &[], false);
    untold("perf_swevent_enabled", &[(CPUS[1] + 0x48, 1)]);
}

#[test]
fn features_of_the_boot_cpu_tell() {
    let word = FEATURES + 8 + 4 * 4;
    told("blake2s_use_ssse3", &[], false);
    told("blake2s_use_ssse3", &[(word, 1 << 9)], true);
    told("blake2s_use_ssse3", &[(word, 1 << 10)], false);
}

#[test]
fn where_a_pointer_goes_tells() {
    told("__use_tsc", &[], true);
    told("__use_tsc", &[(DELAY, LOOP)], false);
    untold("__use_tsc", &[(DELAY, TEXT + 0x300)]);
}

#[test]
fn lists_and_counts_tell_while_they_are_empty() {
    told("cpusets_enabled_key", &[], false);
    untold("cpusets_enabled_key", &[(CPUSET + 8, HEAP)]);
    told("hugetlb_optimize_vmemmap_key", &[], false);
    for page in [PAGES + 8, PAGES + 24] {
        untold("hugetlb_optimize_vmemmap_key", &[(page, 1)]);
    }
}

#[test]
fn how_many_cpus_are_up_tells() {
    told("apic_use_ipi_shorthand", &[], true);
    told("apic_use_ipi_shorthand", &[(ONLINE, 1)], false);
    told("apic_use_ipi_shorthand", &[(SHORTHAND_OFF, 1)], false);
    untold("apic_use_ipi_shorthand", &[(PRESENT, 7)]);
    untold("apic_use_ipi_shorthand", &[(COUNT, 65)]);
}

#[test]
fn another_call_tells() {
    let flushes = key("bpf_pred_flush_enabled");
    let with = |more: &[u64]| [&usual()[..], more].concat();
    assert_eq!(wrong(&[], &with(&[flushes, FLUSH])), []);
    assert_eq!(wrong(&[], &with(&[flushes])), [(flushes, 0)]);
    assert_eq!(wrong(&[], &with(&[FLUSH])), [(flushes, 1)]);
}

#[test]
fn the_hypervisor_tells_of_what_only_one_of_them_has() {
    let on = [&usual()[..], &[HYPERV]].concat();
    assert_eq!(wrong(&[(HYPERVISOR, 5)], &on), [(HYPERV, 0)]);
    assert_eq!(wrong(&[(HYPERVISOR, 2)], &on), []);
}

#[test]
fn the_command_line_tells() {
    let line = |said: &str| -> Vec<(u64, u64)> {
        let bytes = format!("{said:\0<64}");
        let words = bytes.as_bytes().chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        (HEAP + 0xa00..).step_by(8).zip(words).collect()
    };
    told("force_irqthreads_key", &line("ro quiet"), false);
    told("force_irqthreads_key", &line("ro threadirqs quiet"), true);
    told("force_irqthreads_key", &line("ro -- threadirqs"), false);
    told("force_irqthreads_key", &line("dyndbg=\"file a threadirqs +p\" ro"), false);
    told("bypass_usercopy_checks", &line("ro"), false);
    told("bypass_usercopy_checks", &line("hardened-usercopy=off"), true);
    told("bypass_usercopy_checks", &line("hardened_usercopy=off hardened_usercopy=1"), false);
    untold("bypass_usercopy_checks", &line("hardened_usercopy=maybe"));
    untold("force_irqthreads_key", &[(LINE, 0)]);
}

#[test]
fn keys_that_several_files_have_by_one_name_are_told_by_one_feature() {
    let on = [&usual()[..], &[key("have_aes"), HAVE_AES]].concat();
    let mut all = wrong(&[], &on);
    all.sort_unstable();
    assert_eq!(all, [(key("have_aes"), 0), (HAVE_AES, 0)]);
    assert_eq!(wrong(&[(FEATURES + 8 + 4 * 4, 1 << 25)], &on), []);
}
