-- Lua 5.4 everywhere; specs also know busted. Inline exceptions name the warning and the reason.
std = "lua54"
max_line_length = 120
max_cyclomatic_complexity = 20
files["spec"] = { std = "lua54+busted" }
files["spec/vm"] = { std = "lua54+busted" }
files["examples/daemon_spec.lua"] = { std = "lua54+busted" }
files["rockspec/nsbox-scm-1.rockspec"] = { std = "rockspec" }
