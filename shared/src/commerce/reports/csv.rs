//! The report as CSV: a header, then a line for each figure.

use super::DailyReport;
use crate::core::csv;
use crate::core::date_time::rfc3339;

/// Writes the report, including slot, owner and fence, as in the JSON: no two runs write the same
/// bytes.
pub(super) fn write(report: &DailyReport) -> String {
    let mut text = String::new();
    let mut row = |section: &str, name: &str, unit: &str, value: &str| {
        csv::write_row(&mut text, &[section, name, unit, value]);
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
    text
}
