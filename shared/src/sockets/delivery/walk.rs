//! The way through an audience: peer by peer, the next page read while the present one is served.

use std::future::ready;

use futures::stream::{self, Stream, StreamExt};

use crate::core::deadline::{Deadline, DeadlineExceeded};
use crate::platform::dynamo::DynamoError;
use crate::sockets::connections::{Audience, Cursor, Find, Peer};

/// What comes next in an audience.
pub(super) enum Step {
    Serve(Peer),
    Stop(Stop),
}

/// Why a walk ends before its audience does.
pub(super) enum Stop {
    OutOfTime,
    Unreadable(DynamoError),
}

/// The part of `audience` behind `start`, until it ends, can't be read, or `last_start` has passed: there is no time then
/// to begin with another peer. A stop is the last step.
pub(super) fn walk(
    registry: &impl Find,
    audience: &Audience,
    start: Cursor,
    last_start: Deadline,
) -> impl Stream<Item = Step> {
    let pages = stream::unfold(Some(start), move |cursor| async move {
        let stop = match last_start.cut_off(registry.find(audience, &cursor?)).await {
            Ok(Ok(page)) => {
                return Some((page.peers.into_iter().map(Step::Serve).collect::<Vec<_>>(), page.next));
            }
            Ok(Err(error)) => Stop::Unreadable(error),
            Err(DeadlineExceeded) => Stop::OutOfTime,
        };
        Some((vec![Step::Stop(stop)], None))
    });
    pages.flat_map(stream::iter).scan(false, move |stopped, step| {
        let step = match step {
            _ if *stopped => None,
            Step::Serve(_) if last_start.has_passed() => Some(Step::Stop(Stop::OutOfTime)),
            step => Some(step),
        };
        *stopped = !matches!(step, Some(Step::Serve(_)));
        ready(step)
    })
}
