#!/bin/sh
# Builds the package in a virtual environment of its own and runs its tests: ./run-tests.sh [arguments of pytest]
# PENNON_VENV: where that environment is (target/venv). PENNON_LANCE=0: without pylance. The example of Ray is tested
# if ray is installed there.
set -eu
cd "$(dirname "$0")"

skip() {
    echo "python: skipped: $1"
    exit 0
}

python=${PYTHON:-python3}
command -v "$python" >/dev/null 2>&1 || skip "there is no $python"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' || skip "$python is older than 3.9"
command -v cargo >/dev/null 2>&1 || skip "there is no cargo"

venv=${PENNON_VENV:-target/venv}
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac
if [ ! -x "$venv/bin/python" ]; then
    "$python" -m venv "$venv" || skip "$python has no venv"
fi
install() {
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"
}
install "maturin>=1.9.4,<2" numpy pyarrow pytest || skip "packages cannot be fetched"
install polars mypy || echo "python: without the tests that need polars and mypy"
if [ "${PENNON_LANCE:-1}" != 0 ]; then
    install "pylance==14.0.2" || echo "python: without the tests that need pylance"
fi
cargo fetch --quiet --locked || skip "crates cannot be fetched"

export VIRTUAL_ENV="$venv"
PATH="$venv/bin:$PATH"
export PATH
maturin develop --release --locked --quiet
exec python -m pytest -q tests "$@"
