//! Buckets with versions.

use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use local_region::template::model::Versioning;

use super::multipart::put_in_parts;
use super::*;

const KEY: &str = "reports/a";

/// An id that S3 could have given and has not.
const UNKNOWN: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn versioned() -> Bucket {
    Bucket { versioning: Versioning::On, ..bucket() }
}

fn start() -> (Stage, Client) {
    let stage = Stage::of(None, versioned());
    let client = stage.client(None);
    (stage, client)
}

/// Writes a version; its id.
async fn write(client: &Client, key: &str, body: &'static [u8]) -> String {
    let put = client.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(body));
    put.send().await.unwrap().version_id.unwrap()
}

/// Deletes an object; the id of the delete marker.
async fn delete(client: &Client, key: &str) -> String {
    let deleted = client.delete_object().bucket(BUCKET).key(key).send().await.unwrap();
    assert_eq!(deleted.delete_marker, Some(true));
    deleted.version_id.unwrap()
}

async fn read(get: GetObjectFluentBuilder) -> (Vec<u8>, Option<String>) {
    let answer = get.send().await.unwrap();
    (answer.body.collect().await.unwrap().to_vec(), answer.version_id)
}

/// Status, code and the header of delete markers.
async fn refused(get: GetObjectFluentBuilder) -> (u16, Option<String>, bool) {
    let error = get.send().await.unwrap_err();
    let answer = error.raw_response().unwrap();
    let is_marker = answer.headers().get("x-amz-delete-marker") == Some("true");
    (answer.status().as_u16(), error.code().map(str::to_owned), is_marker)
}

async fn listed(client: &Client) -> Vec<String> {
    let listed = client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    listed.contents().iter().map(|object| object.key.clone().unwrap()).collect()
}

#[tokio::test]
async fn a_write_replaces_nothing_and_every_version_is_read_by_its_id() {
    let (_stage, client) = start();
    let get = || client.get_object().bucket(BUCKET).key(KEY);
    let first = write(&client, KEY, b"one").await;
    let second = write(&client, KEY, b"two").await;
    assert_ne!(first, second);
    assert_eq!(read(get()).await, (b"two".to_vec(), Some(second.clone())));
    assert_eq!(read(get().version_id(&first)).await, (b"one".to_vec(), Some(first.clone())));
    let head = client.head_object().bucket(BUCKET).key(KEY).version_id(&first).send().await.unwrap();
    assert_eq!((head.content_length, head.version_id), (Some(3), Some(first)));
    assert_eq!(refused(get().version_id(UNKNOWN)).await, (404, Some("NoSuchVersion".to_owned()), false));
    assert_eq!(refused(get().version_id("v1")).await, (400, Some("InvalidArgument".to_owned()), false));
}

#[tokio::test]
async fn a_deletion_hides_the_object_behind_a_marker_and_takes_no_version_away() {
    let (_stage, client) = start();
    let get = || client.get_object().bucket(BUCKET).key(KEY);
    let version = write(&client, KEY, BODY).await;
    assert_eq!(listed(&client).await, [KEY]);
    let marker = delete(&client, KEY).await;
    assert_eq!(refused(get()).await, (404, Some("NoSuchKey".to_owned()), true));
    let head = client.head_object().bucket(BUCKET).key(KEY).send().await.unwrap_err();
    assert_eq!(head.raw_response().unwrap().headers().get("x-amz-delete-marker"), Some("true"));
    assert_eq!(refused(get().version_id(&marker)).await, (405, Some("MethodNotAllowed".to_owned()), true));
    assert!(listed(&client).await.is_empty());
    assert_eq!(read(get().version_id(&version)).await.0, BODY);

    // Without its marker the object is back.
    let remove = client.delete_object().bucket(BUCKET).key(KEY).version_id(&marker).send().await.unwrap();
    assert_eq!((remove.delete_marker, remove.version_id), (Some(true), Some(marker)));
    assert_eq!(read(get()).await.0, BODY);
    assert_eq!(listed(&client).await, [KEY]);
}

