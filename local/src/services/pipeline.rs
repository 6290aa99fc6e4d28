//! The path that every request to a service takes.
//!
//! 1. Operation: what the request asks for ([`Api::operation`]).
//! 2. Authenticate: whose access key signed it ([`Api::authenticate`]).
//! 3. Read: the resources, the permissions that it needs, and the rest of the request
//!    ([`Api::read`]).
//! 4. Policy: [`Access`] checks every permission against the caller's policy.
//! 5. Faults: [`Faults`] may delay, hold, fail or cut off the request. Rules for entries of a
//!    batch, and rules that alter a request, are handed to the service ([`Api::fail_entries`],
//!    [`Api::alter`]).
//! 6. Perform: the service does its work ([`Api::perform`]).
//! 7. Settle: a fault rule may delay the answer, or drop it.
//! 8. Note: [`Usage`] counts the request, if recording is on.
//!
//! A service joins with an implementation of [`Api`]: how requests name their operation, resources
//! and permissions, how they are performed, and what refusals look like on the wire. [`run`] does
//! the rest.
//!
//! S3 does not use [`run`]. Its library verifies signatures and routes, and calls back in between.
//! So S3's access check calls [`Controls::enter`] (steps 4 and 5), and its endpoint
//! [`Passage::leave`] (steps 7 and 8). `run` is made of the same two.
//!
//! Limits: a request that is refused in the first three steps is not counted.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};

use super::access::{Access, Caller, Denied, Permission, Unauthenticated};
use super::call::{Call, Hangup, Service};
use super::faults::{Aftermath, Alteration, EntryFault, Failure, Faults};
use super::switch::Switch;
use super::usage::{Units, Usage};

/// The policies, fault rules, counters and main switch of one region. Cheap to clone; all clones
/// are one.
#[derive(Debug, Clone)]
pub struct Controls {
    /// Who may do what.
    pub access: Arc<Access>,
    /// What goes wrong on purpose.
    pub faults: Arc<Faults>,
    pub usage: Arc<Usage>,
    /// Whether anybody is answered at all.
    pub switch: Switch,
}

/// One AWS API behind the pipeline.
pub(crate) trait Api: Sync {
    /// What fault rules and usage call it.
    const SERVICE: Service;
    /// The body of its requests: bytes, or a stream that [`Api::perform`] reads.
    type Body: Send;
    /// The body of its answers.
    type Answer: Send;
    /// What step 1 found out.
    type Operation;
    /// The rest of the request, for [`Api::perform`].
    type Work: Send;

    /// The operation, before the caller is authenticated. `Err` answers a request that asks for
    /// nothing known.
    fn operation(&self, head: &Parts) -> Result<Self::Operation, Refused<Self::Answer>>;

    /// The caller.
    fn authenticate(&self, access: &Access, headers: &HeaderMap) -> Result<Caller, Unauthenticated> {
        access.authenticate(headers)
    }

    /// Resources, permissions and the rest of the request. `Err` answers a request that cannot be
    /// read.
    fn read(
        &self,
        operation: Self::Operation,
        head: Parts,
        body: Self::Body,
    ) -> Result<Reading<Self::Work>, Refused<Self::Answer>>;

    /// Does what was asked.
    fn perform(&self, call: &Call, work: Self::Work) -> impl Future<Output = Response<Self::Answer>> + Send;

    /// Has the entries of a batch fail that `fault` hits. Most operations have none.
    fn fail_entries(&self, _work: &mut Self::Work, _fault: &EntryFault) {}

    /// Alters what the request does. Only DynamoDB's do.
    fn alter(&self, _call: &Call, _work: &mut Self::Work, _alteration: &Alteration) {}

    /// A refusal on the wire; with the work, unless the caller is unknown.
    fn refuse(&self, refusal: Refusal, work: Option<&Self::Work>) -> Response<Self::Answer>;
}

/// The answer to a request that went no further. In a box, since it is large and rare.
pub(crate) type Refused<B> = Box<Response<B>>;

/// What [`Api::read`] understood.
pub(crate) struct Reading<W> {
    /// See [`Call::operation`].
    pub(crate) operation: String,
    /// See [`Call::resources`].
    pub(crate) resources: Vec<String>,
    /// All of them are needed.
    pub(crate) permissions: Vec<Permission>,
    /// The rest of the request, for [`Api::perform`].
    pub(crate) work: W,
}

