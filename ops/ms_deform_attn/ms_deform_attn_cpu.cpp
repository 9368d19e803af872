// bevstack::ms_deform_attn and bevstack::ms_deform_attn_backward on the CPU.
#include <algorithm>

#include <torch/library.h>

#include "common/cpu.h"
#include "common/levels.h"
#include "ms_deform_attn/ms_deform_attn_call.h"
#include "ms_deform_attn/ms_deform_attn_checks.h"

namespace bevstack {

namespace {

// The arguments of one call: tensors in the types that are read, sizes and geometry.
struct Arguments {
  Inputs inputs;
  at::Tensor index;
  at::Tensor anchor;  // (rows, anchors, 2); only where offsets and logits are given
  int64_t anchors, parts;
  MsDeformAttnSizes sizes;
  MsDeformAttnGeometry geometry;
  at::IntArrayRef shapes;  // height and width of each level
};

void check_index_range(const at::Tensor& index, int64_t images) {
  const int64_t* const first = index.const_data_ptr<int64_t>();
  const auto range = std::minmax_element(first, first + index.numel());
  if (index.numel() == 0) return;
  TORCH_CHECK_VALUE(*range.first >= 0 && *range.second < images, "value_index must lie in 0..",
                    images - 1, ", the images of value; got ", *range.first, "..", *range.second);
}

Arguments check(const at::Tensor& value, const at::Tensor& locations, const at::Tensor& weights,
                const std::optional<at::Tensor>& value_index, at::IntArrayRef spatial_shapes) {
  const MsDeformAttnSizes sizes =
      check_arguments(value, locations, weights, value_index, spatial_shapes);
  Arguments made{Inputs(value, locations, weights), {}, {}, 0, 1, sizes, {}, spatial_shapes};
  if (value_index.has_value()) {
    made.index = value_index->contiguous();
    check_index_range(made.index, sizes.images);
  }
  const bool packed = value_index.has_value();
  made.geometry = {sizes.images, packed ? sizes.rows : sizes.rows * sizes.images,
                   packed ? 1 : sizes.rows, packed ? made.index.const_data_ptr<int64_t>() : nullptr,
                   sizes.pixels, int(sizes.heads)};
  return made;
}

// The arguments of deformable_attention: offsets in pixels of each map, logits, anchors.
Arguments check_anchored(const at::Tensor& value, const at::Tensor& offset,
                         const at::Tensor& logits, const at::Tensor& anchor,
                         const std::optional<at::Tensor>& value_index,
                         at::IntArrayRef spatial_shapes, int64_t parts) {
  Arguments made = check(value, offset, logits, value_index, spatial_shapes);
  made.anchors = anchor.dim() < 2 ? 0 : anchor.size(-2);
  std::vector<int64_t> shape = logits.sizes().vec();
  shape.resize(shape.size() - 3);
  shape.insert(shape.end(), {made.anchors, 2});
  check_tensor("reference_points", anchor, value, shape);
  TORCH_CHECK_VALUE(made.anchors > 0, "reference_points must hold a point of each query; got ",
                    anchor.sizes());
  const int64_t points = made.sizes.levels * made.sizes.points;
  TORCH_CHECK_VALUE(parts > 0 && points % parts == 0, "parts must divide the ", points,
                    " points of a head; got ", parts);
  made.anchor = prepare(anchor, made.inputs.computing);
  made.parts = parts;
  return made;
}

template <typename T, typename S>
Sampling<T, S> make_call(const Arguments& made) {
  Sampling<T, S> call = made.inputs.call<T, S>();
  set_sizes(made.sizes, made.geometry, call);
  if (made.anchor.defined()) {
    set_anchors(made.sizes, made.anchor.const_data_ptr<T>(), made.anchors, made.parts, call);
  }
  return call;
}

// The tables of points, and the memory of each thread.
template <typename T, typename S>
class Workspace {
 public:
  Workspace(const Arguments& made, Sampling<T, S>& call)
      : table_(call.groups, call.points), copy_table_(call.groups, call.points), call_(call) {
    const bool anchored = call.anchor != nullptr;
    fill_table(made.sizes, made.shapes.data(), call.pixel_size, anchored, table_);
    call.table = table_.repeated(call.points);
    const bool with_gradients = call.grad_value != nullptr;
    if (!made.geometry.copy_pays(call.rows, call.points, with_gradients)) return;
    const int64_t width = heads_together(call.groups, call.points) * made.sizes.channels;
    fill_table(made.sizes, made.shapes.data(), width, anchored, copy_table_);
    repeated_ = copy_table_.repeated(call.points);
    const int64_t gradients = with_gradients ? sizeof(T) : 0;
    bytes_ = made.sizes.pixels * width * (sizeof(S) + gradients) + sizeof(T);
  }

  template <typename Work>
  void with_memory(Work work) const {
    Scratch<T> scratch(call_.groups, call_.points);
    at::Tensor copy;
    if (bytes_ != 0) copy = empty_result({bytes_}, at::TensorOptions().dtype(at::kByte));
    work(MsDeformAttnMemory<T>{scratch.get(), bytes_ ? copy.mutable_data_ptr() : nullptr,
                               repeated_});
  }

