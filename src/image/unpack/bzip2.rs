//! bzip2.

use super::codec::{Compression, finish, read_all};
use crate::error::Result;
use crate::image::source::UnpackBuffer;

pub(super) fn unpack(input: &[u8], memory: &mut UnpackBuffer) -> Result<usize> {
    let mut decoder = ::bzip2::bufread::BzDecoder::new(input);
    let result = read_all(&mut decoder, memory);
    finish(Compression::Bzip2, input, decoder.into_inner(), result)
}
