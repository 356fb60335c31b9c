// Nodes as sums of terms, and back. A term is one use of a map by one edge; its BatchNorm and its weight are one factor and one
// addend by channel. A negative source is the map `x`, the state that the edges begin at.

// Pixels that a thread makes at a time, so that what it looks up serves them all.
#define PIXELS 4

// The pixels of a part of a row of `length`.
#define PART_PIXELS(first, end)                                                                     \
  for (int first = part_begin(length, parts, part) + threadIdx.x, end = part_begin(length, parts, part + 1); first < end; \
       first += PIXELS * blockDim.x)

// Node `edge_target`[edge] becomes the sum of the edge's terms, those in `edge_terms` from `edge_first`[edge] on; added if `add`.
extern "C" __global__ void mixture_forward(const float *z, const float *x, const int *source, const float *scale,
                                           const float *shift, const int *edge_first, const int *edge_terms,
                                           const int *edge_target, float *nodes, int edges, int channels, int length,
                                           int add, int parts) {
  int map = channels * length;
  ROWS(block, edges * channels * parts) {
    int part = block % parts, channel = block / parts % channels, edge = block / (parts * channels);
    float *to = nodes + edge_target[edge] * map + channel * length;
    PART_PIXELS(first, end) {
      float sums[PIXELS];
#pragma unroll
      for (int k = 0; k < PIXELS; ++k) {
        int at = first + k * blockDim.x;
        sums[k] = add && at < end ? to[at] : 0.f;
      }
      for (int j = edge_first[edge]; j < edge_first[edge + 1]; ++j) {
        int term = edge_terms[j], map_number = source[term];
        const float *from = (map_number < 0 ? x : z + map_number * map) + channel * length;
        float factor = scale[term * channels + channel], plus = shift[term * channels + channel];
#pragma unroll
        for (int k = 0; k < PIXELS; ++k) {
          int at = first + k * blockDim.x;
          if (at < end) sums[k] += from[at] * factor + plus;
        }
      }
#pragma unroll
      for (int k = 0; k < PIXELS; ++k) {
        int at = first + k * blockDim.x;
        if (at < end) to[at] = sums[k];
      }
    }
  }
}

// The gradient of each source from those of the nodes: the sum of a * g + b * z + c over its terms, which `first` tells by source;
// without it a source has the one term of its number, and without `target` this the one node. `out` may be `z`.
extern "C" __global__ void mixture_backward(const float *gradient, const int *target, const float *z, const int *first_term,
                                            const float *a, const float *b, const float *c, float *out, int sources,
                                            int channels, int length, int add, int parts) {
  int map = channels * length;
  ROWS(block, sources * channels * parts) {
    int part = block % parts, channel = block / parts % channels, source = block / (parts * channels);
    int begin = first_term ? first_term[source] : source, last = first_term ? first_term[source + 1] : source + 1;
    const float *from = z + source * map + channel * length;
    float *to = out + source * map + channel * length;
    PART_PIXELS(first, end) {
      // All is read before anything is written, since `out` may be `z` and reads would wait for writes.
      float sums[PIXELS], own[PIXELS], factor = 0.f, plus = 0.f;
#pragma unroll
      for (int k = 0; k < PIXELS; ++k) {
        int at = first + k * blockDim.x;
        own[k] = at < end ? from[at] : 0.f;
        sums[k] = add && at < end ? to[at] : 0.f;
      }
      for (int term = begin; term < last; ++term) {
        const float *g = gradient + (target ? target[term] : term) * map + channel * length;
        float slope = a[term * channels + channel];
        factor += b[term * channels + channel];
        plus += c[term * channels + channel];
#pragma unroll
        for (int k = 0; k < PIXELS; ++k) {
          int at = first + k * blockDim.x;
          if (at < end) sums[k] += slope * g[at];
        }
      }
#pragma unroll
      for (int k = 0; k < PIXELS; ++k) {
        int at = first + k * blockDim.x;
        if (at < end) to[at] = sums[k] + factor * own[k] + plus;
      }
    }
  }
}

#undef PIXELS
#undef PART_PIXELS
