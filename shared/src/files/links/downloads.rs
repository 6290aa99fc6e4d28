//! Links to files that S3 copies to the buckets of other regions.
//!
//! A file is written in one region, its *home*, and S3 copies it to the others within minutes, mostly. The row that tells of the
//! file replicates faster than the file. So a link to a file of another region leads to
//!
//! 1. this region's bucket, if the file is there (one `HEAD`),
//! 2. else the home's bucket. Nobody calls the home to sign the link, so this works while the home does not answer.
//!
//! A link to a file of this region costs no call. Calls `HeadObject`, which needs `s3:GetObject`; `s3:ListBucket` makes S3 tell an
//! absent object from one that may not be read. The links need `s3:GetObject` in all buckets.

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use jiff::Timestamp;

use super::s3::{Download, Presigner, Signer, head};
use super::{FileError, SignedUrl};
use crate::core::clock::SharedClock;
use crate::core::env::{ConfigError, Env};
use crate::platform::aws;

/// Links to read, in the bucket that `FILES_BUCKET` names and in those of `PEER_BUCKETS`.
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

    /// Starts an answer with links. All of them end at the same time, at `ends` or sooner.
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
