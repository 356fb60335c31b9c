// Depthwise convolution as in depthwise.cu, but at stride 1, and dilations of 1 and 2, by tiles of at most SIDE x SIDE pixels, of several
// images where maps are small. A block keeps a tile's surroundings, and a thread makes STRIP pixels of a column at a time, so that it
// reads each row of theirs once.

#define SIDE 32
#define STRIP 4

// Words of surroundings that a thread asks for before it waits for them.
#define AHEAD 4

// The most words of surroundings, and what the sums of 5x5 taps take.
#define KEPT (25 * (BLOCK + 1))

#define SIZES int shared, int slots, int channels, int batch, int rows, int columns, int images
#define PASSED shared, slots, channels, batch, rows, columns, images

// Sizes of a tile, whose surroundings are [image][height][width].
template <int K, int D> struct Tile {
  int batch, rows, columns, images, side_rows, side_columns, strips, height, width, down, across, count;
  float per_width, per_height, per_column, per_strip;
  // Of the tile that a block is at.
  int image, top, left;

  __device__ Tile(int batch, int rows, int columns, int images) : batch(batch), rows(rows), columns(columns), images(images) {
    side_rows = rows < SIDE ? rows : SIDE;
    side_columns = columns < SIDE ? columns : SIDE;
    strips = (side_rows + STRIP - 1) / STRIP;
    height = strips * STRIP + D * (K - 1);
    width = side_columns + D * (K - 1);
    down = (rows + SIDE - 1) / SIDE;
    across = (columns + SIDE - 1) / SIDE;
    count = (batch + images - 1) / images * down * across;
    per_width = 1.f / width;
    per_height = 1.f / height;
    per_column = 1.f / side_columns;
    per_strip = 1.f / strips;
    image = top = left = 0;
  }

  __device__ void go(int tile) {
    left = tile % across * SIDE;
    top = tile / across % down * SIDE;
    image = tile / (across * down) * images;
  }

  // All strips of the tile.
  __device__ int all() const { return images * strips * side_columns; }

  // Keeps the surroundings in the planes from `from` on; rectified where `channel` is not negative.
  __device__ void keep(const float *from, const float *scale, const float *shift, int channel, float *kept) const {
    int words = images * height * width;
    for (int first = threadIdx.x; first < words; first += AHEAD * blockDim.x) {
      float values[AHEAD];
      bool inside[AHEAD];
#pragma unroll
      for (int k = 0; k < AHEAD; ++k) {
        int i = first + k * blockDim.x, line = quotient(i, per_width), number = quotient(line, per_height);
        int row = top + line - number * height - D * (K / 2), column = left + i - line * width - D * (K / 2);
        inside[k] = i < words && row >= 0 && row < rows && column >= 0 && column < columns && image + number < batch;
        values[k] = inside[k] ? from[((image + number) * rows + row) * columns + column] : 0.f;
      }
#pragma unroll
      for (int k = 0; k < AHEAD; ++k) {
        int i = first + k * blockDim.x;
        if (i < words) kept[i] = inside[k] && channel >= 0 ? rectified(values[k], scale, shift, channel) : values[k];
      }
    }
  }
};

// A strip: its surroundings among those kept, and its first pixel, with how many of its pixels the map has.
struct Strip {
  int kept, at, pixels;
  template <int K, int D> __device__ Strip(const Tile<K, D> &tile, int i) {
    int line = quotient(i, tile.per_column), column = i - line * tile.side_columns;
    int number = quotient(line, tile.per_strip), row = (line - number * tile.strips) * STRIP;
    kept = (number * tile.height + row) * tile.width + column;
    at = ((tile.image + number) * tile.rows + tile.top + row) * tile.columns + tile.left + column;
    int end = tile.side_rows < tile.rows - tile.top ? tile.side_rows : tile.rows - tile.top;
    bool inside = number < tile.images && tile.image + number < tile.batch && tile.left + column < tile.columns;
    pixels = !inside || row >= end ? 0 : end - row < STRIP ? end - row : STRIP;
  }
};

