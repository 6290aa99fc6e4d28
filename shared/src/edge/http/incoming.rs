//! A request, and its accessors. Each returns a parsed value or the problem to answer with.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use lambda_http::request::RequestContext;
use lambda_http::{Body, Request, RequestExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Authenticator, authenticator, media_type};
use crate::coordination::idempotency::{HEADER, IdempotencyKey};
use crate::core::cursor::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE};
use crate::core::deadline::Deadline;
use crate::core::ids::{SessionId, UserId};
use crate::core::json;
use crate::core::precondition::{IF_MATCH, IF_NONE_MATCH, Preconditions};
use crate::core::problem::{Problem, ProblemType};
use crate::edge::header;
use crate::identity::principal::{Credential, Principal, Role};
use crate::identity::sessions::SessionError;
use crate::platform::dynamo::RowRead;

/// Largest body, in bytes. 94 order lines take under 10 KB.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// One request to an HTTP function.
#[derive(Debug)]
pub struct HttpRequest {
    request: Request,
    route: String,
    deadline: Deadline,
}

impl HttpRequest {
    /// Wraps a `lambda_http` request. It must be answered by `deadline`.
    pub fn new(request: Request, deadline: Deadline) -> Self {
        let route = match request.request_context_ref() {
            Some(RequestContext::ApiGatewayV2(context)) => context.route_key.clone().unwrap_or_default(),
            _ => String::new(),
        };
        Self { request, route, deadline }
    }

    /// The matched route of template.yaml: `GET /orders/{orderId}`.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The instant by which the answer must be sent.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// The address of the connection, as API Gateway saw it. `X-Forwarded-For` is ignored, since
    /// clients can set it.
    pub fn source_address(&self) -> Option<IpAddr> {
        match self.request.request_context_ref() {
            Some(RequestContext::ApiGatewayV2(context)) => context.http.source_ip.as_deref()?.parse().ok(),
            _ => None,
        }
    }

    /// The idempotency key of this write.
    pub fn idempotency_key(&self) -> Result<IdempotencyKey, Problem> {
        Ok(IdempotencyKey::from_header(header::single(self.request.headers(), HEADER)?)?)
    }

