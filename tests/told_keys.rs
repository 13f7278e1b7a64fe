//! Keys that variables of the kernel tell of, hooks of netfilter, and BPF programs of control groups.
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
/// What a kernel allocated.
const HEAP: u64 = 0xffff_8880_0100_0000;
const STATE: u64 = DATA;
/// A key both ways, one that is on while its variable is set and maybe longer, one that hangs on two.
const ACCOUNTING: [u64; 2] = [DATA + 0x10, DATA + 0x20];
const PERF: [u64; 2] = [DATA + 0x30, DATA + 0x40];
const ZEROING: [u64; 3] = [DATA + 0x50, DATA + 0x60, DATA + 0x68];
/// Keys that a work turns once the variable was written.
const CLOCK: [u64; 2] = [DATA + 0xa0, DATA + 0xb0];
const RANDOM: [u64; 2] = [DATA + 0xb8, DATA + 0xc8];
const TIMERS: [u64; 3] = [DATA + 0xd0, DATA + 0xe0, DATA + 0xe8];
/// A key whose variable was freed.
const POISONING: u64 = DATA + 0x80;
const FREED: u64 = DATA + 0x2000;
/// A subsystem, its two keys, and the default hierarchy.
const SUBSYSTEM: u64 = DATA + 0x100;
const ON_DEFAULT: u64 = DATA + 0x140;
const ENABLED: u64 = DATA + 0x150;
const HIERARCHY: u64 = DATA + 0x200;
/// Its root group, within; below that a group on the heap, with a program of the second of three kinds.
const GROUP: u64 = HIERARCHY + 0x10;
const BELOW: u64 = HEAP + 0x100;
const PROGRAM_KEYS: u64 = DATA + 0x400;
/// Keys of hooks, as many as since 6.1, the list of namespaces, one on the heap, and its list of two hooks.
const HOOK_KEYS: u64 = DATA + 0x500;
const NAMESPACES: u64 = HOOK_KEYS + 11 * 5 * 16;
const NAMESPACE: u64 = HEAP + 0x400;
const HOOKS: u64 = HEAP + 0x600;
const TAKEN_OUT: u64 = TEXT + 0x100;
const HOOK: u64 = TEXT + 0x200;

fn btf() -> Vec<u8> {
    let mut b = Builder::default();
    let (pointer, int) = (b.pointer(0), b.int("int", 4));
    b.structure("static_key", 16, &[("enabled", int, 0)]);
    b.structure("cgroup_subsys", 64, &[("root", pointer, 0), ("id", int, 64)]);
    let list = b.structure("list_head", 16, &[("next", pointer, 0), ("prev", pointer, 64)]);
    let state = b.structure("cgroup_subsys_state", 32, &[("sibling", list, 0), ("children", list, 128)]);
    let (effective, programs, marks) = (b.array(pointer, 3), b.array(pointer, 3), b.array(int, 3));
    let members = [("effective", effective, 0), ("progs", programs, 192), ("flags", marks, 384)];
    let bpf = b.structure("cgroup_bpf", 60, &members);
    let group = b.structure("cgroup", 96, &[("self", state, 0), ("bpf", bpf, 256)]);
    b.structure("cgroup_root", 128, &[("subsys_mask", int, 0), ("cgrp", group, 128)]);
    let protocol = b.array(pointer, 5);
    let hooks = b.structure("netns_nf", 80, &[("hooks_ipv4", protocol, 0), ("hooks_ipv6", protocol, 320)]);
    b.structure("net", 128, &[("list", list, 64), ("nf", hooks, 256)]);
    b.structure("nf_hook_entry", 16, &[("hook", pointer, 0), ("priv", pointer, 64)]);
    b.structure("nf_hook_entries", 8, &[("num_hook_entries", int, 0), ("hooks", pointer, 64)]);
    b.finish(None)
}

