// Depthwise convolution as in depthwise.cu, but at stride 1, by tiles of PIXELS pixels, of several images if feature
// maps are small. A block keeps a tile with its border for all slots that read it. A thread computes STRIP pixels of
// a column at a time, and reads each row of their inputs once. Slots are ordered by kind: kernels of 3x3, of 5x5,
// then both with dilation 2.

#define PIXELS 1024
#define STRIP 4

// Rows and columns of the border of a tile: the reach of 5x5 taps at dilation 2.
#define AROUND 4

// Elements that a thread requests before it waits for them.
#define AHEAD 4

// Weights of each kind, or their gradients, [slot][channel][row][column], and the number of its slots.
#define KINDS(T) T *w31, T *w51, T *w32, T *w52, int n31, int n51, int n32, int n52
#define OF_KINDS w31, w51, w32, w52, n31, n51, n32, n52

#define SIZES int shared, int channels, int batch, int rows, int columns
#define PASSED shared, channels, batch, rows, columns

template <int KERNEL, int DILATION> struct Kind {
  static const int K = KERNEL, D = DILATION;
};

// Calls `make` with the kind of a slot and the position of the slot's weights.
template <class T, class F> __device__ void by_kind(int slot, int channels, KINDS(T), F make) {
  if (slot < n31) return make(Kind<3, 1>(), w31 + slot * channels * 9);
  slot -= n31;
  if (slot < n51) return make(Kind<5, 1>(), w51 + slot * channels * 25);
  slot -= n51;
  if (slot < n32) return make(Kind<3, 2>(), w32 + slot * channels * 9);
  slot -= n32;
  if (slot < n52) make(Kind<5, 2>(), w52 + slot * channels * 25);
}

// A tile has images of SIDE x SIDE pixels. If feature maps are not larger, the border is all zero and REACH is 0. If
// they are, REACH is AROUND.
template <int SIZE, int REACH> struct Tile {
  static const int SIDE = SIZE, IMAGES = PIXELS / (SIDE * SIDE), WIDTH = SIDE + 2 * AROUND;
  // Elements from row to row and from image to image in shared memory, chosen so that the threads of a warp read from
  // different banks.
  static const int STEP = SIDE == 32 ? 40 : SIDE == 16 ? 28 : 20, PLANE = WIDTH * STEP + (SIDE == 8 ? 8 : 0);
  static const int WORDS = IMAGES * PLANE;
  int batch, rows, columns, across, squares, count;
  // Position of the current tile of a block.
  int image, top, left;

  __device__ Tile(int batch, int rows, int columns) : batch(batch), rows(rows), columns(columns) {
    across = (columns + SIDE - 1) / SIDE;
    squares = (rows + SIDE - 1) / SIDE * across;
    count = (batch + IMAGES - 1) / IMAGES * squares;
    image = top = left = 0;
  }

  __device__ void go(int tile) {
    left = tile % across * SIDE;
    top = tile % squares / across * SIDE;
    image = tile / squares * IMAGES;
  }

  __device__ static void clear(float *kept) {
    for (int i = threadIdx.x; i < WORDS; i += blockDim.x) kept[i] = 0.f;
  }

  // Keeps the tile of the planes from `from` on. If RELU, values become max(0, value * factor + plus).
  template <bool RELU> __device__ void keep(const float *from, float factor, float plus, float *kept) const {
    const int side = SIDE + 2 * REACH;
    __syncthreads();
    if (REACH == 0 && rows == SIDE && columns == SIDE) {
      // The planes fill their tiles, which are contiguous.
      for (int i = 4 * threadIdx.x; i < PIXELS; i += 4 * blockDim.x) {
        int number = i / (SIDE * SIDE), row = i / SIDE % SIDE + AROUND, column = i % SIDE + AROUND;
        float values[4] = {0.f, 0.f, 0.f, 0.f};
        if (image + number < batch) {
          read<4>(from + image * SIDE * SIDE + i, values);
#pragma unroll
          for (int k = 0; RELU && k < 4; ++k)
            values[k] = values[k] * factor + plus > 0.f ? values[k] * factor + plus : 0.f;
        }
        write<4>(kept + number * PLANE + row * STEP + column, values);
      }
      __syncthreads();
      return;
    }
    for (int first = threadIdx.x; first < IMAGES * side * side; first += AHEAD * blockDim.x) {
      float values[AHEAD];
#pragma unroll
      for (int k = 0; k < AHEAD; ++k) {
        int i = first + k * blockDim.x, number = i / (side * side);
        int row = top + i / side % side - REACH, column = left + i % side - REACH;
        bool inside = number < IMAGES && image + number < batch && row >= 0 && row < rows && column >= 0 && column < columns;
        float value = inside ? from[((image + number) * rows + row) * columns + column] : 0.f;
        if (RELU) value = inside && value * factor + plus > 0.f ? value * factor + plus : 0.f;
        values[k] = value;
      }
#pragma unroll
      for (int k = 0; k < AHEAD; ++k) {
        int i = first + k * blockDim.x, number = i / (side * side);
        int row = i / side % side - REACH + AROUND, column = i % side - REACH + AROUND;
        if (number < IMAGES) kept[number * PLANE + row * STEP + column] = values[k];
      }
    }
    __syncthreads();
  }
};

