// bevstack::MsDeformAttn and bevstack::DeformableAttention of OpenVINO models.
#include "ms_deform_attn/ms_deform_attn_call.h"

#include <algorithm>

#include "common/levels.h"
#include "openvino/operators.h"

namespace bevstack {

namespace {

// Returns the numbers of a tensor of int64, or of int32, to which OpenVINO converts it on a CPU.
std::vector<int64_t> whole_numbers(const ov::Tensor& tensor) {
  std::vector<int64_t> numbers(tensor.get_size());
  if (tensor.get_element_type() == ov::element::i64) {
    std::copy_n(tensor.data<int64_t>(), numbers.size(), numbers.begin());
  } else {
    std::copy_n(tensor.data<int32_t>(), numbers.size(), numbers.begin());
  }
  return numbers;
}

// Infers the output of an attention with `count` inputs before value_index.
ov::PartialShape infer(const ov::Node& node, size_t count, const AttentionAttributes& attributes) {
  const size_t given = node.get_input_size();
  NODE_VALIDATION_CHECK(&node, given == count || given == count + 1, "inputs must be ", count,
                        ", or ", count + 1, " with value_index; got ", given);
  const std::vector<int64_t>& shapes = attributes.spatial_shapes;
  NODE_VALIDATION_CHECK(&node, !shapes.empty() && shapes.size() % 2 == 0 && attributes.parts >= 1,
                        "spatial_shapes must hold a height and a width for each level");
  for (size_t port = 0; port < count; ++port) check_float32(node, port);
  const bool packed = given > count;
  if (packed) {
    const ov::element::Type type = node.get_input_element_type(count);
    NODE_VALIDATION_CHECK(
        &node, type == ov::element::i64 || type == ov::element::i32 || type.is_dynamic(),
        "value_index must be int64 or int32; got ", type);
  }
  const ov::PartialShape& value = node.get_input_partial_shape(0);
  const ov::PartialShape& weights = node.get_input_partial_shape(2);
  const size_t axes = packed ? 1 : 2;
  ov::PartialShape shape = ov::PartialShape::dynamic(int64_t(axes) + 1);
  for (size_t axis = 0; axis < axes && weights.rank().is_static(); ++axis) {
    shape[axis] = weights[axis];
  }
  if (value.rank().is_static() && value[2].is_static() && value[3].is_static()) {
    shape[axes] = value[2] * value[3];
  }
  return shape;
}

// Returns the sizes of a call; throws if the tensors do not fit one another.
MsDeformAttnSizes find_sizes(const ov::TensorVector& inputs, bool packed,
                             const std::vector<int64_t>& shapes) {
  const ov::Shape& value = inputs[0].get_shape();
  const ov::Shape& weights = inputs[2].get_shape();
  const size_t axes = packed ? 1 : 2;
  OPENVINO_ASSERT(value.size() == 4 && weights.size() == axes + 3,
                  "value and attention_weights must have 4 and ", axes + 3, " axes; got ", value,
                  " and ", weights);
  MsDeformAttnSizes sizes{};
  sizes.images = int64_t(value[0]);
  sizes.rows = int64_t(weights[axes - 1]);
  sizes.heads = int64_t(value[2]);
  sizes.channels = int64_t(value[3]);
  sizes.levels = int64_t(shapes.size() / 2);
  sizes.points = int64_t(weights.back());
  for (size_t level = 0; level < shapes.size(); level += 2) {
    sizes.pixels += shapes[level] * shapes[level + 1];
  }
  ov::Shape wanted = {size_t(sizes.rows), value[2], size_t(sizes.levels), size_t(sizes.points)};
  if (!packed) wanted.insert(wanted.begin(), value[0]);
  ov::Shape located = wanted;
  located.push_back(2);
  OPENVINO_ASSERT(int64_t(value[1]) == sizes.pixels && weights == wanted &&
                      inputs[1].get_shape() == located,
                  "value, locations and weights must fit spatial_shapes and one another; got ",
                  value, ", ", inputs[1].get_shape(), " and ", weights);
  OPENVINO_ASSERT(value[1] * value[2] * value[3] < (uint64_t(1) << 32),
                  "images must hold less than 2^32 numbers; got ", value);
  return sizes;
}

// Returns the number of reference points of a query; throws if they do not fit the weights.
int64_t count_anchors(const ov::Tensor& anchor, const ov::Shape& weights, int64_t samples,
                      int64_t parts) {
  const ov::Shape& shape = anchor.get_shape();
  ov::Shape wanted(weights.begin(), weights.end() - 3);
  wanted.push_back(shape.size() < 2 ? 0 : shape[shape.size() - 2]);
  wanted.push_back(2);
  OPENVINO_ASSERT(shape == wanted && wanted[wanted.size() - 2] > 0,
                  "reference_points must hold points (x, y) of each query; got ", shape);
  OPENVINO_ASSERT(samples % parts == 0, "parts must divide the ", samples,
                  " points of a head; got ", parts);
  return int64_t(wanted[wanted.size() - 2]);
}

// Throws if a row reads an image that is not there.
void check_index(const std::vector<int64_t>& index, const MsDeformAttnSizes& sizes) {
  OPENVINO_ASSERT(index.size() == size_t(sizes.rows), "value_index must have ", sizes.rows,
                  " entries; got ", index.size());
  const auto range = std::minmax_element(index.begin(), index.end());
  OPENVINO_ASSERT(*range.first >= 0 && *range.second < sizes.images, "value_index must lie in 0..",
                  sizes.images - 1, "; got ", *range.first, "..", *range.second);
}

// Computes an attention of `count` inputs before value_index; a fourth holds reference points.
void attend(ov::Tensor& output, const ov::TensorVector& inputs, size_t count,
            const AttentionAttributes& attributes) {
  const bool packed = inputs.size() > count;
  const std::vector<int64_t>& shapes = attributes.spatial_shapes;
  const MsDeformAttnSizes sizes = find_sizes(inputs, packed, shapes);
  const ov::Shape& weights = inputs[2].get_shape();
  ov::Shape shape(weights.begin(), weights.end() - 3);
  shape.push_back(size_t(sizes.heads * sizes.channels));
  output.set_shape(shape);
  if (output.get_size() == 0) return;
  if (inputs[2].get_size() == 0) {  // no level has a point
    std::fill_n(static_cast<float*>(output.data()), output.get_size(), 0.0f);
    return;
  }
  std::vector<int64_t> index;
  if (packed) check_index(index = whole_numbers(inputs[count]), sizes);
  MsDeformAttnGeometry geometry{};
  geometry.batch = sizes.images;
  geometry.rows = packed ? sizes.rows : sizes.rows * sizes.images;
  geometry.queries = packed ? 1 : sizes.rows;
  geometry.value_index = packed ? index.data() : nullptr;
  geometry.pixels = sizes.pixels;
  geometry.heads = int(sizes.heads);
  Sampling<float> call{};
  call.value = static_cast<const float*>(inputs[0].data());
  call.offset = inputs[1].data();
  call.factor = inputs[2].data();
  call.output = static_cast<float*>(output.data());
  call.offset_storage = call.factor_storage = Storage::computing;
  set_sizes(sizes, geometry, call);
  const bool anchored = count > 3;
  if (anchored) {
    const int64_t anchors = count_anchors(inputs[3], weights, call.points, attributes.parts);
    set_anchors(sizes, static_cast<const float*>(inputs[3].data()), anchors, attributes.parts,
                call);
  }
  PointTable<float> table(call.groups, call.points), copy_table(call.groups, call.points);
  fill_table(sizes, shapes.data(), call.pixel_size, anchored, table);
  call.table = table.repeated(call.points);
  const int64_t width = heads_together(call.groups, call.points) * sizes.channels;
  fill_table(sizes, shapes.data(), width, anchored, copy_table);
  const float* const repeated = copy_table.repeated(call.points);
  const bool copies = geometry.copy_pays(call.rows, call.points, false);
  divide(call.rows, [&](int64_t begin, int64_t end) {
    Scratch<float> scratch(call.groups, call.points);
    std::vector<float> copy(copies ? size_t(sizes.pixels * width) + 1 : 0);
    const MsDeformAttnMemory<float> memory{scratch.get(), copies ? copy.data() : nullptr, repeated};
    BEVSTACK_ON_THIS_MACHINE(ms_deform_attn_forward(geometry, call, begin, end, memory));
  });
}

}  // namespace

void MsDeformAttn::validate_and_infer_types() {
  set_output_type(0, ov::element::f32, infer(*this, 3, attributes_));
}

bool MsDeformAttn::visit_attributes(ov::AttributeVisitor& visitor) {
  visitor.on_attribute("spatial_shapes", attributes_.spatial_shapes);
  return true;
}

bool MsDeformAttn::evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const {
  attend(outputs[0], inputs, 3, attributes_);
  return true;
}

void DeformableAttention::validate_and_infer_types() {
  set_output_type(0, ov::element::f32, infer(*this, 4, attributes_));
}

bool DeformableAttention::visit_attributes(ov::AttributeVisitor& visitor) {
  visitor.on_attribute("spatial_shapes", attributes_.spatial_shapes);
  visitor.on_attribute("parts", attributes_.parts);
  return true;
}

bool DeformableAttention::evaluate(ov::TensorVector& outputs,
                                   const ov::TensorVector& inputs) const {
  attend(outputs[0], inputs, 4, attributes_);
  return true;
}

}  // namespace bevstack
