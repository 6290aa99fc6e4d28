//! An S3 for each test: embedded, with one empty bucket.

use std::net::{Ipv4Addr, SocketAddr};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use local_region::services::Controls;
use local_region::services::access::Access;
use local_region::services::s3::S3;
use local_region::template::model::Bucket;
use sojourn::core::env::Env;
use sojourn::platform::aws;

/// The value of `FILES_BUCKET`.
pub const BUCKET: &str = "filesbucket";

/// The embedded S3. Gone when dropped.
pub struct Files {
    s3: S3,
    /// Its faults and its usage.
    pub controls: Controls,
}

impl Files {
    /// Starts an S3 with an empty bucket.
    pub fn start() -> Self {
        let controls = Controls::new(Access::unrestricted());
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bucket = Bucket { name: BUCKET.to_owned(), ..Bucket::default() };
        Self { s3: S3::start(anywhere, None, &[bucket], controls.clone()).unwrap(), controls }
    }

    /// Accepts parts of any size from now on.
    pub fn accept_small_parts(&self) {
        self.s3.accept_small_parts();
    }

    /// The variables for files: buckets and upload limits.
    pub fn variables(&self) -> Vec<(String, String)> {
        let variables = [
            ("FILES_BUCKET", BUCKET),
            ("AWS_REGION", "local"),
            ("AWS_ENDPOINT_URL_S3", &self.s3.endpoint_url()),
            ("UPLOAD_MAX_MEGABYTES", "100"),
            ("UPLOAD_QUOTA_MEGABYTES", "1024"),
            ("UPLOAD_TYPES", "image/*,text/plain,video/mp4"),
            ("UNFINISHED_UPLOAD_HOURS", "24"),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// Valid credentials.
    pub fn credentials(&self) -> Credentials {
        let key = self.controls.access.operator();
        Credentials::new(&key.access_key_id, &key.secret_access_key, None, None, "test")
    }

    /// The SDK configuration of a function.
    pub fn sdk(&self) -> SdkConfig {
        self.sdk_with(self.credentials())
    }

    /// The same with these credentials.
    pub fn sdk_with(&self, credentials: Credentials) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("local"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url(self.s3.endpoint_url())
            .build()
    }

    /// A client as functions have it.
    pub fn client(&self) -> Client {
        aws::s3_client(&Env::of(self.variables()), &self.sdk())
    }

    /// The keys of all objects.
    pub async fn keys(&self) -> Vec<String> {
        let listing = self.client().list_objects_v2().bucket(BUCKET).send().await.unwrap();
        listing.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect()
    }
}
