// bevstack::Dcnv3 of OpenVINO models.
#include "dcnv3/dcnv3_call.h"

#include "common/levels.h"
#include "openvino/operators.h"

namespace bevstack {

namespace {

int64_t outputs(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  const int64_t room = size + 2 * padding - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

Dcnv3Geometry make_geometry(const ov::Shape& input, const Dcnv3Attributes& made) {
  Dcnv3Geometry geometry{};
  geometry.batch = int64_t(input[0]);
  geometry.height = int64_t(input[1]);
  geometry.width = int64_t(input[2]);
  geometry.kernel_h = int(made.kernel_size[0]), geometry.kernel_w = int(made.kernel_size[1]);
  geometry.stride_h = int(made.stride[0]), geometry.stride_w = int(made.stride[1]);
  geometry.pad_h = int(made.padding[0]), geometry.pad_w = int(made.padding[1]);
  geometry.dilation_h = int(made.dilation[0]), geometry.dilation_w = int(made.dilation[1]);
  geometry.groups = int(made.groups);
  geometry.channels = int(int64_t(input[3]) / made.groups);
  geometry.offset_scale = made.offset_scale;
  geometry.remove_center = made.remove_center != 0;
  geometry.softmax = made.softmax != 0;
  geometry.out_height = outputs(geometry.height, geometry.kernel_h, geometry.stride_h,
                                geometry.pad_h, geometry.dilation_h);
  geometry.out_width = outputs(geometry.width, geometry.kernel_w, geometry.stride_w,
                               geometry.pad_w, geometry.dilation_w);
  return geometry;
}

void check_attributes(const Dcnv3Attributes& made) {
  for (const auto* pair : {&made.kernel_size, &made.stride, &made.padding, &made.dilation}) {
    OPENVINO_ASSERT(pair->size() == 2, "attributes of Dcnv3 must be pairs (height, width)");
  }
  for (int axis = 0; axis < 2; ++axis) {
    OPENVINO_ASSERT(made.kernel_size[axis] >= 1 && made.stride[axis] >= 1 &&
                        made.padding[axis] >= 0 && made.dilation[axis] >= 1,
                    "kernel_size, stride and dilation of Dcnv3 must be positive");
  }
  OPENVINO_ASSERT(made.groups >= 1, "groups of Dcnv3 must be positive; got ", made.groups);
}

}  // namespace

void Dcnv3::validate_and_infer_types() {
  NODE_VALIDATION_CHECK(this, get_input_size() == 3, "Dcnv3 must have 3 inputs");
  check_attributes(attributes_);
  for (size_t port = 0; port < 3; ++port) check_float32(*this, port);
  const ov::PartialShape& input = get_input_partial_shape(0);
  const ov::PartialShape& offset = get_input_partial_shape(1);
  ov::PartialShape shape = ov::PartialShape::dynamic(4);
  for (size_t axis = 0; axis < 3 && offset.rank().is_static(); ++axis) shape[axis] = offset[axis];
  if (input.rank().is_static()) shape[3] = input[3];
  set_output_type(0, ov::element::f32, shape);
}

bool Dcnv3::visit_attributes(ov::AttributeVisitor& visitor) {
  visitor.on_attribute("kernel_size", attributes_.kernel_size);
  visitor.on_attribute("stride", attributes_.stride);
  visitor.on_attribute("padding", attributes_.padding);
  visitor.on_attribute("dilation", attributes_.dilation);
  visitor.on_attribute("groups", attributes_.groups);
  visitor.on_attribute("offset_scale", attributes_.offset_scale);
  visitor.on_attribute("remove_center", attributes_.remove_center);
  visitor.on_attribute("softmax", attributes_.softmax);
  return true;
}

bool Dcnv3::evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const {
  const ov::Shape& shape = inputs[0].get_shape();
  OPENVINO_ASSERT(shape.size() == 4 && shape[3] % size_t(attributes_.groups) == 0,
                  "input of Dcnv3 must have shape (B, H, W, C), C a multiple of ",
                  attributes_.groups, "; got ", shape);
  const Dcnv3Geometry geometry = make_geometry(shape, attributes_);
  const size_t lines = size_t(geometry.out_height), columns = size_t(geometry.out_width);
  const size_t points = size_t(geometry.groups) * size_t(geometry.points());
  const ov::Shape mask = {shape[0], lines, columns, points};
  const ov::Shape offset = {shape[0], lines, columns, 2 * points};
  OPENVINO_ASSERT(points >= 1 && inputs[1].get_shape() == offset && inputs[2].get_shape() == mask,
                  "offset and mask of Dcnv3 must fit an input of ", shape, "; got ",
                  inputs[1].get_shape(), " and ", inputs[2].get_shape());
  OPENVINO_ASSERT(shape[1] * shape[2] * shape[3] < (uint64_t(1) << 32),
                  "images of Dcnv3 must hold less than 2^32 numbers; got ", shape);
  outputs[0].set_shape({shape[0], lines, columns, shape[3]});
  if (outputs[0].get_size() == 0) return true;
  Sampling<float> call{};
  call.value = static_cast<const float*>(inputs[0].data());
  call.offset = inputs[1].data();
  call.factor = inputs[2].data();
  call.output = static_cast<float*>(outputs[0].data());
  call.offset_storage = call.factor_storage = Storage::computing;
  set_sizes(geometry, call);
  PointTable<float> table(call.groups, call.points);
  fill_table(geometry, table);
  call.table = table.repeated(call.points);
  divide(geometry.batch * geometry.out_height, [&](int64_t begin, int64_t end) {
    Scratch<float> scratch(call.groups, call.points);
    BEVSTACK_ON_THIS_MACHINE(dcnv3_forward(geometry, call, begin, end, scratch.get()));
  });
  return true;
}

}  // namespace bevstack
