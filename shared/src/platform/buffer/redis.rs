//! The buffer as a list in Redis (7 or later) or Valkey.
//!
//! 1. *Offer* is one script. If the entries that wait and those that are leased leave no room,
//!    nothing is written; otherwise all are pushed. A server whose memory is full (`noeviction`)
//!    refuses the push, which is backpressure as well.
//! 2. *Poll* is one script and uses Redis's clock. It first moves the lists of expired leases back.
//!    Then it moves up to `n` entries into a new list, named by a random token, and adds the token
//!    with the end of the lease to a sorted set.
//! 3. *Ack* is one script. It deletes the list if the sorted set still has the token, which only
//!    the holder knows. Unreadable messages are kept in a list of the last [`UNREADABLE_KEPT`].
//!
//! Leases are not renewed, and nobody has to detect a dead consumer: the next poll after the end of
//! its lease gets the entries. A lost answer of a poll costs one lease.
//!
//! # Requirements on Redis
//! A server whose `maxmemory-policy` may evict any key (`allkeys-…`) is refused when connecting
//! ([`RedisError::Evicts`]). What is lost when Redis itself dies depends on its persistence:
//! docs/buffer.md has the table, which tests check. With `BUFFER_REDIS_REPLICAS` above 0, an offer
//! is accepted only when that many replicas have it (`WAIT`); otherwise a failover can lose the
//! last offers.
//!
//! Keys: `{sojourn:<stage>:<region>:buffer}:waiting`, `…:leased` (a number), `…:leases`,
//! `…:taken:<token>`, `…:unreadable`.
//!
//! # Limits
//! A consumer that always fails on an entry gets that entry again and again; it has to move it to a
//! dead-letter queue itself. No cluster mode: a poll uses keys that are not declared.

use std::time::Duration;

use ::redis::{Pipeline, pipe};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::message::{decode, one_by_one};
use super::{
    AdapterSettings, BufferError, Entry, LeasedBatch, Offered, QueueDepth, TakenBatch, age, backpressure,
};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env, Stage};
use crate::core::random::{self, NoEntropy};
use crate::platform::aws;
use crate::platform::redis::{RedisClient, RedisError, RedisUse};

/// The variable with the number of replicas that must have an offer. Default 0.
const REPLICAS: &str = "BUFFER_REDIS_REPLICAS";

/// How long an offer waits for its replicas. They lag by less than a millisecond within a zone.
const REPLICAS_WAIT: Duration = Duration::from_millis(500);

/// How many unreadable messages are kept for inspection.
pub const UNREADABLE_KEPT: usize = 1_000;

/// How many expired leases one poll moves back. A lease has at most [`MAX_POLL`](super::MAX_POLL)
/// entries, so this bounds how long a script blocks Redis: 10,000 moves take about 5 ms.
const TAKEN_BACK: usize = 10;

/// KEYS: waiting, leased. ARGV: the limit, then the entries. Answers `accepted`, `full` or
/// `out of memory`.
///
/// It has no flags, so that Redis runs it without memory to spare and refuses the push alone, with
/// an error that begins with `OOM`.
const OFFER: &str = "
local total = redis.call('LLEN', KEYS[1]) + tonumber(redis.call('GET', KEYS[2]) or '0')
if total + #ARGV - 1 > tonumber(ARGV[1]) then
    return 'full'
end
local pushed = redis.pcall('LPUSH', KEYS[1], unpack(ARGV, 2))
if type(pushed) == 'table' and pushed.err then
    if string.find(pushed.err, 'OOM', 1, true) then
        return 'out of memory'
    end
    return pushed
end
return 'accepted'";

/// KEYS: waiting, leased, leases, the consumer's list. ARGV: n, the lease in milliseconds, the
/// token, the prefix of lists, the most leases to take back. Answers how many entries were taken
/// back, and the entries. Runs without memory to spare too: it only moves, and a full server is
/// emptied by it.
const POLL: &str = "#!lua flags=allow-oom
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local back = 0
for _, token in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, ARGV[5])) do
    local list = ARGV[4] .. token
    while redis.call('LMOVE', list, KEYS[1], 'RIGHT', 'RIGHT') do
        back = back + 1
    end
    redis.call('ZREM', KEYS[3], token)
