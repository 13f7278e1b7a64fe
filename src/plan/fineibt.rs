//! FineIBT's code, as an image has it: what `apply_fineibt()` copies before functions and before indirect calls.
//!
//! By symbol where there is one, else by what is in it. arch/x86/kernel/alternative.c and arch/x86/lib/bhi.S of 6.15 to 7.3.

use super::forms::ENDBR64;
use super::machine::Bhi;
use crate::image::Image;
use crate::insn::{CALL_LEN, CS, call};
use crate::sites::thunks;

/// What stands for the hash.
pub const PLACEHOLDER: [u8; 4] = 0x1234_5678_u32.to_le_bytes();
/// Beyond this no code of FineIBT's follows its preamble.
const WITHIN: usize = 512;
/// Bytes of a preamble, and of a preamble with the `endbr` of its function.
pub(super) const PREAMBLE: usize = 16;
const WITH_FUNCTION: usize = PREAMBLE + ENDBR64.len();
/// Bytes of each of `__bhi_args`.
const ARGS: u64 = 32;
/// The registers of arguments, and the stack: `__bhi_args_7` is the last.
const MOST: u8 = 7;

/// The templates of FineIBT's code.
#[derive(Default)]
pub(super) struct FineIbtCode {
    /// `fineibt_preamble_start`.
    pub preamble: Option<[u8; PREAMBLE]>,
    /// `fineibt_caller_start`.
    pub caller: Option<[u8; 14]>,
    /// `fineibt_paranoid_start`.
    pub paranoid: Option<[u8; 20]>,
    /// Of CONFIG_FINEIBT_BHI.
    pub bhi: Option<BhiCode>,
}

/// How a function lets go of its arguments where a caller's hash is another (CONFIG_FINEIBT_BHI; 6.15, 0c92385dc05e).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BhiCode {
    /// `fineibt_preamble_bhi`: where it stands in a preamble, behind the hash and with room for a call, 11 at most.
    pub at: usize,
    /// What stands there, up to the end of the function's `endbr`, where there is one argument: `fineibt_bhi1_start`.
    pub one: Vec<u8>,
    /// `__bhi_args`: what is called there where there are more.
    pub args: u64,
}

impl BhiCode {
    /// `cfi_fineibt_bhi_preamble()`: puts what lets go of so many arguments into the preamble at an address.
    pub(crate) fn put(&self, bhi: Bhi, arguments: u8, address: u64, code: &mut [u8; PREAMBLE]) {
        match (bhi, arguments) {
            (Bhi::Keeps, _) | (_, 0) => {}
            (Bhi::Clears, 1) => code[self.at..].copy_from_slice(self.inlined().0),
            (Bhi::Clears | Bhi::Calls, _) => {
                // Prefixes, and a call that ends where the function begins.
                let start = PREAMBLE - CALL_LEN;
                let clears = self.args.wrapping_add(ARGS * u64::from(arguments.min(MOST)));
                code[self.at..start].fill(CS);
                code[start..].copy_from_slice(&call(address.wrapping_add(start as u64), clears));
            }
        }
    }

    /// What the function's `endbr` becomes, where what lets go of its one argument reaches into the function.
    pub(crate) fn sealed(&self, bhi: Bhi, arguments: u8) -> Option<&[u8]> {
        (bhi == Bhi::Clears && arguments == 1).then(|| self.inlined().1)
    }

    /// What is in the preamble of a function of one argument, and what its `endbr` becomes.
    fn inlined(&self) -> (&[u8], &[u8]) {
        self.one.split_at(PREAMBLE - self.at)
    }

    fn of(
        image: &Image,
        at: impl Fn(&str) -> Option<u64>,
        preamble: &[u8; PREAMBLE],
        behind: &[u8],
    ) -> Option<BhiCode> {
        let from = Some(place(preamble)? + PLACEHOLDER.len()).filter(|&from| from <= PREAMBLE - CALL_LEN)?;
        let len = WITH_FUNCTION - from;
        // Where functions have names, this one has, or is not there.
        let named = at("__x86_return_thunk").is_some();
        let args = at("__bhi_args").or_else(|| if named { None } else { thunks::clears_arguments(image) })?;
        let told = at("fineibt_bhi1_start").and_then(|code| image.read(code, len));
        let found = || memchr::memmem::find(behind, CLEARS_ONE).and_then(|at| behind.get(at..at + len));
        let one = told.or_else(found).or(ONE_OF_6_15.get(..len))?;
        Some(BhiCode { at: from, one: one.to_vec(), args })
    }
}

