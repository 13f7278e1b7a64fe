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
        // SAFETY: contiguous (`of`), of bytes (`PyBuffer<u8>`), and in place as long as it is held. Its owner may write to it
        // if it is no `bytes`: as with a mapped file (`image::source`), no byte is trusted because it was valid before, so
        // that gives errors or wrong answers.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast(), self.0.item_count()) }
    }
}
