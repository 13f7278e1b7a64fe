//! What no table names: code written under Xen.
//!
//! - `xen_start_kernel()` points the jump at `early_xen_iret_patch` to `xen_iret` (arch/x86/xen/enlighten_pv.c, 5.11 and
//!   later; arch/x86/entry/entry_64.S).
//! - Xen fills `hypercall_page` (arch/x86/xen/xen-head.S, up to the fix of XSA-466): 128 stubs of 32 bytes, and
//!   int3 behind each. A PV guest's use `syscall`, in 32 bits `int $0x82` (Xen: xen/arch/x86/pv/hypercall.c, the functions
//!   hypercall_page_initialise_ring3_kernel() and hypercall_page_initialise_ring1_kernel()), those of a guest that has a
//!   machine of its own what leaves it (vmx_init_hypercall_page(), svm_init_hypercall_page()); it tells Xen where its page
//!   is (arch/x86/xen/enlighten_hvm.c: init_hvm_pv_info(), enlighten_pvh.c: xen_pvh_init()).

use super::decision::{Kind, Reason};
use super::landmarks::Landmarks;
use super::machine::HvmCall;
use super::passes::Pass;
use super::run::Run;
use crate::error::Result;
use crate::image::Bits;
use crate::insn::{self, CALL_LEN};

const STUBS: u32 = 128;
const STUB: u64 = 32;
const IRET: u32 = 23;

/// Where this pass may write: (start, end).
pub(super) fn places(landmarks: &Landmarks) -> Vec<(u64, u64)> {
    let page = landmarks.hypercall_page.map(|page| (page, page.saturating_add(STUB * u64::from(STUBS))));
    let jump = landmarks.xen_iret.map(|(site, _)| (site, site.saturating_add(CALL_LEN as u64)));
    page.into_iter().chain(jump).collect()
}

pub(super) fn apply(run: &mut Run<'_>) -> Result<()> {
    if let (Some(call), Some(page)) = (run.boot.hvm_call, run.landmarks.hypercall_page) {
        for number in 0..STUBS {
            let address = page.wrapping_add(STUB * u64::from(number));
            run.poke(Pass::Unlisted, number, address, &hvm_stub(call, number), Kind::Filled, Reason::Xen)?;
        }
    }
    if !run.boot.xen {
        return Ok(());
    }
    let bits = run.memory.bits();
    if bits == Bits::B64
        && let Some((site, target)) = run.landmarks.xen_iret
    {
        run.poke(Pass::Unlisted, 0, site, &insn::jmp(site, target), Kind::Filled, Reason::Xen)?;
    }
    if let Some(page) = run.landmarks.hypercall_page {
        for number in 0..STUBS {
            let stub = pv_stub(bits, number);
            let address = page.wrapping_add(STUB * u64::from(number));
            run.poke(Pass::Unlisted, number, address, &stub, Kind::Filled, Reason::Xen)?;
        }
    }
    Ok(())
}

/// iret does not come back, and finds %eax on the stack.
fn pv_stub(bits: Bits, number: u32) -> [u8; STUB as usize] {
    let [a, b, c, d] = number.to_le_bytes();
    let code: &[u8] = match (bits, number) {
        // push %rcx; push %r11; push %rax; mov $number,%eax; syscall
        (Bits::B64, IRET) => &[0x51, 0x41, 0x53, 0x50, 0xb8, a, b, c, d, 0x0f, 0x05],
        // push %rcx; push %r11; mov $number,%eax; syscall; pop %r11; pop %rcx; ret
        (Bits::B64, _) => &[0x51, 0x41, 0x53, 0xb8, a, b, c, d, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3],
        // push %eax; mov $number,%eax; int $0x82
        (Bits::B32, IRET) => &[0x50, 0xb8, a, b, c, d, 0xcd, 0x82],
        // mov $number,%eax; int $0x82; ret
        (Bits::B32, _) => &[0xb8, a, b, c, d, 0xcd, 0x82, 0xc3],
    };
    let mut stub = [0xcc; STUB as usize];
    stub[..code.len()].copy_from_slice(code);
    stub
}

/// `mov $number,%eax; vmcall; ret`; iret is no hypercall there: `ud2`.
fn hvm_stub(call: HvmCall, number: u32) -> [u8; STUB as usize] {
    let mut stub = [0xcc; STUB as usize];
    if number == IRET {
        stub[..2].copy_from_slice(&[0x0f, 0x0b]);
        return stub;
    }
    let ([a, b, c, d], [e, f, g]) = (number.to_le_bytes(), call.code());
    stub[..9].copy_from_slice(&[0xb8, a, b, c, d, e, f, g, 0xc3]);
    stub
}
