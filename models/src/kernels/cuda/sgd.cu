// A step of stochastic gradient descent. Parameters are stored one after the other, cut into pieces. A row of the
// tables has the index and the number of elements of one piece.

// Copies parameters from their positions in `from` to those in `to`.
extern "C" __global__ void gather(const float *from, float *to, const int *from_at, const int *to_at, const int *lengths,
                                  int count) {
  ROWS(row, count) {
    for (int i = threadIdx.x; i < lengths[row]; i += blockDim.x) to[to_at[row] + i] = from[from_at[row] + i];
  }
}

// Sum of the squared gradients of each row.
extern "C" __global__ void squares(const float *gradient, const int *at, const int *lengths, float *sums, int count) {
  __shared__ float scratch[BLOCK / 32];
  ROWS(row, count) {
    float sum = 0.f;
    for (int i = threadIdx.x; i < lengths[row]; i += blockDim.x) sum += gradient[at[row] + i] * gradient[at[row] + i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) sums[row] = sum;
  }
}

// Norm of all gradients together, and the factor that limits it to `most`. With `most` 0 there is no limit.
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

// velocity = momentum * velocity + (factor * gradient + decay * w), w -= rate * velocity, with the factor `norm`[1].
// The rate is read from memory, not an argument, so that steps of any rate are equal calls.
extern "C" __global__ void sgd_step(float *w, float *velocity, const float *gradient, const float *norm, const int *at,
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
