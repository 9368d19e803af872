// CPU host code that both operators share: types and tensors of torch.
#pragma once

#include <cstdint>
#include <tuple>
#include <type_traits>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include "common/memory.h"
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

}  // namespace bevstack
