//! The lock's protocol, checked in every order of steps.
//!
//! The model is `lock/dynamo.rs` without the wire: the item with its conditional updates, and
//! processes that may be paused anywhere (a step of theirs can be arbitrarily late), crash, have
//! clocks apart by the allowed skew, lose answers and send again, while the older copy of a request
//! still travels and may arrive at any later time. A process in the model never looks at its lease
//! before it writes: what holds here, holds without that courtesy.
//!
//! Times are relative to now and stop at [`FLOOR`], so the space is finite without an end of time.
//! Each protection is also taken away once, and the checker must find the harm: the model can fail.

#![expect(clippy::print_stdout, reason = "how much was explored is part of the result")]

use stateright::{Checker, HasDiscoveries, Model, Property};

/// Length of a lease, in ticks.
const LEASE: i8 = 1;
/// What the clocks of two processes may differ by, in ticks.
const SKEW: i8 = 1;
/// As long ago as the model remembers.
const FLOOR: i8 = -(LEASE + SKEW + 1);

/// One part of the protocol that can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    /// A write is applied whoever holds the lock.
    Guard,
    /// A lease is taken over as soon as the taker's clock says that it ended.
    SkewMargin,
    /// A late renewal sets the lease's end back.
    RenewalOrder,
    /// Release deletes the item.
    RetainedItem,
}

/// How a protected write is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protection {
    /// The holder's condition in the same transaction.
    InTransaction,
    /// `lastFence <= :fence` on the target.
    LastFence,
}

