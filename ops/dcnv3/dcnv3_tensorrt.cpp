// The plugin Dcnv3 of TensorRT, which launches the kernels of dcnv3_kernels.cu.
#include "dcnv3/dcnv3_cuda.h"
#include "tensorrt/plugin.h"

namespace bevstack {
namespace tensorrt {
namespace {

constexpr int64_t kMostPlaces = int64_t(1) << 30;

int64_t outputs(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  const int64_t room = size + 2 * padding - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

struct Dcnv3 {
  static constexpr const char* kName = "Dcnv3";

  static Attributes attributes() {
    Attributes made;
    for (const char* name : {"kernel_size", "stride", "padding", "dilation"}) {
      made.integers.emplace_back(name, std::vector<int32_t>(2, 1));
    }
    for (const char* name : {"groups", "remove_center", "softmax"}) {
      made.integers.emplace_back(name, std::vector<int32_t>(1, 0));
    }
    made.floats.emplace_back("offset_scale", 1.0f);
    return made;
  }

  static bool fits(const Attributes& made) {
    for (int axis = 0; axis < 2; ++axis) {
      if (made.numbers("kernel_size")[axis] < 1 || made.numbers("stride")[axis] < 1 ||
          made.numbers("padding")[axis] < 0 || made.numbers("dilation")[axis] < 1) {
        return false;
      }
    }
    return made.number("groups") >= 1 && points(made) >= 1 && points(made) < (int64_t(1) << 20);
  }

  // Offset and mask are of one type: float32, or float16 with a kernel for it.
  static bool takes(const Attributes& made, int position,
                    const nvinfer1::DynamicPluginTensorDesc* all, int inputs) {
    if (inputs != 3) return false;
    const nvinfer1::DataType type = all[position].desc.type;
    if (position == 2) return type == all[1].desc.type;
    const nvinfer1::Dims& input = all[0].desc.dims;
    return is_storage_type(type, input.nbDims == 4 ? input.d[3] / made.number("groups") : -1);
  }

  static bool infer(const nvinfer1::DimsExprs* inputs, int count, nvinfer1::DimsExprs& output,
                    nvinfer1::IExprBuilder&) {
    if (count != 3 || inputs[0].nbDims != 4 || inputs[1].nbDims != 4) return false;
    output.nbDims = 4;
    for (int axis = 0; axis < 3; ++axis) output.d[axis] = inputs[1].d[axis];
    output.d[3] = inputs[0].d[3];
    return true;
  }

  static bool run(const Attributes& made, const Call& call) {
    Dcnv3Geometry geometry{};
    Tensors tensors{};
    Queue queue{};
    if (call.inputs != 3 || !describe(made, call, geometry) || !fill(geometry, call, tensors)) {
      return false;
    }
    if (geometry.batch == 0) return true;
    if (!make_queue(call.stream, queue)) return false;
    launch_dcnv3(geometry, tensors, queue);
    return cudaGetLastError() == cudaSuccess;
  }

 private:
  static int64_t points(const Attributes& made) {
    const auto& kernel = made.numbers("kernel_size");
    return int64_t(kernel[0]) * kernel[1] - (made.number("remove_center") != 0 ? 1 : 0);
  }

  static bool describe(const Attributes& made, const Call& call, Dcnv3Geometry& geometry) {
    const nvinfer1::Dims& input = call.input_desc[0].dims;
    const int64_t groups = made.number("groups");
    if (input.nbDims != 4 || input.d[3] % groups != 0) return false;
    const auto &kernel = made.numbers("kernel_size"), &stride = made.numbers("stride"),
               &padding = made.numbers("padding"), &dilation = made.numbers("dilation");
    geometry.batch = input.d[0];
    geometry.height = input.d[1];
    geometry.width = input.d[2];
    geometry.kernel_h = kernel[0], geometry.kernel_w = kernel[1];
    geometry.stride_h = stride[0], geometry.stride_w = stride[1];
    geometry.pad_h = padding[0], geometry.pad_w = padding[1];
    geometry.dilation_h = dilation[0], geometry.dilation_w = dilation[1];
    geometry.groups = int(groups);
    geometry.channels = int(input.d[3] / groups);
    geometry.offset_scale = made.floats.at(0).second;
    geometry.remove_center = made.number("remove_center") != 0;
    geometry.softmax = made.number("softmax") != 0;
    geometry.out_height = outputs(input.d[1], kernel[0], stride[0], padding[0], dilation[0]);
    geometry.out_width = outputs(input.d[2], kernel[1], stride[1], padding[1], dilation[1]);
    const std::vector<int64_t> mask = {geometry.batch, geometry.out_height, geometry.out_width,
                                       groups * geometry.points()};
    const std::vector<int64_t> offset = {mask[0], mask[1], mask[2], 2 * mask[3]};
    return geometry.out_height >= 1 && geometry.out_width >= 1 &&
           geometry.height * geometry.width * groups < kMostPlaces &&
           is_shape(call.input_desc[1].dims, offset) && is_shape(call.input_desc[2].dims, mask);
  }

  static bool fill(const Dcnv3Geometry& geometry, const Call& call, Tensors& tensors) {
    const bool half = call.input_desc[0].type == nvinfer1::DataType::kHALF ||
                      call.input_desc[1].type == nvinfer1::DataType::kHALF;
    if (half && !has_own_kernel(geometry.channels)) return false;
    if (call.input_desc[1].type != call.input_desc[2].type) return false;
    tensors.value = call.input[0];
    tensors.offset = call.input[1];
    tensors.factor = call.input[2];
    tensors.output = call.output;
    return number_type(call.input_desc[0].type, tensors.value_type) &&
           number_type(call.input_desc[1].type, tensors.offset_type);
  }
};

}  // namespace

nvinfer1::IPluginCreatorInterface* dcnv3_creator() {
  static Creator<Dcnv3> creator;
  return &creator;
}

}  // namespace tensorrt
}  // namespace bevstack
