//! The protocols, side by side, and the bugs that each is known to have had or to be near.

mod hybrid;
mod names;
mod pv_kernel;
mod pv_ticket;
mod slots;
mod ticket;
mod xen_byte;
mod xen_interrupts;

use super::program::Program;
use crate::error::{Error, Result};

pub use names::{MAX_SLOTS, Mutant, Protocol, Scenario, Setting};

impl Protocol {
    /// Its program.
    pub fn program(self, setting: &Setting) -> Result<Program> {
        if let Some(mutant) = setting.mutant.filter(|mutant| !self.mutants().contains(mutant)) {
            let known: Vec<&str> = self.mutants().iter().map(|mutant| mutant.name()).collect();
            let (mutant, name) = (mutant.name(), self.name());
            return Err(Error::lock(format!("{name} has no mutant {mutant}; it has {}", known.join(", "))));
        }
        if !self.scenarios().contains(&setting.scenario) {
            let (scenario, name) = (setting.scenario.name(), self.name());
            return Err(Error::lock(format!("{name} is not modelled in the scenario {scenario}")));
        }
        if !setting.slots.is_power_of_two() || setting.slots > MAX_SLOTS {
            return Err(Error::lock(format!(
                "{} parking slots cannot be checked: 1, 2, 4 or {MAX_SLOTS} can",
                setting.slots
            )));
        }
        match self {
            Protocol::Ticket2_6_25 => ticket::build(setting),
            Protocol::XenByte2_6_27 if setting.scenario == Scenario::InterruptsAnywhere => {
                xen_interrupts::build(setting)
            }
            Protocol::XenByte2_6_27 => xen_byte::build(setting),
            Protocol::PvTicket3_12 => pv_kernel::v3_12(setting),
            Protocol::PvTicket4_0 => pv_kernel::v4_0(setting),
            Protocol::PvTicket => pv_ticket::asymmetric(setting),
            Protocol::PvTicketSym => pv_ticket::symmetric(setting),
            Protocol::PvHybrid => hybrid::build(setting),
        }
    }
}
