//! An order, beside the same in Node.js and in Python (`bench/peers/`). These do less: they check
//! no session, have no indexes and write no event.
//!
//! The load generator is `wrk`, through the gateway. Each runs in a local region, in turns, for
//! some rounds. A ratio compares two figures of one round.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Deserialize;
use serde_json::{Value, json};
use sojourn_tests::{Options, TestRegion, fresh_key, order_of, workspace};

use crate::cpu::Threads;
use crate::stage::{self, PRODUCTS, product};
use crate::{at, cost, machine, section, sorted, target_folder};

/// Rounds: in each, everybody is measured once.
const ROUNDS: usize = 3;
/// Cold starts of a round.
const STARTS: usize = 10;
/// Connections of the load.
const CONNECTIONS: usize = 8;
/// Width of the longest bar.
const BAR: f64 = 40.0;

/// One of those who are compared.
struct Contender<'a> {
    name: &'static str,
    region: &'a TestRegion,
    function: &'static str,
    path: &'static str,
    token: Option<&'a str>,
}

/// What is compared, with the number of decimals. The order is that of [`Contender::round`].
const FIGURES: [(&str, usize); 7] = [
    ("cold start, killed process to 201, ms", 1),
    ("new order, one after the other, p50, ms", 2),
    ("processor time of all functions a new order, ms", 2),
    ("new orders/s, 8 connections", 0),
    ("resident memory, largest process, MiB", 1),
    ("DynamoDB read units, new order", 1),
    ("DynamoDB write units, new order", 1),
];

/// The result of a run of `wrk`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    requests: f64,
    seconds: f64,
    p50_ms: f64,
    failed: u64,
}

/// Measures everybody, and prints and draws the ratios.
pub(crate) async fn measure(seconds: u64) {
    require("wrk", &["-v"], "apt-get install wrk");
    let template = build();
    machine::describe();
    let ours = TestRegion::start_for_many_orders().await;
    let stage = stage::set(&ours).await;
    let theirs = TestRegion::start_with(Options { template: Some(template), ..Options::default() }).await;
    stock(&theirs).await;

    let token = Some(stage.customer.token.as_str());
    let contenders = [
        Contender { name: "Sojourn", region: &ours, function: "api-orders", path: "/orders", token },
        Contender { name: "Node.js", region: &theirs, function: "node", path: "/node/orders", token: None },
        Contender {
            name: "Python",
            region: &theirs,
            function: "python",
            path: "/python/orders",
            token: None,
        },
    ];
    let mut rounds: Vec<Vec<Vec<f64>>> = Vec::new();
    for round in 1..=ROUNDS {
        let mut of_round = Vec::new();
        for contender in &contenders {
            println!("round {round} of {ROUNDS}: {}", contender.name);
            of_round.push(contender.round(seconds).await);
        }
        rounds.push(of_round);
    }
    report(&contenders.each_ref().map(|contender| contender.name), &rounds);
}

/// Builds the peers. Tells where their template is.
fn build() -> PathBuf {
    require("npm", &["--version"], "install Node.js 20");
    require("python3", &["-m", "pip", "--version"], "install Python 3 with pip");
    let (from, folder) = (workspace().join("bench/peers"), target_folder().join("peers"));
    std::fs::create_dir_all(&folder).unwrap();
    for part in ["node", "python", "template.yaml"] {
        run(&folder, "cp", &["-r", from.join(part).to_str().unwrap(), "."]);
    }
    let (node, python) = (folder.join("node"), folder.join("python"));
    println!("building the peers in {}", folder.display());
    run(&node, "npm", &["ci", "--no-audit", "--no-fund", "--silent"]);
    run(&node, "npm", &["run", "--silent", "build"]);
    // What other programs of this machine need does not matter here.
    let quietly =
        ["--quiet", "--no-warn-conflicts", "--root-user-action=ignore", "--disable-pip-version-check"];
    let install = ["--upgrade", "--target", ".", "-r", "requirements.txt"];
    run(&python, "python3", &[["-m", "pip", "install"].as_slice(), &quietly, &install].concat());
    folder.join("template.yaml")
}

fn require(program: &str, arguments: &[&str], advice: &str) {
    let found = Command::new(program).args(arguments).output();
    assert!(found.is_ok(), "{program} is not installed: {advice}");
}

fn run(folder: &Path, program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).current_dir(folder).status().unwrap();
    assert!(status.success(), "{program} {arguments:?} failed");
}

/// The products, as the peers have them.
async fn stock(region: &TestRegion) {
    let number = |number: u32| AttributeValue::N(number.to_string());
    for n in 0..PRODUCTS {
        let put = region.dynamodb().put_item().table_name(region.table("ProductsTable"));
        let put = put.item("productId", AttributeValue::S(product(n)));
        put.item("price", number(100)).item("available", number(1_000_000)).send().await.unwrap();
    }
}

