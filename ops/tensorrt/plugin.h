// The part that the plugins of TensorRT share: attributes, types, shapes, creation, storage.
//
// An own plugin is a class with
//   static constexpr const char* kName;                      name of the ONNX node
//   static Attributes attributes();                          names, with numbers of the right length
//   static bool fits(const Attributes&);                     false: refuse to create it
//   static bool takes(const Attributes&, int position, const DynamicPluginTensorDesc* all,
//                     int inputs);                           true: its type is supported
//   static bool infer(const DimsExprs* inputs, int count, DimsExprs& output, IExprBuilder&);
//   static bool run(const Attributes&, const Call&);         false: the call failed
#pragma once

#include <string.h>

#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include "common/tensors.h"

namespace bevstack {
namespace tensorrt {

// The attributes of a node. ONNX has integers of 64 bits, of which TensorRT hands over 32.
struct Attributes {
  std::vector<std::pair<std::string, std::vector<int32_t>>> integers;  // length 0: any length
  std::vector<std::pair<std::string, float>> floats;

  // Reads all attributes. Returns false if one is missing, or of another type or length.
  bool read(const nvinfer1::PluginFieldCollection& given) {
    for (auto& [name, numbers] : integers) {
      const auto* field = find(given, name, nvinfer1::PluginFieldType::kINT32);
      if (field == nullptr) return false;
      if (!numbers.empty() && field->length != int32_t(numbers.size())) return false;
      const auto* data = static_cast<const int32_t*>(field->data);
      numbers.assign(data, data + field->length);
    }
    for (auto& [name, number] : floats) {
      const auto* field = find(given, name, nvinfer1::PluginFieldType::kFLOAT32);
      if (field == nullptr || field->length != 1) return false;
      number = *static_cast<const float*>(field->data);
    }
    return true;
  }

  // Returns fields that point into this object.
  std::vector<nvinfer1::PluginField> fields() const {
    std::vector<nvinfer1::PluginField> made;
    for (const auto& [name, numbers] : integers) {
      made.emplace_back(name.c_str(), numbers.data(), nvinfer1::PluginFieldType::kINT32,
                        int32_t(numbers.size()));
    }
    for (const auto& [name, number] : floats) {
      made.emplace_back(name.c_str(), &number, nvinfer1::PluginFieldType::kFLOAT32, 1);
    }
    return made;
  }

  const std::vector<int32_t>& numbers(const char* wanted) const {
    for (const auto& [name, found] : integers) {
      if (name == wanted) return found;
    }
    return none;
  }
  int32_t number(const char* wanted) const { return numbers(wanted).at(0); }

 private:
  std::vector<int32_t> none;

  static const nvinfer1::PluginField* find(const nvinfer1::PluginFieldCollection& given,
                                           const std::string& name,
                                           nvinfer1::PluginFieldType type) {
    for (int32_t k = 0; k < given.nbFields; ++k) {
      const nvinfer1::PluginField& field = given.fields[k];
      if (name == field.name) return field.type == type && field.data ? &field : nullptr;
    }
    return nullptr;
  }
};

// The tensors of one call.
struct Call {
  const nvinfer1::PluginTensorDesc* input_desc;
  int inputs;
  const void* const* input;
  void* output;
  CUstream_st* stream;
};

// Returns false for a type that no kernel reads.
inline bool number_type(nvinfer1::DataType type, NumberType& found) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT:
      found = NumberType::float32;
      return true;
    case nvinfer1::DataType::kHALF:
      found = NumberType::float16;
      return true;
    default:
      return false;
  }
}

// float32, or float16 if a kernel is compiled for this number of channels of a group.
inline bool is_storage_type(nvinfer1::DataType type, int64_t channels) {
  return type == nvinfer1::DataType::kFLOAT ||
         (type == nvinfer1::DataType::kHALF && has_own_kernel(channels));
}

inline bool is_shape(const nvinfer1::Dims& dims, const std::vector<int64_t>& wanted) {
  if (dims.nbDims != int32_t(wanted.size())) return false;
  for (int32_t axis = 0; axis < dims.nbDims; ++axis) {
    if (dims.d[axis] != wanted[size_t(axis)]) return false;
  }
  return true;
}

// Sets the stream and device of a launch. Returns false if CUDA reports an error.
inline bool make_queue(CUstream_st* stream, Queue& queue) {
  int device = 0;
  queue.stream = stream;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&queue.processors, cudaDevAttrMultiProcessorCount, device) ==
             cudaSuccess;
}

