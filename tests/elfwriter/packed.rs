//! Writes dumps whose pages are packed: kdump's compressed format, flattened or split, and AVML's.

use std::io::Write;
use std::ops::Range;

const PAGE: usize = 4096;

/// How pages are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    Zlib,
    Lzo,
    Snappy,
    Zstd,
}

impl Packing {
    pub const ALL: [Packing; 5] = [Packing::None, Packing::Zlib, Packing::Lzo, Packing::Snappy, Packing::Zstd];

    fn pack(self, page: &[u8]) -> (u32, Vec<u8>) {
        let (flag, packed) = match self {
            Packing::None => (0, page.to_vec()),
            Packing::Zlib => {
                let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                writer.write_all(page).unwrap();
                (1, writer.finish().unwrap())
            }
            Packing::Lzo => (2, lzokay::compress::compress(page).unwrap()),
            Packing::Snappy => (4, snap::raw::Encoder::new().compress_vec(page).unwrap()),
            Packing::Zstd => (0x20, zstd::bulk::compress(page, 1).unwrap()),
        };
        // As makedumpfile and QEMU do: what gets no smaller stays as it is.
        if packed.len() < page.len() { (flag, packed) } else { (0, page.to_vec()) }
    }
}

/// Writes a kdump-compressed dump of memory that begins at physical address 0.
#[derive(Clone)]
pub struct KdumpWriter {
    memory: Vec<u8>,
    packing: Packing,
    wide: bool,
    version: u32,
    signature: &'static [u8; 8],
    vmcoreinfo: Vec<u8>,
    notes: Vec<u8>,
    left_out: Vec<usize>,
    never_written: Vec<usize>,
    one_bitmap: bool,
}

impl KdumpWriter {
    pub fn new(memory: &[u8], packing: Packing) -> KdumpWriter {
        KdumpWriter {
            memory: memory.to_vec(),
            packing,
            wide: true,
            version: 6,
            signature: b"KDUMP   ",
            vmcoreinfo: Vec::new(),
            notes: Vec::new(),
            left_out: Vec::new(),
            never_written: Vec::new(),
            one_bitmap: false,
        }
    }

    /// With the headers of a 32-bit kernel.
    pub fn narrow(self) -> KdumpWriter {
        KdumpWriter { wide: false, ..self }
    }

    pub fn version(self, version: u32) -> KdumpWriter {
        KdumpWriter { version, ..self }
    }

    /// diskdump's.
    pub fn diskdump(self) -> KdumpWriter {
        KdumpWriter { signature: b"DISKDUMP", version: 1, ..self }
    }

    /// With the bitmap of pages that were dumped and no other.
    pub fn one_bitmap(self) -> KdumpWriter {
        KdumpWriter { one_bitmap: true, ..self }
    }

    pub fn vmcoreinfo(self, text: &str) -> KdumpWriter {
        KdumpWriter { vmcoreinfo: text.as_bytes().to_vec(), ..self }
    }

    /// The bytes of a `PT_NOTE` segment.
    pub fn notes(self, notes: &[u8]) -> KdumpWriter {
        KdumpWriter { notes: notes.to_vec(), ..self }
    }

    /// Pages that a filter left out.
    pub fn left_out(self, pages: Range<usize>) -> KdumpWriter {
        KdumpWriter { left_out: pages.collect(), ..self }
    }

    /// Pages that were to be dumped when space ran out.
    pub fn never_written(self, pages: Range<usize>) -> KdumpWriter {
        KdumpWriter { never_written: pages.collect(), ..self }
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        self.file(None)
    }

    /// The file of some of the pages: what `makedumpfile --split` writes.
    pub fn part(&self, pages: Range<usize>) -> Vec<u8> {
        self.file(Some(pages))
    }

