// The plugin MsDeformAttn of TensorRT, which launches the kernels of ms_deform_attn_kernels.cu.
// Locations and weights are float32: half types shift a sample by a part of a cell.
#include "ms_deform_attn/ms_deform_attn_cuda.h"
#include "tensorrt/plugin.h"

namespace bevstack {
namespace tensorrt {
namespace {

constexpr int64_t kMostPlaces = int64_t(1) << 30;

struct MsDeformAttn {
  static constexpr const char* kName = "MsDeformAttn";

  static Attributes attributes() {
    Attributes made;
    made.integers.emplace_back("spatial_shapes", std::vector<int32_t>());
    return made;
  }

  static bool fits(const Attributes& made) {
    const auto& shapes = made.numbers("spatial_shapes");
    if (shapes.empty() || shapes.size() % 2 != 0 || shapes.size() / 2 > kMostLevels) return false;
    for (const int32_t side : shapes) {
      if (side < 1 || side >= kMostPlaces) return false;
    }
    return true;
  }

  // Inputs: value, locations, weights and, for packed rows, the image of each row.
  static bool takes(const Attributes&, int position, const nvinfer1::DynamicPluginTensorDesc* all,
                    int inputs) {
    if (inputs != 3 && inputs != 4) return false;
    const nvinfer1::DataType type = all[position].desc.type;
    const nvinfer1::Dims& value = all[0].desc.dims;
    if (position == 0) return is_storage_type(type, value.nbDims == 4 ? value.d[3] : -1);
    return type == (position == 3 ? nvinfer1::DataType::kINT64 : nvinfer1::DataType::kFLOAT);
  }

  static bool infer(const nvinfer1::DimsExprs* inputs, int count, nvinfer1::DimsExprs& output,
                    nvinfer1::IExprBuilder& builder) {
    if ((count != 3 && count != 4) || inputs[0].nbDims != 4) return false;
    const int axes = count == 4 ? 1 : 2;  // of the rows
    if (inputs[2].nbDims != axes + 3) return false;
    output.nbDims = axes + 1;
    for (int axis = 0; axis < axes; ++axis) output.d[axis] = inputs[2].d[axis];
    output.d[axes] = builder.operation(nvinfer1::DimensionOperation::kPROD, *inputs[0].d[2],
                                       *inputs[0].d[3]);
    return output.d[axes] != nullptr;
  }

  static bool run(const Attributes& made, const Call& call) {
    MsDeformAttnLevels levels{};
    Tensors tensors{};
    Queue queue{};
    if (!describe(made, call, levels) || !fill(levels, call, tensors)) return false;
    if (levels.rows == 0 || levels.images == 0 || levels.heads == 0 || levels.channels == 0) {
      return true;  // no output
    }
    if (!make_queue(call.stream, queue)) return false;
    launch_ms_deform_attn(levels, tensors, queue);
    return cudaGetLastError() == cudaSuccess;
  }

 private:
  static bool describe(const Attributes& made, const Call& call, MsDeformAttnLevels& levels) {
    if (call.inputs != 3 && call.inputs != 4) return false;
    const bool packed = call.inputs == 4;
    const nvinfer1::Dims& value = call.input_desc[0].dims;
    const nvinfer1::Dims& weights = call.input_desc[2].dims;
    const auto& shapes = made.numbers("spatial_shapes");
    if (value.nbDims != 4 || weights.nbDims != (packed ? 4 : 5)) return false;
    levels.levels = int(shapes.size() / 2);
    for (int level = 0; level < levels.levels; ++level) {
      levels.height[level] = shapes[size_t(2 * level)];
      levels.width[level] = shapes[size_t(2 * level + 1)];
      levels.first[level] = int(levels.pixels);
      levels.pixels += int64_t(levels.height[level]) * levels.width[level];
      if (levels.pixels >= kMostPlaces) return false;
    }
    levels.images = value.d[0];
    levels.rows = weights.d[packed ? 0 : 1];
    levels.heads = int(value.d[2]);
    levels.channels = int(value.d[3]);
    levels.points = int(weights.d[weights.nbDims - 1]);
    if (packed) levels.value_index = static_cast<const int64_t*>(call.input[3]);
    std::vector<int64_t> rows = {levels.rows, levels.heads, levels.levels, levels.points};
    if (!packed) rows.insert(rows.begin(), levels.images);
    std::vector<int64_t> pairs = rows;
    pairs.push_back(2);
    return value.d[1] == levels.pixels && levels.pixels * value.d[2] < kMostPlaces &&
           levels.points >= 1 && (levels.images >= 1 || levels.rows == 0) &&
           is_shape(weights, rows) &&
           is_shape(call.input_desc[1].dims, pairs) &&
           (!packed || is_shape(call.input_desc[3].dims, {levels.rows}));
  }

  static bool fill(const MsDeformAttnLevels& levels, const Call& call, Tensors& tensors) {
    if (!is_storage_type(call.input_desc[0].type, levels.channels)) return false;
    tensors.value = call.input[0];
    tensors.offset = call.input[1];
    tensors.factor = call.input[2];
    tensors.output = call.output;
    tensors.offset_type = NumberType::float32;
    return number_type(call.input_desc[0].type, tensors.value_type);
  }
};

}  // namespace

nvinfer1::IPluginCreatorInterface* ms_deform_attn_creator() {
  static Creator<MsDeformAttn> creator;
  return &creator;
}

}  // namespace tensorrt
}  // namespace bevstack
