//! Requests to answers.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use sojourn::clock::{SharedClock, rfc3339};
use sojourn::http::{Incoming, no_such_route};
use sojourn::ids::SharedIds;
use sojourn::problem::{Problem, ProblemType};
use sojourn::reply::Reply;
use sojourn::sessions::{Device, SessionStarter, SessionStore, SignedIn};
use sojourn::tokens::{ACCESS_TOKEN_LIFETIME, PublicKeys};
use sojourn::users::dynamo::DynamoUsers;
use sojourn::users::{self, Authentication, Email, NewPassword, Password, SignUp};

/// How long the public keys may be kept by clients and caches. A key is published at least this long before it signs.
const KEYS_CACHE_CONTROL: &str = "public, max-age=300";

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) users: DynamoUsers,
    pub(crate) sessions: SessionStarter<SessionStore>,
    pub(crate) public_keys: PublicKeys,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignUpBody {
    email: Email,
    password: NewPassword,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignInBody {
    email: Email,
    password: Password,
    device: Option<Device>,
}

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, request: Incoming) -> Result<Reply, Problem> {
    match request.route() {
        "POST /users" => sign_up(&app, &request).await,
        "POST /sessions" => sign_in(&app, &request).await,
        "GET /.well-known/jwks.json" => Ok(public_keys(&app)),
        _ => Err(no_such_route(&request)),
    }
}

async fn sign_up(app: &App, request: &Incoming) -> Result<Reply, Problem> {
    let SignUpBody { email, password } = request.json()?;
    let work = users::sign_up(&app.users, &app.clock, &app.ids, email, password, request.deadline());
    match request.in_time(work).await? {
        SignUp::Created(user) => Ok(Reply::json(
            201,
            json!({ "userId": user.id, "email": user.email, "createdAt": rfc3339(user.created_at) }),
        )),
        SignUp::EmailTaken => {
            Err(Problem::new(ProblemType::EmailTaken, "there is an account with this e-mail address"))
        }
    }
}

async fn sign_in(app: &App, request: &Incoming) -> Result<Reply, Problem> {
    let SignInBody { email, password, device } = request.json()?;
    let user = match request.in_time(users::authenticate(&app.users, &email, password)).await? {
        Authentication::Accepted(user) => user,
        Authentication::Refused => {
            return Err(Problem::new(
                ProblemType::WrongCredentials,
                "there is no account with this e-mail address and password",
            ));
        }
    };
    let signed_in = request.in_time(app.sessions.start(&user, device)).await?;
    Ok(signed_in_reply(&signed_in))
}

fn signed_in_reply(SignedIn { session, access, refresh, cookie }: &SignedIn) -> Reply {
    let body = json!({
        "accessToken": access.text.expose(),
        "expiresIn": ACCESS_TOKEN_LIFETIME.as_secs(),
        "refreshToken": refresh.expose(),
        "sessionId": session.id,
        "userId": session.user_id,
    });
    Reply::json(201, body).cookie(cookie.issue(session.expires_at, session.created_at))
}

fn public_keys(app: &App) -> Reply {
    Reply::json(200, json!(app.public_keys)).header("cache-control", KEYS_CACHE_CONTROL)
}
