//! `report.html`: the measurements, the time line as a picture, the promises.

use std::fmt::Write;

use super::Report;
use super::time_line::{self, escaped};
use crate::outage::seconds;

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
    let outage = report.outage.as_deref().map_or_else(|| "no region died".to_owned(), escaped);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Drill: {verdict}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
         <h1>Drill: {verdict}</h1>\n<p>{} customers, {} s of load, {} regions; {outage}.</p>\n",
        report.customers,
        report.duration_ms / 1_000,
        report.regions.len(),
    );
    time_line::draw(&mut page, report);
    without_service(&mut page, report);
    replication(&mut page, report);
    promises(&mut page, report);
    page.push_str("</body></html>\n");
    page
}

fn without_service(page: &mut String, report: &Report) {
    page.push_str("<h2>Without service</h2>\n<table>");
    for group in &report.without_service {
        // Writing to a `String` does not fail.
        writeln!(
            page,
            "<tr><th>{} of {} customers {}</th><th>p50</th><th>longest</th></tr>",
            group.waits.len(),
            group.number,
            escaped(&group.customers)
        )
        .ok();
        for (what, median, longest) in group.rows() {
            row(page, what, &[median, longest]);
        }
    }
    page.push_str(
        "</table>\n<p>Measured is each customer's longest wait for an answer. Near the region that died, the front door's health \
         checks and DNS answers are part of it; the software's share is what is left without the longest that they take. Route 53's \
         longest takes their place on AWS.</p>\n",
    );
}

fn replication(page: &mut String, report: &Report) {
    page.push_str(
        "<h2>Replication</h2>\n<table><tr><th>changes that have not arrived</th><th>p50</th><th>most</th><th>oldest, p50</th>\
         <th>oldest, most</th></tr>\n",
    );
    for lag in &report.replication {
        let link = format!("{} to {}", escaped(&lag.from), escaped(&lag.to));
        let pending = [lag.median_pending, lag.max_pending].map(|changes| changes.to_string());
        let oldest = [lag.median_oldest_ms, lag.max_oldest_ms].map(seconds);
        row(page, &link, &[pending, oldest].concat());
    }
    page.push_str("</table>\n");
}

/// A row of figures, under a heading that is HTML.
fn row(page: &mut String, heading: &str, figures: &[String]) {
    write!(page, "<tr><td>{heading}</td>").ok();
    for figure in figures {
        write!(page, "<td class=\"number\">{figure}</td>").ok();
    }
    page.push_str("</tr>\n");
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
