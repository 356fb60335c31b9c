// BatchNorm over rows [map][channel] of `length` values: moments, the scale and shift that normalise, and the sums
// that its gradient needs.

#define EPSILON 1e-5f

// Sums two values over a block's threads. If a row has several parts, it also sums over its blocks, whose sums are
// kept in `sums`. Returns whether this block holds the result.
__device__ bool pair_sums(float &one, float &other, float *sums, int *ticket, int part, int parts, float *scratch) {
  one = block_sum(one, scratch);
  other = block_sum(other, scratch);
  if (parts == 1) return true;
  if (threadIdx.x == 0) {
    sums[2 * part] = one;
    sums[2 * part + 1] = other;
  }
  if (!last_of(ticket, parts)) return false;
  const volatile float *all = sums;
  one = other = 0.f;
  for (int i = threadIdx.x; i < parts; i += blockDim.x) {
    one += all[2 * i];
    other += all[2 * i + 1];
  }
  one = block_sum(one, scratch);
  other = block_sum(other, scratch);
  return true;
}

// Stores a row's mean and biased variance, from the sums of its values and of their squares, both relative to
// `center`.
__device__ void keep_moments(float sum, float square, float center, int length, float *mean, float *variance) {
  sum /= length;
  float deviation = square / length - sum * sum;
  *mean = center + sum;
  *variance = deviation > 0.f ? deviation : 0.f;
}

// Mean and biased variance of each row. They come from the sums of its values and of their squares relative to the
// row's first value, since a difference of large squares would lose the variance.
template <int V>
__device__ void row_moments(const float *x, float *mean, float *variance, float *sums, int *tickets, int rows, int length,
                            int parts) {
  __shared__ float scratch[BLOCK / 32];
  ROWS(i, rows * parts) {
    int row = i / parts, part = i % parts, end = part_begin(length / V, parts, part + 1);
    const float *from = x + row * length;
    float center = from[0], sum = 0.f, square = 0.f;
#pragma unroll 4
    for (int at = part_begin(length / V, parts, part) + threadIdx.x; at < end; at += blockDim.x) {
      float values[V];
      read<V>(from + at * V, values);
#pragma unroll
      for (int k = 0; k < V; ++k) {
        float d = values[k] - center;
        sum += d;
        square += d * d;
      }
    }
    if (!pair_sums(sum, square, sums + 2 * row * parts, tickets + row, part, parts, scratch)) continue;
    if (threadIdx.x == 0) keep_moments(sum, square, center, length, mean + row, variance + row);
  }
}

extern "C" __global__ void moments(const float *x, float *mean, float *variance, float *sums, int *tickets, int rows,
                                   int length, int parts) {
  if (length % 4 == 0)
    row_moments<4>(x, mean, variance, sums, tickets, rows, length, parts);
  else
    row_moments<1>(x, mean, variance, sums, tickets, rows, length, parts);
}

// Computes `scale` and `shift` of each term and channel, with weight * BatchNorm(z) + bias = z * scale + shift. A
// term is a use of feature map `source`[term], or of feature map `term` if there is no table. A negative source is
// not normalised. The steps select a weight per term or per channel; without weights it is 1.
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

// y = x * scale + shift by row, followed by ReLU if requested.
template <int V>
__device__ void row_normalise(const float *x, const float *scale, const float *shift, float *y, int rows, int length,
                              int relu) {
  EACH(i, rows * length / V) {
    int row = i / (length / V);
    float values[V];
    read<V>(x + i * V, values);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      values[k] = values[k] * scale[row] + shift[row];
      if (relu && !(values[k] > 0.f)) values[k] = 0.f;
    }
    write<V>(y + i * V, values);
  }
}

extern "C" __global__ void normalise(const float *x, const float *scale, const float *shift, float *y, int rows, int length,
                                     int relu) {
  if (length % 4 == 0)
    row_normalise<4>(x, scale, shift, y, rows, length, relu);
  else
    row_normalise<1>(x, scale, shift, y, rows, length, relu);
}

// Computes sum g and sum g * (z - mean) of each term and channel, and the coefficients of the gradient. Here g is the
// gradient of the feature map `target`[term] that the term is added to, and z its source. Without tables, source and
// target have the term's index. A negative source is the feature map `x`, not normalised.
//
// The gradient of a term's source is a * g + b * z + c. That of BatchNorm is weight / deviation * (g - sum g / m - z'
// * sum(g z') / m), with z' the normalised z and m its count. `sum` becomes sum g. `reach` becomes sum g z', whose
// sum over channels is the gradient of the term's weight.
template <int V>
__device__ void term_slopes(const float *gradient, const float *z, const float *x, const float *mean, const float *variance,
                            const int *source, const int *target, const float *weight, int term_step, int channel_step,
                            float *sum, float *a, float *b, float *c, float *reach, float *sums, int *tickets, int terms,
                            int channels, int length, int parts) {
  __shared__ float scratch[BLOCK / 32];
  ROWS(i, terms * channels * parts) {
    int row = i / parts, part = i % parts, end = part_begin(length / V, parts, part + 1);
    int term = row / channels, channel = row % channels;
    int map = source ? source[term] : term, to = target ? target[term] : term;
    const float *g = gradient + (to * channels + channel) * length;
    const float *from = map < 0 ? x + channel * length : z + (map * channels + channel) * length;
    float center = map < 0 ? 0.f : mean[map * channels + channel];
    float plain = 0.f, product = 0.f;
#pragma unroll 4
    for (int at = part_begin(length / V, parts, part) + threadIdx.x; at < end; at += blockDim.x) {
      float gs[V], zs[V];
      read<V>(g + at * V, gs);
      read<V>(from + at * V, zs);
#pragma unroll
      for (int k = 0; k < V; ++k) {
        plain += gs[k];
        product += gs[k] * (zs[k] - center);
      }
    }
    if (!pair_sums(plain, product, sums + 2 * row * parts, tickets + row, part, parts, scratch)) continue;
    if (threadIdx.x > 0) continue;
    float factor = weight ? weight[term * term_step + channel * channel_step] : 1.f;
    sum[row] = plain;
    a[row] = factor;
    b[row] = 0.f;
    c[row] = 0.f;
    reach[row] = product;
    if (map >= 0) {
      float inverse = rsqrtf(variance[map * channels + channel] + EPSILON);
      float along = product * inverse, slope = -factor * inverse * inverse * along / length;
      a[row] = factor * inverse;
      b[row] = slope;
      c[row] = -factor * inverse * plain / length - slope * center;
      reach[row] = along;
    }
  }
}

extern "C" __global__ void slopes(const float *gradient, const float *z, const float *x, const float *mean,
                                  const float *variance, const int *source, const int *target, const float *weight,
                                  int term_step, int channel_step, float *sum, float *a, float *b, float *c, float *reach,
                                  float *sums, int *tickets, int terms, int channels, int length, int parts) {
  if (length % 4 == 0)
    term_slopes<4>(gradient, z, x, mean, variance, source, target, weight, term_step, channel_step, sum, a, b, c, reach, sums,
                   tickets, terms, channels, length, parts);
  else
    term_slopes<1>(gradient, z, x, mean, variance, source, target, weight, term_step, channel_step, sum, a, b, c, reach, sums,
                   tickets, terms, channels, length, parts);
}
