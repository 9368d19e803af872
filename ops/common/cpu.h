// CPU host code that both operators share: types, tensors, scratch memory.
#pragma once

#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include "common/sampling.h"

namespace bevstack {

// Returns the type of the arithmetic: float64 if any tensor is float64, else float32.
inline at::ScalarType computing_type(std::initializer_list<at::Tensor> tensors) {
  for (const at::Tensor& tensor : tensors) {
    if (tensor.scalar_type() == at::kDouble) return at::kDouble;
  }
  return at::kFloat;
}

// Returns the type that values are stored in while the arithmetic is in `computing`. Half types are
// kept if the arithmetic is in float32.
inline at::ScalarType storage_type(const at::Tensor& tensor, at::ScalarType computing) {
  const bool half = tensor.scalar_type() == at::kHalf || tensor.scalar_type() == at::kBFloat16;
  return half && computing == at::kFloat ? tensor.scalar_type() : computing;
}

inline Storage storage_of(const at::Tensor& tensor) {
  if (tensor.scalar_type() == at::kHalf) return Storage::half;
  if (tensor.scalar_type() == at::kBFloat16) return Storage::bfloat16;
  return Storage::computing;
}

inline at::Tensor prepare(const at::Tensor& tensor, at::ScalarType type) {
  return tensor.to(type).contiguous();
}

// Returns an uninitialised tensor, in huge pages if possible. The system allocates large memory
// again at each call; with pages of 4 KB that takes as long as computing the content.
inline at::Tensor empty_result(at::IntArrayRef shape, const at::TensorOptions& options) {
  at::Tensor result = at::empty(shape, options);
#if defined(__linux__)
  constexpr uintptr_t kHugePage = uintptr_t(2) << 20;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(result.mutable_data_ptr());
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t last = (begin + result.nbytes()) / kHugePage * kHugePage;
  // This is a request: if the system refuses, pages stay small.
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
  return result;
}

// Calls work with null pointers T* and S*: the types of the arithmetic and of the stored values.
template <typename Work>
void with_types(const at::Tensor& values, at::ScalarType computing, Work work) {
  constexpr float* kFloat = nullptr;
  if (computing == at::kDouble) return work((double*)nullptr, (double*)nullptr);
  if (values.scalar_type() == at::kHalf) return work(kFloat, (Half*)nullptr);
  if (values.scalar_type() == at::kBFloat16) return work(kFloat, (BFloat16*)nullptr);
  work(kFloat, kFloat);
}

// The three inputs of a call, contiguous, each in the type that the kernels read.
struct Inputs {
  at::ScalarType computing;
  at::Tensor value, offset, factor;

  Inputs(const at::Tensor& of_value, const at::Tensor& of_offset, const at::Tensor& of_factor)
      : computing(computing_type({of_value, of_offset, of_factor})),
        value(prepare(of_value, storage_type(of_value, computing))),
        offset(prepare(of_offset, storage_type(of_offset, computing))),
        factor(prepare(of_factor, storage_type(of_factor, computing))) {}

  template <typename T, typename S>
  Sampling<T, S> call() const {
    Sampling<T, S> call{};
    call.value = static_cast<const S*>(value.const_data_ptr());
    call.offset = offset.const_data_ptr();
    call.factor = factor.const_data_ptr();
    call.offset_storage = storage_of(offset);
    call.factor_storage = storage_of(factor);
    return call;
  }
};

// Gradients to the inputs. The gradient to the values is summed in the type of the arithmetic and
// rounded once.
struct Gradients {
  at::Tensor value, offset, factor;

  explicit Gradients(const Inputs& inputs)
      : value(empty_result(inputs.value.sizes(), inputs.value.options().dtype(inputs.computing))),
        offset(empty_result(inputs.offset.sizes(), inputs.offset.options())),
        factor(empty_result(inputs.factor.sizes(), inputs.factor.options())) {
    value.zero_();
  }

  template <typename T, typename S>
  void put_into(Sampling<T, S>& call, const at::Tensor& grad_output) const {
    call.grad_output = static_cast<const S*>(grad_output.const_data_ptr());
    call.grad_value = value.mutable_data_ptr<T>();
    call.grad_offset = offset.mutable_data_ptr();
    call.grad_factor = factor.mutable_data_ptr();
  }

  std::tuple<at::Tensor, at::Tensor, at::Tensor> as(const at::Tensor& of_value,
                                                    const at::Tensor& of_offset,
                                                    const at::Tensor& of_factor) const {
    return {value.to(of_value.scalar_type()), offset.to(of_offset.scalar_type()),
            factor.to(of_factor.scalar_type())};
  }
};

// Zeroed scratch memory of one thread, aligned to 64 bytes, the widest register.
template <typename T>
class Scratch {
 public:
  Scratch(int groups, int points)
      : numbers_(scratch_plan(groups, points).size + 64 / sizeof(T)) {}
  T* get() {
    const auto address = reinterpret_cast<uintptr_t>(numbers_.data());
    return reinterpret_cast<T*>((address + 63) / 64 * 64);
  }

 private:
  std::vector<T> numbers_;
};

// The memory of a table of points. The caller sets the first `points` entries; `repeated` copies
// them until the table is full.
template <typename T>
class PointTable {
 public:
  PointTable(int groups, int points)
      : padded_(padded_points(groups, points)), entries_(record_size(padded_, kTableArrays)) {}

  T& number(TableArray array, int64_t k) {
    return entries_[record_entry(k, kTableArrays) + array * kRecord];
  }

  void set_index(TableArray array, int64_t k, int64_t index) {
    const auto bits = static_cast<std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>(index);
    std::memcpy(&number(array, k), &bits, sizeof bits);
  }

  const T* repeated(int points) {
    for (int64_t k = points; k < padded_; ++k) {
      for (int array = 0; array < kTableArrays; ++array) {
        const auto which = TableArray(array);
        std::memcpy(&number(which, k), &number(which, k - points), sizeof(T));
      }
    }
    return entries_.data();
  }

 private:
  int64_t padded_;
  std::vector<T> entries_;
};

}  // namespace bevstack
