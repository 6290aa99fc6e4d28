//! Log lines for people: time, function in its colour, level, message, request id, the other
//! fields.
//!
//! A JSON line of the functions' own format (`{"timestamp", "level", "fields": {"message"}, …}` or
//! flat) is taken apart; anything else is shown as it is. Metric lines (CloudWatch EMF, recognised
//! by `_aws`) are hidden unless asked for, and then shown as `name=value`.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write;
use std::hash::{Hash, Hasher};

use owo_colors::{AnsiColors, OwoColorize, Style};
use serde_json::{Map, Value};

use super::{Line, Source};

/// Easy to tell apart on dark and on light.
const COLOURS: [AnsiColors; 10] = [
    AnsiColors::Cyan,
    AnsiColors::Green,
    AnsiColors::Magenta,
    AnsiColors::Blue,
    AnsiColors::Yellow,
    AnsiColors::BrightCyan,
    AnsiColors::BrightGreen,
    AnsiColors::BrightMagenta,
    AnsiColors::BrightBlue,
    AnsiColors::BrightYellow,
];

/// Fields that are not shown, or that have their own column.
const NOT_REPEATED: [&str; 14] = [
    "timestamp",
    "time",
    "level",
    "message",
    "msg",
    "target",
    "function",
    "region",
    "requestId",
    "request_id",
    "span",
    "spans",
    "stage",
    // The span's: each invocation is one.
    "name",
];

/// How lines are shown.
#[derive(Debug, Clone)]
pub struct Pretty {
    pub colours: Colours,
    pub metrics: Metrics,
}

/// Whether escape sequences are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// The output is a terminal.
    On,
    /// It is not, or `NO_COLOR` is set.
    Off,
}

/// Whether metric lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metrics {
    /// As `name=value`, dimmed.
    Shown,
    Hidden,
}

impl Pretty {
    /// The line as it is printed, or nothing if it is hidden.
    pub fn format(&self, line: &Line) -> Option<String> {
        let time = line.at.strftime("%H:%M:%S%.3f").to_string();
        let name = format!("{:<18}", line.function);
        let name = if line.region.is_empty() { name } else { format!("{:<10} {name}", line.region) };
        let body = match serde_json::from_str::<Value>(&line.text) {
            Ok(Value::Object(object)) if object.contains_key("_aws") => self.metric(&object)?,
            Ok(Value::Object(object)) => self.event(&object),
            _ => self.plain(line),
        };
        let name_style = Style::new().color(colour_of(&line.function));
        Some(format!("{} {} {body}", self.paint(&time, Style::new().dimmed()), self.paint(&name, name_style)))
    }

    fn event(&self, object: &Map<String, Value>) -> String {
        let mut fields = object.clone();
        // tracing's JSON puts the event's own fields into an object, and those of its span into
        // another.
        for nested in ["span", "fields"] {
            if let Some(Value::Object(inner)) = fields.remove(nested) {
                fields.extend(inner);
            }
        }
        let level = text(fields.get("level")).unwrap_or_default();
        let message = text(fields.get("message")).or_else(|| text(fields.get("msg"))).unwrap_or_default();
        let mut line = format!("{} {message}", self.paint(&format!("{level:<5}"), level_style(&level)));
        let mut rest = String::new();
        if let Some(id) = text(fields.get("requestId")).or_else(|| text(fields.get("request_id"))) {
            let short: String = id.chars().take(8).collect();
            append(&mut rest, &format!(" {short}"));
        }
        for (name, value) in fields.iter().filter(|(name, _)| !NOT_REPEATED.contains(&name.as_str())) {
            let value = text(Some(value)).unwrap_or_else(|| value.to_string());
            append(&mut rest, &format!(" {name}={value}"));
        }
        line.push_str(&self.paint(&rest, Style::new().dimmed()));
        line
    }

    fn metric(&self, object: &Map<String, Value>) -> Option<String> {
        if self.metrics == Metrics::Hidden {
            return None;
        }
        let mut text = "metric".to_owned();
        for (name, value) in
            object.iter().filter(|(name, _)| !NOT_REPEATED.contains(&name.as_str()) && *name != "_aws")
        {
            append(&mut text, &format!(" {name}={value}"));
        }
        Some(self.paint(&text, Style::new().dimmed()))
    }

    fn plain(&self, line: &Line) -> String {
        match line.source {
            Source::Platform => self.paint(&line.text, Style::new().red()),
            Source::Stderr => self.paint(&line.text, Style::new().yellow()),
            Source::Stdout => line.text.clone(),
        }
    }

    fn paint(&self, text: &str, style: Style) -> String {
        match self.colours {
            Colours::On if !text.is_empty() => text.style(style).to_string(),
            _ => text.to_owned(),
        }
    }
}

fn append(text: &mut String, more: &str) {
    if text.write_str(more).is_err() {
        tracing::error!("a String refused to grow");
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).map(str::to_owned)
}

fn level_style(level: &str) -> Style {
    match level {
        "ERROR" => Style::new().red().bold(),
        "WARN" => Style::new().yellow(),
        "INFO" => Style::new().green(),
        _ => Style::new().dimmed(),
    }
}

/// Always the same colour for the same function.
fn colour_of(function: &str) -> AnsiColors {
    let mut hasher = DefaultHasher::new();
    function.hash(&mut hasher);
    let index = usize::try_from(hasher.finish() % 10).unwrap_or(0);
    COLOURS[index]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, metrics: Metrics) -> Option<String> {
        let line = Line {
            at: "2026-11-20T09:30:00.123Z".parse().unwrap(),
            region: String::new(),
            function: "api-orders".to_owned(),
            pid: Some(1),
            source: Source::Stdout,
            text: text.to_owned(),
        };
        Pretty { colours: Colours::Off, metrics }.format(&line)
    }

    #[test]
    fn a_json_line_becomes_level_message_short_request_id_and_fields() {
        let json = r#"{"timestamp":"x","level":"INFO","fields":{"message":"order placed","orderId":"ord_1"},"requestId":"0123456789ab"}"#;
        assert_eq!(
            show(json, Metrics::Hidden).unwrap(),
            "09:30:00.123 api-orders         INFO  order placed 01234567 orderId=ord_1"
        );
    }

    #[test]
    fn a_metric_line_is_hidden_unless_asked_for() {
        let emf = r#"{"_aws":{"Timestamp":1},"OrdersPlaced":1,"function":"api-orders"}"#;
        assert_eq!(show(emf, Metrics::Hidden), None);
        assert!(show(emf, Metrics::Shown).unwrap().ends_with("metric OrdersPlaced=1"));
    }

    #[test]
    fn any_other_line_is_shown_as_it_is() {
        assert!(show("thread 'main' panicked", Metrics::Hidden).unwrap().ends_with("thread 'main' panicked"));
    }
}
