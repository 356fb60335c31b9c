// Depthwise convolution of a rectified map at stride 2, with the zero padding that would keep the size at stride 1, kernels of 3x3
// and 5x5. A slot is one convolution of all channels. Slots read one map, `shared`, or each its own, normalised on the way by `scale`
// and `shift` [slot][channel].

#define STRIDE 2

#define SIZES                                                                                               \
  int shared, int slots, int channels, int batch, int rows, int columns, int out_rows, int out_columns, int dilation
#define PASSED shared, slots, channels, batch, rows, columns, out_rows, out_columns, dilation

// The gradient of a unit's weights: each tap's sum over a block's threads, and over the blocks of all parts, whose own are kept in `sums`.
// `scratch` has K * K words for each warp.
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

template <int K>
__device__ void depthwise_forward(const float *x, const float *scale, const float *shift, const float *w, float *y, SIZES) {
  EACH(i, slots * channels * batch * out_rows * out_columns) {
    int column = i % out_columns, row = i / out_columns % out_rows, plane = i / (out_columns * out_rows);
    int channel = plane / batch;
    const float *from = x + (shared ? plane % (channels * batch) : plane) * (rows * columns);
    const float *weights = w + channel * K * K;
    int top = row * STRIDE - dilation * (K / 2), left = column * STRIDE - dilation * (K / 2);
    float sum = 0.f;
#pragma unroll
    for (int kr = 0; kr < K; ++kr) {
      int r = top + kr * dilation;
      if (r < 0 || r >= rows) continue;
#pragma unroll
      for (int kc = 0; kc < K; ++kc) {
        int c = left + kc * dilation;
        if (c < 0 || c >= columns) continue;
        sum += weights[kr * K + kc] * rectified(from[r * columns + c], scale, shift, channel);
      }
    }
    y[i] = sum;
  }
}

// The gradient of what is rectified: where slots share it, the sum over them is added to `dx`.
template <int K>
__device__ void depthwise_input(const float *x, const float *scale, const float *shift, const float *w, const float *dy,
                                float *dx, SIZES) {
  int maps = shared ? 1 : slots, each = shared ? slots : 1;
  EACH(i, maps * channels * batch * rows * columns) {
    int column = i % columns, row = i / columns % rows, plane = i / (columns * rows);
    int channel = plane / batch;
    float sum = 0.f;
    // The taps that an output's pixel has here: every other one, or at a dilation of 2 all or none.
    int step = dilation == 1 ? 2 : 1, row_tap = dilation == 1 ? (row + K / 2) % 2 : row % 2 * K;
    int column_tap = dilation == 1 ? (column + K / 2) % 2 : column % 2 * K;
    if (rectified(x[i], scale, shift, channel) > 0.f) {
      for (int slot = 0; slot < each; ++slot) {
        const float *from = dy + (slot * channels * batch + plane) * (out_rows * out_columns);
        const float *weights = w + (slot * channels + channel) * K * K;
        for (int kr = row_tap; kr < K; kr += step) {
          int r = (row + dilation * (K / 2 - kr)) / STRIDE;
          if (r < 0 || r >= out_rows) continue;
          for (int kc = column_tap; kc < K; kc += step) {
            int c = (column + dilation * (K / 2 - kc)) / STRIDE;
            if (c >= 0 && c < out_columns) sum += weights[kr * K + kc] * from[r * out_columns + c];
          }
        }
      }
    }
    dx[i] = shared ? dx[i] + sum : sum;
  }
}

// The gradient of the weights, [slot][channel][row][column], from each part of the images, as finish_taps has it.
template <int K>
__device__ void depthwise_weight(const float *x, const float *scale, const float *shift, const float *dy, float *dw,
                                 float *sums, int *tickets, float *scratch, SIZES, int parts) {
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
          taps[kr * K + kc] += d * rectified(from[(image * rows + r) * columns + c], scale, shift, channel);
        }
      }
    }
    finish_taps<K>(taps, dw + channel * K * K, sums + channel * parts * K * K, tickets + channel, part, parts, scratch);
  }
}

extern "C" __global__ void depthwise_forward_3(const float *x, const float *scale, const float *shift, const float *w,
                                               float *y, SIZES) {
  depthwise_forward<3>(x, scale, shift, w, y, PASSED);
}

extern "C" __global__ void depthwise_forward_5(const float *x, const float *scale, const float *shift, const float *w,
                                               float *y, SIZES) {
  depthwise_forward<5>(x, scale, shift, w, y, PASSED);
}

extern "C" __global__ void depthwise_input_3(const float *x, const float *scale, const float *shift, const float *w,
                                             const float *dy, float *dx, SIZES) {
  depthwise_input<3>(x, scale, shift, w, dy, dx, PASSED);
}

extern "C" __global__ void depthwise_input_5(const float *x, const float *scale, const float *shift, const float *w,
                                             const float *dy, float *dx, SIZES) {
  depthwise_input<5>(x, scale, shift, w, dy, dx, PASSED);
}

extern "C" __global__ void depthwise_weight_3(const float *x, const float *scale, const float *shift, const float *dy,
                                              float *dw, float *sums, int *tickets, SIZES, int parts) {
  __shared__ float scratch[9 * BLOCK / 32];
  depthwise_weight<3>(x, scale, shift, dy, dw, sums, tickets, scratch, PASSED, parts);
}

extern "C" __global__ void depthwise_weight_5(const float *x, const float *scale, const float *shift, const float *dy,
                                              float *dw, float *sums, int *tickets, SIZES, int parts) {
  __shared__ float scratch[25 * BLOCK / 32];
  depthwise_weight<5>(x, scale, shift, dy, dw, sums, tickets, scratch, PASSED, parts);
}

#undef STRIDE
#undef SIZES
#undef PASSED
