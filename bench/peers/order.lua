-- Orders for wrk: each has a key of its own. The arguments are a name for this run and, if needed, a token.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(arguments)
  run, count = arguments[1], 0
  wrk.headers["content-type"] = "application/json"
  if arguments[2] then wrk.headers["authorization"] = "Bearer " .. arguments[2] end
end

function request()
  count = count + 1
  wrk.headers["idempotency-key"] = run .. "-" .. number .. "-" .. count
  local body = string.format('{"lines":[{"productId":"p%d","quantity":1}]}', count % 64)
  return wrk.format("POST", nil, nil, body)
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  print(string.format('{"requests":%d,"seconds":%f,"p50Ms":%f,"p99Ms":%f,"failed":%d}', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, failed))
end
