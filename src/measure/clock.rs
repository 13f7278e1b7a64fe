//! The clock: core cycles where the machine lets this process count them, else the time-stamp counter.
//!
//! `perf_event_open` gives a counter of core cycles in user mode that `rdpmc` reads without a system call. Virtual machines
//! and `kernel.perf_event_paranoid` often refuse. The time-stamp counter is always there; its ticks are not the core's
//! cycles, so that a chain of dependent additions, one cycle each, is timed beside everything else.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{Ordering, fence};

use super::assemble::Counter;

/// `struct perf_event_attr`, its first version (`PERF_ATTR_SIZE_VER0`, include/uapi/linux/perf_event.h).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    bp_address: u64,
}

/// `PERF_TYPE_HARDWARE`, `PERF_COUNT_HW_CPU_CYCLES`.
const HARDWARE: u32 = 0;
const CPU_CYCLES: u64 = 0;
/// `pinned`, `exclude_kernel`, `exclude_hv`.
const FLAGS: u64 = 1 << 2 | 1 << 5 | 1 << 6;

/// The head of `struct perf_event_mmap_page`.
#[repr(C)]
struct Page {
    version: u32,
    compat_version: u32,
    lock: u32,
    index: u32,
    offset: i64,
    time_enabled: u64,
    time_running: u64,
    capabilities: u64,
}

/// `cap_user_rdpmc`.
const USER_RDPMC: u64 = 1 << 2;
const PAGE: usize = 4096;

/// What is counted.
pub struct Clock {
    cycles: Option<(OwnedFd, *mut Page)>,
    /// What programs read.
    pub counter: Counter,
    /// Why it is not core cycles.
    pub why_not: Option<String>,
}

impl Clock {
    /// The best clock this thread may have. It must stay on its CPU.
    pub fn new() -> Clock {
        match cycles() {
            Ok((fd, page, number)) => Clock { cycles: Some((fd, page)), counter: Counter::Pmc(number), why_not: None },
            Err(why) => Clock { cycles: None, counter: Counter::Tsc, why_not: Some(why) },
        }
    }

    /// What documents say was counted.
    pub fn name(&self) -> &'static str {
        match self.counter {
            Counter::Pmc(_) => "core cycles (perf_event_open, rdpmc)",
            Counter::Tsc => "TSC ticks, scaled to core cycles by dependent additions",
        }
    }

    /// Whether the counter that programs read is still this thread's: with the answers before and after a program equal,
    /// its reading counts.
    pub fn state(&self) -> (u32, u32) {
        let Some((_, page)) = &self.cycles else { return (0, 0) };
        // SAFETY: the page is mapped as long as `self` lives; the kernel writes to it, hence the volatile reads.
        let state =
            unsafe { (ptr::read_volatile(&raw const (**page).lock), ptr::read_volatile(&raw const (**page).index)) };
        fence(Ordering::SeqCst);
        state
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        if let Some((_, page)) = &self.cycles {
            // SAFETY: mapped by `cycles()` for this value alone.
            unsafe { libc::munmap((*page).cast(), PAGE) };
        }
    }
}

fn cycles() -> Result<(OwnedFd, *mut Page, u32), String> {
    let failed = |what: &str| format!("{what}: {}", std::io::Error::last_os_error());
    let size = size_of::<Attributes>() as u32;
    let attributes = Attributes { kind: HARDWARE, size, config: CPU_CYCLES, flags: FLAGS, ..Attributes::default() };
    let any: libc::c_int = -1;
    // SAFETY: the attributes are as long as they say; the call returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, 0, any, any, 0) };
    if fd < 0 {
        return Err(failed("perf_event_open"));
    }
    // SAFETY: the descriptor is new, and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
    // SAFETY: a new mapping; the kernel gives at least one page to read.
    let page = unsafe { libc::mmap(ptr::null_mut(), PAGE, libc::PROT_READ, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
    if page == libc::MAP_FAILED {
        return Err(failed("the counter's page"));
    }
    let page: *mut Page = page.cast();
    // SAFETY: just mapped; see `Clock::state`.
    let (capabilities, index) =
        unsafe { (ptr::read_volatile(&raw const (*page).capabilities), ptr::read_volatile(&raw const (*page).index)) };
    // rdpmc counts from 0; the page from 1, so that 0 says "not now".
    match index.checked_sub(1).filter(|_| capabilities & USER_RDPMC != 0) {
        Some(number) => Ok((fd, page, number)),
        None => {
            // SAFETY: mapped above, and given to nobody.
            unsafe { libc::munmap(page.cast(), PAGE) };
            Err("rdpmc is not for user mode here".to_owned())
        }
    }
}

/// The time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction; it touches two registers.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Ticks of the time-stamp counter in a second, measured against the clock of the system.
pub fn tsc_frequency() -> f64 {
    let (began, ticks) = (std::time::Instant::now(), tsc());
    while began.elapsed().as_millis() < 20 {
        std::hint::spin_loop();
    }
    let (seconds, after) = (began.elapsed().as_secs_f64(), tsc());
    after.wrapping_sub(ticks) as f64 / seconds
}

/// Keeps this thread on one CPU while it lives.
pub struct Pinned {
    before: libc::cpu_set_t,
    /// The CPU.
    pub cpu: usize,
}

impl Pinned {
    /// Pins to the CPU given, or to the one this runs on.
    pub fn to(cpu: Option<usize>) -> std::io::Result<Pinned> {
        let size = size_of::<libc::cpu_set_t>();
        // SAFETY: a set of CPUs is bits; all zero is the empty set.
        let (mut before, mut only): (libc::cpu_set_t, libc::cpu_set_t) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        // SAFETY: no argument, no memory.
        let cpu = cpu.unwrap_or_else(|| usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0));
        if cpu >= libc::CPU_SETSIZE as usize {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: both sets are as long as said, and the CPU is within them.
        let done = unsafe {
            libc::CPU_SET(cpu, &mut only);
            libc::sched_getaffinity(0, size, &raw mut before) == 0
                && libc::sched_setaffinity(0, size, &raw const only) == 0
        };
        if done { Ok(Pinned { before, cpu }) } else { Err(std::io::Error::last_os_error()) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: puts back what sched_getaffinity() gave.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const self.before) };
    }
}
