//! The verdict: memory held to the one text that the inferred state allows.

use std::ops::Range;

use super::form::PASSES;
use super::infer::Vote;
use super::others::{self, Owner};
use super::sheet::Sheet;
use super::state::{State, Target};
use super::view::View;
use crate::plan::Pass;

/// Memory is compared in pieces of this size, most of which are equal.
const CHUNK: usize = 4096;
/// Wrong bytes that are no farther apart than this are one run: what somebody writes may agree with what was there.
const JOINED: usize = 4;
/// So many runs are named; where there are more, it is not somebody's change that is looked at.
const NAMED: usize = 10_000;

/// Bytes that one pass accounts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explained {
    /// The pass that wrote them last.
    pub pass: Pass,
    /// How many differ from the image as built, as they should.
    pub bytes: u64,
}

/// A run of bytes that nothing accounts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexplained {
    /// Its first byte.
    pub address: u64,
    /// What should be there.
    pub expected: Vec<u8>,
    /// What is there.
    pub found: Vec<u8>,
    /// How many of the bytes differ.
    pub wrong: u32,
    /// The site it lies in, or the instruction: its address, and what should and does stand there.
    pub site: (u64, Vec<u8>, Vec<u8>),
    /// The pass that has the last word on the site, if it is one.
    pub pass: Option<Pass>,
    /// Who writes such things, as far as it looks.
    pub owner: Option<Owner>,
    /// What it is nearest to, in words.
    pub nearest: Option<String>,
}

/// What was found in memory.
#[derive(Debug, Clone)]
pub struct Report {
    /// The first address of `.text`, as linked.
    pub address: u64,
    /// How many bytes were judged.
    pub size: u64,
    /// Bytes that each pass accounts for.
    pub explained: Vec<Explained>,
    /// Runs that nothing accounts for, by address.
    pub unexplained: Vec<Unexplained>,
    /// What could not be read.
    pub unread: Vec<Range<u64>>,
    /// What decides the text.
    pub state: State,
    /// Keys of the static calls that were updated to nothing before a return thunk was chosen.
    pub early_calls: Vec<u64>,
    /// How it was found.
    pub votes: Vec<Vote>,
    /// The backend that fits the ops, where any is known.
    pub backend: String,
    /// Stretches that each pass changed: address, length, and the pass. For pictures.
    pub spans: Vec<(u64, u32, Pass)>,
}

pub(super) fn judge(sheet: &Sheet<'_>, view: &View<'_>, state: State, votes: Vec<Vote>, backend: String) -> Report {
    let (start, end) = sheet.text;
    let memory = view.all();
    let mut expected = sheet.code.from(start)[..memory.len()].to_vec();
    let mut counts = [0u64; PASSES.len()];
    let mut spans = Vec::new();
    let (mut form, mut owners) = (Vec::new(), Vec::new());
    for cluster in sheet.touching(start, end) {
        sheet.attributed(cluster, &state, &mut form, &mut owners);
        let Some(at) = cluster.start.checked_sub(start).map(|at| at as usize) else { continue };
        let Some(place) = expected.get_mut(at..at + form.len()) else { continue };
        if place == form {
            continue;
        }
        let mut last = None;
        for (i, ((built, is), owner)) in place.iter_mut().zip(&form).zip(&owners).enumerate() {
            if *built == *is {
                continue;
            }
            *built = *is;
            if memory[at + i] == *is
                && let Some(count) = counts.get_mut(usize::from(*owner))
            {
                *count += 1;
                last = PASSES.get(usize::from(*owner)).copied();
            }
        }
        if let Some(pass) = last {
            spans.push((cluster.start, cluster.len, pass));
        }
    }
    let explained = PASSES.iter().zip(counts).filter(|&(_, bytes)| bytes > 0);
    let unexplained = unexplained(sheet, view, &state, &expected);
    Report {
        address: start,
        size: memory.len() as u64,
        explained: explained.map(|(&pass, bytes)| Explained { pass, bytes }).collect(),
        unexplained,
        unread: view.unread().iter().map(|gap| gap.start.max(start)..gap.end.min(end)).collect(),
        early_calls: sheet
            .calls
            .iter()
            .zip(&state.calls)
            .filter(|(_, t)| **t == Target::Cleared)
            .map(|(c, _)| c.0)
            .collect(),
        state,
        votes,
        backend,
        spans,
    }
}

/// The runs of wrong bytes, as offsets into `.text`.
fn runs(
    view: &View<'_>,
    start: u64,
    expected: &[u8],
    mut joined: impl FnMut(usize, usize) -> bool,
) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let memory = view.all();
    for (chunk, (is, should)) in memory.chunks(CHUNK).zip(expected.chunks(CHUNK)).enumerate() {
        if is == should {
            continue;
        }
        for (i, _) in is.iter().zip(should).enumerate().filter(|(_, (is, should))| is != should) {
            let at = chunk * CHUNK + i;
            let address = start + at as u64;
            if !view.is_read(address, address + 1) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if at == run.end || joined(run.end - 1, at) => run.end = at + 1,
                _ => runs.push(at..at + 1),
            }
        }
    }
    runs
}

fn unexplained(sheet: &Sheet<'_>, view: &View<'_>, state: &State, expected: &[u8]) -> Vec<Unexplained> {
    let start = sheet.text.0;
    let memory = view.all();
    let cluster = |at: usize| {
        let address = start + at as u64;
        sheet.touching(address, address + 1).first()
    };
    let joined = |before: usize, at: usize| match (cluster(before), cluster(at)) {
        (Some(one), Some(other)) => one.start == other.start,
        (None, None) => at - before <= JOINED,
        _ => false,
    };
    let mut unexplained = Vec::new();
    for run in runs(view, start, expected, joined) {
        let (is, should) = (&memory[run.clone()], &expected[run.clone()]);
        let site = match cluster(run.start) {
            Some(site) => {
                let from = (site.start - start) as usize;
                from..(from + site.len as usize).max(run.end)
            }
            None => others::instruction(sheet, expected, &run),
        };
        let site = site.start..site.end.min(expected.len());
        let pass = cluster(run.start).and_then(|site| sheet.pieces(site).last()).map(|piece| piece.what.pass());
        let (owner, nearest) = if unexplained.len() < NAMED {
            others::recognise(sheet, state, cluster(run.start), start + site.start as u64, &memory[site.clone()])
        } else {
            (None, None)
        };
        unexplained.push(Unexplained {
            address: start + run.start as u64,
            expected: should.to_vec(),
            found: is.to_vec(),
            wrong: is.iter().zip(should).filter(|(is, should)| is != should).count() as u32,
            site: (start + site.start as u64, expected[site.clone()].to_vec(), memory[site].to_vec()),
            pass,
            owner,
            nearest,
        });
    }
    unexplained
}
