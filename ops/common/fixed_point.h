// Conversion of fixed-point sums, which do not depend on the order of additions, to numbers.
#pragma once

#include "common/tensors.h"

namespace bevstack {

// Writes the sums to tensors.grad_value, which has the type value_type here. Makes one launch.
void launch_read_fixed_point(const Tensors&, const FixedPoint&, const Queue&);

}  // namespace bevstack
