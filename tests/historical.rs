//! What the code of 2007 and 2010 itself produced (`PVOPS_KERNELS`, `goldens/*.jsonl.xz`): alternatives, locks, and whole
//! runs of `alternative_instructions()`.

#![allow(clippy::expect_used)] // a test's input is there, or the test fails

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use pvops::image::Bits;
use pvops::insn::NopTable;
use pvops::plan::alternatives::Patcher;
use pvops::plan::paravirt::{self, Inline, NoRoom, Null, Pointer, Slot, Switch};
use pvops::plan::smp_locks::Cpus;
use pvops::plan::{Boot, Landmarks, LoadedCode, Paravirt, Rules, Run};
use pvops::sites::paravirt::Layout;
use pvops::sites::{AddressTable, Alternative, AlternativeTable, ParavirtTable, Site, Tables, alternatives};
use pvops::{ErrorKind, Result};
use serde_json::Value;

fn lines() -> Vec<Value> {
    let Some(root) = std::env::var_os("PVOPS_KERNELS") else {
        assert!(std::env::var_os("PVOPS_REQUIRE_KERNELS").is_none(), "PVOPS_KERNELS is not set");
        eprintln!("skipped: PVOPS_KERNELS is not set");
        return Vec::new();
    };
    let Ok(files) = std::fs::read_dir(PathBuf::from(root).join("goldens")) else { return Vec::new() };
    let mut lines = Vec::new();
    for file in files.map(|f| f.expect("a directory is read").path()) {
        if !file.to_string_lossy().ends_with(".jsonl.xz") {
            continue;
        }
        let packed = std::fs::read(file).expect("read");
        let mut text = String::new();
        liblzma::read::XzDecoder::new(&packed[..]).read_to_string(&mut text).expect("xz");
        let wanted =
            |l: &&str| ["alternative", "smp-locks", "boot"].iter().any(|k| l.contains(&format!("\"{k}\",\"era\"")));
        lines.extend(text.lines().filter(wanted).map(|l| serde_json::from_str::<Value>(l).expect("JSON")));
    }
    lines
}

fn address(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().expect("a string").trim_start_matches("0x"), 16).expect("hex")
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("a string");
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

fn number(value: &Value) -> u32 {
    value.as_u64().expect("a number") as u32
}

/// A row as a golden has it, with its replacement and where that lies.
fn alternative(row: &Value, at: u64, replacement: &[u8]) -> Alternative {
    Alternative {
        address: address(&row["address"]),
        replacement: at,
        feature: number(&row["feature"]) as u16,
        inverted: false,
        direct_call: false,
        len: number(&row["len"]) as u8,
        replacement_len: replacement.len() as u8,
        pad: 0,
    }
}

/// The parts of a line that all kinds have.
struct Case<'a> {
    line: &'a Value,
    rules: &'static Rules,
    bits: Bits,
    nops: &'static NopTable,
}

