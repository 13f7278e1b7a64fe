//! What is checked when nothing in particular is asked for: every protocol, and every mutant where it is caught.

use super::protocols::{Mutant, Protocol, Scenario, Setting};
use super::state::Machine;
use crate::error::Result;

/// A protocol or mutant, on so many threads and slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The protocol.
    pub protocol: Protocol,
    /// What is wrong with it, and what else happens.
    pub setting: Setting,
    /// How many threads.
    pub threads: usize,
    /// How often each acquires; None: as often as it likes.
    pub acquisitions: Option<u8>,
}

impl Case {
    /// The machine that runs it.
    pub fn machine(&self) -> Result<Machine> {
        Machine::new(self.protocol.program(&self.setting)?, self.threads, self.acquisitions)
    }
}

/// Known bugs of locks that are no mutants here, and why.
pub const UNCATCHABLE: &[(&str, &str)] = &[
    (
        "unlock-wait-livelock",
        "spin_unlock_wait() misses every moment in which the lock is free (78bff1c8684f): each state has a way on, so it \
         is a matter of liveness, and this checker proves safety",
    ),
    (
        "virt-spin-lock-on-bare-metal",
        "a test-and-set lock taken natively (e639222a5119) keeps every promise but speed: it is a choice of lock, and \
         `pvops lock bench` is where it shows",
    ),
];

/// The standard cases, each of which finishes.
pub fn standard() -> Vec<Case> {
    let mut cases = Vec::new();
    for &protocol in Protocol::ALL {
        // Of interrupts, the standard job has those that the bug of 2.6.27 needs.
        for &scenario in protocol.scenarios().iter().filter(|&&scenario| scenario != Scenario::InterruptsAnywhere) {
            for (threads, slots) in sound_sizes(protocol, scenario) {
                let setting = Setting { scenario, ..Setting::sound(slots) };
                cases.push(Case { protocol, setting, threads, acquisitions: None });
            }
        }
        for &mutant in protocol.mutants() {
            let setting = Setting { mutant: Some(mutant), scenario: mutant.scenario(), ..Setting::sound(1) };
            let threads = caught_with(protocol, mutant);
            cases.push(Case { protocol, setting, threads, acquisitions: None });
        }
    }
    cases
}

/// (threads, slots) that finish within seconds. Fewer slots than threads: they have to be shared.
fn sound_sizes(protocol: Protocol, scenario: Scenario) -> Vec<(usize, usize)> {
    match (protocol, scenario) {
        // Three threads that acquire for ever have more states than fit here.
        (Protocol::PvHybrid, Scenario::Timeouts) => vec![(2, 1)],
        (_, Scenario::Timeouts) => vec![(2, 2), (3, 1), (3, 2)],
        (Protocol::Ticket2_6_25, _) => vec![(4, 1)],
        (Protocol::PvTicket | Protocol::PvTicketSym, _) => vec![(2, 2), (3, 1), (3, 2), (4, 2)],
        (Protocol::PvHybrid, _) => vec![(2, 1), (3, 1), (3, 2)],
        (Protocol::PvTicket3_12 | Protocol::PvTicket4_0, Scenario::Boot) => vec![(2, 1)],
        _ => vec![(3, 1)],
    }
}

/// The fewest threads that show the bug.
fn caught_with(protocol: Protocol, mutant: Mutant) -> usize {
    match (protocol, mutant) {
        // Two must wait: one whose flag is cleared while it sleeps, or that is woken instead of the other.
        (Protocol::PvTicket3_12, Mutant::WrongHandClears) | (_, Mutant::OneSlotForAll) => 3,
        // And one must leave from between two.
        (Protocol::PvTicket | Protocol::PvTicketSym, Mutant::NobodySkips) => 3,
        (_, Mutant::MoreWaitersThanTickets | Mutant::KickOneWaiter) => 3,
        _ => 2,
    }
}
