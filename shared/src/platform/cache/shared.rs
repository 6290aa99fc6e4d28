//! The tier in Redis: four scripts and their answers. Failures are logged and counted here.
//!
//! An entry is a hash:
//!
//! | field | |
//! |---|---|
//! | `server` | the incarnation that all other fields were written under |
//! | `group` | the generation of its group when the lease was taken; empty without a group |
//! | `value`, `version` | see `value.rs`; the version rises with each write |
//! | `fresh`, `took` | epoch milliseconds until which it is fresh; milliseconds that its load took |
//! | `token`, `until` | the lease, and when it lapses by Redis's clock, epoch milliseconds |
//!
//! Each call sends the script's text, which Redis compiles once. A call by hash (`EVALSHA`) would
//! need a fallback for servers that do not know the hash, and a server forgets hashes when it
//! restarts.
//!
//! A write that Redis refuses because its memory is full (`OOM`) is an answer and not a failure:
//! hits continue. Redis checks its memory only before a script's first write, so the first write is
//! the one that takes memory.

use std::fmt::Write as _;
use std::time::Duration;

use ::redis::Pipeline;
use tokio::time::Instant;

use super::value::Content;
use super::{LEASE, PATIENCE};
use crate::core::clock::SharedClock;
use crate::core::random::{self, NoEntropy};
use crate::platform::redis::{Incarnation, RedisClient, RedisError};
use crate::platform::telemetry::{self, Metric, chain};

/// `XFetch`'s `beta`: 1 is what its authors show to be optimal where load times vary little.
const BETA: f64 = 1.0;

/// How long a hash with a lease and no value stays. Longer than any reader waits.
const LEASE_KEPT: Duration = Duration::from_secs(10);

/// How long a generation stays: longer than its entries are fresh, since they expire with it.
const GENERATION_KEPT: Duration = Duration::from_hours(24);

/// Longest first wait for another reader's load. Most loads take about as long.
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// Longest wait: 200 processes that wait for one load query Redis 8,000 times a second, a tenth of
/// its capacity.
const LAST_WAIT: Duration = Duration::from_millis(50);

/// KEYS: entry, group's generation or none. ARGV: server, token, lease ms, ms to keep a lease,
/// epoch ms, factor of the load's duration, ms to keep a generation. Answers {state, value,
/// version}:
///
/// - `fresh`: serve it; - `held`: somebody loads, and the value, if any, is stale; - `leased`: the
///   lease is yours; - `full`: no lease.
const LOOK_UP: &str = "
local function failed(answer) return type(answer) == 'table' and answer.err end
local generation = ''
if KEYS[2] then
    generation = redis.pcall('GET', KEYS[2])
    if type(generation) ~= 'string' then
        generation = ARGV[2]
        if failed(redis.pcall('SET', KEYS[2], generation, 'PX', ARGV[7])) then
            return {'full', false, false}
        end
    end
end
local entry = redis.pcall('HMGET', KEYS[1], 'server', 'group', 'value', 'version', 'fresh', 'took', 'token', 'until')
local void = failed(entry) or entry[1] ~= ARGV[1] or entry[2] ~= generation
if void then
    entry = {}
end
local value, version, now = entry[3] or false, math.max(0, tonumber(entry[4] or 0) or 0), tonumber(ARGV[5])
local fresh = value and tonumber(entry[5]) or 0
local took = tonumber(entry[6] or 0) or 0
if now + took * tonumber(ARGV[6]) < fresh then
    return {'fresh', value, version}
end
local time = redis.call('TIME')
local server_now = time[1] * 1000 + math.floor(time[2] / 1000)
if entry[7] and server_now < (tonumber(entry[8] or 0) or 0) then
    return {now < fresh and 'fresh' or 'held', value, version}
end
local until_ms = string.format('%.0f', server_now + ARGV[3])
local leased = redis.pcall('HSET', KEYS[1], 'server', ARGV[1], 'group', generation, 'token', ARGV[2], 'until', until_ms)
if failed(leased) then
    if void then
        redis.call('DEL', KEYS[1])
    end
    return {now < fresh and 'fresh' or 'full', value, version}
end
if void then
    redis.call('HDEL', KEYS[1], 'value', 'version', 'fresh', 'took')
end
if not value then
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return {'leased', value, version}
";

