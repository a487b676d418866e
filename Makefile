# make              librl.a, librl.so.1, librl-preload.so, rl-agent and rlctl into build/
# make demo         two hosts and a Redis, an nginx behind each, one limit; real traffic; a
#                   worker, an agent and Redis killed (BREAK=nosync and BREAK=nolimit show
#                   that the demo can fail)
# make check        every test, model, layers, pairs and headers; ends "N passed, N failed"
# make asan|tsan    the tests under a sanitizer, in a build folder of their own
# make store STORE=url  the suite that each backend of the store must pass, on the one of this address
# make check-valkey what meets the Redis, on a Valkey (VALKEY=path, else valkey-server)
# make hostile      a minute of random bytes all over the segment, everybody under ASan and UBSan
# make clang        everything built by clang as well; warnings are errors in both
# make mutants      plant one-line bugs one after the other: each must turn a test red
# make model        spin: claim, admit, take-over, re-base and rule swap on weakly ordered memory,
#                   random interleavings of the claim; and the bugs planted in them
# make arm64        the library and its tests cross-built, and run under qemu
# make bench        all figures;  make figure-NAME: one of hit contend memory grow spread window
#                   kill peers strict outage rediscost bounded onehost agentkill skew durable
# make proof        all long proofs;  make proof-NAME: one of window kill model fleet
# make layers       who may include whom;  make pairs: both ends of every ordered atomic
# make headers      rl.h compiles alone, as C and as C++
# make install      DESTDIR and PREFIX honoured
# make fmt          rewrite sources with .clang-format; make fmt-check only looks
# make clean        remove the build folders
#
# V=1 shows the commands. B=folder, CC=compiler, CFLAGS, SAN=-fsanitize=... as usual.
#
# On a fresh Debian 12:  tools/setup TARGET...  installs what TARGET needs, then makes it.
CC      ?= cc
B       ?= build
PREFIX  ?= /usr/local
VERSION := 0.1.0
WARN    := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
           -Wcast-qual -Wconversion -Wvla -Werror
CFLAGS  ?= -O2 -g
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -DRL_VERSION='"$(VERSION)"' -I. -I$(B)/gen -fPIC -fvisibility=hidden \
             -pthread -MMD -MP $(WARN) $(SAN) $(CFLAGS)
Q        = $(if $(V),,@)
say      = @$(if $(V),:,echo ' ')
# libevent carries what hiredis reads and writes, in TLS by OpenSSL.
REDIS_LIBS = -levent_openssl -levent_core -lhiredis -lssl -lcrypto
LINK     = $(Q)$(CC) $(SAN) $(CFLAGS) -pthread -o $@