fn image() -> Image {
    let mut writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &noise(1, 0x1000))
        .section(".rodata", RODATA, flags::RODATA, &rodata())
        .section(".BTF", RODATA + 0x1000, flags::RODATA, &btf())
        .nobits(".data", DATA, flags::DATA, 0x1000)
        .section(".init.data", FREED, flags::DATA, &[1; 8]);
    for (name, at) in [
        ("system_state", STATE),
        ("delayacct_key", ACCOUNTING[0]),
        ("delayacct_on", ACCOUNTING[1]),
        ("perf_sched_events", PERF[0]),
        ("perf_sched_count", PERF[1]),
        ("init_on_alloc", ZEROING[0]),
        ("_init_on_alloc_enabled_early", ZEROING[1]),
        ("_page_poisoning_enabled_early", ZEROING[2]),
        ("__sched_clock_stable", CLOCK[0]),
        ("__sched_clock_stable_early", CLOCK[1]),
        ("crng_is_ready", RANDOM[0]),
        ("crng_init", RANDOM[1]),
        ("timers_migration_enabled", TIMERS[0]),
        ("sysctl_timer_migration", TIMERS[1]),
        ("tick_nohz_active", TIMERS[2]),
        ("_debug_pagealloc_enabled", POISONING),
        ("_debug_pagealloc_enabled_early", FREED),
        ("memory_cgrp_subsys", SUBSYSTEM),
        ("memory_cgrp_subsys_on_dfl_key", ON_DEFAULT),
        ("memory_cgrp_subsys_enabled_key", ENABLED),
        ("cgrp_dfl_root", HIERARCHY),
        ("cgroup_bpf_enabled_key", PROGRAM_KEYS),
        ("nf_hooks_needed", HOOK_KEYS),
        ("net_namespace_list", NAMESPACES),
        ("accept_all", TAKEN_OUT),
    ] {
        writer = writer.symbol(name, at, 8, 'D');
    }
    Image::from_bytes("vmlinux", writer.build()).unwrap()
}

struct Machine(Vec<u8>, Vec<u8>);

impl Reader for Machine {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        let (text, rodata) = (noise(1, 0x1000), rodata());
        let stretches: [(u64, &[u8]); 5] =
            [(TEXT, &text), (RODATA, &rodata), (DATA, &self.0), (FREED, &[1; 8]), (HEAP, &self.1)];
        Ok(read_from(&stretches, address, buffer))
    }
}

/// A kernel that is up and has one group, one namespace with a hook, one program; then what is changed. What is wrong with
/// text that has these keys on, and all others off.
fn wrong(changes: &[(u64, u64)], on: &[u64]) -> Vec<(&'static str, u64, u64)> {
    let (mut data, mut heap) = (vec![0; 0x1000], vec![0; 0x1000]);
    let hook_list = NAMESPACE + 32 + 5 * 8 + 2 * 8; // IPv6, forward
    let usual = [
        (STATE, 3),
        (SUBSYSTEM, HIERARCHY),
        (SUBSYSTEM + 8, 4),
        (HIERARCHY, 1 << 4),
        (GROUP + 16, BELOW),
        (BELOW, GROUP + 16),
        (BELOW + 16, BELOW + 16),
        (BELOW + 32 + 24 + 8, HEAP + 0x800),
        (NAMESPACES, NAMESPACE + 8),
        (NAMESPACE + 8, NAMESPACES),
        (hook_list, HOOKS),
        (HOOKS, 2),
        (HOOKS + 8, TAKEN_OUT),
        (HOOKS + 24, HOOK),
    ];
    for &(at, value) in usual.iter().chain(changes) {
        let (bytes, start) = if at >= DATA { (&mut data, DATA) } else { (&mut heap, HEAP) };
        bytes[(at - start) as usize..][..8].copy_from_slice(&value.to_le_bytes());
    }
    let made = made();
    let mut report = made.judged("6.1", &made.booted("6.1"), &Known::default());
    let programs = (PROGRAM_KEYS..).step_by(16).take(3);
    let hooks = (HOOK_KEYS..).step_by(16).take(11 * 5);
    let keys = [ACCOUNTING[0], PERF[0], ZEROING[0], CLOCK[0], RANDOM[0], TIMERS[0], POISONING, ON_DEFAULT, ENABLED];
    let keys = keys.into_iter().chain(programs).chain(hooks);
    let vote =
        |key| Vote { about: Unknown::Key(key), value: on.contains(&key).into(), votes: 1, against: 0, known: false };
    report.votes = keys.map(vote).collect();
    let image = image();
    let memory = Memory::from_reader("<read>", Box::new(Machine(data, heap)));
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    let heard = hear(&report, &[], &Slots::default(), (&memory, &found, &image), Ok(&[])).unwrap();
    let told = |what: &str| ["variable", "netfilter_hook", "cgroup_bpf"].contains(&what);
    heard.disagreements.iter().filter(|d| told(d.what)).map(|d| (d.what, d.which, d.found)).collect()
}

