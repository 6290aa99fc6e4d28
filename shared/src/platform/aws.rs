//! The AWS SDK, configured for Lambda: credentials from the environment only, no profile files,
//! short timeouts, few retries. The local region sets `AWS_ENDPOINT_URL_*`.

use std::time::Duration;

pub use aws_config::SdkConfig;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};

use crate::core::env::{ConfigError, Env};

/// A TCP and TLS handshake within a region takes milliseconds.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// DynamoDB answers in milliseconds; after this, a new connection is more likely to work.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// All tries together. Shorter than the shortest function timeout, so that the caller can still
/// answer.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);
/// A call to the DynamoDB of another region, all tries together. The farthest region is 70 ms away,
/// and a connection needs three round trips before the first request.
const CROSS_REGION_TIMEOUT: Duration = Duration::from_millis(1_500);
/// First try included.
const MAX_ATTEMPTS: u32 = 3;
/// Longest wait before the second try; it doubles for the third. The SDK's default is a second,
/// half a second on average, for a service that answers in milliseconds.
const INITIAL_BACKOFF: Duration = Duration::from_millis(50);

/// The region of this process.
pub fn region(env: &Env) -> Result<String, ConfigError> {
    env.required("AWS_REGION").map(str::to_owned)
}

/// The other regions of the deployment (`PEER_REGIONS`, separated by commas). None in a single
/// region.
pub fn peer_regions(env: &Env) -> Vec<String> {
    region_names(env.optional("PEER_REGIONS").unwrap_or_default())
}

/// Names of regions, separated by commas.
pub(crate) fn region_names(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The files buckets of the other regions (`PEER_BUCKETS`: pairs `region=bucket`, separated by
/// commas). None in a single region.
pub fn peer_buckets(env: &Env) -> Result<Vec<(String, String)>, ConfigError> {
    const PAIRS: &str = "PEER_BUCKETS";
    let pairs = env.optional(PAIRS).unwrap_or_default().split(',').map(str::trim);
    let pair = |pair: &str| match pair.split_once('=') {
        Some((region, bucket)) if !region.is_empty() && !bucket.is_empty() => {
            Ok((region.to_owned(), bucket.to_owned()))
        }
        _ => {
            let reason = format!("{pair:?} is not of the form region=bucket");
            Err(ConfigError::Invalid { variable: PAIRS, reason })
        }
    };
    pairs.filter(|pair| !pair.is_empty()).map(pair).collect()
}

/// The same configuration for clients of another region.
pub fn sdk_in(sdk: &SdkConfig, region: &str) -> SdkConfig {
    sdk.clone().into_builder().region(Region::new(region.to_owned())).build()
}

/// A DynamoDB client for `region`, which may be another one. Its timeout is short: a lost region
/// does not answer at all, and the caller can ask another region or answer the customer.
pub fn dynamodb_in(sdk: &SdkConfig, region: &str) -> aws_sdk_dynamodb::Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(CROSS_REGION_TIMEOUT)
        .operation_timeout(CROSS_REGION_TIMEOUT)
        .build();
    let config = aws_sdk_dynamodb::config::Builder::from(sdk);
    let config = config.region(Region::new(region.to_owned())).timeout_config(timeouts);
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

/// The client of S3.
pub fn s3_client(env: &Env, sdk: &SdkConfig) -> aws_sdk_s3::Client {
    aws_sdk_s3::Client::from_conf(s3_config(env, sdk).build())
}

/// Configuration of S3 clients. With a custom endpoint (the local region's), the bucket is in the
/// path and not in the host name.
pub fn s3_config(env: &Env, sdk: &SdkConfig) -> aws_sdk_s3::config::Builder {
    let has_own_endpoint = env.optional("AWS_ENDPOINT_URL_S3").is_some();
    aws_sdk_s3::config::Builder::from(sdk).force_path_style(has_own_endpoint)
}

/// Configuration that every client is made from.
pub async fn sdk_config(env: &Env) -> Result<SdkConfig, ConfigError> {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    // The SDK panics without any file; an empty text stands for none.
    let no_files = EnvConfigFiles::builder().with_contents(EnvConfigFileKind::Config, "").build();
    Ok(aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region(env)?))
        .credentials_provider(EnvironmentVariableCredentialsProvider::new())
        .profile_files(no_files)
        .retry_config(
            RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS).with_initial_backoff(INITIAL_BACKOFF),
        )
        .timeout_config(timeouts)
        // Answers are a few kilobytes and the attempt timeout covers them. Watching the throughput
        // of each body would cost time on every call.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .load()
        .await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_region_is_all_that_a_configuration_needs() {
        let config = sdk_config(&Env::of([("AWS_REGION", "ap-northeast-1")])).await.unwrap();
        assert_eq!(config.region().map(Region::as_ref), Some("ap-northeast-1"));
    }

    #[test]
    fn a_peer_bucket_is_named_with_its_region() {
        let peers = |text| peer_buckets(&Env::of([("PEER_BUCKETS", text)]));
        let pair = |region: &str, bucket: &str| (region.to_owned(), bucket.to_owned());
        assert_eq!(peers("").unwrap(), []);
        assert_eq!(peers("a=x, b=y.z").unwrap(), [pair("a", "x"), pair("b", "y.z")]);
        for malformed in ["a", "=x", "a=", "a=x,b"] {
            assert!(peers(malformed).unwrap_err().to_string().contains("PEER_BUCKETS"), "{malformed}");
        }
    }

    #[tokio::test]
    async fn no_retry_waits_as_long_as_a_customer_would_notice() {
        let config = sdk_config(&Env::of([("AWS_REGION", "ap-northeast-1")])).await.unwrap();
        let retries = config.retry_config().unwrap();
        let waits: Duration =
            (1..retries.max_attempts()).map(|n| retries.initial_backoff() * 2_u32.pow(n - 1)).sum();
        assert!(retries.has_retry() && waits <= Duration::from_millis(200), "{waits:?}");
    }
}
