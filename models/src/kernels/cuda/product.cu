// Products of rows, the weight gradient of a pointwise convolution:
// out[slot][m][n] = sum over i of left[slot][m][i] * right[slot][n][i]; right is one for all slots if `shared`. Blocks sum over parts of
// the rows; the last one of a tile adds these up.

// A block makes 16 R x 16 R of the products of a slot and part, and keeps so many numbers of each of their rows at a time.
#define KEPT 64

template <int R>
__device__ void row_products(const float *left, const float *right, float *out, float *part_sums, int *tickets, float4 *kept,
                             int shared, int slots, int ms, int ns, int length, int parts) {
  // A row of those kept has four more, so that rows side by side are in other banks.
  const int side = 16 * R, step = KEPT / 4 + 1;
  float *to = parts > 1 ? part_sums : out;
  float4 *lefts = kept, *rights = kept + side * step;
  int m_tiles = (ms + side - 1) / side, n_tiles = (ns + side - 1) / side;
  ROWS(block, parts * slots * m_tiles * n_tiles) {
    int tile = block % (m_tiles * n_tiles), slot = block / (m_tiles * n_tiles) % slots;
    int part = block / (m_tiles * n_tiles) / slots, end = part_begin(length, parts, part + 1);
    int m0 = tile / n_tiles * side, n0 = tile % n_tiles * side;
    const float *from_left = left + (slot * ms + m0) * length;
    const float *from_right = right + ((shared ? 0 : slot * ns) + n0) * length;
    // A thread's products are 16 rows and columns apart. Where there are more than threads, these go over the part again, all together.
    int products = 16 * (ms - m0 < 16 ? ms - m0 : 16);
    for (int first = 0; first < products; first += blockDim.x) {
      int m = (first + threadIdx.x) / 16, n = (first + threadIdx.x) % 16;
      float sums[R][R];
#pragma unroll
      for (int i = 0; i < R; ++i)
#pragma unroll
        for (int j = 0; j < R; ++j) sums[i][j] = 0.f;
      for (int begin = part_begin(length, parts, part); begin < end; begin += KEPT) {
        __syncthreads();
#pragma unroll 4
        for (int i = threadIdx.x; i < side * KEPT; i += blockDim.x) {
          int row = i / KEPT, at = i % KEPT;
          bool inside = begin + at < end;
          float *to_left = (float *)(lefts + row * step), *to_right = (float *)(rights + row * step);
          to_left[at] = inside && m0 + row < ms ? from_left[row * length + begin + at] : 0.f;
          to_right[at] = inside && n0 + row < ns ? from_right[row * length + begin + at] : 0.f;
        }
        __syncthreads();
#pragma unroll 4
        for (int at = 0; at < KEPT / 4; ++at) {
          float4 ls[R], rs[R];
#pragma unroll
          for (int i = 0; i < R; ++i) {
            ls[i] = lefts[(m + 16 * i) * step + at];
            rs[i] = rights[(n + 16 * i) * step + at];
          }
#pragma unroll
          for (int i = 0; i < R; ++i)
#pragma unroll
            for (int j = 0; j < R; ++j)
              sums[i][j] += ls[i].x * rs[j].x + ls[i].y * rs[j].y + ls[i].z * rs[j].z + ls[i].w * rs[j].w;
        }
      }
#pragma unroll
      for (int i = 0; i < R; ++i)
#pragma unroll
        for (int j = 0; j < R; ++j) {
          int row = m0 + m + 16 * i, column = n0 + n + 16 * j;
          if (row < ms && column < ns) to[part * slots * ms * ns + (slot * ms + row) * ns + column] = sums[i][j];
        }
    }
    __syncthreads();
    if (parts == 1 || !last_of(tickets + block % (slots * m_tiles * n_tiles), parts)) continue;
    const volatile float *all = part_sums;
    for (int i = threadIdx.x; i < side * side; i += blockDim.x) {
      int row = m0 + i / side, column = n0 + i % side, at = (slot * ms + row) * ns + column;
      if (row >= ms || column >= ns) continue;
      float sum = 0.f;
      for (int each = 0; each < parts; ++each) sum += all[each * slots * ms * ns + at];
      out[at] = sum;
    }
  }
}

extern "C" __global__ void row_products_16(const float *left, const float *right, float *out, float *sums, int *tickets,
                                           int shared, int slots, int ms, int ns, int length, int parts) {
  __shared__ float4 kept[2 * 16 * 17];
  row_products<1>(left, right, out, sums, tickets, kept, shared, slots, ms, ns, length, parts);
}

extern "C" __global__ void row_products_32(const float *left, const float *right, float *out, float *sums, int *tickets,
                                           int shared, int slots, int ms, int ns, int length, int parts) {
  __shared__ float4 kept[2 * 32 * 17];
  row_products<2>(left, right, out, sums, tickets, kept, shared, slots, ms, ns, length, parts);
}

#undef KEPT
