//! Keys and calls that other data tell of: messages, security hooks, the PMU's functions, the APIC's.
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
use pvops::verify::{Heard, Known, Slots, Unknown, Vote, hear};
use symbols_support::btf::Builder;
use verify_support::made;

const RODATA: u64 = TEXT + 0x20_0000;
const DATA: u64 = TEXT + 0x40_0000;
/// Two messages, of this many bytes; in each where its flags are, and its key.
const MESSAGES: u64 = DATA + 0x100;
const MESSAGE: u64 = 56;
const FLAGS: u64 = 35;
const KEY: u64 = 40;
/// Two security hooks, the list that the first one has, and the keys of both and of their calls.
const HOOKS: u64 = DATA + 0x200;
const HOOK: u64 = 32;
const LIST: u64 = DATA + 0x280;
const ACTIVE: [u64; 2] = [DATA + 0x300, DATA + 0x310];
const CALLS: [u64; 2] = [DATA + 0x320, DATA + 0x330];
/// The PMU's functions, the APIC's and the pointer to these, and their calls.
const PMU: u64 = DATA + 0x400;
const APIC: u64 = DATA + 0x440;
const CHOSEN: u64 = DATA + 0x480;
const PMU_CALL: u64 = DATA + 0x490;
const APIC_CALL: u64 = DATA + 0x4a0;
/// The call of a member that fixup_ht_bug() has cleared: it goes where it went.
const STOP_CALL: u64 = DATA + 0x4b0;
/// The keys of the scheduler's three features, and which of them are on.
const FEATURE_KEYS: u64 = DATA + 0x500;
const FEATURES: u64 = DATA + 0x530;
/// Functions: of each of the three, and another.
const HOOKED: u64 = TEXT + 0x100;
const ADDS: u64 = TEXT + 0x200;
const ENDS: u64 = TEXT + 0x300;
const OTHER: u64 = TEXT + 0x400;

fn btf() -> Vec<u8> {
    let mut b = Builder::default();
    let (pointer, int) = (b.pointer(0), b.int("int", 4));
    let key = b.structure("static_key", 16, &[("enabled", int, 0)]);
    b.structure("_ddebug", MESSAGE as u32, &[("flags", int, 8 * FLAGS as u32), ("key", key, 8 * KEY as u32)]);
    let members = [("key", pointer, 0), ("trampoline", pointer, 64), ("hl", pointer, 128), ("active", pointer, 192)];
    let hook = b.structure("lsm_static_call", HOOK as u32, &members);
    b.structure("lsm_static_calls_table", 2 * HOOK as u32, &[("hooks", hook, 0)]);
    b.structure("security_hook_list", 24, &[("scalls", pointer, 0), ("hook", pointer, 64)]);
    let stops = b.prototype(0, &[("", pointer)]);
    let stop = b.pointer(stops);
    let members = [("name", pointer, 0), ("add", pointer, 128), ("stop_scheduling", stop, 192)];
    b.structure("x86_pmu", 32, &members);
    b.structure("apic", 32, &[("eoi", pointer, 64)]);
    let adds = b.prototype(int, &[("event", pointer), ("flags", int)]);
    let stops = b.prototype(0, &[("cpuc", pointer)]);
    b.function("adds", adds);
    b.function("stops", stops);
    b.finish(None)
}

