//! Preferences through the gateway: merge patches, entity tags, limits, and who may.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};
use sojourn::platform::tables;
use sojourn_tests::{Answer, Call, Customer, Options, TestRegion};

const PATH: &str = "/sessions/current/preferences";

fn patch_call(region: &TestRegion, who: &Customer) -> Call {
    region.call_as(who, "PATCH", PATH).header("content-type", "application/merge-patch+json")
}

async fn patch(region: &TestRegion, who: &Customer, patch: &Value) -> Answer {
    patch_call(region, who).text(patch.to_string()).send().await
}

async fn read(region: &TestRegion, who: &Customer) -> Answer {
    region.call_as(who, "GET", PATH).send().await.expect(200)
}

#[tokio::test]
async fn preferences_are_patched_member_by_member_and_null_takes_away() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let new = read(&region, &ann).await;
    assert_eq!((&new.body, new.header("etag")), (&json!({}), Some("\"1\"")));
    assert_eq!(new.header("cache-control"), Some("private, no-cache"));

    let first = json!({"theme": "dark", "columns": {"price": true, "stock": true}, "note": null});
    let patched = patch(&region, &ann, &first).await.expect(200);
    let expected = json!({"theme": "dark", "columns": {"price": true, "stock": true}});
    assert_eq!((&patched.body, patched.header("etag")), (&expected, Some("\"2\"")));

    // Plain JSON is understood the same way.
    let second = json!({"theme": null, "columns": {"stock": null}});
    let patched = region.call_as(&ann, "PATCH", PATH).json(&second).send().await.expect(200);
    assert_eq!(
        (&patched.body, patched.header("etag")),
        (&json!({"columns": {"price": true}}), Some("\"3\""))
    );
    assert_eq!(read(&region, &ann).await.body, patched.body);

    // They belong to the session, not to the user.
    let elsewhere = region.sign_in(&ann.email).await;
    assert_eq!(read(&region, &elsewhere).await.body, json!({}));
}

#[tokio::test]
async fn a_patch_with_if_match_is_for_that_version_or_not_at_all() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let patch_if = async |tags: &str, theme: &str| {
        let call = patch_call(&region, &ann).header("if-match", tags);
        call.text(json!({"theme": theme}).to_string()).send().await
    };
    patch_if("\"1\"", "dark").await.expect(200);
    let stale = patch_if("\"1\"", "light").await.expect_problem(412, "stale-version");
    assert_eq!((stale.header("etag"), &stale.body["version"]), (Some("\"2\""), &json!(2)));
    patch_if("W/\"2\"", "light").await.expect_problem(412, "stale-version");
    assert_eq!(read(&region, &ann).await.body, json!({"theme": "dark"}));
    patch_if("\"1\", \"2\"", "light").await.expect(200);
    patch_if("*", "grey").await.expect(200);
    patch_if("4", "none").await.expect_problem(400, "invalid-request");
    let last = read(&region, &ann).await;
    assert_eq!((&last.body, last.header("etag")), (&json!({"theme": "grey"}), Some("\"4\"")));
}

#[tokio::test]
async fn preferences_have_16_kb_at_most() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    // With {"a":""} around them.
    let text = |name: &str, bytes: usize| json!({ name: "x".repeat(bytes - 8) });
    patch(&region, &ann, &text("a", 16_385)).await.expect_problem(413, "body-too-large");
    patch(&region, &ann, &text("a", 16_384)).await.expect(200);
    patch(&region, &ann, &json!({"b": 1})).await.expect_problem(422, "unprocessable");
    let full = read(&region, &ann).await;
    assert_eq!((full.text.len(), full.header("etag")), (16_384, Some("\"2\"")));
    patch(&region, &ann, &json!({"a": null, "b": 1})).await.expect(200);

    let deep = (0..40).fold(json!(0), |inner, _| json!([inner]));
    patch(&region, &ann, &json!({"b": deep})).await.expect_problem(422, "unprocessable");
    assert_eq!(read(&region, &ann).await.body, json!({"b": 1}));
}

#[tokio::test]
async fn a_patch_is_a_json_object_of_somebody_who_has_signed_in() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    for body in ["[]", "null", "\"dark\"", "{\"a\"", ""] {
        patch_call(&region, &ann).text(body).send().await.expect_problem(400, "invalid-request");
    }
    let plain = region.call_as(&ann, "PATCH", PATH).header("content-type", "text/plain").text("{}");
    plain.send().await.expect_problem(415, "unsupported-media-type");
    let nobody = region.call("PATCH", PATH).json(&json!({}));
    nobody.send().await.expect_problem(401, "unauthenticated");
    region.call("GET", PATH).send().await.expect_problem(401, "unauthenticated");
    assert_eq!(read(&region, &ann).await.header("etag"), Some("\"1\""));
}

