// RGB pictures: decoding of JPEG files, and the resize that the network was trained with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct Picture {
  int height = 0, width = 0;
  std::vector<uint8_t> rgb;  // height * width * 3
};

// Throws std::runtime_error if the file is missing or no JPEG of 8 bits.
Picture read_jpeg(const std::string& path);

// Returns the rows from `top` on.
Picture without_top(const Picture& picture, int top);

// Resizes with the bicubic filter (a = -0.5) and antialiasing of Pillow, in its whole numbers, so
// that every pixel equals Python's.
Picture resized(const Picture& picture, int height, int width);
