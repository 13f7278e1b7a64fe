//! The bugs. Each names the configurations in which loom must find it.

use lock_models::ops::Interruptible;
use lock_models::{AtomicU32, Mutant, with_mutant};

use super::*;

const CHILD: &str = "LOCK_MODEL_CHILD";

/// Runs a model with a bug planted, and asserts that loom stops it with this finding.
///
/// In a process of its own: loom cannot unwind out of a deadlock, it aborts.
#[track_caller]
fn stopped(what: &str, finding: &str, model: impl Fn() -> Result<usize, String>) {
    if let Ok(child) = std::env::var(CHILD) {
        if child == what {
            let found = model();
            eprintln!("survived: {found:?}");
            std::process::exit(i32::from(found.is_err()));
        }
        return;
    }
    let test = std::thread::current().name().unwrap().to_owned();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([&test, "--exact", "--nocapture", "--test-threads", "1"])
        .env(CHILD, what)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(!child.status.success(), "{what} was not caught: {said}");
    assert!(said.contains(finding), "{what} was stopped, but not by {finding:?}: {said}");
    eprintln!("{what}: caught by loom: {finding}");
}

#[track_caller]
fn caught<L: Modelled>(mutant: Mutant, config: Config, finding: &str) {
    let (_, name) = Mutant::ALL.into_iter().find(|(this, _)| *this == mutant).unwrap();
    stopped(&format!("{} in {}", name, L::PROTOCOL), finding, || with_mutant(Some(mutant), || check::<L>(config)));
}

const LOST_KICK: &str = "deadlock; threads";
const FREED: &str = "Causality violation";
const TWO_OWNERS: &str = "Causality violation";
const NOT_FREE: &str = "nobody holds it, and nobody can have it";
const TWO: Config = config(2, 1, 1, Some(3));
const THREE: Config = config(3, 1, 1, Some(2));

#[test]
fn kick_before_release() {
    caught::<PvTicketLock<Model>>(Mutant::KickBeforeRelease, TWO, LOST_KICK);
    caught::<PvHybridLock<Model>>(Mutant::KickBeforeRelease, TWO, LOST_KICK);
}

#[test]
fn missing_fence() {
    caught::<PvTicketLock<Model>>(Mutant::MissingFence, TWO, LOST_KICK);
    caught::<PvHybridLock<Model>>(Mutant::MissingFence, TWO, LOST_KICK);
}

#[test]
fn wrong_hand_clears() {
    caught::<PvTicketLock<Model>>(Mutant::WrongHandClears, config(3, 1, 1, Some(3)), LOST_KICK);
}

#[test]
fn publish_after_look() {
    caught::<PvTicketLock<Model>>(Mutant::PublishAfterLook, TWO, LOST_KICK);
    caught::<PvHybridLock<Model>>(Mutant::PublishAfterLook, TWO, LOST_KICK);
}

#[test]
fn no_look_after_publish() {
    caught::<PvTicketLock<Model>>(Mutant::NoLookAfterPublish, TWO, LOST_KICK);
    caught::<PvHybridLock<Model>>(Mutant::NoLookAfterPublish, TWO, LOST_KICK);
}

#[test]
fn announce_after_look() {
    caught::<PvTicketLock<Model>>(Mutant::AnnounceAfterLook, TWO, LOST_KICK);
    caught::<PvHybridLock<Model>>(Mutant::AnnounceAfterLook, TWO, LOST_KICK);
}

#[test]
fn wake_before_clear() {
    caught::<PvTicketLock<Model>>(Mutant::WakeBeforeClear, TWO, LOST_KICK);
}

#[test]
fn touch_after_release() {
    caught::<PvTicketLock<Model>>(Mutant::TouchAfterRelease, TWO, FREED);
    caught::<PvHybridLock<Model>>(Mutant::TouchAfterRelease, TWO, FREED);
    // The lock of 3.12 has it by nature; its repair of 4.0 is among the sound ones above.
    stopped("pv-ticket-3.12", FREED, || check::<PvTicketLock3_12<Model>>(TWO));
}

#[test]
fn one_slot_for_all() {
    caught::<PvTicketLock<Model>>(Mutant::OneSlotForAll, THREE, LOST_KICK);
}

#[track_caller]
fn caught_leaving<L: Modelled>(mutant: Mutant, config: Config, finding: &str) {
    let (_, name) = Mutant::ALL.into_iter().find(|(this, _)| *this == mutant).unwrap();
    let model = || with_mutant(Some(mutant), || check_leaving::<L>(config));
    stopped(&format!("{} in {}", name, L::PROTOCOL), finding, model);
}

#[test]
fn leave_without_look() {
    caught_leaving::<PvTicketLock<Model>>(Mutant::LeaveWithoutLook, THREE, LOST_KICK);
    caught_leaving::<PvHybridLock<Model>>(Mutant::LeaveWithoutLook, THREE, LOST_KICK);
}

#[test]
fn nobody_skips() {
    caught_leaving::<PvTicketLock<Model>>(Mutant::NobodySkips, THREE, LOST_KICK);
    caught_leaving::<PvHybridLock<Model>>(Mutant::NobodySkips, THREE, NOT_FREE);
}

#[test]
fn leave_and_enter() {
    caught_leaving::<PvTicketLock<Model>>(Mutant::LeaveAndEnter, THREE, TWO_OWNERS);
    // In the hybrid both take the lock by one compare-and-exchange, but for one that was handed over: loom does not
    // come to that within a bound, and the checker does.
}

/// A CPU spins on lock A; an interrupt takes lock B, which is held too; both are kicked.
fn nested() -> Result<usize, String> {
    explore(config(2, 1, 1, Some(3)), || {
        let cpu = Interruptible::new();
        let words = loom::sync::Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let (other, kicked) = (cpu.clone(), loom::sync::Arc::clone(&words));
        let kicker = loom::thread::spawn(move || {
            for word in [&kicked[1], &kicked[0]] {
                word.store(1, loom::sync::atomic::Ordering::Release);
                other.kick(word);
            }
        });
        let [a, b] = &*words;
        let spin = |word: &AtomicU32, interrupt: &dyn Fn()| {
            let mut first = true;
            while word.load(loom::sync::atomic::Ordering::Acquire) == 0 {
                cpu.spin_on(word, 0, || {
                    if std::mem::take(&mut first) {
                        interrupt()
                    }
                });
            }
        };
        spin(a, &|| spin(b, &|| ()));
        kicker.join().unwrap();
    })
}

#[test]
fn nested_interrupt_slot() {
    assert!(nested().is_ok_and(|executions| executions > 1));
    let planted = || with_mutant(Some(Mutant::NestedInterruptSlot), nested);
    stopped("nested-interrupt-slot in the notes of the virtual CPUs", LOST_KICK, planted);
}
