// Products of rows, the weight gradient of a pointwise convolution:
// out[slot][m][n] = sum over i of left[slot][m][i] * right[slot][n][i]; right is one for all slots if `shared`.

// Rows of either side that a block takes at a time, so that a value is read a quarter as often.
#define TILE 4

extern "C" __global__ void row_products(const float *left, const float *right, float *out, int shared, int slots, int ms,
                                        int ns, int length) {
  __shared__ float scratch[BLOCK];
  int m_tiles = (ms + TILE - 1) / TILE, n_tiles = (ns + TILE - 1) / TILE;
  ROWS(tile, slots * m_tiles * n_tiles) {
    int slot = tile / (m_tiles * n_tiles), m0 = tile / n_tiles % m_tiles * TILE, n0 = tile % n_tiles * TILE;
    const float *from_left = left + (slot * ms + m0) * length;
    const float *from_right = right + ((shared ? 0 : slot * ns) + n0) * length;
    // Rows past the last are read as the last, and not written.
    int last_m = ms - m0 - 1, last_n = ns - n0 - 1;
    float sums[TILE][TILE];
    for (int m = 0; m < TILE; ++m)
      for (int n = 0; n < TILE; ++n) sums[m][n] = 0.f;
    for (int i = threadIdx.x; i < length; i += blockDim.x) {
      float values[TILE];
#pragma unroll
      for (int n = 0; n < TILE; ++n) values[n] = from_right[(n < last_n ? n : last_n) * length + i];
#pragma unroll
      for (int m = 0; m < TILE; ++m) {
        float value = from_left[(m < last_m ? m : last_m) * length + i];
#pragma unroll
        for (int n = 0; n < TILE; ++n) sums[m][n] += value * values[n];
      }
    }
    for (int m = 0; m < TILE; ++m) {
      for (int n = 0; n < TILE; ++n) {
        float sum = block_sum(sums[m][n], scratch);
        if (threadIdx.x == 0 && m <= last_m && n <= last_n) out[(slot * ms + m0 + m) * ns + n0 + n] = sum;
      }
    }
  }
}

#undef TILE
