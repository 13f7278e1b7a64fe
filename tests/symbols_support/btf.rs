//! Encodes BTF (include/uapi/linux/btf.h).

/// A BTF section in the making. Each type returns its id.
pub struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder { types: Vec::new(), strings: vec![0], count: 0 }
    }
}

impl Builder {
    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        (self.strings.len() - name.len() - 1) as u32
    }

    /// Any type: name, kind, bit 31, vlen, size or type, the words after it.
    pub fn raw(&mut self, name: &str, kind: u32, flag: bool, count: u32, value: u32, rest: &[u32]) -> u32 {
        let name = self.name(name);
        let info = u32::from(flag) << 31 | kind << 24 | count;
        for word in [name, info, value].iter().chain(rest) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    pub fn int(&mut self, name: &str, size: u32) -> u32 {
        self.raw(name, 1, false, 0, size, &[size * 8])
    }

    pub fn pointer(&mut self, to: u32) -> u32 {
        self.raw("", 2, false, 0, to, &[])
    }

    pub fn array(&mut self, of: u32, count: u32) -> u32 {
        self.raw("", 3, false, 0, 0, &[of, 1, count])
    }

    pub fn typedef(&mut self, name: &str, of: u32) -> u32 {
        self.raw(name, 8, false, 0, of, &[])
    }

    pub fn qualifier(&mut self, kind: u32, of: u32) -> u32 {
        self.raw("", kind, false, 0, of, &[])
    }

    /// A structure (kind 4) or union (5); members are name, type, offset as encoded.
    pub fn composite(&mut self, kind: u32, name: &str, size: u32, flag: bool, members: &[(&str, u32, u32)]) -> u32 {
        let rest: Vec<u32> = members.iter().flat_map(|&(n, t, at)| [self.name(n), t, at]).collect();
        self.raw(name, kind, flag, members.len() as u32, size, &rest)
    }

    pub fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        self.composite(4, name, size, false, members)
    }

    /// What a function takes and returns: types, and names of parameters, which a pointer's prototype has none of.
    pub fn prototype(&mut self, returns: u32, parameters: &[(&str, u32)]) -> u32 {
        let rest: Vec<u32> = parameters.iter().flat_map(|&(name, of)| [self.name(name), of]).collect();
        self.raw("", 13, false, parameters.len() as u32, returns, &rest)
    }

    pub fn function(&mut self, name: &str, prototype: u32) -> u32 {
        self.raw(name, 12, false, 0, prototype, &[])
    }

    /// The section, with a layout section (since 7.1) where one is given.
    pub fn finish(&self, layout: Option<&[u8]>) -> Vec<u8> {
        let mut out = vec![0x9f, 0xeb, 1, 0];
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut header = vec![if layout.is_some() { 32 } else { 24 }, 0, types, types, strings];
        if let Some(layout) = layout {
            header.extend([types + strings, layout.len() as u32]);
        }
        header.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        out.extend_from_slice(&self.types);
        out.extend_from_slice(&self.strings);
        out.extend_from_slice(layout.unwrap_or_default());
        out
    }
}

/// A template like the one of 5.10: two structures of ops, a wrapper, a nested structure, and things without pointers.
pub fn template() -> Builder {
    let mut b = Builder::default();
    let int = b.int("int", 4);
    let void = b.pointer(0);
    let wrapper = b.structure("paravirt_callee_save", 8, &[("func", void, 0)]);
    let lazy = b.structure("pv_lazy_ops", 24, &[("enter", void, 0), ("leave", void, 64), ("flush", void, 128)]);
    let constant = b.qualifier(10, void);
    let named = b.typedef("handler_t", constant);
    let cpu = b.structure("pv_cpu_ops", 24, &[("io_delay", named, 0), ("flags", int, 64), ("load", void, 128)]);
    let irq = b.structure("pv_irq_ops", 16, &[("save_fl", wrapper, 0), ("irq_disable", wrapper, 64)]);
    let array = b.array(void, 2);
    let anonymous = b.composite(5, "", 16, false, &[("a", void, 0), ("b", array, 0)]);
    let volatile = b.qualifier(9, lazy);
    b.structure(
        "paravirt_patch_template",
        80,
        &[("cpu", cpu, 0), ("irq", irq, 24 * 8), ("", anonymous, 40 * 8), ("lazy_mode", volatile, 56 * 8)],
    );
    b
}
