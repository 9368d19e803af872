// One bilinear sample: its corners, their weights and its gradients. Arithmetic only.
#pragma once

#include "common/numbers.cuh"

namespace bevstack {
namespace gpu {

// One axis of a sample: the two neighbouring pixels and their weights.
template <typename T>
struct Axis {
  int first;            // the lower pixel, or the upper one if the lower is outside
  bool lower_inside;
  bool upper_inside;
  T lower_weight;  // 0 if the pixel is outside
  T upper_weight;
};

// Returns true if a sample touches the map; false for NaN and infinities.
template <typename T>
BEVSTACK_DEVICE inline bool touches(T x, T y, int width, int height) {
  return x > T(-1) && x < T(width) && y > T(-1) && y < T(height);
}

// Computes the neighbouring pixels of a position between -1 and size, both excluded.
template <typename T>
BEVSTACK_DEVICE inline Axis<T> split(T position, int size) {
  const T whole = floor_of(position);
  const T fraction = position - whole;
  const int lower = int(whole);
  Axis<T> axis;
  axis.lower_inside = lower >= 0;
  axis.upper_inside = lower + 1 < size;
  axis.first = axis.lower_inside ? lower : 0;
  axis.lower_weight = axis.lower_inside ? T(1) - fraction : T(0);
  axis.upper_weight = axis.upper_inside ? fraction : T(0);
  return axis;
}

// Bits for the neighbouring pixels of a sample that are inside the map.
enum : int { kLeft = 1, kRight = 2, kTop = 4, kBottom = 8 };

template <typename T>
BEVSTACK_DEVICE inline int inside_bits(const Axis<T>& x, const Axis<T>& y) {
  return (x.lower_inside ? kLeft : 0) | (x.upper_inside ? kRight : 0) |
         (y.lower_inside ? kTop : 0) | (y.upper_inside ? kBottom : 0);
}

template <typename T>
struct SampleGradient {
  T x, y, factor;
};

// Computes the gradients of a sample from the inner products of the output's gradient with the
// corners (y0, x0), (y0, x1), (y1, x0) and (y1, x1). The result is linear in them, so each lane may
// sum a part of the channels. The corners come from the floor, so the derivative at integer
// positions is the right-hand one.
template <typename T>
BEVSTACK_DEVICE inline SampleGradient<T> sample_gradient(
    const T (&product)[4], T left, T right, T top, T bottom, int inside, T factor) {
  const T upper = left * product[0] + right * product[1];
  const T lower = left * product[2] + right * product[3];
  const T first = top * product[0] + bottom * product[2];
  const T second = top * product[1] + bottom * product[3];
  const T to_x = (inside & kRight ? second : T(0)) - (inside & kLeft ? first : T(0));
  const T to_y = (inside & kBottom ? lower : T(0)) - (inside & kTop ? upper : T(0));
  return {factor * to_x, factor * to_y, top * upper + bottom * lower};
}

// Returns p / divisor for 0 <= p < 2^21 without an integer division. p + 0.5 is at least 0.5 away
// from every multiple of the divisor, so rounding errors cannot change the result.
BEVSTACK_DEVICE inline int quotient(int p, float inverse_of_divisor) {
  return int((float(p) + 0.5f) * inverse_of_divisor);
}

// Position of one point of one output.
template <typename T>
struct Position {
  T x, y;              // in pixels of its map
  int width, height;   // of its map
  int first;           // index of the map's first pixel in the image
};

}  // namespace gpu
}  // namespace bevstack
