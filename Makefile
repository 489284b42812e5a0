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
  clang libbpf-dev libbpf1 bpftool \
  iproute2 iptables ipset procps util-linux \
  nginx curl iputils-ping iperf3 traceroute conntrack ethtool
#  python3 python3-venv             .venv
#  gcc ... libnfnetlink-dev         fullnat/csrc and NetfilterQueue are compiled when they are installed
#  clang ... libbpf-dev             fullnat/csrc/bpf is compiled; libbpf1 loads it, bpftool looks at it in tests
#  iproute2 ... util-linux          fullnat and the lab: addresses, rules, sets, sysctls, nsenter
#  nginx ... ethtool                the lab's servers and clients
GUEST_PACKAGES := qemu-system-x86 busybox-static cpio kmod ipvsadm
#  qemu-system-x86 ... ipvsadm      a virtual machine whose kernel has IPVS (netns-lab/guest.py)
TEST_PACKAGES := chromium ldirectord prometheus-node-exporter prometheus
#  chromium                         the status page is tested in it
#  ldirectord                       drives an instance by ipvsadm's words
#  prometheus-node-exporter         reads what we write for it
#  prometheus                       has promtool, which checks the alert rules
BENCH_PACKAGES := nftables wrk haproxy libnginx-mod-stream
VM := $(PYTHON) netns-lab/lab.py vm run
GUEST_BENCH := --figures cps,keepalive --peers ipvs,ipvs-masq,iptables,ebpf

# What a host in CI must have (tests/features.py): there a missing one fails the tests that need it.
FEATURES := root,netns,ipv6,nfqueue,iptables,ipset,nat,nginx,curl,ping,iperf3,traceroute,conntrack,ethtool,gcc,asan,native,ebpf,chromium,ldirectord,node_exporter,promtool
REQUIRE ?= $(if $(CI),$(if $(filter 0,$(shell id -u)),yes))
# In the guest nothing is missing, so nothing is skipped; and a test takes minutes.
GUEST_PYTEST := FULLNAT_REQUIRE=$(FEATURES),ipvs PYTEST_TIMEOUT=3600 $(BIN)/python -m pytest --requiring ipvs
PYTEST = $(if $(REQUIRE),FULLNAT_REQUIRE=$(FEATURES)) $(BIN)/python -m pytest

EXTENSION := fullnat/_native.abi3.so
CSRC := $(shell find fullnat/csrc -name '*.[ch]')
# Under the sanitizers: what the extension does.  Leaks are looked for by a test, not at the end of Python.
SANITIZED := build/sanitized
SANITIZED_TESTS := tests/unit/test_native_module.py tests/unit/test_vectors.py tests/twins/test_native_director.py

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup packages build demo gen gen-check lint test test-unit test-netns test-guest test-sanitized \
  fuzz bench bench-guest lab guest clean

help: ## this list
	$(Q)awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: packages .venv/installed build ## install what is missing: Debian packages (as root), and fullnat in .venv

build: $(EXTENSION) ## compile the C extension, if its sources changed

demo: setup ## balance real requests in a lab, show everything, leave the host clean (root)
	$(Q)$(BIN)/python netns-lab/demo.py

gen: setup ## write the files that are generated: reasons, the configuration's reference, man pages, completion, dashboard
	$(Q)$(BIN)/python tools/gen_reason.py
	$(Q)$(BIN)/python -m tools.gen_reference
	$(Q)$(BIN)/python -m tools.gen_dashboard

gen-check: setup ## fail if a generated file does not match its source
	$(Q)$(BIN)/python tools/gen_reason.py --check
	$(Q)$(BIN)/python -m tools.gen_reference --check
	$(Q)$(BIN)/python -m tools.gen_dashboard --check

lint: setup gen-check ## ruff, mypy, generated files, stubs, and which part may import which
	$(Q)$(BIN)/ruff check .
	$(Q)$(BIN)/ruff format --check .
	$(Q)$(BIN)/mypy
	$(Q)$(BIN)/mypy netns-lab
	$(Q)$(BIN)/mypy bench
	$(Q)$(BIN)/mypy tools
	$(Q)$(BIN)/stubtest fullnat._native
	$(Q)$(BIN)/python tests/layers.py

