//! Memory for code that was made here: written first, executed afterwards, never both.
//!
//! The code lies in a file in memory (`memfd_create`). While it is written, one mapping of the file can be written and the
//! addresses it will run at are only reserved. [`Draft::finish`] takes the writable mapping away, seals the file against
//! any further write, and only then maps it for execution. No page is ever both, and nobody can make it so again.
//!
//! What is executed is what [`crate::measure`] encoded; no byte of an image ever comes here. Where a policy
//! forbids one of the steps, that is an error which says which. The module is there on Linux on x86-64 only.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::{self, NonNull};

use crate::error::{Error, Result};

/// Most that is mapped at once. A region is a few megabytes.
pub const MAX_CODE: usize = 1 << 28;

const PAGE: usize = 4096;

/// A length in whole pages.
fn whole_pages(len: usize) -> Result<usize> {
    match len {
        1..=MAX_CODE => Ok(len.next_multiple_of(PAGE)),
        _ => Err(Error::execution(format!("{len} bytes of code; there can be 1 to {MAX_CODE}"))),
    }
}

/// `arch_prctl(ARCH_SHSTK_STATUS)` and its answer's bit (arch/x86/include/uapi/asm/prctl.h).
const ARCH_SHSTK_STATUS: libc::c_ulong = 0x5005;
const ARCH_SHSTK_SHSTK: u64 = 1;

fn refused(step: &str) -> Error {
    let why = io::Error::last_os_error();
    Error::execution(format!("this machine does not let code made here run: {step}: {why}"))
}

/// One mapping, unmapped when it goes.
struct Mapping {
    at: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(file: Option<&File>, len: usize, protection: i32) -> io::Result<Mapping> {
        let (flags, fd) = match file {
            Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1),
        };
        // SAFETY: without MAP_FIXED a new mapping replaces nothing that this process has.
        let at = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, 0) };
        match NonNull::new(at.cast::<u8>()) {
            Some(at) if at.as_ptr().cast::<libc::c_void>() != libc::MAP_FAILED => Ok(Mapping { at, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is one that mmap() gave to this value alone, and whoever borrows from it is gone.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}

// SAFETY: a mapping belongs to the process, not to a thread, and has one owner.
unsafe impl Send for Mapping {}

/// Code being written. It cannot run.
pub struct Draft {
    file: File,
    writable: Mapping,
    reserved: Mapping,
}

impl Draft {
    /// Room for `len` bytes, all zero.
    pub fn new(len: usize) -> Result<Draft> {
        let len = whole_pages(len)?;
        if shadow_stack() {
            return Err(Error::execution(
                "this process has a shadow stack, and a retpoline returns to where no call came from",
            ));
        }
        let file = memory_file()?;
        file.set_len(len as u64).map_err(|e| Error::execution(format!("{len} bytes of memory: {e}")))?;
        let writable = Mapping::new(Some(&file), len, libc::PROT_READ | libc::PROT_WRITE)
            .map_err(|e| Error::execution(format!("{len} bytes of memory: {e}")))?;
        let reserved = Mapping::new(None, len, libc::PROT_NONE)
            .map_err(|e| Error::execution(format!("{len} bytes of addresses: {e}")))?;
        Ok(Draft { file, writable, reserved })
    }

    /// The address the first byte will have when it runs.
    pub fn address(&self) -> u64 {
        self.reserved.at.as_ptr() as u64
    }

    /// The bytes, to be written.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is as long as the file, which nobody else has open; `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(self.writable.at.as_ptr(), self.writable.len) }
    }

    /// Ends the writing: what was written can run from now on, and never be written again.
    pub fn finish(self) -> Result<ExecutableCode> {
        let Draft { file, writable, reserved } = self;
        drop(writable);
        let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: only sets seals on a file that this process made.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
            return Err(refused("sealing it against writes"));
        }
        let (protection, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_SHARED | libc::MAP_FIXED);
        let at = reserved.at.as_ptr().cast();
        // SAFETY: what MAP_FIXED replaces is `reserved`, exactly: this value's own, and nothing points into it.
        if unsafe { libc::mmap(at, reserved.len, protection, flags, file.as_raw_fd(), 0) } != at {
            return Err(refused("mapping it for execution"));
        }
        Ok(ExecutableCode { mapping: reserved })
    }
}

/// Code that can run, and that nothing can write to.
pub struct ExecutableCode {
    mapping: Mapping,
}

impl ExecutableCode {
    /// The address of the first byte.
    pub fn address(&self) -> u64 {
        self.mapping.at.as_ptr() as u64
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping can be read, lives as long as `self`, and its file is sealed: it never changes.
        unsafe { std::slice::from_raw_parts(self.mapping.at.as_ptr(), self.mapping.len) }
    }

