//! The names of protocols, bugs and scenarios, and which of them go together.

use Mutant::*;

use crate::error::{Error, Result};

/// Bits of a ticket: 8 of them, more than threads.
pub(super) const TICKET_BITS: u32 = 3;

/// The most slots: as many as tickets.
pub const MAX_SLOTS: usize = 1 << TICKET_BITS;

/// Declares an enum whose values have names.
macro_rules! named {
    ($(#[$about:meta])* $type:ident, $what:literal { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type { $($(#[$doc])* $variant,)* }

        impl $type {
            /// All of them, in order.
            pub const ALL: &'static [$type] = &[$($type::$variant,)*];

            /// The one of this name.
            pub fn named(name: &str) -> Result<$type> {
                let found = $type::ALL.iter().copied().find(|value| value.name() == name);
                found.ok_or_else(|| {
                    let names: Vec<&str> = $type::ALL.iter().map(|value| value.name()).collect();
                    Error::lock(format!("there is no {} {name}: there are {}", $what, names.join(", ")))
                })
            }

            /// Its name in documents and on the command line.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)* }
            }
        }
    };
}

named! {
    /// A lock protocol.
    Protocol, "protocol" {
        /// Tickets; who waits spins.
        Ticket2_6_25 = "ticket-2.6.25",
        /// Xen's byte lock, behind the whole-lock ops.
        XenByte2_6_27 = "xen-byte-2.6.27",
        /// Linux's paravirtual ticket lock, flag in the tail.
        PvTicket3_12 = "pv-ticket-3.12",
        /// The same, flag in the head.
        PvTicket4_0 = "pv-ticket-4.0",
        /// Ours: plain release, asymmetric fence.
        PvTicket = "pv-ticket",
        /// Ours where there is no membarrier: locked release.
        PvTicketSym = "pv-ticket-sym",
        /// Ours, stealing, with hand-over to who starves.
        PvHybrid = "pv-hybrid",
    }
}

named! {
    /// A bug, planted.
    Mutant, "mutant" {
        /// The unlocker looks for a waiter before it releases.
        KickBeforeRelease = "kick-before-release",
        /// Nothing orders the unlocker's look after its release (2496afbf1e50).
        MissingFence = "missing-fence",
        /// The flag is cleared by one who does not know whether others rely on it.
        WrongHandClears = "wrong-hand-clears",
        /// A waiter looks for the last time, and then says that it waits.
        PublishAfterLook = "publish-after-look",
        /// A waiter says that it waits, and sleeps without another look.
        NoLookAfterPublish = "no-look-after-publish",
        /// A waiter looks for the last time, and then says that slots have to be looked at.
        AnnounceAfterLook = "announce-after-look",
        /// The kicker wakes before it clears the flag.
        WakeBeforeClear = "wake-before-clear",
        /// A nested interrupt overwrites what the CPU noted that it spins on (168d2f464ab9).
        NestedInterruptSlot = "nested-interrupt-slot",
        /// The unlocker looks into the lock after it released it (3.12; d6abfdb20223).
        TouchAfterRelease = "touch-after-release",
        /// A kick wakes one of those who share a slot, whichever.
        OneSlotForAll = "one-slot-for-all",
        /// Only the first spinner found is kicked, and it may be busy in an interrupt.
        KickOneWaiter = "kick-one-waiter",
        /// A CPU sleeps before its kicks can reach it (1fb3a8b2cfb2).
        SlowpathBeforeOnline = "slowpath-before-online",
        /// Head and tail share a word, and the carry of one goes into the other (ia64).
        TicketWrap = "ticket-wrap",
        /// A try-lock compares less than it decided from (202fb4ef81e3).
        TrylockAba = "trylock-aba",
        /// More threads wait than there are tickets.
        MoreWaitersThanTickets = "more-waiters-than-tickets",
        /// The hybrid does not hand over to who starves.
        NoHandOver = "no-hand-over",
        /// A waiter says that it leaves, and leaves without another look: its turn may have come.
        LeaveWithoutLook = "leave-without-look",
        /// The unlocker does not pass over the ticket of a waiter that left.
        NobodySkips = "nobody-skips",
        /// A waiter that left takes its turn after all, and the unlocker passes over it too.
        LeaveAndEnter = "leave-and-enter",
    }
}

named! {
    /// What happens besides threads that acquire and release.
    Scenario, "scenario" {
        /// Nothing.
        Plain = "plain",
        /// Interrupt handlers take another lock, while idle or while polling.
        Interrupts = "interrupts",
        /// Interrupt handlers take another lock, at any line.
        InterruptsAnywhere = "interrupts-anywhere",
        /// An interrupt handler waits for another CPU that waits for the lock.
        Schedule = "schedule",
        /// CPUs come online: before, no kick reaches them.
        Boot = "boot",
        /// Waiters leave, their time being up: those behind must not wait for them.
        Timeouts = "timeouts",
    }
}

/// What a program is built for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Parking slots; a power of two.
    pub slots: usize,
    /// What is wrong with it.
    pub mutant: Option<Mutant>,
    /// What else happens.
    pub scenario: Scenario,
    /// 3.12 as merged, without the promise that its unlock breaks.
    pub lenient: bool,
}

impl Setting {
    /// Nothing wrong, and nothing else.
    pub fn sound(slots: usize) -> Setting {
        Setting { slots, mutant: None, scenario: Scenario::Plain, lenient: false }
    }
}

impl Protocol {
    /// The bugs that it can have.
    pub fn mutants(self) -> &'static [Mutant] {
        match self {
            Protocol::Ticket2_6_25 => &[TicketWrap, TrylockAba, MoreWaitersThanTickets],
            Protocol::XenByte2_6_27 => &[KickBeforeRelease, MissingFence, NestedInterruptSlot, KickOneWaiter],
            Protocol::PvTicket3_12 => {
                &[KickBeforeRelease, WrongHandClears, PublishAfterLook, NoLookAfterPublish, TouchAfterRelease]
            }
            Protocol::PvTicket4_0 => &[
                KickBeforeRelease,
                WrongHandClears,
                PublishAfterLook,
                NoLookAfterPublish,
                TouchAfterRelease,
                SlowpathBeforeOnline,
            ],
            Protocol::PvTicket => &[
                KickBeforeRelease,
                MissingFence,
                WrongHandClears,
                PublishAfterLook,
                NoLookAfterPublish,
                AnnounceAfterLook,
                WakeBeforeClear,
                TouchAfterRelease,
                OneSlotForAll,
                LeaveWithoutLook,
                NobodySkips,
                LeaveAndEnter,
            ],
            Protocol::PvTicketSym => &[
                KickBeforeRelease,
                MissingFence,
                WrongHandClears,
                PublishAfterLook,
                NoLookAfterPublish,
                WakeBeforeClear,
                TouchAfterRelease,
                OneSlotForAll,
                LeaveWithoutLook,
                NobodySkips,
                LeaveAndEnter,
            ],
            Protocol::PvHybrid => &[
                KickBeforeRelease,
                MissingFence,
                WrongHandClears,
                PublishAfterLook,
                NoLookAfterPublish,
                AnnounceAfterLook,
                WakeBeforeClear,
                TouchAfterRelease,
                OneSlotForAll,
                NoHandOver,
                LeaveWithoutLook,
                NobodySkips,
                LeaveAndEnter,
            ],
        }
    }

    /// Whether its waiters park on slots.
    pub fn has_slots(self) -> bool {
        matches!(self, Protocol::PvTicket | Protocol::PvTicketSym | Protocol::PvHybrid)
    }

    /// What it can be checked among, besides plain threads.
    pub fn scenarios(self) -> &'static [Scenario] {
        match self {
            Protocol::XenByte2_6_27 => {
                &[Scenario::Plain, Scenario::Interrupts, Scenario::InterruptsAnywhere, Scenario::Schedule]
            }
            Protocol::PvTicket3_12 | Protocol::PvTicket4_0 => &[Scenario::Plain, Scenario::Boot],
            Protocol::PvTicket | Protocol::PvTicketSym | Protocol::PvHybrid => &[Scenario::Plain, Scenario::Timeouts],
            _ => &[Scenario::Plain],
        }
    }
}

impl Mutant {
    /// Where it shows, if not among plain threads.
    pub fn scenario(self) -> Scenario {
        match self {
            NestedInterruptSlot => Scenario::Interrupts,
            KickOneWaiter => Scenario::Schedule,
            SlowpathBeforeOnline => Scenario::Boot,
            LeaveWithoutLook | NobodySkips | LeaveAndEnter => Scenario::Timeouts,
            _ => Scenario::Plain,
        }
    }
}
