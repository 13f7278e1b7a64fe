//! Where the text goes for who has registered to change it: probes' jumps, code made for tracers and BPF programs.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;
mod registered_support;
mod symbols_support;

use memory_support::TEXT;
use pvops::memory::Registrar;
use registered_support::*;

#[test]
fn a_probe_that_stands_for_others_names_the_first_of_them_and_its_jump() {
    let mut m = Machine::new();
    m.word(LIVEPATCH, LIVEPATCH);
    let (all, first) = (HEAP, HEAP + 0x200);
    m.word(kprobes_of(TEXT + 0x10), all);
    m.word(all + 40, TEXT + 0x10);
    m.word(all + 64, TOGETHER);
    m.word(all + 136 + 8, 0xffff_ffff_c000_2000);
    m.word(all + 16, first + 16);
    m.word(first + 64, 0xffff_ffff_c000_1234);
    let found = [(Registrar::Kprobes, 0xffff_ffff_c000_1234, Some(0xffff_ffff_c000_2000))];
    assert_eq!(branches(&read(m.clone())), found);
    // Its first has no handler before the instruction; one that stands alone is not optimised.
    m.word(first + 64, 0);
    assert_eq!(branches(&read(m.clone())), [(Registrar::Kprobes, TOGETHER, found[0].2)]);
    m.word(all + 64, 0xffff_ffff_c000_1234);
    assert_eq!(branches(&read(m)), [(Registrar::Kprobes, 0xffff_ffff_c000_1234, Some(0))]);
}

#[test]
fn a_record_says_which_function_of_the_kernels_is_called_if_one_is() {
    let mut m = machine();
    let says = [(0, Some(CALLERS)), (1 << 29, Some(CALLERS + 0x10)), (1 << 27, None), (1 << 29 | 1 << 23, None)];
    for (flags, branch) in says {
        m.word(HEAP + 0x308, 1 << 31 | flags | 1);
        let found = read(m.clone());
        let record = found.entries.iter().find(|entry| entry.address == TEXT + 0x100).unwrap();
        assert_eq!((record.owner, record.branch), (Registrar::Ftrace, branch), "{flags:#x}");
        assert_eq!(
            read_without_btf(m.clone()).entries.iter().find(|e| e.address == TEXT + 0x100).unwrap().branch,
            None
        );
    }
}

#[test]
fn who_traces_is_read_with_code_of_its_own_and_for_whom() {
    let mut m = Machine::new();
    m.word(LIVEPATCH, LIVEPATCH);
    assert_eq!(read(m.clone()).tracers, Some(vec![]));
    let ops = [HEAP, HEAP + 0x40, HEAP + 0x80];
    m.word(TRACERS, ops[0]);
    for (at, next, function, trampoline) in [
        (ops[0], ops[1], OF_PROBES, 0xffff_ffff_c000_2000),
        (ops[1], ops[2], TEXT + 0x600, 0xffff_ffff_c000_3000),
        (ops[2], END, TEXT + 0x700, 0),
    ] {
        m.word(at, function);
        m.word(at + 8, next);
        m.word(at + 24, trampoline);
        m.word(at + 32, HEAP + 0x100);
    }
    // The second traces two functions, in two of four lists; the others all.
    let (hash, filter, lists, entries) = (HEAP + 0x140, HEAP + 0x180, HEAP + 0x200, HEAP + 0x280);
    m.word(ops[1] + 32, hash);
    m.word(hash + 8, filter);
    for (at, word) in [(0, 2), (8, lists), (16, 2)] {
        m.word(filter + at, word);
    }
    for (i, place) in [(0, TEXT + 0x800), (1, TEXT + 0x900)] {
        m.word(lists + 16 * i, entries + 32 * i);
        m.word(entries + 32 * i + 16, place);
    }
    let tracers = read(m.clone()).tracers.unwrap();
    let read_back: Vec<_> = tracers.iter().map(|t| (t.trampoline, t.function, t.owner)).collect();
    let expected = [
        (0xffff_ffff_c000_2000, OF_PROBES, Registrar::Kprobes),
        (0xffff_ffff_c000_3000, TEXT + 0x600, Registrar::Ftrace),
        (0, TEXT + 0x700, Registrar::Ftrace),
    ];
    assert_eq!(read_back, expected);
    let places: Vec<_> = tracers.into_iter().map(|tracer| tracer.places).collect();
    assert_eq!(places, [None, Some(vec![TEXT + 0x800, TEXT + 0x900]), None]);
    let found = read_without_btf(m.clone());
    assert_eq!(found.tracers, None);
    assert!(found.unread.iter().any(|(owner, why)| *owner == Registrar::Ftrace && why.contains("has no BTF")));
    m.word(ops[2] + 8, ops[0]);
    let found = read(m);
    assert_eq!(found.tracers, None);
    assert!(found.unread[0].1.contains("a circle"), "{:?}", found.unread);
}

