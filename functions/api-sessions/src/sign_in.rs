//! Signing in, and refreshing tokens.

use serde::Deserialize;
use serde_json::{Value, json};
use sojourn::core::problem::{Problem, ProblemType};
use sojourn::core::redacted::Redacted;
use sojourn::core::reply::Reply;
use sojourn::edge::http::HttpRequest;
use sojourn::identity::email::Email;
use sojourn::identity::sessions::{Device, RefreshToken, Session};
use sojourn::identity::sign_in::{Renewal, Renewed, SignedIn};
use sojourn::identity::throttle::{AttemptSource, DeviceToken, KnownDevice, device};
use sojourn::identity::tokens::{ACCESS_TOKEN_LIFETIME, AccessToken};
use sojourn::identity::users::{self, Authentication, Credentials, Password};

use crate::app::App;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignInBody {
    email: Email,
    password: Password,
    device: Option<Device>,
    device_token: Option<DeviceToken>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RefreshBody {
    refresh_token: Redacted<String>,
}

/// `POST /sessions`.
pub(crate) async fn sign_in(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let SignInBody { email, password, device, device_token } = request.json()?;
    let known = known_device(app, request, &email, device_token);
    let origin = AttemptSource { address: app.trusted_proxy.client_address(request)?, device: known };
    let credentials = Credentials { email, password, origin };
    let authentication = users::authenticate(&app.users, &app.throttle, credentials);
    let (user, reservation) = match request.in_time(authentication).await? {
        Authentication::Accepted { user, reservation } => (user, reservation),
        Authentication::Refused => {
            return Err(Problem::new(
                ProblemType::WrongCredentials,
                "the e-mail address or the password is wrong",
            ));
        }
        Authentication::Throttled(refusal) => return Err(refusal.into()),
    };
    let start = app.starter.start(&user, device);
    let SignedIn { session, access, refresh, cookie } =
        request.in_time(app.throttle.refund_during(reservation, start)).await?;
    let cookie = app.authenticator.cookie().issue(&cookie, session.expires_at, session.created_at);
    let device_token = app.device_tokens.issue(known, &user.email)?;
    let mut document = document(&session, &access, &refresh);
    document["deviceToken"] = device_token.expose().into();
    Ok(Reply::json(201, document).cookie(cookie).cookie(device_token.cookie()))
}

/// The device of the request, if it has signed in to the account of `email` before: by the token in
/// the body, or by a browser's cookie.
pub(crate) fn known_device(
    app: &App,
    request: &HttpRequest,
    email: &Email,
    shown: Option<DeviceToken>,
) -> Option<KnownDevice> {
    let cookie = || request.cookie(device::COOKIE).map(|value| DeviceToken::new(value.to_owned()));
    app.device_tokens.known(&shown.or_else(cookie)?, email)
}

/// `POST /sessions/refresh`. The cookie is not renewed: it lasts as long as the session.
pub(crate) async fn refresh(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let RefreshBody { refresh_token } = request.json()?;
    let refused = || {
        // The same answer for all cases: a thief learns nothing from it.
        Problem::new(ProblemType::Unauthenticated, "the refresh token is not valid; sign in again")
    };
    let refresh_token: RefreshToken = refresh_token.expose().parse().map_err(|_| refused())?;
    let deadline = request.deadline();
    match request.in_time(app.starter.renew(&app.users, &refresh_token, deadline)).await? {
        Renewal::Renewed(Renewed { session, access, refresh }) => {
            return Ok(Reply::json(200, document(&session, &access, &refresh)));
        }
        Renewal::Refused => {}
        Renewal::Reused(session) => {
            let revoked = app.revoker.revoke_proven(&session.id, &session.user_id, deadline);
            request.in_time(revoked).await?;
        }
    }
    Err(refused())
}

fn document(session: &Session, access: &AccessToken, refresh: &RefreshToken) -> Value {
    json!({
        "accessToken": access.text.expose(),
        "expiresIn": ACCESS_TOKEN_LIFETIME.as_secs(),
        "refreshToken": refresh.expose(),
        "sessionId": session.id,
        "userId": session.user_id,
    })
}
