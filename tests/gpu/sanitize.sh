#!/bin/bash
# The tests that run the kernels on the host, under AddressSanitizer: no kernel reads or writes past its memory, or past a block's. Needs GCC on x86-64.
#
#   tests/gpu/sanitize.sh
#
# The tests call this script as their C++ compiler.
set -euo pipefail
case " $* " in
*" --version "*) exec c++ --version ;;
*" -shared "*)
  for argument in "$@"; do
    case $argument in
    # The sanitizer's own jump asks the system about the stack each time.
    *kernels.cpp) sed -i -e 's/_longjmp(/real_longjmp(/g' -e '1i #include <dlfcn.h>\n#include <csetjmp>\nstatic void (*real_longjmp)(jmp_buf, int) = (void (*)(jmp_buf, int))dlsym(dlopen("libc.so.6", RTLD_NOW), "_longjmp");' "$argument" ;;
    esac
  done
  exec c++ -fsanitize=address --param asan-stack=0 "$@" -ldl
  ;;
esac
CXX=$(realpath "$0")
cd "$(dirname "$0")/../.."
export CXX CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="env LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0"
exec cargo test --workspace --test cuda --test cuda_steps --test cuda_training --test supernet_golden --test sparse_mixture -- \
  --skip compile:: --skip steps_are_those_of_the_cpu