fn image(with_btf: bool) -> Image {
    let mut writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &noise(1, 0x1000))
        .section(".rodata", RODATA, flags::RODATA, &rodata())
        .nobits(".data", DATA, flags::DATA, 0x1000);
    if with_btf {
        writer = writer.section(".BTF", RODATA + 0x1000, flags::RODATA, &btf());
    }
    for (name, at) in [
        ("__start___dyndbg", MESSAGES),
        ("__stop___dyndbg", MESSAGES + 2 * MESSAGE),
        ("static_calls_table", HOOKS),
        ("x86_pmu", PMU),
        ("apic", CHOSEN),
        ("__SCK__x86_pmu_add", PMU_CALL),
        ("__SCK__x86_pmu_absent", OTHER),
        ("__SCK__x86_pmu_stop_scheduling", STOP_CALL),
        ("__SCK__apic_call_eoi", APIC_CALL),
        ("sched_feat_keys", FEATURE_KEYS),
        ("sysctl_sched_features", FEATURES),
    ] {
        writer = writer.symbol(name, at, 8, 'D');
    }
    for (name, at) in [("hooked", HOOKED), ("adds", ADDS), ("ends", ENDS), ("stops", OTHER)] {
        writer = writer.symbol(name, at, 8, 'T');
    }
    Image::from_bytes("vmlinux", writer.build()).unwrap()
}

struct Machine(Vec<u8>);

impl Reader for Machine {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        Ok(read_from(&[(TEXT, &noise(1, 0x1000)), (RODATA, &rodata()), (DATA, &self.0)], address, buffer))
    }
}

/// What the text says: of messages' keys, of hooks' keys, and where calls go.
#[derive(Clone, Copy)]
struct Text {
    messages: [bool; 2],
    hooks: [bool; 2],
    hooked: [u64; 2],
    adds: u64,
    ends: u64,
    /// The PMU has no such function.
    cleared: bool,
    features: [bool; 3],
    /// Where the call of a member goes that was cleared later.
    stops: u64,
}

/// The second message prints, the first hook is there, and both others are set up.
const RIGHT: Text = Text {
    messages: [false, true],
    hooks: [true, false],
    hooked: [HOOKED, 0],
    adds: ADDS,
    ends: ENDS,
    cleared: false,
    features: [true, false, true],
    stops: OTHER,
};

/// What is wrong with text and data that say this alike, where the others say what is right.
fn wrong(text: Text, with_btf: bool) -> Vec<(&'static str, u64, u64, u64)> {
    let mut data = vec![0; 0x1000];
    let mut word = |at: u64, value: u64| data[(at - DATA) as usize..][..8].copy_from_slice(&value.to_le_bytes());
    for i in [0, 1] {
        let hook = HOOKS + HOOK * i as u64;
        word(hook, CALLS[i]);
        word(hook + 16, if i == 0 { LIST } else { 0 });
        word(hook + 24, ACTIVE[i]);
        word(CALLS[i], text.hooked[i]);
        word(ACTIVE[i], text.hooks[i].into());
        word(MESSAGES + MESSAGE * i as u64 + KEY, text.messages[i].into());
    }
    for (at, value) in [
        (LIST + 8, HOOKED),
        (PMU + 16, if text.cleared { 0 } else { ADDS }),
        (APIC + 8, ENDS),
        (CHOSEN, APIC),
        (PMU_CALL, text.adds),
        (APIC_CALL, text.ends),
        (STOP_CALL, text.stops),
        (FEATURES, 0b101),
    ] {
        word(at, value);
    }
    data[(MESSAGES + MESSAGE + FLAGS - DATA) as usize] = 1;
    data[(MESSAGES + FLAGS - DATA) as usize] = 0x80; // another flag than the one to print
    for (key, on) in (FEATURE_KEYS..).step_by(16).zip(text.features) {
        data[(key - DATA) as usize] = on.into();
    }
    let made = made();
    let mut report = made.judged("6.1", &made.booted("6.1"), &Known::default());
    let vote = |about, value| Vote { about, value, votes: 1, against: 0, known: false };
    report.votes = vec![vote(Unknown::Call(PMU_CALL), text.adds), vote(Unknown::Call(APIC_CALL), text.ends)];
    report.votes.push(vote(Unknown::Call(STOP_CALL), text.stops));
    let features = (FEATURE_KEYS..).step_by(16).zip(text.features);
    report.votes.extend(features.map(|(key, on)| vote(Unknown::Key(key), on.into())));
    for i in [0, 1] {
        report.votes.push(vote(Unknown::Key(MESSAGES + MESSAGE * i as u64 + KEY), text.messages[i].into()));
        report.votes.push(vote(Unknown::Key(ACTIVE[i]), text.hooks[i].into()));
        report.votes.push(vote(Unknown::Call(CALLS[i]), text.hooked[i]));
    }
    let image = image(with_btf);
    let memory = Memory::from_reader("<read>", Box::new(Machine(data)));
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    let Heard { disagreements, counts, .. } =
        hear(&report, &[], &Slots::default(), (&memory, &found, &image), Ok(&[])).unwrap();
    let heard = counts.iter().any(|(what, _)| ["dynamic_debug", "lsm_hook", "mirrored_call"].contains(what));
    assert_eq!(heard, with_btf);
    assert_eq!(counts.contains(&("sched_feature", 3)), with_btf);
    disagreements.iter().map(|d| (d.what, d.address, d.expected, d.found)).collect()
}