    /// The value of a header that may occur once; `None` if it occurs twice.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header::single(self.request.headers(), name).unwrap_or_default()
    }

    /// The value of a cookie with this name, if it is text.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let lines = self.request.headers().get_all("cookie").iter();
        let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        // Other cookies are ignored: their values may be any bytes.
        let mut pairs = pairs.filter_map(|pair| str::from_utf8(pair).ok()?.trim().split_once('='));
        pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The request's preconditions.
    pub fn preconditions(&self) -> Result<Preconditions, Problem> {
        let [if_match, if_none_match] =
            [IF_MATCH, IF_NONE_MATCH].map(|name| header::list(self.request.headers(), name));
        Ok(Preconditions::from_headers(if_match.as_deref(), if_none_match.as_deref())?)
    }

    /// The challenge of a 401 (RFC 6750, section 3.1): without an access token, the scheme only.
    pub(super) fn challenge(&self) -> &'static str {
        let is_shown = authenticator::shows_bearer(self.request.headers());
        if is_shown { "Bearer error=\"invalid_token\"" } else { "Bearer" }
    }

    /// A path parameter, parsed. An invalid one names nothing: 404.
    pub fn path<T: FromStr>(&self, name: &str) -> Result<T, Problem> {
        let parameters = self.request.path_parameters_ref();
        let text = parameters.and_then(|all| all.first(name)).unwrap_or_default();
        text.parse().map_err(|_| Problem::new(ProblemType::NotFound, format!("there is no {name} {text:?}")))
    }

    /// A query parameter, if it was given. Unknown parameters are ignored: links get some on their
    /// way (`utm_source`).
    pub fn query(&self, name: &str) -> Result<Option<&str>, Problem> {
        let all = self.request.query_string_parameters_ref().and_then(|all| all.all(name));
        match all.as_deref() {
            None | Some([]) => Ok(None),
            Some([value]) => Ok(Some(value)),
            Some(_) => Err(invalid(format!("the parameter {name} occurs twice"))),
        }
    }

    /// The requested page size.
    pub fn limit(&self) -> Result<u32, Problem> {
        let Some(text) = self.query("limit")? else { return Ok(DEFAULT_PAGE_SIZE) };
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(limit) if is_number && (1..=MAX_PAGE_SIZE).contains(&limit) => Ok(limit),
            _ => Err(invalid(format!("limit must be a number from 1 to {MAX_PAGE_SIZE}"))),
        }
    }

    /// The JSON body as a tree, for fingerprints.
    pub fn json_value(&self) -> Result<Value, Problem> {
        self.json()
    }

    /// The JSON body of a request that may have none.
    pub fn json_if_any<T: DeserializeOwned>(&self) -> Result<Option<T>, Problem> {
        match self.request.body() {
            Body::Text(text) if !text.is_empty() => self.json().map(Some),
            Body::Binary(bytes) if !bytes.is_empty() => self.json().map(Some),
            _ => Ok(None),
        }
    }

    /// The JSON body, which is always an object.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let body = self.request.body();
        let bytes = match body {
            Body::Text(text) => text.as_bytes(),
            Body::Binary(bytes) => bytes,
            _ => &[],
        };
        if bytes.len() > MAX_BODY_BYTES {
            let detail = format!("the body has {} bytes; at most {MAX_BODY_BYTES} are allowed", bytes.len());
            return Err(Problem::new(ProblemType::BodyTooLarge, detail));
        }
        let headers = self.request.headers();
        if header::list(headers, "content-encoding").is_some_and(|codings| !media_type::is_identity(&codings))
        {
            let detail = "send the body without a Content-Encoding";
            return Err(Problem::new(ProblemType::UnsupportedContentEncoding, detail));
        }
        let content_type = header::single(headers, "content-type")?.unwrap_or_default();
        if !media_type::is_json(content_type) {
            let detail = format!("the Content-Type is {content_type:?}, not application/json in UTF-8");
            return Err(Problem::new(ProblemType::UnsupportedMediaType, detail));
        }
        // serde's errors would repeat a text as a whole, and a body that was encoded twice may be a
        // text full of secrets. And serde accepts an array for an object.
        let text = bytes.strip_prefix(json::BYTE_ORDER_MARK).unwrap_or(bytes);
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(invalid("the body is not a JSON object"));
        }
        json::parse(bytes).map_err(|error| invalid(format!("the body is not valid: {error}")))
    }

    /// The claimed caller, for work that checks the session with a read of its own.
    pub async fn credential(&self, authenticator: &Authenticator) -> Result<Credential, Problem> {
        self.in_time(authenticator.credential(self.request.method(), self.request.headers())).await
    }

    /// The same, for a caller who must claim to be an operator.
    pub async fn operator(&self, authenticator: &Authenticator) -> Result<Credential, Problem> {
        let credential = self.credential(authenticator).await?;
        credential.require_role(Role::Operator)?;
        Ok(credential)
    }

    /// The checked caller. For work that begins with a write.
    pub async fn caller(&self, authenticator: &Authenticator) -> Result<Principal, Problem> {
        let credential = self.credential(authenticator).await?;
        self.in_time(authenticator.sessions().check(&credential)).await
    }

    /// The checked caller, and the result of `read` for that user and session. The session is
    /// checked concurrently, so that the check costs no time of its own.
    ///
    /// # Errors
    /// Those of the check, whatever `read` returns: a caller without a session learns nothing.
    pub async fn caller_beside<T, E>(
        &self,
        authenticator: &Authenticator,
        read: impl AsyncFnOnce(&UserId, &SessionId) -> Result<T, E>,
    ) -> Result<(Principal, T), Problem>
    where
        Problem: From<E>,
    {
        let credential = self.credential(authenticator).await?;
        let check = authenticator.sessions().check(&credential);
        let read = async { Ok(read(credential.user_id(), credential.session_id()).await) };
        let (caller, found) =
            self.in_time::<_, SessionError>(async { tokio::try_join!(check, read) }).await?;
        Ok((caller, found?))
    }

    /// The checked caller, and the row that `read` names: in one call where that is possible
    /// ([`SessionStore::check_with_row`]).
    ///
    /// # Errors
    /// As [`Self::caller_beside`].
    ///
    /// [`SessionStore::check_with_row`]: crate::identity::sessions::SessionStore::check_with_row
    pub async fn caller_with_row<'a, T: Send>(
        &self,
        authenticator: &Authenticator,
        read: impl FnOnce(&UserId) -> RowRead<'a, T>,
    ) -> Result<(Principal, T), Problem> {
        let credential = self.credential(authenticator).await?;
        let row = read(credential.user_id());
        self.in_time(authenticator.sessions().check_with_row(&credential, row, self.deadline)).await
    }

    /// Runs `work` until the deadline. Cancelled work may have happened or not; the caller's
    /// protocol must survive both.
    pub fn in_time<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, Problem>>
    where
        Problem: From<E>,
    {
        // SDK calls are futures of many kilobytes, which every layer around them would contain.
        let work = self.deadline.cut_off(Box::pin(work));
        async { work.await?.map_err(Problem::from) }
    }
}

