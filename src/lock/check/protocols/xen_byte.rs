//! `xen-byte-2.6.27`: the byte lock that replaced the whole ticket lock on Xen (arch/x86/xen/spinlock.c), repaired.
//!
//! Who has spun long enough notes in a per-CPU variable which lock it spins on, counts itself among the lock's
//! spinners, tries once more, and polls its event channel. The unlocker stores zero and, if there are spinners, looks
//! through the CPUs and kicks. A pending event stays pending until it is cleared. The repairs, each of which a mutant
//! lacks: a full barrier between release and count (2496afbf1e50), the noted lock saved and restored by a nested interrupt
//! (168d2f464ab9), and every spinner kicked, not the first one found.
//!
//! Unlock looks into the lock after the release by design, and anyone may overtake: neither is promised.

use super::names::{Mutant, Scenario, Setting};
use crate::error::Result;
use crate::lock::check::program::{At, Builder, Cond, Mark, Program, Promises, Reg, Var, get, put};

/// One of two locks: that under test, and the one that interrupt handlers take.
pub(super) struct Byte {
    pub number: u8,
    pub lock: Var,
    pub spinners: Var,
}

impl Byte {
    pub fn new(p: &mut Builder, number: u8) -> Byte {
        let lock = p.lock_var(if number == 1 { "lock" } else { "irq lock" }, 1);
        Byte { number, lock, spinners: p.lock_var(if number == 1 { "spinners" } else { "irq spinners" }, 3) }
    }
}

pub(super) struct Registers {
    pub old: Reg,
    pub count: Reg,
    pub previous: Reg,
}

impl Registers {
    pub fn new(p: &mut Builder, names: [&'static str; 3]) -> Registers {
        let [old, count, previous] = names;
        Registers { old: p.reg(old, 2), count: p.reg(count, 3), previous: p.reg(previous, 2) }
    }
}

pub(super) struct PerCpu {
    pub spinning: Var,
    pub pending: Var,
}

impl PerCpu {
    pub fn new(p: &mut Builder) -> PerCpu {
        PerCpu { spinning: p.own("spinning on", 2), pending: p.own("pending", 1) }
    }
}

/// The labels of one copy of the code.
pub(super) struct Labels {
    lock: &'static str,
    poll: &'static str,
    clear: &'static str,
    out: &'static str,
    entered: &'static str,
    kick: &'static str,
    unlocked: &'static str,
}

const OUTER: Labels = Labels {
    lock: "lock",
    poll: "poll",
    clear: "clear",
    out: "out",
    entered: "entered",
    kick: "kick",
    unlocked: "unlocked",
};
pub(super) const NESTED: Labels = Labels {
    lock: "irq: lock",
    poll: "irq: poll",
    clear: "irq: clear",
    out: "irq: out",
    entered: "irq: entered",
    kick: "irq: kick",
    unlocked: "irq: unlocked",
};

pub(super) fn build(setting: &Setting) -> Result<Program> {
    let mut p = Builder::new(Promises::default());
    let outer = Byte::new(&mut p, 1);
    let cpu = PerCpu::new(&mut p);
    let r = Registers::new(&mut p, ["old", "count", "previous"]);
    match setting.scenario {
        Scenario::Interrupts => {
            let nested = Byte::new(&mut p, 2);
            // Where the handler returns to: 1 into the poll.
            let back = p.reg("back", 1);
            p.label("idle");
            p.set(back, 0);
            p.either("irq: lock");
            acquire(&mut p, setting, (&outer, &cpu, &r), &OUTER, Some(back));
            owned(&mut p, setting, (&outer, &cpu, &r));
            acquire(&mut p, setting, (&nested, &cpu, &r), &NESTED, None);
            release(&mut p, setting, (&nested, &cpu, &r), &NESTED);
            p.go_if(Cond::Eq(back, 1.into()), "poll");
            p.mark(Mark::Done);
            p.goto("idle");
        }
        Scenario::Schedule => {
            // A CPU that switches tasks spins with interrupts off and is `on_cpu` until it owns the lock; a handler
            // on a CPU that does not, waits for one that does (try_to_wake_up).
            let (on_cpu, switches) = (p.own("on_cpu", 1), p.reg("switches", 1));
            p.label("idle");
            p.set(switches, 0);
            p.either("switch");
            p.read("wants the lock", &[]);
            acquire(&mut p, setting, (&outer, &cpu, &r), &OUTER, Some(switches));
            p.go_if(Cond::Eq(switches, 0.into()), "owned");
            p.write("on_cpu = 0", At::Own(on_cpu), 0);
            p.label("owned");
            owned(&mut p, setting, (&outer, &cpu, &r));
            p.label("switch");
            p.locked("on_cpu = 1", &[put(At::Own(on_cpu), 1)]);
            p.set(switches, 1);
            p.goto("lock");
            p.label("irq: lock");
            p.others();
            p.pick("poll");
            p.label("irq: wait");
            p.read("irq: is another on_cpu?", &[get(r.old, At::Picked(on_cpu))]);
            p.go_if(Cond::Eq(r.old, 1.into()), "irq: wait");
            p.set(switches, 0);
            p.goto("poll");
        }
        Scenario::Plain | Scenario::Boot | Scenario::Timeouts | Scenario::InterruptsAnywhere => {
            p.label("idle");
            acquire(&mut p, setting, (&outer, &cpu, &r), &OUTER, None);
            owned(&mut p, setting, (&outer, &cpu, &r));
        }
    }
    p.build()
}

pub(super) type Parts<'a> = (&'a Byte, &'a PerCpu, &'a Registers);

