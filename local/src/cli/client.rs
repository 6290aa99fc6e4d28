//! The commands that ask a running region, over its Lambda and control APIs.

use std::io::Read;
use std::path::Path;

use reqwest::{Client, RequestBuilder, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{CliError, Running, Target, print};
use crate::functions::ProcessStatus;
use crate::logs::{Format, Line};
use crate::region::control::PREFIX;
use crate::region::{Ready, ReadyFile};
use crate::services::sqs::Overview;
use crate::services::trail::{Delivered, Passed};

/// Whether `logs` and `events` keep following.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    Yes,
    No,
}

/// The body of an error.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

#[derive(Deserialize)]
struct Processes {
    processes: Vec<ProcessStatus>,
}

#[derive(Deserialize)]
struct Killed {
    pids: Vec<u32>,
}

#[derive(Deserialize)]
struct Redelivered {
    messages: usize,
}

pub(super) async fn invoke(target: &Target, function: &str, event: &Path) -> Result<(), CliError> {
    let ready = region(target)?;
    let failed = |source| CliError::Event { path: event.to_owned(), source };
    let payload = if event == Path::new("-") {
        let mut payload = Vec::new();
        std::io::stdin().read_to_end(&mut payload).map_err(failed)?;
        payload
    } else {
        std::fs::read(event).map_err(failed)?
    };
    let url = format!("{}/2015-03-31/functions/{function}/invocations", ready.lambda);
    let response = send(&url, client(&url)?.post(&url).body(payload)).await?;
    let error = response
        .headers()
        .get("x-amz-function-error")
        .map(|kind| kind.to_str().unwrap_or("error").to_owned());
    print(&text(&url, response).await?)?;
    match error {
        None => Ok(()),
        Some(kind) => Err(CliError::FunctionFailed { function: function.to_owned(), kind }),
    }
}

pub(super) async fn fire(
    target: &Target,
    schedule: &str,
    at: Option<jiff::Timestamp>,
) -> Result<(), CliError> {
    let url = format!("{}{PREFIX}/fire", region(target)?.lambda);
    let request = json!({ "schedule": schedule, "at": at });
    let response = send(&url, client(&url)?.post(&url).json(&request)).await?;
    print(&text(&url, response).await?)
}

pub(super) async fn ps(target: &Target) -> Result<(), CliError> {
    let url = format!("{}{PREFIX}/ps", region(target)?.lambda);
    let response = send(&url, client(&url)?.get(&url)).await?;
    let Processes { processes } = response.json().await.map_err(|source| unreachable(&url, source))?;
    print(&format!(
        "{:<18} {:>8} {:<9} {:>11} {:>9}  {:<10}",
        "FUNCTION", "PID", "STATE", "INVOCATIONS", "MEMORY", "STARTED"
    ))?;
    for process in processes {
        let pid = process.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let memory =
            process.resident_bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
        print(&format!(
            "{:<18} {pid:>8} {:<9} {:>11} {memory:>9}  {:<10}",
            process.function, process.state, process.invocations, process.started_at
        ))?;
    }
    Ok(())
}

pub(super) async fn kill(target: &Target, function: &str) -> Result<(), CliError> {
    let url = format!("{}{PREFIX}/kill", region(target)?.lambda);
    let request = json!({ "function": function });
    let response = send(&url, client(&url)?.post(&url).json(&request)).await?;
    let Killed { pids } = response.json().await.map_err(|source| unreachable(&url, source))?;
    if pids.is_empty() {
        return print(&format!("{function} has no process"));
    }
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    print(&format!("killed {}", pids.join(", ")))
}

pub(super) async fn queues(target: &Target) -> Result<(), CliError> {
    let url = format!("{}{PREFIX}/queues", region(target)?.lambda);
    let response = send(&url, client(&url)?.get(&url)).await?;
    let queues: Vec<Overview> = response.json().await.map_err(|source| unreachable(&url, source))?;
    print(&format!("{:<32} {:>8} {:>9} {:>8}", "QUEUE", "VISIBLE", "IN FLIGHT", "DELAYED"))?;
    for Overview { name, visible, in_flight, delayed } in queues {
        print(&format!("{name:<32} {visible:>8} {in_flight:>9} {delayed:>8}"))?;
    }
    Ok(())
}

