// Nodes as sums of terms, and the gradients of their sources. A term is one use of a feature map by one edge. Its
// BatchNorm and its weight are one factor and one addend per channel. A negative source denotes the feature map `x`,
// the state that the edges begin at.

// Pixels of a part of a row of `length`, V at a time.
#define PART_PIXELS(at)                                                                              \
  for (int at = part_begin(length / V, parts, part) + threadIdx.x, end = part_begin(length / V, parts, part + 1); at < end; \
       at += blockDim.x)

template <int V>
__device__ void mix(const float *z, const float *x, const int *source, const float *scale, const float *shift,
                    const int *edge_first, const int *edge_terms, const int *edge_target, float *nodes, int edges,
                    int channels, int length, int add, int parts) {
  int map = channels * length;
  ROWS(block, edges * channels * parts) {
    int part = block % parts, channel = block / parts % channels, edge = block / (parts * channels);
    float *to = nodes + edge_target[edge] * map + channel * length;
    PART_PIXELS(at) {
      float sums[V] = {0.f};
      if (add) read<V>(to + V * at, sums);
#pragma unroll 4
      for (int j = edge_first[edge]; j < edge_first[edge + 1]; ++j) {
        int term = edge_terms[j], map_number = source[term];
        float values[V], factor = scale[term * channels + channel], plus = shift[term * channels + channel];
        read<V>((map_number < 0 ? x : z + map_number * map) + channel * length + V * at, values);
#pragma unroll
        for (int k = 0; k < V; ++k) sums[k] += values[k] * factor + plus;
      }
      write<V>(to + V * at, sums);
    }
  }
}

// Sets node `edge_target`[edge] to the sum of the edge's terms, or adds the sum if `add`. The terms are in
// `edge_terms` from `edge_first`[edge] on.
extern "C" __global__ void mixture_forward(const float *z, const float *x, const int *source, const float *scale,
                                           const float *shift, const int *edge_first, const int *edge_terms,
                                           const int *edge_target, float *nodes, int edges, int channels, int length,
                                           int add, int parts) {
  if (length % 4 == 0)
    mix<4>(z, x, source, scale, shift, edge_first, edge_terms, edge_target, nodes, edges, channels, length, add, parts);
  else
    mix<1>(z, x, source, scale, shift, edge_first, edge_terms, edge_target, nodes, edges, channels, length, add, parts);
}

template <int V>
__device__ void unmix(const float *gradient, const int *target, const float *z, const int *first_term, const float *a,
                      const float *b, const float *c, float *out, int sources, int channels, int length, int add, int parts) {
  int map = channels * length;
  ROWS(block, sources * channels * parts) {
    int part = block % parts, channel = block / parts % channels, source = block / (parts * channels);
    int begin = first_term ? first_term[source] : source, last = first_term ? first_term[source + 1] : source + 1;
    const float *from = z + source * map + channel * length;
    float *to = out + source * map + channel * length;
    PART_PIXELS(at) {
      // All values are read before any is written, since `out` may be `z` and reads would wait for writes.
      float sums[V] = {0.f}, own[V], factor = 0.f, plus = 0.f;
      read<V>(from + V * at, own);
      if (add) read<V>(to + V * at, sums);
#pragma unroll 2
      for (int term = begin; term < last; ++term) {
        const float *g = gradient + (target ? target[term] : term) * map + channel * length;
        float values[V], slope = a[term * channels + channel];
        factor += b[term * channels + channel];
        plus += c[term * channels + channel];
        read<V>(g + V * at, values);
#pragma unroll
        for (int k = 0; k < V; ++k) sums[k] += slope * values[k];
      }
#pragma unroll
      for (int k = 0; k < V; ++k) sums[k] += factor * own[k] + plus;
      write<V>(to + V * at, sums);
    }
  }
}

// Gradient of each source: the sum of a * g + b * z + c over its terms, where g is the gradient of the term's node.
// `first_term` holds the first term of each source; without it, a source has one term, of the same index. Without
// `target`, a term's node has the index of the term. `out` may be `z`.
extern "C" __global__ void mixture_backward(const float *gradient, const int *target, const float *z, const int *first_term,
                                            const float *a, const float *b, const float *c, float *out, int sources,
                                            int channels, int length, int add, int parts) {
  if (length % 4 == 0)
    unmix<4>(gradient, target, z, first_term, a, b, c, out, sources, channels, length, add, parts);
  else
    unmix<1>(gradient, target, z, first_term, a, b, c, out, sources, channels, length, add, parts);
}

#undef PART_PIXELS
