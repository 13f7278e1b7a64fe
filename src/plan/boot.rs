//! One boot: the run of all passes, in the order of the era.

use std::sync::Arc;

use super::affected::closed;
use super::landmarks::Landmarks;
use super::loaded::{KernelCode, LoadedCode};
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
    run(image, tables, &Landmarks::of(image)?, boot, rules, None)
}

/// What that plan has at some places, (start, end), and around them; other rows are not run, if that is told without them.
/// A row elsewhere at which the kernel would stop is not told.
pub fn boot_at(image: &Image, tables: &Tables, boot: &Boot, rules: &Rules, places: Vec<(u64, u64)>) -> Result<Plan> {
    let landmarks = Landmarks::of(image)?;
    let within = closed(tables, &landmarks, boot, places).map(Arc::new);
    run(image, tables, &landmarks, boot, rules, within)
}

/// What a boot writes to these stretches alone, where such are given: no row may reach out of them.
pub(super) fn run(
    image: &Image,
    tables: &Tables,
    landmarks: &Landmarks,
    boot: &Boot,
    rules: &Rules,
    within: Option<Arc<Stretches>>,
) -> Result<Plan> {
    let data = |address, len| image.read(address, len);
    let memory = match &within {
        Some(stretches) => LoadedCode::part_of(image, stretches.ranges()),
        None => LoadedCode::of(image),
    };
    let elsewhere = within.as_ref().map(|_| KernelCode::lent(image, []));
    let run = Run { within: within.as_deref(), elsewhere, ..Run::new(memory, tables, landmarks, boot, rules, &data) };
    let (mut plan, _) = run.all().map_err(|e| e.in_file(image.name()))?;
    plan.within = within;
    Ok(plan)
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
        guesses::mark(&mut self)?;
        Ok((self.plan, self.memory))
    }
}
