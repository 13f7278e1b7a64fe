//! Text → explanation: which bytes of a running kernel's `.text` its own tables account for, and which nothing does.
//!
//! ```text
//! image → map (every site, in clusters) ┐
//! memory → view ──────────────────────────┴ votes → state → the form of every cluster → verdict
//! ```
//!
//! | file | has |
//! |---|---|
//! | `site_map`, `visit`, `build`, `collect` | every site of an image, cut into stretches that are explained by themselves |
//! | `hashes`, `its`, `counting` | what some sites are read by: hashes of kCFI, places of ITS thunks, counted calls |
//! | `form/` | what a cluster's bytes are under a state; one file a pass |
//! | `infer/` | the state that most sites vote for; one file a kind of unknown, and the counting of votes |
//! | `judge` | memory compared with the text that the state allows |
//! | `owners/` | who else writes text: where, how many bytes |
//! | `nearest`, `suspects` | what other bytes are near to, and who of several may be wrong |
//! | `data/` | the kernel's own data, compared with its text |
//! | `loaded`, `modules`, `view` | memory as it stands, of the kernel and of its modules |
//! | `poked` | text that was being written, as it will be |
//!
//! The patcher goes from a machine to bytes; this goes from bytes to a machine, and back to bytes. The memory it judges
//! sets no expectation for a single site, only for all sites of one kind together: one bit for each feature must explain
//! every row keyed on it, one state of a static key all its jump labels, one target all sites of a static call, one content
//! of a slot all calls of the op, one thunk all returns. A site that disagrees with the majority is unexplained, however well-formed it is.

mod build;
mod collect;
mod copies;
mod counting;
mod data;
mod form;
mod hashes;
mod infer;
mod info;
mod its;
mod judge;
mod loaded;
mod modules;
mod nearest;
mod owners;
mod poked;
mod site_map;
mod state;
mod suspects;
mod view;
mod visit;

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::image::Image;

pub use copies::unslide;
pub use data::{Changed, Disagreement, Heard, Rodata, Slots, hear, rodata};
pub use infer::{Unknown, Vote};
pub use info::{Direct, FeatureNumbers, Inlined, KernelInfo, Ops, PossibleBackend};
pub use judge::{Explained, Report, Unexplained};
pub use loaded::{Text, code, text};
pub use modules::{Loaded, Module, Modules};
pub use owners::{Owned, Owner};
pub use state::{Branches, Known, State, Target};
pub use view::View;

/// An image, ready to judge memory by.
pub struct Verifier<'a> {
    map: site_map::SiteMap<'a>,
    /// Reports without a byte to find fault with, and what was known; the one that was last asked for comes last.
    clean: Mutex<Vec<(Known, Arc<Report>)>>,
}

/// So many states of machines are remembered, of which a fleet has few. A report takes some two megabytes.
const REMEMBERED: usize = 16;

impl<'a> Verifier<'a> {
    /// Where `.text` is: its first address, and the one behind its last.
    pub fn text(&self) -> (u64, u64) {
        self.map.text
    }

    /// Judges memory: infers the state, but for what is known, and holds every byte to it.
    pub fn verify(&self, view: &View<'_>, known: &Known) -> Report {
        self.judge(view, self.infer(view, known))
    }

    /// As [`Verifier::verify`], for many memories: those of machines in one state differ in nothing.
    ///
    /// Under one state there is one text that is clean in every byte. Memory that is such a text has the report of the one
    /// before that was: nothing is inferred again, as the same bytes say the same.
    pub fn verify_again(&self, view: &View<'_>, known: &Known) -> Arc<Report> {
        self.verify_on(view, known, usable_cpus())
    }

    /// As [`Verifier::verify_again`], on so many threads at most.
    pub fn verify_on(&self, view: &View<'_>, known: &Known, threads: usize) -> Arc<Report> {
        // Who panicked while holding it left it as it was.
        let lock = || self.clean.lock().unwrap_or_else(PoisonError::into_inner);
        let before: Vec<_> = lock().iter().rev().filter(|(of, _)| of == known).map(|(_, r)| Arc::clone(r)).collect();
        // Most of those that it is not are told by the first sites.
        if let Some(report) = before.into_iter().find(|report| judge::is_clean(&self.map, view, &report.state)) {
            let mut held = lock();
            if let Some(place) = held.iter().position(|(_, other)| Arc::ptr_eq(other, &report)) {
                held[place..].rotate_left(1);
            }
            return report;
        }
        let judge::Judged { report, clean } = self.judged(view, self.infer(view, known), threads);
        let report = Arc::new(report);
        if clean {
            let mut held = lock();
            if held.len() >= REMEMBERED {
                held.remove(0);
            }
            held.push((known.clone(), Arc::clone(&report)));
        }
        report
    }

    /// Judges modules by a state of this kernel. `kernel` is the image this was made of.
    pub fn modules(&self, kernel: &Image, state: &State, loaded: &[Loaded]) -> Result<Vec<Module>> {
        let judged = |module: &Loaded| {
            let report = module.judge(&self.map, kernel, state);
            report.map_err(|error| error.in_file(module.file()))
        };
        loaded.iter().map(judged).collect()
    }

    /// The state that most sites vote for.
    pub fn infer(&self, view: &View<'_>, known: &Known) -> Inferred {
        let mut inference = infer::Inference::new(&self.map, view, known);
        inference.run();
        Inferred { state: inference.state, votes: inference.votes, backends: inference.backends }
    }

    /// Holds every byte to a state.
    pub fn judge(&self, view: &View<'_>, inferred: Inferred) -> Report {
        self.judged(view, inferred, usable_cpus()).report
    }

    fn judged(&self, view: &View<'_>, inferred: Inferred, threads: usize) -> judge::Judged {
        judge::judge(&self.map, view, inferred.state, inferred.votes, inferred.backends, threads)
    }
}

/// How many threads may run at a time.
fn usable_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What the sites say.
#[derive(Debug, Clone)]
pub struct Inferred {
    /// What decides the text.
    pub state: State,
    /// How it was found.
    pub votes: Vec<Vote>,
    /// The backends that fit, where any is known: those that the text cannot tell apart.
    pub backends: Vec<String>,
}
