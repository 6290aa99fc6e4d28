//! The cost of signing a link, in this process and without a server. Measured in processor time of
//! the thread, so that other load of the machine does not count.

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use serde_json::json;
use sojourn::core::clock;
use sojourn::core::env::Env;
use sojourn::files::links::MultipartId;
use sojourn::files::links::disposition::Disposition;
use sojourn::files::links::s3::{Download, Presigner, Put};

use crate::{Figures, row, section};

/// Links of each kind.
const LINKS: u32 = 2_000;
/// Pages of links.
const PAGES: u32 = 100;
/// Links of a page of files.
const LINKS_OF_A_PAGE: u32 = 20;

/// Measures links of each kind.
pub(crate) fn measure() -> Figures {
    section("Links to files", &["cpu ms"]);
    // A runtime of this thread alone: its time is all there is.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let presigner = presigner();
    let mut figures = Figures::new();
    let (key, upload) = ("uploads/usr_0/01JD0000000000000000000000/file", MultipartId::new("upload"));
    let put = Put { key, size_bytes: 1_048_576, content_type: "image/png", sha256_base64: DIGEST };
    let (file_name, content_type) = ("receipt.png", "image/png");
    let download = Download { key, file_name, content_type, disposition: Disposition::Attachment };
    let costs = runtime.block_on(async {
        let signer = presigner.signer(None).await.unwrap();
        [
            ("upload, whole", timed(LINKS, async || drop(signer.put(put).await.unwrap())).await),
            (
                "upload, a part",
                timed(LINKS, async || drop(signer.part(key, &upload, 1, 8_388_608).await.unwrap())).await,
            ),
            ("download", timed(LINKS, async || drop(signer.download(download).await.unwrap())).await),
            ("a page of 20 downloads", timed(PAGES, async || page(&presigner, download).await).await),
        ]
    });
    for (name, seconds) in costs {
        let ms = seconds * 1_000.0;
        row(name, &[format!("{ms:.3}")]);
        figures.insert(name.into(), json!({"cpuMs": ms}));
    }
    figures
}

/// The links of a page, including the start of an answer.
async fn page(presigner: &Presigner, download: Download<'_>) {
    let signer = presigner.signer(None).await.unwrap();
    for _ in 0..LINKS_OF_A_PAGE {
        drop(signer.download(download).await.unwrap());
    }
}

/// SHA-256 of nothing, in base64.
const DIGEST: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

/// A presigner whose S3 is a port that nobody listens on: a call would fail.
fn presigner() -> Presigner {
    let sdk = aws_config::SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::for_tests()))
        .endpoint_url("http://127.0.0.1:1")
        .build();
    let env = Env::of([("FILES_BUCKET", "files")]);
    Presigner::from_env(&sdk, &env, clock::system()).unwrap()
}

/// Seconds of this thread's processor time for one of `times`.
async fn timed(times: u32, mut work: impl AsyncFnMut()) -> f64 {
    work().await;
    let before = thread_seconds();
    for _ in 0..times {
        work().await;
    }
    (thread_seconds() - before) / f64::from(times)
}

/// Processor time of this thread, from the kernel.
fn thread_seconds() -> f64 {
    // Nanoseconds on the processor come first.
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
    nanoseconds / 1e9
}
