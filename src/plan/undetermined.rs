//! The bytes of a plan that nothing settles: those its passes marked, and those that depend on features the machine does not
//! tell, where a second plan takes each such feature the other way.

use std::sync::Arc;

use super::affected::{affected, closed};
use super::boot::run;
use super::differences::{Difference, differences};
use super::landmarks::Landmarks;
use super::machine::Boot;
use super::passes::Pass;
use super::rules::Rules;
use super::stretches::Stretches;
use super::writes::Plan;
use crate::error::Result;
use crate::image::Image;
use crate::sites::Tables;

/// The same boot with what the machine does not tell taken the other way.
#[derive(Debug, Clone)]
pub struct Otherwise {
    plan: Plan,
    /// What it may write otherwise; the plan has no more than that. Anything where there are none.
    within: Option<Arc<Stretches>>,
    /// Numbers of the features that the machine does not tell.
    unknown: Vec<u16>,
}

impl Otherwise {
    /// By the plan of it, and the numbers of the features that the machine does not tell.
    pub fn of(plan: Plan, unknown: Vec<u16>) -> Otherwise {
        Otherwise { plan, within: None, unknown }
    }

    /// The boot `other` of an image, where `boot` is the one as told, of which the plan is. Rows that cannot come out otherwise
    /// are not run, nor those elsewhere where the plan is of some places.
    pub fn boot(
        image: &Image,
        tables: &Tables,
        plan: &Plan,
        boot: &Boot,
        other: &Boot,
        rules: &Rules,
        unknown: Vec<u16>,
    ) -> Result<Otherwise> {
        let landmarks = Landmarks::of(image)?;
        let within = match &plan.within {
            Some(within) => closed(tables, &landmarks, other, within.ranges().to_vec()),
            None => affected(tables, &landmarks, boot, other),
        };
        let within = within.map(Arc::new);
        let other = run(image, tables, &landmarks, other, rules, within.clone())?;
        Ok(match (within, &plan.within) {
            (None, Some(part)) => Otherwise { plan: other.part(part), within: Some(part.clone()), unknown },
            (within, _) => Otherwise { plan: other, within, unknown },
        })
    }
}

/// Bytes that are a first guess.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undetermined {
    /// Where, as linked.
    pub address: u64,
    /// How many.
    pub len: u64,
    /// The pass that wrote the guess.
    pub pass: Pass,
    /// Its row; none where it is the other plan that has it.
    pub row: Option<u32>,
    forms: Forms,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Forms {
    /// Those of a guess of the plan, by its number.
    Marked(usize),
    /// As planned, and as otherwise planned; with several features at one place it may hold what neither all of them nor
    /// none make of it.
    Features { planned: Vec<u8>, otherwise: Vec<u8>, several: bool },
}

/// What of a plan is a first guess, by address.
pub fn undetermined(image: &Image, tables: &Tables, plan: &Plan, otherwise: Option<&Otherwise>) -> Vec<Undetermined> {
    let marked = plan.guesses().iter().enumerate().map(|(number, guess)| Undetermined {
        address: guess.address,
        len: guess.len.into(),
        pass: guess.pass,
        row: Some(guess.row),
        forms: Forms::Marked(number),
    });
    let mut found: Vec<Undetermined> = marked.collect();
    if let Some(Otherwise { plan: other, within, unknown }) = otherwise {
        let part = within.as_ref().map(|within| plan.part(within));
        let planned = part.as_ref().unwrap_or(plan);
        let places = differences(image, planned, other);
        let rows = last_rows(planned, &places);
        let asking = asking(tables, unknown);
        for (place, row) in places.into_iter().zip(rows).filter(|(place, _)| !is_marked(plan, place)) {
            found.push(of_features(place, row, &asking));
        }
        found.sort_by_key(|bytes| bytes.address);
    }
    found
}

/// Whether the plan has these very bytes as a guess already.
fn is_marked(plan: &Plan, place: &Difference) -> bool {
    let guesses = plan.guesses();
    let from = guesses.partition_point(|guess| guess.address < place.address);
    let mut here = guesses[from..].iter().take_while(|guess| guess.address == place.address);
    here.any(|guess| usize::from(guess.len) == place.built.len())
}

/// The sites that ask for these features, by address: (address, length, feature).
fn asking(tables: &Tables, features: &[u16]) -> Vec<(u64, u8, u16)> {
    let rows = tables.alternatives.iter().flat_map(|table| &table.rows);
    let asking = rows.filter(|row| features.contains(&row.feature)).map(|row| (row.address, row.len, row.feature));
    let mut asking: Vec<_> = asking.collect();
    asking.sort_unstable();
    asking
}

fn of_features(place: Difference, row: Option<(Pass, u32)>, asking: &[(u64, u8, u16)]) -> Undetermined {
    let (low, high) = (place.address, place.end());
    let from = asking.partition_point(|site| site.0 + u64::from(u8::MAX) < low);
    let here = asking[from..].iter().take_while(|site| site.0 < high);
    let mut features = here.filter(|site| site.0 + u64::from(site.1) > low).map(|site| site.2);
    let first = features.next();
    let several = features.any(|feature| Some(feature) != first);
    let forms = Forms::Features { planned: place.a.bytes, otherwise: place.b.bytes, several };
    let (pass, row) = row.map_or((Pass::Alternatives, None), |(pass, row)| (pass, Some(row)));
    Undetermined { address: low, len: high - low, pass, row, forms }
}

/// The row that each place belongs to: of the writes that begin before its end the last by address; none where that one
/// ends before the place.
fn last_rows(plan: &Plan, places: &[Difference]) -> Vec<Option<(Pass, u32)>> {
    let mut last: Vec<Option<Last<'_>>> = vec![None; places.len()];
    let stretches = Stretches::of(places.iter().map(|place| (place.address, place.end())).collect());
    for write in plan.writes().iter().filter(|write| !plan.bytes(write).is_empty()) {
        let place = stretches.behind(write.address);
        let end = write.address + plan.bytes(write).len() as u64;
        let row = Last { address: write.address, end, name: write.pass.name(), row: write.row, pass: write.pass };
        if let Some(held) = last.get_mut(place)
            && held.is_none_or(|held| held.key() < row.key())
        {
            *held = Some(row);
        }
    }
    let mut best: Option<Last<'_>> = None;
    let mut rows = Vec::with_capacity(places.len());
    for (place, found) in places.iter().zip(last) {
        best = found.or(best);
        rows.push(best.filter(|row| row.end > place.address).map(|row| (row.pass, row.row)));
    }
    rows
}

/// A write on trial for being the last of a place.
#[derive(Clone, Copy)]
struct Last<'a> {
    address: u64,
    end: u64,
    name: &'a str,
    row: u32,
    pass: Pass,
}

impl Last<'_> {
    fn key(&self) -> (u64, u64, &str, u32) {
        (self.address, self.end, self.name, self.row)
    }
}

impl Undetermined {
    /// Where they end.
    pub fn end(&self) -> u64 {
        self.address + self.len
    }

    /// What they may be, in hex, `??` where a byte may be any; `plan` is that whose bytes they are.
    pub fn forms(&self, plan: &Plan) -> Vec<String> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        match &self.forms {
            Forms::Marked(number) => plan.guesses().get(*number).map_or_else(Vec::new, |guess| plan.patterns(guess)),
            Forms::Features { planned, otherwise, several } => {
                let any = several.then(|| "??".repeat(planned.len()));
                [hex(planned), hex(otherwise)].into_iter().chain(any).collect()
            }
        }
    }
}