/// xen_spin_lock and its slow path. With a register, an interrupt may come while it polls, where that is 0; it comes
/// to the handler with 1.
pub(super) fn acquire(
    p: &mut Builder,
    setting: &Setting,
    (byte, cpu, r): Parts<'_>,
    at: &Labels,
    interrupts: Option<Reg>,
) {
    let saves = setting.mutant != Some(Mutant::NestedInterruptSlot);
    p.label(at.lock);
    p.locked("old = xchg(lock, 1)", &[get(r.old, byte.lock), put(byte.lock, 1)]);
    p.go_if(Cond::Eq(r.old, 0.into()), at.entered);
    p.either(at.lock);
    // Only a handler finds another lock noted already.
    let nested = byte.number == 2;
    if nested {
        p.read("previous = spinning on", &[get(r.previous, At::Own(cpu.spinning))]);
    }
    p.write("spinning on = this lock", At::Own(cpu.spinning), byte.number);
    p.locked("spinners += 1", &[get(r.count, byte.spinners), put(byte.spinners, r.count + 1)]);
    p.label(at.clear);
    p.locked("pending = 0", &[put(At::Own(cpu.pending), 0)]);
    p.locked("old = xchg(lock, 1)", &[get(r.old, byte.lock), put(byte.lock, 1)]);
    if nested {
        p.go_if(Cond::Ne(r.old, 0.into()), at.poll);
        if saves {
            p.go_if(Cond::Eq(r.previous, 0.into()), at.out);
            // Let the lock that was interrupted look again, whoever's kick this was.
            p.locked("pending = 1", &[put(At::Own(cpu.pending), 1)]);
        }
        p.goto(at.out);
    } else {
        p.go_if(Cond::Eq(r.old, 0.into()), at.out);
    }
    p.label(at.poll);
    p.read("poll: pending?", &[get(r.count, At::Own(cpu.pending))]);
    // Kicked: `old` is 1, and after leaving the slow path it tries again.
    p.set(r.old, 1);
    p.go_if(Cond::Eq(r.count, 1.into()), at.out);
    if let Some(flag) = interrupts {
        p.go_if(Cond::Eq(flag, 1.into()), at.poll);
        p.maybe("interrupted");
    }
    p.goto(at.poll);
    if let Some(flag) = interrupts {
        p.label("interrupted");
        p.set(flag, 1);
        p.goto("irq: lock");
    }
    p.label(at.out);
    p.locked("spinners -= 1", &[get(r.count, byte.spinners), put(byte.spinners, r.count + u8::MAX)]);
    if nested && saves {
        p.write("spinning on = previous", At::Own(cpu.spinning), r.previous);
    } else {
        p.write("spinning on = none", At::Own(cpu.spinning), 0);
    }
    p.go_if(Cond::Ne(r.old, 0.into()), at.lock);
    p.label(at.entered);
}

/// The critical section of the lock under test, and back to the beginning.
fn owned(p: &mut Builder, setting: &Setting, parts: Parts<'_>) {
    p.mark(Mark::Enter);
    release(p, setting, parts, &OUTER);
    p.mark(Mark::Done);
    p.goto("idle");
}

/// xen_spin_unlock and its slow path.
pub(super) fn release(p: &mut Builder, setting: &Setting, (byte, cpu, r): Parts<'_>, at: &Labels) {
    let is = |mutant: Mutant| setting.mutant == Some(mutant);
    if is(Mutant::KickBeforeRelease) {
        p.read("spinners?", &[get(r.count, byte.spinners)]);
    }
    p.write("lock = 0", byte.lock, 0);
    if byte.number == 1 {
        p.mark(Mark::Leave);
    }
    if !is(Mutant::MissingFence) {
        p.fence();
    }
    if !is(Mutant::KickBeforeRelease) {
        p.read("spinners?", &[get(r.count, byte.spinners)]);
    }
    p.go_if(Cond::Eq(r.count, 0.into()), at.unlocked);
    p.others();
    p.label(at.kick);
    p.pick(at.unlocked);
    p.read("does it spin on this lock?", &[get(r.old, At::Picked(cpu.spinning))]);
    p.go_if(Cond::Ne(r.old, byte.number.into()), at.kick);
    p.direct("kick it", &[put(At::Picked(cpu.pending), 1)]);
    if !is(Mutant::KickOneWaiter) {
        p.goto(at.kick);
    }
    p.label(at.unlocked);
}
