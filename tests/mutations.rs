//! Memory that somebody changed: everything injected is found, at its place, and nothing else is reported.
//!
//! Changes are made by the hundred, seeded, on recorded boots (`PVOPS_KERNELS`): on a few of them here, on all with
//! `PVOPS_MUTATIONS=all`. What is changed into another legal form has at least three sites that vote.

#![allow(clippy::expect_used)] // a test's input is there, or the test fails

mod boots_support;
mod dice;

use std::collections::{BTreeMap, HashMap, HashSet};

use boots_support::{Recorded, all, kernel, rules};
use dice::Dice;
use pvops::image::Image;
use pvops::insn;
use pvops::patch;
use pvops::plan;
use pvops::sites::Tables;
use pvops::verify::{Known, Report, Unknown, Verifier, View};

/// Boots that stand for the others where not all are asked for.
const FEW: [&str; 2] = ["5.10.0-46-amd64~xenpv-max-smp2", "6.12.117+deb12-amd64~native-qemu64-smp1"];

/// One boot, and what the sites said of it before anything was changed.
struct Scene<'a> {
    name: String,
    image: &'a Image,
    tables: &'a Tables,
    recorded: &'a Recorded,
    verifier: Verifier<'a>,
    memory: Vec<u8>,
    text: u64,
    votes: HashMap<Unknown, (u64, u32)>,
    functions: Vec<u64>,
    dice: Dice,
}

/// A change: where, and what is put there.
type Change = (u64, Vec<u8>);

impl Scene<'_> {
    fn at(&self, address: u64, len: usize) -> &[u8] {
        let at = (address - self.text) as usize;
        &self.memory[at..at + len]
    }

    fn inside(&self, address: u64) -> bool {
        address >= self.text && address + 16 < self.text + self.memory.len() as u64
    }

    fn votes(&self, about: Unknown) -> u32 {
        self.votes.get(&about).map_or(0, |vote| vote.1)
    }

    fn target(&self, address: u64, len: usize) -> u64 {
        let field = self.at(address + len as u64 - 4, 4);
        (address + len as u64).wrapping_add(i32::from_le_bytes(field.try_into().expect("4 bytes")) as u64)
    }

    fn other_function(&mut self, but: u64) -> u64 {
        loop {
            let function = *self.dice.pick(&self.functions);
            if function != but {
                return function;
            }
        }
    }

    /// Makes all changes at once, and holds the report to them: each is found where it is, and nothing else is. Where no
    /// site is left that votes, what should be there is a guess: a run may have more wrong bytes than were changed, but
    /// none outside of the change.
    fn check(&self, kind: &str, changes: &[Change]) -> usize {
        let mut memory = self.memory.clone();
        let mut made: BTreeMap<u64, u64> = BTreeMap::new();
        for (address, bytes) in changes {
            let at = (address - self.text) as usize;
            let place = &mut memory[at..at + bytes.len()];
            if place != bytes {
                place.copy_from_slice(bytes);
                made.insert(*address, address + bytes.len() as u64);
            }
        }
        let report = self.report(&memory);
        let mut missed = made.clone();
        for run in &report.unexplained {
            for (at, (is, should)) in (run.address..).zip(run.found.iter().zip(&run.expected)) {
                let change = made.range(..=at).next_back().filter(|&(_, &end)| at < end);
                if is != should {
                    assert!(change.is_some(), "{}: {kind}: too much at {at:#x}, in {run:x?}", self.name);
                    change.map(|(start, _)| missed.remove(start));
                }
            }
        }
        let symbols = self.image.symbols().ok().flatten();
        let missed: Vec<_> = missed.keys().map(|&a| (format!("{a:#x}"), symbols.and_then(|s| s.at(a)))).collect();
        assert!(missed.is_empty(), "{}: {kind}: missed {missed:?}", self.name);
        made.len()
    }

    fn report(&self, memory: &[u8]) -> Report {
        let view = View::new(self.verifier.text(), memory, &[]).expect("a view");
        self.verifier.verify(&view, &Known::default())
    }
}

fn bit_flips(scene: &mut Scene<'_>, most: usize) -> Vec<Change> {
    let undecided = undecided(scene);
    let mut changes: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    while changes.len() < most {
        let at = scene.dice.below(scene.memory.len());
        let address = scene.text + at as u64;
        // Apart from each other: each is a run of its own. Not where nothing but a single vote says what is right.
        if changes.range(address.saturating_sub(64)..address + 64).next().is_none() && !undecided.contains(&address) {
            let byte = scene.memory[at] ^ 1 << scene.dice.below(8);
            changes.insert(address, vec![byte]);
        }
    }
    changes.into_iter().collect()
}

