#!/bin/bash
# Every check of the searcher on a GPU, on a machine that has one. It builds nothing: BIN holds what was built elsewhere (below), and the
# script runs from a checkout of the same commit. Prints a line for each check and a table at the end; exits 1 if one failed.
#
#   here:   tests/gpu/pack.sh BIN
#   there:  tests/gpu/check.sh BIN [cuda:0]
#
# There: an NVIDIA driver, libcublas, libnvrtc with its built-ins (PyTorch's wheels have them), python3 with torch for the last table.
set -uo pipefail
BIN=$(cd "${1:?a folder made by tests/gpu/pack.sh}" && pwd)
DEVICE=${2:-cuda:0}
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
LIBRARIES=$(python3 -c 'import glob, sysconfig; print(":".join(glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/lib")))')
export LD_LIBRARY_PATH="$LIBRARIES:/usr/local/cuda/lib64:${LD_LIBRARY_PATH:-}"
export CARGO_MANIFEST_DIR=$ROOT/search RUST_BACKTRACE=0
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv || exit 1

table="| check | result |\n| --- | --- |\n"
failed=0
check() { # name, command...
  local name=$1; shift
  echo "== $name"
  if "$@" >"$WORK/log" 2>&1; then result="holds"; else result="FAILS"; failed=1; fi
  tail -n 40 "$WORK/log"
  table+="| $name | $result |\n"
}

export MILENAS_TEST_DEVICE=$DEVICE
check "each kernel against its slow twin" "$BIN/kernels" --skip compile:: --test-threads 1
check "golden supernet, PyTorch's numbers: one pass, two steps" "$BIN/golden" kernels_of --test-threads 1
check "candidates of weight 0, odd sizes" "$BIN/sparse" kernels_of --test-threads 1
check "20 steps of a small search against the CPU's, step by step" "$BIN/steps" --test-threads 1
unset MILENAS_TEST_DEVICE
check "20 steps of a search of digits against the CPU's" python3 "$ROOT/tests/gpu/search.py" "$BIN/milenas-search" "$DEVICE"
check "the same in TF32, against the CPU's" python3 "$ROOT/tests/gpu/search.py" "$BIN/milenas-search" "$DEVICE,tf32"
echo "== steps at batch 64, in turn with PyTorch"
python3 "$ROOT/tests/gpu/steps.py" "$BIN/milenas-search" "$DEVICE" || failed=1
echo
echo -e "$table"
exit $failed
