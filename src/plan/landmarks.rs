//! Addresses the passes compare with and branch to: the kernel's own symbols, or what its sites call.

use super::fineibt::{BhiCode, FineIbtCode};
use crate::error::Result;
use crate::image::Image;
use crate::sites::{call_template, return_thunks, thunks, xen};

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
    /// `early_xen_iret_patch` and `xen_iret`, or what they are known by.
    pub xen_iret: Option<(u64, u64)>,
    /// `hypercall_page`, as the image's note for Xen says.
    pub hypercall_page: Option<u64>,
    /// The code laid before a function to count its calls: `skl_call_thunk_template` up to `skl_call_thunk_tail`.
    pub call_template: Option<(u64, u64)>,
    /// `fineibt_preamble_start`: what a `__cfi_` preamble becomes.
    pub fineibt_preamble: Option<[u8; 16]>,
    /// `fineibt_caller_start`: what a caller's check becomes.
    pub fineibt_caller: Option<[u8; 14]>,
    /// `fineibt_paranoid_start` (6.15): what a caller's check and its call become where the caller compares too.
    pub fineibt_paranoid: Option<[u8; 20]>,
    /// What functions have in their preambles that let go of their arguments where a caller's hash is another.
    pub fineibt_bhi: Option<BhiCode>,
    /// Where HID-BPF attaches a program of its own at boot.
    pub hid_bpf: Option<HidBpf>,
    /// Functions whose calls are not counted.
    pub uncounted: Vec<u64>,
}

/// `hid_bpf_preload_skel()` of drivers/hid/bpf (6.3 to 6.10) attaches a program to a function of its own while the kernel
/// boots, and with that ftrace calls the function that walks its list. Whether it does hangs on drivers, where the
/// trampoline lies on the allocator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HidBpf {
    /// `__hid_bpf_tail_call`.
    pub function: u64,
    /// `arch_ftrace_ops_list_func`.
    pub list: u64,
    /// Where `ftrace_caller` and `ftrace_regs_caller` call the tracer (`ftrace_update_ftrace_func()`).
    pub tracer_calls: Vec<u64>,
}

impl HidBpf {
    fn of(at: impl Fn(&str) -> Option<u64>) -> Option<HidBpf> {
        let tracer_calls = TRACER_CALLS.iter().filter_map(|name| at(name)).collect();
        Some(HidBpf { function: at("__hid_bpf_tail_call")?, list: at("arch_ftrace_ops_list_func")?, tracer_calls })
    }

    /// Whether this is the call at the head of its function, behind its `endbr`.
    pub fn is_head(&self, address: u64) -> bool {
        address == self.function || address == self.function.wrapping_add(4)
    }
}

/// Where the tracer is called.
const TRACER_CALLS: [&str; 2] = ["ftrace_call", "ftrace_regs_call"];
/// Bytes of `hypercall_page`.
const HYPERCALL_PAGE: u64 = 4096;
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
        let fineibt = FineIbtCode::of(image, at);
        let section = image.section(".text").map_or((0, 0), |s| (s.address, s.end()));
        // Looking for static calls takes time, and where functions have names this one is named, or not there.
        let (return0, warn_trap) = match symbols {
            Some(_) => (at("__static_call_return0"), at("__WARN_trap")),
            None => {
                let called = thunks::statically_called(image)?;
                (thunks::returns_zero(image, &called), thunks::warns(image, &called))
            }
        };
        Ok(Landmarks {
            text: (at("_text").unwrap_or(section.0), at("_etext").unwrap_or(section.1)),
            indirect_thunks: by_name_or("__x86_indirect_thunk_array", thunks::indirect_thunks)?,
            call_thunks: at("__x86_indirect_call_thunk_array"),
            jump_thunks: at("__x86_indirect_jump_thunk_array"),
            return_thunk: by_name_or("__x86_return_thunk", thunks::return_thunk)?,
            its_return_thunk: match symbols {
                Some(_) => at("its_return_thunk"),
                None => return_thunks::find(image, "its_return_thunk")?,
            },
            return0,
            static_call_return: match symbols {
                Some(_) => at("__static_call_return"),
                None => return0.and_then(|zero| thunks::conditional_return(image, zero)),
            },
            warn_trap,
            native_unlock: at("__raw_callee_save___native_queued_spin_unlock"),
            bug: by_name_or("BUG_func", thunks::placeholder)?,
            nop: by_name_or("nop_func", thunks::nothing)?,
            xen_iret: match symbols {
                Some(_) => at("early_xen_iret_patch").zip(at("xen_iret")),
                None => xen::iret(image),
            },
            hypercall_page: at("hypercall_page").or_else(|| xen::hypercall_page(image)),
            call_template: at("skl_call_thunk_template")
                .zip(at("skl_call_thunk_tail"))
                .or_else(|| call_template::find(image)),
            fineibt_preamble: fineibt.preamble,
            fineibt_caller: fineibt.caller,
            fineibt_paranoid: fineibt.paranoid,
            fineibt_bhi: fineibt.bhi,
            hid_bpf: HidBpf::of(at),
            uncounted: UNCOUNTED.iter().filter_map(|name| at(name)).collect(),
        })
    }

    /// Whether calls of this function are not counted: `skip_addr()`. While Xen filled `hypercall_page`, nothing in it was.
    pub fn is_uncounted(&self, function: u64) -> bool {
        let in_page = |page: u64| (page..page.saturating_add(HYPERCALL_PAGE)).contains(&function);
        self.uncounted.contains(&function) || self.hypercall_page.is_some_and(in_page)
    }

    /// Whether this address is in core text.
    pub fn in_text(&self, address: u64) -> bool {
        (self.text.0..self.text.1).contains(&address)
    }
}
