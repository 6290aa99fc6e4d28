//! The report as CSV, RFC 4180: a header, lines that end in CR LF, fields quoted where they must be.

use super::DailyReport;
use crate::clock::rfc3339;

/// Writes the report. The slot, owner and fence are in it, as they are in the JSON: no two runs write the same bytes.
pub(super) fn write(report: &DailyReport) -> String {
    let mut csv = String::new();
    let mut row = |section: &str, name: &str, unit: &str, value: &str| {
        let fields = [section, name, unit, value].map(field);
        csv.push_str(&fields.join(","));
        csv.push_str("\r\n");
    };
    row("section", "name", "unit", "value");
    row("report", "date", "", &report.date.to_string());
    row("report", "slot", "", &report.slot);
    row("report", "owner", "", report.owner.as_str());
    row("report", "fence", "", &report.fence.to_string());
    row("report", "generatedAt", "", &rfc3339(report.generated_at));
    row("orders", "total", "orders", &report.orders.total.to_string());
    for (status, orders) in &report.orders.by_status {
        row("orders", status, "orders", &orders.to_string());
    }
    for revenue in &report.revenue {
        row("revenue", revenue.currency.as_str(), "minor units", &revenue.amount.to_string());
    }
    for product in &report.top_products {
        row("topProducts", product.product_id.as_str(), "units", &product.units.to_string());
    }
    row("topProducts", "", "units too low at most", &report.top_products_error_units.to_string());
    let failures = report.failures;
    row("failures", "cancelled", "orders", &failures.cancelled.to_string());
    row("failures", "expired", "orders", &failures.expired.to_string());
    row("failures", "declinedPayments", "payments", &failures.declined_payments.to_string());
    row("failures", "unreadableOrders", "orders", &failures.unreadable_orders.to_string());
    csv
}

/// A field, quoted if it holds a separator, a quote or a line break. None begins with a sign that a spreadsheet would
/// take for a formula: they are constants, numbers, dates, and ids, which begin with a letter or a digit.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads one line of fields, by the grammar of RFC 4180.
    fn read(line: &str) -> Vec<String> {
        let mut fields = vec![String::new()];
        let mut quoted = false;
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => {
                    fields.last_mut().unwrap().extend(chars.next());
                }
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(String::new()),
                c => fields.last_mut().unwrap().push(c),
            }
        }
        fields
    }

    proptest! {
        #[test]
        fn every_text_comes_back_from_its_field(texts in proptest::collection::vec("[a-z,\"\r\n ]{0,12}", 1..5)) {
            let line = texts.iter().map(|text| field(text)).collect::<Vec<_>>().join(",");
            prop_assert_eq!(read(&line), texts);
        }
    }
}
