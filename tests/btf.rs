//! BTF, made and real.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod symbols_support;

use std::collections::HashSet;

use proptest::prelude::*;
use pvops::ErrorKind;
use pvops::image::btf::functions::Prototypes;
use pvops::image::btf::{Btf, TypeId};
use symbols_support::btf::{Builder, template};
use symbols_support::open;

fn reason(blob: &[u8], name: &str) -> String {
    Btf::parse(blob).and_then(|btf| btf.flatten_pointers(name, 8)).unwrap_err().to_string()
}

#[test]
fn a_template_is_flattened_in_member_order() {
    let blob = template().finish(None);
    let flat = Btf::parse(&blob).unwrap().flatten_pointers("paravirt_patch_template", 8).unwrap();
    let expected = [
        ("cpu.io_delay", 0),
        ("cpu.load", 16),
        ("irq.save_fl", 24),
        ("irq.irq_disable", 32),
        ("a", 40),
        ("b[0]", 40),
        ("b[1]", 48),
        ("lazy_mode.enter", 56),
        ("lazy_mode.leave", 64),
        ("lazy_mode.flush", 72),
    ];
    assert_eq!(flat, expected.map(|(path, at)| (path.to_owned(), at)));
}

#[test]
fn members_know_bit_fields_in_both_encodings() {
    let mut b = Builder::default();
    let int = b.int("int", 4);
    let old = b.structure("old", 4, &[("a", int, 3)]);
    let new = b.composite(4, "new", 4, true, &[("a", int, 5 << 24 | 3), ("b", int, 32)]);
    let blob = b.finish(None);
    let btf = Btf::parse(&blob).unwrap();
    assert_eq!(btf.find_struct("new"), Some(TypeId(new)));
    assert_eq!((btf.find_struct("ne"), btf.find_struct("int"), btf.find_struct("")), (None, None, None));
    let fields = |id| btf.members(TypeId(id)).unwrap().iter().map(|m| (m.bit_offset, m.bit_size)).collect::<Vec<_>>();
    assert_eq!((fields(old), fields(new)), (vec![(3, 0)], vec![(3, 5), (32, 0)]));
    assert_eq!(btf.size_of(TypeId(new)), Ok(4));
    assert!(btf.members(TypeId(int)).is_err() && btf.members(TypeId(0)).is_err() && btf.members(TypeId(99)).is_err());
}

#[test]
fn arrays_of_structures_and_of_arrays_are_walked() {
    let mut b = Builder::default();
    let void = b.pointer(0);
    let pair = b.structure("pair", 16, &[("x", void, 0), ("y", void, 64)]);
    let (pairs, inner) = (b.array(pair, 2), b.array(void, 2));
    let outer = b.array(inner, 2);
    b.structure("s", 64, &[("p", pairs, 0), ("q", outer, 256)]);
    let blob = b.finish(None);
    let flat = Btf::parse(&blob).unwrap().flatten_pointers("s", 8).unwrap();
    let paths: Vec<&str> = flat.iter().map(|f| &*f.0).collect();
    assert_eq!(paths, ["p[0].x", "p[0].y", "p[1].x", "p[1].y", "q[0][0]", "q[0][1]", "q[1][0]", "q[1][1]"]);
    assert!(flat.iter().map(|f| f.1).eq((0..64).step_by(8)));
}

#[test]
fn types_that_contain_themselves_are_errors() {
    let mut b = Builder::default();
    b.structure("direct", 8, &[("me", 1, 0)]);
    b.structure("typedefs", 8, &[("t", 3, 0)]);
    b.typedef("round", 4);
    b.qualifier(10, 3);
    b.structure("arrays", 8, &[("a", 6, 0)]);
    b.array(6, 1);
    let blob = b.finish(None);
    assert_eq!(reason(&blob, "direct"), ".BTF row 1: struct direct: type contains itself");
    assert!(reason(&blob, "typedefs").contains("form a loop"));
    assert!(reason(&blob, "arrays").contains("form a loop"));
    assert!(reason(&blob, "absent").contains("no struct absent"));
}

