// Pools of 3x3 windows with one pixel of padding, which counts neither among the maxima nor in a mean. Gradients are added.

extern "C" __global__ void max_pool_forward(const float *x, float *y, int *taps, int planes, int rows, int columns,
                                            int out_rows, int out_columns, int stride) {
  EACH(i, planes * out_rows * out_columns) {
    int column = i % out_columns, row = i / out_columns % out_rows, plane = i / (out_columns * out_rows);
    const float *from = x + plane * (rows * columns);
    // The first of equal maxima wins, as in PyTorch.
    float best = 0.f;
    int at = -1;
    for (int tap = 0; tap < 9; ++tap) {
      int r = row * stride + tap / 3 - 1, c = column * stride + tap % 3 - 1;
      if (r < 0 || r >= rows || c < 0 || c >= columns) continue;
      float value = from[r * columns + c];
      if (at < 0 || value > best) {
        best = value;
        at = tap;
      }
    }
    y[i] = best;
    taps[i] = at;
  }
}

// Over the windows that a pixel may be in, STRIDE apart: (row, column) of the window, and the pixel's tap there.
#define WINDOWS(row, column, window_row, window_column, tap)                                        \
  for (int tap = 0, window_row, window_column; tap < 9; ++tap)                                      \
    if ((window_row = row + 1 - tap / 3) >= 0 && (window_column = column + 1 - tap % 3) >= 0 &&     \
        window_row % STRIDE == 0 && window_column % STRIDE == 0 &&                                  \
        (window_row /= STRIDE) < out_rows && (window_column /= STRIDE) < out_columns)

template <int STRIDE>
__device__ void max_pool_back(const float *dy, const int *taps, float *dx, int planes, int rows, int columns, int out_rows,
                              int out_columns) {
  EACH(i, planes * rows * columns) {
    int column = i % columns, row = i / columns % rows, plane = i / (columns * rows);
    float sum = 0.f;
#pragma unroll
    WINDOWS(row, column, r, c, tap) {
      int window = (plane * out_rows + r) * out_columns + c;
      if (taps[window] == tap) sum += dy[window];
    }
    dx[i] += sum;
  }
}

extern "C" __global__ void max_pool_backward(const float *dy, const int *taps, float *dx, int planes, int rows, int columns,
                                             int out_rows, int out_columns, int stride) {
  if (stride == 1)
    max_pool_back<1>(dy, taps, dx, planes, rows, columns, out_rows, out_columns);
  else
    max_pool_back<2>(dy, taps, dx, planes, rows, columns, out_rows, out_columns);
}

// Pixels of the window at (row, column), padding left out.
__device__ int pool_count(int row, int column, int rows, int columns, int stride) {
  int top = row * stride - 1, left = column * stride - 1;
  int high = (top + 3 < rows ? top + 3 : rows) - (top > 0 ? top : 0);
  int wide = (left + 3 < columns ? left + 3 : columns) - (left > 0 ? left : 0);
  return high * wide;
}

extern "C" __global__ void average_pool_forward(const float *x, float *y, int planes, int rows, int columns, int out_rows,
                                                int out_columns, int stride) {
  EACH(i, planes * out_rows * out_columns) {
    int column = i % out_columns, row = i / out_columns % out_rows, plane = i / (out_columns * out_rows);
    const float *from = x + plane * (rows * columns);
    float sum = 0.f;
    for (int tap = 0; tap < 9; ++tap) {
      int r = row * stride + tap / 3 - 1, c = column * stride + tap % 3 - 1;
      if (r >= 0 && r < rows && c >= 0 && c < columns) sum += from[r * columns + c];
    }
    y[i] = sum / pool_count(row, column, rows, columns, stride);
  }
}

template <int STRIDE>
__device__ void average_pool_back(const float *dy, float *dx, int planes, int rows, int columns, int out_rows,
                                  int out_columns) {
  EACH(i, planes * rows * columns) {
    int column = i % columns, row = i / columns % rows, plane = i / (columns * rows);
    float sum = 0.f;
#pragma unroll
    WINDOWS(row, column, r, c, tap) {
      sum += dy[(plane * out_rows + r) * out_columns + c] / pool_count(r, c, rows, columns, STRIDE);
    }
    dx[i] += sum;
  }
}

extern "C" __global__ void average_pool_backward(const float *dy, float *dx, int planes, int rows, int columns, int out_rows,
                                                 int out_columns, int stride) {
  if (stride == 1)
    average_pool_back<1>(dy, dx, planes, rows, columns, out_rows, out_columns);
  else
    average_pool_back<2>(dy, dx, planes, rows, columns, out_rows, out_columns);
}

#undef WINDOWS
