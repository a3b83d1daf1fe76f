#!/usr/bin/env bash
# Runs the digests of tests/golden.rs (built by tools/golden) as other CPUs would, under qemu's emulation of single
# programs: x86-64 with AVX2 and without AVX, and aarch64. The digests must be those of this CPU. With AVX-512 it must be this CPU that has it.
#
# What is missing is installed where there is apt and the user is root (Debian's packages; arm64 becomes a foreign
# architecture), and else passed over with a line that says so. Fails if a digest differs.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR=target/cross
packages=(qemu-user)
cross_packages=(rustc-web cargo-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
failed=0
# `all`, or only `x86` or only `aarch64`, for which the library has to be built first.
cpus=${1:-all}

has() { command -v "$1" > /dev/null; }

# The toolchain in use, or else Debian's.
arm_toolchain() {
    if [ -d "$(rustc --print sysroot)/lib/rustlib/aarch64-unknown-linux-gnu/lib" ]; then
        echo own
    elif [ -x /usr/bin/cargo ] && [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/aarch64-unknown-linux-gnu/lib" ]; then
        echo debian
    fi
}

install() {
    if ! has apt-get || [ "$(id -u)" != 0 ]; then
        return
    fi
    if [ "$cpus" != x86 ] && [ "$(uname -m)" = x86_64 ] && { ! has aarch64-linux-gnu-gcc || [ -z "$(arm_toolchain)" ]; }; then
        packages+=("${cross_packages[@]}")
        dpkg --add-architecture arm64
    elif has qemu-x86_64; then
        return
    fi
    echo "installing ${packages[*]}"
    { apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; } > /dev/null ||
        echo "apt could not install all of it"
}

# golden NAME COMMAND..: runs the digests by a command that ends in cargo.
golden() {
    local name=$1 output
    shift
    if output=$("$@" run --quiet --manifest-path tools/golden/Cargo.toml ${target:+--target "$target"} 2>&1); then
        echo "$name: $(grep -c 'as everywhere' <<< "$output") digests, as everywhere"
    else
        echo "$name: FAILED"
        echo "$output"
        failed=1
    fi
}

install
target=
golden "this CPU" cargo

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "other CPUs: not here, this is $(uname -sm) and not Linux x86_64"
    exit $failed
fi

for cpu in Haswell Nehalem; do
    if [ "$cpus" = aarch64 ]; then
        echo "x86-64 $cpu: left out"
    elif has qemu-x86_64; then
        golden "x86-64 $cpu" env \
            CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="timeout 1800 qemu-x86_64 -cpu $cpu" cargo
    else
        echo "x86-64 $cpu: not here, there is no qemu-x86_64"
    fi
done

if [ "$cpus" = x86 ]; then
    echo "aarch64: left out"
    exit $failed
fi
toolchain=$(arm_toolchain)
if ! has qemu-aarch64 || ! has aarch64-linux-gnu-gcc; then
    echo "aarch64: not here, there is no qemu-aarch64 or no aarch64-linux-gnu-gcc"
elif [ -z "$toolchain" ]; then
    echo "aarch64: not here, no toolchain has a standard library for it"
else
    target=aarch64-unknown-linux-gnu
    command=(env CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="timeout 1800 qemu-aarch64 -L /usr/aarch64-linux-gnu")
    if [ "$toolchain" = own ]; then
        golden "aarch64" "${command[@]}" cargo
    else
        golden "aarch64" "${command[@]}" RUSTC=/usr/bin/rustc /usr/bin/cargo
    fi
fi
exit $failed
