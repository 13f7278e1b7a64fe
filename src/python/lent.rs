//! Bytes that a Python object lends, through the buffer protocol: read where they are.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use crate::error::Error;

/// The bytes of a Python object, which cannot free or move them as long as this is there.
pub(super) struct Lent(PyBuffer<u8>);

impl Lent {
    /// Those of a contiguous object of bytes: `bytes`, a `memoryview` of an `mmap` or of an array.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Lent> {
        let buffer = PyBuffer::get(object)?;
        if !buffer.is_c_contiguous() {
            return Err(Error::image("the bytes do not lie one behind the other").into());
        }
        Ok(Lent(buffer))
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        if self.0.item_count() == 0 {
            return &[];
        }
        // SAFETY: the buffer is contiguous (see `of`), its items are bytes (`PyBuffer<u8>` says so), and as long as it is
        // held the object keeps them in place. Who owns the object may still write to it, if it is no `bytes`: as with a
        // file that is mapped (`image::source`), nothing here trusts a byte because an earlier read of it was valid, so
        // that gives errors or wrong answers.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast(), self.0.item_count()) }
    }
}
