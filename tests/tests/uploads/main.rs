//! Uploads: from the announcement to the download, with the bytes going past the API.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod crashes;
mod races;
mod refusals;
mod regions;

use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use sojourn_tests::{Answer, File, TestRegion};

const PAGE: &str = "http://127.0.0.1:5173";

/// The answers to so many calls at the same time.
async fn at_once<F: Future<Output = Answer>>(calls: usize, call: impl Fn() -> F) -> Vec<Answer> {
    stream::iter(0..calls).map(|_| call()).buffer_unordered(calls).collect().await
}

#[tokio::test]
async fn a_small_file_is_announced_sent_completed_and_downloaded() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::text("a note.txt", "twelve bytes");

    let offer = region.announce(&ann, &file).await.expect(201);
    let id = offer.text_of("uploadId");
    assert_eq!(offer.header("location"), Some(format!("/uploads/{id}").as_str()));
    assert_eq!((&offer.body["status"], &offer.body["method"]), (&json!("PENDING"), &json!("put")));
    let pending = region.call_as(&ann, "GET", &format!("/uploads/{id}")).send().await.expect(200);
    assert_eq!((&pending.body["status"], pending.body.get("downloadUrl")), (&json!("PENDING"), None));
    region.complete(&ann, &id, &json!({})).await.expect_problem(409, "upload-incomplete");

    assert_eq!(region.send_whole(&offer, &file.bytes).await.status, 200);
    // A body is not needed.
    let path = format!("/uploads/{id}/complete");
    let ready = region.call_as(&ann, "POST", &path).send().await.expect(200);
    assert_eq!(ready.body["status"], "READY");

    let found = region.call_as(&ann, "GET", &format!("/uploads/{id}")).send().await.expect(200);
    let mut members: Vec<_> = found.body.as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(
        members,
        [
            "contentType",
            "createdAt",
            "downloadExpiresAt",
            "downloadUrl",
            "fileName",
            "readyAt",
            "sha256",
            "sizeBytes",
            "status",
            "uploadId"
        ]
    );
    let download = region.download(&found.body).await;
    assert_eq!(
        download.headers()["content-disposition"],
        "attachment; filename=\"a note.txt\"; filename*=UTF-8''a%20note.txt"
    );
    assert_eq!(download.headers()["content-type"], "text/plain");
    assert_eq!(download.bytes().await.unwrap(), file.bytes);
    assert_eq!(region.uploaded_objects().await.len(), 1, "the incoming object is gone");
    assert_eq!(region.quota_taken(&ann).await, (12, 1));
}

#[tokio::test]
async fn file_names_of_any_alphabet_come_back_and_paths_are_none() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    for (name, header) in [
        (
            "報告 \u{1f642}.txt",
            "attachment; filename=\"__ _.txt\"; filename*=UTF-8''%E5%A0%B1%E5%91%8A%20%F0%9F%99%82.txt",
        ),
        (
            "a\"; filename=\"b.exe",
            "attachment; filename=\"a_; filename=_b.exe\"; filename*=UTF-8''a%22%3B%20filename%3D%22b.exe",
        ),
    ] {
        let ready = region.upload(&ann, &File::text(name, name)).await;
        assert_eq!(ready.body["fileName"], name);
        let download = region.download(&ready.body).await;
        assert_eq!(download.headers()["content-disposition"], header);
        assert_eq!(download.bytes().await.unwrap(), name.as_bytes());
    }
    for name in ["", "..", "../../etc/passwd", "a\\b", "a\nb", "a\u{0}b", &"x".repeat(256)] {
        let refused = region.announce(&ann, &File::text(name, "text")).await;
        refused.expect_problem(422, "unprocessable");
    }
    assert_eq!(region.quota_taken(&ann).await.1, 2, "what was refused takes nothing");
}

