// The rig file of `bevstack predict --rig`: cameras without distortion.
#pragma once

#include <array>
#include <string>
#include <vector>

using Matrix3 = std::array<double, 9>;   // rows one after the other
using Matrix4 = std::array<double, 16>;

struct Camera {
  std::string name, image;  // image: a file name
  int width = 0, height = 0;
  Matrix3 intrinsics{};     // pixels of the whole image
  Matrix4 ego_from_cam{};   // metres; ego: x forward, y left, z up; camera: x right, y down
  bool lost = false;
};

// Throws std::runtime_error for a file that is none, or whose images must be undistorted first.
std::vector<Camera> read_rig(const std::string& path);
