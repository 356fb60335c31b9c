// Depthwise convolution of a rectified map at stride 2, with the zero padding that would keep the size at stride 1, kernels of 3x3
// and 5x5. A slot is one convolution of all channels. Slots read one map, `shared`, or each its own, normalised on the way by `scale`
// and `shift` [slot][channel].

#define STRIDE 2

#define SIZES                                                                                               \
  int shared, int slots, int channels, int batch, int rows, int columns, int out_rows, int out_columns, int dilation
#define PASSED shared, slots, channels, batch, rows, columns, out_rows, out_columns, dilation

// Each tap's sum over a block's threads; `scratch` has K * K * (BLOCK + 1) words.
template <int K> __device__ void tap_sums(const float *sums, float *out, float *scratch) {
  int step = blockDim.x + 1;
#pragma unroll
  for (int tap = 0; tap < K * K; ++tap) scratch[tap * step + threadIdx.x] = sums[tap];
  __syncthreads();
  for (int tap = threadIdx.x; tap < K * K; tap += blockDim.x) {
    float sum = 0.f;
    for (int i = 0; i < (int)blockDim.x; ++i) sum += scratch[tap * step + i];
    out[tap] = sum;
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
    if (rectified(x[i], scale, shift, channel) > 0.f) {
      for (int slot = 0; slot < each; ++slot) {
        const float *from = dy + (slot * channels * batch + plane) * (out_rows * out_columns);
        const float *weights = w + (slot * channels + channel) * K * K;
#pragma unroll
        for (int kr = 0; kr < K; ++kr) {
          int r = row + dilation * (K / 2 - kr);
          if (r < 0 || r % STRIDE != 0 || r / STRIDE >= out_rows) continue;
#pragma unroll
          for (int kc = 0; kc < K; ++kc) {
            int c = column + dilation * (K / 2 - kc);
            if (c < 0 || c % STRIDE != 0 || c / STRIDE >= out_columns) continue;
            sum += weights[kr * K + kc] * from[r / STRIDE * out_columns + c / STRIDE];
          }
        }
      }
    }
    dx[i] = shared ? dx[i] + sum : sum;
  }
}

// Of each part of the images the gradient of the weights, `dw` [part][slot][channel][row][column].
template <int K>
__device__ void depthwise_weight(const float *x, const float *scale, const float *shift, const float *dy, float *dw,
                                 float *scratch, SIZES, int parts) {
  int count = batch * out_rows * out_columns, units = slots * channels;
  ROWS(block, parts * units) {
    int channel = block % units, part = block / units, end = part_begin(count, parts, part + 1);
    const float *from = x + (shared ? channel % channels : channel) * batch * (rows * columns);
    float sums[K * K];
#pragma unroll
    for (int tap = 0; tap < K * K; ++tap) sums[tap] = 0.f;
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
          sums[kr * K + kc] += d * rectified(from[(image * rows + r) * columns + c], scale, shift, channel);
        }
      }
    }
    tap_sums<K>(sums, dw + block * K * K, scratch);
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
                                              float *dw, SIZES, int parts) {
  __shared__ float scratch[9 * (BLOCK + 1)];
  depthwise_weight<3>(x, scale, shift, dy, dw, scratch, PASSED, parts);
}

extern "C" __global__ void depthwise_weight_5(const float *x, const float *scale, const float *shift, const float *dy,
                                              float *dw, SIZES, int parts) {
  __shared__ float scratch[25 * (BLOCK + 1)];
  depthwise_weight<5>(x, scale, shift, dy, dw, scratch, PASSED, parts);
}

#undef STRIDE
#undef SIZES
#undef PASSED
