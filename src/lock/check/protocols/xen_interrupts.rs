//! `xen-byte-2.6.27` where an interrupt may come at any line: for runs of machine code, where one does.
//!
//! The handler takes its own lock with registers of its own, and goes back to where it came. A poll that an interrupt ends
//! looks at the lock again. A handler that comes while its thread looks for whom to kick may have somebody to kick too;
//! the thread then goes on with those whom it has not looked at.

use super::names::{Mutant, Setting};
use super::xen_byte::{Byte, NESTED, Parts, PerCpu, Registers, acquire, release};
use crate::error::Result;
use crate::lock::check::program::{At, Builder, Cond, Mark, Program, Promises, get, put};

/// Where the handler goes back to, and what leads to it from there.
const PLACES: [(&str, &str); 14] = [
    ("lock", "irq at lock"),
    ("tried", "irq at tried"),
    ("noted", "irq at noted"),
    ("counted", "irq at counted"),
    ("cleared", "irq at cleared"),
    ("ended", "irq at poll"),
    ("leaving", "irq at leaving"),
    ("left", "irq at left"),
    ("owned", "irq at owned"),
    ("released", "irq at released"),
    ("fenced", "irq at fenced"),
    ("kicked", "irq at kicked"),
    ("looks", "irq at looks"),
    ("finds", "irq at finds"),
];

/// From this place on the thread looks for whom to kick, and knows at whom it has looked.
const KICKING: u8 = 12;

/// A line behind which an interrupt may come; the place has this number.
fn place(p: &mut Builder, number: usize) {
    let (here, interrupted) = PLACES[number];
    p.maybe(interrupted);
    p.label(here);
}

pub(super) fn build(setting: &Setting) -> Result<Program> {
    let mut p = Builder::new(Promises::default());
    let (outer, cpu) = (Byte::new(&mut p, 1), PerCpu::new(&mut p));
    let r = Registers::new(&mut p, ["old", "count", "previous"]);
    let nested = Byte::new(&mut p, 2);
    let inner = Registers::new(&mut p, ["irq old", "irq count", "irq previous"]);
    lines(&mut p, setting, (&outer, &cpu, &r), (&nested, &cpu, &inner));
    p.build()
}

fn lines(p: &mut Builder, setting: &Setting, (byte, cpu, r): Parts<'_>, nested: Parts<'_>) {
    let is = |mutant: Mutant| setting.mutant == Some(mutant);
    let back = p.reg("back", 4);
    p.label("idle");
    place(p, 0);
    p.label("try");
    p.locked("old = xchg(lock, 1)", &[get(r.old, byte.lock), put(byte.lock, 1)]);
    p.go_if(Cond::Eq(r.old, 0.into()), "entered");
    place(p, 1);
    p.either("try");
    p.write("spinning on = this lock", At::Own(cpu.spinning), byte.number);
    place(p, 2);
    p.locked("spinners += 1", &[get(r.count, byte.spinners), put(byte.spinners, r.count + 1)]);
    place(p, 3);
    p.label("again");
    p.locked("pending = 0", &[put(At::Own(cpu.pending), 0)]);
    place(p, 4);
    p.locked("old = xchg(lock, 1)", &[get(r.old, byte.lock), put(byte.lock, 1)]);
    p.go_if(Cond::Eq(r.old, 0.into()), "out");
    p.label("asleep");
    p.maybe(PLACES[5].1);
    p.label("polls on");
    p.read("poll: pending?", &[get(r.count, At::Own(cpu.pending))]);
    p.set(r.old, 1);
    p.go_if(Cond::Eq(r.count, 1.into()), "out");
    p.goto("asleep");
    p.label("ended");
    p.either("polls on");
    // The poll is over: kicked or not.
    p.read("poll: pending?", &[get(r.count, At::Own(cpu.pending))]);
    p.set(r.old, 1);
    p.go_if(Cond::Eq(r.count, 1.into()), "out");
    p.goto("again");
    p.label("out");
    place(p, 6);
    p.locked("spinners -= 1", &[get(r.count, byte.spinners), put(byte.spinners, r.count + u8::MAX)]);
    place(p, 7);
    p.write("spinning on = none", At::Own(cpu.spinning), 0);
    p.go_if(Cond::Ne(r.old, 0.into()), "idle");
    p.label("entered");
    p.mark(Mark::Enter);
    place(p, 8);
    if is(Mutant::KickBeforeRelease) {
        p.read("spinners?", &[get(r.count, byte.spinners)]);
    }
    p.write("lock = 0", byte.lock, 0);
    p.mark(Mark::Leave);
    place(p, 9);
    if !is(Mutant::MissingFence) {
        p.fence();
    }
    place(p, 10);
    if !is(Mutant::KickBeforeRelease) {
        p.read("spinners?", &[get(r.count, byte.spinners)]);
    }
    p.go_if(Cond::Eq(r.count, 0.into()), "unlocked");
    p.others();
    p.label("look");
    place(p, 12);
    p.pick("unlocked");
    p.read("does it spin on this lock?", &[get(r.old, At::Picked(cpu.spinning))]);
    p.go_if(Cond::Ne(r.old, byte.number.into()), "look");
    place(p, 13);
    p.direct("kick it", &[put(At::Picked(cpu.pending), 1)]);
    p.goto("look");
    p.label("unlocked");
    place(p, 11);
    p.mark(Mark::Done);
    p.goto("idle");
    for (number, (_, interrupted)) in (0_u8..).zip(PLACES) {
        p.label(interrupted);
        // A line of its own for each place: only at the first is a thread idle.
        p.read("timer interrupt", &[]);
        p.set(back, number);
        if number >= KICKING {
            p.keep_picks();
        }
        p.goto("irq");
    }
    p.label("irq");
    acquire(p, setting, nested, &NESTED, None);
    release(p, setting, nested, &NESTED);
    for (number, (here, _)) in (0_u8..).zip(PLACES) {
        let here = if number < KICKING { here } else { "back to kicking" };
        p.go_if(Cond::Eq(back, number.into()), here);
    }
    p.goto("idle");
    p.label("back to kicking");
    p.resume_picks();
    p.go_if(Cond::Eq(back, KICKING.into()), PLACES[12].0);
    p.goto(PLACES[13].0);
}
