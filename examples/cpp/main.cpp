// Prints the boxes that an exported detector finds in the JPEGs of a rig.
//
//   boxes MODEL.onnx RIG.json FOLDER [LIBRARY]
//
// MODEL is a file of `bevstack export --onnx` for single frames. LIBRARY is the one that
// `bevstack export --custom-ops` prints, for a model with our own operators. Each line is a box in
// the ego frame: class, score, centre, length, width, height, heading and velocity.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <openvino/openvino.hpp>

#include "pictures.h"
#include "rig.h"

using nlohmann::json;

namespace {

// Facts that the file holds.
struct Facts {
  std::vector<std::string> class_names;
  int rows = 0, columns = 0;           // of the network's images, padding included
  int target_rows = 0, target_columns = 0;  // largest size of a resized image
  double keep_bottom = 1;              // part of the rows that is kept
  int slots = 0;                       // camera embeddings
  json bounds;
};

std::string fact(const ov::Model& model, const std::string& key) {
  const std::vector<std::string> place = {"framework", "bevstack." + key};
  if (!model.has_rt_info(place)) throw std::runtime_error("the model has no bevstack." + key);
  return model.get_rt_info<std::string>(place);
}

Facts read_facts(const ov::Model& model) {
  if (fact(model, "format") != "bevstack-detector-1" || fact(model, "stream") != "false" ||
      fact(model, "batch") != "1") {
    throw std::runtime_error("the model must be a detector of single frames, one at a time");
  }
  const json config = json::parse(fact(model, "config"));
  const json size = json::parse(fact(model, "image_size"));
  if (json::parse(fact(model, "grid")).at("frame") != "ego") {
    throw std::runtime_error("the model's grid must lie in the ego frame");
  }
  Facts facts;
  facts.class_names = json::parse(fact(model, "class_names")).get<std::vector<std::string>>();
  facts.rows = size.at(0), facts.columns = size.at(1);
  facts.target_rows = config.at("images").at("size").at(0);
  facts.target_columns = config.at("images").at("size").at(1);
  facts.keep_bottom = config.at("images").at("keep_bottom");
  facts.slots = config.at("encoder").at("num_camera_embeddings");
  facts.bounds = json::parse(fact(model, "bounds"));
  return facts;
}

// Returns the embedding of a camera: that of its role, else that of the nearest direction.
int64_t find_slot(const Camera& camera, int slots) {
  static const std::vector<std::pair<std::string, double>> kRoles = {
      {"CAM_FRONT", 0},  {"CAM_FRONT_RIGHT", -57}, {"CAM_FRONT_LEFT", 55},
      {"CAM_BACK", 180}, {"CAM_BACK_LEFT", 109},   {"CAM_BACK_RIGHT", -112}};
  const bool published = slots == int(kRoles.size());
  const double yaw = std::atan2(camera.ego_from_cam[6], camera.ego_from_cam[2]);
  int64_t nearest = 0;
  double best = -2;
  for (int slot = 0; slot < slots; ++slot) {
    if (published && camera.name == kRoles[slot].first) return slot;
    const double degrees = published ? kRoles[slot].second : -360.0 * slot / slots;
    const double closeness = std::cos(yaw - degrees * std::acos(-1.0) / 180);
    if (closeness > best) best = closeness, nearest = slot;
  }
  return nearest;
}

// The inputs of a frame; cameras that the rig does not have are lost ones.
class Inputs {
 public:
  Inputs(const ov::Model& model, const Facts& facts)
      : facts_(facts), cameras_(model.input("images").get_shape()[1]) {
    for (const auto& input : model.inputs()) {
      tensors_[input.get_any_name()] = ov::Tensor(input.get_element_type(), input.get_shape());
    }
    for (auto& [name, tensor] : tensors_) {
      std::fill_n(static_cast<uint8_t*>(tensor.data()), tensor.get_byte_size(), uint8_t(0));
    }
    for (size_t camera = 0; camera < cameras_; ++camera) {
      set_identity(numbers("intrinsics") + 9 * camera, 3);
      set_identity(numbers("bev_from_cam") + 16 * camera, 4);
      std::fill_n(data<int64_t>("image_size") + 2 * camera, 2, 1);
    }
  }

  size_t cameras() const { return cameras_; }

