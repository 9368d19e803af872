// Dispatch from a tensor's storage type, known at run time, to a C++ type.
#pragma once

#include <assert.h>

#include "common/numbers.cuh"

namespace bevstack {
namespace gpu {

// Calls work with a null pointer of float or double.
template <typename Work>
void with_wide_type(NumberType type, Work work) {
  assert(type == NumberType::float32 || type == NumberType::float64);
  if (type == NumberType::float64) return work(static_cast<double*>(nullptr));
  work(static_cast<float*>(nullptr));
}

}  // namespace gpu
}  // namespace bevstack
