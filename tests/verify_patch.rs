//! `verify` and `patch` hold each other: what the one writes for any machine, the other explains in every byte; and of one
//! flipped bit it says where it is. On real kernels (`PVOPS_KERNELS`); the machines are made up, and most make no sense.

#![allow(clippy::expect_used)] // a test's input is there, or the test fails

mod boots_support;
mod dice;

use std::collections::{HashMap, HashSet};

use boots_support::{all, info, kernel, rules};
use dice::Dice;
use pvops::image::{Bits, Image};
use pvops::patch;
use pvops::plan::{self, Boot, Landmarks, LoadedCode};
use pvops::sites::Tables;
use pvops::sites::reserved::PREAMBLES;
use pvops::verify::{Known, Unknown, Verifier, View};

/// A machine that differs from a recorded one in everything that a machine may differ in.
fn random(dice: &mut Dice, like: &Boot, image: &Image, tables: &Tables, functions: &[u64]) -> Boot {
    let mut boot = like.clone();
    let marks = Landmarks::of(image).expect("landmarks");
    boot.features.iter_mut().for_each(|word| *word = (dice.next() >> 32) as u32);
    boot.uniprocessor = dice.below(2) == 0;
    boot.xen = boot.has(8 * 32 + 16).expect("a number");
    let thunks = [marks.return_thunk, marks.its_return_thunk, Some(*dice.pick(functions))];
    boot.return_thunk = (*dice.pick(&thunks)).or(marks.return_thunk);
    boot.its_pages = (0..64).map(|page| 0xffff_ffff_c000_0000 + 8192 * page).collect();
    for label in &tables.jump_labels {
        let value = dice.below(4) == 0;
        boot.keys.entry(label.key).or_insert(plan::Known { value, certain: true });
    }
    for site in &tables.static_calls {
        if dice.below(4) == 0 {
            let value = if dice.below(3) == 0 { 0 } else { *dice.pick(functions) };
            boot.static_calls.entry(site.key).or_insert(plan::Known { value, certain: true });
        }
    }
    for constant in &tables.constants {
        let value = (dice.below(1 << 33) as u64) << 20 | 0x4a;
        boot.constants.insert(constant.table.section.clone(), plan::Known { value, certain: true });
    }
    for value in boot.pointers.values_mut() {
        if dice.below(3) == 0 {
            *value = *dice.pick(functions);
        }
    }
    boot
}

#[test]
fn what_patch_writes_is_explained_and_one_bit_is_found() {
    let everything = std::env::var("PVOPS_MUTATIONS").is_ok_and(|value| value == "all");
    let rounds = if everything { 12 } else { 2 };
    let (mut judged, mut refused) = (0, 0);
    for release in ["5.10.0-46-amd64", "6.1.0-56-amd64", "6.12.117+deb12-amd64", "7.2.13+deb14-amd64"] {
        let Some(recorded) = all().into_iter().find(|boot| boot.kernel == release) else { continue };
        let image = kernel(release);
        let tables = Tables::read(&image).expect("real tables are valid");
        let verifier = Verifier::new(&image, &tables, rules(release), info(release, &image), LoadedCode::of(&image))
            .expect("a sheet");
        assert_eq!(image.bits(), Bits::B64);
        let symbols = image.symbols().expect("symbols").expect("some");
        let (start, end) = verifier.text();
        // No key holds a trampoline or what stands before a function: static_call_update() is given functions.
        let mut none: HashSet<u64> = tables.trampolines.iter().map(|trampoline| trampoline.address).collect();
        none.extend(symbols.addresses_starting_with(&PREAMBLES));
        let functions = symbols.iter().map(|(a, ..)| a).filter(|a| (start..end).contains(a) && !none.contains(a));
        let functions: Vec<u64> = functions.collect();
        let like = recorded.boot(&image, &tables);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for round in 0..rounds {
            let boot = random(&mut dice, &like, &image, &tables, &functions);
            // A machine on which the kernel itself would stop tells nothing.
            let Ok(plan) = plan::boot(&image, &tables, &boot, rules(release)) else {
                refused += 1;
                continue;
            };
            let mut text = patch::text(&image, &plan).expect("a text");
            let report = verifier.verify(&View::new((start, end), &text, &[]).expect("a view"), &Known::default());
            for run in report.unexplained.iter().take(5) {
                eprintln!("{release} {round}: {run:x?}");
            }
            assert!(
                report.unexplained.is_empty(),
                "{release}, machine {round}: {} runs unexplained",
                report.unexplained.len()
            );
            judged += 1;

            let votes: HashMap<Unknown, u32> = report.votes.iter().map(|vote| (vote.about, vote.votes)).collect();
            let few = |address: u64| few_votes(&tables, &votes, address);
            let at = loop {
                let at = dice.below(text.len());
                if !few(start + at as u64) {
                    break at;
                }
            };
            text[at] ^= 1 << dice.below(8);
            let report = verifier.verify(&View::new((start, end), &text, &[]).expect("a view"), &Known::default());
            let found: Vec<_> = report.unexplained.iter().map(|run| (run.address, run.wrong)).collect();
            assert_eq!(found, [(start + at as u64, 1)], "{release}, machine {round}");
        }
    }
    eprintln!("{judged} machines explained, {refused} on which the kernel would stop");
}

/// Whether an address lies where fewer than three sites vote.
fn few_votes(tables: &Tables, votes: &HashMap<Unknown, u32>, address: u64) -> bool {
    let few = |about: Unknown| votes.get(&about).is_none_or(|&n| n < 3);
    let holds = |start: u64, len: u64| (start..start + len).contains(&address);
    (0..).zip(&tables.constants).any(|(index, constant)| {
        few(Unknown::Constant(index)) && constant.table.rows().any(|(_, a)| holds(a, constant.width.into()))
    }) || tables.static_calls.iter().any(|site| few(Unknown::Call(site.key)) && holds(site.address, 6))
        || tables.trampolines.iter().any(|t| t.key.is_none_or(|key| few(Unknown::Call(key))) && holds(t.address, 5))
}
