//! The connections of an audience as a stream. The next page is read while the current one is
//! processed.

use std::future::ready;

use futures::stream::{self, Stream, StreamExt};

use crate::core::deadline::{Deadline, DeadlineExceeded};
use crate::platform::dynamo::DynamoError;
use crate::sockets::connections::{Audience, Cursor, DynamoConnections, Peer, PeerPage};

/// Why the stream ends before the audience does.
#[derive(Debug)]
pub(super) enum Interruption {
    OutOfTime,
    Unreadable(DynamoError),
}

/// Where the next page comes from.
enum NextPage {
    Read(Result<PeerPage, Interruption>),
    After(Cursor),
}

/// Reads the page of `audience` after `cursor`.
pub(super) async fn read_page(
    registry: &DynamoConnections,
    audience: &Audience,
    cursor: &Cursor,
    last_start: Deadline,
) -> Result<PeerPage, Interruption> {
    match last_start.cut_off(registry.find(audience, cursor)).await {
        Ok(page) => page.map_err(Interruption::Unreadable),
        Err(DeadlineExceeded) => Err(Interruption::OutOfTime),
    }
}

/// The peers of `audience` from its page `first` on. The stream ends with the audience, with an
/// unreadable page, or when `last_start` has passed: no other post may start then. An interruption
/// is the last item.
pub(super) fn peers(
    registry: &DynamoConnections,
    audience: &Audience,
    first: Result<PeerPage, Interruption>,
    last_start: Deadline,
) -> impl Stream<Item = Result<Peer, Interruption>> {
    let pages = stream::unfold(Some(NextPage::Read(first)), move |next| async move {
        let page = match next? {
            NextPage::Read(page) => page,
            NextPage::After(cursor) => read_page(registry, audience, &cursor, last_start).await,
        };
        Some(match page {
            Ok(page) => (page.peers.into_iter().map(Ok).collect::<Vec<_>>(), page.next.map(NextPage::After)),
            Err(interruption) => (vec![Err(interruption)], None),
        })
    });
    pages.flat_map(stream::iter).scan(false, move |has_ended, peer| {
        let peer = match peer {
            _ if *has_ended => None,
            Ok(_) if last_start.has_passed() => Some(Err(Interruption::OutOfTime)),
            peer => Some(peer),
        };
        *has_ended = !matches!(peer, Some(Ok(_)));
        ready(peer)
    })
}
