"""The arithmetic of `core.limits` once more, in Lua, for a Redis that replicas share; tests hold one against the other.

A limit is a hash under a key of its own: `level` and `at` as a gauge has them, and for each lease (`o` and its name)
what is held under it, until when it runs, and the day on which that was taken. All limits of one request have the
client's scope in braces in their names, so they lie in one slot of a cluster. The clock is the server's. Redis 6.2 to 8
and Valkey do: no more than hashes, TIME and EVALSHA is used.

Invariants, each with a test of its own:
  1. A script decides as `decide` does, and leaves what `decide` and `settle` leave.
  2. What a replica held whose lease has run out is there again for the others.
  3. A request whose hold was returned so is charged for all that it used once it ends after all.
  4. Every number is below 2^53, where doubles are exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.core.limits.decision import Limit
from gateway.core.limits.gauge import Gauge, Kind

_SPACE = b"llm-gateway:limit:"
_SCOPE_BYTES = 16
_KIND_CODES = {
    Kind.REQUESTS: "requests",
    Kind.TOKENS: "bucket",
    Kind.CONCURRENT: "out",
    Kind.DAY_TOKENS: "day",
    Kind.DAY_COST: "day",
}
CLOCK: Final = "local time = redis.call('TIME')\nlocal now = time[1] * 1000000 + time[2]\n"

_PRELUDE = """
local MINUTE, DAY, LOWEST, MOST = 60000000, 86400000000, -3000000000000000, 150000000
local function text(number) return string.format('%.0f', number) end

local function ceil_of(number, by)  -- of number / by, exactly
  local whole = math.floor(number / by)
  while whole * by < number do whole = whole + 1 end
  while (whole - 1) * by >= number do whole = whole - 1 end
  return whole
end