#[tokio::test]
async fn the_version_before_is_the_current_one_when_the_current_one_is_deleted_for_good() {
    let (_stage, client) = start();
    let get = || client.get_object().bucket(BUCKET).key(KEY);
    let remove = async |version: &str| {
        client.delete_object().bucket(BUCKET).key(KEY).version_id(version).send().await.unwrap()
    };
    let first = write(&client, KEY, b"one").await;
    let second = write(&client, KEY, b"two").await;
    let gone = remove(&second).await;
    assert_eq!((gone.delete_marker, gone.version_id), (None, Some(second.clone())));
    assert_eq!(read(get()).await, (b"one".to_vec(), Some(first.clone())));
    assert_eq!(refused(get().version_id(&second)).await.1.as_deref(), Some("NoSuchVersion"));
    // What is gone already is deleted: there is nothing to tell.
    remove(&second).await;
    remove(&first).await;
    assert_eq!(refused(get()).await, (404, Some("NoSuchKey".to_owned()), false));
    assert!(listed(&client).await.is_empty());
}

#[tokio::test]
async fn all_versions_and_markers_are_listed_the_current_one_first_and_page_by_page() {
    let (_stage, client) = start();
    let first = write(&client, "reports/a", b"one").await;
    let second = write(&client, "reports/a", b"three").await;
    let other = write(&client, "reports/b", b"b").await;
    let marker = delete(&client, "reports/b").await;
    write(&client, "uploads/c/file", b"c").await;

    let list = || client.list_object_versions().bucket(BUCKET);
    let all = list().prefix("reports/").send().await.unwrap();
    let versions: Vec<_> = all
        .versions()
        .iter()
        .map(|version| (version.version_id.clone().unwrap(), version.size, version.is_latest))
        .collect();
    let expected =
        [(second, Some(5), Some(true)), (first, Some(3), Some(false)), (other, Some(1), Some(false))];
    assert_eq!(versions, expected);
    assert!(all.versions().iter().all(|version| version.e_tag.is_some() && version.last_modified.is_some()));
    let markers: Vec<_> = all.delete_markers().iter().map(|m| (m.version_id.clone(), m.is_latest)).collect();
    assert_eq!(markers, [(Some(marker), Some(true))]);

    let (mut key, mut version, mut found) = (None, None, 0);
    loop {
        let page =
            list().max_keys(2).set_key_marker(key).set_version_id_marker(version).send().await.unwrap();
        found += page.versions().len() + page.delete_markers().len();
        (key, version) = (page.next_key_marker, page.next_version_id_marker);
        if page.is_truncated != Some(true) {
            break;
        }
    }
    assert_eq!(found, 5, "each once");

    let folders = list().delimiter("/").send().await.unwrap();
    let folders: Vec<_> = folders.common_prefixes().iter().filter_map(|prefix| prefix.prefix()).collect();
    assert_eq!(folders, ["reports/", "uploads/"]);
    let unfit = list().version_id_marker(UNKNOWN).send().await.unwrap_err();
    assert_eq!(unfit.code(), Some("InvalidArgument"));
}

#[tokio::test]
async fn copies_and_uploads_in_parts_make_versions_too() {
    let (_stage, client) = start();
    let first = write(&client, "reports/a", b"one").await;
    write(&client, "reports/a", b"two").await;
    let source = format!("{BUCKET}/reports/a?versionId={first}");
    let copied =
        client.copy_object().bucket(BUCKET).key("reports/b").copy_source(source).send().await.unwrap();
    assert_eq!(copied.copy_source_version_id, Some(first));
    let get = client.get_object().bucket(BUCKET).key("reports/b");
    assert_eq!(read(get).await, (b"one".to_vec(), copied.version_id));

    put_in_parts(&client, "reports/b", BODY).await;
    let head = client.head_object().bucket(BUCKET).key("reports/b").send().await.unwrap();
    assert!(head.e_tag.unwrap().ends_with("-1\"") && head.version_id.is_some());
    let listed = client.list_object_versions().bucket(BUCKET).prefix("reports/b").send().await.unwrap();
    assert_eq!(listed.versions().len(), 2);
}

