//! A recorded boot: what memory held, and the state of the machine that the same dump gave (test input here only).

#![allow(clippy::expect_used)] // a test's input is there, or the test fails
#![allow(dead_code)] // not every test needs all of it

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use pvops::image::{Bits, Image};
use pvops::insn::{GENERIC_NOPS, K7_NOPS, K8_NOPS, NopTable, P6_NOPS, X86_11_NOPS, X86_32_NOPS, X86_NOPS};
use pvops::plan::paravirt::{self, Inline, NoRoom, Null, Pointer, Slot, Switch};
use pvops::plan::{Boot, LoadedCode, Paravirt, Rules};
use pvops::sites::Tables;
use pvops::verify::{FeatureNumbers, Inlined, KernelInfo, Ops, Verifier};
use serde_json::Value;

/// One of `boots/*.json`, with the files beside it.
pub struct Recorded {
    pub kernel: String,
    pub mode: String,
    json: Value,
    runs: PathBuf,
}

/// Every boot there is; none where `PVOPS_KERNELS` is not set.
pub fn all() -> Vec<Recorded> {
    let Some(root) = std::env::var_os("PVOPS_KERNELS") else {
        assert!(std::env::var_os("PVOPS_REQUIRE_KERNELS").is_none(), "PVOPS_KERNELS is not set");
        eprintln!("skipped: PVOPS_KERNELS is not set");
        return Vec::new();
    };
    let Ok(boots) = std::fs::read_dir(PathBuf::from(root).join("boots")) else { return Vec::new() };
    let mut found: Vec<PathBuf> = boots.map(|entry| entry.expect("a directory is read").path()).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == "json"));
    found.sort();
    found.iter().map(|path| Recorded::open(path)).collect()
}

pub fn kernel(release: &str) -> Image {
    let root = std::env::var_os("PVOPS_KERNELS").expect("a boot was found there");
    Image::open(&PathBuf::from(root).join(format!("kernels/vmlinuz-{release}"))).expect("a real kernel opens")
}

pub fn rules(release: &str) -> &'static Rules {
    let era = ["5.10", "6.1", "6.12", "7.2"].into_iter().find(|e| release.starts_with(&format!("{e}.")));
    Rules::by_name(era.expect("an era is known")).expect("and has rules")
}

impl Recorded {
    fn open(path: &Path) -> Recorded {
        let json: Value = serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON");
        let text = |key: &str| json[key].as_str().expect("a string").to_owned();
        Recorded { kernel: text("kernel"), mode: text("mode"), runs: path.with_extension("runs.xz"), json }
    }

    /// `.text` in memory.
    pub fn memory(&self, image: &Image) -> Vec<u8> {
        let section = image.section(".text").expect(".text");
        let mut text = image.section_bytes(section).to_vec();
        let packed = std::fs::read(self.with(".runs.xz")).expect("read");
        let mut raw = Vec::new();
        liblzma::read::XzDecoder::new(&packed[..]).read_to_end(&mut raw).expect("xz");
        let mut rest = &raw[..];
        while let Some((head, tail)) = rest.split_first_chunk::<12>() {
            let address = u64::from_le_bytes(head[..8].try_into().expect("8 bytes"));
            let len = u32::from_le_bytes(head[8..].try_into().expect("4 bytes")) as usize;
            let at = (address - section.address) as usize;
            text[at..at + len].copy_from_slice(&tail[..len]);
            rest = &tail[len..];
        }
        text
    }

