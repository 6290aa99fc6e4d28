//! `ListObjectVersions`: keys in their order, the versions of each from the current one back.
//!
//! What was there before the bucket had versions, and every object of a bucket without them, is
//! listed as the version `null`.

use std::collections::BTreeMap;

use s3s::dto::{
    CommonPrefix, DeleteMarkerEntry, ETag, EncodingType, ListObjectVersionsInput, ListObjectVersionsOutput,
    ListObjectsV2Input, Object, ObjectVersion,
};
use s3s::{S3, S3Result, s3_error};

use super::index::Version;
use super::listing::{bounded, encode};
use super::versions::{NULL, unreadable, written};
use super::{Store, internal_request};

/// A line of the list.
enum Entry {
    Version(ObjectVersion),
    Marker(DeleteMarkerEntry),
}

impl Entry {
    fn of(version: Version, is_latest: bool) -> Self {
        let last_modified = Some(written(&version));
        let (key, version_id, is_latest) = (Some(version.key), Some(version.id), Some(is_latest));
        match version.content {
            Some(content) => Self::Version(ObjectVersion {
                key,
                version_id,
                is_latest,
                last_modified,
                e_tag: Some(ETag::Strong(content.e_tag)),
                size: Some(content.size_bytes),
                ..Default::default()
            }),
            None => Self::Marker(DeleteMarkerEntry {
                key,
                version_id,
                is_latest,
                last_modified,
                ..Default::default()
            }),
        }
    }

    fn of_object(object: Object) -> Self {
        Self::Version(ObjectVersion {
            key: object.key,
            version_id: Some(NULL.to_owned()),
            is_latest: Some(true),
            last_modified: object.last_modified,
            size: object.size,
            ..Default::default()
        })
    }

    fn version_id(&self) -> Option<&str> {
        match self {
            Self::Version(version) => version.version_id.as_deref(),
            Self::Marker(marker) => marker.version_id.as_deref(),
        }
    }
}

impl Store {
    pub(super) async fn list_versions(
        &self,
        input: ListObjectVersionsInput,
    ) -> S3Result<ListObjectVersionsOutput> {
        let max_keys = bounded(input.max_keys)?;
        if input.key_marker.is_none() && input.version_id_marker.is_some() {
            return Err(s3_error!(
                InvalidArgument,
                "A version-id marker cannot be specified without a key marker."
            ));
        }
        let prefix = input.prefix.clone().unwrap_or_default();
        let all = self.entries(&input.bucket, &prefix).await?;
        let (mut versions, mut markers, mut prefixes) = (Vec::new(), Vec::new(), Vec::<String>::new());
        let (mut listed, mut last) = (0, None);
        let mut is_truncated = false;
        for (key, entry) in behind(all, input.key_marker.as_deref(), input.version_id_marker.as_deref()) {
            let common = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
            let common = common.and_then(|delimiter| {
                let rest = &key[prefix.len()..];
                rest.find(delimiter).map(|end| key[..prefix.len() + end + delimiter.len()].to_owned())
            });
            let is_known = common.as_ref().is_some_and(|common| {
                prefixes.last() == Some(common) || input.key_marker.as_ref() == Some(common)
            });
            if is_known {
                continue;
            }
            if listed == max_keys {
                is_truncated = max_keys > 0;
                break;
            }
            listed += 1;
            if let Some(common) = common {
                last = Some((common.clone(), None));
                prefixes.push(common);
                continue;
            }
            last = Some((key, entry.version_id().map(str::to_owned)));
            match entry {
                Entry::Version(version) => versions.push(version),
                Entry::Marker(marker) => markers.push(marker),
            }
        }
        let (next_key_marker, next_version_id_marker) = match last.filter(|_| is_truncated) {
            Some((key, version)) => (Some(key), version),
            None => (None, None),
        };
        let output = ListObjectVersionsOutput {
            common_prefixes: Some(
                prefixes.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) }).collect(),
            ),
            delete_markers: Some(markers),
            versions: Some(versions),
            delimiter: input.delimiter,
            encoding_type: input.encoding_type,
            is_truncated: Some(is_truncated),
            key_marker: input.key_marker,
            version_id_marker: input.version_id_marker,
            max_keys: Some(max_keys),
            name: Some(input.bucket),
            prefix: input.prefix,
            next_key_marker,
            next_version_id_marker,
            ..Default::default()
        };
        Ok(in_encoding(output))
    }

    /// Every version in a bucket under keys with `prefix`.
    async fn entries(&self, bucket: &str, prefix: &str) -> S3Result<Vec<(String, Entry)>> {
        let mut entries: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        let versions = self.index.all(bucket).map_err(unreadable)?;
        for version in versions.into_iter().filter(|version| version.key.starts_with(prefix)) {
            let key = version.key.clone();
            let of_key = entries.entry(key).or_default();
            of_key.push(Entry::of(version, of_key.is_empty()));
        }
        let list = ListObjectsV2Input {
            bucket: bucket.to_owned(),
            prefix: Some(prefix.to_owned()),
            max_keys: Some(i32::MAX),
            ..Default::default()
        };
        let listed = self.files.list_objects_v2(internal_request(list)).await?.output;
        for object in listed.contents.into_iter().flatten() {
            let key = object.key.clone().unwrap_or_default();
            entries.entry(key).or_insert_with(|| vec![Entry::of_object(object)]);
        }
        let of_key = |(key, of_key): (String, Vec<Entry>)| {
            of_key.into_iter().map(move |entry| (key.clone(), entry)).collect::<Vec<_>>()
        };
        Ok(entries.into_iter().flat_map(of_key).collect())
    }
}

/// What comes behind the markers: the version that they name is the last one that was listed.
fn behind(all: Vec<(String, Entry)>, key: Option<&str>, version: Option<&str>) -> Vec<(String, Entry)> {
    let Some(marker) = key else { return all };
    let named = version.and_then(|version| {
        all.iter().position(|(key, entry)| key == marker && entry.version_id() == Some(version))
    });
    let first = match named {
        Some(position) => position + 1,
        None => all.partition_point(|(key, _)| key.as_str() <= marker),
    };
    all.into_iter().skip(first).collect()
}

fn in_encoding(mut output: ListObjectVersionsOutput) -> ListObjectVersionsOutput {
    if output.encoding_type.as_ref().is_some_and(|kind| kind.as_str() == EncodingType::URL) {
        encode(&mut output.prefix);
        encode(&mut output.delimiter);
        encode(&mut output.key_marker);
        encode(&mut output.next_key_marker);
        output.versions.iter_mut().flatten().for_each(|version| encode(&mut version.key));
        output.delete_markers.iter_mut().flatten().for_each(|marker| encode(&mut marker.key));
        output.common_prefixes.iter_mut().flatten().for_each(|prefix| encode(&mut prefix.prefix));
    }
    output
}
