//! The machine of the measurement.

use std::fs;

use serde_json::json;

use crate::{Figures, row, section};

/// The processors and their load: with a load average near their number, halve the figures.
pub(crate) fn describe() -> Figures {
    let cores = std::thread::available_parallelism().unwrap().get();
    let model = fs::read_to_string("/proc/cpuinfo").unwrap();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let model = model.trim_start_matches(['\t', ' ', ':']).to_owned();
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = load.split_whitespace().next().unwrap().parse().unwrap();
    section("Machine", &["cores", "load before"]);
    row(&model, &[cores.to_string(), format!("{load:.1}")]);
    Figures::from([(model, json!({"cores": cores, "loadAverage": load}))])
}
