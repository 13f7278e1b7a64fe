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

/// Three waiters on one slot, T0 owns the lock and wakes.
fn parked(told: &[(usize, &str)]) -> Result<Followed, String> {
    let setting = Setting { slots: 1, ..Setting::sound(1) };
    let machine =
        Machine::new(Protocol::PvTicketSym.program(&setting).expect("a program"), 3, None).expect("a machine");
    let waits = ["published = fetch_or(slot(my), PARKED)", "the last look: head == my?"];
    let sleeps = "futex_wait(slot(my), published | PARKED)";
    let mut lines: Vec<(usize, &str)> = (0..3).map(|thread| (thread, "my = xadd(tail, 1)")).collect();
    lines.extend((0..3).map(|thread| (thread, "head == my?")));
    for thread in [1, 2] {
        lines.extend(waits.map(|text| (thread, text)));
        lines.push((thread, sleeps));
    }
    lines.extend([
        (0, "xchg(head, my + 1)"),
        (0, "is slot(my + 1) parked?"),
        (0, "found = cas(slot: clear PARKED, next epoch)"),
        (0, "futex_wake(slot, all)"),
    ]);
    lines.extend(told);
    let line = |(thread, text): (usize, &str)| Taken { thread, text: text.to_owned(), memory: Vec::new() };
    let run: Vec<Taken> = lines.into_iter().map(line).collect();
    follow(&machine, &run, false).map_err(|error| error.to_string())
}

#[test]
fn a_trace_may_tell_who_is_woken_one_after_the_other() {
    let (one, two) = ((0, "(wakes T1)"), (0, "(wakes T2)"));
    let looks = (1, "head == my?");
    assert_eq!(parked(&[one, looks, two]).expect("a run").broken, None);
    // T2 sleeps on until it is woken, and what nobody tells wakes nobody.
    assert!(parked(&[one, looks, (2, "head == my?")]).expect_err("T2 sleeps").contains("row 18"));
    assert!(parked(&[one, two, looks, (2, "head == my?")]).is_ok());
    // Where the trace tells nothing, all are woken in one step.
    assert!(parked(&[looks, (2, "head == my?")]).is_ok());
}

#[test]
fn only_who_wakes_wakes_and_only_who_was_woken_stays_awake() {
    let wakes = (0, "(wakes T1)");
    assert!(parked(&[(1, "(wakes T2)")]).expect_err("T1 sleeps").contains("is not waking anyone"));
    assert!(parked(&[wakes, (0, "(wakes T7)")]).expect_err("there is no T7").contains("row 17"));
    assert!(parked(&[wakes, (2, "(awake)")]).expect_err("T2 was not woken").contains("nobody woke T2"));
    // Woken before it sleeps: T1 is on its way to the slot's next epoch when T0 comes to it again.
    let again =
        [wakes, (1, "head == my?"), (1, "xchg(head, my + 1)"), (1, "my = xadd(tail, 1)"), (1, "head == my?"), wakes];
    let publishes = [(1, "published = fetch_or(slot(my), PARKED)"), (1, "the last look: head == my?")];
    let sleeps = (1, "futex_wait(slot(my), published | PARKED)");
    let mut told = [&again[..], &publishes, &[sleeps, (1, "(awake)"), (1, "head == my?")]].concat();
    // T1's release saw a slot that nobody parks on.
    told.insert(3, (1, "is slot(my + 1) parked?"));
    assert!(parked(&told).is_ok(), "{:?}", parked(&told));
}