/// A request that cannot be read.
pub fn invalid(detail: impl Display) -> Problem {
    Problem::new(ProblemType::InvalidRequest, detail.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;
    use std::future::pending;
    use std::time::Duration;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Credentials {
        #[expect(dead_code, reason = "only its reading is tested")]
        password: String,
    }

    #[test]
    fn the_source_address_is_the_gateways_and_not_the_headers() {
        assert_eq!(request("{}", "k").source_address(), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(HttpRequest::new(Request::default(), soon()).source_address(), None);
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(50))
    }

    /// A request with this body and key, which has 50 ms left.
    fn request(body: &str, key: &str) -> HttpRequest {
        let event = json!({
            "version": "2.0", "routeKey": "POST /sessions", "rawPath": "/sessions", "rawQueryString": "",
            "headers": {"content-type": "application/json", "x-forwarded-for": "198.51.100.9", HEADER: key},
            "requestContext": {
                "routeKey": "POST /sessions", "stage": "$default", "timeEpoch": 0,
                "http": {"method": "POST", "path": "/sessions", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"},
            },
            "body": body, "isBase64Encoded": false,
        });
        HttpRequest::new(lambda_http::request::from_str(&event.to_string()).unwrap(), soon())
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_and_not_repeated() {
        let encoded_twice = json!(json!({"password": "hunter2"}).to_string()).to_string();
        for body in [encoded_twice.as_str(), r#"["hunter2"]"#, r#""hunter2""#, "4711", ""] {
            let problem = request(body, "k").json::<Credentials>().unwrap_err();
            assert_eq!(problem.kind, ProblemType::InvalidRequest);
            assert!(
                !problem.detail.contains("hunter2") && !problem.detail.contains("4711"),
                "{}",
                problem.detail
            );
        }
        assert!(request(" {\"password\": \"hunter2\"}", "k").json::<Credentials>().is_ok());
    }

    #[test]
    fn a_key_that_is_not_ascii_is_malformed_and_not_missing() {
        let request = request("{}", "k\u{e4}se");
        assert_eq!(request.idempotency_key().unwrap_err().kind, ProblemType::IdempotencyKeyInvalid);
    }

    #[tokio::test]
    async fn work_that_is_given_up_at_the_deadline_may_be_asked_for_again() {
        let outcome = request("{}", "k").in_time(pending::<Result<(), Problem>>()).await;
        let reply = outcome.unwrap_err().into_reply();
        assert_eq!((reply.status, reply.headers["retry-after"].as_str()), (503, "1"));
    }
}
