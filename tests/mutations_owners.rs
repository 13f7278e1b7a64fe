//! Recorded boots changed where others write, and two places at once: what is theirs is named to the byte, what hides
//! behind it is found, and two changes that agree do not outvote the rest. Seeded; on real boots (`PVOPS_KERNELS`).

#![allow(clippy::expect_used)] // a test's input is there, or the test fails

mod boots_support;
mod dice;

use std::collections::{BTreeMap, HashMap};

use boots_support::{all, info, kernel, rules};
use dice::Dice;
use pvops::insn::{self, INT3};
use pvops::plan::LoadedCode;
use pvops::sites::{Reserved, Tables};
use pvops::verify::{Known, Owned, Owner, Report, Unknown, Verifier, View};

const BOOTS: [&str; 2] = ["6.1.0-56-amd64~native-max-smp2", "6.12.117+deb12-amd64~native-qemu64-smp1"];
/// Where modules lie.
const OUTSIDE: u64 = 0xffff_ffff_c060_0000;

/// Wrong bytes by address: whether somebody else may have written each.
fn wrong(report: &Report) -> BTreeMap<u64, bool> {
    let bytes = report.unexplained.iter().flat_map(|run| {
        let pairs = (run.address..).zip(run.found.iter().zip(&run.expected));
        pairs.filter(|(_, (is, should))| is != should).map(|(at, _)| (at, run.owned.is_some()))
    });
    bytes.collect()
}

/// Whether a byte is in a run that nobody owns.
fn found_alone(report: &Report, address: u64) -> bool {
    wrong(report).get(&address) == Some(&false)
}

