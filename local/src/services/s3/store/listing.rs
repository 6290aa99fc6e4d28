//! Lists of objects, within AWS's bounds.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{EncodingType, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output};
use s3s::{S3, S3Request, S3Result, s3_error};

use super::Store;

/// What AWS lists at once.
const MAX_KEYS: i32 = 1_000;

/// What `encoding-type=url` leaves as it is.
const KEPT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/').remove(b'*');

/// Two output types have the same fields: encodes what is in them, if that was asked for.
macro_rules! encoded {
    ($output:ident) => {{
        if $output.encoding_type.as_ref().is_some_and(|kind| kind.as_str() == EncodingType::URL) {
            encode(&mut $output.prefix);
            encode(&mut $output.delimiter);
            $output.contents.iter_mut().flatten().for_each(|object| encode(&mut object.key));
            $output.common_prefixes.iter_mut().flatten().for_each(|prefix| encode(&mut prefix.prefix));
        }
        $output
    }};
}

impl Store {
    pub(super) async fn list(&self, mut request: S3Request<ListObjectsInput>) -> S3Result<ListObjectsOutput> {
        request.input.max_keys = Some(bounded(request.input.max_keys)?);
        let mut output = self.files.list_objects(request).await?.output;
        Ok(encoded!(output))
    }

    pub(super) async fn list_v2(
        &self,
        mut request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<ListObjectsV2Output> {
        request.input.max_keys = Some(bounded(request.input.max_keys)?);
        let mut output = self.files.list_objects_v2(request).await?.output;
        Ok(encoded!(output))
    }
}

/// As `encoding-type=url` has it.
pub(super) fn encode(text: &mut Option<String>) {
    if let Some(text) = text {
        *text = utf8_percent_encode(text, &KEPT).to_string();
    }
}

pub(super) fn bounded(max_keys: Option<i32>) -> S3Result<i32> {
    match max_keys.unwrap_or(MAX_KEYS) {
        ..0 => {
            Err(s3_error!(InvalidArgument, "Argument maxKeys must be an integer between 0 and 2147483647"))
        }
        number => Ok(number.min(MAX_KEYS)),
    }
}
