//! One request, and the ways to read it. Each either gives a parsed value or the problem to answer with.

use std::fmt::Display;
use std::str::FromStr;

use lambda_http::request::RequestContext;
use lambda_http::{Body, Request, RequestExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::clock::{Clock, SystemClock};
use crate::cursor::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE};
use crate::deadline::{ANSWER_MARGIN, Deadline};
use crate::problem::{Problem, ProblemType};
use crate::tokens::{Principal, Role, TokenVerifier};

/// Largest body, in bytes. 96 order lines take under 10 KB.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// One request to an HTTP function.
#[derive(Debug)]
pub struct Incoming {
    request: Request,
    route: String,
    deadline: Deadline,
}

impl Incoming {
    /// Wraps the request that `lambda_http` made of the event.
    pub fn new(request: Request) -> Self {
        let route = match request.request_context_ref() {
            Some(RequestContext::ApiGatewayV2(context)) => context.route_key.clone().unwrap_or_default(),
            _ => String::new(),
        };
        let deadline_ms = request.lambda_context_ref().map_or(0, |context| context.deadline);
        let deadline = Deadline::of_invocation(deadline_ms, SystemClock.now()).earlier_by(ANSWER_MARGIN);
        Self { request, route, deadline }
    }

    /// The route of template.yaml that matched: `GET /orders/{orderId}`.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The instant by which the answer must be on its way.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// A path parameter, parsed. What does not parse names nothing: 404.
    pub fn path<T: FromStr>(&self, name: &str) -> Result<T, Problem> {
        let parameters = self.request.path_parameters_ref();
        let text = parameters.and_then(|all| all.first(name)).unwrap_or_default();
        text.parse().map_err(|_| Problem::new(ProblemType::NotFound, format!("there is no {name} {text:?}")))
    }

    /// A query parameter, if it was given.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.request.query_string_parameters_ref().and_then(|all| all.first(name))
    }

    /// The page size that the client asks for.
    pub fn limit(&self) -> Result<u32, Problem> {
        let Some(text) = self.query("limit") else { return Ok(DEFAULT_PAGE_SIZE) };
        match text.parse() {
            Ok(limit) if (1..=MAX_PAGE_SIZE).contains(&limit) => Ok(limit),
            _ => Err(invalid(format!("limit must be a number from 1 to {MAX_PAGE_SIZE}"))),
        }
    }

    /// The JSON body as the client's own tree, for fingerprints.
    pub fn json_value(&self) -> Result<Value, Problem> {
        self.json()
    }

    /// The JSON body.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let body = self.request.body();
        let bytes = match body {
            Body::Text(text) => text.as_bytes(),
            Body::Binary(bytes) => bytes,
            _ => &[],
        };
        if bytes.len() > MAX_BODY_BYTES {
            let detail = format!("the body has {} bytes; at most {MAX_BODY_BYTES} are taken", bytes.len());
            return Err(Problem::new(ProblemType::BodyTooLarge, detail));
        }
        let media_type = self.header("content-type").unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let is_json = essence.eq_ignore_ascii_case("application/json")
            || essence
                .get(essence.len().saturating_sub(5)..)
                .is_some_and(|end| end.eq_ignore_ascii_case("+json"));
        if !is_json {
            let detail = format!("the Content-Type is {essence:?}, not application/json");
            return Err(Problem::new(ProblemType::UnsupportedMediaType, detail));
        }
        serde_json::from_slice(bytes).map_err(|error| invalid(format!("the body is not valid: {error}")))
    }

    /// The verified caller.
    pub fn principal(&self, verifier: &TokenVerifier) -> Result<Principal, Problem> {
        let Some(header) = self.header("authorization") else {
            return Err(unauthenticated("an Authorization: Bearer header is required"));
        };
        let token = match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => {
                return Err(unauthenticated(
                    "the Authorization header must be of the form: Bearer <access token>",
                ));
            }
        };
        verifier.verify(token).map_err(|reason| {
            tracing::info!(%reason, "access token refused");
            unauthenticated("the access token is not valid, or no longer")
        })
    }

    /// The verified caller, who must be an operator.
    pub fn operator(&self, verifier: &TokenVerifier) -> Result<Principal, Problem> {
        let principal = self.principal(verifier)?;
        if principal.has_role(Role::Operator) {
            Ok(principal)
        } else {
            Err(Problem::new(ProblemType::Forbidden, "this needs the role operator"))
        }
    }

    /// Runs `work` and gives it up at the deadline. What was given up may have happened or not; the caller's protocol
    /// must survive both.
    pub fn in_time<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, Problem>>
    where
        Problem: From<E>,
    {
        // SDK calls are futures of many kilobytes, which every layer around them would carry along.
        let work = self.deadline.cut_off(Box::pin(work));
        async {
            match work.await {
                Ok(result) => result.map_err(Problem::from),
                Err(passed) => {
                    tracing::error!(error = %passed, route = self.route, "given up at the deadline");
                    Err(Problem::new(ProblemType::Unavailable, "this took too long; try again"))
                }
            }
        }
    }
}

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(ProblemType::Unauthenticated, detail)
}

/// A request that cannot be read.
pub fn invalid(detail: impl Display) -> Problem {
    Problem::new(ProblemType::InvalidRequest, detail.to_string())
}