end
local entries = redis.call('RPOP', KEYS[1], ARGV[1]) or {}
if #entries > 0 then
    redis.call('RPUSH', KEYS[4], unpack(entries))
    redis.call('ZADD', KEYS[3], now + ARGV[2], ARGV[3])
end
if #entries ~= back then
    redis.call('INCRBY', KEYS[2], #entries - back)
end
return {back, entries}";

/// KEYS: leased, leases, the consumer's list, unreadable. ARGV: the token, how many unreadable
/// messages are kept, and those that are to be. Answers how many entries were deleted: none if the
/// token is no longer there.
const ACK: &str = "#!lua flags=allow-oom
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then
    return 0
end
local entries = redis.call('LLEN', KEYS[3])
redis.call('DEL', KEYS[3])
redis.call('DECRBY', KEYS[1], entries)
for i = 3, #ARGV do
    redis.call('LPUSH', KEYS[4], ARGV[i])
    redis.call('LTRIM', KEYS[4], 0, ARGV[2] - 1)
end
return entries";

/// KEYS: waiting, leased, leases. ARGV: the prefix of lists. Answers how many entries there are,
/// and those that may be the oldest: the last that waits, and the first of the lease that ends
/// first.
const SIZE: &str = "#!lua flags=no-writes
local entries = redis.call('LLEN', KEYS[1]) + tonumber(redis.call('GET', KEYS[2]) or '0')
local oldest = {}
local waiting = redis.call('LINDEX', KEYS[1], -1)
if waiting then
    table.insert(oldest, waiting)
end
local token = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
local leased = token and redis.call('LINDEX', ARGV[1] .. token, 0)
if leased then
    table.insert(oldest, leased)
end
return {entries, oldest}";

/// The buffer. Further variables: `REDIS_URL`, `STAGE`, `AWS_REGION`, and optionally
/// `BUFFER_REDIS_REPLICAS`.
#[derive(Debug)]
pub(super) struct RedisBuffer {
    client: RedisClient,
    keys: Keys,
    terms: AdapterSettings,
    replicas: u32,
    clock: SharedClock,
}

#[derive(Debug)]
struct Keys {
    waiting: String,
    leased: String,
    leases: String,
    /// Prefix of the lists of leases.
    prefix: String,
    unreadable: String,
}

#[derive(Debug)]
pub(super) struct Receipt {
    token: String,
    unreadable: Vec<Vec<u8>>,
}

impl RedisBuffer {
    pub(super) fn from_env(
        env: &Env,
        terms: AdapterSettings,
        clock: SharedClock,
    ) -> Result<Self, ConfigError> {
        let replicas = match env.optional(REPLICAS) {
            Some(_) => env.parse(REPLICAS)?,
            None => 0,
        };
        // Stacks may share a Redis. The braces keep the keys in one slot.
        let name = format!("{{sojourn:{}:{}:buffer}}", env.required(Stage::VARIABLE)?, aws::region(env)?);
        let keys = Keys {
            waiting: format!("{name}:waiting"),
            leased: format!("{name}:leased"),
            leases: format!("{name}:leases"),
            prefix: format!("{name}:taken:"),
            unreadable: format!("{name}:unreadable"),
        };
        let client = RedisClient::from_env(env)?.with_need(RedisUse::Kept);
        Ok(Self { client, keys, terms, replicas, clock })
    }

    pub(super) async fn offer(&self, batch: &[Entry], deadline: Deadline) -> Result<Offered, BufferError> {
        let messages = one_by_one(batch)?;
        let operation = "take an offer";
        let wait_ms = deadline.remaining().min(REPLICAS_WAIT).as_millis();
        let mut commands = script(OFFER, &[&self.keys.waiting, &self.keys.leased]);
        commands.arg(self.terms.limit).arg(messages);
        let (answer, confirmed) = if self.replicas == 0 {
            let (answer,): (String,) = self.ask(operation, deadline, commands).await?;
            (answer, 0)
        } else {
            commands.cmd("WAIT").arg(self.replicas).arg(u64::try_from(wait_ms).unwrap_or(u64::MAX).max(1));
            self.ask::<(String, u32)>(operation, deadline, commands).await?
        };
        match answer.as_str() {
            "accepted" if confirmed < self.replicas => {
                Err(BufferError::Replicas { confirmed, wanted: self.replicas })
            }
            "accepted" => Ok(Offered::Accepted),
            refused => {
                tracing::warn!(reason = refused, "the memory of Redis is full");
                Ok(backpressure())
            }
        }
    }

    pub(super) async fn poll(&self, n: usize, deadline: Deadline) -> Result<Option<TakenBatch>, BufferError> {
        let operation = "deliver";
        let token = token()?;
        let Keys { waiting, leased, leases, prefix, .. } = &self.keys;
        let mut commands = script(POLL, &[waiting, leased, leases, &format!("{prefix}{token}")]);
        let lease_ms = u64::try_from(self.terms.lease.as_millis()).unwrap_or(u64::MAX);
        commands.arg(n).arg(lease_ms).arg(&token).arg(prefix).arg(TAKEN_BACK);
        let ((redelivered, messages),): ((usize, Vec<Vec<u8>>),) =
            self.ask(operation, deadline, commands).await?;
        if messages.is_empty() {
            return Ok(None);
        }
        let (mut entries, mut unreadable) = (Vec::with_capacity(messages.len()), Vec::new());
        for message in messages {
            match decode(&message) {
                Ok(read) => entries.extend(read),
                Err(_) => unreadable.push(message),
            }
        }
        let number = unreadable.len();
        let receipt = super::Receipt::Redis(Receipt { token, unreadable });
        Ok(Some(TakenBatch { leased: LeasedBatch { entries, receipt }, redelivered, unreadable: number }))
    }

    pub(super) async fn ack(&self, receipt: Receipt, deadline: Deadline) -> Result<(), BufferError> {
        let Keys { leased, leases, prefix, unreadable, .. } = &self.keys;
        let list = format!("{prefix}{}", receipt.token);
        let mut commands = script(ACK, &[leased, leases, &list, unreadable]);
        commands.arg(&receipt.token).arg(UNREADABLE_KEPT);
        for message in &receipt.unreadable {
            commands.arg(message.as_slice());
        }
        let (deleted,): (u64,) = self.ask("delete a batch", deadline, commands).await?;
        if deleted == 0 {
            tracing::warn!("the lease of a batch ended before it was acknowledged");
        }
        Ok(())
    }

    pub(super) async fn size(&self, deadline: Deadline) -> Result<QueueDepth, BufferError> {
        let Keys { waiting, leased, leases, prefix, .. } = &self.keys;
        let mut commands = script(SIZE, &[waiting, leased, leases]);
        commands.arg(prefix);
        let ((entries, candidates),): ((u64, Vec<Vec<u8>>),) =
            self.ask("tell its size", deadline, commands).await?;
        let candidates = candidates.iter().filter_map(|message| decode(message).ok()).flatten();
        let oldest: Option<Timestamp> = candidates.map(|entry| entry.offered_at).min();
        let now = self.clock.now();
        Ok(QueueDepth { entries, oldest: oldest.map(|offered_at| age(offered_at, now)) })
    }

    async fn ask<T: ::redis::FromRedisValue>(
        &self,
        operation: &'static str,
        deadline: Deadline,
        commands: Pipeline,
    ) -> Result<T, BufferError> {
        let answer = self.client.ask_within(deadline.remaining(), |_| commands).await;
        answer
            .map(|answer| answer.value)
            .map_err(|source: RedisError| BufferError::Redis { operation, source })
    }
}

/// Sends the whole script: Redis identifies it by its digest and compiles it once.
fn script(code: &str, keys: &[&str]) -> Pipeline {
    let mut commands = pipe();
    commands.cmd("EVAL").arg(code).arg(keys.len()).arg(keys);
    commands
}

/// A random token, unique even across restarts of Redis.
fn token() -> Result<String, NoEntropy> {
    Ok(URL_SAFE_NO_PAD.encode(random::bytes::<16>()?))
}
