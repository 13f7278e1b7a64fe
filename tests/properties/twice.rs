//! `apply_alternatives()` run over what it has already patched.

use super::*;

/// `apply_alternatives()` alone.
fn alternatives_alone(memory: LoadedCode, tables: &Tables, boot: &Boot, era: &str) -> pvops::Result<LoadedCode> {
    let marks = Landmarks { bug: Some(SITE), ..Landmarks::default() };
    let rules = Rules::by_name(era).expect("an era");
    let data = |_, _| None;
    Run::new(memory, tables, &marks, boot, rules, &data).all().map(|(_, memory)| memory)
}

fn only(table: AlternativeTable) -> Tables {
    Tables { alternatives: Some(table), ..Tables::default() }
}

#[test]
fn all_alternatives_of_real_kernels_applied_twice_are_those_applied_once_but_for_direct_calls() {
    for image in images() {
        let era = era(image);
        let mut table = rows(image);
        table.rows.retain(|row| !row.direct_call);
        let sites: Vec<(u64, usize)> = table.rows.iter().map(|row| (row.address, row.len.into())).collect();
        let tables = only(table);
        for pattern in [0, !0, 0x1234_5678u32] {
            let features = (0..40).map(|word| pattern.rotate_left(word)).collect();
            let boot = Boot { features, nops: patcher(era, image.bits()).nops, ..Boot::default() };
            let built = LoadedCode::of(image);
            let once = alternatives_alone(built.clone(), &tables, &boot, era).expect("no BUG");
            let twice = alternatives_alone(once.clone(), &tables, &boot, era).expect("no BUG");
            let mut changed = 0;
            for &(site, len) in &sites {
                assert_eq!(once.read(site, len), twice.read(site, len), "{era}, {pattern:#x}: {site:#x}");
                changed += usize::from(once.read(site, len) != built.read(site, len));
            }
            assert!(changed > 0, "{era}, {pattern:#x}");
        }
    }
}

#[test]
fn sites_that_are_not_taken_have_their_nops_merged_once_and_for_all() {
    let text = b"\x0f\x1f\x00\x66\x90\x90\xfa\x90\x0f\x1f\x00";
    let layout = alternatives::Layout::of_2007(Bits::B64);
    let tables = only(AlternativeTable { layout, rows: vec![row(SITE + 0x1000, text.len(), 0)] });
    let boot = Boot { features: vec![0], nops: &X86_11_NOPS, ..Boot::default() };
    for era in ["6.12", "7.2"] {
        let memory = LoadedCode::new(Bits::B64, [(SITE, &text[..])]);
        let once = alternatives_alone(memory, &tables, &boot, era).expect("no BUG");
        assert_eq!(once.from(SITE), b"\x66\x0f\x1f\x44\x00\x00\xfa\x0f\x1f\x40\x00", "{era}");
        let twice = alternatives_alone(once.clone(), &tables, &boot, era).expect("no BUG");
        assert_eq!(once.from(SITE), twice.from(SITE), "{era}");
    }
}

#[test]
fn a_direct_call_row_applied_twice_stops_the_kernel_for_its_site_is_a_direct_call_already() {
    let (slot, function, replacement) = (SITE + 0x100, SITE + 0x200, SITE + 0x1000);
    let site = [&b"\xff\x15"[..], &(slot.wrapping_sub(SITE + 6) as u32).to_le_bytes()].concat();
    let call = insn::call(replacement, SITE);
    let rows = vec![Alternative { direct_call: true, ..row(replacement, 6, 5) }];
    let tables = only(AlternativeTable { layout: alternatives::Layout::of_2007(Bits::B64), rows });
    let pointers = [(slot, function)].into();
    let boot = Boot { features: vec![1], nops: &X86_11_NOPS, pointers, ..Boot::default() };
    for era in ["6.12", "7.2"] {
        let memory = LoadedCode::new(Bits::B64, [(SITE, &site[..]), (replacement, &call)]);
        let once = alternatives_alone(memory, &tables, &boot, era).expect("no BUG");
        assert_eq!(once.from(SITE), [&insn::call(SITE, function)[..], b"\x90"].concat(), "{era}");
        let error = alternatives_alone(once, &tables, &boot, era).expect_err("a BUG");
        assert_eq!(error.kind, ErrorKind::Bug);
        assert!(error.to_string().contains("alt_replace_call"), "{era}: {error}");
    }
}
