// The extension that OpenVINO loads: the operators, and their conversion from ONNX nodes.
#include <openvino/core/extension.hpp>
#include <openvino/core/op_extension.hpp>
#include <openvino/frontend/onnx/extension/conversion.hpp>

#include "openvino/operators.h"

namespace {

constexpr const char* kDomain = "bevstack";

using Numbers = std::vector<int64_t>;

ov::OutputVector inputs_of(const ov::frontend::NodeContext& node) {
  ov::OutputVector inputs;
  for (size_t port = 0; port < node.get_input_size(); ++port) {
    inputs.push_back(node.get_input(int(port)));
  }
  return inputs;
}

ov::OutputVector convert_dcnv3(const ov::frontend::NodeContext& node) {
  bevstack::Dcnv3Attributes made;
  made.kernel_size = node.get_attribute<Numbers>("kernel_size");
  made.stride = node.get_attribute<Numbers>("stride");
  made.padding = node.get_attribute<Numbers>("padding");
  made.dilation = node.get_attribute<Numbers>("dilation");
  made.groups = node.get_attribute<int64_t>("groups");
  made.offset_scale = node.get_attribute<float>("offset_scale");
  made.remove_center = node.get_attribute<int64_t>("remove_center");
  made.softmax = node.get_attribute<int64_t>("softmax");
  return std::make_shared<bevstack::Dcnv3>(inputs_of(node), made)->outputs();
}

template <typename Op>
ov::OutputVector convert_attention(const ov::frontend::NodeContext& node) {
  bevstack::AttentionAttributes made;
  made.spatial_shapes = node.get_attribute<Numbers>("spatial_shapes");
  made.parts = node.get_attribute<int64_t>("parts", 1);
  return std::make_shared<Op>(inputs_of(node), made)->outputs();
}

template <typename Op>
std::vector<ov::Extension::Ptr> extensions(const ov::frontend::CreatorFunction& convert) {
  const char* const name = Op::get_type_info_static().name;
  return {std::make_shared<ov::OpExtension<Op>>(),
          std::make_shared<ov::frontend::onnx::ConversionExtension>(name, kDomain, convert)};
}

std::vector<ov::Extension::Ptr> all_extensions() {
  std::vector<ov::Extension::Ptr> all;
  for (const auto& pair :
       {extensions<bevstack::Dcnv3>(convert_dcnv3),
        extensions<bevstack::MsDeformAttn>(convert_attention<bevstack::MsDeformAttn>),
        extensions<bevstack::DeformableAttention>(
            convert_attention<bevstack::DeformableAttention>)}) {
    all.insert(all.end(), pair.begin(), pair.end());
  }
  return all;
}

}  // namespace

OPENVINO_CREATE_EXTENSIONS(all_extensions());