SHM     := $(wildcard shm/*.c)
CLIENT  := $(wildcard client/*.c)
PRELOAD := $(wildcard client/preload/*.c)
AGENT   := $(wildcard agent/*.c agent/*/*.c)
TOOLS   := $(wildcard tools/*.c)
TESTS   := $(wildcard tests/unit/test_*.c tests/race/test_*.c tests/proc/test_*.c \
                      tests/fleet/test_*.c)
SCRIPTS := $(wildcard tests/sys/test_*.py)
obj      = $(patsubst %.c,$(B)/%.o,$(1))

all: $(B)/librl.a $(B)/librl.so.1 $(B)/librl-preload.so $(B)/rl-agent $(B)/rlctl

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

# An answer is written in words of 4 and 8 bytes and copied at once: loads of 16 bytes, which the
# compiler likes, would wait for the stores (5 ns of a check's 50).
$(call obj,$(SHM) $(CLIENT)): CFLAGS += -fno-tree-slp-vectorize
# What a check runs through: 4 ns of 51.
HOT := $(addprefix shm/rl_,hash.c table.c rules.c window.c check.c check_other.c check_all.c) $(CLIENT)
$(call obj,$(HOT)): CFLAGS += -O3

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(say) CC $@
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# A script as an array of C, without a NUL.
$(B)/gen/%.lua.h: %.lua
	@mkdir -p $(@D)
	$(Q){ echo 'static const char $(notdir $*)_lua[] = {'; \
	  od -An -v -tu1 $< | sed 's/ *\([0-9][0-9]*\)/\1,/g'; echo '};'; } > $@
$(B)/agent/store/nodes.o: $(patsubst %,$(B)/gen/%.h,$(wildcard agent/store/*.lua))

$(B)/librl.a: $(call obj,$(SHM) $(CLIENT))
	@rm -f $@
	$(Q)$(AR) rcs $@ $^
$(B)/librl.so.1: $(call obj,$(SHM) $(CLIENT)) client/rl.map
	$(say) LINK $@
	$(LINK) -shared -Wl,-soname,librl.so.1 -Wl,--version-script=client/rl.map -Wl,-z,now \
	  $(filter %.o,$^) $(LDFLAGS)
	@ln -sf librl.so.1 $(B)/librl.so
$(B)/librl-preload.so: $(call obj,$(PRELOAD) $(SHM) $(CLIENT)) client/preload/preload.map
	$(say) LINK $@
	$(LINK) -shared -Wl,--version-script=client/preload/preload.map -Wl,-z,now \
	  $(filter %.o,$^) $(LDFLAGS) -ldl
$(B)/rl-agent: $(call obj,$(AGENT) $(SHM))
	$(say) LINK $@
	$(LINK) $^ $(LDFLAGS) -lyaml $(REDIS_LIBS) -ljansson -lm
$(B)/rlctl: $(call obj,$(TOOLS)) $(B)/librl.a
	$(say) LINK $@
	$(LINK) $^ $(LDFLAGS) -ljansson -lm

# What tests link with: every room but the programs' main files and the shim's entry points.
PURE   := $(filter-out agent/main.c,$(AGENT)) $(wildcard client/preload/http_*.c)
$(B)/libtest.a: $(call obj,$(SHM) $(CLIENT) $(PURE) tests/t.c)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^
TEST_LIBS = -lcmocka -lyaml $(REDIS_LIBS) -ljansson -lm
$(B)/tests/%: $(B)/tests/%.o $(B)/libtest.a
	$(say) LINK $@
	$(LINK) $(filter %.o,$^) $(filter %.a,$^) $(LDFLAGS) $(TEST_LIBS)
PROXY  := $(wildcard tests/proxy/*.c)
$(B)/tests/fault_proxy: $(call obj,$(PROXY))
	$(say) LINK $@
	$(LINK) $^ $(LDFLAGS) -levent_core
# A backend of the store for tests/sys/test_script.py, whichever it is.
BRIDGE   = $(B)/tests/store_bridge
$(BRIDGE): $(B)/tests/store/store_bridge.o $(B)/libtest.a
	$(say) LINK $@
	$(LINK) $^ $(LDFLAGS) -lyaml $(REDIS_LIBS) -ljansson -lm
# rl_check() of a figure is that of librl.so.1, what a user runs; what rl.h does not show (the
# clock reading of an answer, the hash of the floor) comes from the same objects in librl.a.
BENCH   := $(filter-out bench/figure_% bench/proof_% bench/check_%,$(wildcard bench/*.c))
$(B)/bench/%: $(B)/bench/%.o $(call obj,$(BENCH)) $(B)/librl.a $(B)/librl.so.1
	$(say) LINK $@
	$(LINK) $(filter %.o,$^) -L$(B) -lrl -Wl,-rpath,'$$ORIGIN/..' $(B)/librl.a $(LDFLAGS) \
	  $(FLEET_LIBS) -lm

# The window's harder cases do to the segment what an agent does, with the agent's own sweep.
$(B)/bench/figure_window: $(call obj,$(wildcard bench/window/*.c) agent/sweep.c agent/log.c agent/sync/slot.c)

# What figure-peers measures a check against. Nothing of it is in this tree: Go's and nginx's parts
# are Debian's, Node's comes from the npm registry into the build folder.
PEERS   := $(addprefix $(B)/bench/peers/,peer_go peer_redis peer.js peer.lua nginx.conf node_modules)
NRF     := rate-limiter-flexible@11.4.0
needs    = @command -v $(1) >/dev/null || { echo "figure-peers needs $(1): install $(2)," \
             "or run  tools/setup figure-peers" >&2; exit 1; }
figure-peers: $(PEERS)
figure-peers: FIGURE_ARGS = $(abspath $(B)/bench/peers)
$(B)/bench/peers/peer_go: bench/peers/peer.go
	@mkdir -p $(@D)
	$(call needs,go,golang-go and golang-golang-x-time-dev)
	$(say) GO $@
	$(Q)GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=$(abspath $(B)/go-cache) go build -o $@ $<
$(B)/bench/peers/peer_redis: $(B)/bench/peers/peer_redis.o
	$(say) LINK $@
	$(LINK) $^ $(LDFLAGS) -lhiredis
$(B)/bench/peers/node_modules:
	@mkdir -p $(@D)
	$(call needs,npm,nodejs and npm)
	$(say) NPM $(NRF)
	$(Q)npm install --silent --no-audit --no-fund --ignore-scripts --no-save --prefix $(@D) $(NRF)
$(B)/bench/peers/%: bench/peers/%
	@mkdir -p $(@D)
	@cp $< $@

# A fleet on one machine: figures and tests that start agents, a Redis and fault proxies.
FLEET   := $(wildcard bench/fleet/*.c) $(filter-out bench/cases/skew.c,$(wildcard bench/cases/*.c))
SKEW     = $(call obj,bench/cases/skew.c tests/skew/skew.c) $(B)/tests/skew/skew.so
RIG      = $(B)/rl-agent $(B)/tests/fault_proxy $(B)/tests/memory/keeper
FLEETED := $(addprefix $(B)/bench/figure_,strict outage rediscost cold bounded onehost agentkill skew sync) \
           $(B)/bench/proof_fleet
$(FLEETED): $(call obj,$(FLEET)) $(RIG)
$(B)/bench/figure_skew $(B)/bench/proof_fleet: $(SKEW)
$(FLEETED): FLEET_LIBS = -lhiredis
$(B)/bench/figure_rediscost: $(call obj,$(wildcard bench/rediscost/*.c) agent/store/item.c)
$(B)/bench/figure_cold $(B)/bench/figure_sync: $(call obj,bench/rediscost/server.c)
$(B)/bench/figure_rediscost.o: $(B)/gen/agent/store/rl_sync.lua.h
$(B)/tests/fleet/%: $(B)/tests/fleet/%.o $(call obj,$(FLEET) bench/bench.c bench/judge.c) \
                    $(B)/libtest.a $(RIG)
	$(say) LINK $@
	$(LINK) $(filter %.o %.a,$^) $(LDFLAGS) -lcmocka -lyaml $(REDIS_LIBS) -ljansson -lm
$(B)/tests/fleet/test_fleet_skew: $(SKEW)
# Without the sanitizer: it goes into programs that have it, and into others.
$(B)/tests/skew/skew.so: tests/skew/skew.c
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -I. -fPIC $(WARN) -O2 -g -shared -o $@ $<

# What is killed is a worker of librl and the agent's own code.
KILL    := $(wildcard bench/kill/*.c)
$(B)/bench/figure_kill: $(call obj,$(KILL) agent/sweep.c agent/sync/slot.c agent/log.c)
$(B)/tests/proc/test_kill_steps: $(call obj,$(KILL) bench/bench.c)

# The counts in memory for tests/sys/test_memory.py.
FRONT    = $(B)/tests/memory/front

# The worker and the writer of tests/sys/test_hostile.py; guard.so without the sanitizer, as skew.so.
HOSTILE  = $(B)/tests/hostile/hostile $(B)/tests/hostile/guard.so
$(B)/tests/hostile/guard.so: tests/hostile/guard.c
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -fPIC $(WARN) -O2 -g -shared -o $@ $<

TEST_BIN := $(patsubst %.c,$(B)/%,$(TESTS))
# They need one processor at most, and whoever shares the machine with them changes nothing.
CALM     := $(filter $(B)/tests/unit/% $(B)/tests/proc/%,$(TEST_BIN))
RACE_BIN := $(patsubst %.c,build-tsan/%,$(wildcard tests/race/test_*.c))
TSAN     := -fsanitize=thread
ASAN     := -fsanitize=address,undefined -fno-sanitize-recover=all

# All of it once more as a release to come has it, whose segment is another: for upgrades.
ahead:
	@$(MAKE) B=$(B)/ahead SAN="$(SAN) -DRL_ABI_AHEAD" all
check: all ahead layers pairs headers plantable $(TEST_BIN) $(B)/tests/fault_proxy $(BRIDGE) $(HOSTILE) $(FRONT) model
	@$(MAKE) B=build-tsan SAN=$(TSAN) $(RACE_BIN)
	@BUILD=$(B) tests/run.sh $(filter-out $(CALM),$(TEST_BIN)) $(RACE_BIN) -2 $(CALM) $(SCRIPTS)
# The shim brings the sanitizer into servers that have none: it cannot come first there.
asan:
	@ASAN_OPTIONS=verify_asan_link_order=0 $(MAKE) B=build-asan SAN="$(ASAN)" sanitized
tsan:
	@$(MAKE) B=build-tsan SAN=$(TSAN) sanitized SCRIPTS=
sanitized: all ahead $(TEST_BIN) $(B)/tests/fault_proxy $(BRIDGE) $(HOSTILE) $(FRONT)
	@BUILD=$(B) tests/run.sh $(filter-out $(CALM),$(TEST_BIN)) -2 $(CALM) $(SCRIPTS)
# The files that meet the server. Nothing is installed for it: Debian 12 has none.
VALKEY    ?= valkey-server
ON_VALKEY := $(patsubst %,tests/sys/test_%.py,script redis sentinel lost fleet) \
             $(filter %/test_redis %/test_sync_kill $(B)/tests/fleet/%,$(TEST_BIN))
check-valkey: all $(TEST_BIN) $(B)/tests/fault_proxy
	@command -v $(VALKEY) >/dev/null || { echo "check-valkey needs $(VALKEY): Debian 13 has it; on" \
	  "Debian 12 add bookworm-backports to the sources of apt, then: apt-get update;" \
	  "apt-get install -t bookworm-backports valkey-server" >&2; exit 1; }
	@RL_TEST_REDIS_SERVER=$$(command -v $(VALKEY)) BUILD=$(B) tests/run.sh $(ON_VALKEY)
.PHONY: check-valkey
hostile:
	@ASAN_OPTIONS=verify_asan_link_order=0 $(MAKE) B=build-asan SAN="$(ASAN)" hostile-run
# The suite of every backend: make store STORE='unix:/run/redis.sock' (DESIGN, "Storage backends").
store: all $(BRIDGE)
	@BUILD=$(B) STORE='$(STORE)' tests/run.sh tests/sys/test_script.py tests/sys/test_fleet.py
hostile-run: all $(HOSTILE)
	@BUILD=$(B) HOSTILE_SECONDS=60 python3 tests/sys/test_hostile.py
clang:
	@$(MAKE) CC=clang B=build-clang all headers build-clang/tests/fault_proxy \
	  $(patsubst %.c,build-clang/%,$(TESTS) $(wildcard bench/figure_*.c))
# What needs no library of the target but cmocka: the segment and the client, not the agent.
ARM64 := $(patsubst %,build-arm64/tests/unit/test_%,algorithm client gcra hash rebase rules \
           segment sha256 side table terms window) build-arm64/tests/race/test_table_race
arm64:
	@$(MAKE) CC=aarch64-linux-gnu-gcc AR=aarch64-linux-gnu-ar B=build-arm64 PURE= \
	  TEST_LIBS='-lcmocka -lm' build-arm64/librl.so.1 build-arm64/librl-preload.so $(ARM64)
	@EMULATOR=qemu-aarch64 tests/run.sh $(ARM64)
mutants:
	@tests/mutants.sh
plantable:
	@tests/mutants.sh -n
model: $(B)/tests/model/claim spin-model
	@$< && ! $< BUG=withdraw-self >/dev/null && ! $< BUG=no-second-look >/dev/null && \
	  ! $< BUG=third-left-out >/dev/null && ! $< BUG=grown-asked-once >/dev/null
	@echo "model: the claim protocol holds, and all planted bugs are found"
MODELS := $(filter-out tests/model/weak.pml,$(wildcard tests/model/*.pml))
spin-model:
	@printf '%s\n' $(MODELS) | BUILD=$(B) xargs -n 1 -P 2 tests/model/run.sh
proof-model:
	@printf '%s\n' $(MODELS) | BUILD=$(B) xargs -n 1 tests/model/run.sh proof
headers:
	@$(CC) -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only client/rl.h
	@$(CXX) -std=c++11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x c++ client/rl.h

# Who may include whom: shm < client, agent, tools < tests, bench. agent and client never meet.
layers:
	@! grep -nE '^#include "' shm/*.[ch] | grep -vE '"shm/'
	@! grep -nE '^#include "' client/*.[ch] | grep -vE '"(client/rl(_client)?\.h|shm/)'
	@! grep -nE '^#include "' client/preload/*.[ch] | grep -vE '"client/(preload/|rl\.h)'
	@! grep -nE '^#include "' agent/*.[ch] agent/*/*.[ch] | grep -vE '"(agent|shm)/'
	@! grep -nE '^#include "' agent/redis/*.[ch] | grep -vE '"(agent/redis/|shm/)'
	@! grep -nE '^#include "' agent/memory/*.[ch] | \
	  grep -vE '"(agent/memory/|agent/store/(item|control)\.h|shm/)'
	@! grep -nE '^#include "' agent/store/*.[ch] | grep -vE '"(agent/(store|redis|memory)/|shm/)'
	@! grep -nE '^#include "' agent/sync/*.[ch] | \
	  grep -vE '"(agent/(sync|store|watch)/|agent/config/config\.h|agent/(listen|log)\.h|shm/)'
	@! grep -nE '^#include "' agent/watch/*.[ch] | grep -vE '"(agent/watch/|agent/log\.h|shm/)'
	@! grep -nE '^#include "' agent/orders/*.[ch] | \
	  grep -vE '"(agent/(orders|sync|store|config)/|agent/log\.h|shm/)'
	@! grep -nE '^#include "' agent/snapshot/*.[ch] | \
	  grep -vE '"(agent/snapshot/|agent/log\.h|shm/)'
	@! grep -nE '^#include "' tools/*.[ch] | grep -vE '"(tools/|shm/|client/rl\.h)'
pairs:
	@awk -f tests/pairs.awk shm/*.[ch] agent/*.[ch] agent/*/*.[ch] client/*.[ch] client/preload/*.[ch] tools/*.[ch]

FIGURES := $(patsubst bench/figure_%.c,figure-%,$(wildcard bench/figure_*.c))
bench: $(FIGURES) figure-durable
# Processes of two releases, boots of their own: a script, by what the system tests have.
figure-durable: all ahead
	@BUILD=$(B) python3 bench/figure_durable.py
$(FIGURES): figure-%: $(B)/bench/figure_%
	@$< $(FIGURE_ARGS)
PROOFS := proof-window proof-kill
proof: $(PROOFS) proof-model proof-fleet
$(PROOFS): proof-%: $(B)/bench/figure_%
	@$< all
proof-fleet: $(B)/bench/proof_fleet
	@$< $(CASES)

demo: all $(B)/bench/check_latency
	@BUILD=$(B) BREAK=$(BREAK) python3 tests/sys/demo.py

install: all
	install -D -m 644 client/rl.h $(DESTDIR)$(PREFIX)/include/rl.h
	install -D -m 644 $(B)/librl.a $(DESTDIR)$(PREFIX)/lib/librl.a
	install -D -m 755 $(B)/librl.so.1 $(DESTDIR)$(PREFIX)/lib/librl.so.1
	ln -sf librl.so.1 $(DESTDIR)$(PREFIX)/lib/librl.so
	install -D -m 755 $(B)/librl-preload.so $(DESTDIR)$(PREFIX)/lib/librl-preload.so
	install -D -m 755 $(B)/rl-agent $(DESTDIR)$(PREFIX)/sbin/rl-agent
	install -D -m 755 $(B)/rlctl $(DESTDIR)$(PREFIX)/bin/rlctl
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 docs/man/rlctl.1
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man3 docs/man/librl.3
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 docs/man/rl-agent.8
	install -d $(DESTDIR)$(PREFIX)/lib/pkgconfig
	printf 'prefix=%s\n\nName: rl\nDescription: %s\nVersion: %s\nCflags: %s\nLibs: %s\n' \
	  '$(PREFIX)' 'one rate limit for all the processes of a host' '$(VERSION)' \
	  '-I$${prefix}/include' '-L$${prefix}/lib -lrl' > $(DESTDIR)$(PREFIX)/lib/pkgconfig/rl.pc
fmt:
	clang-format -i $$(git ls-files '*.[ch]')
fmt-check:
	clang-format --dry-run -Werror $$(git ls-files '*.[ch]')
clean:
	rm -rf build build-asan build-tsan build-clang build-mutants build-arm64

.PHONY: all ahead figure-durable help check asan tsan sanitized clang mutants plantable model headers layers pairs bench proof \
        spin-model proof-model proof-fleet arm64 $(PROOFS) demo install fmt fmt-check clean $(FIGURES) \
        hostile hostile-run store
.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
