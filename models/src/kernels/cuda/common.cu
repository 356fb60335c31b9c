// What every kernel uses. The files are compiled as one source, this one first, so none includes another.
//
// Maps are [channel][image][row][column], several of them one after the other: a pointwise convolution of a whole batch is then
// one matrix product, and a channel's values for a BatchNorm lie in one row. Counts stay below 2^30.

// The most threads of a block; a power of two, as every block's number is.
#define BLOCK 256

// A thread for each of `count` elements.
#define EACH(i, count) for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < (count); i += gridDim.x * blockDim.x)

// A block for each of `count` rows.
#define ROWS(row, count) for (int row = blockIdx.x; row < (count); row += gridDim.x)

// The sum over a warp's threads, told to its first.
__device__ float warp_sum(float value) {
  for (int half = blockDim.x < 32 ? blockDim.x / 2 : 16; half > 0; half /= 2) value += __shfl_down_sync(~0u, value, half);
  return value;
}

// The sum over a block's threads, told to all of them; `scratch` has a word for each warp.
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

// Whether a block is the last to come here of `parts` with one ticket, told to all of its threads: what the others wrote before they
// came it may then read, through pointers to volatile. Tickets are zero before a kernel and after it.
__device__ bool last_of(int *ticket, int parts) {
  __shared__ int came;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) came = atomicInc((unsigned *)ticket, parts - 1);
  __syncthreads();
  return came == parts - 1;
}

// A row of `length` numbers is cut into `parts`, where there are too few rows for all the blocks that could run: the numbers that
// part number `part` begins and ends at.
__device__ int part_begin(int length, int parts, int part) {
  int longer = length % parts;
  return length / parts * part + (longer < part ? longer : part);
}

// V numbers at a time, 4 where rows have a multiple of that, else 1.
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

// What a convolution reads: max(0, x * scale + shift), and max(0, x) where there is no scale.
__device__ float rectified(float x, const float *scale, const float *shift, int channel) {
  float y = scale ? x * scale[channel] + shift[channel] : x;
  return y > 0.f ? y : 0.f;
}
