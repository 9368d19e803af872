// The launches of multi-scale deformable attention on a GPU. Each is one launch at most; its errors are
// read with cudaGetLastError.
#pragma once

#include "common/tensors.h"
#include "ms_deform_attn/ms_deform_attn_levels.h"

namespace bevstack {

void launch_ms_deform_attn(const MsDeformAttnLevels&, const Tensors&, const Queue&);
void launch_ms_deform_attn_backward(const MsDeformAttnLevels&, const Tensors&, const Queue&);

// The same without dependence on the order of additions, in two launches; then read_fixed_point.
void launch_ms_deform_attn_bound(const MsDeformAttnLevels&, const Tensors&, const FixedPoint&, const Queue&);
void launch_ms_deform_attn_deterministic(const MsDeformAttnLevels&, const Tensors&, const FixedPoint&,
                                const Queue&);

}  // namespace bevstack
