// Windows of any size that slide over a feature map: im2col columns of a convolution, and means. Values outside the
// feature map are zero.

#define WINDOWS                                                                                                     \
  int channels, int batch, int rows, int columns, int out_rows, int out_columns, int high, int wide, int row_stride, \
      int column_stride, int row_dilation, int column_dilation, int top, int left

// Writes the values of each window, y [channel][tap][image][row][column], with zeros outside. If `by_image`, x is
// [image][channel][row][column]. The first window begins `top` rows above the feature map.
extern "C" __global__ void windows_forward(const float *x, float *y, int by_image, WINDOWS) {
  int pixels = out_rows * out_columns, taps = high * wide;
  EACH(i, channels * taps * batch * pixels) {
    int image = i / pixels % batch, tap = i / (pixels * batch) % taps, channel = i / (pixels * batch * taps);
    int row = i / out_columns % out_rows * row_stride + tap / wide * row_dilation - top;
    int column = i % out_columns * column_stride + tap % wide * column_dilation - left;
    bool inside = row >= 0 && row < rows && column >= 0 && column < columns;
    int plane = by_image ? image * channels + channel : channel * batch + image;
    y[i] = inside ? x[(plane * rows + row) * columns + column] : 0.f;
  }
}

// Returns the window that has pixel `at` under tap `tap` of an axis, or -1.
__device__ int window_of(int at, int tap, int stride, int dilation, int before, int windows) {
  int begin = at + before - tap * dilation;
  return begin < 0 || begin % stride != 0 || begin / stride >= windows ? -1 : begin / stride;
}

// Gradient of x `[channel][image][row][column]`, added to dx.
extern "C" __global__ void windows_backward(const float *dy, float *dx, WINDOWS) {
  int taps = high * wide;
  EACH(i, channels * batch * rows * columns) {
    int column = i % columns, row = i / columns % rows, image = i / (columns * rows) % batch;
    int channel = i / (columns * rows * batch);
    float sum = dx[i];
    for (int tap = 0; tap < taps; ++tap) {
      int r = window_of(row, tap / wide, row_stride, row_dilation, top, out_rows);
      int c = window_of(column, tap % wide, column_stride, column_dilation, left, out_columns);
      if (r >= 0 && c >= 0) sum += dy[(((channel * taps + tap) * batch + image) * out_rows + r) * out_columns + c];
    }
    dx[i] = sum;
  }
}

// Returns the number of pixels inside the window along one axis.
__device__ int seen(int window, int taps, int stride, int dilation, int before, int size) {
  int count = 0;
  for (int tap = 0; tap < taps; ++tap) {
    int at = window * stride + tap * dilation - before;
    count += at >= 0 && at < size;
  }
  return count;
}

// Mean of the pixels of each window.
extern "C" __global__ void means_forward(const float *x, float *y, WINDOWS) {
  EACH(i, channels * batch * out_rows * out_columns) {
    int window_column = i % out_columns, window_row = i / out_columns % out_rows;
    const float *plane = x + i / (out_columns * out_rows) * (rows * columns);
    float sum = 0.f;
    for (int tap = 0; tap < high * wide; ++tap) {
      int row = window_row * row_stride + tap / wide * row_dilation - top;
      int column = window_column * column_stride + tap % wide * column_dilation - left;
      if (row >= 0 && row < rows && column >= 0 && column < columns) sum += plane[row * columns + column];
    }
    y[i] = sum / (seen(window_row, high, row_stride, row_dilation, top, rows) *
                  seen(window_column, wide, column_stride, column_dilation, left, columns));
  }
}

// Gradient of x, added to dx.
extern "C" __global__ void means_backward(const float *dy, float *dx, WINDOWS) {
  EACH(i, channels * batch * rows * columns) {
    int column = i % columns, row = i / columns % rows;
    const float *plane = dy + i / (columns * rows) * (out_rows * out_columns);
    float sum = dx[i];
    for (int tap = 0; tap < high * wide; ++tap) {
      int r = window_of(row, tap / wide, row_stride, row_dilation, top, out_rows);
      int c = window_of(column, tap % wide, column_stride, column_dilation, left, out_columns);
      if (r >= 0 && c >= 0)
        sum += plane[r * out_columns + c] / (seen(r, high, row_stride, row_dilation, top, rows) *
                                             seen(c, wide, column_stride, column_dilation, left, columns));
    }
    dx[i] = sum;
  }
}

#undef WINDOWS
