//! The settings of uploads.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use super::{AllowedTypes, ContentType, FileDigest, FileName, InvalidContentType, InvalidFileName};
use crate::core::env::{ConfigError, Env};
use crate::core::json;
use serde::Deserialize;

const MIB: u64 = 1_024 * 1_024;

/// Largest setting for the size of a file, in MiB. S3 copies 5 GiB in one request, and only such a
/// copy has a checksum of the whole; this leaves some room.
pub const MOST_MEGABYTES: u64 = 5_000;

/// Most files of a user: about as many as a person can page through. Their rows are a few hundred
/// bytes each.
pub const MAX_FILES: u64 = 10_000;

/// Most tries to complete an upload, each of which calls S3: five minutes of retries at the pace of
/// a 503.
pub const MAX_TRIES: u64 = 300;

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadLimits {
    /// Largest file, in bytes.
    pub max_bytes: u64,
    /// Quota of a user, in bytes.
    pub quota_bytes: u64,
    /// Accepted types.
    pub types: AllowedTypes,
    /// How long an upload may stay unfinished.
    pub unfinished_for: Duration,
}

impl UploadLimits {
    /// Reads `UPLOAD_MAX_MEGABYTES`, `UPLOAD_QUOTA_MEGABYTES`, `UPLOAD_TYPES` and
    /// `UNFINISHED_UPLOAD_HOURS`.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let quota: NonZeroU64 = env.parse("UPLOAD_QUOTA_MEGABYTES")?;
        let (max_bytes, quota_bytes) =
            (env.parse::<Megabytes>("UPLOAD_MAX_MEGABYTES")?.bytes(), quota.get().saturating_mul(MIB));
        if max_bytes > quota_bytes {
            return Err(ConfigError::Invalid {
                variable: "UPLOAD_MAX_MEGABYTES",
                reason: "it is more than UPLOAD_QUOTA_MEGABYTES, what all files of a user may have together"
                    .to_owned(),
            });
        }
        Ok(Self {
            max_bytes,
            quota_bytes,
            types: env.parse("UPLOAD_TYPES")?,
            unfinished_for: env.parse::<UnfinishedHours>("UNFINISHED_UPLOAD_HOURS")?.duration(),
        })
    }

    /// Checks a request against the limits.
    pub fn admit(&self, request: UploadRequest) -> Result<NewFile, InvalidUpload> {
        let UploadRequest { file_name, content_type, size_bytes, sha256 } = request;
        let content_type: ContentType = content_type.parse()?;
        if !self.types.list(&content_type) {
            return Err(InvalidUpload::Type(content_type));
        }
        if !(1..=self.max_bytes).contains(&size_bytes) {
            return Err(InvalidUpload::Size { max_bytes: self.max_bytes });
        }
        Ok(NewFile { file_name: file_name.parse()?, content_type, size_bytes, sha256 })
    }
}

/// 1 to [`MOST_MEGABYTES`].
#[derive(Debug, Clone, Copy)]
struct Megabytes(u64);

impl Megabytes {
    fn bytes(self) -> u64 {
        self.0 * MIB
    }
}

impl FromStr for Megabytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number @ 1..=MOST_MEGABYTES) => Ok(Self(number)),
            _ => Err(format!("not a number from 1 to {MOST_MEGABYTES}")),
        }
    }
}

/// How long an upload may stay unfinished, in whole hours.
#[derive(Debug, Clone, Copy)]
struct UnfinishedHours(u8);

/// The bucket expires incoming objects after two days. A file that is completed must still be
/// there.
const MOST_UNFINISHED_HOURS: u8 = 24;
/// Links last an hour: a shorter time would end uploads in progress.
const LEAST_UNFINISHED_HOURS: u8 = 2;

impl UnfinishedHours {
    fn duration(self) -> Duration {
        Duration::from_hours(u64::from(self.0))
    }
}

impl FromStr for UnfinishedHours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(hours @ LEAST_UNFINISHED_HOURS..=MOST_UNFINISHED_HOURS) => Ok(Self(hours)),
            _ => Err(format!("not a number from {LEAST_UNFINISHED_HOURS} to {MOST_UNFINISHED_HOURS}")),
        }
    }
}

