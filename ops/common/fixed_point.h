// The end of sums that do not depend on the order of additions.
#pragma once

#include "common/tensors.h"

namespace bevstack {

// Writes the sums to tensors.grad_value, which is of value_type here. One launch.
void launch_read_fixed_point(const Tensors&, const FixedPoint&, const Queue&);

}  // namespace bevstack
