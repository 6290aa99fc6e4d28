//! `cargo dev`: serves a region or several, or asks one that runs.

mod client;
mod keys;
mod progress;
mod regions;
mod serve;
mod summary;
mod template;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::front_door::Failover;
use crate::functions::limits::DEFAULT_CONCURRENCY;
use crate::keys::KeyError;
use crate::logs::{Colours, Format, Metrics, Pretty};
use crate::region::{ReadyError, RegionError};
use crate::regions::places::PlaceError;
use crate::template::TemplateError;

/// Sojourn regions on this machine.
///
/// Without a command it builds the functions, serves the region that template.yaml describes, and runs until Ctrl-C.
/// With --regions it serves several.
#[derive(Debug, Parser)]
#[command(name = "cargo dev", bin_name = "cargo dev --", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

/// How a region is served.
#[derive(Debug, Args)]
struct ServeArgs {
    /// Serve these regions: environments of samconfig.toml that have a region; by default one region, which is none of them
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    regions: Vec<String>,
    /// Address of the HTTP API; port 0 picks a free one. Of several regions the first has it, the others free ports
    #[arg(long, default_value = "127.0.0.1:3000", value_name = "IP:PORT")]
    http: SocketAddr,
    /// Address of the WebSocket API, likewise
    #[arg(long, default_value = "127.0.0.1:3001", value_name = "IP:PORT")]
    ws: SocketAddr,
    /// Keep everything in this folder, several regions each in a folder of its name there; without it all is gone when
    /// the region stops
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Write the region's addresses and the operator's key to this file when all is up; removed when the region stops
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    front: FrontArgs,
    #[command(flatten)]
    stack: StackArgs,
    /// Processes of one function at once
    #[arg(long, default_value_t = DEFAULT_CONCURRENCY, value_parser = positive, value_name = "N")]
    concurrency: usize,
    /// How the functions' log lines are printed
    #[arg(long, value_enum, default_value_t = LogFormat::Pretty)]
    log: LogFormat,
    /// Print metric lines too
    #[arg(long)]
    metrics: bool,
    /// Build and run the functions with the release profile
    #[arg(long, conflicts_with = "profile")]
    release: bool,
    /// Build and run the functions with this cargo profile
    #[arg(long, default_value = "dev", value_name = "NAME")]
    profile: String,
    /// Run what is already built
    #[arg(long)]
    no_build: bool,
}

/// How the front door of several regions finds out that one is lost.
#[derive(Debug, Args)]
struct FrontArgs {
    /// Pause between two health checks of a region
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..), value_name = "MS")]
    check_interval_ms: u64,
    /// So many checks in a row fail, or pass, before a region's health changes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10), value_name = "N")]
    check_threshold: u32,
    /// A check without an answer has failed after this
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "MS")]
    check_timeout_ms: u64,
    /// How long a client goes on to the region that it was told
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    dns_ttl_ms: u64,
}

impl FrontArgs {
    fn failover(&self) -> Failover {
        Failover {
            interval: Duration::from_millis(self.check_interval_ms),
            threshold: self.check_threshold,
            timeout: Duration::from_millis(self.check_timeout_ms),
            ttl: Duration::from_millis(self.dns_ttl_ms),
        }
    }
}

/// Which stack, and with which parameters.
#[derive(Debug, Args)]
struct StackArgs {
    /// The stack to run; by default template.yaml here or in the nearest folder above
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// A value for a parameter of the stack, before samconfig.toml's; may be given several times
    #[arg(long = "parameter", value_parser = name_and_value, value_name = "NAME=VALUE")]
    parameters: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Coloured by function, for people
    Pretty,
    /// The raw lines
    Json,
}

/// Which region is asked.
#[derive(Debug, Args)]
struct Target {
    /// The region to ask, where several run together
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    #[command(flatten)]
    running: Running,
}

