// bevstack::roi_align and bevstack::roi_align_backward on the CPU.
#include <algorithm>
#include <vector>

#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "common/cpu.h"
#include "common/levels.h"
#include "roi_align/roi_align_call.h"
#include "roi_align/roi_align_checks.h"

namespace bevstack {
namespace {

constexpr int64_t kChannelsAtOnce = 16;  // of a thread in the backward pass: a multiple of this

// The weights of one region along one axis.
template <typename T>
class AxisWeights {
 public:
  AxisWeights(int64_t bins, int64_t cells)
      : weights_(size_t(bins * cells)), begin_(size_t(bins)), end_(size_t(bins)) {}

  void fill(const RoiAxis<T>& axis) {
    first_ = axis.cells, last_ = 0;
    for (size_t b = 0; b < begin_.size(); ++b) {
      int64_t low = axis.cells, high = 0;
      axis.for_each_share(int64_t(b), [&](int64_t cell, T) {
        low = std::min(low, cell);
        high = std::max(high, cell + 1);
      });
      T* const row = weights_.data() + int64_t(b) * axis.cells;
      if (low < high) std::fill(row + low, row + high, T(0));
      axis.for_each_share(int64_t(b), [&](int64_t cell, T share) { row[cell] += share; });
      begin_[b] = low;
      end_[b] = high;
      first_ = std::min(first_, low);
      last_ = std::max(last_, high);
    }
    cells_ = axis.cells;
  }

  bool empty() const { return first_ >= last_; }
  int64_t first() const { return first_; }
  int64_t end() const { return last_; }
  RoiWeights<T> view() const {
    return {weights_.data(), begin_.data(), end_.data(), int64_t(begin_.size()), cells_};
  }

 private:
  std::vector<T> weights_;
  std::vector<int64_t> begin_, end_;
  int64_t first_ = 0, last_ = 0, cells_ = 0;
};

// The memory of one thread, and the region that it works on.
template <typename T>
class RegionWork {
 public:
  RegionWork(const RoiAlignShape& shape, const T* sides)
      : shape_(shape),
        sides_(sides),
        rows_(shape.bin_rows, shape.height),
        columns_(shape.bin_columns, shape.width),
        line_(size_t(shape.width * shape.channels)),
        bins_(size_t(shape.bins() * shape.channels)) {}

  // Returns false for a region without a sample on the map.
  bool take(int64_t roi) {
    const T* const side = sides_ + 4 * roi;
    rows_.fill(roi_axis(side[1], side[3], shape_.height, shape_.bin_rows, shape_));
    columns_.fill(roi_axis(side[0], side[2], shape_.width, shape_.bin_columns, shape_));
    return !rows_.empty() && !columns_.empty();
  }

  RoiCall<T> call() {
    return {rows_.view(),     columns_.view(), columns_.first(), columns_.end(),
            shape_.channels,  line_.data(),    bins_.data()};
  }

