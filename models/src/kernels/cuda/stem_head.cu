// The stem and the head of a network: the input of the stem's product, and the classifier's pool and loss.

// Moves images [image][row][column][channel] of bytes, stored four per element. Each image has seven integers in
// `moves`: a shift by rows, a shift by columns, whether it is mirrored, and the first and last row and column of its
// hole, each last one exclusive. Pixels outside the image have byte 0. `levels` [channel][256] then converts each
// byte, to [image][channel][row][column]. Pixels in the hole are 0.
extern "C" __global__ void augment(const int *bytes, const int *moves, const float *levels, float *out, int batch, int channels,
                                   int rows, int columns) {
  const unsigned char *from = (const unsigned char *)bytes;
  int pixels = rows * columns;
  EACH(i, batch * channels * pixels) {
    int channel = i / pixels % channels, image = i / (pixels * channels);
    const int *move = moves + 7 * image;
    int row = i / columns % rows, r = row + move[0], column = i % columns;
    int c = (move[2] ? columns - 1 - column : column) + move[1];
    bool inside = r >= 0 && r < rows && c >= 0 && c < columns;
    int byte = inside ? from[((image * rows + r) * columns + c) * channels + channel] : 0;
    bool hole = row >= move[3] && row < move[4] && column >= move[5] && column < move[6];
    out[i] = hole ? 0.f : levels[256 * channel + byte];
  }
}

// The 3x3 neighbourhood of each pixel of images [image][channel][row][column], as [channel][tap][image][row][column].
extern "C" __global__ void patches(const float *images, float *out, int batch, int channels, int rows, int columns) {
  int pixels = rows * columns;
  EACH(i, channels * 9 * batch * pixels) {
    int column = i % columns, row = i / columns % rows, image = i / pixels % batch;
    int tap = i / (pixels * batch) % 9, channel = i / (pixels * batch * 9);
    int r = row + tap / 3 - 1, c = column + tap % 3 - 1;
    bool inside = r >= 0 && r < rows && c >= 0 && c < columns;
    out[i] = inside ? images[(image * channels + channel) * pixels + r * columns + c] : 0.f;
  }
}

// Sum of each row times a factor: means of planes, or the gradient of a bias.
extern "C" __global__ void row_sums(const float *x, float *y, int rows, int length, float factor) {
  __shared__ float scratch[BLOCK / 32];
  ROWS(row, rows) {
    float sum = 0.f;
    for (int i = threadIdx.x; i < length; i += blockDim.x) sum += x[row * length + i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) y[row] = sum * factor;
  }
}

// Writes a row's value times a factor to each of its elements, or adds it if `add`.
extern "C" __global__ void spread(const float *x, float *y, int rows, int length, float factor, int add) {
  EACH(i, rows * length) {
    float own = x[i / length] * factor;
    y[i] = add ? y[i] + own : own;
  }
}

// Adds the bias to logits [class][image]. For each image it computes the cross-entropy, whether its label is the
// first of the largest logits, and the gradient with respect to its logits of the batch's mean loss times `weight`.
// `smoothing` is the part of a label that all classes share.
extern "C" __global__ void cross_entropy(float *logits, const float *bias, const int *labels, float *loss, float *right,
                                         float *gradient, int classes, int batch, float smoothing, float weight) {
  EACH(image, batch) {
    float most = 0.f, sum = 0.f, all = 0.f, even = smoothing / classes;
    int best = 0, label = labels[image];
    for (int k = 0; k < classes; ++k) {
      float logit = logits[k * batch + image] += bias[k];
      all += logit;
      if (k == 0 || logit > most) {
        most = logit;
        best = k;
      }
    }
    for (int k = 0; k < classes; ++k) sum += expf(logits[k * batch + image] - most);
    loss[image] = logf(sum) + most - (1.f - smoothing) * logits[label * batch + image] - even * all;
    right[image] = best == label ? 1.f : 0.f;
    for (int k = 0; k < classes; ++k) {
      float share = expf(logits[k * batch + image] - most) / sum;
      gradient[k * batch + image] = weight * (share - (k == label ? 1.f - smoothing : 0.f) - even) / batch;
    }
  }
}
