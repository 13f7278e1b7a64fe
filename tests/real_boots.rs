//! Every byte of `.text` of recorded boots (`PVOPS_KERNELS`), given the machine's state from the same dump.

#![allow(clippy::expect_used)] // a test's input is there, or the test fails

mod boots_support;

use std::collections::HashMap;

use boots_support::{all, functions, kernel, rules};
use pvops::image::Image;
use pvops::patch;
use pvops::plan::{self, Boot, Forms, Guess, Pass, Plan, Rules};
use pvops::sites::Tables;

/// What a comparison found.
#[derive(Debug, Default, PartialEq)]
struct Verdict {
    wrong: Vec<u64>,
    changed: usize,
    undetermined: usize,
    sites: usize,
    guessed: usize,
    illegal: Vec<u64>,
}

fn predicted(image: &Image, tables: &Tables, boot: &Boot, rules: &Rules) -> (Plan, Vec<u8>) {
    let plan = plan::boot(image, tables, boot, rules).expect("a plan");
    let text = patch::text(image, &plan).expect("a text");
    (plan, text)
}

fn judge(image: &Image, tables: &Tables, plan: &Plan, text: &[u8], memory: &[u8]) -> Verdict {
    let section = image.section(".text").expect(".text");
    let names = functions(image);
    let mut verdict = Verdict::default();
    let built = image.section_bytes(section);
    verdict.changed = built.iter().zip(memory).filter(|(a, b)| a != b).count();
    let mut open = vec![false; text.len()];
    let mut pages: HashMap<u16, u64> = HashMap::new();
    let mut constants: HashMap<u16, Vec<u8>> = HashMap::new();
    for which in plan.guesses().iter().filter(|u| section.contains(u.address)) {
        let at = (which.address - section.address) as usize;
        let range = at..at + usize::from(which.len);
        let found = &memory[range.clone()];
        let mut legal = plan.admits(which, found, |address| names.contains_key(&address));
        match which.forms {
            Forms::Thunk { page, offset } => {
                let next = which.address + 4;
                let target = next.wrapping_add(i32::from_le_bytes(found.try_into().expect("4 bytes")) as u64);
                legal &= *pages.entry(page).or_insert(target - u64::from(offset)) == target - u64::from(offset);
            }
            Forms::Constant(index) => {
                legal &= constants.entry(index).or_insert_with(|| found.to_vec()) == found;
            }
            _ => {}
        }
        verdict.sites += 1;
        verdict.guessed += usize::from(found == &text[range.clone()]);
        if found != &text[range.clone()] && std::env::var_os("PVOPS_SHOW_GUESSES").is_some() {
            show_guess(image, tables, which, &text[range.clone()], found);
        }
        if !legal {
            verdict.illegal.push(which.address);
        }
        open[range].fill(true);
    }
    verdict.undetermined = open.iter().filter(|&&o| o).count();
    let wrong = (0..text.len()).filter(|&i| text[i] != memory[i] && !open[i]);
    verdict.wrong = wrong.map(|i| section.address + i as u64).collect();
    verdict
}

/// i386 boots come without feature words: the ones that explain most bytes.
fn fit_features(image: &Image, tables: &Tables, boot: &mut Boot, rules: &Rules, memory: &[u8]) {
    let wrong = |boot: &Boot| {
        let (_, text) = predicted(image, tables, boot, rules);
        text.iter().zip(memory).filter(|(a, b)| a != b).count()
    };
    let mut features: Vec<u16> = tables.alternatives.iter().flat_map(|t| t.rows.iter().map(|r| r.feature)).collect();
    features.sort_unstable();
    features.dedup();
    let mut best = wrong(boot);
    for feature in features {
        let bit = 1 << (feature % 32);
        boot.features[usize::from(feature / 32)] ^= bit;
        let now = wrong(boot);
        if now < best {
            best = now;
        } else {
            boot.features[usize::from(feature / 32)] ^= bit;
        }
    }
}

