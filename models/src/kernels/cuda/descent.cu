// A step of stochastic gradient descent. Parameters lie one after the other; a row of the tables tells where one, or a piece of
// one, begins, and how many words it has.

// Copies parameters from their places in `from` to those in `to`.
extern "C" __global__ void gather(const float *from, float *to, const int *from_at, const int *to_at, const int *lengths,
                                  int count) {
  ROWS(row, count) {
    for (int i = threadIdx.x; i < lengths[row]; i += blockDim.x) to[to_at[row] + i] = from[from_at[row] + i];
  }
}

// Of each row's gradients the sum of squares.
extern "C" __global__ void squares(const float *gradient, const int *at, const int *lengths, float *sums, int count) {
  __shared__ float scratch[BLOCK / 32];
  ROWS(row, count) {
    float sum = 0.f;
    for (int i = threadIdx.x; i < lengths[row]; i += blockDim.x) sum += gradient[at[row] + i] * gradient[at[row] + i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) sums[row] = sum;
  }
}

// The norm of all gradients together, then what to multiply them by so that it is at most `most`; 0 is no limit.
extern "C" __global__ void clip(const float *sums, float *norm, int count, float most) {
  __shared__ float scratch[BLOCK / 32];
  ROWS(row, 1) {
    float sum = 0.f;
    for (int i = threadIdx.x; i < count; i += blockDim.x) sum += sums[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) {
      norm[0] = sqrtf(sum);
      float factor = most / (norm[0] + 1e-6f);
      norm[1] = most > 0.f && factor < 1.f ? factor : 1.f;
    }
  }
}

// velocity = momentum * velocity + (factor * gradient + decay * w), w -= rate * velocity; the factor is `norm`[1]. The rate is no argument,
// so that steps of any rate are the same calls.
extern "C" __global__ void descend(float *w, float *velocity, const float *gradient, const float *norm, const int *at,
                                   const int *gradient_at, const int *lengths, const float *rate, float momentum,
                                   float decay, int count) {
  float factor = norm[1], step = *rate;
  ROWS(row, count) {
    for (int i = threadIdx.x; i < lengths[row]; i += blockDim.x) {
      int own = at[row] + i;
      float moved = momentum * velocity[own] + (factor * gradient[gradient_at[row] + i] + decay * w[own]);
      velocity[own] = moved;
      w[own] -= step * moved;
    }
  }
}
