//! One signing key follows another, and nobody is signed out: the runbook, played minute by minute.
//!
//! A plan is a list of deployments. While one is carried out, processes of the old and of the new
//! configuration run side by side and all of them sign and verify; beside them, clients verify with
//! copies of the published set that are as old as they may be. Clocks of verifiers are off by the
//! allowed skew in both directions. A plan is good if at no moment a token that its client was told
//! to be valid is refused by anybody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sojourn::core::clock::ManualClock;
use sojourn::core::ids;
use sojourn::identity::tokens::rotation::{JWKS_MAX_AGE, KEPT_AFTER_USE};
use sojourn::identity::tokens::{ACCESS_TOKEN_LIFETIME, CLOCK_SKEW, TokenError, TokenSigner, TokenVerifier};
use sojourn_testing::{TestKey, jwks};

use super::stage::{env, signing_key};

/// How long a deployment takes, from the first new process to the end of the last old one.
const ROLLOUT: Duration = Duration::from_mins(2);
/// How often everybody signs and verifies. It divides all the durations, so that their ends are met
/// exactly.
const TICK: Duration = Duration::from_secs(30);
/// When the first deployment begins.
const BEGINNING: Duration = Duration::from_mins(1);

/// What a process is started with.
#[derive(Clone)]
struct Configuration<'a> {
    verifies: Vec<&'a TestKey>,
    signs: &'a TestKey,
}

/// Configurations in the order of their deployments, each with the wait after the deployment before
/// it was finished.
type Plan<'a> = Vec<(Duration, Configuration<'a>)>;

/// A configuration and the span in which processes of it run.
struct Running<'a> {
    configuration: Configuration<'a>,
    from: Duration,
    until: Duration,
}

/// A token with its age for its client: `expiresIn` counts from its arrival.
struct Token {
    text: String,
    signed: Duration,
}

fn configuration<'a>(verifies: &[&'a TestKey], signs: &'a TestKey) -> Configuration<'a> {
    Configuration { verifies: verifies.to_vec(), signs }
}

fn running<'a>(plan: &Plan<'a>) -> Vec<Running<'a>> {
    let mut all: Vec<Running<'a>> = Vec::new();
    let mut deployed = BEGINNING;
    for (wait, configuration) in plan {
        let from = if all.is_empty() { Duration::ZERO } else { deployed + *wait };
        if let Some(before) = all.last_mut() {
            before.until = from + ROLLOUT;
            deployed = before.until;
        }
        all.push(Running { configuration: configuration.clone(), from, until: Duration::MAX });
    }
    all
}

fn instant(at: Duration) -> Timestamp {
    "2026-11-20T09:30:00Z".parse::<Timestamp>().unwrap() + at
}

fn sign(configuration: &Configuration<'_>, at: Duration) -> String {
    let key = signing_key(&configuration.signs.private_jwk()).unwrap();
    let clock: Arc<ManualClock> = ManualClock::at(instant(at));
    let signer = TokenSigner::from_env(&env(&jwks(&configuration.verifies)), key, clock).unwrap();
    let ids = ids::random();
    signer.sign(&ids.next(), &ids.next(), instant(at), &BTreeSet::new()).unwrap().text.expose().clone()
}

/// Whether a verifier with these keys refuses the token, by a clock that is right, behind, or
/// ahead.
fn refused(verifies: &[&TestKey], token: &str, at: Duration) -> bool {
    let right = instant(at);
    [right - CLOCK_SKEW, right, right + CLOCK_SKEW].into_iter().any(|now| {
        let one = TokenVerifier::from_env(&env(&jwks(verifies)), ManualClock::at(now)).unwrap();
        one.verify(token).is_err()
    })
}

/// Plays the plan; tells at which moments a valid token was refused.
fn refusals(plan: &Plan<'_>) -> BTreeSet<Duration> {
    let running = running(plan);
    let end = running.last().unwrap().from + ROLLOUT + ACCESS_TOKEN_LIFETIME;
    let mut tokens: Vec<Token> = Vec::new();
    let mut moments = BTreeSet::new();
    let mut at = Duration::ZERO;
    while at <= end {
        for process in running.iter().filter(|process| process.from <= at && at < process.until) {
            tokens.push(Token { text: sign(&process.configuration, at), signed: at });
        }
        tokens.retain(|token| at < token.signed + ACCESS_TOKEN_LIFETIME);
        // A copy may be as old as its age allows: the sets of processes that have ended are in use
        // for a while.
        let verifiers =
            running.iter().filter(|one| one.from <= at && at < one.until.saturating_add(JWKS_MAX_AGE));
        for verifier in verifiers {
            let keys = &verifier.configuration.verifies;
            if tokens.iter().any(|token| refused(keys, &token.text, at)) {
                moments.insert(at);
            }
        }
        at += TICK;
    }
    moments
}

