//! How a page is packed: `flags` of `struct page_desc` (makedumpfile's `diskdump_mod.h`).

use flate2::{Decompress, FlushDecompress, Status};

/// What packed a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    None,
    Zlib,
    Lzo,
    Snappy,
    Zstd,
}

impl Codec {
    /// By the flags of a page; `None` for a way of packing that nothing is known of.
    pub fn of(flags: u32) -> Option<Codec> {
        Some(match flags {
            0 => Codec::None,
            1 => Codec::Zlib,
            2 => Codec::Lzo,
            4 => Codec::Snappy,
            0x20 => Codec::Zstd,
            _ => return None,
        })
    }

    /// Unpacks a page; it must fill it exactly.
    pub fn unpack(self, packed: &[u8], page: &mut [u8]) -> Result<(), String> {
        let len = match self {
            Codec::None => {
                let fits = packed.len() == page.len();
                if fits {
                    page.copy_from_slice(packed);
                }
                packed.len()
            }
            Codec::Zlib => {
                let mut stream = Decompress::new(true);
                let status =
                    stream.decompress(packed, page, FlushDecompress::Finish).map_err(|e| format!("zlib: {e}"))?;
                if status != Status::StreamEnd {
                    return Err("zlib: it does not end".to_owned());
                }
                stream.total_out() as usize
            }
            Codec::Lzo => lzokay::decompress::decompress(packed, page).map_err(|error| format!("lzo: {error:?}"))?,
            Codec::Snappy => {
                let len = snap::raw::decompress_len(packed).map_err(|error| format!("snappy: {error}"))?;
                if len == page.len() {
                    snap::raw::Decoder::new().decompress(packed, page).map_err(|error| format!("snappy: {error}"))?;
                }
                len
            }
            Codec::Zstd => zstd::bulk::decompress_to_buffer(packed, page).map_err(|error| format!("zstd: {error}"))?,
        };
        if len == page.len() { Ok(()) } else { Err(format!("{len} bytes come out, not {}", page.len())) }
    }
}
