#!/bin/sh
# Builds the wheel's native half into a virtual environment, and checks it:
#
#   build.sh            make mcpctl-py/.venv, install the package into it for development
#   build.sh test       that, then the types and the tests (they start target/debug/mcpctl-server)
#   build.sh wheel      a release wheel in target/wheels
#   build.sh try        that, into an environment that has nothing else: does the README's first example work?
#   build.sh bench      that, beside httpx and the openai package: what does a call cost?
set -eu
cd "$(dirname "$0")"
venv="${VENV:-.venv}"

if [ ! -x "$venv/bin/maturin" ]; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'maturin>=1.16,<2'
fi
# What maturin installs into; an environment that happens to be active is none of its business.
VIRTUAL_ENV="$(cd "$venv" && pwd)"
export VIRTUAL_ENV
unset CONDA_PREFIX

# Builds the wheel, and installs it into a new environment.
wheel() {
    wheels="$(mktemp -d)"
    "$venv/bin/maturin" build --quiet --locked --profile "${PROFILE:-dist}" --out "$wheels"
    python3 -m venv "$1"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-index "$wheels"/*.whl
    rm -rf "$wheels"
}

case "${1:-develop}" in
develop)
    "$venv/bin/maturin" develop --quiet --locked
    ;;
test)
    "$venv/bin/maturin" develop --quiet --locked --extras test
    cargo build --quiet --locked -p mcpctl-server -p tests --bins
    "$venv/bin/python" -m mypy
    "$venv/bin/python" -m mypy.stubtest mcpctl
    shift
    exec "$venv/bin/python" -m pytest "$@"
    ;;
wheel)
    "$venv/bin/maturin" build --locked --profile dist
    ;;
try)
    alone="$(mktemp -d)"
    trap 'rm -rf "$alone"' EXIT
    wheel "$alone/venv"
    # What the README prints, and what the example does.
    "$venv/bin/python" tests/first_example.py "$alone"
    (cd "$alone" && venv/bin/python example.py) | diff "$alone/expected" -
    "$alone/venv/bin/python" -m pip list --disable-pip-version-check
    ;;
bench)
    shift
    alone="$(mktemp -d)"
    trap 'rm -rf "$alone"' EXIT
    wheel "$alone/venv"
    "$alone/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r benches/requirements.txt
    cargo build --quiet --locked -p mcpctl-server -p tests --bins
    "$alone/venv/bin/python" benches/overhead.py "$@"
    ;;
*)
    echo "usage: build.sh [develop | test [PYTEST ARGUMENTS] | wheel | try | bench [OPTIONS]]" >&2
    exit 2
    ;;
esac
