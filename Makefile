# platter: one library, one program, their tests.  Everything is built under $(O), so a build with
# other flags is only another folder:  make O=build/clang CC=clang
#
#   make            program, libraries, installable header      make check    every test
#   make test       unit and command-line tests only            make style    the style checks
#   make demo       a tour of the program                       make tidy     clang-format, clang-tidy
#   make bench      measure                                     make fuzz     FUZZ_SECONDS per target
#   make install    PREFIX, DESTDIR, BINDIR, LIBDIR, INCLUDEDIR, MANDIR; `make uninstall` undoes it
#
# T=PATTERN selects tests (make check T=qcow2), V=1 shows the commands, WERROR= keeps warnings warnings.

VERSION   := $(shell sed -n 's/^.define PL_VERSION "\(.*\)"/\1/p' include/platter.h)
SOVERSION := 0

O          ?= build
CFLAGS     ?= -O2 -g
WERROR     ?= -Werror
CLANG      ?= clang
PKG_CONFIG ?= pkg-config

PREFIX     ?= /usr/local
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR     ?= $(PREFIX)/share/man
COMPDIR    ?= $(PREFIX)/share/bash-completion/completions

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# ---- sources -------------------------------------------------------------------------------------
find = $(shell find $(wildcard $(1)) -name '$(2)' 2>/dev/null | LC_ALL=C sort)

