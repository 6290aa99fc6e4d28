//! Files and uploads on the embedded services, by the real SDK.

#![expect(clippy::unwrap_used, reason = "a test stops where its stage breaks")]

mod links;
mod protocol;
mod regions;
mod rows;

use std::time::Duration;

use aws_config::SdkConfig;
use sojourn::core::clock::{self, SharedClock};
use sojourn::core::deadline::Deadline;
use sojourn::core::env::Env;
use sojourn::core::ids::{self, UserId};
use sojourn::files::uploads::{DynamoUploads, Offer, UploadRequest, Uploads, UsageByRegion};

use sojourn_testing::{BUCKET, Files, Fixture, Store};

/// A table and a bucket.
struct Stage {
    store: Store,
    files: Files,
    env: Env,
    owner: UserId,
}

impl Stage {
    fn new() -> Self {
        let files = Files::start();
        let Fixture { store, env, ids, .. } = Fixture::start_with(files.variables());
        Self { store, files, env, owner: ids.next() }
    }

    fn rows(&self) -> DynamoUploads {
        DynamoUploads::from_env(self.store.client.clone(), &self.env).unwrap()
    }

    fn uploads(&self) -> Uploads {
        self.uploads_at(clock::system())
    }

    fn uploads_at(&self, clock: SharedClock) -> Uploads {
        self.uploads_with(&self.files.sdk(), clock)
    }

    fn uploads_with(&self, sdk: &SdkConfig, clock: SharedClock) -> Uploads {
        Uploads::from_env(self.store.client.clone(), sdk, &self.env, clock, ids::random()).unwrap()
    }

    async fn announce(&self, wish: UploadRequest) -> Offer {
        self.uploads().create(&self.owner, wish, UsageByRegion::default(), in_a_minute()).await.unwrap()
    }

    /// Puts an object where a client would.
    async fn send(&self, offer: &Offer, bytes: &[u8]) {
        let put = self.files.client().put_object().bucket(BUCKET).key(offer.upload.incoming_key());
        put.body(bytes.to_vec().into()).send().await.unwrap();
    }
}

fn in_a_minute() -> Deadline {
    Deadline::after(Duration::from_mins(1))
}

/// A text file of these bytes.
fn wish(bytes: &[u8]) -> UploadRequest {
    use sha2::{Digest, Sha256};
    use std::fmt::Write;
    let mut sha256 = String::new();
    Sha256::digest(bytes).iter().for_each(|byte| write!(sha256, "{byte:02x}").unwrap());
    UploadRequest {
        file_name: "a.txt".to_owned(),
        content_type: "text/plain".to_owned(),
        size_bytes: bytes.len() as u64,
        sha256: sha256.parse().unwrap(),
    }
}