/// While text is written back for who stops, the calls of its trampoline are still there.
#[test]
fn who_is_about_to_stop_traces_until_all_text_is_written() {
    for listed in [false, true] {
        let mut m = machine();
        for (at, function) in [(HEAP + 0x900, TEXT + 0x600), (HEAP + 0x940, TEXT + 0x700)] {
            for (member, word) in [(0, function), (8, END), (24, function + 0x1000), (32, HEAP + 0x980)] {
                m.word(at + member, word);
            }
        }
        m.word(TRACERS, if listed { HEAP + 0x900 } else { END });
        m.word(REMOVED, HEAP + 0x940);
        let tracers: Vec<_> = read(m).tracers.unwrap().iter().map(|t| (t.trampoline, t.function)).collect();
        let both = [(TEXT + 0x1600, TEXT + 0x600), (TEXT + 0x1700, TEXT + 0x700)];
        assert_eq!(tracers, both[usize::from(!listed)..]);
    }
}

#[test]
fn lists_in_lists_are_no_longer_than_one_may_be() {
    // Each of 60 tracers has a filter of 128 lists, each of them the same 60 entries: read one by one that is half a million.
    let mut m = Machine::new();
    m.word(LIVEPATCH, LIVEPATCH);
    let (hash, filter, lists, entries) = (HEAP + 0xa00, HEAP + 0xa40, HEAP + 0xb00, HEAP + 0xf00);
    let ops = |number: u64| HEAP + 0x28 * number;
    m.word(TRACERS, ops(0));
    for number in 0..60 {
        m.word(ops(number) + 8, if number == 59 { END } else { ops(number + 1) });
        m.word(ops(number) + 32, hash);
    }
    m.word(hash + 8, filter);
    for (at, word) in [(0, 7), (8, lists), (16, 2)] {
        m.word(filter + at, word);
    }
    (0..128).for_each(|list| m.word(lists + 8 * list, entries));
    (0..59).for_each(|entry| m.word(entries + 8 * entry, entries + 8 * (entry + 1)));
    let found = read(m);
    assert_eq!(found.tracers, None);
    assert!(found.unread[0].1.contains("more entries than any kernel"), "{:?}", found.unread);
}

#[test]
fn trampolines_and_dispatchers_of_bpf_say_where_the_text_goes() {
    let mut m = Machine::new();
    m.word(LIVEPATCH, LIVEPATCH);
    let (trampoline, image) = (HEAP, HEAP + 0x100);
    m.word(BPF, trampoline);
    m.word(trampoline + 32, TEXT + 0x300);
    assert_eq!(branches(&read(m.clone())), [(Registrar::Bpf, 0, Some(0))], "no program is attached any more");
    m.word(trampoline + 56, image);
    m.word(image + 8, 0xffff_ffff_c000_2000);
    assert_eq!(branches(&read(m.clone())), [(Registrar::Bpf, 0, Some(0xffff_ffff_c000_2000))]);
    m.word(DISPATCHER + 8, 0xffff_ffff_c000_4000);
    m.word(DISPATCHER + 16, 0x800);
    assert_eq!(read(m.clone()).dispatchers, Some(vec![]), "it has no programs");
    m.word(DISPATCHER, 2);
    let found = read(m.clone()).dispatchers.unwrap();
    let goes: Vec<_> = found.iter().map(|dispatcher| (dispatcher.function, dispatcher.target)).collect();
    assert_eq!(goes, [(DISPATCHING, 0xffff_ffff_c000_4800), (TRAMPOLINE, 0xffff_ffff_c000_4800)]);
    assert_eq!(read_without_btf(m).dispatchers, None);
}
