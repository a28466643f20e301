#!/bin/sh
# Builds the wheel's native half into a virtual environment, and checks it:
#
#   build.sh            make mcpctl-py/.venv, install the package into it for development
#   build.sh test       that, then the types and the tests (they start target/debug/mcpctl-server)
#   build.sh wheel      a release wheel in target/wheels
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

case "${1:-develop}" in
develop)
    "$venv/bin/maturin" develop --quiet --locked
    ;;
test)
    "$venv/bin/maturin" develop --quiet --locked --extras test
    cargo build --quiet --locked -p mcpctl-server
    "$venv/bin/python" -m mypy
    "$venv/bin/python" -m mypy.stubtest mcpctl
    shift
    exec "$venv/bin/python" -m pytest "$@"
    ;;
wheel)
    exec "$venv/bin/maturin" build --locked --profile dist
    ;;
*)
    echo "usage: build.sh [develop | test [PYTEST ARGUMENTS] | wheel]" >&2
    exit 2
    ;;
esac
