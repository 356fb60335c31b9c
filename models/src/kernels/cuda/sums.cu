// Sums of feature maps, and multiplication of each image by a factor.

// y = x, or y += x.
extern "C" __global__ void accumulate(const float *x, float *y, int count, int add) {
  EACH(i, count) y[i] = add ? y[i] + x[i] : x[i];
}

// Multiplies every image of a feature map [channel][image][pixel] by its factor.
extern "C" __global__ void weigh(float *x, const float *factors, int channels, int batch, int pixels) {
  EACH(i, channels * batch * pixels) x[i] *= factors[i / pixels % batch];
}
