// Runs the plugins of TensorRT without a GPU: the launches call the kernels' code on the CPU.
#include "host_device.cpp"

#include "dcnv3/dcnv3_cuda.h"
#include "ms_deform_attn/ms_deform_attn_cuda.h"
#include "tensorrt/plugin.h"

namespace bevstack {

void launch_dcnv3(const Dcnv3Geometry& geometry, const Tensors& tensors, const Queue& queue) {
  gpu::run<gpu::Dcnv3Points>(geometry, tensors, nullptr, queue.processors);
}
void launch_ms_deform_attn(const MsDeformAttnLevels& levels, const Tensors& tensors,
                           const Queue& queue) {
  gpu::run<gpu::MsDeformAttnPoints>(levels, tensors, nullptr, queue.processors);
}

}  // namespace bevstack

extern "C" cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
extern "C" cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 4;
  return cudaSuccess;
}
extern "C" cudaError_t cudaGetLastError() { return cudaSuccess; }
extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t&);

namespace {

using namespace nvinfer1;

IPluginCreatorV3One* find_creator(const char* name) {
  int32_t count = 0;
  IPluginCreatorInterface* const* all = getCreators(count);
  for (int32_t k = 0; k < count; ++k) {
    auto* creator = static_cast<IPluginCreatorV3One*>(all[k]);
    if (strcmp(creator->getPluginName(), name) == 0) return creator;
  }
  return nullptr;
}

}  // namespace

// Creates a plugin, stores it, restores it and runs it.
//   integers: for each of `fields` attributes `length` numbers, one attribute after the other
//   dims: 8 sides for each tensor, the output last; ranks and types likewise
// Returns 0; 1: no plugin; 2: a type is not supported; 3: the call failed.
extern "C" int run_plugin(const char* name, int fields, const char** names, const int* lengths,
                          const int32_t* integers, const float* scale, int inputs,
                          const int* ranks, const int64_t* dims, const int* types,
                          const void** input, void* output) {
  IPluginCreatorV3One* creator = find_creator(name);
  if (creator == nullptr) return 1;
  std::vector<PluginField> given;
  for (int k = 0; k < fields; ++k) {
    given.emplace_back(names[k], integers, PluginFieldType::kINT32, lengths[k]);
    integers += lengths[k];
  }
  if (scale != nullptr) {
    given.emplace_back("offset_scale", scale, PluginFieldType::kFLOAT32, 1);
  }
  const PluginFieldCollection collection{int32_t(given.size()), given.data()};
  std::unique_ptr<IPluginV3> made(creator->createPlugin(name, &collection, TensorRTPhase::kBUILD));
  if (made == nullptr) return 1;
  std::vector<DynamicPluginTensorDesc> all(size_t(inputs) + 1);
  std::vector<PluginTensorDesc> plain;
  for (int k = 0; k <= inputs; ++k) {
    PluginTensorDesc desc{};
    desc.dims.nbDims = ranks[k];
    for (int axis = 0; axis < ranks[k]; ++axis) desc.dims.d[axis] = dims[8 * k + axis];
    desc.type = DataType(types[k]);
    desc.format = TensorFormat::kLINEAR;
    all[size_t(k)].desc = desc;
    plain.push_back(desc);
  }
  auto* build = static_cast<IPluginV3OneBuild*>(
      made->getCapabilityInterface(PluginCapabilityType::kBUILD));
  for (int k = 0; k <= inputs; ++k) {
    if (!build->supportsFormatCombination(k, all.data(), inputs, 1)) return 2;
  }
  auto* stored = static_cast<IPluginV3OneRuntime*>(
      made->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  std::unique_ptr<IPluginV3> restored(
      creator->createPlugin(name, stored->getFieldsToSerialize(), TensorRTPhase::kRUNTIME));
  made.reset();
  if (restored == nullptr) return 1;
  auto* first = static_cast<IPluginV3OneRuntime*>(
      restored->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  std::unique_ptr<IPluginV3> attached(first->attachToContext(nullptr));
  auto* run = static_cast<IPluginV3OneRuntime*>(
      attached->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  run->onShapeChange(plain.data(), inputs, plain.data() + inputs, 1);
  void* outputs[] = {output};
  return run->enqueue(plain.data(), plain.data() + inputs, input, outputs, nullptr, nullptr) == 0
             ? 0
             : 3;
}
