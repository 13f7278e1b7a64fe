//! What others than the passes write: exactly those bytes are theirs, where the kernel lets them, and nothing beside them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod elfwriter;
mod verify_support;

use pvops::insn::{self, INT3};
use pvops::verify::{Known, Owner, Report, View};
use verify_support::{Made, OUTSIDE, STARTS, TEXT, at, made, put};

const ERA: &str = "6.1";

/// Memory with these changes.
fn changed(made: &Made, changes: &[(u64, &[u8])]) -> Report {
    let mut memory = made.booted(ERA);
    for (address, bytes) in changes {
        let at = (address - TEXT) as usize;
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    }
    made.judged(ERA, &memory, &Known::default())
}

/// Each run: its address, wrong bytes, and who may have written it.
fn runs(report: &Report) -> Vec<(u64, u32, Vec<Owner>)> {
    let owners = |run: &pvops::verify::Unexplained| run.owned.as_ref().map_or(Vec::new(), |owned| owned.owners.clone());
    report.unexplained.iter().map(|run| (run.address, run.wrong, owners(run))).collect()
}

#[test]
fn a_boot_is_clean() {
    assert_eq!(runs(&changed(&made(), &[])), []);
}

#[test]
fn a_function_is_entered_by_a_jump_where_its_kernel_makes_such() {
    let made = made();
    let place = at("traced");
    for (era, owners) in [("6.12", vec![]), ("7.2", vec![Owner::Bpf])] {
        let mut memory = made.booted(era);
        memory[(place - TEXT) as usize..][..5].copy_from_slice(&insn::jmp(place, OUTSIDE));
        let report = made.judged(era, &memory, &Known::default());
        assert_eq!(runs(&report), [(place, 5, owners)], "{era}");
        memory[(place - TEXT) as usize..][..5].copy_from_slice(&insn::jmp(place, at("plain")));
        let report = made.judged(era, &memory, &Known::default());
        assert_eq!(runs(&report)[0].2, [], "{era}: within the kernel");
    }
}

#[test]
fn a_breakpoint_is_one_byte_of_an_instruction() {
    let made = made();
    for start in STARTS {
        let place = at("plain") + start;
        assert_eq!(runs(&changed(&made, &[(place, &[INT3])])), [(place, 1, vec![Owner::Kprobes])], "{start}");
    }
    for middle in (0..13).filter(|at| !STARTS.contains(at)) {
        let place = at("plain") + middle;
        assert_eq!(runs(&changed(&made, &[(place, &[INT3])])), [(place, 1, vec![])], "{middle}");
    }
}

#[test]
fn what_is_behind_a_breakpoint_is_a_run_of_its_own() {
    let place = at("plain") + 1;
    let report = changed(&made(), &[(place, b"\xcc\x90\x90\x90\x90\x90")]);
    assert_eq!(runs(&report), [(place, 1, vec![Owner::Kprobes]), (place + 1, 5, vec![])]);
}

#[test]
fn what_looks_like_a_probe_among_other_bytes_is_none() {
    // The third instruction's first byte, in the midst of what nobody writes.
    let place = at("plain") + 1;
    let report = changed(&made(), &[(place, b"\x90\x90\x90\xcc\x90")]);
    assert_eq!(runs(&report), [(place, 5, vec![])]);
}

#[test]
fn an_optimised_probe_is_five_bytes() {
    let made = made();
    let place = at("plain") + 1;
    let jump = insn::jmp(place, OUTSIDE);
    let report = changed(&made, &[(place, &jump)]);
    assert_eq!(runs(&report), [(place, 5, vec![Owner::Kprobes])]);
    let owned = report.unexplained[0].owned.as_ref().unwrap();
    assert_eq!((owned.address, &owned.bytes[..], owned.target), (place, &jump[..], Some(OUTSIDE)));
    // The sixth byte is nobody's.
    let six = [&jump[..], b"\x90"].concat();
    assert_eq!(runs(&changed(&made, &[(place, &six)])), [(place, 5, vec![Owner::Kprobes]), (place + 5, 1, vec![])]);
    // Nor is a jump within the kernel.
    let within = insn::jmp(place, at("traced"));
    assert_eq!(runs(&changed(&made, &[(place, &within)])).len(), 1);
    assert_eq!(runs(&changed(&made, &[(place, &within)]))[0].2, []);
}