impl Contender<'_> {
    async fn round(&self, seconds: u64) -> Vec<f64> {
        let mut cold = Vec::with_capacity(STARTS);
        for _ in 0..STARTS {
            self.region.kill(self.function).await;
            let began = Instant::now();
            self.order().await;
            cold.push(began.elapsed().as_secs_f64() * 1_000.0);
        }

        // The first second warms up caches and compilers; it is not counted.
        self.load(1, 1).await;
        let before = Threads::now(self.region).await;
        let alone = self.load(1, seconds).await;
        let cpu = Threads::now(self.region).await.spent_since(&before, alone.requests);

        self.load(CONNECTIONS, 1).await;
        let together = self.load(CONNECTIONS, seconds).await;
        let memory = self.resident_mib().await;

        self.region.record().await;
        self.order().await;
        let usage = self.region.usage_of(self.function).await;
        self.region.control("DELETE", "/usage").send().await.expect(200);
        vec![
            at(&sorted(cold), 50),
            alone.p50_ms,
            cpu.functions / 1_000.0,
            together.requests / together.seconds,
            memory,
            cost::sum(&usage, "capacity", "read"),
            cost::sum(&usage, "capacity", "write"),
        ]
    }

    /// One new order.
    async fn order(&self) {
        let call = self.region.call("POST", self.path).key(&fresh_key()).json(&order_of(&[("p0", 1)]));
        let call = match self.token {
            Some(token) => call.bearer(token),
            None => call,
        };
        call.send().await.expect(201);
    }

    async fn load(&self, connections: usize, seconds: u64) -> Run {
        let mut wrk = tokio::process::Command::new("wrk");
        wrk.args(["--threads", "1", "--connections", &connections.to_string()])
            .args(["--duration", &format!("{seconds}s"), "--timeout", "10s", "--script"])
            .arg(workspace().join("bench/peers/order.lua"))
            .arg(format!("{}{}", self.region.http_url(), self.path))
            .args(["--", &fresh_key()])
            .args(self.token);
        let output = wrk.output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().rfind(|line| line.starts_with('{')).unwrap_or_default();
        let run: Run = serde_json::from_str(line).expect("wrk prints what the script says");
        assert_eq!(run.failed, 0, "orders failed:\n{text}");
        run
    }

    async fn resident_mib(&self) -> f64 {
        let processes = self.region.processes().await;
        let ours = processes.iter().filter(|process| process["function"] == self.function);
        let bytes = ours.filter_map(|process| process["residentBytes"].as_f64()).fold(0.0, f64::max);
        bytes / 1_048_576.0
    }
}

/// Prints each figure of everybody, the ratios to the first one, and writes all rounds to a file.
fn report(names: &[&str], rounds: &[Vec<Vec<f64>>]) {
    for (figure, (title, decimals)) in FIGURES.iter().enumerate() {
        section(title, &["median", "of Sojourn's", "lowest", "highest"]);
        let medians: Vec<f64> =
            (0..names.len()).map(|who| median(rounds, |round| round[who][figure])).collect();
        let longest = medians.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        for (who, (name, value)) in names.iter().zip(&medians).enumerate() {
            let ratios = sorted(rounds.iter().map(|round| round[who][figure] / round[0][figure]).collect());
            let [lowest, middle, highest] =
                [0, 50, 100].map(|percent| format!("{:.2}x", at(&ratios, percent)));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bar of forty")]
            let bar = "█".repeat((value / longest * BAR).round() as usize);
            println!("  {name:<10}{value:>14.decimals$}{middle:>14}{lowest:>14}{highest:>14}  {bar}");
        }
    }
    let path = target_folder().join("peers.json");
    let in_json = |round: &Vec<Vec<f64>>| -> Value {
        let of = |values: &Vec<f64>| -> Value {
            FIGURES
                .iter()
                .zip(values)
                .map(|((title, _), value)| ((*title).to_owned(), json!(value)))
                .collect()
        };
        names.iter().zip(round).map(|(name, values)| ((*name).to_owned(), of(values))).collect()
    };
    let rounds: Vec<Value> = rounds.iter().map(in_json).collect();
    std::fs::write(&path, serde_json::to_vec_pretty(&rounds).unwrap()).unwrap();
    println!("\nwritten to {}", path.display());
}

fn median(rounds: &[Vec<Vec<f64>>], figure: impl Fn(&Vec<Vec<f64>>) -> f64) -> f64 {
    at(&sorted(rounds.iter().map(figure).collect()), 50)
}
