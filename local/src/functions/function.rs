//! A function of the stack, as its processes are started.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::limits::Settings;
use crate::logs::{Logs, Source};
use crate::template::model::EventInvoke;

/// A function, ready to be started.
#[derive(Debug, Clone)]
pub struct FunctionSpec {
    /// Short name: `api-orders`.
    pub name: String,
    /// Name in the stack: `shop-api-orders`.
    pub physical_name: String,
    /// `arn:aws:lambda:…:function:shop-api-orders`.
    pub arn: String,
    /// `Timeout`.
    pub timeout: Duration,
    /// `ReservedConcurrentExecutions`: more invocations than these are throttled at once.
    pub reserved_concurrency: Option<usize>,
    /// `EventInvokeConfig`.
    pub event_invoke: EventInvoke,
    pub binary: PathBuf,
    /// The whole environment of its processes, but for what differs between processes.
    pub environment: BTreeMap<String, String>,
}

/// What all processes of one function share.
pub(super) struct Function {
    pub(super) spec: FunctionSpec,
    pub(super) settings: Settings,
    pub(super) logs: Logs,
}

impl Function {
    /// One of the region's own lines in the function's log.
    pub(super) async fn platform_log(&self, text: String) {
        self.log(Source::Platform, None, text).await;
    }

    pub(super) async fn log(&self, source: Source, pid: Option<u32>, text: String) {
        self.logs.push(&self.spec.name, source, pid, text).await;
    }
}