    /// Calls the function at this offset with two arguments, in the C calling convention of x86-64.
    ///
    /// # Safety
    ///
    /// What was written there must be a function of that convention that returns, that keeps the registers a callee
    /// keeps, and that writes to no memory but its stack and what its arguments let it write to.
    pub unsafe fn call(&self, offset: usize, first: u64, second: u64) -> Result<u64> {
        if offset >= self.mapping.len {
            return Err(Error::execution(format!("a function at offset {offset} of {}", self.mapping.len)));
        }
        // SAFETY: the address is within the executable mapping; that a function starts there is the caller's word.
        let function: extern "sysv64" fn(u64, u64) -> u64 =
            unsafe { std::mem::transmute(self.mapping.at.as_ptr().add(offset)) };
        Ok(function(first, second))
    }

    /// Takes the cache lines of these bytes out of all caches; what is outside the code is left alone.
    pub fn flush(&self, offset: usize, len: usize) {
        let end = offset.saturating_add(len).min(self.mapping.len);
        for at in (offset & !63..end).step_by(64) {
            // SAFETY: the address is within the mapping, which can be read, and clflush changes no memory; every
            // x86-64 CPU has it.
            unsafe { std::arch::x86_64::_mm_clflush(self.mapping.at.as_ptr().add(at)) };
        }
        // SAFETY: a fence; part of SSE2, which every x86-64 CPU has.
        unsafe { std::arch::x86_64::_mm_mfence() };
    }
}

/// A file in memory that can be sealed.
fn memory_file() -> Result<File> {
    // Where `vm.memfd_noexec` is 2, only files that say they are no programs can be made. Mapping one for execution is
    // another matter. Kernels before 6.3 do not know the flag.
    for flags in [libc::MFD_NOEXEC_SEAL, libc::MFD_ALLOW_SEALING] {
        // SAFETY: the name is a C string; the call returns a new descriptor or -1.
        let fd = unsafe { libc::memfd_create(c"pvops".as_ptr(), libc::MFD_CLOEXEC | flags) };
        if fd >= 0 {
            // SAFETY: the descriptor is new, and nobody else's.
            return Ok(unsafe { File::from_raw_fd(fd) });
        }
        if io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL) {
            break;
        }
    }
    Err(refused("a file in memory (memfd_create)"))
}

fn shadow_stack() -> bool {
    let mut features = 0u64;
    // SAFETY: writes one u64 to where it is told; a kernel that does not know the request writes nothing.
    let known = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SHSTK_STATUS, &raw mut features) } == 0;
    known && features & ARCH_SHSTK_SHSTK != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `lea (%rdi,%rsi),%rax; ret`.
    const ADD: [u8; 5] = [0x48, 0x8d, 0x04, 0x37, 0xc3];

    /// (protection, inode) of each mapping that `wanted` says of its range, protection and inode.
    fn mappings(wanted: impl Fn(std::ops::Range<u64>, &str) -> bool) -> Vec<(String, String)> {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has it");
        let address = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
        let found = |line: &str| {
            let [range, protection, _, _, inode] = line.split(' ').take(5).collect::<Vec<_>>()[..] else { return None };
            let (low, high) = range.split_once('-').expect("a range");
            wanted(address(low)..address(high), inode).then(|| (protection.to_owned(), inode.to_owned()))
        };
        maps.lines().filter_map(found).collect()
    }

    fn protection(of: u64) -> String {
        mappings(|range, _| range.contains(&of)).remove(0).0
    }

    #[test]
    fn what_was_written_runs() {
        let mut draft = Draft::new(5000).expect("memory");
        draft.bytes()[4100..4105].copy_from_slice(&ADD);
        let address = draft.address();
        let code = draft.finish().expect("executable");
        assert_eq!(code.address(), address);
        // SAFETY: the function adds its arguments and returns.
        assert_eq!(unsafe { code.call(4100, 40, 2) }.expect("inside"), 42);
        code.flush(4090, 1 << 20);
        // SAFETY: nothing is called outside the code.
        assert!(unsafe { code.call(8192, 0, 0) }.is_err());
    }

    #[test]
    fn no_page_is_ever_both_written_and_executed() {
        let mut draft = Draft::new(PAGE).expect("memory");
        let writable = draft.bytes().as_ptr() as u64;
        assert_eq!(protection(writable), "rw-s");
        assert_eq!(protection(draft.address()), "---p");
        let code = draft.finish().expect("executable");
        let (_, file) = mappings(|range, _| range.contains(&code.address())).remove(0);
        let all: Vec<_> = mappings(|_, inode| inode == file).into_iter().map(|(protection, _)| protection).collect();
        assert_eq!(all, ["r-xs"], "the file is mapped once, to run");
        // SAFETY: the call only asks; the file is sealed, so the answer is no.
        let writable_again = unsafe { libc::mprotect(code.mapping.at.as_ptr().cast(), PAGE, libc::PROT_WRITE) };
        assert_ne!(writable_again, 0);
    }

    #[test]
    fn no_code_and_too_much_code_are_errors() {
        assert!(Draft::new(0).is_err());
        assert!(Draft::new(MAX_CODE + 1).is_err());
    }
}