// A strip of a tile: its position in shared memory, the index of its first pixel in the planes, and the number of its
// pixels inside the feature map.
struct Strip {
  int kept, at, pixels;
  template <class T> __device__ Strip(const T &tile, int i) {
    int column = i % T::SIDE, row = i / T::SIDE * STRIP % T::SIDE, number = i / T::SIDE * STRIP / T::SIDE;
    int left = tile.rows - tile.top - row;
    kept = number * T::PLANE + (row + AROUND) * T::STEP + column + AROUND;
    at = ((tile.image + number) * tile.rows + tile.top + row) * tile.columns + tile.left + column;
    bool inside = tile.image + number < tile.batch && tile.left + column < tile.columns;
    pixels = !inside || left < 0 ? 0 : left < STRIP ? left : STRIP;
  }
};

// All strips of a tile, distributed over the threads.
#define STRIPS(i) for (int i = threadIdx.x; i < PIXELS / STRIP; i += blockDim.x)

// Reads the weights of a convolution, rotated by 180 degrees if TURNED.
template <int K, bool TURNED> __device__ void read_weights(const float *w, float *weights) {
#pragma unroll
  for (int tap = 0; tap < K * K; ++tap) weights[tap] = w[TURNED ? K * K - 1 - tap : tap];
}

// Adds the convolution around `kept` to a strip's sums.
template <int K, int D, int STEP> __device__ void convolve(const float *kept, const float *weights, float *sums) {
  kept -= D * (K / 2) * (STEP + 1);
#pragma unroll
  for (int r = 0; r < STRIP + D * (K - 1); ++r) {
#pragma unroll
    for (int kc = 0; kc < K; ++kc) {
      float value = kept[r * STEP + kc * D];
#pragma unroll
      for (int v = 0; v < STRIP; ++v) {
        if (r >= v && (r - v) % D == 0 && (r - v) / D < K) sums[v] += weights[(r - v) / D * K + kc] * value;
      }
    }
  }
}

// Convolves the tile in shared memory; `to` is the slot's feature map of this channel.
template <int K, int D, class T>
__device__ void convolve_tile(const T &tile, const float *kept, const float *weights, float *to) {
  STRIPS(i) {
    Strip strip(tile, i);
    float sums[STRIP] = {0.f, 0.f, 0.f, 0.f};
    convolve<K, D, T::STEP>(kept + strip.kept, weights, sums);
#pragma unroll
    for (int v = 0; v < STRIP; ++v)
      if (v < strip.pixels) to[strip.at + v * tile.columns] = sums[v];
  }
}