#[test]
fn what_leaves_the_structure_or_the_types_is_an_error() {
    let mut b = Builder::default();
    let void = b.pointer(0);
    b.structure("short", 8, &[("a", void, 8)]);
    b.structure("odd", 16, &[("a", void, 4)]);
    b.structure("unknown", 16, &[("a", 77, 0)]);
    b.structure("nothing", 16, &[("a", 0, 0)]);
    let many = b.array(void, u32::MAX);
    b.structure("many", u32::MAX, &[("a", many, 0)]);
    let blob = b.finish(None);
    assert!(reason(&blob, "short").contains("a lies outside"));
    assert!(reason(&blob, "odd").contains("not at a whole byte"));
    assert!(reason(&blob, "unknown").contains("no type 77"));
    assert!(reason(&blob, "nothing").contains("a is void"));
    assert!(reason(&blob, "many").contains("more members"));
}

#[test]
fn nesting_that_doubles_at_each_level_ends_soon() {
    let mut b = Builder::default();
    let mut inner = b.pointer(0);
    for level in 0..30 {
        inner = b.composite(5, &format!("u{level}"), 8, false, &[("a", inner, 0), ("b", inner, 0)]);
    }
    b.structure("bomb", 8, &[("u", inner, 0)]);
    assert!(reason(&b.finish(None), "bomb").contains("more members"));
}

#[test]
fn a_kind_of_the_future_is_skipped_where_the_layout_tells_its_size() {
    let mut b = Builder::default();
    b.raw("new", 21, false, 3, 0, &[1, 2, 3, 4]);
    let void = b.pointer(0);
    b.structure("s", 8, &[("a", void, 0)]);
    let mut layout = vec![0; 4 * 22];
    layout[4 * 21..][..2].copy_from_slice(&[4, 4]);
    let blob = b.finish(Some(&layout));
    assert_eq!(Btf::parse(&blob).unwrap().flatten_pointers("s", 8).unwrap(), [("a".to_owned(), 0)]);
    assert!(Btf::parse(&b.finish(None)).unwrap_err().to_string().contains("unknown kind 21"));
}

