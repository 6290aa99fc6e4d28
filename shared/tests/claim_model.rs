//! Claim, act, complete, checked in every order of steps: payments of one order, by several
//! clients, beside its cancellation.
//!
//! The model is the protocol of `payments` without the wire: an order and the clients' idempotency
//! records, written together by conditional transactions; a provider outside, which repeats the
//! first outcome of a payment key; processes that may be late at every step, crash, lose the
//! provider's answer, or leave a charge behind that arrives at any later time. Claims may lapse at
//! any moment, so no clock is needed.
//!
//! Each protection is also taken away once, and the checker must find the harm: the model can fail.

#![expect(clippy::print_stdout, reason = "how much was explored is part of the result")]

use stateright::{Checker, HasDiscoveries, Model, Property};

/// One part of the protocol that can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    /// Every attempt charges under a key of its own.
    DerivedKey,
    /// Outcomes are recorded by whoever has one.
    AttemptCondition,
    /// An order is cancelled without a void at the provider.
    Void,
}

#[derive(Debug, Clone)]
struct ClaimModel {
    without: Without,
    /// The idempotency key of each paying process.
    payers: &'static [usize],
    /// Whether a process cancels the order beside them.
    cancels: bool,
    crashes: u8,
    /// How many charges may stay on their way when their process has given up waiting.
    delays: u8,
    declines: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Status {
    Pending,
    Paid,
    Cancelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Claim {
    attempt: usize,
    lapsed: bool,
}

/// The order's row. Every write raises its version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Order {
    status: Status,
    version: u8,
    generation: usize,
    claim: Option<Claim>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Outcome {
    Captured,
    Declined,
    Voided,
}

/// An idempotency record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Record {
    Absent,
    Claimed(Claim),
    Done(Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Fresh,
    /// Has read the order as pending and free to claim.
    HasRead {
        version: u8,
        generation: usize,
    },
    /// Holds the claim that it wrote as this version.
    Claimed {
        version: u8,
        generation: usize,
    },
    /// Knows the outcome, and has not recorded it.
    Knows {
        version: u8,
        outcome: Outcome,
    },
    /// Has no outcome and wants to end its claim.
    InTheDark {
        version: u8,
    },
    /// Cancels: nothing is charged and nothing can be.
    IsClear {
        version: u8,
    },
    Answered(Outcome),
    Refused,
    Crashed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    order: Order,
    records: Vec<Record>,
    /// The provider's ledger: the first outcome of each payment key.
    ledger: Vec<Option<Outcome>>,
    processes: Vec<Phase>,
    /// Charges on their way that nobody waits for, by payment key.
    travelling: Vec<usize>,
    crashes: u8,
    delays: u8,
    declines: u8,
    /// An outcome was recorded over a successor's claim.
    overwritten: bool,
    /// A recorded answer was replaced by another one.
    answer_changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The order's claim, and the record's, lapse.
    Lapse,
    Read(usize),
    Claim(usize),
    /// The provider decides, if it has not before, and its answer arrives.
    Charge(usize, Outcome),
    /// The provider decides, and its answer is lost.
    ChargeUnheard(usize, Outcome),
    /// The process gives up waiting; the charge is still on its way.
    ChargeDelayed(usize),
    ChargeArrives(Outcome),
    Void(usize),
    /// The transaction that records what is known; its answer arrives.
    Record(usize),
    Crash(usize),
}

impl ClaimModel {
    const fn of(payers: &'static [usize]) -> Self {
        Self { without: Without::Nothing, payers, cancels: true, crashes: 1, delays: 1, declines: 1 }
    }

    /// With one key there is one answer: the decline.
    fn has_two_keys(&self) -> bool {
        self.payers.iter().any(|key| *key != self.payers[0])
    }

    fn payment_key(&self, who: usize, generation: usize) -> usize {
        if self.without == Without::DerivedKey { who } else { generation }
    }

    fn is_payer(&self, who: usize) -> bool {
        who < self.payers.len()
    }

    /// The first outcome of a key stands.
    fn decide(state: &mut State, key: usize, wanted: Outcome) -> Option<Outcome> {
        if let Some(outcome) = state.ledger[key] {
            // Another wish would be the same step again.
            return (wanted == Outcome::Captured).then_some(outcome);
        }
        if wanted == Outcome::Declined {
            state.declines = state.declines.checked_sub(1)?;
        }
        state.ledger[key] = Some(wanted);
        Some(wanted)
    }

    fn read(&self, state: &State, who: usize) -> Phase {
        let order = &state.order;
        if self.is_payer(who)
            && let Record::Done(outcome) = state.records[self.payers[who]]
        {
            return Phase::Answered(outcome);
        }
        let under_way = order.claim.is_some_and(|claim| !claim.lapsed);
        if order.status != Status::Pending || under_way {
            return Phase::Refused;
        }
        Phase::HasRead { version: order.version, generation: order.generation }
    }

    /// One transaction on order and record, conditional on both being as they were.
    fn claim(&self, state: &mut State, who: usize, seen: u8, generation: usize) -> Phase {
        let record = &mut state.records[self.payers[who]];
        let claimable = match record {
            Record::Absent => true,
            Record::Claimed(claim) => claim.lapsed,
            Record::Done(_) => false,
        };
        if state.order.version != seen || !claimable {
            return Phase::Refused;
        }
        let claim = Claim { attempt: who, lapsed: false };
        *record = Record::Claimed(claim);
        state.order.claim = Some(claim);
        state.order.version += 1;
        Phase::Claimed { version: state.order.version, generation }
    }

    /// One transaction on order and record, conditional on both being as this attempt claimed them.
    fn record(&self, state: &mut State, who: usize, version: u8, outcome: Option<Outcome>) -> Phase {
        let key = self.payers[who];
        let is_ours = state.order.version == version
            && matches!(state.records[key], Record::Claimed(claim) if claim.attempt == who);
        if !is_ours && self.without != Without::AttemptCondition {
            return Phase::Refused;
        }
        state.overwritten |= !is_ours;
        state.order.version += 1;
        let Some(outcome) = outcome else {
            let lapsed = Claim { attempt: who, lapsed: true };
            state.order.claim = Some(lapsed);
            state.answer_changed |= matches!(state.records[key], Record::Done(_));
            state.records[key] = Record::Claimed(lapsed);
            return Phase::Refused;
        };
        state.answer_changed |= matches!(state.records[key], Record::Done(before) if before != outcome);
        state.records[key] = Record::Done(outcome);
        state.order.claim = None;
        match outcome {
            Outcome::Captured => state.order.status = Status::Paid,
            Outcome::Declined => state.order.generation += 1,
            Outcome::Voided => state.order.status = Status::Cancelled,
        }
        Phase::Answered(outcome)
    }

    /// What the canceller writes, conditional on the order being as it was read.
    fn end(state: &mut State, version: u8, status: Status) -> Phase {
        if state.order.version == version {
            state.order.status = status;
            state.order.claim = None;
            state.order.version += 1;
        }
        Phase::Refused
    }

    fn apply(&self, state: &mut State, step: Step) -> Option<()> {
        match step {
            Step::Lapse => {
                let lapse = |claim: &mut Claim| claim.lapsed = true;
                state.order.claim.as_mut().map(lapse)?;
                for record in &mut state.records {
                    if let Record::Claimed(claim) = record {
                        lapse(claim);
                    }
                }
            }
            Step::Read(who) => state.processes[who] = self.read(state, who),
            Step::Claim(who) => {
                let Phase::HasRead { version, generation } = state.processes[who] else { return None };
                state.processes[who] = self.claim(state, who, version, generation);
            }
            Step::Charge(who, wanted) | Step::ChargeUnheard(who, wanted) => {
                let Phase::Claimed { version, generation } = state.processes[who] else { return None };
                let outcome = Self::decide(state, self.payment_key(who, generation), wanted)?;
                state.processes[who] = match step {
                    Step::Charge(..) => Phase::Knows { version, outcome },
                    _ => Phase::InTheDark { version },
                };
            }
            Step::ChargeDelayed(who) => {
                let Phase::Claimed { version, generation } = state.processes[who] else { return None };
                state.delays -= 1;
                state.travelling.push(self.payment_key(who, generation));
                state.processes[who] = Phase::InTheDark { version };
            }
            Step::ChargeArrives(wanted) => {
                let key = state.travelling.pop()?;
                Self::decide(state, key, wanted)?;
            }
            Step::Void(who) => {
                let Phase::HasRead { version, generation } = state.processes[who] else { return None };
                let outcome = match self.without {
                    Without::Void => Outcome::Voided,
                    _ => *state.ledger[generation].get_or_insert(Outcome::Voided),
                };
                state.processes[who] = match outcome {
                    Outcome::Captured => Phase::Knows { version, outcome },
                    Outcome::Declined | Outcome::Voided => Phase::IsClear { version },
                };
            }
            Step::Record(who) => {
                state.processes[who] = match state.processes[who] {
                    Phase::Knows { version, outcome } if self.is_payer(who) => {
                        self.record(state, who, version, Some(outcome))
                    }
                    Phase::InTheDark { version } => self.record(state, who, version, None),
                    Phase::Knows { version, .. } => Self::end(state, version, Status::Paid),
                    Phase::IsClear { version } => Self::end(state, version, Status::Cancelled),
                    _ => return None,
                };
            }
            Step::Crash(who) => {
                state.crashes -= 1;
                state.processes[who] = Phase::Crashed;
            }
        }
        Some(())
    }
}

impl State {
    fn charges(&self) -> usize {
        self.ledger.iter().filter(|outcome| **outcome == Some(Outcome::Captured)).count()
    }

    fn has_crashed(&self) -> bool {
        self.processes.contains(&Phase::Crashed)
    }
}

impl Model for ClaimModel {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let processes = self.payers.len() + usize::from(self.cancels);
        vec![State {
            order: Order { status: Status::Pending, version: 1, generation: 0, claim: None },
            records: vec![Record::Absent; self.payers.iter().max().map_or(0, |key| key + 1)],
            ledger: vec![None; processes + 1],
            processes: vec![Phase::Fresh; processes],
            travelling: Vec::new(),
            crashes: self.crashes,
            delays: self.delays,
            declines: self.declines,
            overwritten: false,
            answer_changed: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps.push(Step::Lapse);
        if !state.travelling.is_empty() {
            steps.extend([Step::ChargeArrives(Outcome::Captured), Step::ChargeArrives(Outcome::Declined)]);
        }
        for (who, phase) in state.processes.iter().enumerate() {
            let is_over = matches!(phase, Phase::Answered(_) | Phase::Refused | Phase::Crashed);
            if state.crashes > 0 && !is_over && *phase != Phase::Fresh {
                steps.push(Step::Crash(who));
            }
            match phase {
                Phase::Fresh => steps.push(Step::Read(who)),
                Phase::HasRead { .. } if self.is_payer(who) => steps.push(Step::Claim(who)),
                Phase::HasRead { .. } => steps.push(Step::Void(who)),
                Phase::Claimed { .. } => {
                    for outcome in [Outcome::Captured, Outcome::Declined] {
                        steps.extend([Step::Charge(who, outcome), Step::ChargeUnheard(who, outcome)]);
                    }
                    if state.delays > 0 {
                        steps.push(Step::ChargeDelayed(who));
                    }
                }
                Phase::Knows { .. } | Phase::InTheDark { .. } | Phase::IsClear { .. } => {
                    steps.push(Step::Record(who));
                }
                Phase::Answered(_) | Phase::Refused | Phase::Crashed => {}
            }
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        self.apply(&mut state, step)?;
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the order is charged at most once", |_, state: &State| state.charges() <= 1),
            Property::always("a paid order was charged", |_, state: &State| {
                state.order.status != Status::Paid || state.charges() == 1
            }),
            Property::always("a cancelled order was not charged, and never will be", |_, state: &State| {
                state.order.status != Status::Cancelled || state.charges() == 0
            }),
            Property::always("an answer that tells of a charge is true", |_, state: &State| {
                let told = |record: &Record| *record == Record::Done(Outcome::Captured);
                let heard = |phase: &Phase| *phase == Phase::Answered(Outcome::Captured);
                let captured = state.records.iter().any(told) || state.processes.iter().any(heard);
                !captured || (state.charges() == 1 && state.order.status == Status::Paid)
            }),
            Property::always("an answer that tells of a cancellation is true", |_, state: &State| {
                let heard = |phase: &Phase| *phase == Phase::Answered(Outcome::Voided);
                !state.processes.iter().any(heard) || state.order.status == Status::Cancelled
            }),
            Property::always("a recorded answer stays as it is", |_, state: &State| !state.answer_changed),
            Property::always("a zombie records nothing over its successor", |_, state: &State| {
                !state.overwritten
            }),
            Property::sometimes(
                "a crashed attempt's charge is found by its successor",
                |model: &Self, state: &State| {
                    model.crashes == 0 || (state.has_crashed() && state.order.status == Status::Paid)
                },
            ),
            Property::sometimes("after a decline the order is paid", |model: &Self, state: &State| {
                !model.has_two_keys() || (state.order.generation == 1 && state.order.status == Status::Paid)
            }),
            Property::sometimes(
                "a charge that arrives after the void comes to nothing",
                |model: &Self, state: &State| {
                    !model.cancels
                        || (state.order.status == Status::Cancelled
                            && state.ledger[0] == Some(Outcome::Voided))
                },
            ),
        ]
    }
}

fn explore(title: &str, model: ClaimModel) {
    let checker = model.checker().spawn_dfs().join();
    println!("{title}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

/// Takes one part of the protocol away and expects the checker to find a way to the harm.
fn expect_harm(without: Without, property: &'static str) {
    let model = ClaimModel { without, ..ClaimModel::of(&[0, 0]) };
    let found = HasDiscoveries::AnyOf([property].into_iter().collect());
    let checker = model.checker().finish_when(found).spawn_bfs().join();
    let path = checker.assert_any_discovery(property);
    println!("without {without:?}: {} steps to the harm: {property}", path.into_actions().len());
}

#[test]
fn retries_of_one_key_beside_a_cancellation_charge_once_and_tell_the_truth() {
    explore("claim, 3 attempts of one key and a cancellation", ClaimModel::of(&[0, 0, 0]));
}

#[test]
fn two_keys_for_one_order_charge_once_and_tell_the_truth() {
    explore("claim, 2 keys, 3 attempts and a cancellation", ClaimModel::of(&[0, 0, 1]));
}

#[test]
fn a_payment_key_per_attempt_is_found_out() {
    expect_harm(Without::DerivedKey, "the order is charged at most once");
}

#[test]
fn an_outcome_recorded_without_the_attempt_is_found_out() {
    expect_harm(Without::AttemptCondition, "a zombie records nothing over its successor");
    expect_harm(Without::AttemptCondition, "a recorded answer stays as it is");
}

#[test]
fn a_cancellation_without_the_void_is_found_out() {
    expect_harm(Without::Void, "a cancelled order was not charged, and never will be");
}
