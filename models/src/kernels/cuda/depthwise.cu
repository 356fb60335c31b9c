// Depthwise convolution after ReLU at stride 2, with the zero padding that would keep the size at stride 1, and
// kernels of 3x3 and 5x5. A slot is one convolution of all channels. Slots read one common feature map if `shared`.
// If not, each reads its own, to which `scale` and `shift` [slot][channel] are applied first.

#define STRIDE 2

#define SIZES                                                                                               \
  int shared, int slots, int channels, int batch, int rows, int columns, int out_rows, int out_columns
#define PASSED shared, slots, channels, batch, rows, columns, out_rows, out_columns

// Completes the gradient of a channel's weights. Each tap is summed over a block's threads, and over the blocks of
// all parts, whose sums are kept in `sums`. `scratch` has K * K elements per warp.
template <int K>
__device__ void finish_taps(const float *taps, float *out, float *sums, int *ticket, int part, int parts, float *scratch) {
  int warps = (blockDim.x + 31) / 32, warp = threadIdx.x / 32;
  __syncthreads();
#pragma unroll
  for (int tap = 0; tap < K * K; ++tap) {
    float sum = warp_sum(taps[tap]);
    if (threadIdx.x % 32 == 0) scratch[tap * warps + warp] = sum;
  }
  __syncthreads();
  float *own = parts > 1 ? sums + part * K * K : out;
  for (int tap = threadIdx.x; tap < K * K; tap += blockDim.x) {
    float sum = 0.f;
    for (int i = 0; i < warps; ++i) sum += scratch[tap * warps + i];
    own[tap] = sum;
  }
  if (parts > 1 && last_of(ticket, parts)) {
    const volatile float *all = sums;
    for (int tap = threadIdx.x; tap < K * K; tap += blockDim.x) {
      float sum = 0.f;
      for (int i = 0; i < parts; ++i) sum += all[i * K * K + tap];
      out[tap] = sum;
    }
  }
  __syncthreads();
}

// Outputs per thread, in one column. The thread reads each row of their inputs once.
#define STRIP 4

template <int K, int D>
__device__ void depthwise_forward(const float *x, const float *scale, const float *shift, const float *w, float *y, SIZES) {
  int strips = (out_rows + STRIP - 1) / STRIP;
  EACH(i, slots * channels * batch * strips * out_columns) {
    int column = i % out_columns, first = i / out_columns % strips * STRIP, plane = i / (out_columns * strips);
    int channel = plane / batch;
    const float *from = x + (shared ? plane % (channels * batch) : plane) * (rows * columns);
    const float *weights = w + channel * K * K;
    int top = first * STRIDE - D * (K / 2), left = column * STRIDE - D * (K / 2);
    float sums[STRIP] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
    for (int r = 0; r < (STRIP - 1) * STRIDE + D * (K - 1) + 1; ++r) {
#pragma unroll
      for (int kc = 0; kc < K; ++kc) {
        int c = left + kc * D;
        bool inside = top + r >= 0 && top + r < rows && c >= 0 && c < columns;
        float value = inside ? activated(from[(top + r) * columns + c], scale, shift, channel) : 0.f;
#pragma unroll
        for (int v = 0; v < STRIP; ++v) {
          int kr = (r - v * STRIDE) / D;
          if (r >= v * STRIDE && (r - v * STRIDE) % D == 0 && kr < K) sums[v] += weights[kr * K + kc] * value;
        }
      }
    }
#pragma unroll
    for (int v = 0; v < STRIP; ++v)
      if (first + v < out_rows) y[(plane * out_rows + first + v) * out_columns + column] = sums[v];
  }
}

// Gradient of the ReLU's input. If slots share it, the sum over them is added to `dx`.
template <int K, int D>
__device__ void depthwise_input(const float *x, const float *scale, const float *shift, const float *w, const float *dy,
                                float *dx, SIZES) {
  int maps = shared ? 1 : slots, each = shared ? slots : 1;
  // Number of taps that an output has at a pixel along one axis: every other one, or at dilation 2 all or none.
  const int taps = D == 1 ? (K + 1) / 2 : K, step = D == 1 ? 2 : 1;
  EACH(i, maps * channels * batch * rows * columns) {
    int column = i % columns, row = i / columns % rows, plane = i / (columns * rows);
    int channel = plane / batch, row_tap = D == 1 ? (row + K / 2) % 2 : 0, column_tap = D == 1 ? (column + K / 2) % 2 : 0;
    bool any = (D == 1 || (row % 2 == 0 && column % 2 == 0)) && activated(x[i], scale, shift, channel) > 0.f;
    // Output that reads the pixel with the first such tap.
    int low = (row + D * (K / 2 - row_tap)) / STRIDE, right = (column + D * (K / 2 - column_tap)) / STRIDE;
    float sum = 0.f;
    for (int slot = 0; any && slot < each; ++slot) {
      const float *from = dy + (slot * channels * batch + plane) * (out_rows * out_columns);
      const float *weights = w + (slot * channels + channel) * K * K + row_tap * K + column_tap;
#pragma unroll
      for (int kr = 0; kr < taps; ++kr) {
#pragma unroll
        for (int kc = 0; kc < taps; ++kc) {
          int r = low - kr, c = right - kc;
          bool has = row_tap + step * kr < K && column_tap + step * kc < K;
          if (has && r >= 0 && r < out_rows && c >= 0 && c < out_columns)
            sum += weights[step * (kr * K + kc)] * from[r * out_columns + c];
        }
      }
    }
    dx[i] = shared ? dx[i] + sum : sum;
  }
}

