#!/bin/bash
# Makes a folder with all that tests/gpu/check.sh needs on a machine with a GPU: programs, built here and stripped, golden values, scripts.
# Neither a GPU nor anything of CUDA is needed here; there, a C library no older than here.
#
#   tests/gpu/pack.sh FOLDER [cuda|cudnn]
#
# The second is the feature to build with: with `cudnn` there must be a libcudnn there, as PyTorch's wheels have.
set -euo pipefail
mkdir -p "${1:?a folder to make}/bin"
FOLDER=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
# Of the whole workspace, as the tests are built, so that nothing is compiled twice for another set of features.
FEATURES=(--workspace --features "milenas-search/${2:-cuda}")
pack() { # name, cargo's name of the target, cargo's arguments
  local name=$1 target=$2 built; shift 2
  built=$(cargo "$@" "${FEATURES[@]}" --message-format json | python3 -c '
import json, sys
messages = [json.loads(line) for line in sys.stdin if line.startswith("{")]
built = [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == sys.argv[1]]
print(*built or sys.exit(f"{sys.argv[1]} was not built"))' "$target")
  strip -o "$FOLDER/bin/$name" "$built"
}
pack milenas-search milenas-search build
pack kernels cuda test --no-run --test cuda
pack golden supernet_golden test --no-run --test supernet_golden
pack sparse sparse_mixture test --no-run --test sparse_mixture
pack steps cuda_steps test --no-run --test cuda_steps
pack training cuda_training test --no-run --test cuda_training
mkdir -p "$FOLDER"/tests/{gpu,golden,peers}
cp tests/gpu/{check.sh,runs.py,steps.py} "$FOLDER/tests/gpu/"
cp tests/golden/supernet.safetensors "$FOLDER/tests/golden/"
cp tests/peers/torch_{supernet,network,train}.py "$FOLDER/tests/peers/"
du -sh "$FOLDER"
echo "copy this folder to the machine with the GPU, and there run tests/gpu/check.sh in it"