impl Case<'_> {
    fn new(line: &Value) -> Case<'_> {
        let era = line["era"].as_str().expect("an era");
        let rules = Rules::by_name(era).expect("rules");
        let bits = if number(&line["bits"]) == 32 { Bits::B32 } else { Bits::B64 };
        let nops = NopTable::by_name(line["cpu_nops"].as_str().expect("a name")).expect("a table");
        Case { line, rules, bits, nops }
    }

    fn alternative(&self) -> Result<Vec<u8>> {
        let line = self.line;
        let replacement = bytes(&line["replacement"]);
        let row = alternative(line, address(&line["replacement_address"]), &replacement);
        let patcher = Patcher { rules: self.rules.alternatives, bits: self.bits, nops: self.nops };
        let mut site = bytes(&line["before"]);
        if line["present"].as_bool().expect("a bool") {
            patcher.taken(&row, &replacement, None, &mut site)?;
        } else {
            patcher.untaken(&row, &mut site)?;
        }
        Ok(site)
    }

    fn text(&self) -> (u64, u64) {
        (address(&self.line["text"]), address(&self.line["text_end"]))
    }

    fn relock(&self, memory: &mut LoadedCode, lock: bool) -> Result<()> {
        for site in self.line["locks"].as_array().expect("a list").iter().map(address).filter(|&site| site != 0) {
            if let Ok(byte) = self.rules.smp_locks.patch(site, self.text(), memory, lock) {
                memory.poke(site, &[byte])?;
            }
        }
        Ok(())
    }

    fn smp_locks(&self) -> Result<Vec<u8>> {
        let (start, before) = (address(&self.line["address"]), bytes(&self.line["before"]));
        let mut memory = LoadedCode::new(self.bits, [(start, &before[..])]);
        // alternatives_smp_unlock() heeds noreplace-smp, alternatives_smp_lock() leaves that to its caller.
        let lock = self.line["mode"] == "lock";
        if lock || !self.line["noreplace_smp"].as_bool().expect("a bool") {
            self.relock(&mut memory, lock)?;
        }
        Ok(memory.from(start).to_vec())
    }

    fn boot(&self) -> Result<Vec<u8>> {
        let line = self.line;
        let (start, before) = (address(&line["address"]), bytes(&line["before"]));
        let list = |key: &str| line[key].as_array().expect("a list");
        let mut pool = Vec::new();
        let mut rows = Vec::new();
        for row in list("alternatives") {
            let replacement = bytes(&row["replacement"]);
            // These eras move nothing: where replacements lie does not matter.
            rows.push(alternative(row, 0x1000 + pool.len() as u64, &replacement));
            pool.extend(replacement);
        }
        pool.push(0);
        let patches = !line["noreplace_paravirt"].as_bool().expect("a bool");
        let sites = if patches { list("paravirt").as_slice() } else { &[] };
        let mut slots = Vec::new();
        let sites = sites.iter().map(|row| {
            slots.push(self.slot(row));
            Site {
                address: address(&row["address"]),
                offset: 0,
                section: 0,
                // One slot a site: the template is as long as the table.
                op_type: (slots.len() - 1) as u8,
                len: number(&row["len"]) as u8,
                clobbers: Some(number(&row["clobbers"]) as u16),
                branch: None,
                bare: false,
            }
        });
        let sites: Vec<Site> = sites.collect();
        let mut features = vec![0u32; 16];
        for feature in list("features") {
            let feature = number(feature);
            features[feature as usize / 32] |= 1 << (feature % 32);
        }
        let cpus = Cpus {
            possible: number(&line["possible_cpus"]),
            present: number(&line["present_cpus"]),
            online: number(&line["online_cpus"]),
            allowed: number(&line["setup_max_cpus"]),
            hotplug: line["hotplug_cpu"].as_bool().expect("a bool"),
            noreplace: line["noreplace_smp"].as_bool().expect("a bool"),
        };
        let mut unlocked = self.rules.smp_locks.at_boot(&cpus)?;
        let tables = Tables {
            paravirt: Some(ParavirtTable { layout: Layout::of_2007(self.bits), sites }),
            alternatives: Some(AlternativeTable { layout: alternatives::Layout::of_2007(self.bits), rows }),
            smp_locks: AddressTable { section: String::new(), sites: list("locks").iter().map(address).collect() },
            ..Tables::default()
        };
        let clobbers = match (line["era"].as_str(), self.bits) {
            (Some("2.6.33"), Bits::B32) => 0xf,
            (Some("2.6.33"), Bits::B64) => 0x1ff,
            _ => 7,
        };
        let rules = paravirt::TemplateRules {
            bits: self.bits,
            nops: self.nops,
            call_clobbers: Some(clobbers),
            null: Null::Ud2,
            no_room: NoRoom::Keep,
        };
        let boot = Boot {
            features,
            uniprocessor: unlocked,
            nops: self.nops,
            paravirt: Some(Paravirt { template: slots, rules }),
            ..Boot::default()
        };
        let marks = Landmarks { text: self.text(), ..Landmarks::default() };
        let memory = LoadedCode::new(self.bits, [(start, &before[..]), (0x1000, &pool[..])]);
        let (_, mut memory) = Run::new(memory, &tables, &marks, &boot, self.rules, &|_, _| None).all()?;
        for then in list("then") {
            let smp = then == "smp";
            if let Some(lock) = self.rules.smp_locks.switch(&cpus, unlocked, smp)? {
                self.relock(&mut memory, lock)?;
                unlocked = !lock;
            }
        }
        Ok(memory.from(start).to_vec())
    }

    fn slot(&self, row: &Value) -> Slot {
        let op = row["op"].as_str().expect("an op");
        let (structure, op) = op.split_once('.').expect("structure.op");
        let configured = |name: &str| self.line["config"].as_array().expect("a list").iter().any(|c| c == name);
        let unseen = structure == "pv_lock_ops" && !configured("PARAVIRT_SPINLOCKS");
        let pointer = match row["pointer"].as_str() {
            _ if unseen => Pointer::Null,
            Some("null") => Pointer::Null,
            Some("nop") => Pointer::Nop,
            Some("ident32") => Pointer::Ident32,
            Some("ident64") => Pointer::Ident64,
            _ => Pointer::Function(address(&row["target"])),
        };
        let native = self.line["backend"] == "native";
        let code = native.then(|| inlined(self.bits, op)).flatten();
        let switch = code.map_or(Switch::Default, |code| {
            Switch::Inline(Inline { code: code.into(), only_while: None, no_room: NoRoom::Keep, relocation: None })
        });
        let jump = matches!(op, "iret" | "irq_enable_sysexit" | "usergs_sysret32" | "usergs_sysret64");
        Slot { pointer, jump, switch }
    }
}

