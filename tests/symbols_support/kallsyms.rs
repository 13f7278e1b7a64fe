//! Encodes kallsyms tables in every layout the kernel has had (scripts/kallsyms.c).

/// Symbols to encode, sorted by address: type letter and name in one, as kallsyms.c has them.
pub type List = Vec<(u64, String)>;

/// How addresses are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    Absolute,
    Relative,
    RelativePercpu,
    Place,
}

/// A layout.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub word: usize,
    pub addresses: Addresses,
    /// Addresses follow the token index (since 6.4).
    pub after: bool,
    /// Ranks by name are there (since 6.2).
    pub seqs: bool,
    /// Markers are as wide as a word (before 4.20).
    pub wide_markers: bool,
}

/// The layouts of 2.6, 4.6, 5.10, 6.1 stable, 6.12 and 7.0, for this word.
pub fn layouts(word: usize) -> Vec<Layout> {
    use Addresses::*;
    let layout = |addresses, after, seqs, wide_markers| Layout { word, addresses, after, seqs, wide_markers };
    vec![
        layout(Absolute, false, false, true),
        layout(Absolute, false, false, false),
        layout(Relative, false, false, true),
        layout(Relative, false, false, false),
        layout(RelativePercpu, false, false, false),
        layout(Relative, false, true, false),
        layout(RelativePercpu, false, true, false),
        layout(Relative, true, true, false),
        layout(RelativePercpu, true, true, false),
        layout(Place, true, true, false),
    ]
}

/// Tables like the kernel's, at `address`, after `lead` bytes of something else; and where each table starts.
pub fn encode(list: &List, layout: Layout, address: u64, lead: &[u8]) -> (Vec<u8>, Vec<(&'static str, usize)>) {
    let Layout { word, .. } = layout;
    let (mut out, mut places) = (lead.to_vec(), Vec::new());
    fn align(out: &mut Vec<u8>, address: u64, word: usize) {
        while !(address as usize + out.len()).is_multiple_of(word) {
            out.push(0);
        }
    }
    let mut begin = |out: &mut Vec<u8>, name: &'static str| {
        align(out, address, word);
        places.push((name, out.len()));
    };
    let (tokens, names): (Vec<String>, Vec<Vec<u8>>) = compress(list);
    let put_word = |out: &mut Vec<u8>, value: u64| out.extend_from_slice(&value.to_le_bytes()[..word]);
    let base = list.iter().find(|s| !s.1.starts_with('A')).map_or(0, |s| s.0);
    let put_addresses = |out: &mut Vec<u8>, begin: &mut dyn FnMut(&mut Vec<u8>, &'static str)| {
        begin(out, "offsets");
        for (at, name) in list {
            let at = *at;
            let offset = match layout.addresses {
                Addresses::Absolute => {
                    put_word(out, at);
                    continue;
                }
                Addresses::Relative => at.wrapping_sub(base) as u32,
                Addresses::RelativePercpu if name.starts_with('A') => at as u32,
                Addresses::RelativePercpu => base.wrapping_sub(at).wrapping_sub(1) as u32,
                Addresses::Place => at.wrapping_sub(address.wrapping_add(out.len() as u64)) as u32,
            };
            out.extend_from_slice(&offset.to_le_bytes());
        }
        if matches!(layout.addresses, Addresses::Relative | Addresses::RelativePercpu) {
            begin(out, "relative_base");
            put_word(out, base);
        }
    };
    let mut ranks: Vec<usize> = (0..list.len()).collect();
    ranks.sort_by_key(|&i| &list[i].1[1..]);
    let put_seqs = |out: &mut Vec<u8>, begin: &mut dyn FnMut(&mut Vec<u8>, &'static str)| {
        begin(out, "seqs");
        ranks.iter().for_each(|&i| out.extend_from_slice(&(i as u32).to_be_bytes()[1..]));
    };

    if !layout.after {
        put_addresses(&mut out, &mut begin);
    }
    begin(&mut out, "num_syms");
    out.extend_from_slice(&(list.len() as u32).to_le_bytes());
    begin(&mut out, "names");
    let (start, mut markers) = (out.len(), Vec::new());
    for (i, name) in names.iter().enumerate() {
        if i % 256 == 0 {
            markers.push((out.len() - start) as u64);
        }
        if name.len() < 0x80 {
            out.push(name.len() as u8);
        } else {
            out.extend_from_slice(&[name.len() as u8 | 0x80, (name.len() >> 7) as u8]);
        }
        out.extend_from_slice(name);
    }
    begin(&mut out, "markers");
    for marker in markers {
        out.extend_from_slice(&marker.to_le_bytes()[..if layout.wide_markers { word } else { 4 }]);
    }
    if layout.seqs && !layout.after {
        put_seqs(&mut out, &mut begin);
    }
    begin(&mut out, "token_table");
    let mut index = Vec::new();
    let mut length = 0_u16;
    for token in &tokens {
        index.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(token.as_bytes());
        out.push(0);
        length += token.len() as u16 + 1;
    }
    begin(&mut out, "token_index");
    out.extend_from_slice(&index);
    if layout.after {
        put_addresses(&mut out, &mut begin);
    }
    if layout.seqs && layout.after {
        put_seqs(&mut out, &mut begin);
    }
    begin(&mut out, "end");
    (out, places)
}

/// 256 tokens (used characters stand for themselves, free numbers for frequent pairs) and the names in them.
fn compress(list: &List) -> (Vec<String>, Vec<Vec<u8>>) {
    let mut names: Vec<Vec<u8>> = list.iter().map(|s| s.1.clone().into_bytes()).collect();
    let mut tokens: Vec<String> = vec![String::new(); 256];
    names.iter().flatten().for_each(|&b| tokens[b as usize] = (b as char).to_string());
    let free: Vec<usize> = (0..256).filter(|&i| tokens[i].is_empty()).collect();
    // The kernel fills all of them; fewer keep the tests quick, and leave empty ones to read.
    for new in free.into_iter().step_by(3).take(32) {
        let mut counts = std::collections::BTreeMap::new();
        names
            .iter()
            .step_by(names.len() / 200 + 1)
            .for_each(|n| n.windows(2).for_each(|w| *counts.entry([w[0], w[1]]).or_insert(0) += 1));
        let Some((&pair, _)) = counts.iter().filter(|c| *c.1 > 1).max_by_key(|c| (*c.1, *c.0)) else { break };
        tokens[new] = format!("{}{}", tokens[pair[0] as usize], tokens[pair[1] as usize]);
        for name in &mut names {
            let mut out = Vec::with_capacity(name.len());
            let mut i = 0;
            while i < name.len() {
                let hit = i + 1 < name.len() && [name[i], name[i + 1]] == pair;
                out.push(if hit { new as u8 } else { name[i] });
                i += if hit { 2 } else { 1 };
            }
            *name = out;
        }
    }
    (tokens, names)
}
