// bevstack::dcnv3 and bevstack::dcnv3_backward on the CPU.
#include <torch/library.h>

#include "common/cpu.h"
#include "common/levels.h"
#include "dcnv3/dcnv3.h"

#define BEVSTACK_DECLARE(level)                                                            \
  namespace level {                                                                        \
  void dcnv3_forward(const Dcnv3Geometry&, const Sampling<float>&, int64_t,       \
                     int64_t, float*);                                                     \
  void dcnv3_forward(const Dcnv3Geometry&, const Sampling<double>&, int64_t,      \
                     int64_t, double*);                                                    \
  void dcnv3_backward(const Dcnv3Geometry&, const Sampling<float>&, int64_t,      \
                      int64_t, float*);                                                    \
  void dcnv3_backward(const Dcnv3Geometry&, const Sampling<double>&, int64_t,     \
                      int64_t, double*);                                                   \
  }

namespace bevstack {

BEVSTACK_DECLARE(baseline)
BEVSTACK_DECLARE(avx2)
BEVSTACK_DECLARE(avx512)

namespace {

void check_pair(const char* name, at::IntArrayRef pair, int64_t least) {
  TORCH_CHECK_VALUE(pair.size() == 2 && pair[0] >= least && pair[1] >= least &&
                        pair[0] < (1 << 20) && pair[1] < (1 << 20),
                    name, " must be a pair (height, width) of at least ", least, "; got ", pair);
}

Dcnv3Geometry make_geometry(const at::Tensor& input, at::IntArrayRef kernel_size,
                            at::IntArrayRef stride, at::IntArrayRef padding,
                            at::IntArrayRef dilation, int64_t groups, double offset_scale,
                            bool remove_center, bool softmax) {
  check_pair("kernel_size", kernel_size, 1);
  check_pair("stride", stride, 1);
  check_pair("padding", padding, 0);
  check_pair("dilation", dilation, 1);
  TORCH_CHECK_VALUE(input.dim() == 4, "input must have shape (B, H, W, C); got ", input.sizes());
  TORCH_CHECK_VALUE(groups >= 1 && input.size(3) % groups == 0,
                    "input must have a multiple of groups=", groups, " channels; got ",
                    input.size(3));
  const auto outputs = [&](int axis) {
    return (input.size(1 + axis) + 2 * padding[axis] - dilation[axis] * (kernel_size[axis] - 1) -
            1) / stride[axis] + 1;
  };
  Dcnv3Geometry geometry{};
  geometry.batch = input.size(0);
  geometry.height = input.size(1);
  geometry.width = input.size(2);
  geometry.out_height = outputs(0);
  geometry.out_width = outputs(1);
  geometry.kernel_h = int(kernel_size[0]), geometry.kernel_w = int(kernel_size[1]);
  geometry.stride_h = int(stride[0]), geometry.stride_w = int(stride[1]);
  geometry.pad_h = int(padding[0]), geometry.pad_w = int(padding[1]);
  geometry.dilation_h = int(dilation[0]), geometry.dilation_w = int(dilation[1]);
  geometry.groups = int(groups);
  geometry.channels = int(input.size(3) / groups);
  geometry.offset_scale = offset_scale;
  geometry.remove_center = remove_center;
  geometry.softmax = softmax;
  TORCH_CHECK_VALUE(geometry.out_height >= 1 && geometry.out_width >= 1,
                    "input must be at least as large as the dilated kernel once padded; got ",
                    input.sizes());
  TORCH_CHECK_VALUE(geometry.points() >= 1, "kernel_size must leave a point; got ", kernel_size);
  // Places within an image are 32-bit numbers in units of a group's channels.
  TORCH_CHECK_VALUE(geometry.height * geometry.width * groups < (int64_t(1) << 31),
                    "input must have less than 2^31 pixels times groups in an image; got ",
                    input.sizes());
  return geometry;
}

void check_tensors(const Dcnv3Geometry& geometry, const at::Tensor& input,
                   const at::Tensor& offset, const at::Tensor& mask) {
  const int64_t points = int64_t(geometry.groups) * geometry.points();
  const int64_t height = geometry.out_height, width = geometry.out_width;
  check_floating("input", input);
  check_floating("offset", offset);
  check_floating("mask", mask);
  check_shape("input", input, input.sizes());
  check_shape("offset", offset, {geometry.batch, height, width, points * 2});
  check_shape("mask", mask, {geometry.batch, height, width, points});
}

template <typename T>
void fill_table(const Dcnv3Geometry& geometry, PointTable<T>& table) {
  for (int p = 0; p < geometry.points(); ++p) {
    table.number(kGridX, p) = T(geometry.grid_x(p));
    table.number(kGridY, p) = T(geometry.grid_y(p));
    table.number(kScaleX, p) = table.number(kScaleY, p) = T(geometry.offset_scale);
    table.number(kWidth, p) = T(geometry.width);
    table.number(kHeight, p) = T(geometry.height);
    table.set_index(kLastColumn, p, geometry.width - 1);
    table.set_index(kLastLine, p, geometry.height - 1);
    table.set_index(kFirst, p, 0);
    table.set_index(kLineStep, p, geometry.width * geometry.groups);
  }
}

template <typename T>
Sampling<T> make_call(const Dcnv3Geometry& geometry, const at::Tensor& input, const at::Tensor& offset,
                  const at::Tensor& mask) {
  Sampling<T> call{};
  call.value = input.const_data_ptr<T>();
  call.offset = offset.const_data_ptr<T>();
  call.factor = mask.const_data_ptr<T>();
  call.rows = geometry.batch * geometry.out_height * geometry.out_width;
  call.groups = geometry.groups;
  call.channels = geometry.channels;
  call.points = geometry.points();
  call.image_size = geometry.height * geometry.width * geometry.groups * geometry.channels;
  call.softmax = geometry.softmax;
  return call;
}

template <typename T>
void run_forward(const Dcnv3Geometry& geometry, const at::Tensor& input, const at::Tensor& offset,
                 const at::Tensor& mask, at::Tensor& output) {
  Sampling<T> call = make_call<T>(geometry, input, offset, mask);
  call.output = output.mutable_data_ptr<T>();
  PointTable<T> table(call.groups, call.points);
  fill_table(geometry, table);
  call.table = table.repeated(call.points);
  at::parallel_for(0, geometry.batch * geometry.out_height, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> scratch(call);
    BEVSTACK_ON_THIS_MACHINE(dcnv3_forward(geometry, call, begin, end, scratch.get()));
  });
}

template <typename T>
void run_backward(const Dcnv3Geometry& geometry, const at::Tensor& grad_output,
                  const at::Tensor& input, const at::Tensor& offset, const at::Tensor& mask,
                  const std::array<at::Tensor, 3>& grads) {
  Sampling<T> call = make_call<T>(geometry, input, offset, mask);
  call.grad_output = grad_output.const_data_ptr<T>();
  call.grad_value = grads[0].mutable_data_ptr<T>();
  call.grad_offset = grads[1].mutable_data_ptr<T>();
  call.grad_factor = grads[2].mutable_data_ptr<T>();
  PointTable<T> table(call.groups, call.points);
  fill_table(geometry, table);
  call.table = table.repeated(call.points);
  at::parallel_for(0, geometry.batch * geometry.groups, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> scratch(call);
    BEVSTACK_ON_THIS_MACHINE(dcnv3_backward(geometry, call, begin, end, scratch.get()));
  });
}