/// Why the pipeline refuses a request.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The caller is unknown.
    Unauthenticated(Unauthenticated),
    /// The caller's policy does not allow it.
    Denied(Denied),
    /// A fault rule makes it fail.
    Injected(Failure),
}

/// Capacity that a request consumed, by table: an extension of the answer that [`run`] takes out
/// again.
#[derive(Debug, Clone)]
pub(crate) struct Consumed(pub(crate) Vec<(String, Units)>);

/// A request between steps 5 and 7. It must leave in any case, or it is not counted.
#[derive(Debug)]
#[must_use = "the request is counted when it leaves"]
pub(crate) struct Passage {
    pub(crate) call: Call,
    start: Instant,
    aftermath: Aftermath,
    usage: Arc<Usage>,
}

/// Takes one request through all steps.
pub(crate) async fn run<A: Api>(
    api: &A,
    controls: &Controls,
    request: Request<A::Body>,
) -> Result<Response<A::Answer>, Hangup> {
    let start = Instant::now();
    let (caller, reading) = match admit(api, controls, request) {
        Ok(admitted) => admitted,
        Err(refused) => return Ok(*refused),
    };
    let Reading { operation, resources, permissions, mut work } = reading;
    let call = Call { caller, service: A::SERVICE, operation, resources };
    let (passage, entered) = controls.enter(call, start, &permissions).await;
    let mut response = match entered {
        Ok(()) => {
            passage.aftermath.entries.iter().for_each(|fault| api.fail_entries(&mut work, fault));
            passage.aftermath.alterations.iter().for_each(|how| api.alter(&passage.call, &mut work, how));
            api.perform(&passage.call, work).await
        }
        Err(refusal) => api.refuse(refusal, Some(&work)),
    };
    let consumed = response.extensions_mut().remove().map_or_else(Vec::new, |Consumed(units)| units);
    passage.leave(response.status(), consumed).await.map(|()| response)
}

/// Origin and method of a request.
type Admitted<A> = (Caller, Reading<<A as Api>::Work>);

/// Steps 1 to 3.
fn admit<A: Api>(
    api: &A,
    controls: &Controls,
    request: Request<A::Body>,
) -> Result<Admitted<A>, Refused<A::Answer>> {
    let (head, body) = request.into_parts();
    let operation = api.operation(&head)?;
    let caller = api
        .authenticate(&controls.access, &head.headers)
        .map_err(|stranger| Box::new(api.refuse(Refusal::Unauthenticated(stranger), None)))?;
    Ok((caller, api.read(operation, head, body)?))
}

impl Controls {
    /// No faults and no measurement yet.
    pub fn new(access: Access) -> Self {
        let (faults, usage, switch) = (Arc::default(), Arc::default(), Switch::default());
        Self { access: Arc::new(access), faults, usage, switch }
    }

    /// Steps 4 and 5 for a request that was received at `start`. A refused request leaves like any
    /// other.
    pub(crate) async fn enter(
        &self,
        call: Call,
        start: Instant,
        permissions: &[Permission],
    ) -> (Passage, Result<(), Refusal>) {
        let check = |needed| self.access.check_permission(&call.caller, needed);
        let (aftermath, entered) = match permissions.iter().try_for_each(check) {
            Ok(()) => {
                let (aftermath, verdict) = self.faults.before(&call).await;
                (aftermath, verdict.map_err(Refusal::Injected))
            }
            Err(denied) => {
                tracing::warn!(function = call.caller.name(), "{denied}");
                (Aftermath::default(), Err(Refusal::Denied(denied)))
            }
        };
        (Passage { call, start, aftermath, usage: Arc::clone(&self.usage) }, entered)
    }
}

impl Passage {
    /// Steps 7 and 8. `Err` when the answer is to be lost with its connection.
    pub(crate) async fn leave(
        self,
        status: StatusCode,
        consumed: Vec<(String, Units)>,
    ) -> Result<(), Hangup> {
        let settled = self.aftermath.settle().await;
        let status = settled.is_ok().then_some(status.as_u16());
        self.usage.note(&self.call, self.start, status, consumed);
        settled
    }
}
