// Products of rows, for the weight gradient of a pointwise convolution: out[slot][m][n] = sum over i of
// left[slot][m][i] * right[slot][n][i]. If `shared`, right is one matrix for all slots. Blocks sum over parts of the
// rows; the last block of a tile adds these sums.

// Rows, and columns, of a thread's tile of products.
#define MADE 4

// A block computes SIDE x SIDE products of a slot and part, and keeps KEPT elements of each of their rows at a time.
// A slice is a group of threads, each of which computes MADE x MADE of the products. The slices alternate over groups
// of four elements.
template <int SIDE, int KEPT>
__device__ void row_products(const float *left, const float *right, float *out, float *part_sums, int *tickets, float4 *kept,
                             int shared, int slots, int ms, int ns, int length, int parts) {
  float *to = parts > 1 ? part_sums : out;
  // A row in shared memory has four more elements, so that neighbouring rows are in different banks.
  const int step = KEPT / 4 + 1, across = SIDE / MADE, squares = across * across;
  float4 *lefts = kept, *rights = kept + SIDE * step;
  float *sums_of = (float *)(kept + 2 * SIDE * step);
  bool fours = length % 4 == 0;
  int m_tiles = (ms + SIDE - 1) / SIDE, n_tiles = (ns + SIDE - 1) / SIDE;
  int slices = blockDim.x > squares ? blockDim.x / squares : 1, slice = threadIdx.x / squares % slices;
  ROWS(block, parts * slots * m_tiles * n_tiles) {
    int tile = block % (m_tiles * n_tiles), slot = block / (m_tiles * n_tiles) % slots;
    // Parts begin at a multiple of four if rows do.
    int part = block / (m_tiles * n_tiles) / slots, unit = fours ? 4 : 1;
    int start = unit * part_begin(length / unit, parts, part), end = unit * part_begin(length / unit, parts, part + 1);
    int m0 = tile / n_tiles * SIDE, n0 = tile % n_tiles * SIDE;
    const float *from_left = left + (slot * ms + m0) * length;
    const float *from_right = right + ((shared ? 0 : slot * ns) + n0) * length;
    // If there are fewer threads than squares, all threads process the part again for the remaining squares.
    for (int first = 0; first < squares; first += blockDim.x) {
      int square = (first + threadIdx.x) % squares, m = square / across, n = square % across;
      float sums[MADE][MADE];
#pragma unroll
      for (int i = 0; i < MADE; ++i)
#pragma unroll
        for (int j = 0; j < MADE; ++j) sums[i][j] = 0.f;
      for (int begin = start; begin < end; begin += KEPT) {
        __syncthreads();
        if (fours) {
#pragma unroll 4
          for (int i = threadIdx.x; i < SIDE * KEPT / 4; i += blockDim.x) {
            int row = i / (KEPT / 4), at = i % (KEPT / 4);
            float4 zero = {0.f, 0.f, 0.f, 0.f};
            bool inside = begin + 4 * at < end;
            lefts[row * step + at] = inside && m0 + row < ms ? *(const float4 *)(from_left + row * length + begin + 4 * at) : zero;
            rights[row * step + at] = inside && n0 + row < ns ? *(const float4 *)(from_right + row * length + begin + 4 * at) : zero;
          }
        } else {
#pragma unroll 4
          for (int i = threadIdx.x; i < SIDE * KEPT; i += blockDim.x) {
            int row = i / KEPT, at = i % KEPT;
            bool inside = begin + at < end;
            float *to_left = (float *)(lefts + row * step), *to_right = (float *)(rights + row * step);
            to_left[at] = inside && m0 + row < ms ? from_left[row * length + begin + at] : 0.f;
            to_right[at] = inside && n0 + row < ns ? from_right[row * length + begin + at] : 0.f;
          }
        }
        __syncthreads();
        for (int at = slice; at < KEPT / 4; at += slices) {
          float4 ls[MADE], rs[MADE];
#pragma unroll
          for (int i = 0; i < MADE; ++i) {
            ls[i] = lefts[(m + across * i) * step + at];
            rs[i] = rights[(n + across * i) * step + at];
          }
#pragma unroll
          for (int i = 0; i < MADE; ++i)
#pragma unroll
            for (int j = 0; j < MADE; ++j)
              sums[i][j] += ls[i].x * rs[j].x + ls[i].y * rs[j].y + ls[i].z * rs[j].z + ls[i].w * rs[j].w;
        }
      }
      // Slices add their sums one after another.
      for (int turn = 0; turn < slices; ++turn) {
        __syncthreads();
        if (turn != slice) continue;
#pragma unroll
        for (int i = 0; i < MADE; ++i)
#pragma unroll
          for (int j = 0; j < MADE; ++j) {
            float *sum = sums_of + (m + across * i) * SIDE + n + across * j;
            *sum = turn == 0 ? sums[i][j] : *sum + sums[i][j];
          }
      }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < SIDE * SIDE; i += blockDim.x) {
      int row = m0 + i / SIDE, column = n0 + i % SIDE;
      if (row < ms && column < ns) to[part * slots * ms * ns + (slot * ms + row) * ns + column] = sums_of[i];
    }
    if (parts == 1 || !last_of(tickets + block % (slots * m_tiles * n_tiles), parts)) continue;
    const volatile float *all = part_sums;
    for (int i = threadIdx.x; i < SIDE * SIDE; i += blockDim.x) {
      int row = m0 + i / SIDE, column = n0 + i % SIDE, at = (slot * ms + row) * ns + column;
      if (row >= ms || column >= ns) continue;
      float sum = 0.f;
      for (int each = 0; each < parts; ++each) sum += all[each * slots * ms * ns + at];
      out[at] = sum;
    }
  }
}

extern "C" __global__ void row_products_16(const float *left, const float *right, float *out, float *sums, int *tickets,
                                           int shared, int slots, int ms, int ns, int length, int parts) {
  __shared__ float4 kept[2 * 16 * 33 + 16 * 16 / 4];
  row_products<16, 128>(left, right, out, sums, tickets, kept, shared, slots, ms, ns, length, parts);
}

extern "C" __global__ void row_products_32(const float *left, const float *right, float *out, float *sums, int *tickets,
                                           int shared, int slots, int ms, int ns, int length, int parts) {
  __shared__ float4 kept[2 * 32 * 17 + 32 * 32 / 4];
  row_products<32, 64>(left, right, out, sums, tickets, kept, shared, slots, ms, ns, length, parts);
}

#undef MADE
