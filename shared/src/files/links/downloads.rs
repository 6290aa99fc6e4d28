//! Links to files that S3 replicates to the buckets of other regions.
//!
//! A file is written in one region, its *home*, and S3 replicates it to the others, usually within
//! minutes. The file's row replicates faster. So a link to a file of another region leads to
//!
//! 1. this region's bucket, if the file is there (one `HEAD`),
//! 2. otherwise the home's bucket. Signing calls nobody, so this works while the home does not
//!    answer.
//!
//! A link to a file of this region costs no call. Calls `HeadObject`, which needs `s3:GetObject`;
//! with `s3:ListBucket`, S3 distinguishes an absent object from a forbidden one. The links need
//! `s3:GetObject` in all buckets.

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use jiff::Timestamp;

use super::s3::{Download, Presigner, Signer, head};
use super::{FileError, SignedUrl};
use crate::core::clock::SharedClock;
use crate::core::env::{ConfigError, Env};
use crate::platform::aws;

/// Download links, for the bucket of `FILES_BUCKET` and those of `PEER_BUCKETS`.
#[derive(Debug, Clone)]
pub struct Downloads {
    client: Client,
    bucket: String,
    presigner: Presigner,
    peers: Vec<(String, Presigner)>,
}

impl Downloads {
    /// Reads `FILES_BUCKET` and `PEER_BUCKETS`. Links are signed with the credentials of `sdk`.
    pub fn from_env(sdk: &SdkConfig, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        let peer = |(region, bucket): (String, String)| {
            let presigner = Presigner::new(&aws::sdk_in(sdk, &region), env, bucket, clock.clone());
            (region, presigner)
        };
        Ok(Self {
            client: aws::s3_client(env, sdk),
            bucket: env.required("FILES_BUCKET")?.to_owned(),
            peers: aws::peer_buckets(env)?.into_iter().map(peer).collect(),
            presigner: Presigner::from_env(sdk, env, clock)?,
        })
    }

    /// A signer for the links of one answer. All of them end at the same time, at `ends` or sooner.
    pub async fn signer(&self, ends: Option<Timestamp>) -> Result<Signer, FileError> {
        self.presigner.signer(ends).await
    }

    /// A link to a file that was written in the region `home`.
    pub async fn link(
        &self,
        signer: &Signer,
        home: &str,
        download: Download<'_>,
    ) -> Result<SignedUrl, FileError> {
        match self.peers.iter().find(|(region, _)| region == home) {
            Some((_, at_home)) if head(&self.client, &self.bucket, download.key, None).await?.is_none() => {
                at_home.signer_like(signer).download(download).await
            }
            _ => signer.download(download).await,
        }
    }
}
