// From the type a tensor is stored in, told at run time, to the type of the language.
#pragma once

#include "common/numbers.cuh"

namespace bevstack {
namespace gpu {

// Calls work with a null pointer of the values' type.
template <typename Work>
void with_value_type(NumberType type, Work work) {
  switch (type) {
    case NumberType::float64:
      return work(static_cast<double*>(nullptr));
    case NumberType::float32:
      return work(static_cast<float*>(nullptr));
    case NumberType::float16:
      return work(static_cast<Half*>(nullptr));
    case NumberType::bfloat16:
      return work(static_cast<BFloat16*>(nullptr));
  }
}

}  // namespace gpu
}  // namespace bevstack