local function read(key, kind, amount)
  local s = {key = key, kind = kind, amount = amount, holds = {}, gone = {}}
  local found = redis.call('HGETALL', key)
  for i = 1, #found, 2 do
    if found[i] == 'level' then s.level = tonumber(found[i + 1])
    elseif found[i] == 'at' then s.at = tonumber(found[i + 1])
    else
      local held, over, day = string.match(found[i + 1], '^(%d+) (%d+) (%d+)$')
      s.holds[found[i]] = {held = tonumber(held), over = tonumber(over), day = tonumber(day)}
    end
  end
  local is_bucket = kind == 'bucket' or kind == 'requests'
  local today = math.floor(now / DAY)
  if is_bucket then
    s.most = amount * MINUTE
    s.level, s.at = s.level or s.most, s.at or now
    if now <= s.at then s.level = math.min(s.level, s.most)
    else
      local elapsed = now - s.at
      if elapsed >= ceil_of(s.most - s.level, amount) then s.level = s.most
      else s.level = s.level + elapsed * amount end
      s.at = now
    end
  elseif kind == 'day' then
    s.level, s.at = s.level or 0, s.at or today
    if today > s.at then s.level, s.at = 0, today end
  else
    s.level, s.at = 0, 0
  end
  for name, hold in pairs(s.holds) do
    if hold.over <= now then
      s.gone[#s.gone + 1] = name
      if is_bucket then s.level = math.min(s.most, s.level + hold.held * MINUTE)
      elseif kind == 'day' and hold.day == s.at then s.level = math.max(0, s.level - hold.held) end
    elseif kind == 'out' then s.level = s.level + hold.held end
  end
  for _, name in ipairs(s.gone) do s.holds[name] = nil end
  return s
end

local function use(s, units)  -- what decision.taken does; of what is out the holds are the level
  if s.most then s.level = math.max(LOWEST, math.min(s.most, s.level - units * MINUTE))
  else s.level = math.max(0, s.level + units) end
end

local function write(s, owner, lease)
  local hold = s.holds[owner]
  if hold and hold.held > 0 then
    redis.call('HSET', s.key, owner, text(hold.held) .. ' ' .. text(hold.over) .. ' ' .. text(hold.day))
  elseif hold then s.gone[#s.gone + 1] = owner end
  if #s.gone > 0 then redis.call('HDEL', s.key, unpack(s.gone)) end
  local left = 2 * lease
  if s.kind ~= 'out' then redis.call('HSET', s.key, 'level', text(s.level), 'at', text(s.at)) end
  if s.most then left = math.max(left, (s.most - s.level) / s.amount + 2 * MINUTE)
  elseif s.kind == 'day' then left = math.max(left, (s.at + 1) * DAY - now + DAY) end
  redis.call('PEXPIRE', s.key, text(math.ceil(left / 1000)))
end
"""

_TAKE = """
local owner, lease = 'o' .. ARGV[1], tonumber(ARGV[2])
local states, granted, reply = {}, 1, {0, now}
for i, key in ipairs(KEYS) do
  local s = read(key, ARGV[3 * i], tonumber(ARGV[3 * i + 1]))
  local asked = tonumber(ARGV[3 * i + 2])
  states[i], s.asked = s, asked
  reply[#reply + 1], reply[#reply + 2] = s.level, s.at
  if asked > s.amount then granted = 0
  elseif asked > 0 then
    if s.most then
      if s.level < asked * MINUTE then granted = 0 end
    elseif s.level + asked > s.amount then granted = 0 end
  end
end
reply[1] = granted
if granted == 1 then
  for _, s in ipairs(states) do
    if s.asked > 0 then
      use(s, s.asked)
      if s.kind ~= 'requests' then
        local hold = s.holds[owner] or {held = 0, day = s.at}
        if hold.day ~= s.at and s.kind == 'day' then hold.held = 0 end
        hold.held, hold.over, hold.day = hold.held + s.asked, now + lease, s.kind == 'day' and s.at or 0
        s.holds[owner] = hold
      end
      write(s, owner, lease)
    end
  end
end
return reply
"""

_SETTLE = """
local owner, lease, day = 'o' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
for i, key in ipairs(KEYS) do
  local s = read(key, ARGV[4 * i], tonumber(ARGV[4 * i + 1]))
  local reserved, used = tonumber(ARGV[4 * i + 2]), tonumber(ARGV[4 * i + 3])
  local hold = s.holds[owner]
  local is_held = s.kind == 'requests' or (hold and (s.kind ~= 'day' or hold.day == day))
  if hold and is_held then hold.held = math.max(0, hold.held - reserved) end
  if s.kind ~= 'out' and (s.kind ~= 'day' or s.at == day) then
    local more = is_held and used - reserved or used
    if s.most then more = math.max(-MOST, math.min(MOST, more)) end
    use(s, more)
  end
  write(s, owner, lease)
end
return 1
"""

_RENEW = """
local owner, lease = 'o' .. ARGV[1], tonumber(ARGV[2])
local found = redis.call('HGET', KEYS[1], owner)
if not found then return 0 end
local held, _, day = string.match(found, '^(%d+) (%d+) (%d+)$')
redis.call('HSET', KEYS[1], owner, held .. ' ' .. text(now + lease) .. ' ' .. day)
local left = math.ceil(2 * lease / 1000)
if redis.call('PTTL', KEYS[1]) < left then redis.call('PEXPIRE', KEYS[1], text(left)) end
return 1
"""

_COUNT = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now))
if tonumber(ARGV[2]) > 0 then redis.call('ZADD', KEYS[1], text(now + tonumber(ARGV[2])), ARGV[1])
else redis.call('ZREM', KEYS[1], ARGV[1]) end
redis.call('PEXPIRE', KEYS[1], text(math.ceil(math.max(1000, tonumber(ARGV[2]) / 500))))
return redis.call('ZCARD', KEYS[1])
"""


class Script(NamedTuple):
    """A script and its SHA-1, by which it is called."""

    text: str
    sha: str


def script_of(body: str, clock: str = CLOCK) -> Script:
    """A script with all that it needs.

    Args:
        body: what it does.
        clock: defines `now`, in microseconds since 1970; tests bring their own.
    """
    whole = clock + _PRELUDE + body
    return Script(whole, hashlib.sha1(whole.encode(), usedforsecurity=False).hexdigest())


TAKE, SETTLE, RENEW, COUNT = map(script_of, (_TAKE, _SETTLE, _RENEW, _COUNT))
"""Take from all limits or none; put right what was taken; go on holding; say that one is here, and how many are."""
BODIES: Final = {"take": _TAKE, "settle": _SETTLE}
REPLICAS_KEY: Final = b"llm-gateway:limit:{replicas}"


class Call(NamedTuple):
    """A script, its keys and its arguments."""

    script: Script
    keys: Sequence[bytes]
    args: Sequence[bytes | str | int]


def take_call(limits: Sequence[Limit], units: Sequence[int], owner: str, lease_us: int, script: Script = TAKE) -> Call:
    """Take these units."""
    args: list[bytes | str | int] = [owner, lease_us]
    for limit, asked in zip(limits, units, strict=True):
        args += [_KIND_CODES[limit.kind], limit.amount, asked]
    return Call(script, [key_name(limit.key) for limit in limits], args)


def settle_call(
    limits: Sequence[Limit],
    reserved: Sequence[int],
    used: Sequence[int],
    owner: str,
    lease_us: int,
    day: int,
    script: Script = SETTLE,
) -> Call:
    """Put right what was taken under this lease on this day."""
    args: list[bytes | str | int] = [owner, lease_us, day]
    for limit, was, now in zip(limits, reserved, used, strict=True):
        args += [_KIND_CODES[limit.kind], limit.amount, was, now]
    return Call(script, [key_name(limit.key) for limit in limits], args)


def key_name(key: bytes) -> bytes:
    """Where the limit with this key stands; those of one client in one slot."""
    return b"%s{%s}:%s" % (_SPACE, key[:_SCOPE_BYTES].hex().encode(), key[_SCOPE_BYTES:].hex().encode())


class Taken(NamedTuple):
    """What a `take_call` found: whether all was granted, the gauges before that, and when."""

    is_granted: bool
    present: list[Gauge]
    now_us: int


def read_taken(reply: Sequence[int]) -> Taken:
    """Its reply."""
    gauges = [Gauge(int(level), int(at)) for level, at in zip(reply[2::2], reply[3::2], strict=True)]
    return Taken(bool(reply[0]), gauges, int(reply[1]))
