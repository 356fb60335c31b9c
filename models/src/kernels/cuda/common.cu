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

// The sum over a block's threads, told to all of them. The only place where threads wait for each other.
__device__ float block_sum(float value, float *scratch) {
  int thread = threadIdx.x;
  scratch[thread] = value;
  __syncthreads();
  for (int half = blockDim.x / 2; half > 0; half /= 2) {
    if (thread < half) scratch[thread] += scratch[thread + half];
    __syncthreads();
  }
  float sum = scratch[0];
  __syncthreads();
  return sum;
}

// A row of `length` numbers is cut into `parts`, where there are too few rows for all the blocks that could run: the numbers that
// part number `part` begins and ends at.
__device__ int part_begin(int length, int parts, int part) {
  int longer = length % parts;
  return length / parts * part + (longer < part ? longer : part);
}

// out[i] = the sum of parts[part][i].
extern "C" __global__ void sum_parts(const float *parts, float *out, int count, int number) {
  EACH(i, count) {
    float sum = 0.f;
    for (int part = 0; part < number; ++part) sum += parts[part * count + i];
    out[i] = sum;
  }
}

// n / d by the inverse of d, for n below 2^20.
__device__ int quotient(int n, float inverse) { return (int)((n + 0.5f) * inverse); }

// What a convolution reads: max(0, x * scale + shift), and max(0, x) where there is no scale.
__device__ float rectified(float x, const float *scale, const float *shift, int channel) {
  float y = scale ? x * scale[channel] + shift[channel] : x;
  return y > 0.f ? y : 0.f;
}
