// A mixture's logits, in rows of an edge's candidates: their softmax, their gradient, and a step of their optimiser.

// The weight of each use of a candidate, by the number of its logit.
extern "C" __global__ void alphas_softmax(const float *logits, const int *logit, float *weights, int count, int columns) {
  EACH(i, count) {
    const float *row = logits + logit[i] / columns * columns;
    float most = row[0], sum = 0.f;
    for (int k = 1; k < columns; ++k) most = fmaxf(most, row[k]);
    for (int k = 0; k < columns; ++k) sum += expf(row[k] - most);
    weights[i] = expf(logits[logit[i]] - most) / sum;
  }
}

// Adds to each logit's place the gradient by its weight times `factor`: the sum of its uses', from `first` of one to that of the next,
// each of so many words of `reach` from a place on.
extern "C" __global__ void alphas_gradient(const float *reach, const int *first, const int *at, const int *lengths,
                                           float *gradient, float factor, int count) {
  __shared__ float scratch[BLOCK / 32];
  ROWS(row, count) {
    float sum = 0.f;
    for (int use = first[row]; use < first[row + 1]; ++use)
      for (int i = threadIdx.x; i < lengths[use]; i += blockDim.x) sum += reach[at[use] + i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) gradient[row] += factor * sum;
  }
}

// Adam with L2, from the gradient by the weights. `state` has the logits, the means of their gradients, and those of the squares of
// these, `rows` times `columns` each. At step t `by` is lr / (1 - beta1^t), and 1 - beta2^t; `rest1` and `rest2` are 1 - beta1 and
// 1 - beta2, rounded once.
extern "C" __global__ void alphas_descend(float *state, const float *gradient, const float *by, float beta1, float rest1,
                                          float beta2, float rest2, float decay, int rows, int columns) {
  int count = rows * columns;
  EACH(row, rows) {
    // All three are of the row as it was.
    float *logits = state + row * columns, most = logits[0], sum = 0.f, mean = 0.f;
    const float *g = gradient + row * columns;
    for (int k = 1; k < columns; ++k) most = fmaxf(most, logits[k]);
    for (int k = 0; k < columns; ++k) {
      float e = expf(logits[k] - most);
      sum += e;
      mean += e * g[k];
    }
    mean /= sum;
    for (int k = 0; k < columns; ++k) {
      float slope = expf(logits[k] - most) / sum * (g[k] - mean);
      float moved = slope + decay * logits[k], *first = logits + count + k, *second = first + count;
      *first = beta1 * *first + rest1 * moved;
      *second = beta2 * *second + rest2 * moved * moved;
      logits[k] -= by[0] * *first / (sqrtf(*second / by[1]) + 1e-8f);
    }
  }
}
