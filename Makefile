# regcrm: builds with PGXS; see docs/internals.md for what each source file owns.
#
#   make                 build (PG_CONFIG=... chooses the PostgreSQL)
#   make install         install into that PostgreSQL
#   make check           everything that tests, in servers of its own (test/check)
#   make check-deep      what takes long: the whole fault matrix, soaks, sqlsmith, the
#                        dashboards in a real browser (test/check-deep)
#   make check-versions  the suite on PostgreSQL 15, 17 and 18, the others in small Debians
#                        of their suites that debootstrap makes (test/check-versions)
#   make fuzz            the fuzzers of test/fuzz, ten minutes each; FUZZ_SECONDS says otherwise
#   make unit            the pure C unit tests only, with sanitizers
#   make lint            cppcheck, shellcheck, plpgsql_check and how sources look
#   make coverage        which lines the tests reach; fails where the judge, the calendar, the
#                        gate or the ledger have one that has no test and no reason
#   make bench           measurements beside what regcrm is to be compared with (test/bench/run,
#                        docs/performance.md); BENCH_SCALE=1 is the full size
#   make demo            a small warehouse to look at; make demo-stop removes it
#   make dashboards      its dashboards, on the loopback interface; make dashboards-stop ends them
#
# WERROR= (empty) keeps a compiler newer than those tried from failing the build.

# These goals bring or need no PostgreSQL headers when make starts: test/check
# installs what is missing first.  So they stay out of PGXS, which also has a
# target "check" of its own.
own_goals = check check-deep check-versions fuzz unit lint coverage bench demo demo-stop dashboards dashboards-stop

ifneq (,$(filter $(own_goals),$(MAKECMDGOALS)))

.PHONY: $(own_goals)

check:
	@test/check

check-deep:
	@test/check-deep

check-versions:
	@test/check-versions

fuzz:
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-600} FUZZ_KEEP=$${FUZZ_KEEP-1} test/fuzz/run

unit:
	@test/unit/run

lint:
	@test/check lint

coverage:
	@test/coverage

bench:
	@test/bench/run

demo:
	@test/demo/run

demo-stop:
	@test/demo/stop

dashboards:
	@dashboards/run

dashboards-stop:
	@dashboards/stop

else

EXTENSION = regcrm
MODULE_big = regcrm
PGFILEDESC = "regcrm - a sales regulation inside the warehouse"

# The version is written once, in the control file.
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" regcrm.control)

# Every file of src/ belongs to the one library, and no file lies there that
# does not: a list by hand could only forget one.
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))

# The script is put together in the order of the numbers.
SCRIPT_PARTS = $(sort $(wildcard ext/[0-9]*.sql))
DATA_built = regcrm--$(EXTVERSION).sql
DATA = $(wildcard regcrm--*--*.sql)

# For "make installcheck" against an installation; "make check" needs none.
REGRESS := $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))
REGRESS_OPTS = --inputdir=. --outputdir=. --no-locale --encoding=UTF8
ISOLATION := $(patsubst specs/%.spec,%,$(sort $(wildcard specs/*.spec)))
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl
PROVE_FLAGS = -I test/t
EXTRA_CLEAN = tmp_check

WERROR ?= -Werror
# unused-parameter: the server's inline functions and each SQL function without
# arguments; sign-compare and missing-field-initializers: macros of its headers.
# The last three let clang take the headers and flags of a server that was
# configured for gcc, as Debian's is; gcc passes over names that it does not know.
PG_CFLAGS = -Wall -Wextra $(WERROR) -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-ignored-attributes \
	-Wno-unknown-warning-option -Wno-ignored-optimization-argument
PG_CPPFLAGS = -DREGCRM_VERSION='"$(EXTVERSION)"' $(CURL_CFLAGS)

# libcurl by whichever of its two tools is there.
CURL_CFLAGS := $(shell pkg-config --cflags libcurl 2>/dev/null || curl-config --cflags)
SHLIB_LINK := $(shell pkg-config --libs libcurl 2>/dev/null || curl-config --libs)

ifeq ($(shell uname -s),Linux)
SHLIB_LINK += -Wl,--version-script=src/exports.map
endif

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(DATA_built): $(SCRIPT_PARTS) Makefile regcrm.control
	cat $(SCRIPT_PARTS) /dev/null > $@

$(MODULE_big)$(DLSUFFIX): src/exports.map

# PGXS follows headers only where PostgreSQL was configured to; the sources are
# few, so any header or a changed Makefile rebuilds them all.
$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*.h) Makefile regcrm.control

# A second compiler's opinion, without building anything.
SYNTAX_CC ?= clang
SYNTAX = $(patsubst %.c,%.syntax,$(sort $(wildcard src/*.c)))
.PHONY: syntax $(SYNTAX)
syntax: $(SYNTAX)
$(SYNTAX): %.syntax: %.c
	$(SYNTAX_CC) -fsyntax-only $(CPPFLAGS) $(PG_CFLAGS) -Wmissing-prototypes \
		-Wpointer-arith -Wdeclaration-after-statement -Wendif-labels $<

endif
