#!/bin/sh
# Builds and runs examples/lancedb, which no test does: LanceDB is a long build. It starts in the repository's root, so
# that .cargo/config.toml gives Lance's build scripts their protoc (tools/protoc; a PROTOC of your own wins).
set -eu
cd "$(dirname "$0")/.."
: "${CARGO_TARGET_DIR:=$PWD/target/lancedb}"
export CARGO_TARGET_DIR
exec cargo run --locked --manifest-path examples/lancedb/Cargo.toml "$@"
