//! The outcome of a batch: handled, retried or given up.
//!
//! 1. A batch is handled when the function answers, and does not report failures. The place behind
//!    it is saved.
//! 2. If the function reports failures (`ReportBatchItemFailures`), everything before the lowest
//!    sequence number is handled. That record and all behind it are tried again.
//! 3. If the function fails, all are tried again. An answer that can't be understood is a failure
//!    of all.
//! 4. With `BisectBatchOnFunctionError` a failed batch is tried again in two halves. A reported
//!    failure splits it at the reported record; if that is the first one, in two halves. A split
//!    does not count as a retry.
//! 5. Before each retry there is a pause, from [`FIRST_PAUSE`] doubled up to [`LONGEST_PAUSE`].
//! 6. A batch is given up after `MaximumRetryAttempts` retries. Retries of what is left of a batch
//!    after a reported failure count together with those before. Records are given up without being
//!    tried (again) when they are older than `MaximumRecordAgeInSeconds`, or than the stream keeps
//!    them. What is given up is reported ([`failure`](super::failure)), and the reader goes on
//!    behind it. So good records behind a bad one of the same batch are given up with it, as in
//!    Lambda, unless the mapping splits batches.
//! 7. A function that was not invoked, because it was throttled, is tried again. That does not
//!    count as a retry.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::Reader;
use super::collect::{Entry, event};
use super::failure::{Condition, Response};
use crate::event_sources::answer;
use crate::functions::outcome::{Invoke, Outcome};
use crate::services::dynamodb::streams::RETENTION;
use crate::template::model::Answers;

/// Pause before the first retry.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause. AWS does not say its own. Somebody who corrects a function on a laptop
/// doesn't want to wait longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A part of a batch that is still to be handled.
#[derive(Clone, Copy)]
struct Piece<'a> {
    entries: &'a [Entry],
    /// Retries that were used up.
    retries: usize,
    /// How often the function was invoked with these records.
    invocations: usize,
    response: Option<Response>,
}

enum Verdict {
    Handled,
    /// All before the record with this index were handled.
    FailedFrom(usize, Response),
    NotInvoked,
}

impl<I: Invoke> Reader<I> {
    /// Ends when every record was handled or given up.
    pub(super) async fn deliver(&self, batch: &[Entry]) {
        // The next one is the last.
        let mut pieces = vec![Piece { entries: batch, retries: 0, invocations: 0, response: None }];
        let mut pause = FIRST_PAUSE;
        while let Some(mut piece) = pieces.pop() {
            let (expired, fresh) = piece.entries.split_at(self.expired(piece.entries));
            if !expired.is_empty() {
                self.give_up(expired, Condition::RecordAgeExceeded, piece.invocations, piece.response);
                self.done(expired);
                piece.entries = fresh;
            }
            if piece.entries.is_empty() {
                continue;
            }
            match self.invoke(piece.entries).await {
                Verdict::Handled => {
                    self.done(piece.entries);
                    pause = FIRST_PAUSE;
                    continue;
                }
                Verdict::NotInvoked => pieces.push(piece),
                Verdict::FailedFrom(first, response) => {
                    let (handled, failed) = piece.entries.split_at(first);
                    self.done(handled);
                    piece.entries = failed;
                    piece.invocations += 1;
                    piece.response = Some(response);
                    if self.source.bisect && (failed.len() > 1 || first > 0) {
                        // Halves, unless the function has split the batch.
                        let middle = if first > 0 { 0 } else { failed.len() / 2 };
                        let (left, right) = failed.split_at(middle);
                        // The right half is handled after the left one.
                        for entries in [right, left] {
                            if !entries.is_empty() {
                                pieces.push(Piece { entries, ..piece });
                            }
                        }
                    } else if self.source.maximum_retry_attempts.is_some_and(|most| piece.retries >= most) {
                        self.give_up(
                            failed,
                            Condition::RetryAttemptsExhausted,
                            piece.invocations,
                            piece.response,
                        );
                        self.done(failed);
                        pause = FIRST_PAUSE;
                        continue;
                    } else {
                        pieces.push(Piece { retries: piece.retries + 1, ..piece });
                    }
                }
            }
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// How many records, from the first on, are too old.
    fn expired(&self, entries: &[Entry]) -> usize {
        let age = self.source.maximum_record_age.map_or(RETENTION, |age| age.min(RETENTION));
        let oldest = self.parts.clock.now().as_second().saturating_sub_unsigned(age.as_secs());
        entries.iter().take_while(|entry| entry.record.created_seconds < oldest).count()
    }

    async fn invoke(&self, entries: &[Entry]) -> Verdict {
        let source = &self.source;
        let (table, function, records) = (&source.table, &source.function, entries.len());
        let outcome = self.functions.invoke(function, Bytes::from(event(entries))).await;
        let answer = match (outcome, source.answers) {
            (Outcome::Answered(_), Answers::Ignored) => return Verdict::Handled,
            (Outcome::Answered(answer), Answers::ReportFailures) => answer,
            (outcome @ (Outcome::Throttled | Outcome::NotFound), _) => {
                tracing::warn!(
                    table,
                    function,
                    ?outcome,
                    "a function was not invoked with a batch of records"
                );
                return Verdict::NotInvoked;
            }
            (outcome, _) => {
                tracing::warn!(table, function, records, ?outcome, "a batch of records failed");
                return Verdict::FailedFrom(0, Response::FunctionError);
            }
        };
        let numbers: Vec<_> = entries.iter().map(|entry| entry.record.sequence_number()).collect();
        let known: BTreeSet<&str> = numbers.iter().map(String::as_str).collect();
        match answer::failures(&answer, &known) {
            Ok(failed) => match numbers.iter().position(|number| failed.contains(number)) {
                None => Verdict::Handled,
                Some(first) => {
                    tracing::warn!(table, function, records, first, "records of a batch failed");
                    Verdict::FailedFrom(first, Response::Answered)
                }
            },
            Err(error) => {
                tracing::warn!(table, function, records, %error, "a batch of records failed");
                Verdict::FailedFrom(0, Response::Answered)
            }
        }
    }

    fn done(&self, entries: &[Entry]) {
        if let Some(last) = entries.last() {
            self.save(last.record.position);
        }
    }
}