at::Tensor dcnv3(const at::Tensor& input, const at::Tensor& offset, const at::Tensor& mask,
                 at::IntArrayRef kernel_size, at::IntArrayRef stride, at::IntArrayRef padding,
                 at::IntArrayRef dilation, int64_t groups, double offset_scale, bool remove_center,
                 bool softmax) {
  const Dcnv3Geometry geometry = make_geometry(input, kernel_size, stride, padding, dilation,
                                               groups, offset_scale, remove_center, softmax);
  check_tensors(geometry, input, offset, mask);
  const at::ScalarType type = computing_type({input, offset, mask});
  const at::Tensor values = prepare(input, type), offsets = prepare(offset, type);
  const at::Tensor masks = prepare(mask, type);
  at::Tensor output = empty_result(
      {geometry.batch, geometry.out_height, geometry.out_width, input.size(3)}, values.options());
  if (output.numel() != 0) {
    if (type == at::kDouble) {
      run_forward<double>(geometry, values, offsets, masks, output);
    } else {
      run_forward<float>(geometry, values, offsets, masks, output);
    }
  }
  return output.to(input.scalar_type());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> dcnv3_backward(
    const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& offset,
    const at::Tensor& mask, at::IntArrayRef kernel_size, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups, double offset_scale,
    bool remove_center, bool softmax) {
  const Dcnv3Geometry geometry = make_geometry(input, kernel_size, stride, padding, dilation,
                                               groups, offset_scale, remove_center, softmax);
  check_tensors(geometry, input, offset, mask);
  check_floating("grad_output", grad_output);
  check_shape("grad_output", grad_output,
              {geometry.batch, geometry.out_height, geometry.out_width, input.size(3)});
  const at::ScalarType type = computing_type({input, offset, mask});
  const at::Tensor values = prepare(input, type), offsets = prepare(offset, type);
  const at::Tensor masks = prepare(mask, type), grad = prepare(grad_output, type);
  const std::array<at::Tensor, 3> grads = {
      empty_result(values.sizes(), values.options()).zero_(),
      empty_result(offsets.sizes(), offsets.options()),
      empty_result(masks.sizes(), masks.options())};
  if (grad.numel() == 0) {  // without channels, nothing depends on offsets and masks
    grads[1].zero_();
    grads[2].zero_();
  } else {
    if (type == at::kDouble) {
      run_backward<double>(geometry, grad, values, offsets, masks, grads);
    } else {
      run_backward<float>(geometry, grad, values, offsets, masks, grads);
    }
  }
  return {grads[0].to(input.scalar_type()), grads[1].to(offset.scalar_type()),
          grads[2].to(mask.scalar_type())};
}

}  // namespace
}  // namespace bevstack

TORCH_LIBRARY_IMPL(bevstack, CPU, m) {
  m.impl("dcnv3", bevstack::dcnv3);
  m.impl("dcnv3_backward", bevstack::dcnv3_backward);
}