 private:
  PointTable<T> table_, copy_table_;
  const Sampling<T, S>& call_;
  const T* repeated_ = nullptr;
  int64_t bytes_ = 0;
};

template <typename T, typename S>
void run_forward(const Arguments& made, at::Tensor& output) {
  Sampling<T, S> call = make_call<T, S>(made);
  call.output = static_cast<S*>(output.mutable_data_ptr());
  const Workspace<T, S> workspace(made, call);
  at::parallel_for(0, call.rows, 16, [&](int64_t begin, int64_t end) {
    workspace.with_memory([&](const MsDeformAttnMemory<T>& memory) {
      BEVSTACK_ON_THIS_MACHINE(ms_deform_attn_forward(made.geometry, call, begin, end, memory));
    });
  });
}

template <typename T, typename S>
void run_backward(const Arguments& made, const at::Tensor& grad_output, const Gradients& grads) {
  Sampling<T, S> call = make_call<T, S>(made);
  grads.put_into(call, grad_output);
  const Workspace<T, S> workspace(made, call);
  const int64_t units = made.geometry.batch * made.geometry.heads;
  at::parallel_for(0, units, 1, [&](int64_t begin, int64_t end) {
    workspace.with_memory([&](const MsDeformAttnMemory<T>& memory) {
      BEVSTACK_ON_THIS_MACHINE(ms_deform_attn_backward(made.geometry, call, begin, end, memory));
    });
  });
}

at::Tensor forward(const Arguments& made, const at::Tensor& value, const at::Tensor& weights) {
  at::Tensor output = empty_result(output_shape(value, weights), made.inputs.value.options());
  if (weights.numel() == 0) {
    output.zero_();
  } else if (output.numel() != 0) {
    with_types(made.inputs.value, made.inputs.computing, [&](auto* number, auto* stored) {
      run_forward<std::remove_pointer_t<decltype(number)>, std::remove_pointer_t<decltype(stored)>>(
          made, output);
    });
  }
  return output.to(value.scalar_type());
}

using ThreeTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

ThreeTensors backward(const Arguments& made, const at::Tensor& grad_output,
                      const at::Tensor& value, const at::Tensor& locations,
                      const at::Tensor& weights) {
  check_tensor("grad_output", grad_output, value, output_shape(value, weights));
  const at::Tensor grad = prepare(grad_output, made.inputs.value.scalar_type());
  const Gradients grads(made.inputs);
  if (grad.numel() == 0) {  // without channels, nothing depends on locations and weights
    grads.offset.zero_();
    grads.factor.zero_();
  } else if (weights.numel() != 0) {
    with_types(made.inputs.value, made.inputs.computing, [&](auto* number, auto* stored) {
      run_backward<std::remove_pointer_t<decltype(number)>,
                   std::remove_pointer_t<decltype(stored)>>(made, grad, grads);
    });
  }
  return grads.as(value, locations, weights);
}

at::Tensor ms_deform_attn(const at::Tensor& value, const at::Tensor& sampling_locations,
                          const at::Tensor& attention_weights,
                          const std::optional<at::Tensor>& value_index,
                          at::IntArrayRef spatial_shapes) {
  const Arguments made =
      check(value, sampling_locations, attention_weights, value_index, spatial_shapes);
  return forward(made, value, attention_weights);
}

ThreeTensors ms_deform_attn_backward(
    const at::Tensor& grad_output, const at::Tensor& value, const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights, const std::optional<at::Tensor>& value_index,
    at::IntArrayRef spatial_shapes) {
  const Arguments made =
      check(value, sampling_locations, attention_weights, value_index, spatial_shapes);
  return backward(made, grad_output, value, sampling_locations, attention_weights);
}

at::Tensor deformable_attention(const at::Tensor& value, const at::Tensor& offsets,
                                const at::Tensor& logits, const at::Tensor& reference_points,
                                const std::optional<at::Tensor>& value_index,
                                at::IntArrayRef spatial_shapes, int64_t parts) {
  const Arguments made = check_anchored(value, offsets, logits, reference_points, value_index,
                                        spatial_shapes, parts);
  return forward(made, value, logits);
}

ThreeTensors deformable_attention_backward(
    const at::Tensor& grad_output, const at::Tensor& value, const at::Tensor& offsets,
    const at::Tensor& logits, const at::Tensor& reference_points,
    const std::optional<at::Tensor>& value_index, at::IntArrayRef spatial_shapes, int64_t parts) {
  const Arguments made = check_anchored(value, offsets, logits, reference_points, value_index,
                                        spatial_shapes, parts);
  return backward(made, grad_output, value, offsets, logits);
}

}  // namespace
}  // namespace bevstack

TORCH_LIBRARY_IMPL(bevstack, CPU, m) {
  m.impl("ms_deform_attn", bevstack::ms_deform_attn);
  m.impl("ms_deform_attn_backward", bevstack::ms_deform_attn_backward);
  m.impl("deformable_attention", bevstack::deformable_attention);
  m.impl("deformable_attention_backward", bevstack::deformable_attention_backward);
}
