//! The legal form that unexplained bytes are nearest to.

use super::site_map::{Cluster, SiteMap};
use super::state::{Branches, State, Target};
use super::visit::Kind;

/// The legal form these bytes have, though most sites vote against it; else the one they are nearest to.
pub(super) fn nearest(map: &SiteMap<'_>, state: &State, cluster: &Cluster, found: &[u8]) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    let mut form = Vec::new();
    let mut offer = |other: &State, words: &dyn Fn() -> String| {
        map.form(cluster, other, &mut form);
        let distance = form.iter().zip(found).filter(|(a, b)| a != b).count();
        if best.as_ref().is_none_or(|(least, _)| distance < *least) {
            best = Some((distance, words()));
        }
    };
    offer(state, &|| "the form it should have".to_owned());
    let mut other = state.clone();
    for visit in map.visits(cluster) {
        match visit.kind {
            Kind::Lock(_) => {
                other.uniprocessor = !state.uniprocessor;
                offer(&other, &|| format!("the form for {}", if state.uniprocessor { "more CPUs" } else { "one CPU" }));
            }
            Kind::Jump { key, .. } => {
                other.keys[usize::from(key)] = !state.keys[usize::from(key)];
                let now = if state.keys[usize::from(key)] { "off" } else { "on" };
                offer(&other, &|| format!("the form where its key is {now}"));
            }
            Kind::Mcount(_) => {
                other.untraced = !state.untraced;
                offer(&other, &|| "the call of the tracer, as built".to_owned());
            }
            Kind::Endbr(_) => {
                other.sealed = !state.sealed;
                offer(&other, &|| "the endbr, as built".to_owned());
            }
            Kind::Alternatives { first, count } => {
                let Some(table) = &map.tables.alternatives else { continue };
                for row in &table.rows[first as usize..first as usize + usize::from(count)] {
                    other.set(row.feature, !state.has(row.feature));
                    let with = if state.has(row.feature) { "without" } else { "with" };
                    let (word, bit) = (row.feature / 32, row.feature % 32);
                    offer(&other, &|| format!("the form {with} feature {word}*32+{bit}"));
                    other.set(row.feature, state.has(row.feature));
                }
            }
            Kind::Return(_) => {
                other.return_thunk = if state.return_thunk.is_some() { None } else { map.landmarks.return_thunk };
                offer(&other, &|| "the form with another return thunk, or none".to_owned());
            }
            Kind::Retpoline(_) => {
                for mode in Branches::ALL {
                    other.branches = mode;
                    offer(&other, &|| format!("the form with {}", mode.name()));
                }
            }
            Kind::Call { key, .. } | Kind::Trampoline { key: Some(key), .. } => {
                other.calls[usize::from(key)] = Target::Updated(0);
                offer(&other, &|| "the form of a static call without target".to_owned());
            }
            _ => {}
        }
        other.clone_from(state);
    }
    best.filter(|(distance, _)| *distance < found.len()).map(|(distance, words)| match distance {
        0 => format!("{words}, which other sites speak against"),
        1 => format!("one byte off {words}"),
        n => format!("{n} bytes off {words}"),
    })
}
