// What a C++ compiler needs to take the kernels: CUDA's words and numbers, and blocks of threads that take turns on one stack each.
#include <cmath>
#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <string>
#include <tuple>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __launch_bounds__(...)
#define __device__ inline
#define __shared__ static

struct Dimensions {
  unsigned x;
};
static Dimensions gridDim, blockDim, blockIdx, threadIdx;

// Whether blocks, and threads between two barriers, take their turns from the last to the first: where one misses a barrier, the two
// orders tell.
static bool backwards;

// As a GPU has it: an address between is a fault, which the sanitizer stops at.
struct alignas(16) float4 {
  float x, y, z, w;
};

static float rsqrtf(float x) { return 1.f / std::sqrt(x); }

// A thread that waits lets the next one run until all have come here. Contexts give each its stack; from then on jumps lead from one to
// the other, since `swapcontext` asks the system for the signals each time.
struct Thread {
  ucontext_t context;
  jmp_buf at;
  bool begun, done;
};
static std::vector<Thread> threads;
static jmp_buf scheduler;
static void (*body)(void **);
static void **arguments;

static void __syncthreads() {
  if (blockDim.x > 1) {
    unsigned self = threadIdx.x;
    if (_setjmp(threads[self].at) == 0) _longjmp(scheduler, 1);
    threadIdx.x = self;
  }
}

static void __threadfence() {}

// Threads of a block take turns, so nobody comes between.
static unsigned atomicInc(unsigned *at, unsigned most) {
  unsigned old = *at;
  *at = old >= most ? 0 : old + 1;
  return old;
}

// All threads of a block call it together.
static float __shfl_down_sync(unsigned, float value, int delta) {
  static float values[1024];
  unsigned from = threadIdx.x % 32 + delta < 32 ? threadIdx.x + delta : threadIdx.x;
  values[threadIdx.x] = value;
  __syncthreads();
  value = values[from];
  __syncthreads();
  return value;
}

static void thread_main() {
  unsigned self = threadIdx.x;
  body(arguments);
  threads[self].done = true;
  _longjmp(scheduler, 1);
}

// Goes on with a thread until it waits or is done.
static void run_thread(Thread &thread) {
  if (_setjmp(scheduler) != 0) return;
  if (thread.begun) _longjmp(thread.at, 1);
  thread.begun = true;
  setcontext(&thread.context);
}

// Threads of a block begin in turn, each up to where it waits, and so on until all are done.
static void run_block() {
  if (blockDim.x == 1) {
    threadIdx.x = 0;
    body(arguments);
    return;
  }
  const size_t size = 1 << 15;
  static std::vector<char> stacks;
  stacks.resize(size * blockDim.x);
  threads.resize(blockDim.x);
  for (unsigned i = 0; i < blockDim.x; ++i) {
    Thread &thread = threads[i];
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = &stacks[size * i];
    thread.context.uc_stack.ss_size = size;
    thread.context.uc_link = nullptr;
    thread.begun = thread.done = false;
    makecontext(&thread.context, thread_main, 0);
  }
  for (unsigned left = blockDim.x; left > 0;) {
    left = 0;
    for (unsigned turn = 0; turn < blockDim.x; ++turn) {
      unsigned i = backwards ? blockDim.x - 1 - turn : turn;
      if (threads[i].done) continue;
      threadIdx.x = i;
      run_thread(threads[i]);
      left += !threads[i].done;
    }
  }
}

template <class... A, size_t... I>
static void call(void (*kernel)(A...), void **args, std::index_sequence<I...>) {
  kernel(*static_cast<std::remove_reference_t<A> *>(args[I])...);
}

// The kernel with its arguments from where CUDA's launch takes them: a pointer to each.
template <class... A>
static void unpack(void (*kernel)(A...), void **args) {
  call(kernel, args, std::index_sequence_for<A...>());
}

struct Kernel {
  const char *name;
  void (*call)(void **);
  std::string arguments;
};

// A letter for each argument: r for a pointer to what is read, w to what is written, n for a number.
template <class... A>
static std::string arguments_of(void (*)(A...)) {
  auto letter = [](auto *a) {
    using T = std::remove_pointer_t<decltype(a)>;
    return !std::is_pointer_v<T> ? 'n' : std::is_const_v<std::remove_pointer_t<T>> ? 'r' : 'w';
  };
  return {letter((A *)nullptr)...};
}