#[tokio::test]
async fn a_browser_patches_with_its_cookie_from_an_allowed_page_only() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let body = json!({"email": ann.email, "password": "correct horse battery staple"});
    let signed_in = region.call("POST", "/sessions").json(&body).send().await.expect(201);
    let cookie = signed_in.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let page = "http://127.0.0.1:5173";
    let browser = |method: &str| region.call(method, PATH).header("cookie", &cookie);

    let preflight = region.call("OPTIONS", PATH).header("origin", page);
    let preflight = preflight
        .header("access-control-request-method", "PATCH")
        .header("access-control-request-headers", "content-type,if-match");
    let allowed = preflight.send().await.expect(204);
    assert!(allowed.header("access-control-allow-methods").unwrap().contains("PATCH"));

    let patch =
        |origin: &str| browser("PATCH").header("origin", origin).json(&json!({"theme": "dark"})).send();
    patch("https://evil.example").await.expect_problem(403, "origin-not-allowed");
    let patched = patch(page).await.expect(200);
    let exposed = patched.header("access-control-expose-headers").unwrap().to_ascii_lowercase();
    assert!(exposed.contains("etag"), "{exposed}");
    assert_eq!(browser("GET").send().await.expect(200).body, json!({"theme": "dark"}));
}

#[tokio::test]
async fn a_session_that_was_tampered_with_tells_nothing_and_can_still_be_ended() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let sign_in = async |device: &str| {
        let body = json!({"email": ann.email, "password": "correct horse battery staple", "device": device});
        region.call("POST", "/sessions").json(&body).send().await.expect(201)
    };
    let (phone, laptop) = (sign_in("Phone").await, sign_in("Laptop").await);
    let [of_phone, of_laptop] = [&phone, &laptop].map(|session| session.text_of("sessionId"));
    let key = |id: &str| AttributeValue::S(id.to_owned());
    let table = tables::SESSIONS.logical_id;
    let row = region
        .dynamodb()
        .get_item()
        .table_name(table)
        .key("sessionId", key(&format!("{of_laptop}#payload")))
        .send()
        .await
        .unwrap();
    let update = region.dynamodb().update_item().table_name(table);
    let update = update.key("sessionId", key(&format!("{of_phone}#payload")));
    let update = update.update_expression("SET payload = :payload");
    update
        .expression_attribute_values(":payload", row.item.unwrap()["payload"].clone())
        .send()
        .await
        .unwrap();

    let bearer = phone.text_of("accessToken");
    for call in [region.call("GET", PATH), region.call("PATCH", PATH).json(&json!({"a": 1}))] {
        call.bearer(&bearer).send().await.expect_problem(401, "unauthenticated");
    }
    let list = region.call_as(&ann, "GET", "/sessions").send().await.expect(200);
    let device_of = |id: &str| {
        let items = list.body["items"].as_array().unwrap();
        items.iter().find(|item| item["sessionId"] == *id).unwrap()["device"].clone()
    };
    assert_eq!((device_of(&of_phone), device_of(&of_laptop)), (Value::Null, json!("Laptop")));
    region.call_as(&ann, "DELETE", &format!("/sessions/{of_phone}")).send().await.expect(204);
}

#[tokio::test]
async fn preferences_can_be_opened_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options { data: Some(folder.path().to_owned()), ..Options::default() };
    let region = TestRegion::start_with(options()).await;
    let ann = region.customer().await;
    patch(&region, &ann, &json!({"theme": "dark"})).await.expect(200);
    drop(region);
    let region = TestRegion::start_with(options()).await;
    assert_eq!(read(&region, &ann).await.body, json!({"theme": "dark"}));
}

#[tokio::test]
async fn no_log_line_shows_a_preference_or_a_device() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let body = json!({"email": ann.email, "password": "correct horse battery staple", "device": "Anns velvet phone"});
    region.call("POST", "/sessions").json(&body).send().await.expect(201);
    patch(&region, &ann, &json!({"diet": "tarragon"})).await.expect(200);
    patch(&region, &ann, &json!({"diet": "tarragon ".repeat(2_000)})).await.expect(413);
    patch_call(&region, &ann).text("{\"diet\": \"tarragon\"").send().await.expect(400);
    let stale = patch_call(&region, &ann).header("if-match", "\"1\"").text("{\"diet\": \"tarragon\"}");
    stale.send().await.expect(412);
    let log = region.log_with("stale-version").await;
    for secret in ["tarragon", "velvet"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "a log line shows what is private");
    }
}
