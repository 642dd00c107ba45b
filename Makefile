# nsbox: `make` builds, `make demo` shows, `make test` tests. The last two also install what is missing (Debian, as root).
# `make help` lists the targets. Every variable of the first block can be given on the command line.

CC          ?= cc
CFLAGS      ?= -O2 -g
LDFLAGS     ?=
WERROR      ?= -Werror
LUA         ?= $(firstword $(shell command -v lua5.4 || command -v lua54 || command -v lua))
LUA_INCDIR  ?=
PREFIX      ?= /usr/local
INST_LUADIR ?= $(PREFIX)/share/lua/5.4
INST_LIBDIR ?= $(PREFIX)/lib/lua/5.4
INST_BINDIR ?= $(PREFIX)/bin
DESTDIR     ?=
# Where the output goes, and what `make asan` adds: it builds beside, in build/asan.
BUILD       ?= build
SANITIZE    ?=
# Which runs of spec/run to make: empty for all that the caller may.
RUNS        ?=

# ---- flags ---------------------------------------------------------------------------------------------------------
LUA_INC := $(if $(LUA_INCDIR),-I$(LUA_INCDIR),$(shell for p in lua5.4 lua54 lua-5.4; do \
             pkg-config --cflags $$p 2>/dev/null && break; done))

WARN  := -Wall -Wextra $(WERROR)
# names: a hidden variable or an undeclared function is read wrongly by the next person
WARN  += -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
# memory: arithmetic on void*, variable arrays on a small child stack, writable string literals
WARN  += -Wpointer-arith -Wvla -Wwrite-strings
# control: a case that falls through, a macro that is not defined, a format that is not a literal
WARN  += -Wimplicit-fallthrough -Wundef -Wformat=2

COMMON      := -std=gnu11 -D_GNU_SOURCE -Icsrc -MMD -MP $(WARN)
CORE_FLAGS   = $(COMMON) $(LUA_INC) -DNSB_LUA_PATH='"$(LUA)"' $(CFLAGS) -fPIC -fvisibility=hidden $(SANITIZE)
# Child-safe files run between clone and exec in the caller's own memory: no instrumentation, no lazy binding, no stack
# canary (it lives in thread-local memory), nothing from the user's CFLAGS.
CHILD_FLAGS := $(COMMON) -O2 -g -fPIC -fvisibility=hidden -fno-builtin -fno-plt -fno-stack-protector \
               -fno-sanitize=all -fno-asynchronous-unwind-tables -U_FORTIFY_SOURCE
# init is a program without libc: no start files, no canary, no unwind tables, one small segment.
INIT_FLAGS  := $(filter-out -MMD -MP,$(COMMON)) -Os -ffreestanding -fno-pie -fno-builtin -fno-stack-protector \
               -fno-asynchronous-unwind-tables -U_FORTIFY_SOURCE -ffunction-sections
INIT_LINK   := -nostdlib -static -s -Wl,--gc-sections,--build-id=none,-z,noexecstack,-z,noseparate-code
CORE_LINK    = -shared -Wl,-z,now,-z,relro,-z,noexecstack $(LDFLAGS)

