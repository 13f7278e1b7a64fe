//! One boot: the run of all passes, in the order of the era.

use super::landmarks::Landmarks;
use super::loaded::LoadedCode;
use super::machine::Boot;
use super::rules::{Rules, Stage};
use super::run::Run;
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
    let landmarks = Landmarks::of(image)?;
    let data = |address, len| image.read(address, len);
    let run = Run::new(LoadedCode::of(image), tables, &landmarks, boot, rules, &data);
    run.all().map(|(plan, _)| plan).map_err(|e| e.in_file(image.name()))
}

impl Run<'_> {
    /// Runs every pass in the era's order. Gives the plan, and the memory after it.
    pub fn all(mut self) -> Result<(Plan, LoadedCode)> {
        for stage in self.rules.order.iter() {
            match stage {
                Stage::Unlisted => unlisted::apply(&mut self)?,
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
        guesses::mark(&mut self)?;
        Ok((self.plan, self.memory))
    }
}
