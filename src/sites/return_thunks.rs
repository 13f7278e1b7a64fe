//! Thunks that a kernel may choose returns to go through, found by their code where no symbol names them.
//!
//! Sources: arch/x86/lib/retpoline.S of 5.10.262, 6.1, 6.12 and 7.2.

use memchr::memmem;

use super::code::Code;
use super::thunks;
use crate::error::Result;
use crate::image::Image;
use crate::insn::{CALL, CALL_LEN, INT3, RET};

/// How far before `__x86_return_thunk` the others begin: all are in sections next to each other.
const BEFORE: u64 = 0x2000;
const BEHIND: u64 = 0x100;
/// `lea 8(%rsp),%rsp; ret; int3`: `srso_safe_ret` and `srso_alias_safe_ret`.
const SAFE_RET: &[u8] = b"\x48\x8d\x64\x24\x08\xc3\xcc";
/// What `srso_untrain_ret` has before its inner `srso_safe_ret`: the start of `movabs`.
const UNTRAIN: &[u8] = b"\x48\xb8";
/// `retbleed_untrain_ret` (`test`), and inside it `ret; int3; lfence; jmp retbleed_return_thunk; int3`.
const RETBLEED: &[u8] = b"\xf6\xc3\xcc\x0f\xae\xe8\xeb\xf9\xcc";
/// What `call_depth_return_thunk` has behind `shlq $5, %gs:call_depth`: `$5; jz 1f; ret; int3`.
const CREDITED: &[u8] = b"\x05\x74\x02\xc3\xcc";
const UD2: &[u8] = b"\x0f\x0b";
const LINE: u64 = 64;

/// The thunk of this name by its code; `None` where the image has none such, or more than one, or the name is no thunk's.
pub fn find(image: &Image, name: &str) -> Result<Option<u64>> {
    let code = Code::of(image);
    let Some(default) = thunks::return_thunk(image)? else { return Ok(None) };
    let around = Around::of(&code, default);
    Ok(match name {
        "its_return_thunk" => only(around.places().filter(|&at| its(&around, at))),
        "retbleed_return_thunk" | "zen_return_thunk" => {
            only(around.all(RETBLEED).map(|at| at + 1).filter(|at| at % LINE == 0))
        }
        "call_depth_return_thunk" => only(around.all(CREDITED).filter_map(|at| credits(&around, at))),
        "srso_return_thunk" => only(around.all(&[UNTRAIN, SAFE_RET].concat()).filter_map(|at| {
            let safe = at + UNTRAIN.len() as u64;
            // The first call is srso_untrain_ret's own, on its way out.
            around.calls(safe).filter(|&call| call > safe && call % 16 == 0).min()
        })),
        "srso_alias_return_thunk" => only(safe_rets(&code).into_iter().filter_map(|safe| {
            let behind = Around { start: safe, bytes: code.from(safe)?.get(..BEHIND as usize)? };
            behind.calls(safe).chain(around.calls(safe)).min()
        })),
        _ => None,
    })
}

/// Code around the default thunk.
struct Around<'a> {
    start: u64,
    bytes: &'a [u8],
}

impl<'a> Around<'a> {
    fn of(code: &Code<'a>, middle: u64) -> Around<'a> {
        let range = code.ranges().find(|(start, bytes)| middle.wrapping_sub(*start) < bytes.len() as u64);
        let Some((first, bytes)) = range else { return Around { start: middle, bytes: &[] } };
        let at = middle - first;
        let from = at.saturating_sub(BEFORE);
        let to = (at + BEHIND).min(bytes.len() as u64);
        Around { start: first + from, bytes: &bytes[from as usize..to as usize] }
    }

    fn places(&self) -> impl Iterator<Item = u64> {
        self.start..self.start + self.bytes.len() as u64
    }

    fn from(&self, address: u64) -> &'a [u8] {
        let at = address.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.bytes.get(at..)).unwrap_or_default()
    }

    /// Where these bytes are.
    fn all(&self, wanted: &[u8]) -> impl Iterator<Item = u64> {
        let start = self.start;
        memmem::find_iter(self.bytes, wanted).map(move |at| start + at as u64).collect::<Vec<_>>().into_iter()
    }

    /// Where a `call` of this function with `ud2` behind it is.
    fn calls(&self, function: u64) -> impl Iterator<Item = u64> {
        let calls = self.all(UD2).filter_map(move |at| at.checked_sub(CALL_LEN as u64));
        calls.filter(move |&call| {
            let [CALL, a, b, c, d, ..] = *self.from(call) else { return false };
            let displacement = i64::from(i32::from_le_bytes([a, b, c, d]));
            call.wrapping_add(CALL_LEN as u64).wrapping_add_signed(displacement) == function
        })
    }
}

/// `ret; int3` in the upper half of a cache line that is filled with `int3` up to there.
fn its(around: &Around<'_>, at: u64) -> bool {
    let half = LINE / 2;
    at % LINE == half
        && around.from(at).starts_with(&[RET, INT3])
        && around.from(at.wrapping_sub(half)).get(..half as usize).is_some_and(|fill| fill.iter().all(|&b| b == INT3))
}

/// Where `shlq $5, %gs:call_depth` begins whose 5 is here: it names its variable by its address or relative to itself.
fn credits(around: &Around<'_>, five: u64) -> Option<u64> {
    let (absolute, relative) = (five.wrapping_sub(9), five.wrapping_sub(8));
    if around.from(absolute).starts_with(b"\x65\x48\xc1\x24\x25") {
        return Some(absolute);
    }
    around.from(relative).starts_with(b"\x65\x48\xc1\x25").then_some(relative)
}

/// `srso_alias_safe_ret`: what is not the inner part of `srso_untrain_ret`.
fn safe_rets(code: &Code<'_>) -> Vec<u64> {
    let own = |start: u64, bytes: &[u8], at: usize| (!bytes[..at].ends_with(UNTRAIN)).then_some(start + at as u64);
    code.ranges()
        .flat_map(|(start, bytes)| memmem::find_iter(bytes, SAFE_RET).filter_map(move |at| own(start, bytes, at)))
        .collect()
}

/// The only one there is.
fn only(mut found: impl Iterator<Item = u64>) -> Option<u64> {
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}