// Computes y[slot][channel]. If slots share their input, a block computes every `splits`-th slot for its tile. If
// not, it computes one slot, for one of `splits` parts of the tiles.
template <class T>
__device__ void tile_forward(T tile, const float *x, const float *scale, const float *shift, KINDS(const float), float *y,
                             float *kept, SIZES, int splits) {
  int map = batch * rows * columns, slots = n31 + n51 + n32 + n52;
  T::clear(kept);
  if (shared) {
    ROWS(block, splits * channels * tile.count) {
      int channel = block / tile.count % channels, split = block / tile.count / channels;
      tile.go(block % tile.count);
      tile.template keep<true>(x + channel * map, 1.f, 0.f, kept);
      for (int slot = split; slot < slots; slot += splits) {
        by_kind(slot, channels, OF_KINDS, [&](auto kind, const float *w) {
          const int K = decltype(kind)::K, D = decltype(kind)::D;
          float weights[K * K];
          read_weights<K, false>(w + channel * K * K, weights);
          convolve_tile<K, D>(tile, kept, weights, y + (slot * channels + channel) * map);
        });
      }
    }
    return;
  }
  ROWS(block, splits * slots * channels) {
    int unit = block / splits, part = block % splits, channel = unit % channels;
    by_kind(unit / channels, channels, OF_KINDS, [&](auto kind, const float *w) {
      const int K = decltype(kind)::K, D = decltype(kind)::D;
      float weights[K * K];
      read_weights<K, false>(w + channel * K * K, weights);
      int end = part_begin(tile.count, splits, part + 1);
      for (int at = part_begin(tile.count, splits, part); at < end; ++at) {
        tile.go(at);
        tile.template keep<true>(x + unit * map, scale[unit], shift[unit], kept);
        convolve_tile<K, D>(tile, kept, weights, y + unit * map);
      }
    });
  }
}

// Gradient of the ReLU's input. If slots share it, the sum over them is added to `dx`, and a block computes one tile.
// If not, a block computes a part of the tiles.
template <class T>
__device__ void tile_input(T tile, const float *x, const float *scale, const float *shift, KINDS(const float),
                           const float *dy, float *dx, float *kept, SIZES, int parts) {
  int map = batch * rows * columns, slots = n31 + n51 + n32 + n52;
  T::clear(kept);
  if (shared) {
    ROWS(block, channels * tile.count) {
      int channel = block / tile.count;
      tile.go(block % tile.count);
      // All threads run the same number of rounds, since they wait for each other in each.
      for (int round = 0; round < PIXELS / STRIP; round += blockDim.x) {
        Strip strip(tile, round + threadIdx.x);
        bool has = round + threadIdx.x < PIXELS / STRIP;
        float sums[STRIP] = {0.f, 0.f, 0.f, 0.f};
        for (int slot = 0; slot < slots; ++slot) {
          tile.template keep<false>(dy + (slot * channels + channel) * map, 1.f, 0.f, kept);
          by_kind(slot, channels, OF_KINDS, [&](auto kind, const float *w) {
            const int K = decltype(kind)::K, D = decltype(kind)::D;
            float weights[K * K];
            read_weights<K, true>(w + channel * K * K, weights);
            if (has) convolve<K, D, T::STEP>(kept + strip.kept, weights, sums);
          });
        }
#pragma unroll
        for (int v = 0; v < STRIP; ++v) {
          int at = channel * map + strip.at + v * columns;
          if (has && v < strip.pixels && x[at] > 0.f) dx[at] += sums[v];
        }
      }
    }
    return;
  }
  ROWS(block, slots * channels * parts) {
    int unit = block / parts, part = block % parts, channel = unit % channels;
    float factor = scale[unit], plus = shift[unit];
    by_kind(unit / channels, channels, OF_KINDS, [&](auto kind, const float *w) {
      const int K = decltype(kind)::K, D = decltype(kind)::D;
      float weights[K * K];
      read_weights<K, true>(w + channel * K * K, weights);
      int end = part_begin(tile.count, parts, part + 1);
      for (int at = part_begin(tile.count, parts, part); at < end; ++at) {
        tile.go(at);
        tile.template keep<false>(dy + unit * map, 1.f, 0.f, kept);
        STRIPS(i) {
          Strip strip(tile, i);
          float sums[STRIP] = {0.f, 0.f, 0.f, 0.f};
          convolve<K, D, T::STEP>(kept + strip.kept, weights, sums);
#pragma unroll
          for (int v = 0; v < STRIP; ++v) {
            int pixel = unit * map + strip.at + v * columns;
            if (v < strip.pixels) dx[pixel] = x[pixel] * factor + plus > 0.f ? sums[v] : 0.f;
          }
        }
      }
    });
  }
}