    /// What judges it: of the image alone.
    pub fn verifier<'a>(&self, image: &Image, tables: &'a Tables) -> Verifier<'a> {
        let info = info(&self.kernel, image);
        Verifier::new(image, tables, rules(&self.kernel), info, LoadedCode::of(image)).expect("a verifier")
    }

    fn with(&self, suffix: &str) -> PathBuf {
        // `with_extension` cuts at the last dot, and kernels have dots in their names.
        let name = format!("{}~{}{suffix}", self.kernel, self.mode);
        self.runs.with_file_name(name)
    }

    fn words(&self) -> Option<Vec<u32>> {
        let words = self.json["x86_capability"].as_array()?;
        Some(words.iter().map(|w| u32::from_str_radix(w.as_str().expect("hex"), 16).expect("hex")).collect())
    }

    /// The machine, in the passes' terms.
    pub fn boot(&self, image: &Image, tables: &Tables) -> Boot {
        let symbols = image.symbols().expect("symbols").expect("there are some");
        let at = |name: &str| symbols.address_of(name);
        let its = match rules(&self.kernel).era {
            "5.10" => 11 * 32 + 9,
            "6.1" => 21 * 32 + 5,
            "6.12" => 21 * 32 + 6,
            _ => 21 * 32 + 10,
        };
        let mut boot = Boot {
            features: self.words().unwrap_or_else(|| vec![0; 26]),
            retpoline: Some(11 * 32 + 12),
            retpoline_lfence: Some(11 * 32 + 13),
            rethunk: Some(11 * 32 + 14),
            its: Some(its),
            return_thunk: self.json["return_thunk"].as_str().and_then(at),
            uniprocessor: self.mode.contains("smp1"),
            nops: self.nops(image.bits()),
            xen: self.mode.starts_with("xen"),
            ..Boot::default()
        };
        let slots = |name: &str| -> Option<(u64, Vec<String>)> {
            let table = &self.json[name];
            let address = u64::from_str_radix(table["address"].as_str()?.trim_start_matches("0x"), 16).ok()?;
            let names = table["slots"].as_array()?;
            Some((address, names.iter().map(|n| n.as_str().unwrap_or("").to_owned()).collect()))
        };
        for array in ["pv_ops", "pv_ops_lock"] {
            let Some((address, names)) = slots(array) else { continue };
            for (name, slot) in names.iter().zip((address..).step_by(8)) {
                // A slot without a name holds NULL.
                boot.pointers.insert(slot, held(image, slot, name, boot.xen));
            }
        }
        if let Some(table) = &tables.paravirt {
            let values = slots("pv_ops").map_or_else(
                || {
                    let base = table.ops_address(image.bits()).expect("one address of ops");
                    let word = image.bits().word() as u64;
                    let last = table.sites.iter().map(|s| s.op_type).max().unwrap_or(0);
                    (0..=u64::from(last)).map(|i| image.read_word(base + word * i).unwrap_or(0)).collect::<Vec<u64>>()
                },
                |(base, names)| {
                    names.iter().zip((base..).step_by(8)).map(|(n, slot)| held(image, slot, n, boot.xen)).collect()
                },
            );
            boot.paravirt = Some(paravirt(rules(&self.kernel).era, image, &values, boot.nops));
        }
        boot
    }

    fn nops(&self, bits: Bits) -> &'static NopTable {
        match (rules(&self.kernel).era, bits) {
            ("5.10", _) if self.mode.contains("epyc") => &P6_NOPS,
            ("5.10", Bits::B32) if self.mode.contains("qemu32") => &GENERIC_NOPS,
            ("5.10", _) => &K8_NOPS,
            ("6.1", Bits::B64) => &X86_NOPS,
            (_, Bits::B64) => &X86_11_NOPS,
            (_, Bits::B32) => &X86_32_NOPS,
        }
    }
}

/// The address of the function a slot holds, by its name. Static functions of one name there may be several: the slot's own
/// contents as built tell which, and Xen's own tables.
fn held(image: &Image, slot: u64, name: &str, xen: bool) -> u64 {
    let symbols = image.symbols().expect("symbols").expect("there are some");
    let built = image.read_word(slot).unwrap_or(0);
    let in_xens = |address: u64| {
        let tables = ["xen_cpu_ops", "xen_mmu_ops", "xen_irq_ops"].into_iter().filter_map(|n| symbols.address_of(n));
        tables.flat_map(|t| (t..t + 512).step_by(8)).any(|at| image.read_word(at) == Some(address))
    };
    let one = symbols.addresses_of(name).find(|&a| if xen { in_xens(a) } else { a == built });
    let one = one.or_else(|| symbols.addresses_of(name).find(|&a| a == built));
    one.or_else(|| symbols.addresses_of(name).next()).unwrap_or(0)
}

/// Types of 5.10's template whose sites `native_patch()` inlines, 64-bit (BOOT-FACTS F3): byte strings by the native
/// function's name; the last two only while the slot holds it.
const INLINED: [(&str, &[u8], bool); 10] = [
    ("native_save_fl", b"\x9c\x58", false),
    ("native_restore_fl", b"\x57\x9d", false),
    ("native_irq_disable", b"\xfa", false),
    ("native_irq_enable", b"\xfb", false),
    ("native_read_cr2", b"\x0f\x20\xd0", false),
    ("__native_read_cr3", b"\x0f\x20\xd8", false),
    ("native_write_cr3", b"\x0f\x22\xdf", false),
    ("native_wbinvd", b"\x0f\x09", false),
    ("__raw_callee_save___native_queued_spin_unlock", b"\xc6\x07\x00", true),
    ("__raw_callee_save___native_vcpu_is_preempted", b"\x31\xc0", true),
];

