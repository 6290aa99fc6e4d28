//! The placeholders (context attributes) in a schedule's `Input`.

use jiff::Timestamp;

/// What the placeholders of one attempt stand for.
pub(super) struct Attempt {
    scheduled_time: String,
    execution_id: String,
    number: String,
    schedule_arn: String,
}

impl Attempt {
    /// Attempt `number` (the first is 1) for `slot`, with a new execution id.
    pub(super) fn new(schedule_arn: &str, slot: Timestamp, number: u32) -> Self {
        Self {
            scheduled_time: slot.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            execution_id: format!("{:032x}", rand::random::<u128>()),
            number: number.to_string(),
            schedule_arn: schedule_arn.to_owned(),
        }
    }

    /// `input` with its placeholders replaced; `{}` for no input.
    pub(super) fn fill(&self, input: &str) -> String {
        if input.is_empty() {
            return "{}".to_owned();
        }
        // None of the values needs escaping in a JSON string: digits, letters and `-:/`.
        [
            ("<aws.scheduler.scheduled-time>", &self.scheduled_time),
            ("<aws.scheduler.execution-id>", &self.execution_id),
            ("<aws.scheduler.attempt-number>", &self.number),
            ("<aws.scheduler.schedule-arn>", &self.schedule_arn),
        ]
        .into_iter()
        .fold(input.to_owned(), |text, (placeholder, value)| text.replace(placeholder, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_is_replaced_wherever_it_stands() {
        let attempt = Attempt::new("arn:of:a:schedule", "2026-11-20T09:30:00.5Z".parse().unwrap(), 2);
        let input = r#"{"at":"<aws.scheduler.scheduled-time>","again":"<aws.scheduler.scheduled-time>",
            "n":"<aws.scheduler.attempt-number>","arn":"<aws.scheduler.schedule-arn>","id":"<aws.scheduler.execution-id>"}"#;
        let filled: serde_json::Value = serde_json::from_str(&attempt.fill(input)).unwrap();
        assert_eq!(filled["at"], "2026-11-20T09:30:00Z");
        assert_eq!(filled["again"], "2026-11-20T09:30:00Z");
        assert_eq!(filled["n"], "2");
        assert_eq!(filled["arn"], "arn:of:a:schedule");
        assert_eq!(filled["id"].as_str().unwrap().len(), 32);
        assert_eq!(attempt.fill(""), "{}");
    }
}