/// Bytes on which fewer than three sites vote.
fn undecided(scene: &Scene<'_>) -> HashSet<u64> {
    let mut bytes = HashSet::new();
    let mut mark = |address: u64, len: u64| bytes.extend(address..address + len);
    for (index, constant) in (0..).zip(&scene.tables.constants) {
        if scene.votes(Unknown::Constant(index)) < 3 {
            constant.table.rows().for_each(|(_, address)| mark(address, constant.width.into()));
        }
    }
    for site in scene.tables.static_calls.iter().filter(|site| scene.votes(Unknown::Call(site.key)) < 3) {
        mark(site.address, 6);
    }
    for trampoline in &scene.tables.trampolines {
        if trampoline.key.is_none_or(|key| scene.votes(Unknown::Call(key)) < 3) {
            mark(trampoline.address, 5);
        }
    }
    bytes
}

fn hooks(scene: &mut Scene<'_>, most: usize) -> Vec<Change> {
    let sites: Vec<u64> = scene.tables.mcount.iter().copied().filter(|&a| scene.inside(a)).collect();
    let sites = scene.dice.shuffled(&sites, most);
    let hook = |(i, address): (usize, u64)| {
        let away = scene.text + 0x4000_0000 + 4096 * i as u64;
        let inside = scene.functions[i % scene.functions.len()];
        let bytes = match i % 3 {
            0 => insn::jmp(address, away),
            1 => insn::call(address, away),
            _ => insn::jmp(address, inside),
        };
        (address, bytes.to_vec())
    };
    sites.into_iter().enumerate().map(hook).collect()
}

/// Calls of ops, one for each slot with enough of them.
fn retargeted_ops(scene: &mut Scene<'_>, _: usize) -> Vec<Change> {
    let mut by_target: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let paravirt = scene.tables.paravirt.iter().flat_map(|table| table.sites.iter().map(|site| site.address));
    let direct =
        scene.tables.alternatives.iter().flat_map(|t| t.rows.iter().filter(|r| r.direct_call).map(|r| r.address));
    for address in paravirt.chain(direct).filter(|&a| scene.inside(a)).collect::<HashSet<u64>>() {
        if scene.at(address, 1) == [insn::CALL] {
            by_target.entry(scene.target(address, 5)).or_default().push(address);
        }
    }
    let mut changes = Vec::new();
    for (target, mut sites) in by_target.into_iter().filter(|(_, sites)| sites.len() >= 8) {
        sites.sort_unstable();
        let address = *scene.dice.pick(&sites);
        let other = scene.other_function(target);
        changes.push((address, insn::call(address, other).to_vec()));
    }
    changes
}

/// One jump label of each key that enough have.
fn flipped_keys(scene: &mut Scene<'_>, _: usize) -> Vec<Change> {
    let mut by_key: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (row, label) in scene.tables.jump_labels.iter().enumerate().filter(|(_, label)| scene.inside(label.address)) {
        by_key.entry(label.key).or_default().push(row);
    }
    let five =
        scene.tables.mcount.iter().find(|&&a| scene.inside(a)).map(|&a| scene.at(a, 5).to_vec()).expect("ftrace");
    let two = scene.tables.jump_labels.iter().filter(|l| l.len == 2 && scene.inside(l.address));
    let two = two.map(|l| scene.at(l.address, 2).to_vec()).find(|here| here[0] != 0xeb);
    let mut changes = Vec::new();
    by_key.retain(|key, _| scene.votes(Unknown::Key(*key)) >= 3);
    for rows in by_key.into_values() {
        let label = scene.tables.jump_labels[*scene.dice.pick(&rows)];
        let here = scene.at(label.address, label.len.into());
        let flipped = match (here[0], label.len) {
            (0xeb, _) => two.clone().expect("some are off"),
            (0xe9, _) => five.clone(),
            (_, 2) => vec![0xeb, label.target.wrapping_sub(label.address + 2) as u8],
            _ => insn::jmp(label.address, label.target).to_vec(),
        };
        changes.push((label.address, flipped));
    }
    changes
}