fn keys() -> (TestKey, TestKey) {
    (TestKey::new("2026-11"), TestKey::new("2026-12"))
}

#[test]
fn nobody_is_refused_at_any_moment_of_a_rotation_by_the_runbook() {
    let (old, next) = keys();
    let plan = vec![
        (Duration::ZERO, configuration(&[&old], &old)),
        (Duration::ZERO, configuration(&[&old, &next], &old)),
        (JWKS_MAX_AGE, configuration(&[&next, &old], &next)),
        (KEPT_AFTER_USE, configuration(&[&next], &next)),
    ];
    assert_eq!(refusals(&plan), BTreeSet::new());
}

#[test]
fn a_key_that_signs_as_soon_as_it_is_published_is_unknown_to_old_processes() {
    let (old, next) = keys();
    let plan = vec![
        (Duration::ZERO, configuration(&[&old], &old)),
        (Duration::ZERO, configuration(&[&old, &next], &next)),
    ];
    let first = *refusals(&plan).first().unwrap();
    assert_eq!(first, BEGINNING, "as soon as the deployment begins");
}

#[test]
fn a_key_that_signs_before_every_copy_of_the_set_is_new_is_unknown_to_clients() {
    let (old, next) = keys();
    let plan = |wait: Duration| {
        vec![
            (Duration::ZERO, configuration(&[&old], &old)),
            (Duration::ZERO, configuration(&[&old, &next], &old)),
            (wait, configuration(&[&old, &next], &next)),
        ]
    };
    assert_ne!(refusals(&plan(JWKS_MAX_AGE.saturating_sub(TICK))), BTreeSet::new());
    assert_eq!(refusals(&plan(JWKS_MAX_AGE)), BTreeSet::new());
}

#[test]
fn a_key_that_is_dropped_too_early_takes_its_last_tokens_with_it() {
    let (old, next) = keys();
    let plan = |wait: Duration| {
        vec![
            (Duration::ZERO, configuration(&[&old, &next], &old)),
            (JWKS_MAX_AGE, configuration(&[&old, &next], &next)),
            (wait, configuration(&[&next], &next)),
        ]
    };
    for early in [Duration::ZERO, ACCESS_TOKEN_LIFETIME / 2, ACCESS_TOKEN_LIFETIME.saturating_sub(TICK * 2)] {
        assert_ne!(refusals(&plan(early)), BTreeSet::new(), "{early:?}");
    }
    assert_eq!(refusals(&plan(KEPT_AFTER_USE)), BTreeSet::new());
}

#[test]
fn a_signer_that_gets_the_next_key_before_it_is_published_does_not_start_and_the_old_ones_go_on() {
    let (old, next) = keys();
    let key = signing_key(&next.private_jwk()).unwrap();
    let clock = ManualClock::at(instant(Duration::ZERO));
    let error = TokenSigner::from_env(&env(&jwks(&[&old])), key, clock).unwrap_err().to_string();
    assert!(error.contains("TOKEN_JWKS") && error.contains("2026-12"), "{error}");
}

#[test]
fn a_token_of_a_retired_key_is_refused_even_within_its_time() {
    let (old, next) = keys();
    let token = sign(&configuration(&[&old, &next], &old), Duration::ZERO);
    let clock = ManualClock::at(instant(Duration::ZERO));
    let before = TokenVerifier::from_env(&env(&jwks(&[&next, &old])), clock.clone()).unwrap();
    before.verify(&token).unwrap();
    let after = TokenVerifier::from_env(&env(&jwks(&[&next])), clock).unwrap();
    assert!(matches!(after.verify(&token), Err(TokenError::UnknownKey)));
}

#[test]
fn the_name_of_a_retired_key_can_be_given_to_another_without_reviving_its_tokens() {
    let (old, next) = (TestKey::new("signing"), TestKey::new("signing"));
    let token = sign(&configuration(&[&old], &old), Duration::ZERO);
    let clock = ManualClock::at(instant(Duration::ZERO));
    let verifier = TokenVerifier::from_env(&env(&jwks(&[&next])), clock).unwrap();
    assert!(matches!(verifier.verify(&token), Err(TokenError::Refused(_))));
}
