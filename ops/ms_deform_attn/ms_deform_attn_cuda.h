// The kernel launches of multi-scale deformable attention. Each function makes at most one launch;
// the caller reads its error with cudaGetLastError.
#pragma once

#include "common/tensors.h"
#include "ms_deform_attn/ms_deform_attn_levels.h"

namespace bevstack {

void launch_ms_deform_attn(const MsDeformAttnLevels&, const Tensors&, const Queue&);
void launch_ms_deform_attn_backward(const MsDeformAttnLevels&, const Tensors&, const Queue&);

// The backward pass in fixed point, whose sums do not depend on the order of additions: call both,
// then launch_read_fixed_point.
void launch_ms_deform_attn_bound(const MsDeformAttnLevels&, const Tensors&, const FixedPoint&, const Queue&);
void launch_ms_deform_attn_deterministic(const MsDeformAttnLevels&, const Tensors&, const FixedPoint&,
                                const Queue&);

}  // namespace bevstack
