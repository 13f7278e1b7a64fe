//! The rules as data: each choice by name, with its value as a word. What is given from outside is checked here.

use super::rules::{Fill, Nop5, Nops, Order, Relocate, Rules, SameSite, Stage, Untaken, Zero};
use crate::error::{Error, Result};

/// A value that has a word.
trait Value: Sized + Copy {
    /// The word.
    fn word(self) -> String;
    /// The value of a word, or what words there are.
    fn of(word: &str) -> std::result::Result<Self, String>;
}

macro_rules! words {
    ($($kind:ident { $($value:ident = $word:literal),+ $(,)? })+) => {$(
        impl Value for $kind {
            fn word(self) -> String {
                match self { $($kind::$value => $word,)+ }.to_owned()
            }

            fn of(word: &str) -> std::result::Result<Self, String> {
                match word { $($word => Ok($kind::$value),)+ _ => Err([$($word),+].join(", ")) }
            }
        }
    )+};
}

words! {
    Relocate { Nothing = "nothing", Call = "call", First = "first", Every = "every" }
    Fill { Nops = "nops", Ones = "ones" }
    Untaken { Leave = "leave", Pad = "pad", PadUnseen = "pad unseen", Optimise = "optimise" }
    SameSite { Each = "each", Longest = "longest", Once = "once" }
    Nops { Runs = "runs", MergeJumps = "merge-jumps", Merge = "merge", MergeAll = "merge-all" }
    Nop5 { Nopl = "nopl", Width = "width", Cpu = "cpu" }
    Zero { Call = "call", Data16 = "data16", Cs = "cs" }
    Stage {
        Unlisted = "unlisted", JumpLabels = "jump_labels", StaticCalls = "static_calls", Ftrace = "ftrace",
        Constants = "constants", Paravirt = "paravirt", Cfi = "cfi", Retpolines = "retpolines", Returns = "returns",
        Alternatives = "alternatives", CallThunks = "callthunks", Ibt = "ibt", SmpLocks = "smp_locks",
        StaticCallsAgain = "static_calls_again", Updates = "updates",
    }
}

impl Value for bool {
    fn word(self) -> String {
        if self { "yes" } else { "no" }.to_owned()
    }

    fn of(word: &str) -> std::result::Result<bool, String> {
        match word {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err("yes, no".to_owned()),
        }
    }
}

impl Value for Order {
    fn word(self) -> String {
        self.iter().map(|stage| stage.word()).collect::<Vec<_>>().join(",")
    }

    fn of(word: &str) -> std::result::Result<Order, String> {
        let stages: Vec<Stage> = word.split(',').map(Stage::of).collect::<std::result::Result<_, _>>()?;
        let order = Order::of(&stages);
        if order.len() == stages.len() { Ok(order) } else { Err(format!("at most {} steps", order.len())) }
    }
}

/// Bytes, in hex.
impl<const N: usize> Value for [u8; N] {
    fn word(self) -> String {
        self.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn of(word: &str) -> std::result::Result<[u8; N], String> {
        let expected = || format!("{N} bytes in hex");
        let mut bytes = [0; N];
        if word.len() != 2 * N || !word.is_ascii() {
            return Err(expected());
        }
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&word[2 * i..2 * i + 2], 16).map_err(|_| expected())?;
        }
        Ok(bytes)
    }
}

impl Value for u64 {
    fn word(self) -> String {
        format!("{self:#x}")
    }

    fn of(word: &str) -> std::result::Result<u64, String> {
        let digits = word.strip_prefix("0x");
        digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(|| "a number as 0x1000".to_owned())
    }
}

/// Goes through every choice: gives its word, and sets it where the visitor has another.
struct Visit<'a> {
    seen: Vec<(&'static str, String)>,
    set: Option<(&'a str, &'a str)>,
    wrong: Option<String>,
}

impl Visit<'_> {
    fn choice<V: Value>(&mut self, name: &'static str, value: &mut V) {
        if let Some((_, word)) = self.set.filter(|(wanted, _)| *wanted == name) {
            self.set = None;
            match V::of(word) {
                Ok(wanted) => *value = wanted,
                Err(there_are) => self.wrong = Some(format!("{name} cannot be {word:?}; there are {there_are}")),
            }
        }
        self.seen.push((name, value.word()));
    }
}

