//! What came of it.

use super::histogram::Histogram;
use super::record::Span;
use super::state::State;

/// How often things happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// A virtual CPU was put on a physical one.
    pub switches: u64,
    /// A virtual CPU lost its physical one against its will.
    pub preemptions: u64,
    /// … while it had a lock.
    pub preempted_holders: u64,
    /// … while it spun.
    pub preempted_waiters: u64,
    /// A waiter called the hypervisor to block.
    pub blocks: u64,
    /// An unlock called the hypervisor to kick.
    pub kicks: u64,
    /// Kicks for one who was awake already.
    pub late_kicks: u64,
    /// Times that the hybrid handed over to a head that starved.
    pub direct_hand_offs: u64,
    /// Times that a virtual CPU was taken out of the guest because it spun.
    pub pause_loop_exits: u64,
    /// Interrupts.
    pub interrupts: u64,
}

/// The first preemption of a lock holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preempted {
    /// When, in ps.
    pub at: u64,
    /// Which virtual CPU.
    pub vcpu: usize,
    /// From which physical CPU.
    pub pcpu: usize,
    /// How many waited for its lock then.
    pub waiters: usize,
}

/// The outcome of a simulation. Times are in ps.
#[derive(Debug, Clone)]
pub struct Report {
    /// Virtual CPUs.
    pub vcpus: usize,
    /// Physical CPUs.
    pub pcpus: usize,
    /// Time simulated.
    pub duration: u64,
    /// Time spent in each [`State`], over all virtual CPUs: together `vcpus × duration`.
    pub spent: [u64; State::COUNT],
    /// By virtual CPU, how many locks it took, held and gave back.
    pub acquisitions: Vec<u64>,
    /// Of each lock taken, how long it was waited for.
    pub waits: Histogram,
    /// The longest wait, with those that had not ended.
    pub longest_wait: u64,
    /// How many events were handled.
    pub events: u64,
    /// How often things happened.
    pub counters: Counters,
    /// The first preempted holder.
    pub preempted: Option<Preempted>,
    /// What was recorded.
    pub spans: Vec<Span>,
}

impl Report {
    /// Useful, spin, blocked, overhead and idle time, in ps.
    pub fn parts(&self) -> [u64; 5] {
        let [think, hold, rest @ ..] = self.spent;
        let [spin, blocked, overhead, idle] = rest;
        [think + hold, spin, blocked, overhead, idle]
    }

    /// The time simulated, in seconds.
    pub fn duration_seconds(&self) -> f64 {
        self.duration as f64 / 1e12
    }

    /// The same in seconds, such that their sum as floating-point numbers, in any order, *is* `vcpus × duration`.
    ///
    /// All are multiples of the last binary digit of that product, and no partial sum exceeds it, so no addition rounds.
    /// Each lies within a few such digits of its exact value; what rounding left over is given to the largest.
    pub fn parts_seconds(&self) -> [f64; 5] {
        let total = self.vcpus as f64 * self.duration_seconds();
        let exponent = ((total.to_bits() >> 52) & 0x7ff) as i32 - 1023 - 52;
        let unit = 2f64.powi(exponent);
        let digits = |ps: u64| -> u64 {
            let (ps, second) = (u128::from(ps), 1_000_000_000_000u128);
            let digits = match u32::try_from(-exponent) {
                Ok(up) => ((ps << up) + second / 2) / second,
                Err(_) => ps / (second << exponent.unsigned_abs()),
            };
            digits as u64
        };
        let mut parts = self.parts().map(digits);
        let whole = (total / unit) as u64;
        let sum: u64 = parts.iter().sum();
        if let Some(largest) = parts.iter_mut().max() {
            *largest = (*largest + whole).saturating_sub(sum);
        }
        parts.map(|part| part as f64 * unit)
    }

    /// The fewest acquisitions of a virtual CPU over the most: 1 where all had the same. None where nobody had any.
    pub fn fairness(&self) -> Option<f64> {
        let (least, most) = (self.acquisitions.iter().min()?, self.acquisitions.iter().max()?);
        (*most > 0).then(|| *least as f64 / *most as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_add_up_to_the_last_digit_in_any_order() {
        let mut x = 1u64;
        for round in 0..2000u64 {
            let mut next = || {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                x >> 20
            };
            let vcpus = 1 + (next() % 300) as usize;
            let duration = 1 + next() % 10u64.pow(1 + (round % 15) as u32);
            let total = vcpus as u64 * duration;
            let mut cuts: Vec<u64> = (0..5).map(|_| next() % (total + 1)).collect();
            cuts.sort_unstable();
            let spent =
                [cuts[0], cuts[1] - cuts[0], cuts[2] - cuts[1], cuts[3] - cuts[2], cuts[4] - cuts[3], total - cuts[4]];
            let report = Report {
                vcpus,
                pcpus: 1,
                duration,
                spent,
                acquisitions: vec![],
                waits: Histogram::default(),
                longest_wait: 0,
                events: 0,
                counters: Counters::default(),
                preempted: None,
                spans: vec![],
            };
            let parts = report.parts_seconds();
            let product = vcpus as f64 * report.duration_seconds();
            assert_eq!(parts.iter().sum::<f64>(), product);
            assert_eq!(parts.iter().rev().sum::<f64>(), product);
            for (seconds, ps) in parts.iter().zip(report.parts()) {
                assert!((seconds - ps as f64 / 1e12).abs() <= 4.0 * product * f64::EPSILON, "{seconds} {ps}");
            }
        }
    }
}
