-- For wrk: each request asks for a random user. Arguments: path with {} for the id, number of users, key, seed.
local before, after, users

function init(args)
  before, after = args[1]:match("^(.-){}(.*)$")
  users = tonumber(args[2])
  wrk.headers["Authorization"] = "Bearer " .. args[3]
  math.randomseed(tonumber(args[4]))
end

function request()
  return wrk.format("GET", before .. math.random(1, users) .. after)
end