  void set_camera(size_t index, const Camera& camera, const Picture& whole) {
    if (whole.width != camera.width || whole.height != camera.height) {
      throw std::runtime_error(camera.image + " has another size than in the rig");
    }
    const int kept = std::max(1, int(std::nearbyint(whole.height * facts_.keep_bottom)));
    const double scale = std::min(double(facts_.target_rows) / kept,
                                  double(facts_.target_columns) / whole.width);
    const int rows = std::max(1, int(std::nearbyint(kept * scale)));
    const int columns = std::max(1, int(std::nearbyint(whole.width * scale)));
    const int top = whole.height - kept;
    const Picture picture = resized(without_top(whole, top), rows, columns);
    uint8_t* pixels = data<uint8_t>("images") + index * facts_.rows * facts_.columns * 3;
    for (int row = 0; row < rows; ++row) {
      std::copy_n(picture.rgb.data() + size_t(row) * columns * 3, columns * 3,
                  pixels + size_t(row) * facts_.columns * 3);
    }
    double* intrinsics = numbers("intrinsics") + 9 * index;
    for (int k = 0; k < 3; ++k) {
      const double bottom = camera.intrinsics[6 + k];
      intrinsics[k] = camera.intrinsics[k] * columns / whole.width;
      intrinsics[3 + k] = (camera.intrinsics[3 + k] - top * bottom) * rows / kept;
      intrinsics[6 + k] = bottom;
    }
    std::copy_n(camera.ego_from_cam.begin(), 16, numbers("bev_from_cam") + 16 * index);
    data<int64_t>("image_size")[2 * index] = rows;
    data<int64_t>("image_size")[2 * index + 1] = columns;
    data<uint8_t>("camera_mask")[index] = 1;
    data<int64_t>("camera_slots")[index] = find_slot(camera, facts_.slots);
  }

  void give(ov::InferRequest& request) const {
    for (const auto& [name, tensor] : tensors_) request.set_tensor(name, tensor);
  }

 private:
  template <typename T>
  T* data(const std::string& name) {
    return static_cast<T*>(tensors_.at(name).data());
  }
  double* numbers(const std::string& name) { return data<double>(name); }
  static void set_identity(double* matrix, int size) {
    for (int k = 0; k < size; ++k) matrix[k * size + k] = 1;
  }

  const Facts& facts_;
  const size_t cameras_;
  std::map<std::string, ov::Tensor> tensors_;
};

// Returns an entry of a tensor of int64, or of int32, which OpenVINO may give instead.
int64_t whole(const ov::Tensor& tensor, size_t index) {
  return tensor.get_element_type() == ov::element::i64 ? tensor.data<int64_t>()[index]
                                                       : tensor.data<int32_t>()[index];
}

// Without room for all candidates, boxes would be missing.
void check_counts(const ov::Tensor& counts, const json& bounds) {
  size_t index = 0;
  for (const char* name : {"pairs", "candidates", "rounds"}) {
    if (whole(counts, index++) > bounds.at(name).get<int64_t>()) {
      throw std::runtime_error(std::string("the frame has more ") + name +
                               " than the model's bound: export it with frames of this rig");
    }
  }
}

void print_boxes(ov::InferRequest& request, const Facts& facts) {
  check_counts(request.get_tensor("counts"), facts.bounds);
  const ov::Tensor valid = request.get_tensor("valid"), labels = request.get_tensor("labels");
  const auto read = [&](const char* name) { return request.get_tensor(name).data<float>(); };
  const float *center = read("center"), *size = read("size"), *yaw = read("yaw");
  const float *velocity = read("velocity"), *scores = read("scores");
  for (size_t k = 0; k < valid.get_size(); ++k) {
    if (!static_cast<const uint8_t*>(valid.data())[k]) continue;
    std::printf("%s %.6f", facts.class_names.at(whole(labels, k)).c_str(), scores[k]);
    for (int axis = 0; axis < 3; ++axis) std::printf(" %.5f", center[3 * k + axis]);
    for (int axis = 0; axis < 3; ++axis) std::printf(" %.5f", size[3 * k + axis]);
    std::printf(" %.5f %.5f %.5f\n", yaw[k], velocity[2 * k], velocity[2 * k + 1]);
  }
}

void run(const std::vector<std::string>& words) {
  ov::Core core;
  if (words.size() == 4) core.add_extension(words[3]);
  const auto model = core.read_model(words[0]);
  const Facts facts = read_facts(*model);
  const std::vector<Camera> rig = read_rig(words[1]);
  Inputs inputs(*model, facts);
  if (rig.size() > inputs.cameras()) throw std::runtime_error("the rig has too many cameras");
  for (size_t index = 0; index < rig.size(); ++index) {
    if (rig[index].lost) continue;
    inputs.set_camera(index, rig[index], read_jpeg(words[2] + "/" + rig[index].image));
  }
  // On processors with bfloat16, OpenVINO would compute in it.
  auto compiled = core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32));
  ov::InferRequest request = compiled.create_infer_request();
  inputs.give(request);
  request.infer();
  print_boxes(request, facts);
}

}  // namespace

int main(int count, char** words) {
  if (count != 4 && count != 5) {
    std::cerr << "usage: boxes MODEL.onnx RIG.json FOLDER [LIBRARY]\n";
    return 2;
  }
  try {
    run({words + 1, words + count});
  } catch (const std::exception& error) {
    std::cerr << "boxes: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
