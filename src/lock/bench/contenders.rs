//! The locks that take part.

use super::super::pv_hybrid::PvHybridLock;
use super::super::pv_ticket::PvTicketLock;
use super::super::ticket::TicketLock2_6_25;
use super::contention::{self, Case, Contention};
use super::measured::Measured;
use super::uncontended::{self, Pair};

/// How to measure one of the locks.
#[derive(Clone, Copy)]
pub struct Contender {
    /// Its Rust path.
    pub name: &'static str,
    /// Measures its uncontended pair.
    pub pair: fn(pairs: u32) -> Pair,
    /// Measures it shared by threads.
    pub contend: fn(&Case) -> Result<Contention, String>,
}

const fn of<L: Measured>(name: &'static str) -> Contender {
    Contender { name, pair: uncontended::measure::<L>, contend: contention::measure::<L> }
}

const ALL: [Contender; 8] = [
    of::<PvTicketLock>("pvops::PvTicketLock"),
    of::<PvHybridLock>("pvops::PvHybridLock"),
    of::<TicketLock2_6_25>("pvops::lock::TicketLock2_6_25"),
    of::<std::sync::Mutex<()>>("std::sync::Mutex"),
    of::<parking_lot::Mutex<()>>("parking_lot::Mutex"),
    of::<parking_lot::FairMutex<()>>("parking_lot::FairMutex"),
    of::<spin::mutex::TicketMutex<()>>("spin::TicketMutex"),
    of::<usync::Mutex<()>>("usync::Mutex"),
];

/// The names of all, ours first.
pub const NAMES: [&str; ALL.len()] = {
    let mut names = [""; ALL.len()];
    let mut i = 0;
    while i < ALL.len() {
        names[i] = ALL[i].name;
        i += 1;
    }
    names
};

/// The lock of this name.
pub fn contender(name: &str) -> Option<Contender> {
    ALL.into_iter().find(|contender| contender.name == name)
}
