// Logits of a mixture, with one row of candidates per edge: their softmax, their gradient, and a step of their
// optimiser.

// Computes the weight of each use of a candidate. `logit` holds the index of its logit.
extern "C" __global__ void alphas_softmax(const float *logits, const int *logit, float *weights, int count, int columns) {
  EACH(i, count) {
    const float *row = logits + logit[i] / columns * columns;
    float most = row[0], sum = 0.f;
    for (int k = 1; k < columns; ++k) most = fmaxf(most, row[k]);
    for (int k = 0; k < columns; ++k) sum += expf(row[k] - most);
    weights[i] = expf(logits[logit[i]] - most) / sum;
  }
}

// Adds to each logit's gradient `factor` times the gradient with respect to its weight. That is the sum over its
// uses, from `first` of the logit to `first` of the next. A use sums `lengths` elements of `reach` from index `at`
// on.
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

// Adam with L2, from the gradient with respect to the weights. `state` holds the logits, the means of their gradients
// and the means of the squared gradients, `rows` times `columns` each. At step t `by` holds lr / (1 - beta1^t) and 1
// - beta2^t. `rest1` and `rest2` are 1 - beta1 and 1 - beta2, rounded once.
extern "C" __global__ void alphas_descend(float *state, const float *gradient, const float *by, float beta1, float rest1,
                                          float beta2, float rest2, float decay, int rows, int columns) {
  int count = rows * columns;
  EACH(row, rows) {
    // Read before any logit of the row changes.
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