/// KEYS: entry. ARGV: server, token, value, version, fresh until, took, ms to keep, `leave` or
/// `forget` if the lease is lost. The generation that the lease recorded stays: if the group has
/// another one by now, the next lookup takes the entry for nothing.
const FILL: &str = "
local function failed(answer) return type(answer) == 'table' and answer.err end
local entry = redis.pcall('HMGET', KEYS[1], 'server', 'token', 'version')
if not failed(entry) and entry[1] == ARGV[1] and entry[2] == ARGV[2] then
    if (tonumber(entry[3] or 0) or 0) <= tonumber(ARGV[4]) then
        local filled = redis.pcall('HSET', KEYS[1], 'value', ARGV[3], 'version', ARGV[4], 'fresh', ARGV[5], 'took', ARGV[6])
        if failed(filled) then
            redis.call('DEL', KEYS[1])
        else
            redis.call('PEXPIRE', KEYS[1], ARGV[7])
        end
    end
    redis.call('HDEL', KEYS[1], 'token', 'until')
elseif ARGV[8] == 'forget' then
    redis.call('DEL', KEYS[1])
end
";

/// KEYS: entry. ARGV: server, token, lease ms, ms to keep the lease. Answers 1 if the lease is
/// yours, 0 if Redis is full. The value is gone in any case.
const FORCE: &str = "
local function failed(answer) return type(answer) == 'table' and answer.err end
local time = redis.call('TIME')
local until_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3])
local leased = redis.pcall('HSET', KEYS[1], 'server', ARGV[1], 'group', '', 'token', ARGV[2], 'until', until_ms)
if failed(leased) then
    redis.call('DEL', KEYS[1])
    return 0
end
redis.call('HDEL', KEYS[1], 'value', 'version', 'fresh', 'took')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
";

/// The keys of an entry in Redis.
#[derive(Debug)]
pub(super) struct CacheKey {
    pub(super) entry: String,
    pub(super) group: Option<String>,
}

impl CacheKey {
    fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        let keys: Vec<&str> = std::iter::once(&*self.entry).chain(self.group.as_deref()).collect();
        keys.into_iter()
    }
}

/// The right to fill an entry, given by one incarnation of the server.
#[derive(Debug)]
pub(super) struct FillLease {
    token: String,
    server: Incarnation,
}

/// The result of a lookup.
#[derive(Debug)]
pub(super) enum Found {
    Fresh {
        content: Content,
        version: u64,
    },
    /// Another reader loads. Serve this: nothing newer is known.
    Stale(Content),
    /// Load, and fill.
    Leased {
        lease: FillLease,
        /// To be served if the load fails.
        stale: Option<Content>,
    },
    /// Load without filling.
    Nothing,
}

/// The content to fill.
#[derive(Debug)]
pub(super) struct Fill {
    pub(super) value: Vec<u8>,
    pub(super) version: u64,
    pub(super) fresh_until_ms: i64,
    /// How long the load took.
    pub(super) took: Duration,
    /// How long the entry stays in Redis.
    pub(super) kept: Duration,
}

/// What happens to an entry whose lease is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfLost {
    /// For a loader: the holder of the lease has data that is at least as new.
    Leave,
    /// For a writer: the holder of the lease may have read before the write.
    Forget,
}

#[derive(Debug)]
pub(super) struct SharedTier {
    redis: RedisClient,
    clock: SharedClock,
}

/// State, value, version.
type LookedUp = (String, Option<Vec<u8>>, Option<u64>);

impl SharedTier {
    pub(super) fn new(redis: RedisClient, clock: SharedClock) -> Self {
        Self { redis, clock }
    }

