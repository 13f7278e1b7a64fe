//! What a guest of Xen has where no table says so: Xen fills the stubs of its hypercall page, and in a PV guest
//! `early_xen_iret_patch` of arch/x86/entry/entry_64.S becomes a jump (5.10, 6.1).

use super::code::ClusterCode;
use crate::image::Bits;
use crate::insn;
use crate::plan::HvmCall;
use crate::verify::site_map::SiteMap;
use crate::verify::state::State;
use crate::verify::visit::STUB;

/// `__HYPERVISOR_iret`, include/xen/interface/xen.h.
const XEN_IRET: u32 = 23;

impl SiteMap<'_> {
    pub(super) fn xen_iret(&self, state: &State, code: &mut ClusterCode<'_>) {
        if let (true, Some((site, target))) = (state.xen, self.landmarks.xen_iret) {
            code.put(site, &insn::jmp(site, target));
        }
    }

    pub(super) fn xen_stub(&self, address: u64, number: u32, state: &State, code: &mut ClusterCode<'_>) {
        if let Some(call) = state.hvm_call {
            code.put(address, &hvm_stub(call, number));
        } else if state.xen {
            code.put(address, &stub(self.bits, number));
        }
    }
}

/// What Xen puts into a stub of a PV guest's hypercall page, and int3 behind it.
fn stub(bits: Bits, number: u32) -> Vec<u8> {
    let (save, call, restore): (&[u8], &[u8], &[u8]) = match (bits, number == XEN_IRET) {
        (Bits::B64, true) => (b"\x51\x41\x53\x50", b"\x0f\x05", b""),
        (Bits::B64, false) => (b"\x51\x41\x53", b"\x0f\x05", b"\x41\x5b\x59\xc3"),
        (Bits::B32, true) => (b"\x50", b"\xcd\x82", b""),
        (Bits::B32, false) => (b"", b"\xcd\x82", b"\xc3"),
    };
    debug_assert!(u64::from(number) < STUB * 4);
    let mut stub = [save, b"\xb8", &number.to_le_bytes(), call, restore].concat();
    stub.resize(STUB as usize, 0xcc);
    stub
}

/// The same of a guest with a machine of its own.
fn hvm_stub(call: HvmCall, number: u32) -> Vec<u8> {
    let mut stub = match number {
        XEN_IRET => b"\x0f\x0b".to_vec(),
        _ => [&b"\xb8"[..], &number.to_le_bytes(), &call.code(), b"\xc3"].concat(),
    };
    stub.resize(STUB as usize, 0xcc);
    stub
}