// Gradient of the weights, [slot][channel][row][column], one part of the images per block; see finish_taps.
template <int K>
__device__ void depthwise_weight(const float *x, const float *scale, const float *shift, const float *dy, float *dw,
                                 float *sums, int *tickets, float *scratch, SIZES, int dilation, int parts) {
  int count = batch * out_rows * out_columns, units = slots * channels;
  ROWS(block, parts * units) {
    int channel = block % units, part = block / units, end = part_begin(count, parts, part + 1);
    const float *from = x + (shared ? channel % channels : channel) * batch * (rows * columns);
    float taps[K * K];
#pragma unroll
    for (int tap = 0; tap < K * K; ++tap) taps[tap] = 0.f;
    for (int i = part_begin(count, parts, part) + threadIdx.x; i < end; i += blockDim.x) {
      int column = i % out_columns, row = i / out_columns % out_rows, image = i / (out_columns * out_rows);
      int top = row * STRIDE - dilation * (K / 2), left = column * STRIDE - dilation * (K / 2);
      float d = dy[channel * count + i];
#pragma unroll
      for (int kr = 0; kr < K; ++kr) {
        int r = top + kr * dilation;
        if (r < 0 || r >= rows) continue;
#pragma unroll
        for (int kc = 0; kc < K; ++kc) {
          int c = left + kc * dilation;
          if (c < 0 || c >= columns) continue;
          taps[kr * K + kc] += d * activated(from[(image * rows + r) * columns + c], scale, shift, channel);
        }
      }
    }
    finish_taps<K>(taps, dw + channel * K * K, sums + channel * parts * K * K, tickets + channel, part, parts, scratch);
  }
}

extern "C" __global__ void depthwise_forward_3(const float *x, const float *scale, const float *shift, const float *w,
                                               float *y, SIZES, int dilation) {
  if (dilation == 1)
    depthwise_forward<3, 1>(x, scale, shift, w, y, PASSED);
  else
    depthwise_forward<3, 2>(x, scale, shift, w, y, PASSED);
}

extern "C" __global__ void depthwise_forward_5(const float *x, const float *scale, const float *shift, const float *w,
                                               float *y, SIZES, int dilation) {
  if (dilation == 1)
    depthwise_forward<5, 1>(x, scale, shift, w, y, PASSED);
  else
    depthwise_forward<5, 2>(x, scale, shift, w, y, PASSED);
}

extern "C" __global__ void depthwise_input_3(const float *x, const float *scale, const float *shift, const float *w,
                                             const float *dy, float *dx, SIZES, int dilation) {
  if (dilation == 1)
    depthwise_input<3, 1>(x, scale, shift, w, dy, dx, PASSED);
  else
    depthwise_input<3, 2>(x, scale, shift, w, dy, dx, PASSED);
}

extern "C" __global__ void depthwise_input_5(const float *x, const float *scale, const float *shift, const float *w,
                                             const float *dy, float *dx, SIZES, int dilation) {
  if (dilation == 1)
    depthwise_input<5, 1>(x, scale, shift, w, dy, dx, PASSED);
  else
    depthwise_input<5, 2>(x, scale, shift, w, dy, dx, PASSED);
}

extern "C" __global__ void depthwise_weight_3(const float *x, const float *scale, const float *shift, const float *dy,
                                              float *dw, float *sums, int *tickets, SIZES, int dilation, int parts) {
  __shared__ float scratch[9 * BLOCK / 32];
  depthwise_weight<3>(x, scale, shift, dy, dw, sums, tickets, scratch, PASSED, dilation, parts);
}

extern "C" __global__ void depthwise_weight_5(const float *x, const float *scale, const float *shift, const float *dy,
                                              float *dw, float *sums, int *tickets, SIZES, int dilation, int parts) {
  __shared__ float scratch[25 * BLOCK / 32];
  depthwise_weight<5>(x, scale, shift, dy, dw, sums, tickets, scratch, PASSED, dilation, parts);
}

#undef STRIDE
#undef STRIP
#undef SIZES
#undef PASSED
