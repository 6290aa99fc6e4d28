//! The table that is printed after the start: endpoints, routes, schedules, event sources,
//! subscriptions and event rules. Several regions have a few lines each, because they run the same
//! stack.

use std::fmt::Write;

use owo_colors::OwoColorize;

use super::colours;
use crate::front_door::FrontDoor;
use crate::logs::Colours;
use crate::region::{Ready, Region};
use crate::regions::Regions;

pub(super) async fn of(regions: &Regions) -> String {
    let mut text = match regions.all() {
        [alone] if alone.name.is_empty() => of_one(alone).await,
        several => of_several(several, regions.front.as_ref()),
    };
    let megabytes = regions.resident_bytes().map_or_else(String::new, |bytes| {
        format!(", {} MB resident without the functions", bytes / 1_000_000)
    });
    line(&mut text, &format!("Started in {:.1} s{megabytes}.", regions.started_in.as_secs_f64()));
    line(&mut text, "Ctrl-C stops everything.");
    text
}

fn of_several(regions: &[Region], front: Option<&FrontDoor>) -> String {
    let mut text = String::new();
    if let Some(front) = front {
        let rows = [row(["HTTP", front.http_url()]), row(["WebSocket", front.websocket_url()])];
        section(&mut text, "Front door: the nearest healthy region (x-local-region-near: NAME)", &rows);
    }
    let rows = regions.iter().map(|region| {
        let Ready { region: aws, http, ws, .. } = &region.ready;
        row([&region.name, aws, http, ws])
    });
    section(&mut text, "Regions", &rows.collect::<Vec<_>>());
    line(
        &mut text,
        "Commands: region ls, down NAME, up NAME, partition A B, heal, lag 800ms; --region NAME with the others.\n",
    );
    text
}

async fn of_one(region: &Region) -> String {
    let ready = &region.ready;
    let mut text = String::new();
    let http = region.stack.http_api.iter().map(|_| row(["HTTP API", &ready.http]));
    let websocket = region.stack.websocket_api.iter().map(|_| row(["WebSocket API", &ready.ws]));
    let services = [
        row(["Lambda", &ready.lambda]),
        row(["DynamoDB", &ready.dynamodb]),
        row(["S3", &ready.s3]),
        row(["SQS", &ready.sqs]),
        row(["SNS", &ready.sns]),
        row(["EventBridge", &ready.eventbridge]),
        row(["Secrets Manager", &ready.secrets_manager]),
    ];
    section(&mut text, "Endpoints", &http.chain(websocket).chain(services).collect::<Vec<_>>());
    let routes = region.stack.http_api.iter().flat_map(|api| &api.routes);
    let routes: Vec<_> = routes.map(|route| row([&route.method, &route.path, &route.function])).collect();
    section(&mut text, "HTTP routes", &routes);
    let routes = region.stack.websocket_api.iter().flat_map(|api| &api.routes);
    let routes: Vec<_> = routes.map(|(key, route)| row([key, &route.function])).collect();
    section(&mut text, "WebSocket routes", &routes);
    let schedules: Vec<_> = region
        .upcoming()
        .await
        .iter()
        .map(|schedule| {
            let next = schedule.next.map_or_else(|| "never".to_owned(), |next| next.to_string());
            row([&schedule.name, &schedule.expression, &format!("next {next}")])
        })
        .collect();
    section(&mut text, "Schedules", &schedules);
    let sources: Vec<_> = region
        .stack
        .event_sources
        .iter()
        .map(|source| {
            let state = if source.enabled { "" } else { "disabled" };
            row([&source.queue, &source.function, state])
        })
        .collect();
    section(&mut text, "Queues", &sources);
    let sources: Vec<_> = region
        .stack
        .stream_sources
        .iter()
        .map(|source| {
            let state = if source.enabled { "" } else { "disabled" };
            row([&source.table, &source.function, state])
        })
        .collect();
    section(&mut text, "Streams of tables", &sources);
    let topics = region.stack.kafka_sources.iter();
    let topics: Vec<_> = topics
        .map(|source| row([&source.topic, &source.function, &source.bootstrap_servers.join(",")]))
        .collect();
    section(&mut text, "Topics of Kafka", &topics);
    let subscriptions = region.stack.subscriptions.iter().map(|subscription| {
        let topic = subscription.topic_arn.rsplit(':').next().unwrap_or_default();
        row([topic, subscription.target.name(), if subscription.filter.is_some() { "filtered" } else { "" }])
    });
    section(&mut text, "Topics", &subscriptions.collect::<Vec<_>>());
    let rules = region.stack.rules.iter().flat_map(|rule| {
        let state = if rule.enabled { "" } else { "disabled" };
        rule.targets.iter().map(move |target| row([&rule.bus, &rule.name, target.target.name(), state]))
    });
    section(&mut text, "Event rules", &rules.collect::<Vec<_>>());
    let direct: Vec<_> = region.direct().map(|name| row([name])).collect();
    section(&mut text, "By direct invocation only (invoke NAME)", &direct);
    let not_run: Vec<_> = region.stack.not_run.iter().map(|resource| row([resource])).collect();
    section(&mut text, "In the template, not run here", &not_run);
    text
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

/// A heading and its rows, the columns aligned. Nothing without rows.
fn section(text: &mut String, title: &str, rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    match colours(&std::io::stdout()) {
        Colours::On => line(text, &title.bold().to_string()),
        Colours::Off => line(text, title),
    }
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        line(text, format!("  {}", cells.join("  ")).trim_end());
    }
    line(text, "");
}

fn line(text: &mut String, line: &str) {
    if writeln!(text, "{line}").is_err() {
        tracing::error!("a String refused to grow");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_sections_left_out() {
        let mut text = String::new();
        section(
            &mut text,
            "Routes",
            &[row(["GET", "/health", "api-health"]), row(["POST", "/orders", "api-orders"])],
        );
        section(&mut text, "Nothing", &[]);
        assert_eq!(text, "Routes\n  GET   /health  api-health\n  POST  /orders  api-orders\n\n");
    }
}
