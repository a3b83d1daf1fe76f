#!/usr/bin/env bash
# Checks what Pennon depends on: licenses and sources of all features, and that the default features need no tokio, no
# object_store, no Lance and no more than 75 crates. Licenses and sources need cargo-deny; without it a line says so.
set -euo pipefail
cd "$(dirname "$0")/.."

most=75

if cargo deny --version > /dev/null 2>&1; then
    cargo deny --log-level error check bans licenses sources
    cargo deny --log-level error --all-features check licenses sources
else
    echo "licenses and sources: not checked, there is no cargo-deny"
fi

crates=$(cargo tree --edges normal,build --prefix none --format '{p}' | sed 's/ (\*)$//' | sort -u)
banned=$(grep -E '^(tokio|object_store|datafusion|lance)([-_][a-z0-9_-]+)? ' <<< "$crates" || true)
count=$(wc -l <<< "$crates")
if [ -n "$banned" ]; then
    echo "the default features depend on:" $banned
    exit 1
fi
if [ "$count" -gt "$most" ]; then
    echo "the default features depend on $count crates, at most $most are wanted"
    exit 1
fi
echo "default features: $count crates, none of tokio, object_store, datafusion and lance"
