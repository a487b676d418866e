# make              librl.a, librl.so.1, librl-preload.so, rl-agent and rlctl into build/
# make demo         nginx behind one limit, real traffic, a worker and the agent killed
#                   (BREAK=nolimit shows that the demo can fail)
# make check        every test, and the layers and pairs checks; ends "N passed, N failed"
# make asan|tsan    the tests under a sanitizer, in a build folder of their own
# make clang        everything built by clang as well; warnings are errors in both
# make mutants      plant one-line bugs one after the other: each must turn a test red
# make model        random interleavings of the claim protocol, and its planted bugs
# make bench        all figures;  make figure-NAME: one of window hit
# make proof        all long proofs;  make proof-NAME: one of window
# make layers       who may include whom;  make pairs: both ends of every ordered atomic
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
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -DRL_VERSION='"$(VERSION)"' -I. -fPIC -fvisibility=hidden \
             -pthread -MMD -MP $(WARN) $(SAN) $(CFLAGS)
Q        = $(if $(V),,@)
say      = @$(if $(V),:,echo ' ')
LINK     = $(Q)$(CC) $(SAN) $(CFLAGS) -pthread -o $@

SHM     := $(wildcard shm/*.c)
CLIENT  := $(wildcard client/*.c)
PRELOAD := $(wildcard client/preload/*.c)
AGENT   := $(wildcard agent/*.c)
TOOLS   := $(wildcard tools/*.c)
TESTS   := $(wildcard tests/unit/test_*.c tests/race/test_*.c tests/proc/test_*.c)
SCRIPTS := $(wildcard tests/sys/test_*.py)
obj      = $(patsubst %.c,$(B)/%.o,$(1))

all: $(B)/librl.a $(B)/librl.so.1 $(B)/librl-preload.so $(B)/rl-agent $(B)/rlctl

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(say) CC $@
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

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
	$(LINK) $^ $(LDFLAGS) -lyaml -levent_core
$(B)/rlctl: $(call obj,$(TOOLS)) $(B)/librl.a
	$(say) LINK $@
	$(LINK) $^ $(LDFLAGS) -ljansson
