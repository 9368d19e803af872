// The entry points that TensorRT calls when it loads the library of our plugins.
#include "tensorrt/plugin.h"

extern "C" __attribute__((visibility("default"))) void setLoggerFinder(nvinfer1::ILoggerFinder*) {}

extern "C" __attribute__((visibility("default"))) nvinfer1::IPluginCreatorInterface* const*
getCreators(int32_t& count) {
  static nvinfer1::IPluginCreatorInterface* const creators[] = {
      bevstack::tensorrt::dcnv3_creator(), bevstack::tensorrt::ms_deform_attn_creator()};
  count = 2;
  return creators;
}
