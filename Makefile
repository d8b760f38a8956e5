# `make demo` and `make test` set up everything they need on a fresh machine.
#
#   PYTHON=python3.12        another interpreter (3.11 or later)
#   TORCH_INDEX=URL          index with the CPU build of PyTorch, where plain pip would fetch the CUDA one
#   STUDY=folder             `make demo` with a study of your own

PYTHON ?= python3
STUDY ?=
SECONDS ?= 60
INSTANCES ?= 20000
MINUTES ?= 30
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PEERS := dcmtk orthanc orthanc-dicomweb postgresql libpixelmed-java default-jdk-headless plastimatch strace poppler-utils chromium systemd openssl rsyslog rsyslog-gnutls nftables prometheus
IS_ROOT := $(shell [ "$$(id -u)" = 0 ] && command -v apt-get)
TORCH_PIN := torch==2.13.0
RUN_PYTEST := PYTHONSAFEPATH= $(BIN)/python -m pytest

VIEWERS := .viewers
OHIF := $(shell sed -n 's/.*"viewer": "\(.*\)".*/\1/p' tests/browser/package.json)

.PHONY: help setup setup-dev peers viewers demo test test-fast lint docs bench conformance product chaos corrections scenarios fuzz soak bundle bundle-test deb sbom audit clean

help:
	@sed -n 's/^## //p' Makefile

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; name one with PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { [ -n "$(IS_ROOT)" ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; } || \
	  { echo "Python's venv module is missing: install python3-venv (Debian) and call make again"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.node: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.node
	$(PIP) install -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH_PIN)
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(VENV)/.node
setup-dev: $(VENV)/.dev

## make peers        install the real peers the tests talk to (Debian, as root)
peers:
	@if [ -z "$(IS_ROOT)" ]; then \
	  echo "not root or no apt-get: tests whose peer is missing skip. For all of them: apt-get install $(PEERS)"; \
	elif ! dpkg -s $(PEERS) >/dev/null 2>&1; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $(PEERS) >/dev/null; \
	fi

	@if [ -n "$(IS_ROOT)" ] && ! command -v npm >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null; \
	fi

$(VIEWERS)/.done: tests/browser/package.json
	@rm -rf $(VIEWERS) && mkdir -p $(VIEWERS) && cp tests/browser/package.json $(VIEWERS)/
	cd $(VIEWERS) && npm install --silent --ignore-scripts --no-audit --no-fund --no-package-lock
	cd $(VIEWERS) && npm pack --silent $(OHIF) >/dev/null && tar xzf ohif-app-*.tgz --exclude='*/ort/*' package/dist && rm ohif-app-*.tgz
	@touch $@

## make viewers      the viewers tests/browser opens results in (npm; kept in .viewers)
viewers:
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(VIEWERS)/.done; \
	else echo "no npm: tests/browser skips"; fi

## make demo         a stroke study goes in by C-STORE, results come out in a PACS, committed (STUDY=folder for your own)
demo: setup
	$(BIN)/python -m demo $(if $(STUDY),--study '$(STUDY)')

## make test         everything: lint, types, tests
test: setup-dev peers viewers lint
	$(RUN_PYTEST) -q -n 2 --dist loadfile --no-loadscope-reorder --durations=40 -m 'not serial'
	$(RUN_PYTEST) -q --durations=20 -m serial $$(grep -rl --include='test_*.py' 'mark\.serial' tests)

## make test-fast    the parts by themselves, in under three minutes
test-fast: setup-dev
	$(RUN_PYTEST) -q -n 2 --dist loadfile -m 'not slow and not serial' tests/unit

## make lint         ruff and mypy
lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## make docs         regenerate the generated pages
docs: setup
	$(BIN)/python -m node.manual > docs/error-codes.md
	$(BIN)/python -m node.soup > docs/regulatory/soup.md
	$(BIN)/python -m models.export.table docs/models.md

## make conformance  result objects before the external judges
conformance: setup-dev peers viewers
	$(RUN_PYTEST) -q tests/conformance tests/browser

## make product      every kind of object, of every real study, under five names, before the full judge (half an hour; needs ../shared)
product: setup-dev peers
	$(BIN)/python -m tests.conformance.product docs/conformance-product.md

## make chaos        kill -9, power cut, failing disk at every step; renews the tables of docs/durability.md
chaos: setup-dev peers
	AINODE_PUBLISH=1 $(RUN_PYTEST) -q -s tests/chaos

## make corrections  patient, order or study corrected before, during, after the run; renews docs/corrections.md
corrections: setup-dev
	AINODE_PUBLISH=1 $(RUN_PYTEST) -q tests/integration/test_corrections.py tests/integration/test_corrections_node.py

## make scenarios    every way a study comes; renews the table of docs/arrival.md
scenarios: setup-dev
	AINODE_PUBLISH=1 $(RUN_PYTEST) -q -s tests/arrival

## make fuzz         SECONDS=60 of bytes nobody would send, for each parser and a live receiver
fuzz: setup-dev
	AINODE_FUZZ_SECONDS=$(SECONDS) $(RUN_PYTEST) -q -s tests/fuzz

## make soak         INSTANCES=20000 images into two receivers, at most MINUTES=30; fails where anything grows
soak: setup-dev
	PYTHONSAFEPATH= $(BIN)/python -m tests.soak --instances $(INSTANCES) --minutes $(MINUTES)

## make bench        measure beside DCMTK and Orthanc, on a quiet machine; writes bench/results.json
bench: setup-dev peers
	PYTHONSAFEPATH= $(BIN)/python -m tests.bench

## make bundle       the offline bundle in dist/ (KEY=release.key signs it, WHEELS=folder takes wheels fetched before)
bundle: setup-dev
	$(BIN)/python -m release.bundle --out dist $(if $(KEY),--key '$(KEY)') $(if $(WHEELS),--wheels '$(WHEELS)') $(if $(EXTRA),--extra $(EXTRA))
	$(BIN)/python -m release.wheel_tags dist/ainode-$$($(BIN)/python -m release.version)/wheels

## make deb          the Debian package of that bundle
deb: bundle
	$(BIN)/python -m release.deb dist/ainode-$$($(BIN)/python -m release.version)
	@if command -v lintian >/dev/null; then lintian --tag-display-limit 0 --fail-on error dist/ainode_$$($(BIN)/python -m release.version)_amd64.deb; fi

## make bundle-test  the documentation's own commands in a bare Debian 12 tree with systemd (as root; debootstrap, systemd-nspawn)
bundle-test: bundle
	$(BIN)/python -m release.bare_debian dist/ainode-$$($(BIN)/python -m release.version)

## make sbom         the bill of materials of this environment, CycloneDX JSON
sbom: setup-dev
	@mkdir -p dist && $(BIN)/python -m release.sbom > dist/sbom.cdx.json && echo dist/sbom.cdx.json

## make audit        known weaknesses of the exact versions (needs the network)
audit: setup-dev
	$(PIP) install -q pip-audit
	$(BIN)/python -m pip_audit --requirement constraints.txt --no-deps --disable-pip

clean:
	rm -rf $(VENV) $(VIEWERS) demo/out build dist *.egg-info
