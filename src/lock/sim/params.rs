//! What is simulated, and the checks that it makes sense.

use super::protocol::Protocol;
use super::random::Distribution;
use super::refusal::wrong;
use crate::error::Result;

/// Picoseconds in a microsecond, the unit of most parameters.
const PS_PER_US: f64 = 1e6;
const PS_PER_S: f64 = 1e12;
/// No time may be longer, in seconds. So no sum of times overflows.
const LONGEST_S: f64 = 10_000.0;
/// More virtual or physical CPUs than any hypervisor offers.
const MOST_CPUS: usize = 1 << 20;

/// How virtual CPUs come to physical ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheduler {
    /// One queue, first come, first served, a slice each.
    RoundRobin,
    /// Xen's credit scheduler, simplified: shares, and who is kicked while under its share goes first.
    Credit,
    /// The virtual CPUs of a virtual machine run together, the machines in turn.
    Gang,
}

impl Scheduler {
    /// All of them.
    pub const ALL: [Scheduler; 3] = [Scheduler::RoundRobin, Scheduler::Credit, Scheduler::Gang];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Scheduler::RoundRobin => "round-robin",
            Scheduler::Credit => "credit",
            Scheduler::Gang => "gang",
        }
    }

    /// The scheduler of that name.
    pub fn by_name(name: &str) -> Result<Scheduler> {
        Scheduler::ALL.into_iter().find(|s| s.name() == name).ok_or_else(|| {
            let names = Scheduler::ALL.map(Scheduler::name).join(", ");
            wrong("scheduler", format!("{name:?} is none of {names}"))
        })
    }
}

/// Interrupts: their handlers take a lock of their own, whatever the virtual CPU was doing.
#[derive(Debug, Clone, Copy)]
pub struct Interrupts {
    /// From the return of a handler to the next interrupt, in time that the virtual CPU runs the guest.
    pub interval: Distribution,
    /// How long the handler holds its lock.
    pub hold: Distribution,
}

/// One case. All times are in ps; the module says what each does.
#[derive(Debug, Clone)]
pub struct Params {
    /// The lock protocol.
    pub protocol: Protocol,
    /// How long a waiter spins before it blocks; None for ever. Means nothing where the protocol never blocks.
    pub threshold: Option<u64>,
    /// Virtual CPUs of all virtual machines together.
    pub vcpus: usize,
    /// Physical CPUs.
    pub pcpus: usize,
    /// Virtual machines; each has the same number of virtual CPUs, and locks of its own.
    pub vms: usize,
    /// Locks of a virtual machine, each as likely as the other.
    pub locks: usize,
    /// The scheduler.
    pub scheduler: Scheduler,
    /// Of all that is drawn.
    pub seed: u64,
    /// How long is simulated.
    pub duration: u64,
    /// From giving back a lock to asking for the next.
    pub think: Distribution,
    /// From having a lock to giving it back.
    pub hold: Distribution,
    /// Slice of the scheduler.
    pub slice: u64,
    /// Cost of putting a virtual CPU on a physical one.
    pub switch: u64,
    /// Cost of a kick, to the one who kicks.
    pub kick: u64,
    /// Cost of leaving the guest to block or to yield.
    pub exit: u64,
    /// Pause-loop exiting: how long a virtual CPU may spin at a stretch before it exits and yields.
    pub ple: Option<u64>,
    /// From which wait on the hybrid's head of queue starves.
    pub patience: u64,
    /// Interrupts, if any.
    pub interrupts: Option<Interrupts>,
    /// Width of a ticket: 8, 16 or 32; None for the least that suffices.
    pub ticket_bits: Option<u32>,
}

/// A time in µs as ps. Errors name the parameter.
pub fn microseconds(parameter: &str, us: f64) -> Result<u64> {
    picoseconds(parameter, us, PS_PER_US, "µs")
}

/// A time in seconds as ps. Errors name the parameter.
pub fn seconds(parameter: &str, s: f64) -> Result<u64> {
    picoseconds(parameter, s, PS_PER_S, "s")
}

fn picoseconds(parameter: &str, value: f64, unit: f64, name: &str) -> Result<u64> {
    if value.is_nan() {
        return Err(wrong(parameter, "not a number"));
    }
    if value < 0.0 {
        return Err(wrong(parameter, format!("{value:?} {name} is negative")));
    }
    let most = LONGEST_S * PS_PER_S / unit;
    if value > most {
        return Err(wrong(parameter, format!("{value:e} {name} is more than {most:e} {name}")));
    }
    Ok((value * unit).round() as u64)
}

fn count(parameter: &str, value: usize, most: usize) -> Result<()> {
    match value {
        0 => Err(wrong(parameter, "0, where at least 1 is needed")),
        _ if value > most => Err(wrong(parameter, format!("{value} is more than {most}"))),
        _ => Ok(()),
    }
}

impl Params {
    /// Virtual CPUs of each virtual machine.
    pub fn vm_size(&self) -> usize {
        self.vcpus / self.vms.max(1)
    }

    /// The threshold where it means something.
    pub fn effective_threshold(&self) -> Option<u64> {
        self.threshold.filter(|_| self.protocol.blocks())
    }

    /// Whether this can be simulated.
    ///
    /// # Errors
    /// Each names its parameter.
    pub fn check(&self) -> Result<()> {
        count("vcpus", self.vcpus, MOST_CPUS)?;
        count("pcpus", self.pcpus, MOST_CPUS)?;
        count("vms", self.vms, self.vcpus)?;
        count("locks", self.locks, MOST_CPUS / self.vms)?;
        if !self.vcpus.is_multiple_of(self.vms) {
            let reason = format!("{} virtual CPUs cannot be shared out evenly among {}", self.vcpus, self.vms);
            return Err(wrong("vms", reason));
        }
        if self.duration == 0 {
            return Err(wrong("duration", "0, where some time is needed"));
        }
        if self.slice == 0 {
            return Err(wrong("slice_us", "0: nothing would ever run"));
        }
        if self.ple == Some(0) {
            return Err(wrong("ple_us", "0: no virtual CPU could ever spin"));
        }
        if self.think.mean() == 0 && self.hold.mean() == 0 {
            return Err(wrong("think", "0, and hold too: time would stand still"));
        }
        if self.interrupts.is_some_and(|i| i.interval.mean() == 0) {
            return Err(wrong("irq_interval", "0: nothing but interrupts would ever run"));
        }
        self.check_tickets()
    }

    fn check_tickets(&self) -> Result<()> {
        let waiters = self.vm_size() as u64;
        // The kernels chose between the first two when they were built; this project's locks have 32 bits.
        let widest = match self.protocol {
            Protocol::PvTicket | Protocol::PvHybrid => 32,
            _ => 16,
        };
        let bits = match self.ticket_bits {
            None => widest,
            Some(bits @ (8 | 16 | 32)) => bits,
            Some(bits) => return Err(wrong("ticket_bits", format!("{bits} is none of 8, 16, 32"))),
        };
        match self.protocol.ticket_limit(bits) {
            Some(limit) if waiters > limit => {
                let protocol = self.protocol.name();
                let reason =
                    format!("{waiters} CPUs may use a lock, and {protocol} with {bits}-bit tickets has {limit}");
                Err(wrong("vcpus", reason))
            }
            _ => Ok(()),
        }
    }
}