impl Rules {
    fn visit(&mut self, visit: &mut Visit<'_>) {
        visit.choice("order", &mut self.order);
        visit.choice("relocate", &mut self.alternatives.relocate);
        visit.choice("fill", &mut self.alternatives.fill);
        visit.choice("untaken", &mut self.alternatives.untaken);
        visit.choice("same_site", &mut self.alternatives.same_site);
        visit.choice("nops", &mut self.alternatives.nops);
        visit.choice("retpoline_int3", &mut self.retpolines.int3);
        visit.choice("retpoline_cs", &mut self.retpolines.cs);
        visit.choice("its_stride", &mut self.retpolines.its_stride);
        visit.choice("static_zero", &mut self.static_calls.zero);
        visit.choice("static_short_ret", &mut self.static_calls.short_ret);
        visit.choice("static_warn", &mut self.static_calls.warn);
        visit.choice("static_unlock", &mut self.static_calls.unlock);
        visit.choice("static_again", &mut self.static_calls.again);
        visit.choice("static_checked", &mut self.static_calls.checked);
        let mut unlocked = [self.smp_locks.unlocked];
        visit.choice("unlocked", &mut unlocked);
        [self.smp_locks.unlocked] = unlocked;
        visit.choice("unlock_looks", &mut self.smp_locks.looks);
        visit.choice("unlock_remembers", &mut self.smp_locks.remembers);
        visit.choice("endbr_poison", &mut self.endbr_poison);
        visit.choice("jump_label_nops", &mut self.jump_label_nops);
        visit.choice("nop5", &mut self.nop5);
        visit.choice("seals_hashes", &mut self.seals_hashes);
        visit.choice("far_preambles", &mut self.far_preambles);
        visit.choice("kcfi_udb", &mut self.kcfi_udb);
        visit.choice("count_alternatives", &mut self.count_alternatives);
        visit.choice("boosts_groups", &mut self.boosts_groups);
        visit.choice("enters_by_jump", &mut self.enters_by_jump);
    }

    /// Every choice by name, with its word.
    pub fn choices(&self) -> Vec<(&'static str, String)> {
        let mut visit = Visit { seen: Vec::new(), set: None, wrong: None };
        // What is set is a copy.
        let mut copy = *self;
        copy.visit(&mut visit);
        visit.seen
    }

    /// The same rules, but for one choice.
    pub fn with(mut self, choice: &str, word: &str) -> Result<Rules> {
        let mut visit = Visit { seen: Vec::new(), set: Some((choice, word)), wrong: None };
        self.visit(&mut visit);
        if let Some(wrong) = visit.wrong {
            return Err(Error::ops(wrong));
        }
        if visit.set.is_some() {
            let known: Vec<_> = visit.seen.iter().map(|(name, _)| *name).collect();
            return Err(Error::ops(format!("no choice {choice:?}; there are {}", known.join(", "))));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::ERAS;

    #[test]
    fn every_choice_of_every_era_reads_back_as_itself() {
        for rules in &ERAS {
            for (name, word) in rules.choices() {
                assert_eq!(rules.with(name, &word).as_ref(), Ok(rules), "{name} = {word}");
            }
        }
    }

    #[test]
    fn what_is_no_choice_is_named_with_what_there_is() {
        let rules = ERAS[0];
        let error = |name: &str, word: &str| rules.with(name, word).expect_err("no choice").to_string();
        assert_eq!(error("fill", "zeros"), "fill cannot be \"zeros\"; there are nops, ones");
        assert_eq!(error("endbr_poison", "66"), "endbr_poison cannot be \"66\"; there are 4 bytes in hex");
        assert!(error("filling", "nops").starts_with("no choice \"filling\"; there are order, relocate, fill,"));
        let order = rules.with("order", "paravirt,cfi,alternatives").expect("known stages");
        assert_eq!(order.choices()[0], ("order", "paravirt,cfi,alternatives".to_owned()));
    }
}
