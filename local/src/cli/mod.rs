//! The command line: serves a region or several, or asks one that runs.
//!
//! A program with commands of its own flattens [`Command`] into its commands and [`ServeArgs`] into
//! its arguments, makes [`Options`](crate::regions::Options) of these, changes them, and calls
//! [`serve`]. The commands that it does not answer itself go to [`run_command`].

mod client;
mod progress;
mod regions;
mod serve;
mod summary;
mod template;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::front_door::Failover;
use crate::functions::limits::DEFAULT_CONCURRENCY;
use crate::logs::{Colours, Format, Metrics, Pretty};
use crate::region::{Build, Code, ReadyError, RegionError};
use crate::regions::places::PlaceError;
use crate::template::TemplateError;
use crate::template::arn::LOCAL;

pub use client::post;
pub use serve::serve;

/// AWS on this machine, from a SAM template.
///
/// Without a command it serves the region that template.yaml describes, and runs until Ctrl-C. With
/// --regions it serves several. The commands ask a region that runs.
#[derive(Debug, Parser)]
#[command(name = "local-region", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
    #[command(flatten)]
    functions: FunctionArgs,
}

/// How the functions are built, and where their executables are.
#[derive(Debug, Args)]
struct FunctionArgs {
    /// Run this shell command before the start, in the folder of the template, to build the
    /// functions
    #[arg(long, value_name = "COMMAND")]
    build: Option<String>,
    /// The folder that holds the functions' executables, each under the function's short name; by
    /// default each is bootstrap in the function's `CodeUri`
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

/// How a region is served.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Serve these regions: environments of samconfig.toml that have a region; by default one
    /// region, which is none of them
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub regions: Vec<String>,
    /// The name of a region that runs alone: `AWS::Region`
    #[arg(long, value_name = "NAME", default_value = LOCAL, conflicts_with = "regions")]
    aws_region: String,
    /// Address of the HTTP API; port 0 picks a free one. With several regions, the address of the
    /// front door
    #[arg(long, default_value = "127.0.0.1:3000", value_name = "IP:PORT")]
    http: SocketAddr,
    /// Address of the WebSocket API; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:3001", value_name = "IP:PORT")]
    ws: SocketAddr,
    /// Keep everything in this folder, several regions each in a folder of its name there; without
    /// it nothing is kept when the region stops
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Write the region's addresses and the operator's key to this file when all is up; removed
    /// when the region stops
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    front: FrontArgs,
    /// Which stack, and with which parameters
    #[command(flatten)]
    pub stack: StackArgs,
    /// Processes of one function at once
    #[arg(long, default_value_t = DEFAULT_CONCURRENCY, value_parser = positive, value_name = "N")]
    concurrency: usize,
    /// How the functions' log lines are printed
    #[arg(long, value_enum, default_value_t = LogFormat::Pretty)]
    log: LogFormat,
    /// Print metric lines too
    #[arg(long)]
    metrics: bool,
}

/// How the front door of several regions finds out that one is lost.
#[derive(Debug, Args)]
struct FrontArgs {
    /// Pause between two health checks of a region
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..), value_name = "MS")]
    check_interval_ms: u64,
    /// The number of checks in a row that must fail, or pass, before a region's health changes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10), value_name = "N")]
    check_threshold: u32,
    /// A check without an answer has failed after this
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "MS")]
    check_timeout_ms: u64,
    /// How long a client keeps the answer of the resolver
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
pub struct StackArgs {
    /// The template of the stack to run; by default template.yaml here or in the nearest folder
    /// above
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
    /// The stack's name: `AWS::StackName`; by default samconfig.toml's `stack_name`, or sam-app
    #[arg(long, value_name = "NAME")]
    stack_name: Option<String>,
    /// A value for a parameter of the stack, before samconfig.toml's; may be given several times
    #[arg(long = "parameter", value_parser = name_and_value, value_name = "NAME=VALUE")]
    pub parameters: Vec<(String, String)>,
    /// A template of global tables (`AWS::DynamoDB::GlobalTable`), which the regions share
    #[arg(long, value_name = "FILE")]
    pub global_template: Option<PathBuf>,
    /// A value for a parameter of the global template; may be given several times
    #[arg(
        long = "global-parameter",
        value_parser = name_and_value,
        value_name = "NAME=VALUE",
        requires = "global_template"
    )]
    pub global_parameters: Vec<(String, String)>,
}

/// How log lines are printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// Coloured by function, for people
    Pretty,
    /// The raw lines
    Json,
}

/// Which region is asked.
#[derive(Debug, Args)]
pub struct Target {
    /// The region to ask, where several run together
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    #[command(flatten)]
    running: Running,
}

/// Which running program is asked.
#[derive(Debug, Args)]
pub struct Running {
    /// The ready file of what to ask; by default your newest that runs
    #[arg(long, value_name = "FILE")]
    region_file: Option<PathBuf>,
}

