//! The time line: requests by second, replication below, and events of regions across both.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::replication::Point;
use super::{Report, Second};
use crate::outage;

/// Pixels of a second.
const SECOND: u64 = 10;
/// Space for the events' names above the bars.
const HEAD: u64 = 120;
/// Pixels of the highest bar.
const BARS: u64 = 200;
/// Pixels of a region's health.
const LANE: u64 = 16;
/// Pixels of the highest point of a line.
const LINES: u64 = 120;
/// Space between two panels, with the heading of the lower one.
const GAP: u64 = 50;
/// Space for an event's name after the last second.
const TAIL: u64 = 260;
/// Colours of regions and of links, in their order.
const COLOURS: [&str; 6] = ["#3b6fb6", "#4f9d69", "#a06cb0", "#5aa5b5", "#d9822b", "#7a6a4f"];
const REFUSED: &str = "#f2b134";
const UNANSWERED: &str = "#c0392b";

pub(super) fn draw(page: &mut String, report: &Report) {
    let regions: BTreeSet<&String> =
        report.seconds.iter().flat_map(|second| second.answered.keys()).collect();
    let regions: Vec<&String> = regions.into_iter().collect();
    let last_ms = report.events.iter().map(|(at_ms, _)| *at_ms).max().unwrap_or_default();
    let seconds = u64::try_from(report.seconds.len()).unwrap_or_default().max(last_ms / 1_000 + 1);
    let lanes = LANE * u64::try_from(report.regions.len()).unwrap_or_default();
    let top = HEAD + BARS + GAP + lanes;
    let panels = [HEAD + BARS, top + GAP + LINES, top + 2 * (GAP + LINES)];
    let (width, height) = (seconds * SECOND + TAIL, panels[2] + 30);

    page.push_str("<h2>Time line</h2>\n<p>Requests by second:");
    for (place, region) in regions.iter().enumerate() {
        key(page, colour(place), region);
    }
    key(page, REFUSED, "refused (5xx, 429)");
    key(page, UNANSWERED, "no answer");
    page.push_str("</p>\n<p>Replication:");
    for (place, lag) in report.replication.iter().enumerate() {
        key(page, colour(place), &format!("{} to {}", lag.from, lag.to));
    }
    // Writing to a `String` does not fail.
    write!(page, "</p>\n<div class=\"picture\"><svg width=\"{width}\" height=\"{height}\" role=\"img\">")
        .ok();
    bars(page, report, &regions, panels[0]);
    text(page, (0, HEAD + BARS + GAP - 8), "unhealthy, as the front door believes");
    health(page, report, (HEAD + BARS + GAP, seconds * 1_000));
    let ages = |point: &Point| point.oldest_ms;
    let most = report.replication.iter().map(|lag| lag.max_oldest_ms).max().unwrap_or_default();
    heading(
        page,
        panels[1],
        &format!("age of the oldest change that has not arrived: {} at most", outage::seconds(most)),
    );
    lines(page, report, panels[1], (most, ages));
    let pending = |point: &Point| point.pending;
    let most = report.replication.iter().map(|lag| lag.max_pending).max().unwrap_or_default();
    heading(page, panels[2], &format!("changes that have not arrived: {most} at most"));
    lines(page, report, panels[2], (most, pending));
    for second in (0..seconds).step_by(10) {
        text(page, (second * SECOND, panels[2] + 18), &format!("{second} s"));
    }
    events(page, report, panels[2]);
    page.push_str("</svg></div>\n");
}

fn colour(place: usize) -> &'static str {
    COLOURS[place % COLOURS.len()]
}

/// The attempts of each second, stacked.
fn bars(page: &mut String, report: &Report, regions: &[&String], bottom: u64) {
    let total = |second: &Second| second.answered.values().sum::<u64>() + second.refused + second.unanswered;
    let most = report.seconds.iter().map(total).max().unwrap_or(1).max(1);
    for (place, second) in (0..).zip(&report.seconds) {
        let mut y = bottom;
        let answered = regions.iter().enumerate().map(|(place, region)| {
            (colour(place), second.answered.get(*region).copied().unwrap_or_default())
        });
        for (fill, number) in answered.chain([(REFUSED, second.refused), (UNANSWERED, second.unanswered)]) {
            let tall = number * BARS / most;
            y -= tall;
            if number > 0 {
                let (x, wide) = (place * SECOND, SECOND - 1);
                write!(
                    page,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{tall}\" fill=\"{fill}\"/>"
                )
                .ok();
            }
        }
    }
    text(page, (0, HEAD - 6), &format!("{most} requests a second at most"));
}

