#!/bin/bash
# Every check of searching and training on a GPU, on a machine that has one. It builds nothing: it lies in a folder that tests/gpu/pack.sh made.
# Shows what each check printed, and a table at the end; exits 1 if one failed.
#
#   tests/gpu/check.sh [cuda:0] [ROUNDS]
#
# Needs an NVIDIA driver, libcublas, libnvrtc with its built-ins, libcudnn if packed with it (PyTorch's wheels have them), python3, with torch for the last check.
set -uo pipefail
DEVICE=${1:-cuda:0}
ROUNDS=${2:-5}
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
BIN=$ROOT/bin
if [ ! -x "$BIN/milenas-search" ]; then
  echo "$BIN has no milenas-search: run tests/gpu/pack.sh FOLDER where the checkout is, then FOLDER/tests/gpu/check.sh here" >&2
  exit 1
fi
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
LIBRARIES=$(python3 -c 'import glob, sysconfig; print(":".join(glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/lib")))')
export LD_LIBRARY_PATH="$LIBRARIES:/usr/local/cuda/lib64:${LD_LIBRARY_PATH:-}"
# Tests look for golden values beside the folder that this names.
export CARGO_MANIFEST_DIR=$ROOT/tests RUST_BACKTRACE=0 PYTHONUNBUFFERED=1
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv || exit 1

table="| check | result |\n| --- | --- |\n"
failed=0
check() { # name, command...
  local name=$1 result; shift
  echo "== $name"
  if "$@" 2>&1 | tee "$WORK/log" && ! grep -q "^running 0 tests" "$WORK/log"; then result="holds"; else result="FAILS"; failed=1; fi
  table+="| $name | $result |\n"
}

export MILENAS_TEST_DEVICE=$DEVICE
check "each kernel against its reference" "$BIN/kernels" --skip compile:: --test-threads 1
check "golden supernet, PyTorch's numbers: one pass, two steps" "$BIN/golden" kernels_of --test-threads 1
check "candidates of weight 0, odd sizes" "$BIN/sparse" kernels_of --test-threads 1
check "first steps of small searches against the CPU's: 20 in both orders, 8 gumbel, 8 second order" "$BIN/steps" --test-threads 1
check "derived networks' gradients, statistics and first steps against the CPU's" "$BIN/training" --test-threads 1
unset MILENAS_TEST_DEVICE
check "20 steps of a search of digits against the CPU's" python3 "$ROOT/tests/gpu/runs.py" "$BIN/milenas-search" "$DEVICE" search
check "the same in TF32, against the CPU's" python3 "$ROOT/tests/gpu/runs.py" "$BIN/milenas-search" "$DEVICE,tf32" search
check "the same in bfloat16, against the CPU's" python3 "$ROOT/tests/gpu/runs.py" "$BIN/milenas-search" "$DEVICE,bf16" search
check "20 steps of a training of digits against the CPU's" python3 "$ROOT/tests/gpu/runs.py" "$BIN/milenas-search" "$DEVICE" train
check "steps at batch 64 measured, in turn with PyTorch's" python3 "$ROOT/tests/gpu/steps.py" "$BIN/milenas-search" "$DEVICE" --rounds "$ROUNDS"
echo
echo -e "$table"
exit $failed