 private:
  const RoiAlignShape& shape_;
  const T* sides_;
  AxisWeights<T> rows_, columns_;
  std::vector<T> line_, bins_;
};

void check_images(const at::Tensor& image, int64_t images) {
  const int64_t* const first = image.const_data_ptr<int64_t>();
  const auto range = std::minmax_element(first, first + image.numel());
  TORCH_CHECK_VALUE(*range.first >= 0 && *range.second < images, "rois must be of images 0..",
                    images - 1, "; got ", *range.first, "..", *range.second);
}

template <typename T>
void run_forward(const RoiAlignShape& shape, const RoiBoxes& boxes, const at::Tensor& maps,
                 at::Tensor& output) {
  const at::Tensor pixels = maps.permute({0, 2, 3, 1}).contiguous();  // (B, H, W, C)
  const int64_t of_image = shape.height * shape.width * shape.channels;
  const int64_t of_roi = shape.bins() * shape.channels;
  const int64_t* const image = boxes.image.const_data_ptr<int64_t>();
  const T* const sides = boxes.sides.const_data_ptr<T>();
  const T* const from = pixels.const_data_ptr<T>();
  T* const to = output.mutable_data_ptr<T>();
  at::parallel_for(0, shape.rois, 4, [&](int64_t begin, int64_t end) {
    RegionWork<T> work(shape, sides);
    for (int64_t r = begin; r < end; ++r) {
      if (!work.take(r)) {
        std::fill(to + r * of_roi, to + (r + 1) * of_roi, T(0));
        continue;
      }
      BEVSTACK_ON_THIS_MACHINE(
          roi_align_forward(work.call(), from + image[r] * of_image, to + r * of_roi));
    }
  });
}

// Threads share the channels, so that no two add to the same number.
template <typename T>
void run_backward(const RoiAlignShape& shape, const RoiBoxes& boxes, const at::Tensor& grad_output,
                  at::Tensor& grad_pixels) {
  const int64_t of_image = shape.height * shape.width * shape.channels;
  const int64_t of_roi = shape.bins() * shape.channels;
  const int64_t* const image = boxes.image.const_data_ptr<int64_t>();
  const T* const sides = boxes.sides.const_data_ptr<T>();
  const T* const from = grad_output.const_data_ptr<T>();
  T* const to = grad_pixels.mutable_data_ptr<T>();
  const int64_t blocks = (shape.channels + kChannelsAtOnce - 1) / kChannelsAtOnce;
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    RegionWork<T> work(shape, sides);
    const int64_t first = begin * kChannelsAtOnce;
    const int64_t last = std::min(end * kChannelsAtOnce, shape.channels);
    for (int64_t r = 0; r < shape.rois; ++r) {
      if (!work.take(r)) continue;
      BEVSTACK_ON_THIS_MACHINE(roi_align_backward(work.call(), from + r * of_roi, first, last,
                                                  to + image[r] * of_image));
    }
  });
}

at::Tensor roi_align(const at::Tensor& maps, const at::Tensor& rois, at::IntArrayRef output_size,
                     double spatial_scale, int64_t sampling_ratio, bool aligned) {
  const RoiAlignShape shape = check_roi_align(maps, rois, output_size, sampling_ratio, aligned);
  const at::ScalarType computing = computing_type({maps, rois});
  at::Tensor output = empty_result({shape.rois, shape.channels, shape.bin_rows, shape.bin_columns},
                                   maps.options().dtype(computing));
  const RoiBoxes boxes(rois, computing, spatial_scale, aligned);
  if (shape.rois != 0) check_images(boxes.image, shape.images);
  if (shape.height == 0 || shape.width == 0) {
    output.zero_();
  } else if (output.numel() != 0) {
    const at::Tensor prepared = maps.to(computing);
    if (computing == at::kDouble) {
      run_forward<double>(shape, boxes, prepared, output);
    } else {
      run_forward<float>(shape, boxes, prepared, output);
    }
  }
  return output.to(maps.scalar_type());
}

at::Tensor roi_align_backward(const at::Tensor& grad_output, const at::Tensor& maps,
                              const at::Tensor& rois, at::IntArrayRef output_size,
                              double spatial_scale, int64_t sampling_ratio, bool aligned) {
  const RoiAlignShape shape = check_roi_align(maps, rois, output_size, sampling_ratio, aligned);
  check_roi_gradient(grad_output, maps, shape);
  const at::ScalarType computing = computing_type({maps, rois});
  at::Tensor pixels = at::zeros({shape.images, shape.height, shape.width, shape.channels},
                                maps.options().dtype(computing));
  const RoiBoxes boxes(rois, computing, spatial_scale, aligned);
  if (shape.rois != 0) check_images(boxes.image, shape.images);
  if (grad_output.numel() != 0 && pixels.numel() != 0) {
    const at::Tensor grad = prepare(grad_output, computing);
    if (computing == at::kDouble) {
      run_backward<double>(shape, boxes, grad, pixels);
    } else {
      run_backward<float>(shape, boxes, grad, pixels);
    }
  }
  return pixels.permute({0, 3, 1, 2}).to(maps.scalar_type()).contiguous();
}

}  // namespace
}  // namespace bevstack

TORCH_LIBRARY_IMPL(bevstack, CPU, m) {
  m.impl("roi_align", bevstack::roi_align);
  m.impl("roi_align_backward", bevstack::roi_align_backward);
}
