// ReLU without a convolution, and FactorizedReduce, which reads every other pixel after ReLU.

extern "C" __global__ void relu_forward(const float *x, float *y, int count) {
  EACH(i, count) y[i] = x[i] > 0.f ? x[i] : 0.f;
}

// Gradient of x, from that of y = max(0, x), added to dx if `add`. Without `add`, dx may be dy.
extern "C" __global__ void relu_backward(const float *y, const float *dy, float *dx, int count, int add) {
  EACH(i, count) {
    float own = y[i] > 0.f ? dy[i] : 0.f;
    dx[i] = add ? dx[i] + own : own;
  }
}

// After ReLU, the pixels of even row and column, then the pixels one row and one column further; zeros past the edge.
extern "C" __global__ void halve_forward(const float *x, float *y, int planes, int rows, int columns, int out_rows,
                                         int out_columns) {
  int half = planes * out_rows * out_columns;
  EACH(i, 2 * half) {
    int at = i % half, further = i / half;
    int column = 2 * (at % out_columns) + further, row = 2 * (at / out_columns % out_rows) + further;
    int plane = at / (out_columns * out_rows);
    float value = row < rows && column < columns ? x[(plane * rows + row) * columns + column] : 0.f;
    y[i] = value > 0.f ? value : 0.f;
  }
}

// Gradient of x, added to dx.
extern "C" __global__ void halve_backward(const float *x, const float *dy, float *dx, int planes, int rows, int columns,
                                          int out_rows, int out_columns) {
  int half = planes * out_rows * out_columns;
  EACH(i, planes * rows * columns) {
    int column = i % columns, row = i / columns % rows, plane = i / (columns * rows);
    if (row % 2 != column % 2 || !(x[i] > 0.f)) continue;
    dx[i] += dy[row % 2 * half + (plane * out_rows + row / 2) * out_columns + column / 2];
  }
}
