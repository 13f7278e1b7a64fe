//! What an image is known by in memory: bytes that nothing changes, at places spread over it.

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

/// A place and what the image has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark<'a> {
    pub address: u64,
    pub bytes: &'a [u8],
}

/// The places of an image.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks<'a> {
    /// Constants: hardly one changes.
    pub rodata: Vec<Mark<'a>>,
    /// Code: some of it is rewritten at boot.
    pub text: Vec<Mark<'a>>,
}

impl<'a> Marks<'a> {
    /// Chooses the places.
    pub fn new(image: &'a Image) -> Marks<'a> {
        let relocated = image.relocations().ok().flatten();
        let free =
            |address: u64| relocated.is_none_or(|list| list.touching(address, address + WIDTH as u64).is_empty());
        let choose = |name: &str| image.section(name).map_or_else(Vec::new, |section| places(image, section, &free));
        Marks { rodata: choose(".rodata"), text: choose(".text") }
    }

    /// A few of each, to try first.
    pub fn few(&self) -> impl Iterator<Item = &Mark<'a>> {
        self.rodata.iter().step_by(12).chain(self.text.iter().step_by(6))
    }
}

fn places<'a>(image: &'a Image, section: &Section, free: &dyn Fn(u64) -> bool) -> Vec<Mark<'a>> {
    let width = WIDTH as u64;
    let step = (section.size / PLACES).max(width);
    let mut out = Vec::new();
    let mut turn = 0;
    while turn + width <= section.size {
        let tries =
            (0..REACH).map(|i| turn + i * width).take_while(|at| at + width <= section.size && *at < turn + step);
        let mut marks = tries.map(|at| section.address + at).filter_map(|address| {
            let bytes = image.read(address, WIDTH)?;
            (varied(bytes) && free(address)).then_some(Mark { address, bytes })
        });
        let first = marks.next();
        // With call depth tracking, boot rewrites nearly every call; and calls of tracers are nops on any machine.
        let calm = |mark: &Mark<'_>| !section.executable || !mark.bytes.iter().any(|&byte| matches!(byte, CALL | JMP));
        out.extend(first.into_iter().chain(marks).find(calm).or(first));
        turn += step;
    }
    out
}

/// Whether bytes have enough different values in them.
fn varied(bytes: &[u8]) -> bool {
    let mut seen = [false; 256];
    bytes.iter().filter(|&&byte| !std::mem::replace(&mut seen[usize::from(byte)], true)).count() >= VARIETY
}
