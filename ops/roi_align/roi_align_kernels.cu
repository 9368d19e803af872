// Kernels of RoIAlign for the GPU. The file includes no torch header.
#include "roi_align/roi_align_cuda.h"

#include <type_traits>

namespace bevstack {
namespace gpu {

constexpr int kRoiThreads = 128;  // of a block

// The axes of one region.
template <typename T>
struct Region {
  RoiAxis<T> rows, columns;
};

template <typename T>
__device__ Region<T> region(const RoiAlignShape& shape, const T* sides, int64_t roi) {
  const T* const side = sides + 4 * roi;
  return {roi_axis(side[1], side[3], shape.height, shape.bin_rows, shape),
          roi_axis(side[0], side[2], shape.width, shape.bin_columns, shape)};
}

// Returns the image of a region. Only the GPU can detect a wrong one: it ends the program.
__device__ inline int64_t image_of(const RoiAlignShape& shape, const int64_t* image, int64_t roi) {
  const int64_t index = image[roi];
  if (index < 0 || index >= shape.images) __trap();
  return index;
}

// Calls work(index) for each of `count` indices in turn.
template <typename Work>
__device__ inline void for_each(int64_t count, Work work) {
  const int64_t step = int64_t(gridDim.x) * kRoiThreads;
  for (int64_t i = int64_t(blockIdx.x) * kRoiThreads + threadIdx.x; i < count; i += step) work(i);
}

// The place of a number of the output.
struct Place {
  int64_t roi, channel, row, column;

  __device__ static Place at(const RoiAlignShape& shape, int64_t index) {
    const int64_t line = index / shape.bin_columns, plane = line / shape.bin_rows;
    return {plane / shape.channels, plane % shape.channels, line % shape.bin_rows,
            index % shape.bin_columns};
  }
};

template <typename T>
__global__ void __launch_bounds__(kRoiThreads)
    roi_align_kernel(const RoiAlignShape shape, const int64_t* image, const T* sides,
                     const T* maps, T* output) {
  for_each(shape.rois * shape.channels * shape.bins(), [&](int64_t index) {
    const Place place = Place::at(shape, index);
    const Region<T> own = region(shape, sides, place.roi);
    const int64_t plane = image_of(shape, image, place.roi) * shape.channels + place.channel;
    const T* const map = maps + plane * shape.height * shape.width;
    T sum = 0;
    own.rows.for_each_share(place.row, [&](int64_t y, T of_row) {
      T line = 0;
      own.columns.for_each_share(place.column, [&](int64_t x, T of_column) {
        line += of_column * map[y * shape.width + x];
      });
      sum += of_row * line;
    });
    output[index] = sum;
  });
}

template <typename T>
__global__ void __launch_bounds__(kRoiThreads)
    roi_align_backward_kernel(const RoiAlignShape shape, const int64_t* image, const T* sides,
                              const T* grad_output, T* grad_maps) {
  for_each(shape.rois * shape.channels * shape.bins(), [&](int64_t index) {
    const Place place = Place::at(shape, index);
    const Region<T> own = region(shape, sides, place.roi);
    const int64_t plane = image_of(shape, image, place.roi) * shape.channels + place.channel;
    T* const map = grad_maps + plane * shape.height * shape.width;
    const T grad = grad_output[index];
    own.rows.for_each_share(place.row, [&](int64_t y, T of_row) {
      own.columns.for_each_share(place.column, [&](int64_t x, T of_column) {
        atomicAdd(map + y * shape.width + x, of_row * of_column * grad);
      });
    });
  });
}

template <typename T>
__global__ void __launch_bounds__(kRoiThreads)
    roi_align_ordered_kernel(const RoiAlignShape shape, const int64_t* image, const T* sides,
                             const T* grad_output, T* grad_maps) {
  const int64_t cells = shape.height * shape.width;
  for_each(shape.images * shape.channels * cells, [&](int64_t index) {
    const int64_t plane = index / cells, y = index % cells / shape.width, x = index % shape.width;
    T sum = 0;
    for (int64_t r = 0; r < shape.rois; ++r) {
      if (image_of(shape, image, r) != plane / shape.channels) continue;
      const Region<T> own = region(shape, sides, r);
      if (!own.rows.may_reach(y, shape.bin_rows)) continue;
      if (!own.columns.may_reach(x, shape.bin_columns)) continue;
      const int64_t channel = r * shape.channels + plane % shape.channels;
      const T* const grads = grad_output + channel * shape.bins();
      for (int64_t p = 0; p < shape.bin_rows; ++p) {
        const T of_row = own.rows.weight(p, y);
        if (of_row == T(0)) continue;
        for (int64_t q = 0; q < shape.bin_columns; ++q) {
          sum += of_row * own.columns.weight(q, x) * grads[p * shape.bin_columns + q];
        }
      }
    }
    grad_maps[index] = sum;
  });
}

// One thread an index, up to a maximum; above it, a thread takes several.
inline unsigned grid(int64_t count) {
  constexpr int64_t kMost = int64_t(1) << 30;
  const int64_t blocks = (count + kRoiThreads - 1) / kRoiThreads;
  return unsigned(blocks < kMost ? blocks : kMost);
}

// Calls work with a null pointer of the numbers' type.
template <typename Work>
void with_type(NumberType type, Work work) {
  if (type == NumberType::float64) return work(static_cast<double*>(nullptr));
  work(static_cast<float*>(nullptr));
}

}  // namespace gpu

void launch_roi_align(const RoiAlignShape& shape, const RoiAlignTensors& tensors,
                      const Queue& queue) {
  const int64_t count = shape.rois * shape.channels * shape.bins();
  if (count == 0) return;
  gpu::with_type(tensors.type, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    gpu::roi_align_kernel<T><<<gpu::grid(count), gpu::kRoiThreads, 0, queue.stream>>>(
        shape, tensors.image, static_cast<const T*>(tensors.sides),
        static_cast<const T*>(tensors.maps), static_cast<T*>(tensors.output));
  });
}

void launch_roi_align_backward(const RoiAlignShape& shape, const RoiAlignTensors& tensors,
                               const Queue& queue) {
  const int64_t count = shape.rois * shape.channels * shape.bins();
  if (count == 0) return;
  gpu::with_type(tensors.type, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    gpu::roi_align_backward_kernel<T><<<gpu::grid(count), gpu::kRoiThreads, 0, queue.stream>>>(
        shape, tensors.image, static_cast<const T*>(tensors.sides),
        static_cast<const T*>(tensors.grad_output), static_cast<T*>(tensors.grad_maps));
  });
}

void launch_roi_align_ordered(const RoiAlignShape& shape, const RoiAlignTensors& tensors,
                              const Queue& queue) {
  const int64_t count = shape.images * shape.channels * shape.height * shape.width;
  if (count == 0) return;
  gpu::with_type(tensors.type, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    gpu::roi_align_ordered_kernel<T><<<gpu::grid(count), gpu::kRoiThreads, 0, queue.stream>>>(
        shape, tensors.image, static_cast<const T*>(tensors.sides),
        static_cast<const T*>(tensors.grad_output), static_cast<T*>(tensors.grad_maps));
  });
}

}  // namespace bevstack
