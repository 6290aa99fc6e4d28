//! Signing up, and changing the password.

use serde::Deserialize;
use serde_json::json;
use sojourn::core::date_time::rfc3339;
use sojourn::core::problem::{Problem, ProblemType};
use sojourn::core::reply::Reply;
use sojourn::edge::http::HttpRequest;
use sojourn::identity::email::Email;
use sojourn::identity::sessions::SessionError;
use sojourn::identity::throttle::{AttemptSource, SignUpDecision};
use sojourn::identity::users::{self, NewPassword, Password, PasswordChange, PasswordChangeRequest, SignUp};

use crate::app::App;
use crate::sign_in::known_device;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignUpBody {
    email: Email,
    password: NewPassword,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PasswordBody {
    current: Password,
    new: NewPassword,
}

/// `POST /users`.
pub(crate) async fn sign_up(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let SignUpBody { email, password } = request.json()?;
    let address = app.trusted_proxy.client_address(request)?;
    let count = app.throttle.count_sign_up(address, app.sign_ups_per_address);
    if let SignUpDecision::Refused(refusal) = request.in_time(count).await? {
        return Err(refusal.into());
    }
    let work = users::sign_up(&app.users, &app.clock, &app.ids, email, password, request.deadline());
    match request.in_time(work).await? {
        SignUp::Created(user) => Ok(Reply::json(
            201,
            json!({ "userId": user.id, "email": user.email, "createdAt": rfc3339(user.created_at) }),
        )),
        SignUp::EmailTaken => {
            Err(Problem::new(ProblemType::EmailTaken, "the e-mail address already has an account"))
        }
        SignUp::CommonPassword => Err(common_password()),
    }
}

/// `PUT /users/me/password`.
pub(crate) async fn change_password(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let account = request.caller_beside(&app.authenticator, async |user, _| app.users.profile(user).await);
    let (caller, account) = account.await?;
    let PasswordBody { current, new } = request.json()?;
    let account = account.ok_or(SessionError::Ended)?;
    let address = app.trusted_proxy.client_address(request)?;
    let device = known_device(app, request, &account.0.email, None);
    let change = PasswordChangeRequest {
        account,
        spared: (caller.session_id().clone(), caller.signed_in_at()),
        current,
        new,
        origin: AttemptSource { address, device },
    };
    let work = users::change_password(&app.passwords, &app.throttle, change, request.deadline());
    match request.in_time(work).await? {
        PasswordChange::Changed => Ok(Reply::empty(204)),
        PasswordChange::Refused => {
            Err(Problem::new(ProblemType::WrongCredentials, "the current password is wrong"))
        }
        PasswordChange::Throttled(refusal) => Err(refusal.into()),
        PasswordChange::CommonPassword => Err(common_password()),
        PasswordChange::SessionEnded => Err(SessionError::Ended.into()),
    }
}

fn common_password() -> Problem {
    Problem::new(
        ProblemType::CommonPassword,
        "the password consists of common passwords, sequences, numbers or the e-mail address; choose another one",
    )
}
