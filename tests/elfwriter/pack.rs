//! Packs bytes as the kernel's build does (`scripts/Makefile.lib`), into the bzImage it would make of them.
#![allow(dead_code)]

use std::io::Write;

use pvops::image::Compression;

/// Compresses as the kernel's build would, without the size it appends.
pub fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Xz => xz(bytes, true),
        Compression::Lzma => {
            let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
            let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
            let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Lzo => lzop(bytes),
        Compression::Lz4 => lz4(bytes),
        // A stream, as through a pipe: its header does not give the size.
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

/// xz as `scripts/xz_wrap.sh` calls it, with or without the x86 filter.
pub fn xz(bytes: &[u8], bcj: bool) -> Vec<u8> {
    let mut options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
    options.dict_size(1 << 20);
    let mut filters = liblzma::stream::Filters::new();
    if bcj {
        filters.x86();
    }
    filters.lzma2(&options);
    let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The legacy frame of `lz4 -l`.
pub fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut out = 0x184c_2102u32.to_le_bytes().to_vec();
    for chunk in bytes.chunks(8 << 20) {
        let block = lz4_flex::block::compress(chunk);
        out.extend_from_slice(&(block.len() as u32).to_le_bytes());
        out.extend_from_slice(&block);
    }
    out
}

/// What `lzop` writes: version 1.040, LZO1X, Adler-32 of unpacked data, blocks of 256 KiB.
fn lzop(bytes: &[u8]) -> Vec<u8> {
    let mut out = b"\x89LZO\0\r\n\x1a\n".to_vec();
    out.extend_from_slice(&[0x10, 0x40, 0x20, 0x80, 0x09, 0x40, 1, 9]);
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&[0; 12]);
    out.push(0);
    out.extend_from_slice(&[0; 4]);
    for chunk in bytes.chunks(256 << 10) {
        let packed = lzokay::compress::compress(chunk).unwrap();
        let stored = packed.len() >= chunk.len();
        let data = if stored { chunk } else { &packed };
        out.extend_from_slice(&(chunk.len() as u32).to_be_bytes());
        out.extend_from_slice(&(data.len() as u32).to_be_bytes());
        out.extend_from_slice(&adler32(chunk).to_be_bytes());
        out.extend_from_slice(data);
    }
    out.extend_from_slice(&[0; 4]);
    out
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1u64, 0u64), |(a, b), &byte| {
        let a = (a + u64::from(byte)) % 65521;
        (a, (b + a) % 65521)
    });
    (b << 16 | a) as u32
}

/// A whole payload: compressed, with the unpacked size behind it where the kernel's build appends it.
pub fn payload(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = compress(compression, bytes);
    if compression != Compression::Gzip {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    }
    out
}

/// A bzImage of boot protocol 2.15 around a payload.
pub fn bzimage(payload: &[u8]) -> Vec<u8> {
    bzimage_with(payload, 0x20f, 0x40, payload.len() as u32)
}

/// A raw binary packed with gzip, as the bzImages before 2.6.26 have it, whose setup code names a release.
pub fn raw_bzimage(release: &str) -> Vec<u8> {
    let mut out = bzimage_with(&compress(Compression::Gzip, &[0xfa; 4096]), 0x204, 0, 0);
    out[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
    out[0x300..0x300 + release.len()].copy_from_slice(release.as_bytes());
    out
}

/// A bzImage whose payload really is at 0x40 of the protected-mode code, and whose header says this about it.
pub fn bzimage_with(payload: &[u8], version: u16, offset: u32, length: u32) -> Vec<u8> {
    const SECTORS: u8 = 3;
    let protected_mode = (usize::from(SECTORS) + 1) * 512;
    let mut out = vec![0; protected_mode + 0x40];
    out[..2].copy_from_slice(b"MZ");
    out[0x1f1] = SECTORS;
    out[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    out[0x202..0x206].copy_from_slice(b"HdrS");
    out[0x206..0x208].copy_from_slice(&version.to_le_bytes());
    if version >= 0x208 {
        out[0x248..0x24c].copy_from_slice(&offset.to_le_bytes());
        out[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
    }
    out.extend_from_slice(payload);
    // The rest of the decompressor follows in a real one.
    out.extend_from_slice(&[0xcc; 512]);
    out
}

/// Where [`unified`] has the kernel.
pub const UNIFIED_AT: usize = 0x600;

/// A unified kernel image, as `ukify` makes it of systemd's stub: a PE file with a section for its words and one for the kernel.
pub fn unified(kernel: &[u8]) -> Vec<u8> {
    const PE: usize = 0x80;
    const OPTIONAL: usize = 0xf0;
    let mut out = vec![0; UNIFIED_AT];
    out[..2].copy_from_slice(b"MZ");
    out[0x3c] = PE as u8;
    out[PE..PE + 4].copy_from_slice(b"PE\0\0");
    out[PE + 4..PE + 6].copy_from_slice(&0x8664u16.to_le_bytes());
    out[PE + 6] = 2;
    out[PE + 20] = OPTIONAL as u8;
    for (i, (name, size, at)) in [(".osrel", 11, 0x400), (".linux", kernel.len(), UNIFIED_AT)].into_iter().enumerate() {
        let header = PE + 24 + OPTIONAL + 40 * i;
        out[header..header + name.len()].copy_from_slice(name.as_bytes());
        for (field, number) in [(8, size), (16, size.next_multiple_of(0x200)), (20, at)] {
            out[header + field..header + field + 4].copy_from_slice(&(number as u32).to_le_bytes());
        }
    }
    out.extend_from_slice(kernel);
    out.resize(out.len().next_multiple_of(0x200), 0);
    out
}
