// Operators of an OpenVINO model that run our kernels on the CPU, in float32.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <openvino/op/op.hpp>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

namespace bevstack {

// Attributes of bevstack::dcnv3, in its order.
struct Dcnv3Attributes {
  std::vector<int64_t> kernel_size, stride, padding, dilation;
  int64_t groups = 1;
  float offset_scale = 1.0f;
  int64_t remove_center = 0, softmax = 0;
};

// Inputs: input (B, H, W, C), offset (B, Y, X, G * P * 2), mask (B, Y, X, G * P).
class Dcnv3 : public ov::op::Op {
 public:
  OPENVINO_OP("Dcnv3", "bevstack");
  Dcnv3() = default;
  Dcnv3(const ov::OutputVector& inputs, const Dcnv3Attributes& attributes)
      : Op(inputs), attributes_(attributes) {
    constructor_validate_and_infer_types();
  }
  void validate_and_infer_types() override;
  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
    return std::make_shared<Dcnv3>(inputs, attributes_);
  }
  bool visit_attributes(ov::AttributeVisitor& visitor) override;
  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override;
  bool has_evaluate() const override { return true; }

 private:
  Dcnv3Attributes attributes_;
};

struct AttentionAttributes {
  std::vector<int64_t> spatial_shapes;  // height and width of each level
  int64_t parts = 1;                    // of DeformableAttention
};

// Inputs: value (B, S, H, D), sampling_locations (B, Q, H, L, P, 2), attention_weights
// (B, Q, H, L, P); or with a fourth input value_index (M,): (M, H, L, P, 2) and (M, H, L, P).
class MsDeformAttn : public ov::op::Op {
 public:
  OPENVINO_OP("MsDeformAttn", "bevstack");
  MsDeformAttn() = default;
  MsDeformAttn(const ov::OutputVector& inputs, const AttentionAttributes& attributes)
      : Op(inputs), attributes_(attributes) {
    constructor_validate_and_infer_types();
  }
  void validate_and_infer_types() override;
  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
    return std::make_shared<MsDeformAttn>(inputs, attributes_);
  }
  bool visit_attributes(ov::AttributeVisitor& visitor) override;
  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override;
  bool has_evaluate() const override { return true; }

 private:
  AttentionAttributes attributes_;
};

// Inputs: value, offsets and logits like locations and weights above, reference_points
// (B, Q, A, 2); or with a fifth input value_index (M,): reference_points (M, A, 2).
class DeformableAttention : public ov::op::Op {
 public:
  OPENVINO_OP("DeformableAttention", "bevstack");
  DeformableAttention() = default;
  DeformableAttention(const ov::OutputVector& inputs, const AttentionAttributes& attributes)
      : Op(inputs), attributes_(attributes) {
    constructor_validate_and_infer_types();
  }
  void validate_and_infer_types() override;
  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
    return std::make_shared<DeformableAttention>(inputs, attributes_);
  }
  bool visit_attributes(ov::AttributeVisitor& visitor) override;
  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override;
  bool has_evaluate() const override { return true; }

 private:
  AttentionAttributes attributes_;
};

// Calls work(begin, end) for parts of [0, count): one for each thread that OpenVINO gives this
// call, as every part has its own memory.
template <typename Work>
void divide(int64_t count, Work work) {
  const int64_t threads = tbb::this_task_arena::max_concurrency();
  const int64_t parts = threads < count ? threads : count;
  tbb::parallel_for(int64_t(0), parts, [&](int64_t part) {
    work(count * part / parts, count * (part + 1) / parts);
  });
}

// Checks that an input holds float32, the only type that a model in float32 gives.
inline void check_float32(const ov::Node& node, size_t port) {
  const ov::element::Type type = node.get_input_element_type(port);
  NODE_VALIDATION_CHECK(&node, type == ov::element::f32 || type.is_dynamic(), "input ", port,
                        " must be float32; got ", type);
}

}  // namespace bevstack
