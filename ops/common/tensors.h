// What the CUDA kernels are told of a call's tensors: neither torch nor CUDA is needed to say it.
#pragma once

#include <stdint.h>

struct CUstream_st;  // cudaStream_t points to it

namespace bevstack {

// What a tensor is stored in.
enum class NumberType : int { float64 = 0, float32 = 1, float16 = 2, bfloat16 = 3 };

// Kernels are made for these numbers of channels of a group; another serves all others.
constexpr bool has_own_kernel(int64_t channels) { return channels == 16 || channels == 32; }

// Contiguous and aligned to 16 bytes. Offsets, factors and their gradients are of offset_type,
// values and outputs of value_type. The two are the same, float32 or float64, where no kernel is
// made for the number of channels, where the sums are in fixed point, and wherever one of them is
// float64. The gradient of the values is summed in float32, or in float64 for float64.
struct Tensors {
  NumberType value_type;
  NumberType offset_type;
  const void* value;   // images of (pixels, G, D)
  const void* offset;  // (rows, G, P, 2)
  const void* factor;  // (rows, G, P)
  void* output;        // (rows, G, D)
  // In the backward pass:
  const void* grad_output;
  void* grad_value;  // zeros
  void* grad_offset;
  void* grad_factor;
};

// The memory of sums that do not depend on the order of adding, for the values' gradient.
struct FixedPoint {
  uint64_t* sums;   // zeros, as many as there are values; twice as many for float64
  uint64_t* bound;  // zero, then the largest magnitude that is added, as the bits of a float64
  int64_t size;     // numbers of values
  int log2_count;   // at most 2^log2_count numbers are added to one sum
};

// Where kernels are launched.
struct Queue {
  CUstream_st* stream;
  int processors;  // of the device
};

}  // namespace bevstack
