// RoIAlign: the samples of a region along one axis, for the CPU and the GPU.
//
// The weight of a cell in a bin is a product of one along the rows and one along the columns.
#pragma once

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define BEVSTACK_ROI_FUNCTION __host__ __device__ inline
#else
#define BEVSTACK_ROI_FUNCTION inline
#endif

namespace bevstack {

// The sizes of a call.
struct RoiAlignShape {
  int64_t images, channels, height, width;
  int64_t rois;
  int64_t bin_rows, bin_columns;
  int64_t sampling_ratio;  // samples of a bin along an axis; 0: one a cell, rounded up
  bool aligned;            // a region may be shorter than a cell

  BEVSTACK_ROI_FUNCTION int64_t bins() const { return bin_rows * bin_columns; }
};

constexpr int64_t kMostSamples = int64_t(1) << 40;  // of a bin; larger regions give zeros

// The samples of a region along one axis, in cells of the map.
template <typename T>
struct RoiAxis {
  T first, bin_size;
  int64_t samples;  // of a bin; 0 for a region without extent
  int64_t cells;

  // Calls add(cell, weight) for the two cells beside every sample of a bin that is on the map.
  template <typename Add>
  BEVSTACK_ROI_FUNCTION void for_each_share(int64_t bin, Add add) const {
    const T start = first + T(bin) * bin_size;
    if (samples <= 0 || !(start == start)) return;
    int64_t begin = 0, end = samples;
    const T step = bin_size / T(samples);
    if (samples > cells && step > 0) {  // most of a region far larger than the map is outside it
      begin = within((T(-1) - start) / step - T(2));
      end = within((T(cells) - start) / step + T(2));
    }
    const T each = T(1) / T(samples);
    for (int64_t k = begin; k < end; ++k) {
      const T place = start + (T(k) + T(0.5)) * bin_size / T(samples);
      if (!(place >= T(-1) && place <= T(cells))) continue;
      const T inside = place < 0 ? T(0) : place > T(cells - 1) ? T(cells - 1) : place;
      const int64_t low = int64_t(inside);  // not negative: rounded down
      const T share = inside - T(low);
      add(low, (T(1) - share) * each);
      add(low + 1 < cells ? low + 1 : low, share * each);
    }
  }

  // Returns the weight of one cell in a bin.
  BEVSTACK_ROI_FUNCTION T weight(int64_t bin, int64_t cell) const {
    T sum = 0;
    for_each_share(bin, [&](int64_t at, T share) { sum += at == cell ? share : T(0); });
    return sum;
  }

  // Returns false for a cell that no sample of any bin can reach.
  BEVSTACK_ROI_FUNCTION bool may_reach(int64_t cell, int64_t bins) const {
    const T last = first + T(bins) * bin_size;
    const T low = first < last ? first : last, high = first < last ? last : first;
    const bool at_edge = cell == 0 || cell == cells - 1;  // samples beside the map count there
    return T(cell) >= low - (at_edge ? T(2) : T(1)) && T(cell) <= high + (at_edge ? T(2) : T(1));
  }

 private:
  BEVSTACK_ROI_FUNCTION int64_t within(T count) const {
    return count <= 0 ? 0 : count >= T(samples) ? samples : int64_t(count);
  }
};

// Returns the samples of a side from `low` to `high`, in cells of the map.
template <typename T>
BEVSTACK_ROI_FUNCTION RoiAxis<T> roi_axis(T low, T high, int64_t cells, int64_t bins,
                                          const RoiAlignShape& shape) {
  T side = high - low;
  if (!shape.aligned && side < T(1)) side = T(1);
  const T bin_size = side / T(bins);
  int64_t samples = shape.sampling_ratio;
  if (samples <= 0) {
    const bool counts = bin_size > 0 && bin_size < T(kMostSamples);  // false for a NaN
    samples = counts ? int64_t(ceil(bin_size)) : 0;
  }
  return {low, bin_size, samples, cells};
}

}  // namespace bevstack
