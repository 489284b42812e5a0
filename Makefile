# SPDX-License-Identifier: Apache-2.0
# `make` lists the targets.  Nothing here touches the host's network: labs live in namespaces.

SHELL := /bin/sh
PYTHON ?= /usr/bin/python3
BIN := .venv/bin
COUNT ?= 1000000
SEED ?= 1
Q := $(if $(V),,@)

# Debian packages, and what each is for.
PACKAGES := \
  python3 python3-venv \
  gcc libc6-dev python3-dev libnetfilter-queue-dev libnfnetlink-dev \
  iproute2 iptables ipset procps util-linux \
  nginx curl iputils-ping iperf3 traceroute conntrack ethtool
#  python3 python3-venv             .venv
#  gcc ... libnfnetlink-dev         NetfilterQueue is compiled when it is installed; tests compile csrc/
#  iproute2 ... util-linux          fullnat and the lab: addresses, rules, sets, sysctls, nsenter
#  nginx ... ethtool                the lab's servers and clients
BENCH_PACKAGES := nftables wrk

# What a host in CI must have (tests/features.py): there a missing one fails the tests that need it.
FEATURES := root,netns,ipv6,nfqueue,iptables,ipset,nginx,curl,ping,iperf3,traceroute,conntrack,ethtool,gcc,asan
REQUIRE ?= $(if $(CI),$(if $(filter 0,$(shell id -u)),yes))
PYTEST = $(if $(REQUIRE),FULLNAT_REQUIRE=$(FEATURES)) $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup packages demo gen gen-check lint test test-unit test-netns fuzz bench lab clean

help: ## this list
	$(Q)awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: packages .venv/installed ## install what is missing: Debian packages (as root), and fullnat in .venv

demo: setup ## balance real requests in a lab, show everything, leave the host clean (root)
	$(Q)$(BIN)/python netns-lab/demo.py

gen: setup ## write the files that are generated from the reason table
	$(Q)$(BIN)/python tools/gen_reason.py

gen-check: setup ## fail if a generated file does not match its source
	$(Q)$(BIN)/python tools/gen_reason.py --check

lint: setup gen-check ## ruff, mypy, generated files, and which part may import which
	$(Q)$(BIN)/ruff check .
	$(Q)$(BIN)/ruff format --check .
	$(Q)$(BIN)/mypy
	$(Q)$(BIN)/mypy netns-lab
	$(Q)$(BIN)/mypy bench
	$(Q)$(BIN)/mypy tools
	$(Q)$(BIN)/python tests/layers.py

test: lint ## lint and every test; those that need root or a kernel feature say so where it is missing
	$(Q)$(PYTEST)

test-unit: setup ## the tests that need no root and no network
	$(Q)$(PYTEST) --ignore tests/netns --ignore tests/fuzz

test-netns: setup ## the tests in namespaces: real kernels, real programs (root)
	$(Q)$(PYTEST) tests/netns

fuzz: setup ## malformed packets through the core; COUNT=10000000 SEED=7
	$(Q)$(BIN)/python -m tests.fuzz.mutate $(COUNT) $(SEED)

bench: setup ## measure the engines against the kernel and each other (root)
	$(Q).ci/install-packages $(BENCH_PACKAGES)
	$(Q)$(BIN)/python bench/run.py $(ARGS)

lab: packages ## build a lab with web servers and leave it up, to try things by hand (root)
	$(Q)$(PYTHON) netns-lab/lab.py up two-arm --servers

clean: ## remove everything that make has made in this folder
	$(Q)rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis bench/bin
	$(Q)find . -name __pycache__ -type d -prune -exec rm -rf {} +

packages:
	$(Q).ci/install-packages $(PACKAGES)

# The stamp comes last: an interrupted installation has none, and begins anew.
.venv/installed: pyproject.toml
	$(Q)test -e $@ || $(PYTHON) -m venv --clear .venv
	$(Q)rm -f $@
	@echo "setup: installing fullnat and its libraries in .venv"
	$(Q)$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(Q)touch $@
