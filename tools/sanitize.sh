#!/usr/bin/env bash
# Runs tests under a sanitizer: tools/sanitize.sh thread|address [FILTER..]
#
# `thread`: what several threads do at once. `address`: all of the library's tests. The standard library is built with
# the sanitizer too: without that, ThreadSanitizer takes the synchronization inside of `Mutex` and of channels for
# none. FILTERs take the place of the tests that are run otherwise.
#
# Needs Debian's rustc with the source of its standard library, and the sanitizers' runtimes, which Debian leaves out
# and a toolchain of rustup has. Where these are missing and cannot be installed, one line says so, and nothing fails.
set -euo pipefail
cd "$(dirname "$0")/.."

target=x86_64-unknown-linux-gnu
packages=(rustc-web cargo-web rust-web-src)

missing() {
    echo "sanitizers: not here, $*"
    exit 0
}

sanitizer=${1:-}
case $sanitizer in
    thread) runtime=tsan ;;
    address) runtime=asan ;;
    *)
        echo "usage: $0 thread|address [FILTER..]" >&2
        exit 2
        ;;
esac
shift

[ "$(uname -sm)" = "Linux x86_64" ] || missing "this is $(uname -sm) and not Linux x86_64"
if ! [ -x /usr/bin/rustc ] || ! [ -x /usr/bin/cargo ] || ! [ -d /usr/lib/rustlib/src/rust/library ]; then
    { command -v apt-get && [ "$(id -u)" = 0 ]; } > /dev/null || missing "Debian's rustc has no source beside it"
    echo "installing ${packages[*]}"
    { apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; } > /dev/null ||
        missing "apt could not install ${packages[*]}"
fi
# Runtimes of one version of LLVM fit those before and after it.
library=$(/usr/bin/rustc --print sysroot)/lib/rustlib/$target/lib
if ! compgen -G "$library/librustc-*_rt.$runtime.a" > /dev/null; then
    own=$(rustc --print sysroot)/lib/rustlib/$target/lib/librustc-stable_rt.$runtime.a
    [ -f "$own" ] || missing "no toolchain has librustc-stable_rt.$runtime.a"
    cp "$own" "$library/" 2> /dev/null || missing "$library cannot be written to"
fi

export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=$sanitizer"
# What is instrumented takes long to optimize.
export CARGO_PROFILE_DEV_OPT_LEVEL=1
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/sanitizers}/$sanitizer
export TSAN_OPTIONS="halt_on_error=0 ${TSAN_OPTIONS:-}" ASAN_OPTIONS="detect_leaks=1 ${ASAN_OPTIONS:-}"

# tests TARGET [FILTER..]: the tests of one target. Without address randomization, which the sanitizers' maps of
# memory do not stand on every kernel.
tests() {
    local of=$1
    shift
    echo "+ $sanitizer: ${of#--} $*"
    # shellcheck disable=SC2086
    setarch -R /usr/bin/cargo test --quiet -Zbuild-std --target "$target" $of -- "$@"
}

if [ $# -gt 0 ]; then
    tests "--test it" "$@"
elif [ "$sanitizer" = thread ]; then
    tests --lib codes:: graph:: vectors::
    tests "--test it" concurrency:: deletes:: visibility:: model:: compaction:: handover:: cursor:: budget:: batch::
    tests "--test collection" concurrency::
else
    tests --lib
    tests "--test it"
    tests "--test collection"
fi