fn redirected_returns(scene: &mut Scene<'_>, most: usize) -> Vec<Change> {
    // A return that is a trampoline, too, has that one vote.
    let undecided = undecided(scene);
    let sites: Vec<u64> = scene.tables.returns.rows().map(|(_, a)| a).filter(|&a| scene.inside(a)).collect();
    let sites: Vec<u64> = sites.into_iter().filter(|a| !undecided.contains(a)).collect();
    let sites = scene.dice.shuffled(&sites, most);
    let thunk = scene.image.symbols().expect("symbols").and_then(|s| s.address_of("__x86_return_thunk"));
    let mut changes = Vec::new();
    for (i, address) in sites.into_iter().enumerate() {
        let target = if i % 2 == 0 { thunk.unwrap_or(scene.text) } else { scene.other_function(0) };
        let bytes = if i % 5 == 4 { insn::call(address, target) } else { insn::jmp(address, target) };
        changes.push((address, bytes.to_vec()));
    }
    changes
}

fn lock_prefixes(scene: &mut Scene<'_>, most: usize) -> Vec<Change> {
    let sites: Vec<u64> = scene.tables.smp_locks.rows().map(|(_, a)| a).filter(|&a| scene.inside(a)).collect();
    let sites: Vec<u64> = sites.into_iter().filter(|&a| matches!(scene.at(a, 1), [0xf0 | 0x3e])).collect();
    let sites = scene.dice.shuffled(&sites, most);
    let other = |i: usize, byte: u8| {
        if i % 2 == 1 {
            0x90
        } else if byte == 0xf0 {
            0x3e
        } else {
            0xf0
        }
    };
    sites.into_iter().enumerate().map(|(i, a)| (a, vec![other(i, scene.at(a, 1)[0])])).collect()
}

/// One site of each of some features, as the patcher would write it on a machine that differs in that feature.
fn alternatives(scene: &mut Scene<'_>, most: usize) -> Vec<Change> {
    let Some(table) = &scene.tables.alternatives else { return Vec::new() };
    let boot = scene.recorded.boot(scene.image, scene.tables);
    let rules = rules(&scene.recorded.kernel);
    let mut features: Vec<u16> = table.rows.iter().map(|row| row.feature).collect();
    features.sort_unstable();
    features.dedup();
    features.retain(|&f| scene.votes(Unknown::Feature(f)) >= 3);
    let text = |boot: &plan::Boot| {
        let plan = plan::boot(scene.image, scene.tables, boot, rules).expect("a plan");
        patch::text(scene.image, &plan).expect("a text")
    };
    let now = text(&boot);
    let mut changes: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    // A site of several features speaks of each of them: what is changed must stay the minority for all.
    let mut changed: HashMap<u16, u32> = HashMap::new();
    for feature in scene.dice.shuffled(&features, most) {
        let mut other = boot.clone();
        let Some(word) = other.features.get_mut(usize::from(feature / 32)) else { continue };
        *word ^= 1 << (feature % 32);
        let then = text(&other);
        let rows: Vec<_> =
            table.rows.iter().filter(|row| row.feature == feature && scene.inside(row.address)).collect();
        let differs = |row: &&&pvops::sites::Alternative| {
            let at = (row.address - scene.text) as usize..(row.address - scene.text) as usize + usize::from(row.len);
            now[at.clone()] != then[at.clone()] && now[at.clone()] == scene.memory[at]
        };
        let rows: Vec<_> = rows.iter().filter(differs).collect();
        if !rows.is_empty() {
            let row = **scene.dice.pick(&rows);
            let mut speaks_of: Vec<u16> =
                table.rows.iter().filter(|other| other.address == row.address).map(|other| other.feature).collect();
            speaks_of.dedup();
            speaks_of.retain(|&feature| scene.votes(Unknown::Feature(feature)) >= 3);
            let minority = |feature: &u16| {
                2 * (changed.get(feature).copied().unwrap_or(0) + 1) < scene.votes(Unknown::Feature(*feature))
            };
            if !speaks_of.iter().all(minority) {
                continue;
            }
            speaks_of.into_iter().for_each(|feature| *changed.entry(feature).or_default() += 1);
            let at = (row.address - scene.text) as usize;
            changes.insert(row.address, then[at..at + usize::from(row.len)].to_vec());
        }
    }
    changes.into_iter().collect()
}