    fn file(&self, part: Option<Range<usize>>) -> Vec<u8> {
        let pages = self.memory.len().div_ceil(PAGE);
        let dumped = |page: &usize| !self.left_out.contains(page);
        let bitmap = |bits: &dyn Fn(&usize) -> bool| {
            let mut bytes = vec![0u8; pages.div_ceil(8).next_multiple_of(PAGE)];
            (0..pages).filter(|page| bits(page)).for_each(|page| bytes[page / 8] |= 1 << (page % 8));
            bytes
        };
        let mut bitmaps = if self.one_bitmap { Vec::new() } else { bitmap(&|_| true) };
        bitmaps.extend(bitmap(&dumped));
        let extra = (self.vmcoreinfo.len() + self.notes.len()).div_ceil(PAGE);
        let sub = if self.signature == b"DISKDUMP" { 1 } else { 1 + extra };
        let mut out = self.header(sub, bitmaps.len() / PAGE, pages);
        out.extend(self.sub_header(part.clone(), pages));
        out.extend(&self.vmcoreinfo);
        out.extend(&self.notes);
        out.resize((1 + sub) * PAGE, 0);
        out.extend(&bitmaps);

        let here: Vec<usize> =
            (0..pages).filter(dumped).filter(|page| part.as_ref().is_none_or(|part| part.contains(page))).collect();
        let mut data = Vec::new();
        let start = out.len() + 24 * here.len();
        let mut zeros = None;
        for page in here {
            let bytes = &self.memory[page * PAGE..][..PAGE];
            let (flags, packed) = self.packing.pack(bytes);
            let written = !self.never_written.contains(&page);
            // As makedumpfile and QEMU do: zeros are written once for all.
            let same = zeros.filter(|_| written && bytes.iter().all(|&byte| byte == 0));
            let end = (start + data.len()) as u64;
            let (offset, size) = if written { (same.unwrap_or(end), packed.len()) } else { (0, 0) };
            if written && bytes.iter().all(|&byte| byte == 0) {
                zeros = Some(offset);
            }
            out.extend(offset.to_le_bytes());
            out.extend((size as u32).to_le_bytes());
            out.extend(flags.to_le_bytes());
            out.extend([0; 8]);
            if written && same.is_none() {
                data.extend(packed);
            }
        }
        out.extend(data);
        out
    }

    /// `struct disk_dump_header`.
    fn header(&self, sub: usize, bitmaps: usize, pages: usize) -> Vec<u8> {
        let mut out = self.signature.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(b"Linux");
        out.resize(if self.wide { 424 } else { 412 }, 0);
        let incomplete = if self.never_written.is_empty() { 0 } else { 8u32 };
        for number in [incomplete, PAGE as u32, sub as u32, bitmaps as u32, pages as u32] {
            out.extend(number.to_le_bytes());
        }
        out.resize(PAGE, 0);
        out
    }

    /// `struct kdump_sub_header`, what of it the version has.
    fn sub_header(&self, part: Option<Range<usize>>, pages: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let long =
            |out: &mut Vec<u8>, number: usize| out.extend(&number.to_le_bytes()[..if self.wide { 8 } else { 4 }]);
        let pages_here = part.clone().unwrap_or(0..0);
        long(&mut out, 0);
        out.extend(1u32.to_le_bytes());
        out.extend(u32::from(part.is_some()).to_le_bytes());
        long(&mut out, pages_here.start);
        long(&mut out, pages_here.end);
        let mut end = if self.wide { 104 } else { 80 };
        for (since, text) in [(3, &self.vmcoreinfo), (4, &self.notes)] {
            let there = self.version >= since && !text.is_empty();
            out.extend((if there { PAGE + end } else { 0 } as u64).to_le_bytes());
            long(&mut out, if there { text.len() } else { 0 });
            end += text.len();
        }
        out.extend([0; 8]);
        long(&mut out, 0);
        for number in [pages_here.start, pages_here.end, pages] {
            out.extend((number as u64).to_le_bytes());
        }
        out
    }
}

/// A dump in makedumpfile's flattened format: pieces of this many bytes, the last first.
pub fn flattened(dump: &[u8], piece: usize) -> Vec<u8> {
    let mut out = b"makedumpfile\0\0\0\0".to_vec();
    out.extend([1u64.to_be_bytes(), 1u64.to_be_bytes()].concat());
    out.resize(PAGE, 0);
    for (i, bytes) in dump.chunks(piece).enumerate().collect::<Vec<_>>().into_iter().rev() {
        out.extend(((i * piece) as u64).to_be_bytes());
        out.extend((bytes.len() as u64).to_be_bytes());
        out.extend(bytes);
    }
    out.extend([0xff; 16]);
    out
}

/// Ranges of physical memory in AVML's compressed format.
pub fn avml(ranges: &[(u64, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (address, bytes) in ranges {
        out.extend(b"AVML\x02\0\0\0");
        out.extend(address.to_le_bytes());
        out.extend((address + bytes.len() as u64 - 1).to_le_bytes());
        out.extend([0; 8]);
        let start = out.len();
        let mut encoder = snap::write::FrameEncoder::new(&mut out);
        encoder.write_all(bytes).unwrap();
        encoder.flush().unwrap();
        drop(encoder);
        let length = (out.len() - start) as u64;
        out.extend(length.to_le_bytes());
    }
    out
}
