rockspec_format = "3.0"
package = "nsbox"
version = "scm-1"
source = {
  url = "git+https://example.org/nsbox.git",
  branch = "main",
}
description = {
  summary = "Linux containers as a library",
  detailed = [[
nsbox starts commands in containers of their own (namespaces, cgroups, a root file system, limits) from a Lua script,
as root or not, without a daemon. Every kernel call of a start can be read beforehand, and made by hand.
]],
  license = "MIT",
  labels = { "linux", "container", "sandbox", "testing" },
}
supported_platforms = { "linux" }
dependencies = {
  "lua >= 5.4, < 5.6",
  -- JSON documents (OCI bundles and images) also need dkjson; nsbox says so when one is met and it is missing.
}
external_dependencies = {
  CAP = { header = "sys/capability.h", library = "cap" },
}
build = {
  type = "make",
  build_variables = {
    CC = "$(CC)",
    CFLAGS = "$(CFLAGS)",
    LUA_INCDIR = "$(LUA_INCDIR)",
    -- A warning that a newer compiler adds must not stop an installation.
    WERROR = "",
  },
  install_variables = {
    INST_LUADIR = "$(LUADIR)",
    INST_LIBDIR = "$(LIBDIR)",
    INST_BINDIR = "$(BINDIR)",
  },
}
test = {
  type = "command",
  command = "make test",
}
