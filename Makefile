# What a person types. Everything lives in .venv and var; nothing is installed outside this folder.

PYTHON ?= python3
ADDRESS ?= 127.0.0.1:3000
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup
TOOLS := $(VENV)/.tools
# The go command of the machine, if there is one that is new enough; else the one that the [go] extra brought.
GO = $(shell sh bin/find-go $(VENV))
# The servers that the tests of the storages talk to; those that are missing are installed, where that can be done, and
# those that can't be had are left out. `make test SERVERS=` installs nothing.
SERVERS ?= s3 gcs azure mongo minio postgres mariadb redis redis-sentinel redis-cluster etcd

.PHONY: help setup serve test check format bench lock clean

help:
	@echo "make serve   set up and run the proxy on http://$(ADDRESS), modules in ./var/storage, or as ./athens.toml says"
	@echo "make test    set up and run the tests"
	@echo "make setup   only set up: $(BIN)/athens-tx and $(BIN)/twistd work afterwards"
	@echo "make check   lint, formatting and types"
	@echo "make bench   measure"
	@echo "make lock    pin the dependencies anew, from the ranges in setup.cfg"

setup: $(SETUP)

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "athens-tx needs Python 3.11 or newer; say make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(SETUP): $(VENV)/pyvenv.cfg setup.cfg requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --config-settings editable_mode=compat -e .
	@sh bin/find-go $(VENV) >/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check -e '.[go]' --config-settings editable_mode=compat
	@touch $(SETUP)

$(TOOLS): $(SETUP) requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $(TOOLS)

# Where there is an athens.toml, it says everything; else these are the settings. Variables win over both.
serve: $(SETUP)
	@if test -e athens.toml; then \
	    test "$(GO)" = "$$(command -v go)" || grep -qi '^ *GoBinary *=' athens.toml || \
	        export GO_BINARY_PATH="$${GO_BINARY_PATH:-$(GO)}"; \
	else \
	    mkdir -p var/storage var/tmp var/sumdb || exit 1; \
	    upstream="$$($(GO) env GOPROXY)"; \
	    case "$$upstream" in *//$(ADDRESS)*) upstream="$$(env -u GOPROXY $(GO) env GOPROXY)";; esac; \
	    export GO_BINARY_PATH="$${GO_BINARY_PATH:-$(GO)}" ATHENS_PORT="$${ATHENS_PORT:-$(ADDRESS)}"; \
	    export ATHENS_GO_BINARY_ENV_VARS="$${ATHENS_GO_BINARY_ENV_VARS:-GOPROXY=$$upstream}"; \
	    export ATHENS_STORAGE_TYPE="$${ATHENS_STORAGE_TYPE:-disk}" ATHENS_LOG_LEVEL="$${ATHENS_LOG_LEVEL:-info}"; \
	    export ATHENS_DISK_STORAGE_ROOT="$${ATHENS_DISK_STORAGE_ROOT:-$(CURDIR)/var/storage}"; \
	    export ATHENS_GOGET_DIR="$${ATHENS_GOGET_DIR:-$(CURDIR)/var/tmp}"; \
	    export ATHENS_SUM_DB_CACHE_DIR="$${ATHENS_SUM_DB_CACHE_DIR:-$(CURDIR)/var/sumdb}"; \
	fi; \
	exec $(BIN)/athens-tx serve

test: $(TOOLS)
	@rm -f .coverage .coverage.*
	@export PATH="$(dir $(GO)):$$PATH" && \
	{ test -z "$(SERVERS)" || $(BIN)/python -m tests.support.servers install $(SERVERS) || true; } && \
	$(if $(TESTS),$(BIN)/coverage run -m pytest $(TESTS),sh bin/run-tests $(BIN)/coverage) && \
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report $(if $(TESTS),--fail-under=0)

check: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(TOOLS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(TOOLS)
	@export PATH="$(dir $(GO)):$$PATH" && $(BIN)/python -m bench $(ARGS)

# Needs pip-tools. The locks name no index, so they hold wherever the packages come from. What the tests want pinned lower
# holds for both: the first lock is within the second. [all] would name this project, which has no hash.
lock: BACKENDS := --extra azure --extra gcp --extra mongo --extra mysql --extra postgres --extra redis --extra s3
lock:
	$(BIN)/pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-header \
	    $(BACKENDS) --extra test --extra lint -o requirements-dev.lock setup.cfg
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-header \
	    $(BACKENDS) -c requirements-dev.lock -o requirements.lock setup.cfg

clean:
	rm -rf $(VENV) build *.egg-info .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache
