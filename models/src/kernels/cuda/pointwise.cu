// Pointwise convolutions with 16, 32 or 64 input channels and the same number of output channels, for rows whose
// length is a multiple of four: y[slot][m][i] = sum over k of w[slot][m][k] * x[slot][k][i], with w[slot][k][m] if
// `transposed`. The moments of each row can be computed too.

// Rows that a thread computes at a time, of four pixels each.
#define MADE 8

// Rows of the input that are read ahead of the multiplication.
#define AHEAD 4

// Elements of shared memory of a block: weights, the centers of the moments, and the sums of warps and of threads.
#define KEPT(C) (C * C + C + 2 * MADE * BLOCK / 32 + 2 * MADE * BLOCK)

template <int C, bool SUMS>
__device__ void pointwise(const float *w, const float *x, float *y, float *mean, float *variance, float *sums, int *tickets,
                          float *kept, int slots, int length, int transposed, int parts) {
  // Number of threads that compute the same rows. A block with fewer threads computes the other rows later.
  const int side = BLOCK / (C / MADE);
  int step = blockDim.x < side ? blockDim.x : side, at_once = (blockDim.x + side - 1) / side, warps = (step + 31) / 32;
  int lane = threadIdx.x % side;
  float *center = kept + C * C, *of_warps = center + C, *of_threads = of_warps + 2 * MADE * BLOCK / 32;
  ROWS(block, slots * parts) {
    int slot = block / parts, part = block % parts, end = part_begin(length / 4, parts, part + 1);
    const float *from = x + slot * C * length;
    float *to = y + slot * C * length;
    __syncthreads();
    for (int i = threadIdx.x; i < C * C; i += blockDim.x) kept[transposed ? i : i % C * C + i / C] = w[slot * C * C + i];
    __syncthreads();
    // First value of each output row; its moments are computed relative to it.
    for (int m = threadIdx.x; SUMS && m < C; m += blockDim.x) {
      float first = 0.f;
      for (int k = 0; k < C; ++k) first += kept[k * C + m] * from[k * length];
      center[m] = first;
    }
    if (SUMS) __syncthreads();
    float *own = sums + (slot * parts + part) * 2 * C;
    for (int group = threadIdx.x / side; group < C / MADE; group += at_once) {
      // Sums of values and of squares of the rows. They are in shared memory, since the products need the registers.
      float *mine = of_threads + threadIdx.x;
      for (int i = 0; SUMS && i < 2 * MADE; ++i) mine[i * BLOCK] = 0.f;
      for (int at = part_begin(length / 4, parts, part) + lane; at < end; at += step) {
        const float *in = from + 4 * at;
        float made[MADE][4], now[AHEAD][4], next[AHEAD][4];
#pragma unroll
        for (int m = 0; m < MADE; ++m) made[m][0] = made[m][1] = made[m][2] = made[m][3] = 0.f;
#pragma unroll
        for (int k = 0; k < AHEAD; ++k) read<4>(in + k * length, now[k]);
#pragma unroll 2
        for (int k0 = 0; k0 < C; k0 += AHEAD) {
#pragma unroll
          for (int k = 0; k < AHEAD; ++k)
            if (k0 + AHEAD < C) read<4>(in + (k0 + AHEAD + k) * length, next[k]);
#pragma unroll
          for (int k = 0; k < AHEAD; ++k) {
            float weights[MADE];
#pragma unroll
            for (int m = 0; m < MADE; m += 4) read<4>(kept + (k0 + k) * C + MADE * group + m, weights + m);
#pragma unroll
            for (int m = 0; m < MADE; ++m)
#pragma unroll
              for (int pixel = 0; pixel < 4; ++pixel) made[m][pixel] += weights[m] * now[k][pixel];
          }
#pragma unroll
          for (int k = 0; k < AHEAD; ++k)
#pragma unroll
            for (int pixel = 0; pixel < 4; ++pixel) now[k][pixel] = next[k][pixel];
        }
#pragma unroll
        for (int m = 0; m < MADE; ++m) {
          write<4>(to + (MADE * group + m) * length + 4 * at, made[m]);
          if (!SUMS) continue;
          float sum = 0.f, square = 0.f;
#pragma unroll
          for (int pixel = 0; pixel < 4; ++pixel) {
            float d = made[m][pixel] - center[MADE * group + m];
            sum += d;
            square += d * d;
          }
          mine[2 * m * BLOCK] += sum;
          mine[(2 * m + 1) * BLOCK] += square;
        }
      }
      if (!SUMS) continue;
      float *of_group = of_warps + threadIdx.x / side * warps * 2 * MADE;
      for (int i = 0; i < 2 * MADE; ++i) {
        float sum = warp_sum(mine[i * BLOCK]);
        if (lane % 32 == 0) of_group[lane / 32 * 2 * MADE + i] = sum;
      }
      __syncthreads();
      for (int i = lane; i < 2 * MADE; i += step) {
        float all = 0.f;
        for (int warp = 0; warp < warps; ++warp) all += of_group[warp * 2 * MADE + i];
        own[2 * MADE * group + i] = all;
      }
      __syncthreads();
    }
    if (!SUMS || !last_of(tickets + slot, parts)) continue;
    const volatile float *all = sums + slot * parts * 2 * C;
    for (int m = threadIdx.x; m < C; m += blockDim.x) {
      float one = 0.f, other = 0.f;
      for (int i = 0; i < parts; ++i) {
        one += all[2 * (i * C + m)];
        other += all[2 * (i * C + m) + 1];
      }
      keep_moments(one, other, center[m], length, mean + slot * C + m, variance + slot * C + m);
    }
  }
}

template <int C>
__device__ void pointwise_of(const float *w, const float *x, float *y, float *mean, float *variance, float *sums, int *tickets,
                             float *kept, int slots, int length, int transposed, int parts) {
  if (mean)
    pointwise<C, true>(w, x, y, mean, variance, sums, tickets, kept, slots, length, transposed, parts);
  else
    pointwise<C, false>(w, x, y, mean, variance, sums, tickets, kept, slots, length, transposed, parts);
}

extern "C" __launch_bounds__(BLOCK, 2) __global__ void pointwise_16(
    const float *w, const float *x, float *y, float *mean, float *variance, float *sums, int *tickets, int slots, int length,
    int transposed, int parts) {
  __shared__ float4 kept[KEPT(16) / 4];
  pointwise_of<16>(w, x, y, mean, variance, sums, tickets, (float *)kept, slots, length, transposed, parts);
}

extern "C" __launch_bounds__(BLOCK, 2) __global__ void pointwise_32(
    const float *w, const float *x, float *y, float *mean, float *variance, float *sums, int *tickets, int slots, int length,
    int transposed, int parts) {
  __shared__ float4 kept[KEPT(32) / 4];
  pointwise_of<32>(w, x, y, mean, variance, sums, tickets, (float *)kept, slots, length, transposed, parts);
}

extern "C" __launch_bounds__(BLOCK, 2) __global__ void pointwise_64(
    const float *w, const float *x, float *y, float *mean, float *variance, float *sums, int *tickets, int slots, int length,
    int transposed, int parts) {
  __shared__ float4 kept[KEPT(64) / 4];
  pointwise_of<64>(w, x, y, mean, variance, sums, tickets, (float *)kept, slots, length, transposed, parts);
}

#undef MADE
#undef AHEAD
#undef KEPT