fn paravirt(era: &str, image: &Image, values: &[u64], nops: &'static NopTable) -> Paravirt {
    let symbols = image.symbols().expect("symbols").expect("there are some");
    let at = |name: &str| symbols.address_of(name);
    let base = at("pv_ops");
    let native = |index: usize| base.and_then(|b| image.read_word(b + 8 * index as u64));
    // Xen PV has paravirt_patch_default() in slot 0.
    let native_patch = era == "5.10" && (values.first() == at("native_patch").as_ref() || base.is_none());
    let slot = |(index, &value): (usize, &u64)| {
        let pointer = match value {
            0 => Pointer::Null,
            value if Some(value) == at("_paravirt_nop") => Pointer::Nop,
            value if era == "5.10" && Some(value) == at("_paravirt_ident_64") => Pointer::Ident64,
            value => Pointer::Function(value),
        };
        let built = native(index).unwrap_or(value);
        let inline = INLINED.iter().find(|(name, ..)| native_patch && symbols.addresses_of(name).any(|a| a == built));
        let switch = inline.map_or(Switch::Default, |&(_, code, guarded)| {
            let code = if image.bits() == Bits::B32 && code[0] == 0xc6 { &b"\xc6\x00\x00"[..] } else { code };
            Switch::Inline(Inline {
                code: code.into(),
                only_while: guarded.then_some(built),
                no_room: NoRoom::Bug,
                relocation: None,
            })
        });
        let jump = era == "5.10" && at("native_iret") == Some(built);
        Slot { pointer, jump, switch }
    };
    let null = at("paravirt_BUG").filter(|_| era != "5.10").map_or(Null::Ud2, Null::Call);
    let rules = paravirt::TemplateRules { bits: image.bits(), nops, call_clobbers: None, null, no_room: NoRoom::Bug };
    Paravirt { template: values.iter().enumerate().map(slot).collect(), rules }
}

/// How many of each there are: a set of addresses by name.
pub fn functions(image: &Image) -> HashMap<u64, ()> {
    let symbols = image.symbols().expect("symbols").expect("there are some");
    symbols.iter().map(|(address, ..)| (address, ())).collect()
}

/// What the verifier is told of an image: no more than names.
pub fn info(release: &str, image: &Image) -> KernelInfo {
    let symbols = image.symbols().expect("symbols").expect("there are some");
    let at = |name: &str| symbols.address_of(name);
    let era = rules(release).era;
    let its = match era {
        "5.10" => 11 * 32 + 9,
        "6.1" => 21 * 32 + 5,
        "6.12" => 21 * 32 + 6,
        _ => 21 * 32 + 10,
    };
    let numbers = FeatureNumbers {
        retpoline: Some(11 * 32 + 12),
        retpoline_lfence: Some(11 * 32 + 13),
        rethunk: Some(11 * 32 + 14),
        its: Some(its),
        call_depth: None,
        xenpv: Some(8 * 32 + 16),
    };
    let nops: Vec<&'static NopTable> = match (era, image.bits()) {
        ("5.10", Bits::B64) => vec![&P6_NOPS, &K8_NOPS],
        ("5.10", Bits::B32) => vec![&P6_NOPS, &K8_NOPS, &GENERIC_NOPS, &K7_NOPS],
        ("6.1", Bits::B64) => vec![&X86_NOPS],
        (_, Bits::B64) => vec![&X86_11_NOPS],
        (_, Bits::B32) => vec![&X86_32_NOPS],
    };
    let base = at("pv_ops").or_else(|| {
        let tables = Tables::read(image).expect("tables");
        tables.paravirt.map(|table| table.ops_address(image.bits()).expect("one address of ops"))
    });
    let mut ops = Ops {
        nop: at("_paravirt_nop"),
        identities: at("_paravirt_ident_64").filter(|_| era == "5.10").map(|at| (at, 64)).into_iter().collect(),
        bug: at("paravirt_BUG").filter(|_| era != "5.10"),
        ..Ops::default()
    };
    if let (Some(base), "5.10") = (base, era) {
        let word = image.bits().word() as u64;
        ops.inlined = (0..100u64)
            .map(|index| {
                let built = image.read_word(base + word * index).unwrap_or(0);
                let known = INLINED.iter().find(|(name, ..)| symbols.addresses_of(name).any(|a| a == built));
                let code = known.map(|&(_, code, _)| {
                    let code = if image.bits() == Bits::B32 && code[0] == 0xc6 { &b"\xc6\x00\x00"[..] } else { code };
                    Box::from(code)
                });
                let only_while = known.filter(|known| known.2).map(|_| built);
                Inlined { code, only_while, jump: at("native_iret") == Some(built), ..Inlined::default() }
            })
            .collect();
    }
    KernelInfo { numbers, ops, backends: Vec::new(), nops }
}