/// The body of `POST /uploads`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UploadRequest {
    pub file_name: String,
    pub content_type: String,
    #[serde(deserialize_with = "json::integer")]
    pub size_bytes: u64,
    pub sha256: FileDigest,
}

/// A file that may be uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    pub file_name: FileName,
    pub content_type: ContentType,
    pub size_bytes: u64,
    pub sha256: FileDigest,
}

/// Why a file may not be uploaded. 422.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUpload {
    /// Its name is not a file name.
    #[error(transparent)]
    Name(#[from] InvalidFileName),
    /// Its type is not a content type.
    #[error(transparent)]
    NoType(#[from] InvalidContentType),
    /// Files of this type are not accepted.
    #[error("files of type {} are not accepted", .0.as_str())]
    Type(ContentType),
    /// It is empty, or too large.
    #[error("a file has 1 to {max_bytes} bytes")]
    Size { max_bytes: u64 },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(changed: Option<(&'static str, &str)>) -> Result<UploadLimits, ConfigError> {
        let usual = [
            ("UPLOAD_MAX_MEGABYTES", "100"),
            ("UPLOAD_QUOTA_MEGABYTES", "5000"),
            ("UPLOAD_TYPES", "image/*,text/plain"),
            ("UNFINISHED_UPLOAD_HOURS", "24"),
        ];
        UploadLimits::from_env(&Env::of(usual.into_iter().chain(changed)))
    }

    fn asked() -> UploadRequest {
        UploadRequest {
            file_name: " Plan.PNG ".to_owned(),
            content_type: "Image/Png".to_owned(),
            size_bytes: 1,
            sha256: "0".repeat(64).parse().unwrap(),
        }
    }

    #[test]
    fn settings_that_cannot_work_keep_a_function_from_starting() {
        assert_eq!(limits(None).unwrap().max_bytes, 104_857_600);
        assert_eq!(limits(Some(("UPLOAD_MAX_MEGABYTES", "5000"))).unwrap().max_bytes, 5_242_880_000);
        for (variable, text) in [
            ("UPLOAD_MAX_MEGABYTES", "0"),
            ("UPLOAD_MAX_MEGABYTES", "5001"),
            ("UPLOAD_QUOTA_MEGABYTES", "0"),
            ("UPLOAD_TYPES", "png"),
            ("UNFINISHED_UPLOAD_HOURS", "1"),
            ("UNFINISHED_UPLOAD_HOURS", "25"),
        ] {
            let refused = limits(Some((variable, text))).unwrap_err();
            assert!(matches!(refused, ConfigError::Invalid { variable: named, .. } if named == variable));
        }
    }

    #[test]
    fn a_largest_file_that_no_quota_has_room_for_keeps_a_function_from_starting() {
        assert!(limits(Some(("UPLOAD_QUOTA_MEGABYTES", "100"))).is_ok());
        let refused = limits(Some(("UPLOAD_QUOTA_MEGABYTES", "99"))).unwrap_err();
        assert!(refused.to_string().contains("UPLOAD_MAX_MEGABYTES"), "{refused}");
    }

    #[test]
    fn a_request_within_the_limits_is_read_into_types() {
        let file = limits(None).unwrap().admit(asked()).unwrap();
        assert_eq!((file.file_name.as_str(), file.content_type.as_str()), ("Plan.PNG", "image/png"));
        let largest = UploadRequest { size_bytes: 104_857_600, ..asked() };
        assert!(limits(None).unwrap().admit(largest).is_ok());
    }

    #[test]
    fn a_request_beyond_the_limits_is_refused_with_its_reason() {
        let refused = |request| limits(None).unwrap().admit(request).unwrap_err();
        for size_bytes in [0, 104_857_601] {
            let max_bytes = 104_857_600;
            assert_eq!(refused(UploadRequest { size_bytes, ..asked() }), InvalidUpload::Size { max_bytes });
        }
        let typed = |text: &str| refused(UploadRequest { content_type: text.to_owned(), ..asked() });
        assert!(matches!(typed("text/html"), InvalidUpload::Type(_)));
        assert!(matches!(typed("text/plain; charset=utf-8"), InvalidUpload::NoType(_)));
        let named = refused(UploadRequest { file_name: "../plan".to_owned(), ..asked() });
        assert!(matches!(named, InvalidUpload::Name(_)));
    }
}
