# Two commands set everything up: `make demo` and `make test`. `make help` lists the others.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Real data for some tests and benchmarks; tests that need it skip, visibly, where it is missing.
export DPSR_DATA ?= $(abspath ../shared/data)
export TF_CPP_MIN_LOG_LEVEL ?= 3

CORE_TESTS := $(MAKE) --no-print-directory -j$(shell nproc)
CC_SOURCES := $(shell find tokenizer_cc ops_cc serving -name '*.cc' -o -name '*.h' -o -name '*.inc' 2>/dev/null)
PY_FOLDERS := baselines cli cluster config data evaluation indexing model ops_cc page serving tokenizer_cc training

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.built ## the whole path on a generated shop: log, dataset, model, servable, answers
	$(BIN)/dpsr demo

.PHONY: test
test: $(VENV)/.dev ## the whole test suite, C++ and Python
	$(CORE_TESTS) -C tokenizer_cc/core test
	$(CORE_TESTS) -C ops_cc/core test
	$(CORE_TESTS) -C serving/engine/native test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" -rs
	@$(CORE_TESTS) -s -C tokenizer_cc/core skipped
	@$(CORE_TESTS) -s -C ops_cc/core skipped
	@$(CORE_TESTS) -s -C serving/engine/native skipped

.PHONY: check
check: lint ## in a minute: lint, the C++ cores, and the tests that need neither TensorFlow nor a server
	$(CORE_TESTS) -C tokenizer_cc/core test
	$(CORE_TESTS) -C ops_cc/core test
	$(CORE_TESTS) -C serving/engine/native test
	$(BIN)/python -m pytest --light -n auto -m "not slow"

.PHONY: test-slow
test-slow: $(VENV)/.dev ## the exhaustive tests and sanitizer runs; those of Spark want Java
	$(PIP) install -q --no-build-isolation -e '.[dev,spark]'
	$(CORE_TESTS) -C tokenizer_cc/core sanitize
	$(CORE_TESTS) -C ops_cc/core sanitize
	$(CORE_TESTS) -C serving/engine/native sanitize
	$(CORE_TESTS) -C serving/engine/native/transport sanitize
	$(BIN)/python -m pytest -m slow

.PHONY: fuzz
fuzz: ## ten minutes of libFuzzer over each tokenizer, each core of a search and the readers of requests, address and undefined-behaviour sanitizers
	$(MAKE) --no-print-directory -C tokenizer_cc/core fuzz
	$(MAKE) --no-print-directory -C ops_cc/core fuzz
	$(MAKE) --no-print-directory -C serving/engine/native fuzz

.PHONY: bench
bench: $(VENV)/.dev ## the benchmarks, one table each; the peers come with it
	$(PIP) install -q --no-build-isolation -e '.[dev,bench]'
	@for script in $(filter-out $(BENCH_CLUSTER) $(BENCH_OF_RUNS),$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# These are told on the command line which runs or sets to measure.
BENCH_OF_RUNS := $(addprefix benchmarks/,click_memory.py compare_models.py labelled_sets.py large_shop.py lm_stages.py servable_modes.py wikiqa.py)
BENCH_CLUSTER := $(addprefix benchmarks/cluster_,quality.py kills.py memory.py)
.PHONY: bench-cluster
bench-cluster: $(VENV)/.dev ## whole trainings on a local cluster: quality 15 min, kills 6 min, memory 13 min
	@for script in $(BENCH_CLUSTER); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

.PHONY: bench-large
bench-large: $(VENV)/.dev ## the index over 15 million items; wants a quiet machine with 16 GB free
	$(BIN)/python benchmarks/index.py --items 15000000 --precision int8

.PHONY: lint
lint: $(VENV)/.dev ## ruff, mypy and clang-format
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $(filter %.cc %.h,$(CC_SOURCES))
	@mkdir -p build/mypy && ln -sfn ../.. build/mypy/dpsr
	cd build/mypy && ../../$(BIN)/mypy -m dpsr -m dpsr.errors -m dpsr.processes -m dpsr.train $(addprefix -p dpsr.,$(PY_FOLDERS))

.PHONY: format
format: $(VENV)/.dev ## rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(filter %.cc %.h,$(CC_SOURCES))

.PHONY: deps-cc
deps-cc: ## system packages for the C++ unit tests, sanitizers and the fuzzer (Debian, Ubuntu; needs root)
	apt-get update -qq
	apt-get install -y -qq libgtest-dev clang

.PHONY: bazel
bazel: $(VENV)/.requirements ## build and test the C++ code by Bazel (BUILD.md)
	bazel test //tokenizer_cc/...
	bazel build //:dpsr_ops
	cd deploy/bazel/linked_binary && bazel run //:linked_ops

.PHONY: deps-bazel
deps-bazel: ## Debian's Bazel (needs root)
	apt-get update -qq
	apt-get install -y -qq bazel-bootstrap bazel-rules-java

.PHONY: deps-fleet
deps-fleet: ## the proxy of a fleet, HAProxy, and promtool, which tests its alerts (Debian, Ubuntu; needs root)
	apt-get update -qq
	apt-get install -y -qq haproxy
# Of the package of Prometheus the one program: the whole would start a server.
	folder=$$(mktemp -d) && chmod 755 $$folder && cd $$folder && apt-get download -qq prometheus \
	  && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool > promtool \
	  && install promtool /usr/local/bin/promtool && rm -r $$folder

.PHONY: deps-page
deps-page: ## the browser of the page's tests, Chromium, its driver, and a font of Chinese titles (Debian, Ubuntu; needs root)
	apt-get update -qq
# Ubuntu has the browser as a snap alone, which its packages of other names install.
	apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-wqy-microhei \
	  || apt-get install -y -qq chromium-browser chromium-chromedriver fonts-wqy-microhei

.PHONY: deps-native
deps-native: ## gRPC's C++ library, for the native data plane; the next build takes it up (Debian, Ubuntu; needs root)
	apt-get update -qq
	apt-get install -y -qq libgrpc++-dev
	rm -f $(VENV)/.built

.PHONY: clean
clean: ## remove everything that make made
	rm -rf $(VENV) build dist *.egg-info ops_cc/*.so serving/engine/*.so tokenizer_cc/*.so ops_cc/_build_info.py

# The C++ code compiles against the installed TensorFlow, which comes first; the build runs without isolation.
$(VENV)/.requirements: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "dpsr needs Python 3.11 or newer; call: make PYTHON=python3.11 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "no venv module; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@command -v g++ >/dev/null || { echo "no g++; on Debian and Ubuntu: apt-get install g++"; exit 1; }
	$(PIP) install -q $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])') wheel
	@touch $@

$(VENV)/.built: $(VENV)/.requirements setup.py __init__.py $(CC_SOURCES)
	$(PIP) install -q --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.built
	$(PIP) install -q --no-build-isolation -e '.[dev]'
	@touch $@
