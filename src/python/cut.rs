//! What a command says where a file is cut short while it is read.
//!
//! An image is mapped. The system ends whoever reads a page of a mapped file that is there no more, and no code of ours is
//! asked; a signal handler is all that runs.

use std::sync::OnceLock;

use pyo3::prelude::*;

/// What goes to standard error, and what to standard output.
static WORDS: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();

/// As `pvops.cli` has it for trouble.
const TROUBLE: libc::c_int = 2;

/// Has a process that reads a file which was cut short (SIGBUS) end with status 2 and these words.
#[pyfunction]
pub fn words_of_cut_files(line: Vec<u8>, document: Vec<u8>) {
    let _ = WORDS.set((line, document));
    // SAFETY: an action of zeros is one without flags and with an empty mask; the handler is a function of the right type.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = cut as *const () as libc::sighandler_t;
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

/// Asks for nothing but what signal-safety(7) lists.
extern "C" fn cut(_: libc::c_int) {
    if let Some((line, document)) = WORDS.get() {
        for (fd, bytes) in [(libc::STDERR_FILENO, line), (libc::STDOUT_FILENO, document)] {
            // SAFETY: the bytes are there for good. What cannot be written is not.
            unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        }
    }
    // SAFETY: ends the process.
    unsafe { libc::_exit(TROUBLE) };
}
