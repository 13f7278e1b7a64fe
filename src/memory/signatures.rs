//! The signatures of an image: bytes that nothing changes, at places spread over it, by which it is found in memory.

use crate::image::{Image, Section};
use crate::insn::{CALL, JMP};

/// How many bytes are compared at each place.
pub(super) const WIDTH: usize = 64;
/// How many different byte values a place must have: padding is in every kernel.
const VARIETY: usize = 16;
/// How many places of each section.
const PLACES: u64 = 48;
/// How far beyond its turn a place is looked for.
const REACH: u64 = 64;
/// How `endbr64` and `endbr32` begin.
const ENDBR: [u8; 3] = *b"\xf3\x0f\x1e";

/// A place and what the image has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signature<'a> {
    pub address: u64,
    pub bytes: &'a [u8],
}

/// The places of an image.
#[derive(Debug, Clone, Default)]
pub(super) struct Signatures<'a> {
    /// Constants: hardly one changes.
    pub rodata: Vec<Signature<'a>>,
    /// Code: some of it is rewritten at boot.
    pub text: Vec<Signature<'a>>,
}

impl<'a> Signatures<'a> {
    /// Chooses the places.
    pub fn new(image: &'a Image) -> Signatures<'a> {
        let relocated = image.relocations().ok().flatten();
        let free =
            |address: u64| relocated.is_none_or(|list| list.touching(address, address + WIDTH as u64).is_empty());
        let choose = |name: &str| image.section(name).map_or_else(Vec::new, |section| places(image, section, &free));
        Signatures { rodata: choose(".rodata"), text: choose(".text") }
    }

    /// How far they reach below an address and above it.
    pub fn reach(&self, from: u64) -> (u64, u64) {
        let all = || self.rodata.iter().chain(&self.text);
        let below = all().map(|signature| from.saturating_sub(signature.address)).max();
        let above = all().map(|signature| (signature.address + WIDTH as u64).saturating_sub(from)).max();
        (below.unwrap_or(0), above.unwrap_or(0))
    }

    /// A few of each, to try first.
    pub fn few(&self) -> impl Iterator<Item = &Signature<'a>> {
        self.rodata.iter().step_by(12).chain(self.text.iter().step_by(6))
    }
}

fn places<'a>(image: &'a Image, section: &Section, free: &dyn Fn(u64) -> bool) -> Vec<Signature<'a>> {
    let width = WIDTH as u64;
    let step = (section.size / PLACES).max(width);
    let mut out = Vec::new();
    let mut turn = 0;
    while turn + width <= section.size {
        let tries =
            (0..REACH).map(|i| turn + i * width).take_while(|at| at + width <= section.size && *at < turn + step);
        let mut signatures = tries.map(|at| section.address + at).filter_map(|address| {
            let bytes = image.read(address, WIDTH)?;
            (varied(bytes) && free(address)).then_some(Signature { address, bytes })
        });
        let first = signatures.next();
        // With call depth tracking, boot rewrites nearly every call; and calls of tracers are nops on any machine. FineIBT
        // seals every function that a preamble is before.
        let calm = |signature: &Signature<'_>| {
            let bytes = signature.bytes;
            let called = || bytes.iter().any(|&byte| matches!(byte, CALL | JMP));
            !section.executable || !called() && !bytes.windows(ENDBR.len()).any(|code| code == ENDBR)
        };
        out.extend(first.into_iter().chain(signatures).find(calm).or(first));
        turn += step;
    }
    out
}

/// Whether bytes have enough different values in them.
fn varied(bytes: &[u8]) -> bool {
    let mut seen = [false; 256];
    bytes.iter().filter(|&&byte| !std::mem::replace(&mut seen[usize::from(byte)], true)).count() >= VARIETY
}
