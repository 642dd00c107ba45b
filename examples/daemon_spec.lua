-- A spec of a program that talks to a daemon, as busted runs it: busted --lua=lua5.4 examples/daemon_spec.lua
-- Each test has a redis of its own, on the host's files, with a network of its own: nothing to clean up, no port that
-- is taken.
local nsbox = require "nsbox"

describe("redis", function()
  local redis

  before_each(function()
    redis = assert(nsbox.start("host", { "redis-server", "--port", "6379", "--save", "", "--dir", "/tmp" }))
    assert(redis:expect("Ready to accept connections", 30)) -- or an error at once, with its last words, should it die
  end)

  after_each(function()
    redis:close()
  end)

  it("answers to its own client", function()
    assert.equal("PONG\n", assert(redis:exec({ "redis-cli", "ping" })):check().stdout)
  end)

  it("is reached from outside, without a port of the host's", function()
    local s <close> = assert(redis:connect(6379, 10))
    assert(s:write "INCR visits\r\nINCR visits\r\n")
    assert.same({ ":1\r", ":2\r" }, { s:read("l", "l") })
  end)

  it("was empty before: each test has its own", function()
    assert.equal("0\n", assert(redis:exec({ "redis-cli", "dbsize" })):check().stdout)
  end)

  it("ends as it was asked to", function()
    local r = assert(redis:stop(10))
    assert.same({ "exit", 0 }, { r.reason, r.code })
  end)
end)