/// What is asked, of all that runs.
#[derive(Debug, Args)]
struct Running {
    /// The ready file of what to ask; by default your newest that runs
    #[arg(long, value_name = "FILE")]
    region_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum RegionCommand {
    /// List the regions that run together
    Ls {
        #[command(flatten)]
        running: Running,
    },
    /// Have a region fail: its endpoints refuse, its processes die at once; what it keeps stays
    Down {
        /// Its name
        name: String,
        #[command(flatten)]
        running: Running,
    },
    /// Bring a region back, where it was and with what it kept
    Up {
        /// Its name
        name: String,
        #[command(flatten)]
        running: Running,
    },
    /// Keep two regions from reaching each other; clients reach both
    Partition {
        /// A region's name
        a: String,
        /// The other's, or AWS's name of the witness
        b: String,
        #[command(flatten)]
        running: Running,
    },
    /// Have all regions reach each other
    Heal {
        #[command(flatten)]
        running: Running,
    },
    /// Set what replication takes: 800ms, or 200ms-1s for a lag that is drawn for each item and object
    Lag {
        /// The lag, or the least and the most
        #[arg(value_parser = lag)]
        lag: (u64, u64),
        #[command(flatten)]
        running: Running,
    },
}

/// Becomes the drill, which is a program of its own: it knows the shop, as the local region does not.
fn drill(arguments: Vec<std::ffi::OsString>) -> Result<(), CliError> {
    use std::os::unix::process::CommandExt;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args(["run", "--quiet", "--bin", "sojourn-drill", "--"]).args(arguments);
    Err(command.exec().into())
}

/// `800ms` or `200ms-1s`, in milliseconds.
fn lag(text: &str) -> Result<(u64, u64), String> {
    let millis = |text: &str| {
        let (digits, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(digits), _) => (digits, 1),
            (None, Some(digits)) => (digits, 1_000),
            (None, None) => return None,
        };
        digits.parse::<u64>().ok()?.checked_mul(unit)
    };
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    match (millis(least), millis(most)) {
        (Some(least), Some(most)) if least <= most => Ok((least, most)),
        _ => Err("a lag is 800ms or 200ms-1s".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load several regions, kill one, and check every promise (drill --help)
    #[command(disable_help_flag = true)]
    Drill {
        /// What the drill is given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Invoke a function and print its answer
    Invoke {
        /// Short name, such as admin-users
        function: String,
        /// The event; - reads it from standard input
        event: PathBuf,
        #[command(flatten)]
        target: Target,
    },
    /// Fire a schedule now
    Fire {
        /// Its name, with or without the stack's prefix
        schedule: String,
        /// The slot to fire it for, as RFC 3339; by default the last one that was due
        #[arg(long, value_name = "TIME")]
        at: Option<jiff::Timestamp>,
        #[command(flatten)]
        target: Target,
    },
    /// List, break and mend regions that run together
    #[command(subcommand)]
    Region(RegionCommand),
    /// List the function processes
    Ps {
        #[command(flatten)]
        target: Target,
    },
    /// Kill (SIGKILL) all processes of a function
    Kill {
        /// Short name
        function: String,
        #[command(flatten)]
        target: Target,
    },
    /// Print the functions' recent log lines
    Logs {
        /// Only this function's
        function: Option<String>,
        /// Go on with what comes
        #[arg(short, long)]
        follow: bool,
        /// How the lines are printed
        #[arg(long, value_enum, default_value_t = LogFormat::Pretty)]
        log: LogFormat,
        /// Print metric lines too
        #[arg(long)]
        metrics: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Print what recently passed the event buses and the topics, and where it went
    Events {
        /// Go on with what comes
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        target: Target,
    },
    /// List the queues and how many messages they have
    Queues {
        #[command(flatten)]
        target: Target,
    },
    /// Deliver what is in flight in a queue again, now instead of when its visibility timeout has passed
    Redeliver {
        /// The queue's name
        queue: String,
        #[command(flatten)]
        target: Target,
    },
    /// Print as JSON how template.yaml is understood, without starting anything
    Template {
        #[command(flatten)]
        stack: StackArgs,
    },
    /// Make a token signing key for a region in the cloud and print both halves
    Keygen,
    /// Have a region that is stopped sign with a new key from its next start on; tokens of the earlier ones stay good
    RotateKey {
        /// Where it keeps its data
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Have a region that is stopped refuse, from its next start on, tokens of the keys before the present one
    DropKeys {
        /// Where it keeps its data
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Have a running region seal session payloads with a new key; the earlier ones still open what they sealed
    RotateSealingKey {
        #[command(flatten)]
        target: Target,
    },
    /// Remove the sealing keys before the present one from a running region
    DropSealingKeys {
        #[command(flatten)]
        target: Target,
    },
}

/// Why a command fails. Every one is a sentence for whoever typed it.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The region doesn't start.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// No region to ask.
    #[error(transparent)]
    Ready(#[from] ReadyError),
    /// Regions that can't be run.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no template.
    #[error("there is no template.yaml here or in any folder above; name it with --template")]
    NoTemplate,
    /// The template can't be read.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The event can't be read.
    #[error("the event {} can't be read: {source}", path.display())]
    Event {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The region did not answer.
    #[error("the region at {url} doesn't answer: {source}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// The region said no.
    #[error("{0}")]
    Refused(String),
    /// The function failed; its answer has been printed.
    #[error("{function} failed: {kind}")]
    FunctionFailed {
        /// The function.
        function: String,
        /// `X-Amz-Function-Error`.
        kind: String,
    },
    /// The terminal, or a signal handler.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl CliError {
    /// Whether the reader of the output has had enough (`| head`): nothing that anybody wants to be told.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

/// Runs the command.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        None => serve::serve(cli.serve).await,
        Some(Command::Invoke { function, event, target }) => client::invoke(&target, &function, &event).await,
        Some(Command::Fire { schedule, at, target }) => client::fire(&target, &schedule, at).await,
        Some(Command::Drill { arguments }) => drill(arguments),
        Some(Command::Region(RegionCommand::Ls { running })) => regions::list(&running).await,
        Some(Command::Region(RegionCommand::Down { name, running })) => regions::down(&running, &name).await,
        Some(Command::Region(RegionCommand::Up { name, running })) => regions::up(&running, &name).await,
        Some(Command::Region(RegionCommand::Partition { a, b, running })) => {
            regions::partition(&running, a, b).await
        }
        Some(Command::Region(RegionCommand::Heal { running })) => regions::heal(&running).await,
        Some(Command::Region(RegionCommand::Lag { lag, running })) => regions::lag(&running, lag).await,
        Some(Command::Ps { target }) => client::ps(&target).await,
        Some(Command::Kill { function, target }) => client::kill(&target, &function).await,
        Some(Command::Logs { function, follow, log, metrics, target }) => {
            let follow = if follow { client::Follow::Yes } else { client::Follow::No };
            client::logs(&target, function.as_deref(), follow, &log.format(metrics)).await
        }
        Some(Command::Events { follow, target }) => {
            let follow = if follow { client::Follow::Yes } else { client::Follow::No };
            client::events(&target, follow).await
        }
        Some(Command::Queues { target }) => client::queues(&target).await,
        Some(Command::Redeliver { queue, target }) => client::redeliver(&target, &queue).await,
        Some(Command::Template { stack }) => template::print(stack),
        Some(Command::Keygen) => keys::generate(),
        Some(Command::RotateKey { data }) => keys::rotate(&data),
        Some(Command::DropKeys { data }) => keys::drop_earlier(&data),
        Some(Command::RotateSealingKey { target }) => client::rotate_sealing_key(&target).await,
        Some(Command::DropSealingKeys { target }) => client::drop_sealing_keys(&target).await,
    }
}

impl LogFormat {
    fn format(self, metrics: bool) -> Format {
        match self {
            Self::Json => Format::Raw,
            Self::Pretty => Format::Pretty(Pretty {
                colours: colours(&std::io::stdout()),
                metrics: if metrics { Metrics::Shown } else { Metrics::Hidden },
            }),
        }
    }
}

/// Colours on a terminal, unless `NO_COLOR` (no-color.org) is set.
fn colours(output: &impl IsTerminal) -> Colours {
    if output.is_terminal() && std::env::var_os("NO_COLOR").is_none() { Colours::On } else { Colours::Off }
}

/// Writes to standard output; a closed pipe (`| head`) is an error like any other and no panic.
fn print(text: &str) -> Result<(), CliError> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("not of the form Name=value".to_owned()),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least one process is needed".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("not a number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_serves_with_the_documented_defaults() {
        let cli = Cli::parse_from(["cargo dev"]);
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.http.to_string(), "127.0.0.1:3000");
        assert_eq!(cli.serve.ws.to_string(), "127.0.0.1:3001");
        assert_eq!((cli.serve.concurrency, cli.serve.profile.as_str()), (10, "dev"));
        assert_eq!(cli.serve.front.failover(), Failover::default());
    }

    #[test]
    fn a_reader_that_goes_away_is_no_failure() {
        assert!(CliError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe)).is_closed_pipe());
        assert!(!CliError::NoTemplate.is_closed_pipe());
    }

    #[test]
    fn parameters_are_names_and_values() {
        let cli = Cli::parse_from(["cargo dev", "--parameter", "A=1", "--parameter", "B=redis://x/?y=z"]);
        let expected = [("A", "1"), ("B", "redis://x/?y=z")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(cli.serve.stack.parameters, expected);
        for wrong in ["A", "=1"] {
            assert!(Cli::try_parse_from(["cargo dev", "--parameter", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn regions_are_named_in_one_list() {
        let cli = Cli::parse_from(["cargo dev", "--regions", "taiwan,tokyo"]);
        assert_eq!(cli.serve.regions, ["taiwan", "tokyo"]);
    }

    #[test]
    fn zero_processes_are_refused() {
        assert!(Cli::try_parse_from(["cargo dev", "--concurrency", "0"]).is_err());
    }
}