/// `cmovne %rax,%rdi`.
const CLEARS_ONE: &[u8] = b"\x48\x0f\x45\xf8";
/// 6.15 to 6.17 have no template: `cmovne %r10,%rdi; jne` to the middle of the comparison; a nop of three bytes.
const ONE_OF_6_15: &[u8] = b"\x49\x0f\x45\xfa\x75\xf5\x0f\x1f\x00";

/// How many arguments a kCFI preamble says that its function has: by the register that it loads.
pub(crate) fn arguments(preamble: &[u8]) -> u8 {
    preamble.first().map_or(0, |load| load & 7)
}

/// Where code has the placeholder.
pub(super) fn place(code: &[u8]) -> Option<usize> {
    code.windows(PLACEHOLDER.len()).position(|window| window == PLACEHOLDER)
}

impl FineIbtCode {
    /// That of an image, whose symbols `at` finds.
    pub fn of(image: &Image, at: impl Fn(&str) -> Option<u64>) -> FineIbtCode {
        let mut code = match at("fineibt_preamble_start").zip(at("fineibt_caller_start")) {
            Some((preamble, caller)) => FineIbtCode {
                preamble: image.read(preamble, 16).and_then(|code| code.try_into().ok()),
                caller: image.read(caller, 14).and_then(|code| code.try_into().ok()),
                paranoid: at("fineibt_paranoid_start")
                    .and_then(|code| image.read(code, 20))
                    .and_then(|code| code.try_into().ok()),
                bhi: None,
            },
            None if image.section(".cfi_sites").is_some() => found(image),
            None => FineIbtCode::default(),
        };
        if let Some(preamble) = &code.preamble
            && code.paranoid.is_some()
        {
            code.bhi = BhiCode::of(image, at, preamble, constants(image).unwrap_or_default());
        }
        code
    }
}

/// The image's constants from FineIBT's preamble on.
fn constants(image: &Image) -> Option<&[u8]> {
    let bytes = image.section_bytes(image.section(".rodata")?);
    let is_preamble = |code: &&[u8]| matches!(code, [0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0x81, 0xea, rest @ ..] | [0xf3, 0x0f, 0x1e, 0xfa, 0x2d, rest @ ..] if rest.starts_with(&PLACEHOLDER));
    let places = memchr::memmem::find_iter(bytes, &PLACEHOLDER);
    let found = places
        .flat_map(|at| [at.checked_sub(7), at.checked_sub(5)])
        .flatten()
        .map(|at| &bytes[at..])
        .find(is_preamble)?;
    Some(&found[..found.len().min(WITHIN)])
}

/// FineIBT's code by what is in it: constants that begin as a preamble does, `endbr64` and a comparison with the
/// placeholder; and behind it the caller's, which load the placeholder: the plain one, and since 6.15 another.
fn found(image: &Image) -> FineIbtCode {
    let Some(behind) = constants(image) else { return FineIbtCode::default() };
    let loads =
        |code: &[u8]| matches!(code, [0x41, 0xba, rest @ ..] | [0xb8, rest @ ..] if rest.starts_with(&PLACEHOLDER));
    let next = |from: usize| (from..behind.len()).find(|&at| loads(&behind[at..]));
    let caller = next(PREAMBLE);
    let paranoid = caller.and_then(|at| next(at + 14)).filter(|&at| {
        // The comparison with the hash before the function, the jump if it is another.
        behind.get(at + 14..at + 16).is_some_and(|jump| jump == b"\x75\xfd")
    });
    FineIbtCode {
        preamble: behind.get(..PREAMBLE).and_then(|code| code.try_into().ok()),
        caller: caller.and_then(|at| behind.get(at..at + 14)?.try_into().ok()),
        paranoid: paranoid.and_then(|at| behind.get(at..at + 20)?.try_into().ok()),
        bhi: None,
    }
}