#[tokio::test]
async fn several_deletions_at_once_add_markers_or_take_versions_away() {
    let (_stage, client) = start();
    let version = write(&client, "reports/a", BODY).await;
    write(&client, "reports/b", BODY).await;
    let object = |key: &str, version: Option<String>| {
        ObjectIdentifier::builder().key(key).set_version_id(version).build().unwrap()
    };
    let objects = [object("reports/a", Some(version.clone())), object("reports/b", None)];
    let delete = Delete::builder().set_objects(Some(objects.into())).build().unwrap();
    let deleted = client.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();
    let [a, b] = deleted.deleted() else { panic!("{deleted:?}") };
    assert_eq!((a.version_id.as_ref(), a.delete_marker), (Some(&version), None));
    assert_eq!((b.version_id.as_ref(), b.delete_marker), (None, Some(true)));
    assert!(b.delete_marker_version_id.is_some());
    assert!(listed(&client).await.is_empty());
}

#[tokio::test]
async fn a_condition_looks_at_the_current_version() {
    let (_stage, client) = start();
    let put = || {
        let body = ByteStream::from_static(BODY);
        client.put_object().bucket(BUCKET).key(KEY).if_none_match("*").body(body).send()
    };
    put().await.unwrap();
    assert_eq!(put().await.unwrap_err().code(), Some("PreconditionFailed"));
    delete(&client, KEY).await;
    // What is deleted does not exist.
    put().await.unwrap();
}

#[tokio::test]
async fn a_version_needs_permissions_of_its_own() {
    let (stage, client) = start();
    let version = write(&client, KEY, BODY).await;
    let job = stage.job();
    read(job.get_object().bucket(BUCKET).key(KEY)).await;
    let get = job.get_object().bucket(BUCKET).key(KEY).version_id(&version).send().await.unwrap_err();
    assert_eq!(get.code(), Some("AccessDenied"));
    let source = format!("{BUCKET}/{KEY}?versionId={version}");
    let copy = job.copy_object().bucket(BUCKET).key("reports/b").copy_source(source).send().await;
    assert_eq!(copy.unwrap_err().code(), Some("AccessDenied"));
    let list = job.list_object_versions().bucket(BUCKET).send().await.unwrap_err();
    assert!(list.message().unwrap().contains("s3:ListBucketVersions"), "{list:?}");
}

#[tokio::test]
async fn versions_survive_a_restart_and_what_was_there_before_them_is_the_version_null() {
    let folder = tempfile::tempdir().unwrap();
    put(&Stage::start(Some(folder.path())).client(None), KEY).await.unwrap();
    let (old, new) = {
        let stage = Stage::of(Some(folder.path()), versioned());
        let client = stage.client(None);
        let old = read(client.get_object().bucket(BUCKET).key(KEY)).await;
        (old, write(&client, KEY, b"new").await)
    };
    assert_eq!(old, (BODY.to_vec(), Some("null".to_owned())));
    let stage = Stage::of(Some(folder.path()), versioned());
    let client = stage.client(None);
    let get = || client.get_object().bucket(BUCKET).key(KEY);
    assert_eq!(read(get()).await, (b"new".to_vec(), Some(new)));
    assert_eq!(read(get().version_id("null")).await.0, BODY);
    delete(&client, KEY).await;
    let listed = client.list_object_versions().bucket(BUCKET).send().await.unwrap();
    assert_eq!((listed.versions().len(), listed.delete_markers().len()), (2, 1));
    let bucket = client.delete_bucket().bucket(BUCKET).send().await.unwrap_err();
    assert_eq!(bucket.code(), Some("BucketNotEmpty"));
}

#[tokio::test]
async fn without_versions_nothing_says_that_there_are_any() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    let body = ByteStream::from_static(BODY);
    let put = client.put_object().bucket(BUCKET).key(KEY).body(body).send().await.unwrap();
    let (_, read) = read(client.get_object().bucket(BUCKET).key(KEY)).await;
    assert_eq!((put.version_id, read), (None, None));
    let deleted = client.delete_object().bucket(BUCKET).key(KEY).send().await.unwrap();
    assert_eq!((deleted.delete_marker, deleted.version_id), (None, None));
    let status =
        async |client: &Client| client.get_bucket_versioning().bucket(BUCKET).send().await.unwrap().status;
    assert_eq!(status(&client).await, None);
    assert!(status(&start().1).await.is_some());
}
