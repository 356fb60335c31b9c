// Nodes as sums of terms, and back. A term is one use of a map by one edge; its BatchNorm and its weight are one factor and one
// addend by channel. A negative source is the map `x`, the state that the edges begin at.

// Node `edge_target`[edge] becomes the sum of the edge's terms, those in `edge_terms` from `edge_first`[edge] on; added if `add`.
extern "C" __global__ void mixture_forward(const float *z, const float *x, const int *source, const float *scale,
                                           const float *shift, const int *edge_first, const int *edge_terms,
                                           const int *edge_target, float *nodes, int edges, int channels, int length,
                                           int add) {
  int map = channels * length;
  EACH(i, edges * map) {
    int edge = i / map, at = i % map, channel = at / length;
    float sum = 0.f;
    for (int j = edge_first[edge]; j < edge_first[edge + 1]; ++j) {
      int term = edge_terms[j], from = source[term];
      float value = from < 0 ? x[at] : z[from * map + at];
      sum += value * scale[term * channels + channel] + shift[term * channels + channel];
    }
    float *to = nodes + edge_target[edge] * map + at;
    *to = add ? *to + sum : sum;
  }
}

// The gradient of each source from those of the nodes: the sum of a * g + b * z + c over its terms, which `first` tells by source;
// without it a source has the one term of its number, and without `target` this the one node. `out` may be `z`.
extern "C" __global__ void mixture_backward(const float *gradient, const int *target, const float *z, const int *first,
                                            const float *a, const float *b, const float *c, float *out, int sources,
                                            int channels, int length, int add) {
  int map = channels * length;
  EACH(i, sources * map) {
    int source = i / map, at = i % map, channel = at / length;
    int begin = first ? first[source] : source, end = first ? first[source + 1] : source + 1;
    float sum = 0.f, factor = 0.f;
    for (int term = begin; term < end; ++term) {
      int to = target ? target[term] : term;
      sum += a[term * channels + channel] * gradient[to * map + at] + c[term * channels + channel];
      factor += b[term * channels + channel];
    }
    sum += factor * z[i];
    out[i] = add ? out[i] + sum : sum;
  }
}