#[tokio::test]
async fn only_files_that_browsers_merely_show_are_shown() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    for (content_type, disposition, shown) in [
        ("image/png", "?disposition=inline", "inline"),
        ("image/svg+xml", "?disposition=inline", "attachment"),
        ("image/png", "?disposition=attachment", "attachment"),
        ("image/png", "", "attachment"),
    ] {
        let file = File { content_type: content_type.to_owned(), ..File::text("picture", "bytes") };
        let id = region.upload(&ann, &file).await.text_of("uploadId");
        let path = format!("/uploads/{id}{disposition}");
        let found = region.call_as(&ann, "GET", &path).send().await.expect(200);
        let download = region.download(&found.body).await;
        let header = download.headers()["content-disposition"].to_str().unwrap();
        assert!(header.starts_with(&format!("{shown};")), "{content_type}{disposition}: {header}");
        assert_eq!(download.headers()["content-type"], content_type);
    }
    let list = region.call_as(&ann, "GET", "/uploads?disposition=shown").send().await;
    list.expect_problem(400, "invalid-request");
    let page = File { content_type: "text/html".to_owned(), ..File::text("page.html", "<script>") };
    region.announce(&ann, &page).await.expect_problem(422, "unprocessable");
}

#[tokio::test]
async fn somebody_elses_upload_is_no_upload() {
    let region = TestRegion::start().await;
    let (ann, bob) = (region.customer().await, region.customer().await);
    let file = File::text("diary.txt", "dear diary");
    let pending = region.announce(&ann, &file).await.expect(201);
    assert_eq!(region.send_whole(&pending, &file.bytes).await.status, 200);
    let ready = region.upload(&ann, &file).await.text_of("uploadId");
    for id in [pending.text_of("uploadId"), ready] {
        let path = format!("/uploads/{id}");
        region.call_as(&bob, "GET", &path).send().await.expect_problem(404, "not-found");
        region.complete(&bob, &id, &json!({})).await.expect_problem(404, "not-found");
        region.call_as(&bob, "DELETE", &path).send().await.expect_problem(404, "not-found");
        region.call("GET", &path).send().await.expect_problem(401, "unauthenticated");
        region.complete(&ann, &id, &json!({})).await.expect(200);
    }
    let list = region.call_as(&bob, "GET", "/uploads").send().await.expect(200);
    assert_eq!(list.body, json!({"items": []}));
    assert_eq!(region.quota_taken(&ann).await, (20, 2));
}

#[tokio::test]
async fn uploads_are_listed_newest_first_and_only_to_their_owner() {
    let region = TestRegion::start().await;
    let (ann, bob) = (region.customer().await, region.customer().await);
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(region.upload(&ann, &File::text(&format!("{n}.txt"), "text")).await.text_of("uploadId"));
        region.upload(&bob, &File::text("bob.txt", "bob")).await;
    }
    let pending = region.announce(&ann, &File::text("5.txt", "text")).await.text_of("uploadId");
    ids.push(pending.clone());
    let deleted = ids.remove(2);
    region.call_as(&ann, "DELETE", &format!("/uploads/{deleted}")).send().await.expect(204);
    ids.reverse();

    let mut listed = Vec::new();
    let mut path = "/uploads?limit=2".to_owned();
    let mut first_cursor = None;
    loop {
        let page = region.call_as(&ann, "GET", &path).send().await.expect(200);
        let items = page.body["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        listed.extend(items.iter().cloned());
        let Some(cursor) = page.body["nextCursor"].as_str() else { break };
        first_cursor.get_or_insert(cursor.to_owned());
        path = format!("/uploads?limit=2&cursor={cursor}");
    }
    let names: Vec<&str> = listed.iter().filter_map(|item| item["uploadId"].as_str()).collect();
    assert_eq!(names, ids);
    for item in &listed {
        let is_pending = item["uploadId"] == pending.as_str();
        assert_eq!(item.get("downloadUrl").is_none(), is_pending, "{item}");
    }
    assert_eq!(region.download(&listed[1]).await.bytes().await.unwrap(), "text");

    // A cursor has no authority: in other hands it points into another list.
    let path = format!("/uploads?cursor={}", first_cursor.unwrap());
    let of_bob = region.call_as(&bob, "GET", &path).send().await.expect(200);
    let items = of_bob.body["items"].as_array().unwrap();
    assert!(items.iter().all(|item| item["fileName"] == "bob.txt"), "{}", of_bob.text);
    let orders = region.call_as(&ann, "GET", "/uploads?cursor=eyJ4IjoxfQ").send().await;
    orders.expect_problem(400, "invalid-request");
}

