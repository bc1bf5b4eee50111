# make demo · make test · make bench · make plugins · make lint · make ci

MIDPLANE = target/release/midplane
PLUGINS = target/plugins
export CARGO_TERM_COLOR ?= auto

.PHONY: all host plugins guests demo test test-plugins bench lint ci clean

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

test: guests test-plugins
	cargo test --release --locked --workspace

test-plugins: plugins
	cd plugins && cargo test --locked
	cd sdk/rust && cargo test

# Ratios, each against its floor in the same run.
bench: plugins
	cargo bench --locked -p midplane-tests --bench ratios

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