// Adds to a strip's sums the convolution of its surroundings, with the weights the other way round where `turned`.
template <int K, int D>
__device__ void convolve(const float *kept, int width, const float *w, bool turned, float *sums) {
  float weights[K * K];
#pragma unroll
  for (int tap = 0; tap < K * K; ++tap) weights[tap] = w[turned ? K * K - 1 - tap : tap];
#pragma unroll
  for (int r = 0; r < STRIP + D * (K - 1); ++r) {
#pragma unroll
    for (int kc = 0; kc < K; ++kc) {
      float value = kept[r * width + kc * D];
#pragma unroll
      for (int v = 0; v < STRIP; ++v) {
        if (r >= v && (r - v) % D == 0 && (r - v) / D < K) sums[v] += weights[(r - v) / D * K + kc] * value;
      }
    }
  }
}

template <int K, int D>
__device__ void tile_forward(const float *x, const float *scale, const float *shift, const float *w, float *y, float *kept,
                             SIZES) {
  Tile<K, D> tile(batch, rows, columns, images);
  int map = batch * rows * columns;
  ROWS(block, slots * channels * tile.count) {
    int channel = block / tile.count;
    tile.go(block % tile.count);
    tile.keep(x + (shared ? channel % channels : channel) * map, scale, shift, channel, kept);
    __syncthreads();
    for (int i = threadIdx.x; i < tile.all(); i += blockDim.x) {
      Strip strip(tile, i);
      float sums[STRIP] = {0.f, 0.f, 0.f, 0.f};
      convolve<K, D>(kept + strip.kept, tile.width, w + channel * K * K, false, sums);
      float *to = y + channel * map + strip.at;
#pragma unroll
      for (int v = 0; v < STRIP; ++v)
        if (v < strip.pixels) to[v * columns] = sums[v];
    }
    __syncthreads();
  }
}

template <int K, int D>
__device__ void tile_input(const float *x, const float *scale, const float *shift, const float *w, const float *dy, float *dx,
                           float *kept, SIZES) {
  Tile<K, D> tile(batch, rows, columns, images);
  int map = batch * rows * columns, units = shared ? channels : slots * channels, each = shared ? slots : 1;
  ROWS(block, units * tile.count) {
    int channel = block / tile.count;
    tile.go(block % tile.count);
    // As many rounds for all threads, since they wait for each other in each.
    for (int first = 0; first < tile.all(); first += blockDim.x) {
      int i = first + threadIdx.x;
      Strip strip(tile, i < tile.all() ? i : tile.all() - 1);
      float sums[STRIP] = {0.f, 0.f, 0.f, 0.f};
      for (int slot = 0; slot < each; ++slot) {
        int of = slot * channels + channel;
        tile.keep(dy + of * map, scale, shift, -1, kept);
        __syncthreads();
        convolve<K, D>(kept + strip.kept, tile.width, w + of * K * K, true, sums);
        __syncthreads();
      }
      if (i >= tile.all()) continue;
      const float *from = x + channel * map + strip.at;
      float *to = dx + channel * map + strip.at;
#pragma unroll
      for (int v = 0; v < STRIP; ++v) {
        if (v >= strip.pixels) continue;
        float sum = rectified(from[v * columns], scale, shift, channel) > 0.f ? sums[v] : 0.f;
        to[v * columns] = shared ? to[v * columns] + sum : sum;
      }
    }
  }
}

template <int K, int D>
__device__ void tile_weight(const float *x, const float *scale, const float *shift, const float *dy, float *dw, float *kept,
                            SIZES, int parts) {
  Tile<K, D> tile(batch, rows, columns, images);
  int map = batch * rows * columns, units = slots * channels;
  ROWS(block, parts * units) {
    int channel = block % units, part = block / units, end = part_begin(tile.count, parts, part + 1);
    float taps[K * K];
#pragma unroll
    for (int tap = 0; tap < K * K; ++tap) taps[tap] = 0.f;
    for (int at = part_begin(tile.count, parts, part); at < end; ++at) {
      tile.go(at);
      tile.keep(x + (shared ? channel % channels : channel) * map, scale, shift, channel, kept);
      __syncthreads();
      for (int i = threadIdx.x; i < tile.all(); i += blockDim.x) {
        Strip strip(tile, i);
        const float *gradient = dy + channel * map + strip.at;
        float d[STRIP];
#pragma unroll
        for (int v = 0; v < STRIP; ++v) d[v] = v < strip.pixels ? gradient[v * columns] : 0.f;
#pragma unroll
        for (int r = 0; r < STRIP + D * (K - 1); ++r) {
#pragma unroll
          for (int kc = 0; kc < K; ++kc) {
            float value = kept[strip.kept + r * tile.width + kc * D];
#pragma unroll
            for (int v = 0; v < STRIP; ++v) {
              if (r >= v && (r - v) % D == 0 && (r - v) / D < K) taps[(r - v) / D * K + kc] += d[v] * value;
            }
          }
        }
      }
      __syncthreads();
    }
    tap_sums<K>(taps, dw + block * K * K, kept);
  }
}