lib_src     := $(if $(wildcard core formats),$(call find,core formats,*.c))
cli_src     := $(wildcard cli/*.c)
support_src := $(wildcard tests/support/*.c)
unit_src    := $(if $(wildcard tests/unit),$(call find,tests/unit,test_*.c))
alone_src   := $(wildcard tests/crash/*.c tests/random/*.c)
fuzz_src    := $(wildcard tests/fuzz/fuzz_*.c)
record_src  := $(filter-out tests/programs/guest.c,$(wildcard tests/programs/*.c))
guest_src   := $(wildcard tests/programs/guest.c)
tsan_src    := $(sort $(foreach s,$(unit_src),$(if $(findstring threads,$(notdir $(s))),$(s))) \
                 $(shell sed 's/\#.*//' tests/tsan.list 2>/dev/null))
headers     := $(wildcard include/*.h) $(if $(wildcard core),$(call find,core,*.h))
man_pages   := $(wildcard docs/man/*.1)
completion  := $(wildcard cli/completion.bash)

obj = $(patsubst %.c,$(O)/obj/%.o,$(1))
bin = $(patsubst %.c,$(O)/%,$(1))

# ---- flags ---------------------------------------------------------------------------------------
lib_pkgs  := libdeflate zlib libzstd libcrypto uuid jansson libxml-2.0 libarchive
test_pkgs := cmocka

# Targets that compile nothing work without the libraries.
ifneq ($(filter-out clean uninstall style format,$(or $(MAKECMDGOALS),all)),)
  ifneq ($(shell $(PKG_CONFIG) --exists $(lib_pkgs) && echo yes),yes)
    $(error libraries are missing (wanted: $(lib_pkgs)): run ./setup build)
  endif
  pkg_cflags := $(shell $(PKG_CONFIG) --cflags $(lib_pkgs))
  pkg_libs   := $(shell $(PKG_CONFIG) --libs $(lib_pkgs))
  test_libs  := $(shell $(PKG_CONFIG) --libs $(test_pkgs) 2>/dev/null)
endif

warnings := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wvla -Wstrict-prototypes \
            $(if $(findstring clang,$(CC)),-Wthread-safety) $(WERROR)
# glibc's checked functions need an optimising compiler and hide errors from the sanitizers.
fortify  := $(if $(findstring -fsanitize,$(CFLAGS)),,$(if $(filter -O1 -O2 -O3 -Os -Og,$(CFLAGS)),\
            -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2))
cppflags := -I. -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 $(fortify) $(pkg_cflags) $(CPPFLAGS)
cflags   := -std=gnu17 $(warnings) -fPIC -fvisibility=hidden -fstack-protector-strong -pthread $(CFLAGS)
ldflags  := -pthread -Wl,--as-needed -Wl,-z,relro -Wl,-z,now $(CFLAGS) $(LDFLAGS)

ifeq ($(V),)
  say = @printf '  %-5s %s\n' '$(1)' '$@';
endif

# ---- what is built -------------------------------------------------------------------------------
program := $(O)/platter
archive := $(O)/libplatter.a
shared  := $(O)/libplatter.so.$(VERSION)
header  := $(O)/include/platter.h
support := $(O)/tests/support.a
unit    := $(call bin,$(unit_src) $(alone_src))
tsan    := $(call bin,$(tsan_src))
fuzz    := $(call bin,$(fuzz_src))
# What the tests run and preload beside the program.  Sanitizers do not go with preloading.
helpers := $(if $(findstring -fsanitize,$(CFLAGS)),,$(call bin,$(guest_src)) \
             $(if $(record_src),$(O)/tests/programs/record.so))

.PHONY: all lib tests fuzzers check test stage fuzz bench demo style tidy format install uninstall clean \
        asan-tree tsan-tree fuzz-tree FORCE
all: lib $(if $(cli_src),$(program)) $(if $(wildcard include/platter.h),$(header)) $(O)/platter.pc
lib: $(archive) $(shared)
tests: $(unit) $(helpers)
fuzzers: $(fuzz)

# Two stamps change only when their text does: the flags (then everything is compiled again) and
# the list of sources (then everything is linked again, also when a file has gone).
stamp = @mkdir -p $(@D); printf '%s\n' $(1) | cmp -s - $@ || printf '%s\n' $(1) >$@
quote = '$(subst ','\'',$(1))'

$(O)/flags: FORCE
	$(call stamp,$(call quote,$(CC) $(cppflags) $(cflags) $(ldflags)))
$(O)/sources: FORCE
	$(call stamp,$(call quote,$(lib_src) $(cli_src) $(support_src) $(record_src)))

$(O)/obj/%.o: %.c $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(cppflags) $(cflags) -MMD -MP -c -o $@ $<

$(archive): $(call obj,$(lib_src)) $(O)/sources
	$(call say,AR)rm -f $@ && $(AR) rcs $@ $(filter %.o,$^)

$(shared): $(call obj,$(lib_src)) $(O)/sources
	$(call say,LD)$(CC) -shared -Wl,-soname,libplatter.so.$(SOVERSION) -Wl,--no-undefined \
	    $(ldflags) -o $@ $(filter %.o,$^) $(pkg_libs)
	@ln -sf $(@F) $(O)/libplatter.so.$(SOVERSION)
	@ln -sf libplatter.so.$(SOVERSION) $(O)/libplatter.so

$(program): $(call obj,$(cli_src)) $(archive)
	$(call say,LD)$(CC) $(ldflags) -o $@ $(filter %.o,$^) $(archive) $(pkg_libs)

$(header): include/platter.h $(headers) tools/flatten-header
	@mkdir -p $(@D)
	$(call say,GEN)tools/flatten-header include/platter.h >$@

$(O)/platter.pc: tools/platter.pc.in Makefile FORCE
	$(call stamp,"$$(sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
	    -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@VERSION@|$(VERSION)|' \
	    -e 's|@REQUIRES@|$(lib_pkgs)|' $<)")

# ---- test programs -------------------------------------------------------------------------------
$(support): $(call obj,$(support_src)) $(O)/sources
	@mkdir -p $(@D)
	$(call say,AR)rm -f $@ && $(AR) rcs $@ $(filter %.o,$^)

$(unit): $(O)/%: $(O)/obj/%.o $(support) $(archive)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(ldflags) -o $@ $< $(support) $(archive) $(pkg_libs) $(test_libs)

$(fuzz): $(O)/%: $(O)/obj/%.o $(support) $(archive)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(ldflags) -fsanitize=fuzzer -o $@ $< $(support) $(archive) $(pkg_libs) \
	    $(test_libs)

$(O)/tests/programs/guest: $(O)/obj/tests/programs/guest.o $(archive)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(ldflags) -o $@ $< $(archive) $(pkg_libs)

# It defines both names of calls that have two, so none may stand for the other.
$(call obj,$(record_src)): cppflags += -U_FILE_OFFSET_BITS -U_FORTIFY_SOURCE
$(O)/tests/programs/record.so: $(call obj,$(record_src)) $(O)/sources
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -shared $(ldflags) -o $@ $(filter %.o,$^) -ldl

# The same sources with other flags: this Makefile again, with another $(O).
sanitize := -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all
asan-tree:
	+@$(MAKE) O=$(O)/asan CFLAGS='$(sanitize) -fsanitize=address,undefined' WERROR= \
	    $(if $(cli_src),$(O)/asan/platter) tests
tsan-tree:
	+@$(if $(tsan_src),$(MAKE) O=$(O)/tsan CFLAGS='$(sanitize) -fsanitize=thread' WERROR= \
	    $(patsubst %.c,$(O)/tsan/%,$(tsan_src)))
# Without clang and its fuzzing library tests/run says that the targets are skipped.
fuzz_probe := int LLVMFuzzerTestOneInput(void); int LLVMFuzzerTestOneInput(void) { return 0; }
fuzz-tree:
	+@if echo '$(fuzz_probe)' | $(CLANG) -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null; \
	then $(MAKE) O=$(O)/fuzz CC=$(CLANG) WERROR= fuzzers \
	    CFLAGS='$(sanitize) -fsanitize=fuzzer-no-link,address,undefined'; fi

# ---- running things ------------------------------------------------------------------------------
# What `make install` puts in place, for the tests to look at.
stage: all
	@rm -rf $(O)/stage
	+@$(MAKE) -s install DESTDIR=$(abspath $(O))/stage PREFIX=/usr BINDIR=/usr/bin LIBDIR=/usr/lib \
	    INCLUDEDIR=/usr/include MANDIR=/usr/share/man >/dev/null

check: stage tests asan-tree tsan-tree fuzz-tree
	@O=$(O) tests/run $(T)

test: stage tests
	@O=$(O) tests/run --suites unit,cli,docs $(T)

fuzz: fuzz-tree
	@O=$(O) FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) tools/fuzz $(T)

bench: all
	@O=$(O) bench/run $(BENCH_ARGS)

demo: all
	@O=$(O) tools/demo

style:
	@tools/style
	@if [ -x ../shared/tools/measure_style.sh ]; then ../shared/tools/measure_style.sh . \
	    --skip '^build' --check; fi

c_files = $(lib_src) $(cli_src) $(headers) $(unit_src) $(alone_src) $(fuzz_src) $(support_src) \
          $(record_src) $(guest_src) \
          $(wildcard examples/*.c formats/*/*.h cli/*.h tests/support/*.h tests/programs/*.h)
tidy:
	clang-format --dry-run --Werror $(c_files)
	clang-tidy --quiet $(lib_src) $(cli_src) -- $(cppflags) -std=gnu17 -pthread
format:
	clang-format -i $(c_files)

# ---- installing ----------------------------------------------------------------------------------
install: all
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR)
	install -m 755 $(program) $(DESTDIR)$(BINDIR)/platter
	install -m 644 $(archive) $(DESTDIR)$(LIBDIR)/libplatter.a
	install -m 755 $(shared) $(DESTDIR)$(LIBDIR)/$(notdir $(shared))
	ln -sf $(notdir $(shared)) $(DESTDIR)$(LIBDIR)/libplatter.so.$(SOVERSION)
	ln -sf libplatter.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/libplatter.so
	install -m 644 $(O)/platter.pc $(DESTDIR)$(LIBDIR)/pkgconfig/platter.pc
	install -m 644 $(header) $(DESTDIR)$(INCLUDEDIR)/platter.h
ifneq ($(man_pages),)
	install -d $(DESTDIR)$(MANDIR)/man1
	install -m 644 $(man_pages) $(DESTDIR)$(MANDIR)/man1
endif
ifneq ($(completion),)
	install -d $(DESTDIR)$(COMPDIR)
	install -m 644 $(completion) $(DESTDIR)$(COMPDIR)/platter
endif

uninstall:
	rm -f $(DESTDIR)$(BINDIR)/platter $(DESTDIR)$(INCLUDEDIR)/platter.h \
	    $(addprefix $(DESTDIR)$(LIBDIR)/,$(notdir $(shared)) libplatter.so.$(SOVERSION) \
	        libplatter.so libplatter.a pkgconfig/platter.pc) \
	    $(addprefix $(DESTDIR)$(MANDIR)/man1/,$(notdir $(man_pages))) $(DESTDIR)$(COMPDIR)/platter

clean:
	rm -rf $(O)

-include $(patsubst %.o,%.d,$(call obj,$(lib_src) $(cli_src) $(support_src) $(unit_src) \
           $(alone_src) $(fuzz_src) $(record_src) $(guest_src)))
