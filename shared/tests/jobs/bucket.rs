//! An S3 of a test's own, with the bucket of the functions.

use std::net::{Ipv4Addr, SocketAddr};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use sojourn_local::services::Controls;
use sojourn_local::services::access::Access;
use sojourn_local::services::s3::S3;
use sojourn_local::template::model::Bucket;

/// The bucket's name.
pub(crate) const BUCKET: &str = "filesbucket";

/// The embedded S3. Gone when dropped.
pub(crate) struct Files {
    s3: S3,
    /// Its faults.
    pub(crate) controls: Controls,
}

impl Files {
    /// Starts an S3 with an empty bucket.
    pub(crate) fn start() -> Self {
        let controls = Controls::new(Access::unrestricted());
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bucket = Bucket { name: BUCKET.to_owned(), ..Bucket::default() };
        let s3 = S3::start(anywhere, None, &[bucket], controls.clone()).unwrap();
        Self { s3, controls }
    }

    /// What clients are made from.
    pub(crate) fn sdk_config(&self) -> SdkConfig {
        let key = self.controls.access.operator();
        let credentials = Credentials::new(&key.access_key_id, &key.secret_access_key, None, None, "test");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("local"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url(self.s3.endpoint_url())
            .build()
    }

    /// The real SDK's client.
    pub(crate) fn client(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(&self.sdk_config()).force_path_style(true);
        aws_sdk_s3::Client::from_conf(config.build())
    }
}
