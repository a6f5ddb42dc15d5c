#!/usr/bin/env bash
# What only a machine with a GPU can show, in under ten minutes and without a network: the tests marked gpu, then `densedet benchmark gpu` as JSON.
#   tests/gpu_check.sh [WHEELS]      WHEELS: a folder made by ../shared/gpu/wheels.sh, installed first with --no-index
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
[ $# -eq 0 ] || python3 -m pip install -q --no-index --find-links "$1" pluggy pydantic hotcoco rich jinja2 tensorboard flatbuffers pyyaml matplotlib docstring_parser platformdirs psutil filelock pytest pytest-timeout
site=$(mktemp -d); ln -s "$root" "$site/densedet"; export PYTHONPATH=$site
cd "$root"
python3 -m pytest -q -m gpu -p no:cacheprovider tests >&2 || true
timeout 420 python3 -m densedet.tools.main benchmark gpu --json --seconds 8
