// The sums of one region, for one instruction set. Loops run over neighbouring numbers, which the
// compiler turns into vectors.
//
// Images are (H, W, C), outputs (C, bins).
#pragma once

#include "roi_align/roi_align_call.h"

namespace bevstack {
namespace BEVSTACK_ISA {
namespace {

template <typename T>
inline void add_scaled(int64_t count, T factor, const T* __restrict from, T* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] += factor * from[i];
}

template <typename T>
inline void clear(int64_t count, T* to) {
  __builtin_memset(to, 0, uint64_t(count) * sizeof(T));
}

template <typename T>
void forward(const RoiCall<T>& roi, const T* image, T* output) {
  const int64_t channels = roi.channels, width = roi.right - roi.left;
  const int64_t bins = roi.rows.bins * roi.columns.bins;
  clear(bins * channels, roi.bins);
  for (int64_t p = 0; p < roi.rows.bins; ++p) {
    if (roi.rows.begin[p] >= roi.rows.end[p]) continue;
    clear(width * channels, roi.line);
    for (int64_t y = roi.rows.begin[p]; y < roi.rows.end[p]; ++y) {
      const T* const from = image + (y * roi.columns.cells + roi.left) * channels;
      add_scaled(width * channels, roi.rows.weights[p * roi.rows.cells + y], from, roi.line);
    }
    for (int64_t q = 0; q < roi.columns.bins; ++q) {
      T* const to = roi.bins + (p * roi.columns.bins + q) * channels;
      for (int64_t x = roi.columns.begin[q]; x < roi.columns.end[q]; ++x) {
        const T weight = roi.columns.weights[q * roi.columns.cells + x];
        add_scaled(channels, weight, roi.line + (x - roi.left) * channels, to);
      }
    }
  }
  for (int64_t b = 0; b < bins; ++b) {
    for (int64_t c = 0; c < channels; ++c) output[c * bins + b] = roi.bins[b * channels + c];
  }
}

// Adds the gradient of the channels [first, end).
template <typename T>
void backward(const RoiCall<T>& roi, const T* grad_output, int64_t first, int64_t end,
              T* grad_image) {
  const int64_t own = end - first, width = roi.right - roi.left;
  const int64_t bins = roi.rows.bins * roi.columns.bins;
  for (int64_t b = 0; b < bins; ++b) {
    for (int64_t c = 0; c < own; ++c) roi.bins[b * own + c] = grad_output[(first + c) * bins + b];
  }
  for (int64_t p = 0; p < roi.rows.bins; ++p) {
    if (roi.rows.begin[p] >= roi.rows.end[p]) continue;
    clear(width * own, roi.line);
    for (int64_t q = 0; q < roi.columns.bins; ++q) {
      const T* const from = roi.bins + (p * roi.columns.bins + q) * own;
      for (int64_t x = roi.columns.begin[q]; x < roi.columns.end[q]; ++x) {
        const T weight = roi.columns.weights[q * roi.columns.cells + x];
        add_scaled(own, weight, from, roi.line + (x - roi.left) * own);
      }
    }
    for (int64_t y = roi.rows.begin[p]; y < roi.rows.end[p]; ++y) {
      const T weight = roi.rows.weights[p * roi.rows.cells + y];
      T* const to = grad_image + (y * roi.columns.cells + roi.left) * roi.channels + first;
      if (own == roi.channels) {
        add_scaled(width * own, weight, roi.line, to);
        continue;
      }
      for (int64_t x = 0; x < width; ++x) {
        add_scaled(own, weight, roi.line + x * own, to + x * roi.channels);
      }
    }
  }
}

}  // namespace

void roi_align_forward(const RoiCall<float>& roi, const float* image, float* output) {
  forward(roi, image, output);
}

void roi_align_forward(const RoiCall<double>& roi, const double* image, double* output) {
  forward(roi, image, output);
}

void roi_align_backward(const RoiCall<float>& roi, const float* grad_output, int64_t first,
                        int64_t end, float* grad_image) {
  backward(roi, grad_output, first, end, grad_image);
}

void roi_align_backward(const RoiCall<double>& roi, const double* grad_output, int64_t first,
                        int64_t end, double* grad_image) {
  backward(roi, grad_output, first, end, grad_image);
}

}  // namespace BEVSTACK_ISA
}  // namespace bevstack