extern "C" __global__ void tile_forward_3_1(const float *x, const float *scale, const float *shift, const float *w, float *y,
                                            SIZES) {
  __shared__ float kept[KEPT];
  tile_forward<3, 1>(x, scale, shift, w, y, kept, PASSED);
}

extern "C" __global__ void tile_input_3_1(const float *x, const float *scale, const float *shift, const float *w,
                                          const float *dy, float *dx, SIZES) {
  __shared__ float kept[KEPT];
  tile_input<3, 1>(x, scale, shift, w, dy, dx, kept, PASSED);
}

extern "C" __global__ void tile_weight_3_1(const float *x, const float *scale, const float *shift, const float *dy, float *dw,
                                           SIZES, int parts) {
  __shared__ float kept[KEPT];
  tile_weight<3, 1>(x, scale, shift, dy, dw, kept, PASSED, parts);
}

extern "C" __global__ void tile_forward_3_2(const float *x, const float *scale, const float *shift, const float *w, float *y,
                                            SIZES) {
  __shared__ float kept[KEPT];
  tile_forward<3, 2>(x, scale, shift, w, y, kept, PASSED);
}

extern "C" __global__ void tile_input_3_2(const float *x, const float *scale, const float *shift, const float *w,
                                          const float *dy, float *dx, SIZES) {
  __shared__ float kept[KEPT];
  tile_input<3, 2>(x, scale, shift, w, dy, dx, kept, PASSED);
}

extern "C" __global__ void tile_weight_3_2(const float *x, const float *scale, const float *shift, const float *dy, float *dw,
                                           SIZES, int parts) {
  __shared__ float kept[KEPT];
  tile_weight<3, 2>(x, scale, shift, dy, dw, kept, PASSED, parts);
}

extern "C" __global__ void tile_forward_5_1(const float *x, const float *scale, const float *shift, const float *w, float *y,
                                            SIZES) {
  __shared__ float kept[KEPT];
  tile_forward<5, 1>(x, scale, shift, w, y, kept, PASSED);
}

extern "C" __global__ void tile_input_5_1(const float *x, const float *scale, const float *shift, const float *w,
                                          const float *dy, float *dx, SIZES) {
  __shared__ float kept[KEPT];
  tile_input<5, 1>(x, scale, shift, w, dy, dx, kept, PASSED);
}

extern "C" __global__ void tile_weight_5_1(const float *x, const float *scale, const float *shift, const float *dy, float *dw,
                                           SIZES, int parts) {
  __shared__ float kept[KEPT];
  tile_weight<5, 1>(x, scale, shift, dy, dw, kept, PASSED, parts);
}

extern "C" __global__ void tile_forward_5_2(const float *x, const float *scale, const float *shift, const float *w, float *y,
                                            SIZES) {
  __shared__ float kept[KEPT];
  tile_forward<5, 2>(x, scale, shift, w, y, kept, PASSED);
}

extern "C" __global__ void tile_input_5_2(const float *x, const float *scale, const float *shift, const float *w,
                                          const float *dy, float *dx, SIZES) {
  __shared__ float kept[KEPT];
  tile_input<5, 2>(x, scale, shift, w, dy, dx, kept, PASSED);
}

extern "C" __global__ void tile_weight_5_2(const float *x, const float *scale, const float *shift, const float *dy, float *dw,
                                           SIZES, int parts) {
  __shared__ float kept[KEPT];
  tile_weight<5, 2>(x, scale, shift, dy, dw, kept, PASSED, parts);
}

#undef SIDE
#undef STRIP
#undef AHEAD
#undef KEPT
#undef SIZES
#undef PASSED
