//! Children of `fork` that are told from those that hang.

use std::time::{Duration, Instant};

/// How often the kernel has taken the CPU from the threads of a process, or been given it; none while one of them could run.
fn switches_if_all_sleep(process: libc::pid_t) -> Option<u64> {
    let mut switches = 0;
    for task in std::fs::read_dir(format!("/proc/{process}/task")).ok()? {
        let status = std::fs::read_to_string(task.ok()?.path().join("status")).ok()?;
        let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        of("State:")?.starts_with('S').then_some(())?;
        for kind in ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"] {
            switches += of(kind)?.parse::<u64>().ok()?;
        }
    }
    Some(switches)
}

/// Runs `body` in a forked child: true if it returned true there. It hangs when all its threads have slept for ten seconds:
/// on a busy machine a child that goes on may take much longer than that.
pub fn in_child(body: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs `body` alone, which takes no lock of the process's other threads, and ends without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: the alarm kills a child that neither sleeps nor ends.
        unsafe { libc::alarm(900) };
        let right = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(false);
        // SAFETY: _exit runs no destructors of the parent's.
        unsafe { libc::_exit(i32::from(!right)) };
    }
    let (mut status, mut slept, mut asleep) = (0, None, Instant::now());
    // SAFETY: the status outlives the call.
    while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
        let now = switches_if_all_sleep(child);
        if now.is_none() || now != slept {
            (slept, asleep) = (now, Instant::now());
        } else if asleep.elapsed() > Duration::from_secs(10) {
            // SAFETY: the child has not been waited for, so the number is still its own.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}
