//! Who has registered to change a kernel's text: its lists, read as the kernel keeps them, refused where they are broken.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;
mod registered_support;
mod symbols_support;

use memory_support::TEXT;
use pvops::memory::Registrar;
use registered_support::*;

#[test]
fn every_list_is_read() {
    let found = read(machine());
    assert_eq!(found.read, [Registrar::Kprobes, Registrar::Ftrace, Registrar::Bpf, Registrar::Livepatch]);
    assert_eq!(entries(&found, Registrar::Kprobes), [(TEXT + 0x10, 0xffff_ffff_c000_1234)], "one is disabled");
    assert_eq!(entries(&found, Registrar::Ftrace), [(TEXT + 0x100, 0), (TEXT + 0x200, 0)], "two are on");
    assert_eq!(entries(&found, Registrar::Bpf), [(TEXT + 0x300, 0)]);
    assert_eq!(entries(&found, Registrar::Livepatch), [(TEXT + 0x400, 0xffff_ffff_c000_5000)]);
}

/// A record outside the kernel's image, of a module's function: the heap stands for the module.
#[test]
fn a_module_s_function_that_is_traced_begins_with_a_call() {
    let idle = |head: u64, flags: u64, at: u64| {
        let mut machine = machine();
        machine.word(HEAP + 0xf00, head);
        machine.word(HEAP + 0x300, at);
        machine.word(HEAP + 0x308, flags);
        read(machine).idle
    };
    const NOP: u64 = 0x0000_0044_1f0f;
    const ON: u64 = 1 << 31;
    assert_eq!(idle(NOP, ON, HEAP + 0xf00), [HEAP + 0xf00]);
    assert!(idle(0x1234_56e8, ON, HEAP + 0xf00).is_empty(), "a call");
    assert!(idle(NOP, 0, HEAP + 0xf00).is_empty(), "not traced");
    assert!(idle(NOP, ON, HEAP + 0x100_0000).is_empty(), "not in memory");
    assert!(idle(NOP, ON, TEXT + 0x100).is_empty(), "the kernel's own is held to its text elsewhere");
}

#[test]
fn a_kernel_where_nobody_registered() {
    let mut quiet = Machine::new();
    quiet.word(LIVEPATCH, LIVEPATCH);
    let found = read(quiet);
    assert_eq!((found.entries.len(), found.read.len(), found.unread.len()), (0, 4, 0));
}

#[test]
fn where_the_tracer_s_calls_were_written_to_go() {
    let function = |saved: u64, enabled: u64| {
        let mut machine = machine();
        machine.word(SAVED, saved);
        machine.word(ENABLED, enabled);
        read(machine).tracing.function
    };
    assert_eq!(function(TEXT + 0x40, 1), Some(TEXT + 0x40));
    assert_eq!(function(TEXT + 0x40, 0), None, "sysctl kernel.ftrace_enabled stopped it without a write");
    assert_eq!(function(0, 1), None, "before the first tracer");
}

#[test]
fn lists_that_are_broken_are_said_to_be_and_end() {
    let why = |change: &dyn Fn(&mut Machine)| {
        let mut machine = machine();
        change(&mut machine);
        let found = read(machine);
        assert_eq!(found.read.len(), 3);
        found.unread[0].1.clone()
    };
    assert!(why(&|m| m.word(HEAP + 0x100, HEAP + 0x100)).contains("a circle"), "kprobes");
    assert!(why(&|m| m.word(HEAP + 0x240, HEAP + 0x200)).contains("a circle"), "pages of records");
    assert!(why(&|m| m.word(HEAP + 0x210, u64::from(u32::MAX))).contains("more records than any kernel"));
    assert!(why(&|m| m.word(HEAP + 0x208, 0x1234)).contains("not in memory"));
    assert!(why(&|m| m.word(KPROBES, 0xdead_0000)).contains("not in memory"));
    assert!(why(&|m| m.word(LIVEPATCH, 0)).contains("not in memory"));
}

