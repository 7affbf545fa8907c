# What a person or CI calls. Everything is done by cargo and by the programs in conformance/; this only strings them together.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec

HOST := $(shell rustc -vV | sed -n 's/^host: //p')
OUT := target/$(HOST)
# The three programs side by side, as they are installed.
DIST := target/dist

# Where `make install` puts them; DESTDIR in front of it for packages.
PREFIX := /usr/local

# A shim at a fixed address shares its relocated pages with all others: 400 kB less for each container.
SHIM_FLAGS := -C target-feature=+crt-static -C relocation-model=static

# Its parts share two cores, cargo's lock and the host.
.NOTPARALLEL:

.PHONY: build install demo test kubelet-begun test-unit test-fuzz test-e2e test-conformance test-kubelet test-guest bench lint install-deps install-criu

# FEATURES=otlp builds the daemon with traces. The daemon unwinds when it panics, shim and plugins abort: cargo has one strategy for each build, so there are two.
build:
	cargo build --locked --release -p cringle-daemon $(if $(FEATURES),--features $(FEATURES))
	RUSTFLAGS="$(SHIM_FLAGS)" cargo build --locked --profile shim -p cringle-shim -p cringle-cni
	install -D -t $(DIST) $(OUT)/release/cringle $(OUT)/shim/containerd-shim-cringle-v2 $(OUT)/shim/cringle-cni

# What `make build` made, and a unit for systemd that runs it. Nothing is started.
install:
	install -D -m 755 -t "$(DESTDIR)$(PREFIX)/bin" $(DIST)/cringle $(DIST)/containerd-shim-cringle-v2 $(DIST)/cringle-cni
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/lib/systemd/system" src/daemon/cringle.service
	sed -i 's|=/usr/local/bin/|=$(PREFIX)/bin/|' "$(DESTDIR)$(PREFIX)/lib/systemd/system/cringle.service"

# A web server in a pod, from nothing and back to nothing, on this host (needs root).
demo: install-deps build
	conformance/demo --programs $(DIST)

# Everything that must pass (needs root); each part ends with its own summary. The kubelet's build takes minutes on a cold cache
# of Go, so it goes on beside the tests before its own, which wait for its end.
test: kubelet-begun install-criu test-unit test-fuzz test-e2e build test-conformance test-kubelet

kubelet-begun: install-deps
	mkdir -p target
	nice -n 19 conformance/kubelet/build >target/kubelet-build.log 2>&1 </dev/null &

# One at a time: many tests clone this process, and a copy has the locks of threads that it does not have.
test-unit:
	RUST_TEST_THREADS=1 cargo test --locked --workspace --exclude cringle-tests

test-e2e:
	cargo build --locked --workspace --features cringle-daemon/failpoints,cringle-daemon/otlp
	cargo test --locked -p cringle-tests --no-fail-fast 2>&1 | tee target/e2e.log
	@echo "$$(grep -c '^skipped: ' target/e2e.log || true) end-to-end tests were skipped"

test-conformance:
	conformance/demo --isolated --programs $(DIST)
	conformance/smoke --programs $(DIST)
	conformance/run --random --programs $(DIST)
	conformance/run --random --parallel 8 --programs $(DIST)
	conformance/run --websocket --focus Streaming --programs $(DIST)

# A real kubelet with static pods.
test-kubelet: install-deps
	conformance/kubelet/run --programs $(DIST)

# What this host's kernel lacks: cgroup v2 with all its controllers, in an emulated machine. Not part of `test`: QEMU and a kernel
# are downloaded for it.
test-guest: install-deps
	cargo build --locked --workspace --features cringle-daemon/failpoints,cringle-daemon/otlp
	conformance/guest

# Foreign bytes, broken in many ways: frames, requests to upgrade, WebSocket messages; half a minute for each.
test-fuzz:
	CRINGLE_FUZZ_SECONDS=30 cargo test --locked -p cringle-streaming --lib no_bytes_make

# PEER=containerd measures containerd with runc and the reference plugins beside us, in the same run. At the end a kubelet fills
# its node: how long until all is ready, and what daemon and kubelet use at rest.
bench: install-deps build
	cargo build --locked --release -p cringle-tests --bin cringle-bench
	conformance/bench --programs $(DIST) --client $(OUT)/release/cringle-bench $(if $(PEER),--peer $(PEER))
	conformance/kubelet/run --programs $(DIST) --many 110

lint:
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets
	cargo clippy --locked -p cringle-daemon --all-targets --features otlp

install-deps:
	conformance/install

# For the tests of checkpoints alone, which are skipped without.
install-criu: install-deps
	conformance/install-criu || echo "CRIU could not be installed: checkpoints are not tested"
