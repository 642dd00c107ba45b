-- plan/uts.lua: the box's names and its loopback device.

local placeholder = require("nsbox.plan.param").placeholder

local function name(box)
  local c = box.config
  if c.hostname then
    box.add { "sethostname", placeholder.hostname, why = "the box's own name" }
  end
  if c.domainname then
    box.add { "setdomainname", placeholder.domainname, why = "the box's own NIS domain" }
  end
end

local function network(box)
  if box.ns.network == true and box.ns.user ~= true then -- else the keeper has made it
    box.add { "unshare", "newnet", why = "its own network devices and configuration" }
    box.add { "if_up", "lo", why = "a fresh network has a loopback device that is down" }
  end
end

return { name = name, network = network }
