//! The lock protocols, as far as a simulation can tell them apart.

use super::refusal::wrong;
use crate::error::Result;

/// A lock protocol.
///
/// The three paravirtual ticket locks differ in where the flag "someone is blocked" lives (tail, head, a table beside
/// the lock) and in what memory an unlock touches. Neither costs time here: they behave identically, and only their
/// usual thresholds and the number of their tickets tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The plain ticket lock of 2.6.25 (314cdbefd1fd): first come, first served; spins for ever.
    Ticket2_6_25,
    /// Xen's byte lock, which replaced the whole lock from 2.6.27 on (74d4affde8fe): whoever finds it free has it;
    /// blocks past the threshold; unlock kicks the lowest-numbered blocked waiter.
    XenByte2_6_27,
    /// Ticket lock with the flag in the tail, 3.12 (545ac13892ab).
    PvTicket3_12,
    /// Ticket lock with the flag in the head, 4.0 (d6abfdb20223).
    PvTicket4_0,
    /// This project's first-come, first-served lock.
    PvTicket,
    /// This project's stealing lock with a ticket queue behind it, handed over directly once its head starves.
    PvHybrid,
}

/// What decides who is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// In the order of asking.
    Fifo,
    /// Whoever finds the lock free.
    Any,
    /// Whoever asks and finds it free, or else the head of the queue.
    Steal,
}

impl Protocol {
    /// All of them, oldest first.
    pub const ALL: [Protocol; 6] = [
        Protocol::Ticket2_6_25,
        Protocol::XenByte2_6_27,
        Protocol::PvTicket3_12,
        Protocol::PvTicket4_0,
        Protocol::PvTicket,
        Protocol::PvHybrid,
    ];

    /// The name it has everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Ticket2_6_25 => "ticket-2.6.25",
            Protocol::XenByte2_6_27 => "xen-byte-2.6.27",
            Protocol::PvTicket3_12 => "pv-ticket-3.12",
            Protocol::PvTicket4_0 => "pv-ticket-4.0",
            Protocol::PvTicket => "pv-ticket",
            Protocol::PvHybrid => "pv-hybrid",
        }
    }

    /// The protocol of that name.
    pub fn by_name(name: &str) -> Result<Protocol> {
        Protocol::ALL.into_iter().find(|p| p.name() == name).ok_or_else(|| {
            let names = Protocol::ALL.map(Protocol::name).join(", ");
            wrong("protocol", format!("{name:?} is none of {names}"))
        })
    }

    /// Whether a waiter ever blocks. Where not, thresholds mean nothing.
    pub fn blocks(self) -> bool {
        self != Protocol::Ticket2_6_25
    }

    /// How long a waiter spins before it blocks, in µs, where nothing else is asked for.
    ///
    /// The kernels count iterations, 2^10 and 2^15; at the 24.7 ns that a `pause` took where this was measured (AMD
    /// Zen), these are 25 and 800 µs.
    pub fn usual_threshold_us(self) -> Option<f64> {
        match self {
            Protocol::Ticket2_6_25 => None,
            Protocol::XenByte2_6_27 => Some(25.0),
            Protocol::PvTicket3_12 | Protocol::PvTicket4_0 => Some(800.0),
            Protocol::PvTicket | Protocol::PvHybrid => Some(10.0),
        }
    }

    pub(super) fn order(self) -> Order {
        match self {
            Protocol::XenByte2_6_27 => Order::Any,
            Protocol::PvHybrid => Order::Steal,
            _ => Order::Fifo,
        }
    }

    /// How many CPUs may use one lock with tickets of so many bits: one more, and a full queue looks like an empty one.
    /// The flag of 3.12 and 4.0 takes one bit. None where there are no tickets.
    pub fn ticket_limit(self, bits: u32) -> Option<u64> {
        let values = 1u64 << bits;
        match self {
            Protocol::XenByte2_6_27 => None,
            Protocol::PvTicket3_12 | Protocol::PvTicket4_0 => Some(values / 2 - 1),
            Protocol::Ticket2_6_25 | Protocol::PvTicket | Protocol::PvHybrid => Some(values - 1),
        }
    }
}