/// The commands about regions that run together.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "flattened arguments document themselves")]
pub enum RegionCommand {
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
    /// Set what replication takes: 800ms, or 200ms-1s for a lag that is drawn for each item and
    /// object
    Lag {
        /// The lag, or the least and the most
        #[arg(value_parser = lag)]
        lag: (u64, u64),
        #[command(flatten)]
        running: Running,
    },
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

/// The commands that ask a running region, or the template.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "flattened arguments document themselves")]
pub enum Command {
    /// Invoke a function and print its answer
    Invoke {
        /// Short name
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
        /// Keep printing new lines
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
        /// Keep printing new lines
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
    /// Deliver what is in flight in a queue again, now instead of when its visibility timeout has
    /// passed
    Redeliver {
        /// The queue's name
        queue: String,
        #[command(flatten)]
        target: Target,
    },
    /// Print as JSON how the template is understood, without starting anything
    Template {
        #[command(flatten)]
        stack: StackArgs,
    },
}

/// Why a command fails. Each is a sentence for the user.
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
    /// There is no template.
    #[error("there is no template.yaml here or in any folder above; name it with --template")]
    NoTemplate,
    /// The template can't be read.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The event can't be read.
    #[error("the event {} can't be read: {source}", path.display())]
    Event {
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The region did not answer.
    #[error("the region at {url} doesn't answer: {source}")]
    Unreachable { url: String, source: reqwest::Error },
    /// The region refused the command.
    #[error("{0}")]
    Refused(String),
    /// The function failed; its answer has been printed.
    #[error("{function} failed: {kind}")]
    FunctionFailed {
        function: String,
        /// `X-Amz-Function-Error`.
        kind: String,
    },
    /// The terminal, or a signal handler.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl CliError {
    /// Whether the reader of the output has closed it (`| head`), which is not reported.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl FunctionArgs {
    fn build(&self, template: &Path) -> Option<Build> {
        let folder = template.parent().filter(|folder| !folder.as_os_str().is_empty());
        Some(Build::shell(self.build.as_ref()?, folder.unwrap_or(Path::new("."))))
    }

    fn code(self) -> Code {
        self.binaries.map_or(Code::CodeUri, Code::Folder)
    }
}

/// Writes this crate's own warnings to standard error. The lines of functions are printed by
/// [`crate::logs`].
pub fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")))
        .init();
}

/// Prints why a command failed.
#[expect(clippy::print_stderr, reason = "the last line of a command that failed")]
pub fn exit(outcome: Result<(), CliError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves, or runs the command.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    let Cli { command, serve, functions } = cli;
    if let Some(command) = command {
        return Box::pin(run_command(command)).await;
    }
    let build = functions.build(&serve.stack.path()?);
    let format = serve.format();
    Box::pin(serve::serve(serve.options(build, functions.code())?, format)).await
}

/// Runs the command.
pub async fn run_command(command: Command) -> Result<(), CliError> {
    match command {
        Command::Invoke { function, event, target } => client::invoke(&target, &function, &event).await,
        Command::Fire { schedule, at, target } => client::fire(&target, &schedule, at).await,
        Command::Region(RegionCommand::Ls { running }) => regions::list(&running).await,
        Command::Region(RegionCommand::Down { name, running }) => regions::down(&running, &name).await,
        Command::Region(RegionCommand::Up { name, running }) => regions::up(&running, &name).await,
        Command::Region(RegionCommand::Partition { a, b, running }) => {
            regions::partition(&running, a, b).await
        }
        Command::Region(RegionCommand::Heal { running }) => regions::heal(&running).await,
        Command::Region(RegionCommand::Lag { lag, running }) => regions::lag(&running, lag).await,
        Command::Ps { target } => client::ps(&target).await,
        Command::Kill { function, target } => client::kill(&target, &function).await,
        Command::Logs { function, follow, log, metrics, target } => {
            let follow = if follow { client::Follow::Yes } else { client::Follow::No };
            client::logs(&target, function.as_deref(), follow, &log.format(metrics)).await
        }
        Command::Events { follow, target } => {
            let follow = if follow { client::Follow::Yes } else { client::Follow::No };
            client::events(&target, follow).await
        }
        Command::Queues { target } => client::queues(&target).await,
        Command::Redeliver { queue, target } => client::redeliver(&target, &queue).await,
        Command::Template { stack } => template::print(&stack),
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
pub fn print(text: &str) -> Result<(), CliError> {
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
        let cli = Cli::parse_from(["local-region"]);
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.http.to_string(), "127.0.0.1:3000");
        assert_eq!(cli.serve.ws.to_string(), "127.0.0.1:3001");
        assert_eq!((cli.serve.concurrency, cli.serve.aws_region.as_str()), (10, "local"));
        assert_eq!(cli.serve.front.failover(), Failover::default());
    }

    #[test]
    fn a_reader_that_goes_away_is_no_failure() {
        assert!(CliError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe)).is_closed_pipe());
        assert!(!CliError::NoTemplate.is_closed_pipe());
    }

    #[test]
    fn parameters_are_names_and_values() {
        let cli = Cli::parse_from(["local-region", "--parameter", "A=1", "--parameter", "B=redis://x/?y=z"]);
        let expected = [("A", "1"), ("B", "redis://x/?y=z")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(cli.serve.stack.parameters, expected);
        for wrong in ["A", "=1"] {
            assert!(Cli::try_parse_from(["local-region", "--parameter", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_region_among_several_has_the_name_that_samconfig_gives_it() {
        let both = ["local-region", "--regions", "tokyo", "--aws-region", "eu-west-1"];
        assert!(Cli::try_parse_from(both).is_err());
    }

    #[test]
    fn regions_are_named_in_one_list() {
        let cli = Cli::parse_from(["local-region", "--regions", "taiwan,tokyo"]);
        assert_eq!(cli.serve.regions, ["taiwan", "tokyo"]);
    }

    #[test]
    fn zero_processes_are_refused() {
        assert!(Cli::try_parse_from(["local-region", "--concurrency", "0"]).is_err());
    }
}