#[test]
fn a_probe_in_the_list_of_another_address_is_none() {
    let probed = |list: u64| {
        let mut m = machine();
        m.word(kprobes_of(TEXT + 0x10), 0);
        m.word(list, HEAP);
        let found = read(m);
        let probed = entries(&found, Registrar::Kprobes).len();
        assert_eq!(found.misplaced, [TEXT + 0x10].repeat(1 - probed));
        probed
    };
    assert_eq!(probed(kprobes_of(TEXT + 0x10)), 1);
    assert_eq!(probed(KPROBES + 8 * ((TEXT + 0x10).wrapping_mul(0x9e37_ffff_fffc_0001) >> 58)), 1, "before 4.7");
    assert_eq!((0..64).filter(|list| probed(KPROBES + 8 * list) == 1).count(), 2);
}

#[test]
fn no_probe_is_in_text_while_all_are_disarmed() {
    let mut m = machine();
    m.word(DISARMED, 1);
    assert_eq!(entries(&read(m), Registrar::Kprobes), []);
}

#[test]
fn without_btf_what_is_declared_alike_in_all_releases_is_read_and_the_rest_said_to_be_unknown() {
    let mut machine = machine();
    // A probe that is off where another release would have its flags: nobody can tell, and it is said.
    let found = read_without_btf(machine.clone());
    assert_eq!(found.read, [Registrar::Ftrace, Registrar::Bpf]);
    assert!(found.unread[0].1.contains("several places"), "{:?}", found.unread);
    machine.word(HEAP + 0x100 + 112, 0);
    let found = read_without_btf(machine.clone());
    assert_eq!(found.read, [Registrar::Kprobes, Registrar::Ftrace, Registrar::Bpf]);
    let probed: Vec<u64> = entries(&found, Registrar::Kprobes).into_iter().map(|(address, _)| address).collect();
    assert_eq!(probed, [TEXT + 0x10, TEXT + 0x20]);
    assert_eq!(entries(&found, Registrar::Ftrace), [(TEXT + 0x100, 0), (TEXT + 0x200, 0)]);
    for (owner, why) in &found.unread {
        assert!([Registrar::Livepatch, Registrar::Bpf].contains(owner) && why.contains("has no BTF"), "{why}");
    }
    // With the flags of the two releases in the other places, the one that can be flags decides.
    for flags in [112, 120, 128] {
        for (probe, off) in [(HEAP, 0), (HEAP + 0x100, 2)] {
            [112, 120, 128].iter().for_each(|at| machine.word(probe + at, 0xffff_ffff_8123_4567));
            machine.word(probe + flags, 4 | off);
        }
        let found = read_without_btf(machine.clone());
        assert_eq!(entries(&found, Registrar::Kprobes), [(TEXT + 0x10, 0xffff_ffff_c000_1234)], "{flags}");
    }
}

#[test]
fn without_btf_what_does_not_look_as_declared_is_not_believed() {
    let why = |change: &dyn Fn(&mut Machine)| {
        let mut machine = machine();
        machine.word(HEAP + 0x100 + 112, 0);
        change(&mut machine);
        read_without_btf(machine).unread.remove(0).1
    };
    assert!(why(&|m| m.word(HEAP + 40, 0x1234)).contains("no code can be there"));
    assert!(why(&|m| m.word(HEAP + 0x300, 0x1234)).contains("no code can be there"));
    assert!(why(&|m| [112, 120, 128].iter().for_each(|at| m.word(HEAP + at, 0x1000))).contains("none of their flags"));
}