    /// Looks an entry up, and waits for another reader's load if there is nothing to serve.
    pub(super) async fn find(&self, place: &CacheKey, random: fn() -> f64) -> Found {
        let Some(token) = token() else { return Found::Nothing };
        let end = Instant::now() + PATIENCE;
        let mut longest = FIRST_WAIT;
        loop {
            let (answer, value, version, server) = match self.look_up(place, &token, random).await {
                Ok(looked_up) => looked_up,
                Err(error) => {
                    report(&error);
                    return Found::Nothing;
                }
            };
            let content = value.as_deref().map(Content::decode);
            if content == Some(None) {
                telemetry::count(Metric::CacheFailures, 1);
                tracing::warn!(entry = place.entry, "Redis has bytes that are not a value");
                if let Err(error) = self.delete(vec![place.entry.clone()]).await {
                    report(&error);
                }
                return Found::Nothing;
            }
            match (answer.as_str(), content.flatten()) {
                ("fresh", Some(content)) => {
                    return Found::Fresh { content, version: version.unwrap_or_default() };
                }
                ("held", Some(content)) => return Found::Stale(content),
                ("leased", stale) => return Found::Leased { lease: FillLease { token, server }, stale },
                ("held", None) => {}
                _ => return Found::Nothing,
            }
            let wait = longest.mul_f64(0.5 + random() / 2.0);
            longest = (longest * 2).min(LAST_WAIT);
            if Instant::now() + wait > end {
                return Found::Nothing;
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn look_up(
        &self,
        place: &CacheKey,
        token: &str,
        random: fn() -> f64,
    ) -> Result<(String, Option<Vec<u8>>, Option<u64>, Incarnation), RedisError> {
        // From above 0 to 1: its logarithm is finite.
        let factor = -BETA * (1.0 - random()).ln();
        let now_ms = self.clock.now().as_millisecond();
        let asked = self.redis.ask::<(LookedUp,)>(|server| {
            let mut commands = Pipeline::new();
            let script = commands.cmd("EVAL").arg(LOOK_UP).arg(place.keys().len());
            place.keys().for_each(|key| {
                script.arg(key);
            });
            script.arg(server.to_string()).arg(token).arg(millis(LEASE)).arg(millis(LEASE_KEPT));
            script.arg(now_ms).arg(factor).arg(millis(GENERATION_KEPT));
            commands
        });
        let answer = asked.await?;
        let ((state, value, version),) = answer.value;
        Ok((state, value, version, answer.from))
    }

    /// Fills the entry if the lease is still held and there is no newer version.
    pub(super) async fn fill(&self, place: &CacheKey, lease: FillLease, fill: Fill, if_lost: IfLost) {
        let filled = self.redis.ask::<()>(|server| {
            let mut commands = Pipeline::new();
            let script = commands.cmd("EVAL").arg(FILL).arg(1).arg(&place.entry);
            // A lease of an earlier incarnation is lost, even if a snapshot restored it.
            let token = if *server == lease.server { lease.token.as_str() } else { "" };
            script.arg(server.to_string()).arg(token).arg(&fill.value).arg(fill.version);
            script.arg(fill.fresh_until_ms).arg(fill.took.as_secs_f64() * 1_000.0).arg(millis(fill.kept));
            script.arg(match if_lost {
                IfLost::Leave => "leave",
                IfLost::Forget => "forget",
            });
            script.ignore();
            commands
        });
        if let Err(error) = filled.await {
            report(&error);
        }
    }

    /// Drops the value and takes the lease by force. `None`: Redis did not answer, or is full.
    pub(super) async fn force(&self, place: &CacheKey) -> Option<FillLease> {
        let token = token()?;
        let forced = self.redis.ask::<(bool,)>(|server| {
            let mut commands = Pipeline::new();
            let script = commands.cmd("EVAL").arg(FORCE).arg(1).arg(&place.entry);
            script.arg(server.to_string()).arg(&token).arg(millis(LEASE)).arg(millis(LEASE_KEPT));
            commands
        });
        match forced.await {
            Ok(answer) => answer.value.0.then_some(FillLease { token, server: answer.from }),
            Err(error) => {
                report(&error);
                None
            }
        }
    }

    /// Deletes entries and generations atomically.
    pub(super) async fn delete(&self, keys: Vec<String>) -> Result<(), RedisError> {
        let deleted = self.redis.ask::<()>(|_| {
            let mut commands = Pipeline::new();
            commands.cmd("DEL").arg(keys).ignore();
            commands
        });
        deleted.await.map(drop)
    }
}

fn token() -> Option<String> {
    match lease_token() {
        Ok(token) => Some(token),
        Err(error) => {
            tracing::error!(error = chain(&error), "no lease token could be generated");
            None
        }
    }
}

/// A random token.
fn lease_token() -> Result<String, NoEntropy> {
    let mut text = String::with_capacity(32);
    for byte in random::bytes::<16>()? {
        // Writing to a text does not fail.
        let _: std::fmt::Result = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// Logs and counts a failed call. An open circuit breaker keeps this to one a second.
fn report(error: &RedisError) {
    match error {
        RedisError::CircuitOpen => tracing::debug!("Redis is not called: the circuit breaker is open"),
        RedisError::Connecting => tracing::debug!("Redis is not connected yet"),
        error => {
            telemetry::count(Metric::CacheFailures, 1);
            tracing::warn!(error = chain(error), "the cache in Redis gave no answer");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
