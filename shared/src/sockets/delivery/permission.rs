//! Leave to post: given, or not, while whoever needs it makes ready.

use tokio::sync::oneshot;

/// There was no leave to post, and nobody was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there was no leave to post")]
pub struct Withheld;

/// The right to give a [`Permission`]. Dropped, it withholds it.
#[derive(Debug)]
pub struct Grant(oneshot::Sender<()>);

/// Leave to post, waited for before the first post.
#[derive(Debug)]
pub struct Permission(oneshot::Receiver<()>);

impl Permission {
    /// One that is to be given or withheld.
    pub fn pending() -> (Grant, Self) {
        let (grant, permission) = oneshot::channel();
        (Grant(grant), Self(permission))
    }

    /// One that was given before.
    pub fn given() -> Self {
        let (grant, permission) = Self::pending();
        grant.give();
        permission
    }

    pub(super) async fn wait(self) -> Result<(), Withheld> {
        self.0.await.map_err(|_| Withheld)
    }
}

impl Grant {
    /// Gives it.
    pub fn give(self) {
        if self.0.send(()).is_err() {
            tracing::debug!("leave to post came when nobody waited for it any more");
        }
    }
}