fn heading(page: &mut String, bottom: u64, what: &str) {
    text(page, (0, bottom - LINES - 8), what);
}

/// A line for each link. `most` is the highest value of all.
fn lines(page: &mut String, report: &Report, bottom: u64, (most, value): (u64, fn(&Point) -> u64)) {
    for (place, lag) in report.replication.iter().enumerate() {
        write!(page, "<polyline fill=\"none\" stroke-width=\"1.5\" stroke=\"{}\" points=\"", colour(place))
            .ok();
        for point in &lag.series {
            let (x, y) = (at(point.at_ms), bottom - value(point) * LINES / most.max(1));
            write!(page, "{x},{y} ").ok();
        }
        page.push_str("\"/>");
    }
    write!(page, "<line x1=\"0\" x2=\"100%\" y1=\"{bottom}\" y2=\"{bottom}\" stroke=\"#888\"/>").ok();
}

/// A lane for each region, dark where it is unhealthy.
fn health(page: &mut String, report: &Report, (top, end_ms): (u64, u64)) {
    for (place, region) in (0..).zip(&report.regions) {
        let y = top + place * LANE;
        let mut changes = report.health.iter().filter(|change| change.region == *region).peekable();
        while let Some(change) = changes.next() {
            let until_ms = changes.peek().map_or(end_ms, |next| next.at_ms);
            if !change.healthy {
                let (x, wide) = (at(change.at_ms), at(until_ms.saturating_sub(change.at_ms)).max(1));
                let tall = LANE - 4;
                write!(
                    page,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{tall}\" fill=\"{UNANSWERED}\"/>"
                )
                .ok();
            }
        }
        text(page, (at(end_ms) + 6, y + 10), region);
    }
}

/// Marks across all panels.
fn events(page: &mut String, report: &Report, bottom: u64) {
    for (place, (at_ms, what)) in (0..).zip(&report.events) {
        let (x, y) = (at(*at_ms), 15 + place % 7 * 15);
        write!(page, "<line x1=\"{x}\" x2=\"{x}\" y1=\"{y}\" y2=\"{bottom}\" stroke=\"#888\" stroke-dasharray=\"3 3\"/>").ok();
        text(page, (x + 3, y), what);
    }
}

/// The x coordinate of a moment.
fn at(ms: u64) -> u64 {
    ms * SECOND / 1_000
}

fn text(page: &mut String, (x, y): (u64, u64), text: &str) {
    write!(page, "<text x=\"{x}\" y=\"{y}\">{}</text>", escaped(text)).ok();
}

fn key(page: &mut String, colour: &str, name: &str) {
    write!(page, "<span class=\"key\" style=\"background:{colour}\"></span>{}", escaped(name)).ok();
}

/// Escapes text for HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::HealthChange;
    use crate::report::LinkLag;

    #[test]
    fn the_time_line_has_a_bar_a_line_and_a_mark() {
        let point = |at_ms, pending| Point { at_ms, pending, oldest_ms: pending * 100 };
        let lag = LinkLag {
            from: "tokyo".to_owned(),
            to: "<taiwan>".to_owned(),
            median_pending: 1,
            max_pending: 10,
            median_oldest_ms: 100,
            max_oldest_ms: 1_000,
            series: vec![point(0, 0), point(1_000, 10)],
        };
        let second = Second { answered: [("tokyo".to_owned(), 4)].into(), refused: 1, unanswered: 0 };
        let report = Report {
            duration_ms: 2_000,
            customers: 1,
            regions: vec!["tokyo".to_owned()],
            outage: None,
            promises: Vec::new(),
            without_service: Vec::new(),
            replication: vec![lag],
            seconds: vec![second],
            events: vec![(1_500, "tokyo is down".to_owned())],
            health: vec![HealthChange { at_ms: 1_700, region: "tokyo".to_owned(), healthy: false }],
        };
        let mut page = String::new();
        draw(&mut page, &report);
        // Two parts of a bar, and 300 ms of bad health.
        assert_eq!(page.matches("<rect").count(), 3);
        assert!(page.contains("<rect x=\"17\" y=\"370\" width=\"3\""), "{page}");
        assert!(page.contains("tokyo to &lt;taiwan&gt;"));
        // The highest point is as high as the panel.
        assert!(page.contains("points=\"0,556 10,436 \""), "{page}");
        assert!(
            page.contains("<line x1=\"15\" x2=\"15\"") && page.contains(">tokyo is down</text>"),
            "{page}"
        );
    }
}
