//! `report.html`: the time line as a picture, and the promises beside it.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::Report;

/// Pixels of a second.
const SECOND: usize = 10;
/// Pixels of the highest bar.
const HEIGHT: u64 = 200;
/// Space for the events' names above the bars.
const HEAD: u64 = 120;
/// Colours of the regions, in their order.
const COLOURS: [&str; 6] = ["#3b6fb6", "#4f9d69", "#a06cb0", "#5aa5b5", "#7a6a4f", "#8a8a8a"];
const REFUSED: &str = "#f2b134";
const UNANSWERED: &str = "#c0392b";

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .25rem .75rem; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.broken td { background: #fdecea; }
.example { color: #666; font-size: 13px; overflow-wrap: anywhere; }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em; }
.picture { overflow-x: auto; }
svg text { font: 12px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #161616; }
  td, th { border-color: #444; }
  .broken td { background: #4a1f1b; }
  .example { color: #aaa; }
  svg text { fill: #ddd; }
}";

/// The page.
pub(super) fn of(report: &Report) -> String {
    let verdict = if report.is_clean() { "every promise was kept" } else { "promises were broken" };
    let killed = report.killed.as_deref().map_or_else(|| "no region".to_owned(), escaped);
    let waits = &report.without_service;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Drill: {verdict}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
         <h1>Drill: {verdict}</h1>\n<p>{} customers, {} s of load, {} regions; {killed} died. {} customers had to repeat a \
         request; half of them waited {} ms at most, the longest wait was {} ms.</p>\n",
        report.customers,
        report.duration_ms / 1_000,
        report.regions.len(),
        waits.customers,
        waits.median_ms,
        waits.longest_ms,
    );
    time_line(&mut page, report);
    promises(&mut page, report);
    page.push_str("</body></html>\n");
    page
}

fn time_line(page: &mut String, report: &Report) {
    let regions: BTreeSet<&String> =
        report.seconds.iter().flat_map(|second| second.answered.keys()).collect();
    let colour = |region: &String| {
        let place = regions.iter().position(|known| *known == region).unwrap_or_default();
        COLOURS[place % COLOURS.len()]
    };
    let total =
        |second: &super::Second| second.answered.values().sum::<u64>() + second.refused + second.unanswered;
    let most = report.seconds.iter().map(total).max().unwrap_or(1).max(1);
    let (width, height) = (report.seconds.len() * SECOND + 160, HEAD + HEIGHT + 30);
    let bottom = HEAD + HEIGHT;

    page.push_str("<h2>Requests by second</h2>\n<p>");
    for region in &regions {
        key(page, colour(region), &escaped(region));
    }
    key(page, REFUSED, "refused (5xx, 429)");
    key(page, UNANSWERED, "no answer");
    // A `String` takes whatever is written.
    write!(page, "</p>\n<div class=\"picture\"><svg width=\"{width}\" height=\"{height}\" role=\"img\">")
        .ok();
    for (place, second) in report.seconds.iter().enumerate() {
        let x = place * SECOND;
        let mut y = bottom;
        let answered = second.answered.iter().map(|(region, number)| (colour(region), *number));
        for (fill, number) in answered.chain([(REFUSED, second.refused), (UNANSWERED, second.unanswered)]) {
            let tall = number * HEIGHT / most;
            y -= tall;
            if number > 0 {
                write!(
                    page,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{tall}\" fill=\"{fill}\"/>",
                    SECOND - 1
                )
                .ok();
            }
        }
        if place % 10 == 0 {
            write!(page, "<text x=\"{x}\" y=\"{}\">{place} s</text>", bottom + 18).ok();
        }
    }
    for (place, (at_ms, what)) in report.events.iter().enumerate() {
        let x = usize::try_from(*at_ms).unwrap_or_default() * SECOND / 1_000;
        let y = 15 + (place % 7) * 15;
        write!(
            page,
            "<line x1=\"{x}\" x2=\"{x}\" y1=\"{y}\" y2=\"{bottom}\" stroke=\"#888\" stroke-dasharray=\"3 3\"/>\
             <text x=\"{}\" y=\"{y}\">{}</text>",
            x + 3,
            escaped(what)
        )
        .ok();
    }
    writeln!(page, "</svg></div>\n<p>The highest bar is {most} requests.</p>").ok();
}

fn key(page: &mut String, colour: &str, name: &str) {
    write!(page, "<span class=\"key\" style=\"background:{colour}\"></span>{name}").ok();
}

fn promises(page: &mut String, report: &Report) {
    page.push_str(
        "<h2>Promises: none of these</h2>\n<table><tr><th></th><th>examined</th><th>broken</th></tr>\n",
    );
    for promise in &report.promises {
        let class = if promise.is_kept() { "" } else { " class=\"broken\"" };
        write!(page, "<tr{class}><td>{}", escaped(promise.name)).ok();
        for example in &promise.examples {
            write!(page, "<div class=\"example\">{}</div>", escaped(example)).ok();
        }
        writeln!(
            page,
            "</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            promise.examined, promise.broken
        )
        .ok();
    }
    page.push_str("</table>\n");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