test: lint ## lint and every test; those that need root or a kernel feature say so where it is missing
	$(Q)$(if $(filter 0,$(shell id -u)),.ci/install-packages $(TEST_PACKAGES))
	$(Q)$(PYTEST)

test-unit: setup ## the tests that need no root and no network
	$(Q)$(PYTEST) --ignore tests/netns --ignore tests/fuzz --ignore tests/web

test-netns: setup ## the tests in namespaces: real kernels, real programs (root)
	$(Q)$(PYTEST) tests/netns

test-guest: setup guest ## the tests that need IPVS, in a virtual machine whose kernel has it (root); ARGS='-k render'
	$(Q)$(VM) env $(GUEST_PYTEST) tests/netns $(ARGS)

test-sanitized: setup ## the tests of the C extension, in a build with AddressSanitizer and UBSan
	$(Q)FULLNAT_SANITIZE=1 $(BIN)/python setup.py --quiet build_ext --build-lib $(SANITIZED) --build-temp $(SANITIZED)/temp
	$(Q)FULLNAT_NATIVE=$(SANITIZED)/$(EXTENSION) LD_PRELOAD="$$(gcc -print-file-name=libasan.so)" \
	  ASAN_OPTIONS=leak_check_at_exit=0 PYTHONMALLOC=malloc $(PYTEST) -p tests.sanitized $(SANITIZED_TESTS)

fuzz: setup ## malformed packets through the core, in Python and in C; COUNT=10000000 SEED=7
	$(Q)$(BIN)/python -m tests.fuzz.mutate $(COUNT) $(SEED)
	$(Q)$(BIN)/python -m tests.fuzz.core $(COUNT) $(SEED)

bench: setup ## measure the engines against the kernel and each other (root)
	$(Q).ci/install-packages $(BENCH_PACKAGES)
	$(Q)$(BIN)/python bench/run.py $(ARGS)

bench-guest: setup guest ## measure against IPVS, in a virtual machine whose kernel has it (root); ARGS='--rounds 3'
	$(Q).ci/install-packages $(BENCH_PACKAGES)
	$(Q)$(MAKE) -s -C bench/gen
	$(Q)mkdir -p bench/results/scratch
	$(Q)$(VM) --share bench/results/scratch $(BIN)/python bench/run.py $(GUEST_BENCH) $(ARGS)

lab: packages ## build a lab with web servers and leave it up, to try things by hand (root)
	$(Q)$(PYTHON) netns-lab/lab.py up two-arm --servers

guest: packages ## get what `lab.py vm run COMMAND` boots: QEMU, and a kernel that has IPVS (root)
	$(Q).ci/install-packages $(GUEST_PACKAGES)
	$(Q)$(PYTHON) netns-lab/lab.py vm fetch

clean: ## remove everything that make has made in this folder
	$(Q)rm -rf .venv build dist *.egg-info $(EXTENSION) fullnat/*.bpf.o .pytest_cache .mypy_cache .ruff_cache .hypothesis bench/bin
	$(Q)find . -name __pycache__ -type d -prune -exec rm -rf {} +

packages:
	$(Q).ci/install-packages $(PACKAGES)

# The stamp comes last: an interrupted installation has none, and begins anew.
.venv/installed: pyproject.toml setup.py
	$(Q)test -e $@ || $(PYTHON) -m venv --clear .venv
	$(Q)rm -f $@
	@echo "setup: installing fullnat and its libraries in .venv"
	$(Q)$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(Q)touch $@

# It is optional for pip, so that it cannot be built is only noticed by importing it.
$(EXTENSION): setup.py $(CSRC) | .venv/installed
	@echo "build: compiling $@"
	$(Q)$(BIN)/python setup.py --quiet build_ext --inplace
	$(Q)$(BIN)/python -c 'import fullnat._native'
	$(Q)test -e fullnat/_fastpath.bpf.o -a -e fullnat/_probe.bpf.o
	$(Q)touch $@
