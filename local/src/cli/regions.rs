//! The command `region`: lists, breaks and mends regions that run together.

use serde::Serialize;

use super::client::{client, running, send, unreachable};
use super::{CliError, Running, print};
use crate::region::Condition;
use crate::regions::control::{LagRequest, Overview, PATH, Partition, Status};

pub(super) async fn list(target: &Running) -> Result<(), CliError> {
    let url = format!("{}{PATH}", running(target)?.control()?);
    let response = send(&url, client(&url)?.get(&url)).await?;
    let Overview { regions, .. } = response.json().await.map_err(|source| unreachable(&url, source))?;
    print(&format!(
        "{:<12} {:<16} {:<5} {:<9} {:<8} {:>9}  {:<24} {}",
        "REGION", "AWS", "STATE", "HEALTH", "SINCE", "PROCESSES", "HTTP", "WS"
    ))?;
    for Status { name, region, condition, http, ws, healthy, since } in regions {
        let (state, processes) = match condition {
            Condition::Up { processes } => ("up", processes.to_string()),
            Condition::Down => ("down", "-".to_owned()),
        };
        let health = if healthy { "healthy" } else { "unhealthy" };
        let since = since.strftime("%H:%M:%S");
        print(&format!(
            "{name:<12} {region:<16} {state:<5} {health:<9} {since:<8} {processes:>9}  {http:<24} {ws}"
        ))?;
    }
    Ok(())
}

pub(super) async fn down(target: &Running, name: &str) -> Result<(), CliError> {
    change(target, name, "down").await?;
    print(&format!("{name} is down: its endpoints refuse, its processes are gone; what it kept is there"))
}

pub(super) async fn up(target: &Running, name: &str) -> Result<(), CliError> {
    let status = change(target, name, "up").await?;
    print(&format!("{name} is up at {}", status.http))
}

pub(super) async fn partition(target: &Running, a: String, b: String) -> Result<(), CliError> {
    let text = format!("{a} and {b} do not reach each other");
    order(target, "partition", &Partition { between: [a, b] }).await?;
    print(&text)
}

pub(super) async fn heal(target: &Running) -> Result<(), CliError> {
    order(target, "heal", &serde_json::json!({})).await?;
    print("all regions that are up reach each other")
}

pub(super) async fn lag(target: &Running, (min_ms, max_ms): (u64, u64)) -> Result<(), CliError> {
    order(target, "lag", &LagRequest { min_ms, max_ms }).await?;
    print(&format!("replication takes {min_ms} to {max_ms} ms"))
}

async fn order(target: &Running, what: &str, body: &impl Serialize) -> Result<(), CliError> {
    let url = format!("{}{PATH}/{what}", running(target)?.control()?);
    send(&url, client(&url)?.post(&url).json(body)).await.map(drop)
}

async fn change(target: &Running, name: &str, change: &str) -> Result<Status, CliError> {
    let url = format!("{}{PATH}/{name}/{change}", running(target)?.control()?);
    let response = send(&url, client(&url)?.post(&url)).await?;
    response.json().await.map_err(|source| unreachable(&url, source))
}
