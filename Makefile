# make demo · make demo-swap · make test · make test-kills · make bench · make bench-swap · make recordings · make plugins · make lint · make ci

MIDPLANE = target/release/midplane
PLUGINS = target/plugins
export CARGO_TERM_COLOR ?= auto

.PHONY: all host plugins guests strace demo demo-swap test test-kills test-foreign test-plugins recordings bench bench-swap lint ci clean

all: plugins

host:
	@cargo build --release --locked -p midplane 1>&2

# The build adds the wasm target when it is missing, or says what to install.
plugins: host
	@$(MIDPLANE) build plugins --out $(PLUGINS) 1>&2

# Components that only tests run.
guests: plugins
	@$(MIDPLANE) build tests/guests --out $(PLUGINS)/test 1>&2

# Two peers on this machine; ends with three lines on standard output. V=1 also shows each hop of each call.
demo: plugins
	@MIDPLANE=$(MIDPLANE) V=$(V) sh tests/demo.sh

# Two nodes are called while what they run is replaced, a plugin a second. SECONDS=10 is shorter.
demo-swap: guests
	@$(if $(SECONDS),DEMO_SECONDS=$(SECONDS)) cargo run --release --locked -q -p midplane-tests --example demo-swap

test: guests test-plugins strace
	cargo test --release --locked --workspace --no-fail-fast

# Some tests end a node exactly where it changes the disk.
strace:
	@command -v strace >/dev/null || { apt-get -qq update && apt-get -qq install -y strace; } >/dev/null 2>&1 \
	  || { echo "strace is missing and could not be installed: apt-get install strace" >&2; exit 1; }

# All points at which `kill -9` could hit an apply, a swap or a rollback; a run of `make test` takes some of them.
test-kills: guests strace
	MIDPLANE_KILL_POINTS=1 cargo test --release --locked -p midplane-tests --test kill_points -- --nocapture

# What policies decide is compared with these files. When it changes on purpose, they are recorded anew.
recordings: guests
	MIDPLANE_RECORD=1 cargo test --release --locked -p midplane-tests --test recorded

# Components of other toolchains, which it installs below target/foreign; needs python3, node and the registries.
test-foreign: host
	@tests/foreign/build.sh 1>&2
	cargo test --release --locked -p midplane-tests --features foreign --test foreign

test-plugins: plugins
	cd plugins && cargo test --locked
	cd sdk/rust && cargo test

# Ratios, each against its floor in the same run.
bench: guests
	cargo bench --locked -p midplane-tests --bench ratios
	cargo bench --locked -p midplane-tests --bench weight

# Everything is replaced again and again under load: nothing may fail. SWAPS=20 is a short form.
bench-swap: guests
	$(if $(SWAPS),SWAPS=$(SWAPS)) cargo bench --locked -p midplane-tests --bench swap

lint:
	cargo fmt --all --check
	cd plugins && cargo fmt --all --check
	cd tests/guests && cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps -p midplane

ci: test lint

clean:
	cargo clean
	cd plugins && cargo clean
	cd tests/guests && cargo clean
