#!/bin/bash
# Builds what tests/gpu/check.sh runs on a machine with a GPU, stripped, into a folder. No GPU and nothing of CUDA is needed here.
#
#   tests/gpu/pack.sh BIN
set -euo pipefail
mkdir -p "${1:?a folder to make}"
BIN=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
binary() { # cargo's arguments; prints the path of the last executable
  cargo "$@" --message-format json | python3 -c '
import json, sys
messages = [json.loads(line) for line in sys.stdin if line.startswith("{")]
print([m["executable"] for m in messages if m.get("executable")][-1])'
}
pack() { strip -o "$BIN/$1" "$2"; }
pack milenas-search "$(binary build --release -p milenas-search --features cuda)"
pack kernels "$(binary test --no-run -p milenas-models --features cuda --test cuda)"
pack golden "$(binary test --no-run -p milenas-search --features cuda --test supernet_golden)"
pack sparse "$(binary test --no-run -p milenas-search --features cuda --test sparse_mixture)"
pack steps "$(binary test --no-run -p milenas-search --features cuda --test cuda_steps)"
ls -l "$BIN"