// Gradient of the weights, one part of the tiles per block; see finish_taps.
template <class T>
__device__ void tile_weight(T tile, const float *x, const float *scale, const float *shift, KINDS(float), const float *dy,
                            float *kept, float *sums, int *tickets, SIZES, int parts) {
  int map = batch * rows * columns, units = (n31 + n51 + n32 + n52) * channels;
  ROWS(block, parts * units) {
    int unit = block % units, part = block / units, channel = unit % channels;
    float factor = scale ? scale[unit] : 1.f, plus = scale ? shift[unit] : 0.f;
    T::clear(kept);
    by_kind(unit / channels, channels, OF_KINDS, [&](auto kind, float *w) {
      const int K = decltype(kind)::K, D = decltype(kind)::D;
      float taps[K * K];
#pragma unroll
      for (int tap = 0; tap < K * K; ++tap) taps[tap] = 0.f;
      int end = part_begin(tile.count, parts, part + 1);
      for (int at = part_begin(tile.count, parts, part); at < end; ++at) {
        tile.go(at);
        STRIPS(i) {
          Strip strip(tile, i);
          const float *gradient = dy + unit * map + strip.at;
          const float *around = kept + strip.kept - D * (K / 2) * (T::STEP + 1);
          float d[STRIP];
#pragma unroll
          for (int v = 0; v < STRIP; ++v) d[v] = v < strip.pixels ? gradient[v * columns] : 0.f;
          // Requested after the gradient, so that a thread waits for both at once.
          if (i == (int)threadIdx.x) tile.template keep<true>(x + (shared ? channel : unit) * map, factor, plus, kept);
#pragma unroll
          for (int r = 0; r < STRIP + D * (K - 1); ++r) {
#pragma unroll
            for (int kc = 0; kc < K; ++kc) {
              float value = around[r * T::STEP + kc * D];
#pragma unroll
              for (int v = 0; v < STRIP; ++v) {
                if (r >= v && (r - v) % D == 0 && (r - v) / D < K) taps[(r - v) / D * K + kc] += d[v] * value;
              }
            }
          }
        }
      }
      finish_taps<K>(taps, w + channel * K * K, sums + unit * parts * 25, tickets + unit, part, parts, kept);
    });
  }
}

// Largest number of elements that any tile keeps.
#define KEPT 5248

// Calls `make` with the tile for feature maps of a size, and its shared memory.
template <class F> __device__ void by_size(int batch, int rows, int columns, F make) {
  __shared__ float4 words[KEPT / 4];
  float *kept = (float *)words;
  int side = rows > columns ? rows : columns;
  if (side <= 8) return make(Tile<8, 0>(batch, rows, columns), kept);
  if (side <= 16) return make(Tile<16, 0>(batch, rows, columns), kept);
  if (side <= 32) return make(Tile<32, 0>(batch, rows, columns), kept);
  make(Tile<32, AROUND>(batch, rows, columns), kept);
}

extern "C" __launch_bounds__(BLOCK, 4) __global__ void tiles_forward(
    const float *x, const float *scale, const float *shift, KINDS(const float), float *y, SIZES, int splits) {
  by_size(batch, rows, columns, [&](auto tile, float *kept) {
    tile_forward(tile, x, scale, shift, OF_KINDS, y, kept, PASSED, splits);
  });
}

extern "C" __launch_bounds__(BLOCK, 4) __global__ void tiles_input(
    const float *x, const float *scale, const float *shift, KINDS(const float), const float *dy, float *dx, SIZES, int parts) {
  by_size(batch, rows, columns, [&](auto tile, float *kept) {
    tile_input(tile, x, scale, shift, OF_KINDS, dy, dx, kept, PASSED, parts);
  });
}

extern "C" __launch_bounds__(BLOCK, 3) __global__ void tiles_weight(
    const float *x, const float *scale, const float *shift, KINDS(float), const float *dy, float *sums, int *tickets, SIZES,
    int parts) {
  by_size(batch, rows, columns, [&](auto tile, float *kept) {
    tile_weight(tile, x, scale, shift, OF_KINDS, dy, kept, sums, tickets, PASSED, parts);
  });
}

#undef PIXELS
#undef STRIP
#undef AROUND
#undef AHEAD
#undef KINDS
#undef OF_KINDS
#undef SIZES
#undef PASSED
#undef STRIPS
#undef KEPT