#[test]
fn nothing_is_wrong_where_all_say_the_same() {
    assert_eq!(wrong(RIGHT, true), []);
    assert_eq!(wrong(Text { adds: OTHER, messages: [true; 2], ..RIGHT }, false), [], "nothing tells where members are");
}

#[test]
fn a_message_is_printed_while_its_flags_say_so() {
    let both = wrong(Text { messages: [true, false], ..RIGHT }, true);
    let expected = [("dynamic_debug", MESSAGES, 1, 0), ("dynamic_debug", MESSAGES + MESSAGE, 0, 1)];
    assert_eq!(both, expected);
}

#[test]
fn a_security_hook_is_called_while_there_is_one() {
    let second = HOOKS + HOOK;
    assert_eq!(wrong(Text { hooks: [false, false], ..RIGHT }, true), [("lsm_hook", HOOKS, 0, 1)]);
    assert_eq!(wrong(Text { hooks: [true, true], ..RIGHT }, true), [("lsm_hook", second, 1, 0)]);
    for hooked in [OTHER, 0] {
        let found = wrong(Text { hooked: [hooked, 0], ..RIGHT }, true);
        assert_eq!(found, [("lsm_call", CALLS[0], hooked, HOOKED)]);
    }
    assert_eq!(wrong(Text { hooked: [HOOKED, OTHER], ..RIGHT }, true), [("lsm_call", CALLS[1], OTHER, 0)]);
}

#[test]
fn a_feature_of_the_scheduler_is_on_where_its_bit_is() {
    let found = wrong(Text { features: [true, true, false], ..RIGHT }, true);
    assert_eq!(found, [("sched_feature", FEATURES, 1, 0), ("sched_feature", FEATURES, 0, 1)]);
}

#[test]
fn the_pmu_s_and_the_apic_s_calls_go_where_their_structures_say_or_nowhere() {
    assert_eq!(wrong(Text { adds: 0, ends: 0, ..RIGHT }, true), [], "they were not set up");
    let found = wrong(Text { adds: OTHER, ends: OTHER, ..RIGHT }, true);
    assert_eq!(found, [("mirrored_call", PMU_CALL, OTHER, ADDS), ("mirrored_call", APIC_CALL, OTHER, ENDS)]);
    // One that has no function has its call go nowhere.
    let found = wrong(Text { adds: OTHER, cleared: true, ..RIGHT }, true);
    assert_eq!(found, [("mirrored_call", PMU_CALL, OTHER, 0)]);
}

#[test]
fn the_call_of_a_member_that_was_cleared_goes_to_a_function_of_its_type() {
    assert_eq!(wrong(Text { stops: ADDS, ..RIGHT }, true), [("mirrored_call", STOP_CALL, ADDS, 0)]);
    assert_eq!(wrong(Text { stops: ENDS, ..RIGHT }, true), [], "nothing says of which type that is");
}