# ---- files ---------------------------------------------------------------------------------------------------------
OBJ       := $(BUILD)/obj
CORE      := $(BUILD)/nsbox/core.so
CHILD_OBJ := $(addprefix $(OBJ)/,call.o helper.o child.o socket.o)
INIT      := init keeper keeper_cgroup pid1
INIT_C    := $(patsubst %,csrc/%.c,$(INIT))
CORE_OBJ  := $(filter-out $(patsubst %,$(OBJ)/%.o,$(INIT)),$(patsubst csrc/%.c,$(OBJ)/%.o,$(wildcard csrc/*.c)))
# What the specs run: spec/NAME.c is a static program, spec/lua_NAME.c a Lua module.
SPEC_BIN  := $(patsubst spec/%.c,$(BUILD)/spec/%,$(filter-out spec/lua_%.c,$(wildcard spec/*.c)))
SPEC_SO   := $(patsubst spec/lua_%.c,$(BUILD)/spec/%.so,$(wildcard spec/lua_*.c))
RAW_C     := $(patsubst $(OBJ)/%.o,csrc/%.c,$(CHILD_OBJ)) $(INIT_C)
C_FILES    = $(wildcard csrc/*.[ch] spec/*.[ch] spec/*/*.[ch])
LUA_DIRS   = $(wildcard lua spec examples rockspec/nsbox)
# For a Lua started from the tree, nothing installed. LUA_NOW is looked up when the recipe runs, after `deps`.
LUA_ENV    = LUA_PATH='$(CURDIR)/lua/?.lua;$(CURDIR)/lua/?/init.lua;;' LUA_CPATH='$(CURDIR)/$(BUILD)/?.so;;'

# ---- Debian packages -----------------------------------------------------------------------------------------------
PKG_BUILD := gcc libc6-dev pkg-config lua5.4 liblua5.4-dev libcap-dev
PKG_RUN   := lua-dkjson busybox-static uidmap
PKG_TEST  := lua-busted lua-filesystem lua-system lua-luv lua-cqueues procps iproute2 util-linux redis-server
PKG_LINT  := lua-check clang-format clang-tidy luarocks
PKG_VM     = $(shell awk '/^[^\#]/ { print $$2 }' spec/vm/packages)
PKG_VALGRIND := valgrind bzip2 patch
PKG_BENCH := bubblewrap

# $(call need,packages): nothing when all are there; else apt-get as root, or the one command to type.
define need
@command -v dpkg-query >/dev/null || { echo "not a Debian system; needed: $(strip $(1))"; exit 0; }; \
missing=; for p in $(1); do \
  dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
[ -n "$$missing" ] || exit 0; \
[ "$$(id -u)" = 0 ] || { echo "as root: apt-get update && apt-get install -y$$missing"; exit 1; }; \
apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing
endef
SUBMAKE = @$(MAKE) --no-print-directory
# One line a file; V=1 shows the commands.
run     = $(if $(V),,@printf '  %-5s %s\n' '$(1)' '$@' && )

# ---- targets -------------------------------------------------------------------------------------------------------
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all
.PHONY: all help build check-child spec-programs deps demo test spec soak asan valgrind valgrind-core test-vm test-vm-systemd \
        bench lint lint-lua lint-format lint-tidy lint-length format install uninstall clean

all: build         ## the same as build
help:              ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 16

deps:              ## install what building and running needs, where it is missing
	$(call need,$(PKG_BUILD) $(PKG_RUN))

# A second make looks for the interpreter and its headers anew, when the packages are there.
demo: deps         ## install what is missing, build, show a box
	$(SUBMAKE) build
	$(SUBMAKE) show
.PHONY: show
show:
	@$(LUA_ENV) $(LUA) examples/docker_run_it.lua

test:              ## install what is missing, build, run the specs as each kind of user
	$(call need,$(PKG_BUILD) $(PKG_RUN) $(PKG_TEST))
	$(SUBMAKE) spec

spec: build spec-programs   ## the specs, nothing installed; RUNS="root user plain copy" chooses
	@LUA='$(LUA)' BUILD='$(BUILD)' spec/run $(RUNS)
soak: build spec-programs   ## the slow specs (tag soak)
	@LUA='$(LUA)' BUILD='$(BUILD)' spec/run soak

asan:              ## the specs with core.so under address and undefined-behaviour sanitizers
	$(call need,$(PKG_BUILD) $(PKG_RUN) $(PKG_TEST))
	$(SUBMAKE) BUILD=build/asan CFLAGS='-O1 -g -fno-omit-frame-pointer' \
	  SANITIZE='-fsanitize=address,undefined' build spec-programs
	@LUA='$(LUA)' CC='$(CC)' BUILD=build/asan spec/run asan
valgrind:          ## the specs in copy mode under valgrind
valgrind-core:     ## the same with those of the C core alone, and some boxes
valgrind valgrind-core:
	$(call need,$(PKG_BUILD) $(PKG_RUN) $(PKG_TEST) $(PKG_VALGRIND))
	$(SUBMAKE) build spec-programs
	@spec/valgrind/build '$(BUILD)/valgrind'
	@LUA='$(LUA)' BUILD='$(BUILD)' spec/run $@

test-vm:           ## the specs in a virtual machine: another kernel, pure cgroup v2
	$(call need,$(PKG_BUILD) $(PKG_RUN) $(PKG_TEST) $(PKG_VM))
	$(SUBMAKE) build spec-programs
	@LUA='$(LUA)' BUILD='$(BUILD)' spec/vm/run spec/vm/inner
test-vm-systemd:   ## what a user has by its systemd, in a virtual machine that systemd started
	$(call need,$(PKG_BUILD) $(PKG_RUN) $(PKG_TEST) $(PKG_VM))
	$(SUBMAKE) build spec-programs
	@LUA='$(LUA)' BUILD='$(BUILD)' VM_INIT=init-systemd spec/vm/run spec/vm/inner systemd
bench:             ## starts of boxes beside a C floor, unshare and bubblewrap
	$(call need,$(PKG_BUILD) $(PKG_RUN) $(PKG_BENCH))
	$(SUBMAKE) build bench-programs
	@LUA='$(LUA)' BUILD='$(BUILD)' $(LUA_ENV) spec/bench/run

BENCH_BIN := $(addprefix $(BUILD)/bench/,true_raw true_libc floor spawn stream)
.PHONY: bench-programs
bench-programs: $(BENCH_BIN)
$(BUILD)/bench/true_raw: BENCH_LINK := -nostdlib
$(BUILD)/bench/%: spec/bench/%.c spec/bench/serve.h csrc/raw.h Makefile
	@mkdir -p $(@D)
	$(call run,CC)$(CC) -std=gnu11 -D_GNU_SOURCE -Icsrc $(WARN) -O2 -fno-stack-protector -static $(BENCH_LINK) -o $@ $<

# ---- build ---------------------------------------------------------------------------------------------------------
build: $(CORE)     ## build/nsbox/core.so, with build/init inside
check-child: $(OBJ)/child-symbols.ok   ## the child's code uses no function that is not allowed
spec-programs: $(SPEC_BIN) $(SPEC_SO)

$(CORE): $(CORE_OBJ) $(OBJ)/init_blob.o $(OBJ)/child-symbols.ok
	@mkdir -p $(@D)
	$(call run,LINK)$(CC) $(CFLAGS) $(SANITIZE) $(CORE_LINK) -o $@ $(CORE_OBJ) $(OBJ)/init_blob.o -lcap
$(CHILD_OBJ): $(OBJ)/%.o: csrc/%.c Makefile | $(OBJ)
	$(call run,CHILD)$(CC) $(CHILD_FLAGS) -c -o $@ $<
$(filter-out $(CHILD_OBJ),$(CORE_OBJ)): $(OBJ)/%.o: csrc/%.c Makefile | $(OBJ)
	$(call run,CC)$(CC) $(CORE_FLAGS) -c -o $@ $<
$(BUILD)/init: $(INIT_C) csrc/helper.c csrc/init.h csrc/keeper.h csrc/call.h csrc/raw.h Makefile | $(OBJ)
	$(call run,INIT)$(CC) $(INIT_FLAGS) $(INIT_LINK) -o $@ $(filter %.c,$^)
$(OBJ)/init_blob.o: csrc/init_blob.S $(BUILD)/init | $(OBJ)
	$(call run,AS)$(CC) -DNSB_INIT_PATH='"$(BUILD)/init"' -c -o $@ $<
$(OBJ):
	@mkdir -p $@

# Undefined in one of the child's objects, defined in none of them, not on the list: the build stops.
$(OBJ)/child-symbols.ok: csrc/child-symbols $(CHILD_OBJ)
	@nm -P $(CHILD_OBJ) | awk 'NR == FNR { allowed[$$1]; next } \
	  $$2 ~ /^[Uwv]$$/ { wanted[$$1]; next } $$2 ~ /^[A-Z]$$/ { allowed[$$1] } \
	  END { for (s in wanted) if (!(s in allowed)) { bad = 1; \
	    print "the code between clone and exec uses " s ", which csrc/child-symbols does not list" } exit bad }' \
	  csrc/child-symbols -
	@touch $@

$(BUILD)/spec/%: spec/%.c Makefile
	@mkdir -p $(@D)
	$(call run,CC)$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) -O2 -static -o $@ $<
$(BUILD)/spec/%.so: spec/lua_%.c Makefile
	@mkdir -p $(@D)
	$(call run,CC)$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) $(LUA_INC) -O2 -fPIC -shared -pthread -o $@ $<