#[test]
fn without_btf_trampolines_are_read_where_one_member_names_a_function_in_all() {
    let (first, second) = (HEAP + 0x500, HEAP + 0x900);
    let mut two = machine();
    two.word(first, second);
    two.word(second + 32, TEXT + 0x380);
    // Elsewhere both have what is no function of the kernel's.
    for trampoline in [first, second] {
        two.word(trampoline + 40, HEAP);
        two.word(trampoline + 48, 0xffff_ffff_c000_0000);
    }
    assert_eq!(entries(&read_without_btf(two.clone()), Registrar::Bpf), [(TEXT + 0x300, 0), (TEXT + 0x380, 0)]);
    let why = |machine: Machine| {
        let found = read_without_btf(machine);
        assert!(!found.read.contains(&Registrar::Bpf) && entries(&found, Registrar::Bpf).is_empty());
        found.unread.into_iter().find(|(owner, _)| *owner == Registrar::Bpf).unwrap().1
    };
    let mut other = two.clone();
    other.word(second + 32, 0);
    assert!(why(other).contains("of its 2 trampolines no member names a function"));
    for trampoline in [first, second] {
        two.word(trampoline + 40, TEXT + 0x10);
    }
    assert!(why(two).contains("more than one member names a function"));
}

#[test]
fn without_btf_a_kernel_that_nobody_changed_has_empty_lists() {
    let mut quiet = Machine::new();
    quiet.word(LIVEPATCH, LIVEPATCH);
    let found = read_without_btf(quiet);
    assert_eq!((found.entries.len(), found.read.len(), found.tracers), (0, 4, Some(vec![])));
}

/// `mov table(,%rax,8),%rax`, `mov list(%rip),%rbx`, `cmpb $0,flag(%rip)`, and a return.
fn holding(machine: &mut Machine, at: u64, code: &[u8], address: u64, near: bool) -> Vec<u8> {
    let field = if near { address.wrapping_sub(at + 7) as u32 } else { address as u32 };
    let place = code.windows(4).position(|bytes| bytes == [0xaa; 4]).unwrap();
    let mut code = code.to_vec();
    code[place..place + 4].copy_from_slice(&field.to_le_bytes());
    code.push(0xc3);
    machine.code(at, &code)
}

#[test]
fn lists_that_no_symbol_names_are_where_the_code_of_functions_has_them() {
    const TABLE: &[u8] = b"\x48\x8b\x04\xc5\xaa\xaa\xaa\xaa";
    const LIST: &[u8] = b"\x48\x8b\x1d\xaa\xaa\xaa\xaa";
    const FLAG: &[u8] = b"\x80\x3d\xaa\xaa\xaa\xaa\x00";
    let functions = [
        ("get_kprobe", TEXT + 0x600),
        ("lookup_rec", TEXT + 0x620),
        ("read_enabled_file_bool", TEXT + 0x640),
        ("who_is_next", TEXT + 0x660),
    ];
    let made = |change: &dyn Fn(&mut Machine)| {
        let mut machine = machine();
        machine.word(HEAP + 0x100 + 112, 0);
        machine.code(TEXT + 0x600, &[0x90; 0x60]);
        holding(&mut machine, TEXT + 0x600, TABLE, KPROBES, false);
        holding(&mut machine, TEXT + 0x620, LIST, FTRACE, true);
        let text = holding(&mut machine, TEXT + 0x640, FLAG, DISARMED, true);
        change(&mut machine);
        read_by(&image_with(false, &text, &functions), machine)
    };
    let found = made(&|_| ());
    assert_eq!(found.read, [Registrar::Kprobes, Registrar::Ftrace]);
    let probed: Vec<u64> = entries(&found, Registrar::Kprobes).into_iter().map(|(address, _)| address).collect();
    assert_eq!(probed, [TEXT + 0x10, TEXT + 0x20]);
    assert_eq!(entries(&found, Registrar::Ftrace), [(TEXT + 0x100, 0), (TEXT + 0x200, 0)]);
    assert_eq!(entries(&made(&|m| m.word(DISARMED, 1)), Registrar::Kprobes), [], "all are disarmed");
    // A function that has two addresses does not say which is meant.
    let mut two = machine();
    two.code(TEXT + 0x600, &[0x90; 0x60]);
    holding(&mut two, TEXT + 0x600, TABLE, KPROBES, false);
    let text = holding(&mut two, TEXT + 0x608, LIST, DISARMED, true);
    let found = read_by(&image_with(false, &text, &functions), two);
    assert_eq!(found.read, []);
    assert!(found.unread[0].1.contains("does not name kprobe_table"), "{:?}", found.unread);
}
