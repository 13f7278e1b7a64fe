//! Addresses the passes compare with and branch to: the kernel's own symbols, or what its sites call.

use crate::error::Result;
use crate::image::Image;
use crate::sites::thunks;

/// The kernel's landmarks; `None` where it has no such symbol, and nothing else tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Landmarks {
    /// `_text` and `_etext`: what the passes call core text.
    pub text: (u64, u64),
    /// `__x86_indirect_thunk_array`.
    pub indirect_thunks: Option<u64>,
    /// `__x86_indirect_call_thunk_array`.
    pub call_thunks: Option<u64>,
    /// `__x86_indirect_jump_thunk_array`.
    pub jump_thunks: Option<u64>,
    /// `__x86_return_thunk`, what every return jumps to as built.
    pub return_thunk: Option<u64>,
    /// `its_return_thunk`.
    pub its_return_thunk: Option<u64>,
    /// `__static_call_return0`.
    pub return0: Option<u64>,
    /// `__static_call_return`.
    pub static_call_return: Option<u64>,
    /// `__WARN_trap`.
    pub warn_trap: Option<u64>,
    /// `__raw_callee_save___native_queued_spin_unlock`.
    pub native_unlock: Option<u64>,
    /// `BUG_func`, the placeholder of direct calls.
    pub bug: Option<u64>,
    /// `nop_func`, the function that does nothing.
    pub nop: Option<u64>,
    /// `early_xen_iret_patch` and `xen_iret`.
    pub xen_iret: Option<(u64, u64)>,
    /// `hypercall_page`.
    pub hypercall_page: Option<u64>,
    /// The code laid before a function to count its calls: `skl_call_thunk_template` up to `skl_call_thunk_tail`.
    pub call_template: Option<(u64, u64)>,
    /// `fineibt_preamble_start`: what a `__cfi_` preamble becomes.
    pub fineibt_preamble: Option<[u8; 16]>,
    /// `fineibt_caller_start`: what a caller's check becomes.
    pub fineibt_caller: Option<[u8; 14]>,
    /// Functions whose calls are not counted.
    pub uncounted: Vec<u64>,
}

/// `skip_addr()` of arch/x86/kernel/callthunks.c.
const UNCOUNTED: [&str; 8] = [
    "error_entry",
    "paranoid_entry",
    "xen_error_entry",
    "__switch_to_asm",
    "ret_from_fork",
    "soft_restart_cpu",
    "__fentry__",
    "relocate_kernel",
];

impl Landmarks {
    /// Those of an image.
    pub fn of(image: &Image) -> Result<Landmarks> {
        let symbols = image.symbols()?;
        let at = |name: &str| symbols.and_then(|s| s.address_of(name));
        let by_name_or = |name: &str, found: fn(&Image) -> Result<Option<u64>>| match at(name) {
            Some(address) => Ok(Some(address)),
            None => found(image),
        };
        let section = image.section(".text").map_or((0, 0), |s| (s.address, s.end()));
        Ok(Landmarks {
            text: (at("_text").unwrap_or(section.0), at("_etext").unwrap_or(section.1)),
            indirect_thunks: by_name_or("__x86_indirect_thunk_array", thunks::indirect_thunks)?,
            call_thunks: at("__x86_indirect_call_thunk_array"),
            jump_thunks: at("__x86_indirect_jump_thunk_array"),
            return_thunk: by_name_or("__x86_return_thunk", thunks::return_thunk)?,
            its_return_thunk: at("its_return_thunk"),
            return0: at("__static_call_return0"),
            static_call_return: at("__static_call_return"),
            warn_trap: at("__WARN_trap"),
            native_unlock: at("__raw_callee_save___native_queued_spin_unlock"),
            bug: by_name_or("BUG_func", thunks::placeholder)?,
            nop: at("nop_func"),
            xen_iret: at("early_xen_iret_patch").zip(at("xen_iret")),
            hypercall_page: at("hypercall_page"),
            call_template: at("skl_call_thunk_template").zip(at("skl_call_thunk_tail")),
            fineibt_preamble: at("fineibt_preamble_start").and_then(|code| image.read(code, 16)?.try_into().ok()),
            fineibt_caller: at("fineibt_caller_start").and_then(|code| image.read(code, 14)?.try_into().ok()),
            uncounted: UNCOUNTED.iter().filter_map(|name| at(name)).collect(),
        })
    }

    /// Whether this address is in core text.
    pub fn in_text(&self, address: u64) -> bool {
        (self.text.0..self.text.1).contains(&address)
    }
}
