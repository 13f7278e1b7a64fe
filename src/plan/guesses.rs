//! Which writes of a run are guesses.

use super::guess::{Forms, Guess};
use super::passes::Pass;
use super::run::Run;
use super::{cfi, ftrace, jump_labels, static_calls};
use crate::error::Result;

/// Notes what this run could only guess, by address. No two of these may overlap: each would be judged by the other's forms.
pub(super) fn mark(run: &mut Run<'_>) -> Result<()> {
    let tables = run.tables;
    for (row, label) in (0..).zip(&tables.jump_labels) {
        if run.runs(label.address) && !jump_labels::state(run, label.key).certain {
            let (jump, nop) = jump_labels::forms(run, label);
            let len = usize::from(label.len);
            let forms = run.plan.either(&jump[..len], &nop[..len]);
            run.plan.guess(Guess { address: label.address, len: label.len, pass: Pass::JumpLabels, row, forms });
        }
    }
    let tail = Forms::StaticTail { short_ret: run.rules.static_calls.short_ret };
    for (row, site) in (0..).zip(&tables.static_calls) {
        if run.runs(site.address) && !static_calls::function(run, site.key).certain {
            let conditional = site.tail && run.memory.from(site.address).first() == Some(&0x0f);
            let (address, len, forms) = match (site.tail, conditional) {
                (_, true) => (site.address + 2, 4, Forms::StaticCondition),
                (true, _) => (site.address, 5, tail.clone()),
                (false, _) => (site.address, 5, Forms::StaticCall),
            };
            run.plan.guess(Guess { address, len, pass: Pass::StaticCalls, row, forms });
        }
    }
    for (row, trampoline) in (0..).zip(&tables.trampolines) {
        if !run.runs(trampoline.address) {
            continue;
        }
        let known = match trampoline.key {
            Some(key) => static_calls::function(run, key).certain,
            None => run.boot.static_calls.get(&trampoline.address).is_some_and(|known| known.certain),
        };
        if !known {
            let forms = tail.clone();
            run.plan.guess(Guess { address: trampoline.address, len: 5, pass: Pass::Trampolines, row, forms });
        }
    }
    for (index, constant) in (0..).zip(&tables.constants) {
        if !run.boot.constants.get(&constant.table.section).is_some_and(|known| known.certain) {
            for (row, address) in constant.table.rows() {
                if run.runs(address) {
                    let forms = Forms::Constant(index);
                    run.plan.guess(Guess { address, len: constant.width, pass: Pass::RuntimeConst, row, forms });
                }
            }
        }
    }
    cfi::guesses(run);
    ftrace::guesses(run);
    run.plan.sort_guesses()
}
