#!/bin/sh
# Makes components of the skills in this directory with the toolchains of their languages, unmodified, into target/foreign.
# Installs the toolchains there as well; ends with an error when one cannot be had.
set -eu
export PYTHONDONTWRITEBYTECODE=1
cd "$(dirname "$0")"
out="$(cd ../.. && pwd)/target/foreign"
mkdir -p "$out"

fail() {
  echo "test-foreign: $1" >&2
  exit 1
}

python3 -m venv "$out/venv" || fail "python3 has no venv; install python3-venv"
"$out/venv/bin/pip" install --quiet --disable-pip-version-check componentize-py==0.25.1 ||
  fail "componentize-py cannot be installed; is the registry of Python packages reachable?"
(cd python && "$out/venv/bin/componentize-py" -d ../wit -w skill componentize app -o "$out/python.wasm")

npm install --silent --no-audit --no-fund --prefix "$out/js" @bytecodealliance/componentize-js@0.23.0 ||
  fail "componentize-js cannot be installed; is node there, and the registry of its packages reachable?"
# Without these two it imports outgoing HTTP, which a skill that only computes need not be granted.
(cd javascript && "$out/js/node_modules/.bin/componentize-js" app.js --wit ../wit -n skill -d http -d fetch-event -o "$out/javascript.wasm")

rustup target list --installed | grep -qx wasm32-wasip2 || rustup target add wasm32-wasip2 ||
  fail "the Rust target wasm32-wasip2 cannot be installed"
(cd rust && CARGO_TARGET_DIR="$out/rust" cargo build --locked --release --target wasm32-wasip2)
cp "$out/rust/wasm32-wasip2/release/till.wasm" "$out/rust.wasm"
