#include "rig.h"

#include <cmath>
#include <fstream>
#include <stdexcept>

#include <nlohmann/json.hpp>

using nlohmann::json;

namespace {

Matrix4 read_pose(const json& pose) {
  Matrix4 matrix{};
  if (pose.is_array()) {  // rows
    for (int k = 0; k < 16; ++k) matrix[k] = pose.at(k / 4).at(k % 4);
    return matrix;
  }
  double w = pose.at("rotation_wxyz").at(0), x = pose.at("rotation_wxyz").at(1);
  double y = pose.at("rotation_wxyz").at(2), z = pose.at("rotation_wxyz").at(3);
  const double length = std::sqrt(w * w + x * x + y * y + z * z);
  w /= length, x /= length, y /= length, z /= length;
  const json& place = pose.at("translation_m");
  return {1 - 2 * (y * y + z * z), 2 * (x * y - w * z),     2 * (x * z + w * y),     place.at(0),
          2 * (x * y + w * z),     1 - 2 * (x * x + z * z), 2 * (y * z - w * x),     place.at(1),
          2 * (x * z - w * y),     2 * (y * z + w * x),     1 - 2 * (x * x + y * y), place.at(2),
          0,                       0,                       0,                       1};
}

Camera read_camera(const json& entry) {
  Camera camera;
  camera.name = entry.at("name");
  camera.image = entry.value("image", camera.name + ".jpg");
  camera.width = entry.at("width");
  camera.height = entry.at("height");
  for (int k = 0; k < 9; ++k) camera.intrinsics[k] = entry.at("intrinsics").at(k / 3).at(k % 3);
  camera.ego_from_cam = read_pose(entry.at("ego_from_cam"));
  camera.lost = entry.value("lost", false);
  if (entry.contains("distortion")) {
    throw std::runtime_error("camera " + camera.name + " has a distortion: undistort its images "
                             "and remove the entry");
  }
  return camera;
}

}  // namespace

std::vector<Camera> read_rig(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);
  std::vector<Camera> cameras;
  try {
    const json rig = json::parse(file);
    if (rig.at("format") != "bevstack-rig-1") throw std::runtime_error("format is another one");
    for (const json& entry : rig.at("cameras")) cameras.push_back(read_camera(entry));
  } catch (const std::exception& error) {
    throw std::runtime_error(path + ": " + error.what());
  }
  return cameras;
}
