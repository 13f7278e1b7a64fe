//! One memory after another: each has the report that it would have alone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod elfwriter;
mod verify_support;

use std::sync::Arc;

use pvops::plan::KernelCode;
use pvops::plan::Rules;
use pvops::verify::{Known, Report, Verifier, View};
use verify_support::{TEXT, info, made};

const ERA: &str = "6.1";

/// Everything that a report says.
fn all(report: &Report) -> String {
    format!("{report:?}")
}

#[test]
fn every_memory_has_the_report_that_it_has_alone() {
    let made = made();
    let clean = made.booted(ERA);
    let code = KernelCode::lent(&made.image, None);
    let rules = Rules::by_name(ERA).unwrap();
    let verifier = Verifier::new(&made.image, &made.tables, rules, info(), code).expect("a verifier");
    let (start, end) = verifier.text();
    let known = Known { uniprocessor: Some(true), ..Known::default() };
    let gap = start..start + 4;
    // Clean before and behind each: what was kept of a clean one must be of no other.
    for at in (0..clean.len()).step_by(7) {
        let mut changed = clean.clone();
        changed[at] ^= 1;
        for (memory, known, unread) in [
            (&clean, &Known::default(), &[][..]),
            (&changed, &Known::default(), &[]),
            (&clean, &Known::default(), std::slice::from_ref(&gap)),
            (&clean, &known, &[]),
        ] {
            let view = View::new((start, end), memory, unread).expect("a view");
            let alone = all(&verifier.verify(&view, known));
            assert_eq!(all(&verifier.verify_again(&view, known)), alone, "{at:#x}");
            assert_eq!(
                all(&made.verifier(ERA, info()).expect("a verifier").verify_on(&view, known, 1)),
                alone,
                "{at:#x}"
            );
        }
    }
    assert_eq!(start, TEXT);
}

#[test]
fn clean_memory_is_not_judged_twice() {
    let made = made();
    let clean = made.booted(ERA);
    let verifier = made.verifier(ERA, info()).expect("a verifier");
    let view = View::new(verifier.text(), &clean, &[]).expect("a view");
    let first = verifier.verify_again(&view, &Known::default());
    assert!(first.unexplained.is_empty());
    assert!(Arc::ptr_eq(&first, &verifier.verify_again(&view, &Known::default())));
    let mut changed = clean.clone();
    changed[0] ^= 1;
    let other = View::new(verifier.text(), &changed, &[]).expect("a view");
    assert!(!Arc::ptr_eq(&first, &verifier.verify_again(&other, &Known::default())));
}