/// The keys that are on in that kernel: of two of six, the second kind of program, the hook of IPv6.
const PROGRAM: u64 = PROGRAM_KEYS + 16;
const FORWARD: u64 = HOOK_KEYS + (10 * 5 + 2) * 16;
const ON: [u64; 4] = [ON_DEFAULT, ENABLED, PROGRAM, FORWARD];

#[test]
fn nothing_is_wrong_where_all_say_the_same() {
    assert_eq!(wrong(&[], &ON), []);
    let more = [&ON[..], &[ACCOUNTING[0], PERF[0], ZEROING[0]]].concat();
    assert_eq!(wrong(&[(ACCOUNTING[1], 1), (PERF[1], 7), (ZEROING[1], 1)], &more), []);
}

#[test]
fn a_key_is_on_while_its_variable_says_so() {
    assert_eq!(wrong(&[(ACCOUNTING[1], 1)], &ON), [("variable", ACCOUNTING[0], 1)]);
    assert_eq!(wrong(&[], &[&ON[..], &ACCOUNTING[..1]].concat()), [("variable", ACCOUNTING[0], 0)]);
    assert_eq!(wrong(&[(PERF[1], 7)], &ON), [("variable", PERF[0], 1)]);
    assert_eq!(wrong(&[], &[&ON[..], &PERF[..1]].concat()), [], "it may be left on for a while");
    assert_eq!(wrong(&[(ZEROING[1], 1)], &ON), [("variable", ZEROING[0], 1)]);
    assert_eq!(wrong(&[(ZEROING[1], 1), (ZEROING[2], 1)], &ON), [], "poisoned pages come before it");
    assert_eq!(wrong(&[(STATE, 1), (ACCOUNTING[1], 1)], &ON), [], "a kernel that boots");
}

/// Between the two, memory has what the key will be.
#[test]
fn a_key_that_a_work_turns_may_be_late() {
    let ready = [(CLOCK[1], 1), (RANDOM[1], 2), (TIMERS[1], 1), (TIMERS[2], 1)];
    let keys = [CLOCK[0], RANDOM[0], TIMERS[0]];
    assert_eq!(wrong(&ready, &[&ON[..], &keys].concat()), []);
    assert_eq!(wrong(&ready[1..], &[&ON[..], &keys[..1]].concat()), [], "each of them is about to be turned");
    let early = [("variable", TIMERS[0], 0), ("variable", RANDOM[0], 0)];
    assert_eq!(wrong(&[], &[&ON[..], &keys].concat()), early);
    assert_eq!(wrong(&ready[..3], &[&ON[..], &keys].concat()), early[..1]);
    assert_eq!(wrong(&ready[..1], &ON), [("variable", CLOCK[0], 1)]);
}

#[test]
fn a_subsystem_is_where_its_hierarchy_is_and_on_while_that_has_it() {
    let without = |key: u64| ON.into_iter().filter(|&on| on != key).collect::<Vec<_>>();
    assert_eq!(wrong(&[], &without(ON_DEFAULT)), [("variable", ON_DEFAULT, 1)]);
    assert_eq!(wrong(&[], &without(ENABLED)), [("variable", ENABLED, 1)]);
    assert_eq!(wrong(&[(HIERARCHY, 0)], &ON), [("variable", ENABLED, 0)]);
    assert_eq!(wrong(&[(SUBSYSTEM, HEAP)], &ON), [("variable", ON_DEFAULT, 0)], "of another nothing more is known");
}

#[test]
fn a_key_of_what_is_attached_is_on() {
    let off = wrong(&[], &ON[..2]);
    assert_eq!(off, [("netfilter_hook", FORWARD, 1), ("cgroup_bpf", PROGRAM, 1)]);
    assert_eq!(wrong(&[(HOOKS + 24, TAKEN_OUT)], &ON), [], "a namespace that goes may hold its key");
    assert_eq!(wrong(&[(HOOKS + 24, TAKEN_OUT), (BELOW + 32 + 24 + 8, 0)], &ON[..2]), []);
}

#[test]
fn lists_that_lead_nowhere_or_in_circles_end() {
    for changes in [[(NAMESPACE + 8, NAMESPACE + 8), (BELOW, BELOW)], [(NAMESPACE + 8, 0x40), (BELOW, 0x40)]] {
        assert_eq!(wrong(&changes, &ON), []);
    }
}