#[test]
fn what_hides_behind_an_owner_is_found_and_two_that_agree_are_two() {
    for recorded in all().into_iter().filter(|boot| BOOTS.contains(&&format!("{}~{}", boot.kernel, boot.mode)[..])) {
        let name = format!("{}~{}", recorded.kernel, recorded.mode);
        let image = kernel(&recorded.kernel);
        let tables = Tables::read(&image).expect("real tables are valid");
        let (rules, info) = (rules(&recorded.kernel), info(&recorded.kernel, &image));
        let verifier = Verifier::new(&image, &tables, rules, info, LoadedCode::of(&image)).expect("a verifier");
        let clean = recorded.memory(&image);
        let (start, end) = verifier.text();
        let judged = |memory: &[u8]| {
            let view = View::new((start, end), memory, &[]).expect("a view");
            verifier.verify(&view, &Known::default())
        };
        let put = |memory: &mut [u8], address: u64, bytes: &[u8]| {
            let at = (address - start) as usize;
            memory[at..at + bytes.len()].copy_from_slice(bytes);
        };
        let symbols = image.symbols().expect("symbols").expect("some");
        let reserved = Reserved::read(&image).expect("what the image reserves");
        let mut dice = Dice(0x5eed);

        // Heads of traced functions: a call is somebody's, five bytes of it. Of the hundred at random behind it nothing is
        // anybody's but what a probe is made of, where the kernel lets one be set.
        let heads: Vec<u64> = tables.mcount.iter().copied().filter(|at| (start..end - 4096).contains(at)).collect();
        let mut memory = clean.clone();
        let mut called = BTreeMap::new();
        while called.len() < 100 {
            let head = heads[dice.below(heads.len())];
            if called.range(head.saturating_sub(0x200)..head + 0x200).next().is_none() {
                let mut behind: Vec<u8> = (0..100).map(|_| dice.below(256) as u8).collect();
                behind[0] = [behind[0], INT3, insn::CALL, insn::JMP][called.len() % 4];
                put(&mut memory, head, &insn::call(head, OUTSIDE));
                put(&mut memory, head + 5, &behind);
                called.insert(head, ());
            }
        }
        let report = judged(&memory);
        // A run has one owner at most, and its bytes alone are passed: those beside them are runs of their own.
        let owned: BTreeMap<u64, &Owned> = report
            .unexplained
            .iter()
            .filter_map(|run| run.owned.as_ref())
            .map(|owned| (owned.address, owned))
            .collect();
        for (at, passes) in wrong(&report) {
            let head = called.range(..=at).next_back().map_or(0, |(&head, ())| head);
            if !passes || at < head + 5 {
                continue;
            }
            let owner = owned.range(..=at).next_back().map(|(_, owned)| *owned).expect("an owner");
            assert!(at < owner.address + owner.bytes.len() as u64, "{name}: {at:#x} is behind what {owner:x?} wrote");
            assert_eq!(owner.owners, [Owner::Kprobes], "{name}: {at:#x} is behind the call at {head:#x}");
            assert!(owner.bytes == [INT3] || (owner.bytes[0] == insn::JMP && owner.bytes.len() == 5), "{owner:x?}");
            assert!(!reserved.refuses(owner.address), "{name}: {owner:x?}");
        }
        // Every byte that was changed is in a run.
        let found = wrong(&report);
        let changed = (start..).zip(memory.iter().zip(&clean)).filter(|(_, (is, was))| is != was).map(|(at, _)| at);
        assert!(changed.clone().count() > 5000 && changed.into_iter().all(|at| found.contains_key(&at)), "{name}");

        // A breakpoint on the instruction right behind a call: two owners, a byte of one and five of the other.
        let mut memory = clean.clone();
        let mut probed = 0;
        for &head in called.keys() {
            put(&mut memory, head, &insn::call(head, OUTSIDE));
            put(&mut memory, head + 5, &[INT3]);
        }
        let report = judged(&memory);
        for &head in called.keys() {
            let at = |address: u64| {
                let owned = report.unexplained.iter().filter_map(|run| run.owned.as_ref());
                owned.filter(|owned| owned.address == address).collect::<Vec<_>>()
            };
            let [call] = at(head)[..] else { panic!("{name}: the call at {head:#x} has one owner") };
            assert_eq!((call.bytes.len(), call.target), (5, Some(OUTSIDE)));
            match at(head + 5)[..] {
                [probe] => {
                    assert_eq!((&probe.bytes[..], &probe.owners[..]), (&[INT3][..], &[Owner::Kprobes][..]));
                    assert!(!reserved.refuses(head + 5), "{name}: {head:#x}");
                    probed += 1;
                }
                [] => assert!(found_alone(&report, head + 5), "{name}: {head:#x}"),
                _ => panic!("{name}: {head:#x} has two probes"),
            }
        }
        assert!(probed > 50, "{name}: {probed}");

        // Breakpoints and jumps where the kernel lets nobody probe are nobody's.
        let range = |from: &str, to: &str| symbols.address_of(from).zip(symbols.address_of(to));
        let ranges =
            [range("__noinstr_text_start", "__noinstr_text_end"), range("__entry_text_start", "__entry_text_end")];
        let mut memory = clean.clone();
        let mut refused = 0;
        for (from, to) in ranges.into_iter().flatten() {
            for _ in 0..200 {
                let place = from + dice.below((to - from - 8) as usize) as u64;
                assert!(reserved.refuses(place), "{name}: {place:#x}");
                let bytes = if dice.below(2) == 0 { vec![INT3] } else { insn::jmp(place, OUTSIDE).to_vec() };
                put(&mut memory, place, &bytes);
                refused += 1;
            }
        }
        let report = judged(&memory);
        assert!(refused == 400 && !report.unexplained.is_empty());
        for run in &report.unexplained {
            // A static call in there that goes outside is one of its own; nothing else has an owner.
            let owners = run.owned.as_ref().map_or(Vec::new(), |owned| owned.owners.clone());
            assert!(!owners.contains(&Owner::Kprobes), "{name}: {run:x?}");
        }

        // Two sites of a static call that agree with each other, and not with at least four more.
        let votes: HashMap<Unknown, u32> = judged(&clean).votes.iter().map(|vote| (vote.about, vote.votes)).collect();
        let mut by_key: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for site in tables.static_calls.iter().filter(|site| (start..end - 16).contains(&site.address) && !site.tail) {
            if clean[(site.address - start) as usize] == insn::CALL {
                by_key.entry(site.key).or_default().push(site.address);
            }
        }
        by_key
            .retain(|key, sites| sites.len() >= 2 && votes.get(&Unknown::Call(*key)).is_some_and(|&votes| votes >= 6));
        assert!(!by_key.is_empty());
        let other = symbols.address_of("do_sys_openat2").expect("a function");
        let mut memory = clean.clone();
        let mut changed = Vec::new();
        for sites in by_key.values() {
            for &site in &sites[..2] {
                put(&mut memory, site, &insn::call(site, other));
                changed.push(site);
            }
        }
        let found = wrong(&judged(&memory));
        for site in changed {
            assert!(found.range(site..site + 5).next().is_some(), "{name}: {site:#x} is not found");
        }
        assert!(found.values().all(|&owned| !owned), "{name}");
    }
}