/// Static calls, constants and jump labels: to what looks right, and is not.
fn undetermined(scene: &mut Scene<'_>, most: usize) -> Vec<Change> {
    let mut changes: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut seen = HashSet::new();
    let calls = scene.tables.static_calls.clone();
    for site in scene.dice.shuffled(&calls, calls.len()) {
        if changes.len() >= most || !scene.inside(site.address) || !seen.insert(site.key) {
            continue;
        }
        let here = scene.at(site.address, 5).to_vec();
        let opcode = if site.tail { insn::JMP } else { insn::CALL };
        if here[0] == 0x0f && site.tail {
            continue;
        }
        // Where few vote, to the middle of a function.
        let few = scene.votes(Unknown::Call(site.key)) < 4;
        let target = scene.other_function(0) + u64::from(few) * 3;
        let mut bytes = insn::call(site.address, target).to_vec();
        bytes[0] = opcode;
        changes.insert(site.address, bytes);
    }
    for (index, constant) in (0..).zip(&scene.tables.constants) {
        let rows: Vec<u64> = constant.table.rows().map(|(_, a)| a).filter(|&a| scene.inside(a)).collect();
        if scene.votes(Unknown::Constant(index)) >= 3 && !rows.is_empty() {
            let address = *scene.dice.pick(&rows);
            let mut bytes = scene.at(address, constant.width.into()).to_vec();
            bytes[0] ^= 0x40;
            changes.insert(address, bytes);
        }
    }
    let labels = scene.tables.jump_labels.clone();
    for label in scene.dice.shuffled(&labels, most) {
        if scene.inside(label.address) {
            let mut bytes = scene.at(label.address, label.len.into()).to_vec();
            // Another nop, a jump elsewhere.
            *bytes.last_mut().expect("2 or 5") ^= 1;
            changes.insert(label.address, bytes);
        }
    }
    changes.into_iter().collect()
}

/// A kind of change: given a scene and how many at most, what to change.
type Kind = fn(&mut Scene<'_>, usize) -> Vec<Change>;

const KINDS: [(&str, Kind); 8] = [
    ("bit flips", bit_flips),
    ("hooked functions", hooks),
    ("calls of ops", retargeted_ops),
    ("jump labels", flipped_keys),
    ("returns", redirected_returns),
    ("lock prefixes", lock_prefixes),
    ("alternatives", alternatives),
    ("undetermined forms", undetermined),
];

#[test]
fn every_injected_change_is_found_and_nothing_else() {
    let everything = std::env::var("PVOPS_MUTATIONS").is_ok_and(|value| value == "all");
    let rounds = if everything { 4 } else { 1 };
    let mut made: BTreeMap<&str, usize> = BTreeMap::new();
    let few = |boot: &Recorded| FEW.contains(&format!("{}~{}", boot.kernel, boot.mode).as_str());
    for (seed, recorded) in (1..).zip(all().into_iter().filter(|boot| everything || few(boot))) {
        let image = kernel(&recorded.kernel);
        let tables = Tables::read(&image).expect("real tables are valid");
        let memory = recorded.memory(&image);
        let verifier = recorded.verifier(&image, &tables);
        let symbols = image.symbols().expect("symbols").expect("some");
        let (text, end) = verifier.text();
        let mut functions: Vec<u64> = symbols.iter().map(|(a, ..)| a).filter(|a| (text..end).contains(a)).collect();
        functions.sort_unstable();
        functions.dedup();
        let name = format!("{}~{}", recorded.kernel, recorded.mode);
        let dice = Dice(0x9e37_79b9_7f4a_7c15 ^ seed);
        let votes = HashMap::new();
        let (image, tables, recorded) = (&image, &tables, &recorded);
        let mut scene = Scene { name, image, tables, recorded, verifier, memory, text, votes, functions, dice };
        let report = scene.report(&scene.memory.clone());
        assert!(report.unexplained.is_empty(), "{}: unexplained as it is", scene.name);
        scene.votes = report.votes.iter().map(|vote| (vote.about, (vote.value, vote.votes))).collect();
        for (kind, change) in KINDS {
            // The patcher's own idea of a machine is needed, which i386 boots do not record.
            if kind == "alternatives" && image.bits() == pvops::image::Bits::B32 {
                continue;
            }
            for _ in 0..rounds {
                let changes = change(&mut scene, 400);
                let n = scene.check(kind, &changes);
                *made.entry(kind).or_default() += n;
            }
        }
    }
    eprintln!("changes made and found: {made:?}");
}