#[test]
fn behind_what_an_optimised_probe_displaces_another_may_be_and_not_in_it() {
    let made = made();
    // Six bytes of instructions are displaced by five: the last of the third is left as it was.
    let place = at("plain");
    let jump = insn::jmp(place, OUTSIDE);
    for offset in 5..13 {
        let report = changed(&made, &[(place, &jump), (place + offset, &[INT3])]);
        let owners = if STARTS.contains(&offset) { vec![Owner::Kprobes] } else { vec![] };
        let expected = [(place, 5, vec![Owner::Kprobes]), (place + offset, 1, owners)];
        assert_eq!(runs(&report), expected, "{offset}");
    }
}

#[test]
fn where_the_kernel_lets_nobody_probe_bytes_are_nobody_s() {
    let made = made();
    let refused = [
        at("quiet") + 1,
        at("entry_SYSCALL_64"),
        at("blacklisted") + 4,
        at("trapping") + 1,
        at("keyed"),
        at("calling"),
        at("__SCT__hook"),
        at("__cfi_plain"),
        at("traced"),
        at("ftrace_caller"),
    ];
    for place in refused {
        let report = changed(&made, &[(place, &[INT3])]);
        assert_eq!(runs(&report), [(place, 1, vec![])], "{place:#x}");
    }
    // Beside each of these a probe is one.
    for place in [at("trapping"), at("keyed") + 5, at("calling") + 5, at("traced") + 5, at("fixed") + 4] {
        assert_eq!(runs(&changed(&made, &[(place, &[INT3])])), [(place, 1, vec![Owner::Kprobes])], "{place:#x}");
    }
}

#[test]
fn where_the_kernel_would_not_optimise_a_jump_is_nobody_s() {
    let made = made();
    // Fixups in the function, a jump behind its first byte, no room, a jump label among what is displaced.
    for place in [at("fixed") + 1, at("looping"), at("short"), at("calling"), at("keyed"), at("traced"), at("quiet")] {
        let report = changed(&made, &[(place, &insn::jmp(place, OUTSIDE))]);
        assert!(runs(&report).iter().all(|run| run.2.is_empty()), "{place:#x}: {:x?}", runs(&report));
        assert!(!report.unexplained.is_empty());
    }
}

/// Who may have written a jump of a probe at this place, in a kernel of this era.
fn who_jumps(era: &str, place: u64, uniprocessor: bool) -> Vec<Owner> {
    let made = made();
    let mut memory = made.booted(era);
    put(&mut memory, place, &insn::jmp(place, OUTSIDE));
    let report = made.judged(era, &memory, &Known { uniprocessor: Some(uniprocessor), ..Known::default() });
    report.unexplained.iter().filter_map(|run| run.owned.as_ref()).flat_map(|owned| owned.owners.clone()).collect()
}

#[test]
fn prefixes_keep_a_jump_from_instructions_of_one_byte_alone() {
    assert_eq!(who_jumps(ERA, at("padded"), false), [Owner::Kprobes], "a nop of two opcode bytes");
    assert_eq!(who_jumps(ERA, at("padded") + 11, false), [], "cs xor");
}

#[test]
fn groups_of_instructions_are_displaced_since_6_9() {
    for (era, owners) in [("6.1", vec![]), ("6.12", vec![Owner::Kprobes]), ("7.2", vec![Owner::Kprobes])] {
        assert_eq!(who_jumps(era, at("grouped"), false), owners, "{era}: shl and div");
        assert_eq!(who_jumps(era, at("grouped") + 9, false), [], "{era}: a call among them");
    }
}

#[test]
fn a_lock_prefix_is_displaced() {
    // With one CPU too: only where there may be more the kernel remembers its place, and no text tells that.
    for uniprocessor in [false, true] {
        assert_eq!(who_jumps(ERA, at("locked"), uniprocessor), [Owner::Kprobes], "{uniprocessor}");
    }
}

#[test]
fn the_head_of_a_traced_function_may_call_a_tracer_or_a_trampoline() {
    let made = made();
    let place = at("traced");
    let through = [Owner::Ftrace, Owner::Livepatch, Owner::Kprobes];
    // The graph tracer alone is called without the tracer's (up to 5.16).
    for caller in [at("ftrace_caller"), at("short")] {
        let report = changed(&made, &[(place, &insn::call(place, caller))]);
        assert_eq!((report.unexplained.len(), &runs(&report)[0].2[..]), (1, &through[..]));
    }
    let report = changed(&made, &[(place, &insn::call(place, OUTSIDE))]);
    assert_eq!(runs(&report)[0].2, [&through[..], &[Owner::Bpf]].concat());
    let report = changed(&made, &[(place, &insn::call(place, at("plain")))]);
    assert_eq!(runs(&report)[0].2, []);
    // A thousand bytes behind the call stay unexplained.
    let report = changed(&made, &[(place, &[&insn::call(place, OUTSIDE)[..], &[0x90; 100]].concat())]);
    let owned: u32 = report.unexplained.iter().filter(|run| run.owned.is_some()).map(|run| run.wrong).sum();
    let all: u32 = report.unexplained.iter().map(|run| run.wrong).sum();
    assert!(owned <= 5 && all > 80, "{owned} of {all}");
}