/// `native_patch()` of 2.6.24 and 2.6.33.
fn inlined(bits: Bits, op: &str) -> Option<&'static [u8]> {
    let wide = bits == Bits::B64;
    Some(match op {
        "irq_disable" => b"\xfa",
        "irq_enable" => b"\xfb",
        "save_fl" => b"\x9c\x58",
        "restore_fl" => {
            if wide {
                b"\x57\x9d"
            } else {
                b"\x50\x9d"
            }
        }
        "iret" => {
            if wide {
                b"\x48\xcf"
            } else {
                b"\xcf"
            }
        }
        "irq_enable_sysexit" => {
            if wide {
                b"\x0f\x01\xf8\xfb\x0f\x35"
            } else {
                b"\xfb\x0f\x35"
            }
        }
        "usergs_sysret64" if wide => b"\x0f\x01\xf8\x48\x0f\x07",
        "usergs_sysret32" if wide => b"\x0f\x01\xf8\x0f\x07",
        "swapgs" if wide => b"\x0f\x01\xf8",
        "read_cr2" => b"\x0f\x20\xd0",
        "read_cr3" => b"\x0f\x20\xd8",
        "write_cr3" => {
            if wide {
                b"\x0f\x22\xdf"
            } else {
                b"\x0f\x22\xd8"
            }
        }
        "clts" => b"\x0f\x06",
        "read_tsc" if !wide => b"\x0f\x31",
        "wbinvd" if wide => b"\x0f\x09",
        "flush_tlb_single" if wide => b"\x0f\x01\x3f",
        _ => return None,
    })
}

#[test]
fn the_code_of_2007_and_2010_did_the_same() {
    let mut counts = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in lines() {
        let case = Case::new(&line);
        let kind = line["kind"].as_str().expect("a kind").to_owned();
        let outcome = match kind.as_str() {
            "alternative" => case.alternative(),
            "smp-locks" => case.smp_locks(),
            _ => case.boot(),
        };
        let right = match &outcome {
            Ok(after) => line["after"] != "BUG" && *after == bytes(&line["after"]),
            Err(error) => line["after"] == "BUG" && error.kind == ErrorKind::Bug,
        };
        *counts.entry(kind).or_insert(0) += 1;
        if !right {
            wrong.push((line, outcome));
        }
    }
    eprintln!("compared: {counts:?}");
    for (line, outcome) in wrong.iter().take(5) {
        eprintln!("{line}\n  ours: {:02x?}", outcome);
    }
    assert!(wrong.is_empty(), "{} lines disagree", wrong.len());
}
