//! Panics become errors: the way out for what nobody foresaw.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// How many pieces of guarded work are under way: their panics are errors, and print nothing.
static GUARDED: AtomicUsize = AtomicUsize::new(0);

/// Does work on input whose every shape nobody can foresee: a panic in it is one error like any other, and crosses no
/// boundary.
///
/// # Errors
/// The work's own, or what its panic said.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if GUARDED.load(Ordering::Relaxed) == 0 {
                loud(panic);
            }
        }));
    });
    GUARDED.fetch_add(1, Ordering::Relaxed);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.fetch_sub(1, Ordering::Relaxed);
    done.unwrap_or_else(|panic| Err(Error::internal(format!("a fault of pvops, please report it: {}", said(&*panic)))))
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_panic_is_an_error_and_errors_stay_what_they_are() {
        let index = std::hint::black_box(7);
        let error = guarded(|| Ok([1, 2, 3][index])).expect_err("a panic");
        assert_eq!(error.kind, ErrorKind::Internal);
        assert!(error.to_string().contains("the len is 3 but the index is 7"), "{error}");
        assert_eq!(guarded(|| Err::<(), _>(Error::table("x"))).expect_err("an error").kind, ErrorKind::Table);
        assert_eq!(guarded(|| Ok(1)).ok(), Some(1));
    }
}