#[derive(Debug, Clone)]
struct LockModel {
    /// Deliveries of one slot, each a process with an owner of its own.
    processes: usize,
    /// How far the clocks of all but the first may be ahead.
    clocks_ahead: &'static [i8],
    without: Without,
    protection: Protection,
    /// Whether time may pass while a live process is in the middle of something.
    pauses: bool,
    /// How many processes may crash.
    crashes: u8,
    /// How many requests may be sent twice.
    resends: u8,
    /// How many renewals there may be, of all processes together.
    renewals: u8,
    /// How many holders may give the lock back, not completed.
    releases: u8,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Item {
    fence: u8,
    owner: Option<usize>,
    /// `leaseUntilMs`, as ticks from now.
    until: Option<i8>,
    completed_by: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Request {
    Acquire { until: i8, expired_before: i8 },
    Renew { fence: u8, until: i8 },
    Write { fence: u8 },
    Release { fence: u8 },
    Complete { fence: u8 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    Acquired { fence: u8, until: i8 },
    Held,
    Done,
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    /// Delivered, nothing asked yet.
    Fresh,
    /// Found the lock held; asks again when it looks free.
    Waiting,
    Asking,
    /// Believes to hold the lock.
    Holding {
        fence: u8,
        until: i8,
    },
    Completed,
    FoundDone,
    Overtaken,
    GaveBack,
    Crashed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Process {
    /// How far its clock is ahead.
    ahead: i8,
    phase: Phase,
    /// Sent, the answer still awaited.
    awaited: Option<Request>,
    /// An older copy, or the last words of a crashed process, still travelling.
    travelling: Option<Request>,
    wrote: bool,
}

/// What went wrong, or right, on the way here.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the past")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Seen {
    last_written_fence: u8,
    written_out_of_order: bool,
    written_after_takeover: bool,
    fence_went_back: bool,
    completions: u8,
    /// In the step just made: a write was refused to a holder that had been replaced.
    stale_write_refused: bool,
    /// In the step just made: an acquire found that it had been applied before.
    own_effect_recognised: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    item: Item,
    processes: Vec<Process>,
    seen: Seen,
    crashes: u8,
    resends: u8,
    renewals: u8,
    releases: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Tick,
    Send(usize, Request),
    /// The awaited request is applied and its answer arrives.
    Answer(usize),
    /// The process waits no longer and sends the same again; the first copy may still arrive.
    SendAgain(usize),
    /// The copy arrives. Nobody hears the answer.
    ArriveLate(usize),
    Crash(usize),
}

impl LockModel {
    const fn of(processes: usize) -> Self {
        Self {
            processes,
            clocks_ahead: if processes == 2 { &[0, SKEW, -SKEW] } else { &[SKEW] },
            without: Without::Nothing,
            protection: Protection::InTransaction,
            pauses: true,
            crashes: 1,
            resends: 1,
            renewals: 1,
            releases: 1,
        }
    }

    /// The conditional update that `request` is, applied to the item.
    fn apply(&self, state: &mut State, who: usize, request: Request) -> Answer {
        let fence_before = state.item.fence;
        let held_by =
            |item: &Item, fence: u8| item.owner == Some(who) && item.fence == fence && item.until.is_some();
        let item = &mut state.item;
        let answer = match request {
            Request::Acquire { until, expired_before } => {
                let absent = item.owner.is_none();
                let to_be_had = item.completed_by.is_none()
                    && item.owner != Some(who)
                    && item.until.is_none_or(|end| end < expired_before);
                if absent || to_be_had {
                    item.owner = Some(who);
                    item.fence += 1;
                    item.until = Some(until);
                    Answer::Acquired { fence: item.fence, until }
                } else if item.completed_by.is_some() {
                    Answer::Done
                } else if let (Some(holder), Some(until)) = (item.owner, item.until)
                    && holder == who
                {
                    state.seen.own_effect_recognised = true;
                    Answer::Acquired { fence: item.fence, until }
                } else {
                    Answer::Held
                }
            }
            Request::Renew { fence, until } if held_by(item, fence) => {
                let later = item.until.is_none_or(|end| end <= until);
                if later || self.without == Without::RenewalOrder {
                    item.until = Some(until);
                }
                Answer::Acquired { fence, until: item.until.unwrap_or(until) }
            }
            Request::Write { fence } => {
                let accepted = match (self.without, self.protection) {
                    (Without::Guard, _) => true,
                    (_, Protection::InTransaction) => held_by(item, fence),
                    (_, Protection::LastFence) => state.seen.last_written_fence <= fence,
                };
                if accepted {
                    state.seen.written_out_of_order |= fence < state.seen.last_written_fence;
                    state.seen.written_after_takeover |= fence != item.fence;
                    state.seen.last_written_fence = fence;
                    Answer::Acquired { fence, until: FLOOR }
                } else {
                    state.seen.stale_write_refused |= fence < item.fence;
                    Answer::Lost
                }
            }
            Request::Release { fence } if held_by(item, fence) => {
                item.until = None;
                if self.without == Without::RetainedItem {
                    *item = Item::default();
                }
                Answer::Done
            }
            Request::Complete { fence } if held_by(item, fence) => {
                item.until = None;
                item.completed_by = Some(who);
                state.seen.completions += 1;
                Answer::Done
            }
            // Its own effect, found by the second copy of the request.
            Request::Complete { fence } if item.fence == fence && item.completed_by == Some(who) => {
                Answer::Done
            }
            Request::Release { .. } | Request::Renew { .. } | Request::Complete { .. } => Answer::Lost,
        };
        state.seen.fence_went_back |= state.item.fence < fence_before;
        answer
    }

    fn hear(process: &mut Process, request: Request, answer: Answer) {
        process.phase = match (request, answer, process.phase) {
            (Request::Acquire { .. } | Request::Renew { .. }, Answer::Acquired { fence, until }, _) => {
                Phase::Holding { fence, until }
            }
            (Request::Acquire { .. }, Answer::Done, _) => Phase::FoundDone,
            (Request::Acquire { .. }, _, _) => Phase::Waiting,
            (Request::Write { .. }, Answer::Acquired { .. }, phase) => phase,
            (Request::Release { .. }, _, _) => Phase::GaveBack,
            (Request::Complete { .. }, Answer::Done, _) => Phase::Completed,
            (Request::Renew { .. } | Request::Write { .. } | Request::Complete { .. }, _, _) => {
                Phase::Overtaken
            }
        };
    }

    fn acquire(&self, process: &Process) -> Request {
        let skew = if self.without == Without::SkewMargin { 0 } else { SKEW };
        Request::Acquire { until: process.ahead + LEASE, expired_before: process.ahead - skew }
    }

    fn looks_free(&self, item: &Item, process: &Process) -> bool {
        let Request::Acquire { expired_before, .. } = self.acquire(process) else { return false };
        item.completed_by.is_some() || item.until.is_none_or(|end| end < expired_before)
    }
}

impl Process {
    fn is_busy(&self) -> bool {
        self.awaited.is_some() || matches!(self.phase, Phase::Holding { .. })
    }

    /// Whether it would say now, by its own clock, that it holds the lock. One that gives it back
    /// does not.
    fn believes(&self) -> bool {
        let gives_back = matches!(self.awaited, Some(Request::Release { .. } | Request::Complete { .. }));
        matches!(self.phase, Phase::Holding { until, .. } if until >= self.ahead) && !gives_back
    }
}

fn one_tick_older(at: i8) -> i8 {
    (at - 1).max(FLOOR)
}

impl Request {
    fn one_tick_older(self) -> Self {
        match self {
            Self::Acquire { until, expired_before } => {
                Self::Acquire { until: one_tick_older(until), expired_before: one_tick_older(expired_before) }
            }
            Self::Renew { fence, until } => Self::Renew { fence, until: one_tick_older(until) },
            other => other,
        }
    }
}

impl State {
    /// Processes with one clock are alike, so they begin in their order: other orders are the same
    /// under other names.
    fn is_next(&self, who: usize) -> bool {
        let ahead = self.processes[who].ahead;
        !self.processes[..who].iter().any(|other| other.ahead == ahead && other.phase == Phase::Fresh)
    }

    fn one_tick_later(&self) -> Self {
        let mut later = self.clone();
        later.item.until = later.item.until.map(one_tick_older);
        for process in &mut later.processes {
            process.awaited = process.awaited.map(Request::one_tick_older);
            process.travelling = process.travelling.map(Request::one_tick_older);
            if let Phase::Holding { until, .. } = &mut process.phase {
                *until = one_tick_older(*until);
            }
        }
        later
    }
}

impl Model for LockModel {
    type State = State;
    type Action = Step;

    /// All clocks are together, or the first process's is apart from the others' by the whole skew.
    /// Which process it is does not matter: they are alike.
    fn init_states(&self) -> Vec<State> {
        let process =
            |ahead| Process { ahead, phase: Phase::Fresh, awaited: None, travelling: None, wrote: false };
        let start = |others_ahead: i8| State {
            item: Item::default(),
            processes: (0..self.processes)
                .map(|who| process(if who == 0 { 0 } else { others_ahead }))
                .collect(),
            seen: Seen::default(),
            crashes: self.crashes,
            resends: self.resends,
            renewals: self.renewals,
            releases: self.releases,
        };
        self.clocks_ahead.iter().copied().map(start).collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if self.pauses || !state.processes.iter().any(Process::is_busy) {
            steps.push(Step::Tick);
        }
        for (who, process) in state.processes.iter().enumerate() {
            if process.travelling.is_some() {
                steps.push(Step::ArriveLate(who));
            }
            if state.crashes > 0 && process.is_busy() {
                steps.push(Step::Crash(who));
            }
            if process.awaited.is_some() {
                steps.push(Step::Answer(who));
                if state.resends > 0 && process.travelling.is_none() {
                    steps.push(Step::SendAgain(who));
                }
                continue;
            }
            match process.phase {
                Phase::Fresh if state.is_next(who) => steps.push(Step::Send(who, self.acquire(process))),
                Phase::Waiting if self.looks_free(&state.item, process) => {
                    steps.push(Step::Send(who, self.acquire(process)));
                }
                Phase::Holding { fence, .. } => {
                    if state.renewals > 0 {
                        steps.push(Step::Send(who, Request::Renew { fence, until: process.ahead + LEASE }));
                    }
                    if process.wrote {
                        steps.push(Step::Send(who, Request::Complete { fence }));
                    } else {
                        steps.push(Step::Send(who, Request::Write { fence }));
                    }
                    if state.releases > 0 {
                        steps.push(Step::Send(who, Request::Release { fence }));
                    }
                }
                _ => {}
            }
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        state.seen.stale_write_refused = false;
        state.seen.own_effect_recognised = false;
        match step {
            Step::Tick => state = state.one_tick_later(),
            Step::Send(who, request) => {
                let process = &mut state.processes[who];
                process.awaited = Some(request);
                match request {
                    Request::Acquire { .. } => process.phase = Phase::Asking,
                    Request::Renew { .. } => state.renewals -= 1,
                    Request::Write { .. } => process.wrote = true,
                    Request::Release { .. } => state.releases -= 1,
                    Request::Complete { .. } => {}
                }
            }
            Step::Answer(who) => {
                let request = state.processes[who].awaited.take()?;
                let answer = self.apply(&mut state, who, request);
                Self::hear(&mut state.processes[who], request, answer);
            }
            Step::SendAgain(who) => {
                state.resends -= 1;
                state.processes[who].travelling = state.processes[who].awaited;
            }
            Step::ArriveLate(who) => {
                let request = state.processes[who].travelling.take()?;
                self.apply(&mut state, who, request);
            }
            Step::Crash(who) => {
                state.crashes -= 1;
                let process = &mut state.processes[who];
                process.phase = Phase::Crashed;
                process.travelling = process.awaited.take().or(process.travelling);
            }
        }
        // A step without an effect is none: what is left without a step has come to rest.
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("writes are accepted in the order of their fences", |_, state: &State| {
                !state.seen.written_out_of_order
            }),
            Property::always("a guarded write is refused after a takeover", |model: &Self, state: &State| {
                model.protection == Protection::LastFence || !state.seen.written_after_takeover
            }),
            Property::always("one process at a time believes that it holds the lock", |_, state: &State| {
                state.processes.iter().filter(|process| process.believes()).count() <= 1
            }),
            Property::always("the fence never goes back", |_, state: &State| !state.seen.fence_went_back),
            Property::always("the slot is completed at most once", |_, state: &State| {
                state.seen.completions <= 1
            }),
            Property::always("who hears that it completed the slot did", |_, state: &State| {
                let who = state.processes.iter().position(|process| process.phase == Phase::Completed);
                who.is_none_or(|who| state.item.completed_by == Some(who))
            }),
            Property::always(
                "at rest, the slot is done unless nobody is left",
                |model: &Self, state: &State| {
                    let is_left = |process: &Process| matches!(process.phase, Phase::Fresh | Phase::Waiting);
                    state.item.completed_by.is_some()
                        || !state.processes.iter().any(is_left)
                        || !model.next_states(state).is_empty()
                },
            ),
            Property::sometimes("a crashed holder is replaced and the slot completed", |_, state: &State| {
                let crashed = state.processes.iter().any(|process| process.phase == Phase::Crashed);
                crashed && state.item.fence > 1 && state.item.completed_by.is_some()
            }),
            Property::sometimes("an acquire whose answer was lost is recognised", |_, state: &State| {
                state.seen.own_effect_recognised
            }),
            Property::sometimes("a second delivery finds the slot done", |_, state: &State| {
                state.processes.iter().any(|process| process.phase == Phase::FoundDone)
            }),
            Property::sometimes("a zombie's write is refused", |model: &Self, state: &State| {
                state.seen.stale_write_refused || !model.pauses
            }),
        ]
    }
}

/// Explores everything and prints how much that was.
fn explore(title: &str, model: LockModel) -> impl Checker<LockModel> {
    let checker = model.checker().spawn_dfs().join();
    println!("{title}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker
}

/// Takes one part of the protocol away and expects the checker to find a way to the harm.
fn expect_harm(model: LockModel, property: &'static str) {
    let without = model.without;
    let found = HasDiscoveries::AnyOf([property].into_iter().collect());
    let checker = model.checker().finish_when(found).spawn_bfs().join();
    let path = checker.assert_any_discovery(property);
    println!("without {without:?}: {} steps to the harm: {property}", path.into_actions().len());
}

#[test]
fn every_property_holds_under_crashes_pauses_skew_and_repeated_requests() {
    explore("lock, 2 processes", LockModel::of(2)).assert_properties();
}

#[test]
fn every_property_holds_among_three_processes() {
    explore("lock, 3 processes", LockModel { releases: 0, renewals: 0, ..LockModel::of(3) })
        .assert_properties();
}

#[test]
fn writes_keep_the_order_of_their_fences_when_only_the_target_checks() {
    let model = LockModel { protection: Protection::LastFence, ..LockModel::of(2) };
    explore("lock, lastFence on the target", model)
        .assert_no_discovery("writes are accepted in the order of their fences");
}

#[test]
fn without_pauses_a_slot_is_completed_as_long_as_one_process_lives() {
    let model = LockModel { pauses: false, crashes: 2, releases: 0, ..LockModel::of(3) };
    explore("lock, no pauses, two of three crash", model).assert_properties();
}

#[test]
fn a_write_without_the_guard_is_found_out() {
    let model = LockModel { without: Without::Guard, ..LockModel::of(2) };
    expect_harm(model.clone(), "a guarded write is refused after a takeover");
    expect_harm(model, "writes are accepted in the order of their fences");
}

#[test]
fn a_takeover_without_the_skew_margin_is_found_out() {
    let model = LockModel { without: Without::SkewMargin, ..LockModel::of(2) };
    expect_harm(model, "one process at a time believes that it holds the lock");
}

#[test]
fn a_renewal_that_can_shorten_a_lease_is_found_out() {
    let model = LockModel { without: Without::RenewalOrder, renewals: 2, ..LockModel::of(2) };
    expect_harm(model, "one process at a time believes that it holds the lock");
}

#[test]
fn an_item_deleted_on_release_is_found_out() {
    expect_harm(
        LockModel { without: Without::RetainedItem, ..LockModel::of(2) },
        "the fence never goes back",
    );
}
