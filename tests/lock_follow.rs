//! Runs of something else, taken in the checker's model: what is a run of it, and what is refused.

#![allow(clippy::expect_used)]

use pvops::lock::check::{DRAIN, Followed, Machine, Mutant, Protocol, Setting, Taken, Violation, follow};

fn ticket() -> Machine {
    let setting = Setting::sound(1);
    Machine::new(Protocol::Ticket2_6_25.program(&setting).expect("a program"), 2, None).expect("a machine")
}

fn run(steps: &[(usize, &str, u8, u8)]) -> Vec<Taken> {
    let taken = |&(thread, text, tail, head): &(usize, &str, u8, u8)| Taken {
        thread,
        text: text.to_owned(),
        memory: vec![("tail".to_owned(), tail), ("head".to_owned(), head)],
    };
    steps.iter().map(taken).collect()
}

const CONTENDED: &[(usize, &str, u8, u8)] = &[
    (0, "my = xadd(tail, 1)", 0, 0),
    (1, "my = xadd(tail, 1)", 1, 0),
    (0, "head == my?", 2, 0),
    (1, "head == my?", 2, 0),
    (0, "head = my + 1", 2, 0),
    (1, "head == my?", 2, 1),
];

#[test]
fn a_run_of_the_model_is_taken_and_breaks_nothing() {
    let followed = follow(&ticket(), &run(CONTENDED), false).expect("a run");
    assert_eq!(followed.broken, None);
    // Memory is known to the bits that the model has.
    let higher: Vec<_> = CONTENDED.iter().map(|&(t, text, tail, head)| (t, text, tail + 8, head + 16)).collect();
    assert_eq!(follow(&ticket(), &run(&higher), false), Ok(followed));
}

#[test]
fn what_the_model_does_not_do_is_refused_with_its_row() {
    let mut out_of_turn = CONTENDED.to_vec();
    out_of_turn[4] = (1, "head = my + 1", 2, 0);
    let error = follow(&ticket(), &run(&out_of_turn), false).expect_err("T1 has not its turn").to_string();
    assert!(error.contains("row 4") && error.contains("stands before \"head == my?\""), "{error}");
    let mut other_memory = CONTENDED.to_vec();
    other_memory[5] = (1, "head == my?", 2, 0);
    let error = follow(&ticket(), &run(&other_memory), false).expect_err("the head is 1").to_string();
    assert!(error.contains("row 5") && error.contains("head is 0 before T1 takes"), "{error}");
    assert!(follow(&ticket(), &run(&[(2, "my = xadd(tail, 1)", 0, 0)]), false).is_err());
    assert!(follow(&ticket(), &run(&[(0, "nothing of the kind", 0, 0)]), false).is_err());
}

#[test]
fn a_run_that_leaves_someone_waiting_for_ever_says_so() {
    let setting = Setting { mutant: Some(Mutant::NoLookAfterPublish), ..Setting::sound(1) };
    let program = Protocol::PvTicket4_0.program(&setting).expect("a program");
    let machine = Machine::new(program, 2, None).expect("a machine");
    let line = |thread: usize, text: &str| Taken { thread, text: text.to_owned(), memory: Vec::new() };
    let lines = [
        (0, "my = xadd(tail, 1)"),
        (1, "my = xadd(tail, 1)"),
        (0, "head == my?"),
        (1, "head == my?"),
        (1, "w.lock = NULL"),
        (1, "w.want = my"),
        (1, "w.lock = lock"),
        (0, "head & SLOWPATH? = xadd(head, 1)"),
        (1, "set the slowpath flag"),
    ];
    let run: Vec<Taken> = lines.into_iter().map(|(thread, text)| line(thread, text)).collect();
    let followed = follow(&machine, &run, false).expect("a run");
    assert!(matches!(followed, Followed { broken: Some(Violation::Stuck), .. }), "{followed:?}");
}

#[test]
fn a_run_with_store_buffers_tells_when_they_drain() {
    let line = |&(thread, text, head): &(usize, &str, u8)| Taken {
        thread,
        text: text.to_owned(),
        memory: vec![("head".to_owned(), head)],
    };
    let lines = |rows: &[(usize, &str, u8)]| rows.iter().map(line).collect::<Vec<_>>();
    let released = [
        (0, "my = xadd(tail, 1)", 0),
        (1, "my = xadd(tail, 1)", 0),
        (0, "head == my?", 0),
        (0, "head = my + 1", 0),
        (1, "head == my?", 0),
        (0, DRAIN, 0),
        (1, "head == my?", 1),
        (1, "head = my + 1", 1),
    ];
    let followed = follow(&ticket(), &lines(&released), true).expect("a run");
    assert_eq!(followed.broken, None);
    let error = follow(&ticket(), &lines(&released), false).expect_err("the store drains at once").to_string();
    assert!(error.contains("row 4") && error.contains("head is 0 before T1"), "{error}");
    let early = [released[0], (0, DRAIN, 0)];
    let error = follow(&ticket(), &lines(&early), true).expect_err("nothing is stored").to_string();
    assert!(error.contains("row 1") && error.contains("none is buffered"), "{error}");
    // A locked instruction waits until the buffer is empty.
    let held = [released[0], released[2], released[3], (0, "my = xadd(tail, 1)", 0)];
    assert!(follow(&ticket(), &lines(&held), true).is_err());
}
