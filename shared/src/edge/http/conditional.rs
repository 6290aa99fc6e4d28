//! Cacheable answers to reads: entity tag, preconditions, `Cache-Control` (RFC 9110 section 13, RFC
//! 9111).
//!
//! A versioned resource is tagged with its version ([`read_version`]); every other answer is tagged
//! with a hash of its body ([`read`]). A client that has the current answer sends its tag and gets
//! 304 without a body. The read itself is made all the same.

use std::time::Duration;

use super::HttpRequest;
use crate::core::precondition::{Current, EntityTag, Evaluation, Preconditions};
use crate::core::problem::Problem;
use crate::core::reply::Reply;

/// How long an answer may be used without revalidation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Any cache may store it (RFC 9111, section 5.2.2.9).
    Public {
        max_age: Duration,
        /// After that, while a cache revalidates (RFC 5861, section 3).
        stale_while_revalidate: Duration,
    },
    /// Only the caller's own client may store it, and revalidates each time (sections 5.2.2.7 and
    /// 5.2.2.4).
    Private,
}

impl Caching {
    fn header(self) -> String {
        match self {
            Self::Public { max_age, stale_while_revalidate } => format!(
                "public, max-age={}, stale-while-revalidate={}",
                max_age.as_secs(),
                stale_while_revalidate.as_secs()
            ),
            Self::Private => "private, no-cache".to_owned(),
        }
    }
}

/// The answer to a read: `reply`, 304 without its body, or 412.
pub fn read(request: &HttpRequest, caching: Caching, reply: Reply) -> Result<Reply, Problem> {
    let tag = EntityTag::of_content(reply.content().unwrap_or_default().as_bytes());
    let reply = reply.header("etag", tag.to_string()).header("cache-control", caching.header());
    answer(&request.preconditions()?, Current { tag, exists: true }, reply)
}

/// The answer to a read of the caller's own versioned resource, with which `reply` is tagged.
pub fn read_version(request: &HttpRequest, current: Current, reply: Reply) -> Result<Reply, Problem> {
    answer(&request.preconditions()?, current, reply.header("cache-control", Caching::Private.header()))
}

fn answer(preconditions: &Preconditions, current: Current, reply: Reply) -> Result<Reply, Problem> {
    match preconditions.evaluate(&current) {
        Evaluation::Met => Ok(reply),
        // RFC 9110, section 15.4.5: the headers that 200 would have, as far as caches need them.
        Evaluation::Matched => Ok(Reply { status: 304, body: None, text: None, ..reply }),
        Evaluation::NotMatched => Err(Problem::stale(current.tag)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::deadline::Deadline;
    use crate::core::problem::ProblemType;
    use lambda_http::Request;
    use serde_json::json;

    const PUBLIC: Caching =
        Caching::Public { max_age: Duration::from_secs(5), stale_while_revalidate: Duration::from_secs(30) };

    fn request(header: Option<(&'static str, &str)>) -> HttpRequest {
        let mut request = Request::default();
        if let Some((name, value)) = header {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        HttpRequest::new(request, Deadline::after(Duration::ZERO))
    }

    fn tea(header: Option<(&'static str, &str)>) -> Result<Reply, Problem> {
        read(&request(header), PUBLIC, Reply::json(200, json!({"name": "Tea"})))
    }

    #[test]
    fn an_answer_is_tagged_and_says_how_long_it_may_be_kept() {
        let first = tea(None).unwrap();
        assert_eq!((first.status, first.body.as_ref()), (200, Some(&json!({"name": "Tea"}))));
        assert_eq!(first.headers["cache-control"], "public, max-age=5, stale-while-revalidate=30");
        assert_eq!(first.headers["etag"], tea(None).unwrap().headers["etag"]);
        let other =
            read(&request(None), Caching::Private, Reply::json(200, json!({"name": "Coffee"}))).unwrap();
        assert_eq!(other.headers["cache-control"], "private, no-cache");
        assert_ne!(first.headers["etag"], other.headers["etag"]);
    }

    #[test]
    fn who_has_the_answer_gets_304_without_a_body() {
        let tag = tea(None).unwrap().headers["etag"].clone();
        let unchanged = tea(Some(("if-none-match", &tag))).unwrap();
        assert_eq!((unchanged.status, unchanged.body, unchanged.text), (304, None, None));
        assert_eq!(unchanged.headers["etag"], tag);
        assert!(unchanged.headers.contains_key("cache-control"));
        assert_eq!(tea(Some(("if-none-match", "\"7\""))).unwrap().status, 200);
        assert_eq!(tea(Some(("if-match", &tag))).unwrap().status, 200);
        let stale = tea(Some(("if-match", "\"7\""))).unwrap_err();
        assert_eq!(stale.kind, ProblemType::StaleVersion);
        assert_eq!(stale.into_reply().headers["etag"], tag);
    }

    #[test]
    fn a_version_is_its_own_tag() {
        let seven = |header| {
            let reply = Reply::json(200, json!({})).header("etag", EntityTag::Version(7).to_string());
            let current = Current { tag: EntityTag::Version(7), exists: true };
            read_version(&request(header), current, reply)
        };
        assert_eq!(seven(Some(("if-none-match", "\"7\""))).unwrap().status, 304);
        assert_eq!(
            seven(Some(("if-none-match", "\"6\""))).unwrap().headers["cache-control"],
            "private, no-cache"
        );
        assert_eq!(seven(Some(("if-match", "\"6\""))).unwrap_err().kind, ProblemType::StaleVersion);
        assert_eq!(seven(Some(("if-match", "six"))).unwrap_err().kind, ProblemType::InvalidRequest);
    }
}
