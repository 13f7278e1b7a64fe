//! gzip (RFC 1952).

use super::codec::{Compression, finish, read_all};
use crate::error::Result;
use crate::image::source::UnpackBuffer;

pub(super) fn unpack(input: &[u8], memory: &mut UnpackBuffer) -> Result<usize> {
    let mut decoder = flate2::bufread::GzDecoder::new(input);
    let result = read_all(&mut decoder, memory);
    finish(Compression::Gzip, input, decoder.into_inner(), result)
}