-include $(wildcard $(OBJ)/*.d)

# ---- lint ----------------------------------------------------------------------------------------------------------
lint:              ## luacheck, clang-format, clang-tidy, lengths, rockspec
	$(call need,$(PKG_BUILD) $(PKG_LINT))
	$(SUBMAKE) -k lint-lua lint-format lint-tidy lint-length
lint-lua:
	luacheck --quiet $(LUA_DIRS) rockspec/nsbox-scm-1.rockspec
	luarocks --lua-version 5.4 lint rockspec/nsbox-scm-1.rockspec
lint-format:
	clang-format --dry-run -Werror $(C_FILES)
# The analyzer does not see that a raw system call writes to memory.
lint-tidy:
	clang-tidy --quiet $(filter-out $(RAW_C),$(filter %.c,$(C_FILES))) -- -std=gnu11 -D_GNU_SOURCE -Icsrc $(LUA_INC)
	clang-tidy --quiet --checks=-clang-analyzer-core.UndefinedBinaryOperatorResult,-clang-analyzer-core.CallAndMessage \
	  $(RAW_C) -- -std=gnu11 -D_GNU_SOURCE -Icsrc
lint-length:
	@spec/lengths
format:            ## clang-format on every C file
	clang-format -i $(C_FILES)

# ---- install -------------------------------------------------------------------------------------------------------
install: build     ## to PREFIX, or INST_LUADIR, INST_LIBDIR and INST_BINDIR, below DESTDIR
	cd lua && find nsbox -name '*.lua' -exec install -D -m 644 {} '$(DESTDIR)$(INST_LUADIR)/{}' \;
	install -D -m 755 $(CORE) '$(DESTDIR)$(INST_LIBDIR)/nsbox/core.so'
	install -D -m 755 rockspec/nsbox '$(DESTDIR)$(INST_BINDIR)/nsbox'
	sed -i '1s|.*|#!$(LUA)|' '$(DESTDIR)$(INST_BINDIR)/nsbox'
uninstall:         ## remove what install put there
	rm -rf '$(DESTDIR)$(INST_LUADIR)/nsbox' '$(DESTDIR)$(INST_LIBDIR)/nsbox'
	rm -f '$(DESTDIR)$(INST_BINDIR)/nsbox'
clean:             ## remove build/
	rm -rf build
