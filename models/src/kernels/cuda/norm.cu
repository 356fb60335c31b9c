// BatchNorm over rows [map][channel] of `length` values: moments, the factors that normalise, and the sums that its gradient needs.

#define EPSILON 1e-5f

// Of each part of each row the sums of its values and of their squares, about the row's first value, since a difference of large squares
// would lose the variance.
extern "C" __global__ void moment_sums(const float *x, float *sums, int rows, int length, int parts) {
  __shared__ float scratch[BLOCK];
  ROWS(i, rows * parts) {
    int row = i / parts, part = i % parts, end = part_begin(length, parts, part + 1);
    const float *from = x + row * length;
    float center = from[0], sum = 0.f, square = 0.f;
#pragma unroll 4
    for (int at = part_begin(length, parts, part) + threadIdx.x; at < end; at += blockDim.x) {
      float d = from[at] - center;
      sum += d;
      square += d * d;
    }
    sum = block_sum(sum, scratch);
    square = block_sum(square, scratch);
    if (threadIdx.x == 0) {
      sums[2 * i] = sum;
      sums[2 * i + 1] = square;
    }
  }
}

// Mean and biased variance of each row, from these.
extern "C" __global__ void moments(const float *x, const float *sums, float *mean, float *variance, int rows, int length,
                                   int parts) {
  EACH(row, rows) {
    float sum = 0.f, square = 0.f;
    for (int part = row * parts; part < (row + 1) * parts; ++part) {
      sum += sums[2 * part];
      square += sums[2 * part + 1];
    }
    sum /= length;
    float deviation = square / length - sum * sum;
    mean[row] = x[row * length] + sum;
    variance[row] = deviation > 0.f ? deviation : 0.f;
  }
}

// Of each term and channel, `scale` and `shift` with weight * BatchNorm(z) + bias = z * scale + shift. A term is a use of a map,
// `source`[term], or of map number `term` where there is no table; one of a negative source is not normalised. The weight is that
// of the term or of the channel, by the steps; 1 where there is none.
extern "C" __global__ void scaling(const float *mean, const float *variance, const int *source, const float *weight,
                                   int term_step, int channel_step, const float *bias, float *scale, float *shift, int terms,
                                   int channels) {
  EACH(i, terms * channels) {
    int term = i / channels, channel = i % channels;
    int map = source ? source[term] : term;
    float factor = weight ? weight[term * term_step + channel * channel_step] : 1.f;
    float from = bias ? bias[channel] : 0.f;
    if (map >= 0) {
      factor *= rsqrtf(variance[map * channels + channel] + EPSILON);
      from -= factor * mean[map * channels + channel];
    }
    scale[i] = factor;
    shift[i] = from;
  }
}

// y = x * scale + shift by row, rectified if asked.
extern "C" __global__ void normalise(const float *x, const float *scale, const float *shift, float *y, int rows, int length,
                                     int rectify) {
  EACH(i, rows * length) {
    float value = x[i] * scale[i / length] + shift[i / length];
    y[i] = rectify && !(value > 0.f) ? 0.f : value;
  }
}

// Of each part of each term and channel, with g the gradient of the map number `target`[term] that it is added to and z its source: sum
// g, and sum g * (z - mean). Without tables map, source and target have the term's number. A negative source is the map `x`, mean 0.
extern "C" __global__ void gradient_sums(const float *gradient, const float *z, const float *x, const float *mean,
                                         const int *source, const int *target, float *sums, int terms, int channels,
                                         int length, int parts) {
  __shared__ float scratch[BLOCK];
  ROWS(i, terms * channels * parts) {
    int row = i / parts, part = i % parts, end = part_begin(length, parts, part + 1);
    int term = row / channels, channel = row % channels;
    int map = source ? source[term] : term, to = target ? target[term] : term;
    const float *g = gradient + (to * channels + channel) * length;
    const float *from = map < 0 ? x + channel * length : z + (map * channels + channel) * length;
    float center = map < 0 ? 0.f : mean[map * channels + channel];
    float plain = 0.f, product = 0.f;
#pragma unroll 4
    for (int at = part_begin(length, parts, part) + threadIdx.x; at < end; at += blockDim.x) {
      plain += g[at];
      product += g[at] * (from[at] - center);
    }
    plain = block_sum(plain, scratch);
    product = block_sum(product, scratch);
    if (threadIdx.x == 0) {
      sums[2 * i] = plain;
      sums[2 * i + 1] = product;
    }
  }
}

// The gradient of a term's source is a * g + b * z + c, by term and channel, since BatchNorm's is
// weight / deviation * (g - sum g / m - z' * sum(g z') / m) with z' the normalised z and m its count. `sum` becomes sum g, and `reach`
// sum g z', which over channels is the gradient of the term's weight.
extern "C" __global__ void slope(const float *mean, const float *variance, const int *source, const float *weight,
                                 int term_step, int channel_step, const float *sums, float *sum, float *a, float *b, float *c,
                                 float *reach, int terms, int channels, int length, int parts) {
  EACH(i, terms * channels) {
    int term = i / channels, channel = i % channels;
    int map = source ? source[term] : term;
    float factor = weight ? weight[term * term_step + channel * channel_step] : 1.f;
    float plain = 0.f, product = 0.f;
    for (int part = i * parts; part < (i + 1) * parts; ++part) {
      plain += sums[2 * part];
      product += sums[2 * part + 1];
    }
    sum[i] = plain;
    a[i] = factor;
    b[i] = 0.f;
    c[i] = 0.f;
    reach[i] = product;
    if (map >= 0) {
      float inverse = rsqrtf(variance[map * channels + channel] + EPSILON);
      float along = product * inverse;
      a[i] = factor * inverse;
      b[i] = -factor * inverse * inverse * along / length;
      c[i] = -factor * inverse * plain / length - b[i] * mean[map * channels + channel];
      reach[i] = along;
    }
  }
}
