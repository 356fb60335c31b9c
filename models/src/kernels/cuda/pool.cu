// 3x3 pooling with one pixel of padding, which counts neither for a maximum nor for a mean. Both pools are computed
// together, or only the one whose output is given. Gradients are added to the output.

// Windows (or pixels, in the gradient at stride 1) per thread, in one column. The thread reads each row of their
// inputs once.
#define STRIP 4

// Number of pixels of the window at (row, column), without padding.
__device__ int pool_count(int row, int column, int rows, int columns, int stride) {
  int top = row * stride - 1, left = column * stride - 1;
  int high = (top + 3 < rows ? top + 3 : rows) - (top > 0 ? top : 0);
  int wide = (left + 3 < columns ? left + 3 : columns) - (left > 0 ? left : 0);
  return high * wide;
}

template <int STRIDE>
__device__ void pool(const float *x, float *most, int *taps, float *means, int planes, int rows, int columns, int out_rows,
                     int out_columns) {
  int strips = (out_rows + STRIP - 1) / STRIP;
  EACH(i, planes * strips * out_columns) {
    int column = i % out_columns, first = i / out_columns % strips * STRIP, plane = i / (out_columns * strips);
    int top = first * STRIDE - 1, left = column * STRIDE - 1;
    const float *from = x + plane * (rows * columns);
    const int height = (STRIP - 1) * STRIDE + 3;
    float around[height][3];
#pragma unroll
    for (int r = 0; r < height; ++r)
#pragma unroll
      for (int c = 0; c < 3; ++c) {
        bool inside = top + r >= 0 && top + r < rows && left + c >= 0 && left + c < columns;
        around[r][c] = inside ? from[(top + r) * columns + left + c] : 0.f;
      }
#pragma unroll
    for (int v = 0; v < STRIP; ++v) {
      if (first + v >= out_rows) continue;
      int out = (plane * out_rows + first + v) * out_columns + column, at = -1;
      // The first of equal maxima is selected, as in PyTorch.
      float best = 0.f, sum = 0.f;
#pragma unroll
      for (int tap = 0; tap < 9; ++tap) {
        int r = v * STRIDE + tap / 3, c = tap % 3;
        if (top + r < 0 || top + r >= rows || left + c < 0 || left + c >= columns) continue;
        sum += around[r][c];
        if (at < 0 || around[r][c] > best) {
          best = around[r][c];
          at = tap;
        }
      }
      if (most) {
        most[out] = best;
        taps[out] = at;
      }
      if (means) means[out] = sum / pool_count(first + v, column, rows, columns, STRIDE);
    }
  }
}

extern "C" __global__ void pools_forward(const float *x, float *most, int *taps, float *means, int planes, int rows,
                                         int columns, int out_rows, int out_columns, int stride) {
  if (stride == 1)
    pool<1>(x, most, taps, means, planes, rows, columns, out_rows, out_columns);
  else
    pool<2>(x, most, taps, means, planes, rows, columns, out_rows, out_columns);
}

// At stride 1, the window with index i has its middle at pixel i.
__device__ void pool_back(const float *d_most, const int *taps, const float *d_means, float *dx, int planes, int rows,
                          int columns) {
  int strips = (rows + STRIP - 1) / STRIP;
  EACH(i, planes * strips * columns) {
    int column = i % columns, first = i / columns % strips * STRIP, plane = i / (columns * strips);
    float sums[STRIP] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
    for (int r = 0; r < STRIP + 2; ++r)
#pragma unroll
      for (int c = 0; c < 3; ++c) {
        int row = first + r - 1, at = column + c - 1, window = (plane * rows + row) * columns + at;
        if (row < 0 || row >= rows || at < 0 || at >= columns) continue;
        float mean = d_means ? d_means[window] / pool_count(row, at, rows, columns, 1) : 0.f, most = d_most ? d_most[window] : 0.f;
        int tap = d_most ? taps[window] : -1;
#pragma unroll
        for (int v = 0; v < STRIP; ++v)
          if (r - v >= 0 && r - v < 3) sums[v] += mean + (tap == (2 - (r - v)) * 3 + 2 - c ? most : 0.f);
      }
#pragma unroll
    for (int v = 0; v < STRIP; ++v)
      if (first + v < rows) dx[(plane * rows + first + v) * columns + column] += sums[v];
  }
}

__device__ void pool_back_strided(const float *d_most, const int *taps, const float *d_means, float *dx, int planes, int rows,
                                  int columns, int out_rows, int out_columns) {
  EACH(i, planes * rows * columns) {
    int column = i % columns, row = i / columns % rows, plane = i / (columns * rows);
    float sum = 0.f;
    // A pixel is in one or two windows along each axis.
#pragma unroll
    for (int of = 0; of < 4; ++of) {
      int r = (row + of / 2 * (row % 2)) / 2, c = (column + of % 2 * (column % 2)) / 2;
      bool again = (of / 2 == 1 && row % 2 == 0) || (of % 2 == 1 && column % 2 == 0);
      if (again || r >= out_rows || c >= out_columns) continue;
      int window = (plane * out_rows + r) * out_columns + c, tap = (row - 2 * r + 1) * 3 + column - 2 * c + 1;
      if (d_most && taps[window] == tap) sum += d_most[window];
      if (d_means) sum += d_means[window] / pool_count(r, c, rows, columns, 2);
    }
    dx[i] += sum;
  }
}

extern "C" __global__ void pools_backward(const float *d_most, const int *taps, const float *d_means, float *dx, int planes,
                                          int rows, int columns, int out_rows, int out_columns, int stride) {
  if (stride == 1)
    pool_back(d_most, taps, d_means, dx, planes, rows, columns);
  else
    pool_back_strided(d_most, taps, d_means, dx, planes, rows, columns, out_rows, out_columns);
}

#undef STRIP