#[tokio::test]
async fn a_page_uploads_with_its_cookie_if_its_origin_is_allowed() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::text("from a page.txt", "twelve bytes");
    let announce = || region.call_by_cookie(&ann, "POST", "/uploads").json(&file.announcement());
    announce().send().await.expect_problem(403, "origin-not-allowed");
    announce()
        .header("origin", "https://evil.example")
        .send()
        .await
        .expect_problem(403, "origin-not-allowed");

    let offer = announce().header("origin", PAGE).send().await.expect(201);
    assert_eq!(region.send_whole(&offer, &file.bytes).await.status, 200);
    let path = format!("/uploads/{}", offer.text_of("uploadId"));
    let complete = || region.call_by_cookie(&ann, "POST", &format!("{path}/complete"));
    complete().send().await.expect_problem(403, "origin-not-allowed");
    complete().header("origin", PAGE).send().await.expect(200);
    let found = region.call_by_cookie(&ann, "GET", &path).send().await.expect(200);
    assert_eq!(region.download(&found.body).await.bytes().await.unwrap(), file.bytes);
    let delete = || region.call_by_cookie(&ann, "DELETE", &path);
    delete().send().await.expect_problem(403, "origin-not-allowed");
    delete().header("origin", PAGE).send().await.expect(204);
}

#[tokio::test]
async fn a_link_leads_to_one_object_by_one_method() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::text("a.txt", "twelve bytes");
    let offer = region.announce(&ann, &file).await.expect(201);
    let url = offer.text_of("url");
    let client = region.plain_http();
    let status = |request: reqwest::RequestBuilder| async move { request.send().await.unwrap().status() };

    assert_eq!(status(client.get(&url)).await, 403, "a link to write reads nothing");
    assert_eq!(status(client.delete(&url)).await, 403, "and deletes nothing");
    let elsewhere = url.replacen("/incoming/", "/uploads/", 1);
    assert_ne!(url, elsewhere);
    let headers = |request: reqwest::RequestBuilder| {
        let headers = offer.body["headers"].as_object().unwrap();
        headers.iter().fold(request, |request, (name, value)| request.header(name, value.as_str().unwrap()))
    };
    let sent = headers(client.put(&elsewhere)).body(file.bytes.clone());
    assert_eq!(status(sent).await, 403, "what is read cannot be written");

    let ready = region.upload(&ann, &file).await;
    let url = ready.text_of("downloadUrl");
    assert_eq!(status(client.put(&url).body("other bytes")).await, 403, "a link to read writes nothing");
    let longer = url.replacen("X-Amz-Expires=3600", "X-Amz-Expires=36000", 1);
    assert_ne!(url, longer);
    assert_eq!(status(client.get(longer)).await, 403, "nobody prolongs it");
    let renamed = url.replacen("attachment", "inline", 1);
    assert_ne!(url, renamed);
    assert_eq!(status(client.get(renamed)).await, 403, "nobody changes what it says");
}

/// The ends of links, as answers tell them, are what the links themselves say.
#[tokio::test]
async fn links_end_when_their_answers_say_so_which_is_within_an_hour() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::text("a.txt", "twelve bytes");
    let offer = region.announce(&ann, &file).await.expect(201);
    let ready = region.upload(&ann, &file).await;
    for (answer, url, end) in [(&offer, "url", "expiresAt"), (&ready, "downloadUrl", "downloadExpiresAt")] {
        let url = reqwest::Url::parse(&answer.text_of(url)).unwrap();
        let query = |name: &str| url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        let signed = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", query("X-Amz-Date")).unwrap();
        let signed = signed.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
        let lasts: i64 = query("X-Amz-Expires").parse().unwrap();
        assert!((1..=3_600).contains(&lasts));
        let end: jiff::Timestamp = answer.text_of(end).parse().unwrap();
        assert_eq!(end.duration_since(signed).as_secs(), lasts);
    }
    assert_eq!(offer.body.get("ownerId"), None::<&Value>);
}
