#include "pictures.h"

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <memory>
#include <stdexcept>

#include <jpeglib.h>

namespace {

struct ErrorManager {
  jpeg_error_mgr base;  // first, so that libjpeg's pointer is one to this
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

void leave(j_common_ptr info) {
  auto* manager = reinterpret_cast<ErrorManager*>(info->err);
  info->err->format_message(info, manager->message);
  std::longjmp(manager->jump, 1);
}

// Returns false for a damaged file; the manager then holds the reason. libjpeg leaves by longjmp, so
// that this function has no object to destroy.
bool decode(std::FILE* file, ErrorManager& manager, Picture& picture) {
  jpeg_decompress_struct info{};
  info.err = jpeg_std_error(&manager.base);
  manager.base.error_exit = leave;
  if (setjmp(manager.jump) != 0) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  jpeg_create_decompress(&info);
  jpeg_stdio_src(&info, file);
  jpeg_read_header(&info, TRUE);
  info.out_color_space = JCS_RGB;
  jpeg_start_decompress(&info);
  picture.height = int(info.output_height);
  picture.width = int(info.output_width);
  picture.rgb.resize(size_t(picture.height) * picture.width * 3);
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = picture.rgb.data() + size_t(info.output_scanline) * picture.width * 3;
    jpeg_read_scanlines(&info, &row, 1);
  }
  jpeg_finish_decompress(&info);
  jpeg_destroy_decompress(&info);
  return true;
}

// Weights of the pixels that one output pixel is the sum of, as whole numbers.
struct Weights {
  int first;
  std::vector<int> values;
};

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// Computes the weights of every output pixel along an axis; returns their precision in bits.
int find_weights(int from, int to, std::vector<Weights>& weights) {
  const double scale = double(from) / to;
  const double stretch = std::max(scale, 1.0), support = 2 * stretch;
  std::vector<std::vector<double>> exact(to);
  double largest = 0;
  weights.resize(to);
  for (int i = 0; i < to; ++i) {
    const double center = scale * (i + 0.5);
    const int first = std::max(int(center - support + 0.5), 0);
    const int end = std::min(int(center + support + 0.5), from);
    double total = 0;
    for (int j = first; j < end; ++j) {
      exact[i].push_back(bicubic((j - center + 0.5) / stretch));
      total += exact[i].back();
    }
    for (double& weight : exact[i]) largest = std::max(largest, weight /= total);
    weights[i].first = first;
  }
  // As many bits as the largest weight leaves in 16.
  int bits = 0;
  while (bits < 22 && int(0.5 + largest * (1 << (bits + 1))) < (1 << 15)) ++bits;
  for (int i = 0; i < to; ++i) {
    for (const double weight : exact[i]) {
      weights[i].values.push_back(int(weight * (1 << bits) + (weight < 0 ? -0.5 : 0.5)));
    }
  }
  return bits;
}

// Resizes one axis; `step` and `line` are the distances of neighbours along it and across it.
void resize_axis(const uint8_t* from, uint8_t* to, int from_size, int to_size, int count,
                 int step, int from_line, int to_line) {
  std::vector<Weights> weights;
  const int bits = find_weights(from_size, to_size, weights);
  for (int k = 0; k < count; ++k) {
    for (int i = 0; i < to_size; ++i) {
      const uint8_t* pixel = from + k * from_line + weights[i].first * step;
      int sum = 1 << (bits - 1);
      for (const int weight : weights[i].values) sum += weight * *pixel, pixel += step;
      to[k * to_line + i * step] = uint8_t(std::clamp(sum >> bits, 0, 255));
    }
  }
}

}  // namespace

Picture read_jpeg(const std::string& path) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (file == nullptr) throw std::runtime_error("cannot open " + path);
  Picture picture;
  ErrorManager manager{};
  if (!decode(file.get(), manager, picture)) {
    throw std::runtime_error(path + ": " + manager.message);
  }
  return picture;
}

Picture without_top(const Picture& picture, int top) {
  Picture rest{picture.height - top, picture.width, {}};
  rest.rgb.assign(picture.rgb.begin() + std::ptrdiff_t(top) * picture.width * 3,
                  picture.rgb.end());
  return rest;
}

Picture resized(const Picture& picture, int height, int width) {
  Picture narrow = picture;
  if (width != picture.width) {
    narrow = {picture.height, width, std::vector<uint8_t>(size_t(picture.height) * width * 3)};
    for (int c = 0; c < 3; ++c) {
      resize_axis(picture.rgb.data() + c, narrow.rgb.data() + c, picture.width, width,
                  picture.height, 3, picture.width * 3, width * 3);
    }
  }
  if (height == picture.height) return narrow;
  Picture made{height, width, std::vector<uint8_t>(size_t(height) * width * 3)};
  resize_axis(narrow.rgb.data(), made.rgb.data(), picture.height, height, width * 3, width * 3, 1,
              1);
  return made;
}
