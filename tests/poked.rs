//! Memory taken while the kernel wrote to its text: what was on its own list is judged as it will be, and nothing else.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod verify_support;

use std::borrow::Cow;

use pvops::insn::{call, jmp};
use pvops::memory::Poke;
use pvops::verify::Text;
use verify_support::{Made, OUTSIDE, TEXT, at, info, made, put};

const ERA: &str = "6.1";
const NOP: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];
/// Code that was made for a tracer.
const MADE: u64 = OUTSIDE + 0x10_0000;
/// Behind the jump label in `keyed`: where it jumps to.
const LABEL: u64 = 16;

/// Memory that has this at an address, while that is on the list; what is judged there, and whether it was taken from the list.
fn finished(made: &Made, address: u64, stands: &[u8], new: &[u8], old: u8) -> (Vec<u8>, bool) {
    let mut memory = made.booted(ERA);
    put(&mut memory, address, stands);
    let verifier = made.verifier(ERA, info()).unwrap();
    let mut text = Text { bytes: Cow::Owned(memory), unread: Vec::new() };
    let finished = verifier.finish(&mut text, &[Poke { address, bytes: new.to_vec(), old }], &[MADE]);
    assert!(finished.is_empty() || finished == [address]);
    (text.bytes[(address - TEXT) as usize..][..new.len()].to_vec(), !finished.is_empty())
}

/// Sites with what is to be written there, and what may stand there before.
fn sites() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let to = |from: &str, name: &str| call(at(from), at(name)).to_vec();
    let label = jmp(at("keyed"), at("keyed") + LABEL).to_vec();
    vec![
        ("keyed", NOP.to_vec(), label.clone()),
        ("keyed", label, NOP.to_vec()),
        ("traced", to("traced", "ftrace_caller"), NOP.to_vec()),
        ("traced", NOP.to_vec(), to("traced", "ftrace_caller")),
        ("traced", NOP.to_vec(), call(at("traced"), MADE).to_vec()),
        ("traced", NOP.to_vec(), to("traced", "__fentry__")),
        ("calling", to("calling", "plain"), to("calling", "short")),
        ("calling", to("calling", "plain"), NOP.to_vec()),
        ("__SCT__hook", jmp(at("__SCT__hook"), at("plain")).to_vec(), b"\xc3\xcc\xcc\xcc\xcc".to_vec()),
        ("ftrace_caller", to("ftrace_caller", "ftrace_stub"), call(at("ftrace_caller"), MADE).to_vec()),
        ("bpf_dispatcher_xdp_func", NOP.to_vec(), jmp(at("bpf_dispatcher_xdp_func"), MADE).to_vec()),
    ]
}

#[test]
fn a_site_that_is_being_written_is_judged_as_it_will_be_at_each_step() {
    let made = made();
    for (name, new, old) in sites() {
        let steps = [old.clone(), [&[0xcc], &old[1..]].concat(), [&[0xcc], &new[1..]].concat()];
        for stands in steps.iter().filter(|&stands| *stands != new) {
            let found = finished(&made, at(name), stands, &new, old[0]);
            assert_eq!(found, (new.clone(), true), "{name} {stands:02x?}");
        }
        assert!(!finished(&made, at(name), &new, &new, old[0]).1, "{name}: it is there already");
    }
}

#[test]
fn a_list_hides_nothing_that_no_such_site_holds() {
    let made = made();
    let xor = b"\x48\x31\xc0\x90\x90".to_vec();
    for (name, new, _) in sites() {
        let here = at(name);
        let mut wrong =
            vec![xor.clone(), vec![0xcc; 5], jmp(here, OUTSIDE).to_vec(), jmp(here, at("plain") + 1).to_vec()];
        match name {
            "keyed" => {
                wrong.extend([jmp(here, here + 8), jmp(here, at("plain")), call(here, at("plain"))].map(Vec::from))
            }
            "traced" => wrong.extend([call(here, at("plain")), call(here, OUTSIDE)].map(Vec::from)),
            _ => {}
        }
        for stands in wrong {
            let found = finished(&made, here, &stands, &new, stands[0]);
            assert_eq!(found, (stands.clone(), false), "{name} {stands:02x?}");
        }
    }
}

#[test]
fn a_list_hides_nothing_where_no_site_is() {
    let made = made();
    let here = at("plain");
    let built = made.booted(ERA)[(here - TEXT) as usize..][..5].to_vec();
    // A call or a check that somebody took out, a jump over it, a branch elsewhere, a breakpoint, a byte.
    let within = jmp(here, here + 8);
    for stands in
        [NOP, within, jmp(here, at("short")), call(here, at("short")), [0xcc, built[1], built[2], built[3], built[4]]]
    {
        assert_eq!(finished(&made, here, &stands, &built, built[0]), (stands.to_vec(), false), "{stands:02x?}");
    }
    for stands in [0x90, 0xc3, 0xcc] {
        assert_eq!(finished(&made, here, &[stands], &built[..1], built[0]), (vec![stands], false));
        // Of a site a part is none.
        assert_eq!(finished(&made, at("keyed"), &[stands], &NOP[..1], NOP[0]), (vec![stands], false));
    }
    // A site that is patched otherwise: what it was built with is no nop of the lock's that a boot put there.
    let lock = at("locked");
    assert!(!finished(&made, lock, &[0xf0], &[0x3e], 0xf0).1);
}

#[test]
fn a_probe_is_being_optimised_to_a_jump_outside() {
    let made = made();
    let here = at("plain");
    let built = made.booted(ERA)[(here - TEXT) as usize..][..5].to_vec();
    let new = jmp(here, OUTSIDE).to_vec();
    assert_eq!(finished(&made, here, &built, &new, 0xcc), (new.clone(), true));
    assert_eq!(finished(&made, here, &[&[0xcc], &new[1..]].concat(), &new, 0xcc), (new.clone(), true));
    assert!(!finished(&made, here, &NOP, &new, 0xcc).1, "bytes that are no probe's");
    let probe = [&[0xcc], &built[1..]].concat();
    assert_eq!(finished(&made, here, &probe, &new, 0xcc), (probe, false), "a probe as yet");
}

#[test]
fn behind_an_int3_a_call_may_have_gone_anywhere() {
    let made = made();
    let here = at("calling");
    let (outside, new) = (call(here, OUTSIDE), call(here, at("plain")));
    for (stands, taken) in [(outside.to_vec(), false), ([&[0xcc], &outside[1..]].concat(), true)] {
        assert_eq!(finished(&made, here, &stands, &new, 0xe8).1, taken, "{stands:02x?}");
    }
    let here = at("keyed");
    let stands = [&[0xcc], &call(here, OUTSIDE)[1..]].concat();
    assert!(!finished(&made, here, &stands, &NOP, 0xe8).1, "no jump label calls");
}

#[test]
fn what_could_not_be_read_or_lies_elsewhere_is_left() {
    let made = made();
    let verifier = made.verifier(ERA, info()).unwrap();
    let here = at("keyed");
    let mut text = Text { bytes: Cow::Owned(made.booted(ERA)), unread: std::iter::once(here + 4..here + 5).collect() };
    let new = jmp(here, here + LABEL).to_vec();
    for address in [here, 0, TEXT - 1, TEXT + 0x10_0000, u64::MAX] {
        let poke = Poke { address, bytes: new.clone(), old: 0x0f };
        assert!(verifier.finish(&mut text, &[poke], &[]).is_empty(), "{address:#x}");
    }
}
