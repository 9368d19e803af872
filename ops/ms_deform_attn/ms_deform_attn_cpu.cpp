// bevstack::ms_deform_attn and bevstack::ms_deform_attn_backward on the CPU.
#include <torch/library.h>

#include "common/cpu.h"
#include "common/levels.h"
#include "ms_deform_attn/ms_deform_attn.h"

#define BEVSTACK_DECLARE(level)                                                              \
  namespace level {                                                                          \
  void ms_deform_attn_forward(const MsDeformAttnGeometry&, const Sampling<float>&,  \
                              int64_t, int64_t, float*);                                     \
  void ms_deform_attn_forward(const MsDeformAttnGeometry&, const Sampling<double>&, \
                              int64_t, int64_t, double*);                                    \
  void ms_deform_attn_backward(const MsDeformAttnGeometry&, const Sampling<float>&, \
                               int64_t, int64_t, float*);                                    \
  void ms_deform_attn_backward(const MsDeformAttnGeometry&,                                  \
                               const Sampling<double>&, int64_t, int64_t, double*); \
  }

namespace bevstack {

BEVSTACK_DECLARE(baseline)
BEVSTACK_DECLARE(avx2)
BEVSTACK_DECLARE(avx512)

namespace {

// One call: its tensors, contiguous and of the computing type, and what they mean.
struct Arguments {
  at::Tensor value, locations, weights, index;
  MsDeformAttnGeometry geometry;
  std::vector<int64_t> shapes;  // height and width of each level
  int64_t levels, points;       // points of a level
  at::ScalarType type;
};

void check_index(const at::Tensor& index, int64_t rows, int64_t batch) {
  TORCH_CHECK_TYPE(index.scalar_type() == at::kLong, "value_index must be int64; got ",
                   index.scalar_type());
  check_shape("value_index", index, {rows});
  const int64_t* images = index.const_data_ptr<int64_t>();
  if (rows == 0) return;
  int64_t least = images[0], most = images[0];
  for (int64_t m = 1; m < rows; ++m) {
    least = std::min(least, images[m]);
    most = std::max(most, images[m]);
  }
  TORCH_CHECK_VALUE(least >= 0 && most < batch, "value_index must lie in 0..", batch - 1,
                    ", the images of value; got ", least, "..", most);
}

Arguments check(const at::Tensor& value, const at::Tensor& locations, const at::Tensor& weights,
                const std::optional<at::Tensor>& value_index, at::IntArrayRef spatial_shapes) {
  check_floating("value", value);
  check_floating("sampling_locations", locations);
  check_floating("attention_weights", weights);
  const int64_t leading = value_index.has_value() ? 1 : 2;
  TORCH_CHECK_VALUE(value.dim() == 4, "value must have shape (B, S, H, D); got ", value.sizes());
  TORCH_CHECK_VALUE(weights.dim() == leading + 3, "attention_weights must have ", leading + 3,
                    " axes; got ", weights.sizes());
  TORCH_CHECK_VALUE(!spatial_shapes.empty() && spatial_shapes.size() % 2 == 0,
                    "spatial_shapes must hold a height and a width for each level; got ",
                    spatial_shapes);
  int64_t pixels = 0;
  for (size_t level = 0; level < spatial_shapes.size(); level += 2) {
    TORCH_CHECK_VALUE(spatial_shapes[level] > 0 && spatial_shapes[level + 1] > 0,
                      "spatial_shapes must be positive; got ", spatial_shapes);
    pixels += spatial_shapes[level] * spatial_shapes[level + 1];
  }
  const int64_t levels = int64_t(spatial_shapes.size()) / 2, heads = value.size(2);
  const int64_t points = weights.size(-1);
  check_shape("value", value, {value.size(0), pixels, heads, value.size(3)});
  std::vector<int64_t> shape = {weights.size(0)};
  if (leading == 2) {
    TORCH_CHECK_VALUE(weights.size(0) == value.size(0), "attention_weights must have the batch ",
                      value.size(0), " of value; got ", weights.sizes());
    shape.push_back(weights.size(1));
  }
  shape.insert(shape.end(), {heads, levels, points});
  check_shape("attention_weights", weights, shape);
  shape.push_back(2);
  check_shape("sampling_locations", locations, shape);
  TORCH_CHECK_VALUE(pixels * heads < (int64_t(1) << 31) && levels * points < (int64_t(1) << 20),
                    "value must have less than 2^31 pixels times heads in an image; got ",
                    value.sizes());
  const int64_t rows = leading == 1 ? weights.size(0) : weights.size(0) * weights.size(1);
  Arguments made;
  made.type = computing_type({value, locations, weights});
  made.value = prepare(value, made.type);
  made.locations = prepare(locations, made.type);
  made.weights = prepare(weights, made.type);
  if (value_index.has_value()) {
    made.index = value_index->contiguous();
    check_index(made.index, rows, value.size(0));
  }
  made.shapes = spatial_shapes.vec();
  made.levels = levels;
  made.points = points;
  made.geometry = {value.size(0), rows, leading == 1 ? 1 : weights.size(1),
                   made.index.defined() ? made.index.const_data_ptr<int64_t>() : nullptr,
                   int(heads)};
  return made;
}

template <typename T>
void fill_table(const Arguments& made, PointTable<T>& table) {
  int64_t k = 0, first = 0;
  for (int64_t level = 0; level < made.levels; ++level) {
    const int64_t height = made.shapes[2 * level], width = made.shapes[2 * level + 1];
    for (int64_t p = 0; p < made.points; ++p, ++k) {
      table.number(kGridX, k) = table.number(kGridY, k) = T(-0.5);
      table.number(kScaleX, k) = table.number(kWidth, k) = T(width);
      table.number(kScaleY, k) = table.number(kHeight, k) = T(height);
      table.set_index(kLastColumn, k, width - 1);
      table.set_index(kLastLine, k, height - 1);
      table.set_index(kFirst, k, first * made.geometry.heads);
      table.set_index(kLineStep, k, width * made.geometry.heads);
    }
    first += height * width;
  }
}

template <typename T>
Sampling<T> make_call(const Arguments& made) {
  Sampling<T> call{};
  call.value = made.value.const_data_ptr<T>();
  call.offset = made.locations.const_data_ptr<T>();
  call.factor = made.weights.const_data_ptr<T>();
  call.rows = made.geometry.rows;
  call.groups = made.geometry.heads;
  call.channels = int(made.value.size(3));
  call.points = int(made.levels * made.points);
  call.image_size = made.value.size(1) * made.value.size(2) * made.value.size(3);
  call.softmax = false;
  return call;
}

template <typename T>
void run_forward(const Arguments& made, at::Tensor& output) {
  Sampling<T> call = make_call<T>(made);
  call.output = output.mutable_data_ptr<T>();
  PointTable<T> table(call.groups, call.points);
  fill_table(made, table);
  call.table = table.repeated(call.points);
  at::parallel_for(0, call.rows, 16, [&](int64_t begin, int64_t end) {
    Scratch<T> scratch(call);
    BEVSTACK_ON_THIS_MACHINE(
        ms_deform_attn_forward(made.geometry, call, begin, end, scratch.get()));
  });
}

template <typename T>
void run_backward(const Arguments& made, const at::Tensor& grad_output,
                  const std::array<at::Tensor, 3>& grads) {
  Sampling<T> call = make_call<T>(made);
  call.grad_output = grad_output.const_data_ptr<T>();
  call.grad_value = grads[0].mutable_data_ptr<T>();
  call.grad_offset = grads[1].mutable_data_ptr<T>();
  call.grad_factor = grads[2].mutable_data_ptr<T>();
  PointTable<T> table(call.groups, call.points);
  fill_table(made, table);
  call.table = table.repeated(call.points);
  const int64_t units = made.geometry.batch * made.geometry.heads;
  at::parallel_for(0, units, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> scratch(call);
    BEVSTACK_ON_THIS_MACHINE(
        ms_deform_attn_backward(made.geometry, call, begin, end, scratch.get()));
  });
}

std::vector<int64_t> output_shape(const Arguments& made, const at::Tensor& value) {
  std::vector<int64_t> shape = made.weights.sizes().vec();
  shape.resize(shape.size() - 3);
  shape.push_back(value.size(2) * value.size(3));
  return shape;
}

at::Tensor ms_deform_attn(const at::Tensor& value, const at::Tensor& sampling_locations,
                          const at::Tensor& attention_weights,
                          const std::optional<at::Tensor>& value_index,
                          at::IntArrayRef spatial_shapes) {
  const Arguments made =
      check(value, sampling_locations, attention_weights, value_index, spatial_shapes);
  at::Tensor output = empty_result(output_shape(made, value), made.value.options());
  if (made.weights.numel() == 0) {
    output.zero_();
  } else if (output.numel() != 0) {
    if (made.type == at::kDouble) {
      run_forward<double>(made, output);
    } else {
      run_forward<float>(made, output);
    }
  }
  return output.to(value.scalar_type());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> ms_deform_attn_backward(
    const at::Tensor& grad_output, const at::Tensor& value, const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights, const std::optional<at::Tensor>& value_index,
    at::IntArrayRef spatial_shapes) {
  const Arguments made =
      check(value, sampling_locations, attention_weights, value_index, spatial_shapes);
  check_floating("grad_output", grad_output);
  check_shape("grad_output", grad_output, output_shape(made, value));
  const at::Tensor grad = prepare(grad_output, made.type);
  const std::array<at::Tensor, 3> grads = {
      empty_result(made.value.sizes(), made.value.options()).zero_(),
      empty_result(made.locations.sizes(), made.locations.options()),
      empty_result(made.weights.sizes(), made.weights.options())};
  if (grad.numel() == 0) {  // without channels, nothing depends on locations and weights
    grads[1].zero_();
    grads[2].zero_();
  } else if (made.weights.numel() != 0) {
    if (made.type == at::kDouble) {
      run_backward<double>(made, grad, grads);
    } else {
      run_backward<float>(made, grad, grads);
    }
  }
  return {grads[0].to(value.scalar_type()), grads[1].to(sampling_locations.scalar_type()),
          grads[2].to(attention_weights.scalar_type())};
}

}  // namespace
}  // namespace bevstack

TORCH_LIBRARY_IMPL(bevstack, CPU, m) {
  m.impl("ms_deform_attn", bevstack::ms_deform_attn);
  m.impl("ms_deform_attn_backward", bevstack::ms_deform_attn_backward);
}
