// bevstack::dcnv3 and bevstack::dcnv3_backward on the CPU.
#include <torch/library.h>

#include "common/cpu.h"
#include "common/levels.h"
#include "dcnv3/dcnv3_call.h"
#include "dcnv3/dcnv3_checks.h"

namespace bevstack {

namespace {

template <typename T, typename S>
Sampling<T, S> make_call(const Dcnv3Geometry& geometry, const Inputs& inputs) {
  Sampling<T, S> call = inputs.call<T, S>();
  set_sizes(geometry, call);
  return call;
}

template <typename T, typename S>
void run_forward(const Dcnv3Geometry& geometry, const Inputs& inputs, at::Tensor& output) {
  Sampling<T, S> call = make_call<T, S>(geometry, inputs);
  call.output = static_cast<S*>(output.mutable_data_ptr());
  PointTable<T> table(call.groups, call.points);
  fill_table(geometry, table);
  call.table = table.repeated(call.points);
  at::parallel_for(0, geometry.batch * geometry.out_height, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> scratch(call.groups, call.points);
    BEVSTACK_ON_THIS_MACHINE(dcnv3_forward(geometry, call, begin, end, scratch.get()));
  });
}

template <typename T, typename S>
void run_backward(const Dcnv3Geometry& geometry, const Inputs& inputs,
                  const at::Tensor& grad_output, const Gradients& grads) {
  Sampling<T, S> call = make_call<T, S>(geometry, inputs);
  grads.put_into(call, grad_output);
  PointTable<T> table(call.groups, call.points);
  fill_table(geometry, table);
  call.table = table.repeated(call.points);
  at::parallel_for(0, geometry.batch * geometry.groups, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> scratch(call.groups, call.points);
    BEVSTACK_ON_THIS_MACHINE(dcnv3_backward(geometry, call, begin, end, scratch.get()));
  });
}

at::Tensor dcnv3(const at::Tensor& input, const at::Tensor& offset, const at::Tensor& mask,
                 at::IntArrayRef kernel_size, at::IntArrayRef stride, at::IntArrayRef padding,
                 at::IntArrayRef dilation, int64_t groups, double offset_scale, bool remove_center,
                 bool softmax) {
  const Dcnv3Geometry geometry = make_geometry(
      input, {kernel_size, stride, padding, dilation, groups, offset_scale, remove_center, softmax});
  check_tensors(geometry, input, offset, mask);
  const Inputs inputs(input, offset, mask);
  at::Tensor output =
      empty_result({geometry.batch, geometry.out_height, geometry.out_width, input.size(3)},
                   inputs.value.options());
  if (output.numel() != 0) {
    with_types(inputs.value, inputs.computing, [&](auto* number, auto* stored) {
      run_forward<std::remove_pointer_t<decltype(number)>, std::remove_pointer_t<decltype(stored)>>(
          geometry, inputs, output);
    });
  }
  return output.to(input.scalar_type());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> dcnv3_backward(
    const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& offset,
    const at::Tensor& mask, at::IntArrayRef kernel_size, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups, double offset_scale,
    bool remove_center, bool softmax) {
  const Dcnv3Geometry geometry = make_geometry(
      input, {kernel_size, stride, padding, dilation, groups, offset_scale, remove_center, softmax});
  check_tensors(geometry, input, offset, mask);
  check_grad_output(geometry, input, grad_output);
  const Inputs inputs(input, offset, mask);
  const at::Tensor grad = prepare(grad_output, inputs.value.scalar_type());
  const Gradients grads(inputs);
  if (grad.numel() == 0) {  // without channels, nothing depends on offsets and masks
    grads.offset.zero_();
    grads.factor.zero_();
  } else {
    with_types(inputs.value, inputs.computing, [&](auto* number, auto* stored) {
      run_backward<std::remove_pointer_t<decltype(number)>,
                   std::remove_pointer_t<decltype(stored)>>(geometry, inputs, grad, grads);
    });
  }
  return grads.as(input, offset, mask);
}

}  // namespace
}  // namespace bevstack

TORCH_LIBRARY_IMPL(bevstack, CPU, m) {
  m.impl("dcnv3", bevstack::dcnv3);
  m.impl("dcnv3_backward", bevstack::dcnv3_backward);
}