#[test]
fn a_bad_header_is_an_error() {
    let good = template().finish(None);
    assert!(Btf::parse(&good).is_ok_and(|btf| btf.len() == 12 && !btf.is_empty()));
    for (at, value) in [(0, 0), (2, 2), (4, 20), (8, 0xff), (12, 3), (15, 0xff), (19, 0xff), (20, 1)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(Btf::parse(&bad).unwrap_err().kind, ErrorKind::Image, "byte {at} = {value}");
    }
    for cut in 0..good.len() {
        assert!(Btf::parse(&good[..cut]).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn offsets_of_generated_structures_come_back(sizes in prop::collection::vec(prop::collection::vec(0..3_u8, 0..6), 1..8)) {
        let mut b = Builder::default();
        let (int, void) = (b.int("long", 8), b.pointer(0));
        let wrapper = b.structure("paravirt_callee_save", 8, &[("func", void, 0)]);
        let (mut expected, mut outer, mut at) = (Vec::new(), Vec::new(), 0);
        for (i, fields) in sizes.iter().enumerate() {
            let names: Vec<String> = (0..fields.len()).map(|j| format!("m{j}")).collect();
            let members: Vec<_> = fields.iter().zip(&names).enumerate()
                .map(|(j, (&f, name))| (name.as_str(), [int, void, wrapper][f as usize], j as u32 * 64)).collect();
            let id = b.structure(&format!("s{i}"), fields.len() as u32 * 8, &members);
            expected.extend(fields.iter().enumerate().filter(|f| *f.1 != 0).map(|(j, _)| (format!("o{i}.m{j}"), at + 8 * j)));
            outer.push((format!("o{i}"), id, at as u32 * 8));
            at += fields.len() * 8;
        }
        let members: Vec<_> = outer.iter().map(|(n, t, o)| (n.as_str(), *t, *o)).collect();
        b.structure("outer", at as u32, &members);
        let blob = b.finish(None);
        prop_assert_eq!(Btf::parse(&blob).unwrap().flatten_pointers("outer", 8).unwrap(), expected);
    }
}

#[test]
fn real_kernels_tell_their_ops() {
    // The last slot is the last op of the structure that ends the template, in the words of each era.
    let kernels = [
        (
            "5.10.0-46-amd64",
            85,
            ("init.patch", 0),
            ("irq.save_fl", 34),
            ("mmu.lazy_mode.flush", 78),
            "lock.vcpu_is_preempted",
        ),
        (
            "6.1.0-56-amd64",
            84,
            ("cpu.io_delay", 0),
            ("irq.irq_enable", 32),
            ("mmu.lazy_mode.flush", 77),
            "lock.vcpu_is_preempted",
        ),
        (
            "6.12.117+deb12-amd64",
            83,
            ("cpu.io_delay", 0),
            ("irq.irq_enable", 32),
            ("mmu.lazy_mode.flush", 76),
            "lock.vcpu_is_preempted",
        ),
        (
            "7.2.13+deb14-amd64",
            73,
            ("cpu.get_debugreg", 0),
            ("irq.irq_enable", 30),
            ("mmu.lazy_mode_flush", 71),
            "mmu.set_fixmap",
        ),
    ];
    for (name, slots, first, middle, later, last) in kernels {
        let Some((sections, word)) = open(name) else { return };
        let blob = &sections.iter().find(|s| s.0 == ".BTF").unwrap().2;
        let btf = Btf::parse(blob).unwrap();
        let flat = btf.flatten_pointers("paravirt_patch_template", word).unwrap();
        assert_eq!(flat.len(), slots, "{name}");
        assert!(flat.iter().enumerate().all(|(i, f)| f.1 == i * word), "{name}: one pointer after the other");
        for (path, slot) in [first, middle, later, (last, slots - 1)] {
            assert_eq!(flat[slot].0, path, "{name}");
        }
        let template = btf.find_struct("paravirt_patch_template").unwrap();
        assert_eq!(btf.size_of(template), Ok(slots * word), "{name}");
        let lock: Vec<_> = btf.flatten_pointers("pv_lock_ops", word).unwrap().into_iter().map(|f| f.0).collect();
        let ops = ["queued_spin_lock_slowpath", "queued_spin_unlock", "wait", "kick", "vcpu_is_preempted"];
        assert_eq!(lock, ops, "{name}");
    }
}

#[test]
fn functions_agree_that_take_and_return_the_same() {
    let mut b = Builder::default();
    let (int, long, void) = (b.int("int", 4), b.int("long", 8), b.pointer(0));
    let number = b.typedef("number_t", int);
    let task = b.structure("task", 8, &[("id", long, 0)]);
    let again = b.structure("task", 8, &[("id", int, 0)]);
    let other = b.structure("other", 8, &[("id", long, 0)]);
    let [task, again, other] = [task, again, other].map(|of| {
        let constant = b.qualifier(10, of);
        b.pointer(constant)
    });
    let mut functions = Vec::new();
    for (name, returns, takes) in [
        ("one", int, vec![("task", task), ("flags", number)]),
        ("same", number, vec![("of", again), ("how", int)]),
        ("another", int, vec![("task", other), ("flags", int)]),
        ("fewer", int, vec![("task", task)]),
        ("returns_nothing", 0, vec![("task", task), ("flags", int)]),
        ("longer", int, vec![("task", task), ("flags", long)]),
        ("untyped", int, vec![("task", void), ("flags", int)]),
    ] {
        let prototype = b.prototype(returns, &takes);
        functions.push((name, prototype));
        b.function(name, prototype);
    }
    // A second file's function of that name.
    let (_, as_one) = functions[0];
    b.function("fewer", as_one);
    let nameless = b.prototype(int, &[("", task), ("", int)]);
    let pointer = b.pointer(nameless);
    let blob = b.finish(None);
    let btf = Btf::parse(&blob).unwrap();
    let names: HashSet<&str> = functions.iter().map(|&(name, _)| name).collect();
    let types = Prototypes::of(&btf, &names);
    let agree: Vec<&str> = functions.iter().map(|&(name, _)| name).filter(|name| types.agree("one", name)).collect();
    assert_eq!(agree, ["one", "same", "fewer"]);
    assert!(types.agree("one", "nobody knows"));
    let pointed = btf.pointed(TypeId(pointer)).unwrap();
    let fit: Vec<&str> = functions.iter().map(|&(name, _)| name).filter(|name| types.fits(name, pointed)).collect();
    assert_eq!(fit, ["one", "same", "fewer"]);
    assert_eq!((btf.pointed(TypeId(int)), btf.pointed(TypeId(void))), (None, None));
}