template <class Own>
class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
 public:
  explicit Plugin(Attributes attributes) : attributes_(std::move(attributes)) {}

  nvinfer1::IPluginCapability* getCapabilityInterface(
      nvinfer1::PluginCapabilityType type) noexcept override {
    switch (type) {
      case nvinfer1::PluginCapabilityType::kBUILD:
        return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
      case nvinfer1::PluginCapabilityType::kRUNTIME:
        return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
      case nvinfer1::PluginCapabilityType::kCORE:
        return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    }
    return nullptr;
  }
  nvinfer1::IPluginV3* clone() noexcept override {
    try {
      return std::make_unique<Plugin>(attributes_).release();
    } catch (const std::exception&) {
      return nullptr;
    }
  }
  const char* getPluginName() const noexcept override { return Own::kName; }
  const char* getPluginVersion() const noexcept override { return "1"; }
  const char* getPluginNamespace() const noexcept override { return ""; }

  int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc*, int32_t,
                          const nvinfer1::DynamicPluginTensorDesc*, int32_t) noexcept override {
    return 0;
  }
  int32_t getNbOutputs() const noexcept override { return 1; }
  int32_t getOutputDataTypes(nvinfer1::DataType* outputs, int32_t num_outputs,
                             const nvinfer1::DataType* inputs,
                             int32_t num_inputs) const noexcept override {
    if (num_outputs != 1 || num_inputs < 1) return 1;
    outputs[0] = inputs[0];
    return 0;
  }
  int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t num_inputs,
                          const nvinfer1::DimsExprs*, int32_t, nvinfer1::DimsExprs* outputs,
                          int32_t num_outputs, nvinfer1::IExprBuilder& builder) noexcept override {
    return num_outputs == 1 && Own::infer(inputs, num_inputs, outputs[0], builder) ? 0 : 1;
  }
  bool supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* all,
                                 int32_t num_inputs, int32_t num_outputs) noexcept override {
    if (num_outputs != 1) return false;
    if (all[position].desc.format != nvinfer1::TensorFormat::kLINEAR) return false;
    if (position == num_inputs) return all[position].desc.type == all[0].desc.type;
    return Own::takes(attributes_, position, all, num_inputs);
  }

  int32_t onShapeChange(const nvinfer1::PluginTensorDesc*, int32_t num_inputs,
                        const nvinfer1::PluginTensorDesc*, int32_t) noexcept override {
    inputs_ = num_inputs;
    return 0;
  }
  int32_t enqueue(const nvinfer1::PluginTensorDesc* input_desc, const nvinfer1::PluginTensorDesc*,
                  const void* const* inputs, void* const* outputs, void*,
                  CUstream_st* stream) noexcept override {
    try {
      return Own::run(attributes_, {input_desc, inputs_, inputs, outputs[0], stream}) ? 0 : 1;
    } catch (const std::exception&) {
      return 1;
    }
  }
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override {
    return clone();
  }
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override {
    try {
      fields_ = attributes_.fields();
    } catch (const std::exception&) {
      return nullptr;
    }
    collection_ = {int32_t(fields_.size()), fields_.data()};
    return &collection_;
  }

 private:
  Attributes attributes_;
  int inputs_ = 0;
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

template <class Own>
class Creator final : public nvinfer1::IPluginCreatorV3One {
 public:
  Creator() : attributes_(Own::attributes()), fields_(attributes_.fields()) {
    collection_ = {int32_t(fields_.size()), fields_.data()};
  }
  nvinfer1::IPluginV3* createPlugin(const char*, const nvinfer1::PluginFieldCollection* given,
                                    nvinfer1::TensorRTPhase) noexcept override {
    try {
      Attributes made = Own::attributes();
      if (given == nullptr || !made.read(*given) || !Own::fits(made)) return nullptr;
      return std::make_unique<Plugin<Own>>(std::move(made)).release();
    } catch (const std::exception&) {
      return nullptr;
    }
  }
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &collection_; }
  const char* getPluginName() const noexcept override { return Own::kName; }
  const char* getPluginVersion() const noexcept override { return "1"; }
  const char* getPluginNamespace() const noexcept override { return ""; }

 private:
  Attributes attributes_;
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

// The creators of the two plugins, which live until the library is unloaded.
nvinfer1::IPluginCreatorInterface* dcnv3_creator();
nvinfer1::IPluginCreatorInterface* ms_deform_attn_creator();

}  // namespace tensorrt
}  // namespace bevstack