pub(super) async fn redeliver(target: &Target, queue: &str) -> Result<(), CliError> {
    let url = format!("{}{PREFIX}/queues/{queue}/redeliver", region(target)?.lambda);
    let response = send(&url, client(&url)?.post(&url)).await?;
    let Redelivered { messages } = response.json().await.map_err(|source| unreachable(&url, source))?;
    print(&format!("messages to be delivered again: {messages}"))
}

/// Posts nothing to a route that the program has added to the region's control API. Returns the
/// answer.
pub async fn post<T: DeserializeOwned>(target: &Target, route: &str) -> Result<T, CliError> {
    let url = format!("{}{PREFIX}{route}", region(target)?.lambda);
    let response = send(&url, client(&url)?.post(&url)).await?;
    response.json().await.map_err(|source| unreachable(&url, source))
}

pub(super) async fn logs(
    target: &Target,
    function: Option<&str>,
    follow: Follow,
    format: &Format,
) -> Result<(), CliError> {
    let follow = follow == Follow::Yes;
    let function = function.map(|function| format!("&function={function}")).unwrap_or_default();
    let url = format!("{}{PREFIX}/logs?follow={follow}{function}", region(target)?.lambda);
    each_line(&url, |line: &Line| format.format(line)).await
}

pub(super) async fn events(target: &Target, follow: Follow) -> Result<(), CliError> {
    let follow = follow == Follow::Yes;
    let url = format!("{}{PREFIX}/events?follow={follow}", region(target)?.lambda);
    each_line(&url, |passed: &Passed| Some(shown(passed))).await
}

/// `12:00:00 event-bus/shop  orders order.placed  {...}` and a line for each delivery.
fn shown(passed: &Passed) -> String {
    let Passed { at, through, id, title, body, deliveries } = passed;
    let name = through.rsplit(':').next().unwrap_or_default();
    let head = format!("{}  {name}  {title}  {id}", at.strftime("%H:%M:%S%.3f"));
    let body = (!body.is_empty()).then(|| format!("\n    {body}"));
    let deliveries =
        deliveries.iter().map(|Delivered { by, to, outcome }| format!("\n    {by} -> {to}: {outcome}"));
    [head].into_iter().chain(body).chain(deliveries).collect()
}

/// Prints what `format` makes of each line of JSON.
async fn each_line<T: DeserializeOwned>(
    url: &str,
    format: impl Fn(&T) -> Option<String>,
) -> Result<(), CliError> {
    let mut response = send(url, client(url)?.get(url)).await?;
    let mut rest = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|source| unreachable(url, source))? {
        rest.extend_from_slice(&chunk);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line: T = serde_json::from_slice(&line).map_err(std::io::Error::from)?;
            if let Some(text) = format(&line) {
                print(&text)?;
            }
        }
    }
    Ok(())
}

fn region(target: &Target) -> Result<Ready, CliError> {
    Ok(running(&target.running)?.region(target.region.as_deref())?)
}

/// The regions that a command is for.
pub(super) fn running(running: &Running) -> Result<ReadyFile, CliError> {
    Ok(match &running.region_file {
        Some(path) => ReadyFile::running(path)?,
        None => ReadyFile::newest()?,
    })
}

/// Without a proxy: regions are on this machine.
pub(super) fn client(url: &str) -> Result<Client, CliError> {
    Client::builder().no_proxy().build().map_err(|source| unreachable(url, source))
}

/// Sends, and turns an error answer into its message.
pub(super) async fn send(url: &str, request: RequestBuilder) -> Result<Response, CliError> {
    let response = request.send().await.map_err(|source| unreachable(url, source))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let body = text(url, response).await?;
    let message = serde_json::from_str::<Refusal>(&body).map_or(body, |refusal| refusal.message);
    Err(CliError::Refused(if message.is_empty() { status.to_string() } else { message }))
}

async fn text(url: &str, response: Response) -> Result<String, CliError> {
    response.text().await.map_err(|source| unreachable(url, source))
}

pub(super) fn unreachable(url: &str, source: reqwest::Error) -> CliError {
    CliError::Unreachable { url: url.to_owned(), source }
}
