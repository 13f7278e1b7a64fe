//! One boot: the run of all passes, in the order of the era.

use super::landmarks::Landmarks;
use super::loaded::LoadedCode;
use super::machine::Boot;
use super::rules::{Rules, Stage};
use super::run::Run;
use super::stretches::Stretches;
use super::writes::Plan;
use super::{
    alternatives, callthunks, cfi, ftrace, guesses, ibt, jump_labels, paravirt, retpolines, returns, runtime_const,
    smp_locks, static_calls, unlisted,
};
use crate::error::Result;
use crate::image::Image;
use crate::sites::Tables;

/// The plan of a boot of this image.
pub fn boot(image: &Image, tables: &Tables, boot: &Boot, rules: &Rules) -> Result<Plan> {
    boot_within(image, tables, &Landmarks::of(image)?, boot, rules, None)
}

/// What a boot writes to these stretches alone, where such are given: no row may reach out of them, or write elsewhere than
/// at its address. Guesses are not marked then.
pub(super) fn boot_within(
    image: &Image,
    tables: &Tables,
    landmarks: &Landmarks,
    boot: &Boot,
    rules: &Rules,
    within: Option<&Stretches>,
) -> Result<Plan> {
    let data = |address, len| image.read(address, len);
    let memory = match within {
        Some(stretches) => LoadedCode::part_of(image, stretches.ranges()),
        None => LoadedCode::of(image),
    };
    let run = Run { within, ..Run::new(memory, tables, landmarks, boot, rules, &data) };
    run.all().map(|(plan, _)| plan).map_err(|e| e.in_file(image.name()))
}

impl Run<'_> {
    /// Runs every pass in the era's order. Gives the plan, and the memory after it.
    pub fn all(mut self) -> Result<(Plan, LoadedCode)> {
        for stage in self.rules.order.iter() {
            match stage {
                Stage::Unlisted if self.within.is_none() => unlisted::apply(&mut self)?,
                Stage::Unlisted => {}
                Stage::JumpLabels => jump_labels::initialise(&mut self)?,
                Stage::StaticCalls => static_calls::initialise(&mut self)?,
                Stage::Ftrace => ftrace::apply(&mut self)?,
                Stage::Constants => runtime_const::apply(&mut self)?,
                Stage::Paravirt => paravirt::apply(&mut self)?,
                Stage::Cfi => cfi::apply(&mut self)?,
                Stage::Retpolines => retpolines::apply(&mut self)?,
                Stage::Returns => returns::apply(&mut self)?,
                Stage::Alternatives => alternatives::apply(&mut self)?,
                Stage::CallThunks => callthunks::apply(&mut self)?,
                Stage::Ibt => ibt::apply(&mut self)?,
                Stage::SmpLocks => smp_locks::apply(&mut self)?,
                Stage::StaticCallsAgain => static_calls::again(&mut self)?,
                Stage::Updates => {
                    static_calls::update(&mut self)?;
                    jump_labels::update(&mut self)?;
                }
            }
        }
        if self.within.is_none() {
            guesses::mark(&mut self)?;
        }
        Ok((self.plan, self.memory))
    }
}