#[test]
fn a_call_outside_is_nobody_s_where_no_function_is_traced() {
    let made = made();
    for place in [at("plain"), at("quiet"), at("entry_SYSCALL_64"), at("keyed")] {
        let report = changed(&made, &[(place, &insn::call(place, OUTSIDE))]);
        assert!(runs(&report).iter().all(|run| run.2.is_empty()), "{place:#x}");
    }
}

#[test]
fn tracers_name_the_function_behind_them_and_dispatchers_jump() {
    let made = made();
    let place = at("ftrace_caller");
    let report = changed(&made, &[(place, &insn::call(place, at("plain")))]);
    assert_eq!(report.unexplained.len(), 1);
    assert_eq!(report.unexplained[0].owned.as_ref().unwrap().owners[0], Owner::Ftrace);
    assert_eq!(runs(&changed(&made, &[(place, &insn::jmp(place, at("plain")))]))[0].2, []);
    let place = at("bpf_dispatcher_xdp_func");
    assert_eq!(runs(&changed(&made, &[(place, &insn::jmp(place, OUTSIDE))])), [(place, 5, vec![Owner::Bpf])]);
    assert_eq!(runs(&changed(&made, &[(place, &insn::call(place, OUTSIDE))]))[0].2, []);
}

#[test]
fn a_static_call_is_a_module_s_where_all_sites_and_the_trampoline_go_there() {
    let made = made();
    let (site, trampoline) = (at("calling"), at("__SCT__hook"));
    let both: [(u64, &[u8]); 2] = [(site, &insn::call(site, OUTSIDE)), (trampoline, &insn::jmp(trampoline, OUTSIDE))];
    let report = changed(&made, &both);
    assert_eq!(report.unexplained.len(), 2);
    for run in &report.unexplained {
        assert_eq!(run.owned.as_ref().unwrap().owners, [Owner::Modules]);
    }
    for one in both {
        let report = changed(&made, &[one]);
        assert_eq!(report.unexplained.len(), 1);
        assert_eq!(report.unexplained[0].owned, None);
    }
}

#[test]
fn a_site_that_could_not_be_read_does_not_disagree() {
    let made = made();
    let (site, trampoline) = (at("calling"), at("__SCT__hook"));
    let mut memory = made.booted("6.1");
    put(&mut memory, trampoline, &insn::jmp(trampoline, OUTSIDE));
    put(&mut memory, site, &[0; 5]);
    let lost = std::iter::once(site..site + 5).collect::<Vec<_>>();
    let verifier = made.verifier("6.1", verify_support::info()).unwrap();
    let view = View::new(verifier.text(), &memory, &lost).unwrap();
    let report = verifier.verify(&view, &Known::default());
    let owners: Vec<_> = report.unexplained.iter().map(|run| run.owned.as_ref().unwrap().owners.clone()).collect();
    assert_eq!(owners, [[Owner::Modules]]);
}

#[test]
fn every_instruction_of_a_function_may_be_probed_at_once() {
    let made = made();
    let places: Vec<u64> = STARTS.iter().map(|start| at("plain") + start).collect();
    let changes: Vec<(u64, &[u8])> = places.iter().map(|&place| (place, &[INT3][..])).collect();
    let owned = |run: &(u64, u32, Vec<Owner>)| run.2 == [Owner::Kprobes] && run.1 == 1;
    let found = runs(&changed(&made, &changes));
    assert_eq!((found.len(), found.iter().all(owned)), (STARTS.len(), true));
}

#[test]
fn of_two_voters_that_disagree_each_is_a_suspect() {
    let made = made();
    let site = at("calling");
    let report = changed(&made, &[(site, &insn::call(site, at("traced")))]);
    assert_eq!(report.unexplained.len(), 1);
    let mut suspects = report.unexplained[0].suspects.clone();
    suspects.sort_unstable();
    assert_eq!(suspects, [at("__SCT__hook"), site]);
}
