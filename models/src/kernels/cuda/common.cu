// Definitions that all kernels use. The files are compiled as one source, this one first, so none includes another.
//
// Feature maps are [channel][image][row][column], several of them one after the other. A pointwise convolution of a
// whole batch is therefore one matrix product, and the values of a channel for a BatchNorm are in one row. Counts
// stay below 2^30.

// Largest number of threads per block. It is a power of two, as is every block's number of threads.
#define BLOCK 256

// Assigns a thread to each of `count` elements.
#define EACH(i, count) for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < (count); i += gridDim.x * blockDim.x)

// Assigns a block to each of `count` rows.
#define ROWS(row, count) for (int row = blockIdx.x; row < (count); row += gridDim.x)

// Returns the sum over a warp's threads to its first thread.
__device__ float warp_sum(float value) {
  for (int half = blockDim.x < 32 ? blockDim.x / 2 : 16; half > 0; half /= 2) value += __shfl_down_sync(~0u, value, half);
  return value;
}

// Returns the sum over a block's threads to all of them. `scratch` has one element per warp.
__device__ float block_sum(float value, float *scratch) {
  int warps = (blockDim.x + 31) / 32;
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0.f;
  for (int warp = 0; warp < warps; ++warp) sum += scratch[warp];
  __syncthreads();
  return sum;
}

// Returns to all threads of a block whether it is the last to arrive here of the `parts` blocks that share a
// semaphore. It may then read the results of the other blocks, through pointers to volatile. Semaphores are zero
// before and after a kernel.
__device__ bool last_of(int *ticket, int parts) {
  __shared__ int came;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) came = atomicInc((unsigned *)ticket, parts - 1);
  __syncthreads();
  return came == parts - 1;
}

// Returns the index at which part `part` of a row of `length` elements begins. Rows are cut into `parts` if there
// are too few of them to occupy all blocks. Part `part` ends where the next begins.
__device__ int part_begin(int length, int parts, int part) {
  int longer = length % parts;
  return length / parts * part + (longer < part ? longer : part);
}

// Reads V elements at a time: 4 where the length of rows is a multiple of 4, else 1.
template <int V> __device__ void read(const float *from, float *values) {
  if constexpr (V == 4) {
    float4 four = *(const float4 *)from;
    values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w;
  } else {
    values[0] = *from;
  }
}

template <int V> __device__ void write(float *to, const float *values) {
  if constexpr (V == 4)
    *(float4 *)to = float4{values[0], values[1], values[2], values[3]};
  else
    *to = values[0];
}

// Returns the input of a convolution after ReLU: max(0, x * scale + shift), or max(0, x) if `scale` is null.
__device__ float activated(float x, const float *scale, const float *shift, int channel) {
  float y = scale ? x * scale[channel] + shift[channel] : x;
  return y > 0.f ? y : 0.f;
}