#[test]
fn text_in_memory_is_what_the_passes_say_in_every_byte_that_can_be_known() {
    let mut bad = Vec::new();
    let mut opened: Option<(String, Image, Tables)> = None;
    for recorded in all() {
        if opened.as_ref().is_none_or(|(release, ..)| *release != recorded.kernel) {
            let image = kernel(&recorded.kernel);
            let tables = Tables::read(&image).expect("real tables are valid");
            opened = Some((recorded.kernel.clone(), image, tables));
        }
        let Some((_, image, tables)) = &opened else { continue };
        let memory = recorded.memory(image);
        let rules = rules(&recorded.kernel);
        let mut boot = recorded.boot(image, tables);
        if image.bits() == pvops::image::Bits::B32 {
            fit_features(image, tables, &mut boot, rules, &memory);
        }
        let (plan, text) = predicted(image, tables, &boot, rules);
        let verdict = judge(image, tables, &plan, &text, &memory);
        let name = format!("{}~{}", recorded.kernel, recorded.mode);
        eprintln!(
            "{name}: {} wrong of {} changed; undetermined {} bytes ({:.3} %) at {} sites, {:.2} % guessed, {} illegal",
            verdict.wrong.len(),
            verdict.changed,
            verdict.undetermined,
            100.0 * verdict.undetermined as f64 / text.len() as f64,
            verdict.sites,
            100.0 * verdict.guessed as f64 / verdict.sites.max(1) as f64,
            verdict.illegal.len(),
        );
        if std::env::var_os("PVOPS_SHOW_WRONG").is_some() {
            show(image, &plan, &text, &memory, &verdict);
        }
        if !verdict.wrong.is_empty() || !verdict.illegal.is_empty() {
            bad.push(name);
        }
    }
    assert!(bad.is_empty(), "not exact: {bad:?}");
}

/// Which key was guessed wrong, and what it holds.
fn show_guess(image: &Image, tables: &Tables, which: &Guess, guess: &[u8], found: &[u8]) {
    let symbols = image.symbols().expect("symbols").expect("there are some");
    let row = which.row as usize;
    let key = match which.pass {
        Pass::JumpLabels => Some(tables.jump_labels[row].key),
        Pass::StaticCalls => Some(tables.static_calls[row].key),
        Pass::Trampolines => tables.trampolines[row].key,
        _ => None,
    };
    let key = key.and_then(|key| symbols.at(key));
    let calls = matches!((which.pass, found), (Pass::StaticCalls | Pass::Trampolines, [0xe8 | 0xe9, ..]));
    let target = calls.then(|| {
        let displacement = i32::from_le_bytes(found[1..5].try_into().expect("4 bytes"));
        symbols.at(which.address.wrapping_add(5).wrapping_add(displacement as u64))
    });
    eprintln!("  guess {:?} {key:?} {guess:02x?} found {found:02x?} {target:?}", which.pass);
}

fn show(image: &Image, plan: &Plan, text: &[u8], memory: &[u8], verdict: &Verdict) {
    let section = image.section(".text").expect(".text");
    let symbols = image.symbols().expect("symbols").expect("there are some");
    for &address in verdict.wrong.iter().chain(&verdict.illegal).take(12) {
        let at = (address - section.address) as usize;
        let range = at.saturating_sub(6)..(at + 8).min(text.len());
        eprintln!("  {address:#x} {:?}", symbols.at(address));
        eprintln!("    built {:02x?}", &image.section_bytes(section)[range.clone()]);
        eprintln!("    plan  {:02x?}", &text[range.clone()]);
        eprintln!("    found {:02x?}", &memory[range]);
        for write in plan.writes() {
            let bytes = plan.bytes(write);
            if address.wrapping_sub(write.address) < bytes.len().max(6) as u64 {
                eprintln!("    {:?} row {} {:02x?}: {}", write.pass, write.row, bytes, write.decision.reason);
            }
        }
    }
}
