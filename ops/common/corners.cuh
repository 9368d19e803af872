// One bilinear sample: its corners, their weights, and its gradients. Pure arithmetic.
#pragma once

#include "common/numbers.cuh"

namespace bevstack {
namespace gpu {

// Along one axis: the two pixels beside a position, and what they weigh.
template <typename T>
struct Axis {
  int first;            // the lower pixel, or the upper one where the lower is outside
  bool lower_inside;
  bool upper_inside;
  T lower_weight;  // 0 where outside
  T upper_weight;
};

// True where a sample touches the map: not for NaN and infinities.
template <typename T>
BEVSTACK_DEVICE inline bool touches(T x, T y, int width, int height) {
  return x > T(-1) && x < T(width) && y > T(-1) && y < T(height);
}

// For a position between -1 and size, both excluded.
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

// Which pixels beside a sample lie inside the map, as bits.
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

// From the inner products of the output's gradient with the corners (y0, x0), (y0, x1), (y1, x0)
// and (y1, x1). Linear in them, so that lanes may each add up a part of the channels. At integer
// positions the derivative is the right-hand one, because the corners come from the floor.
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

// p / divisor for 0 <= p < 2^21, without the cost of a division of integers: the middle of the
// p-th unit is at least half a unit away from where the quotient changes.
BEVSTACK_DEVICE inline int quotient(int p, float inverse_of_divisor) {
  return int((float(p) + 0.5f) * inverse_of_divisor);
}

// Where one point of one output lies.
template <typename T>
struct Position {
  T x, y;              // in pixels of its map
  int width, height;   // of its map
  int first;           // the map's first pixel, counted in pixels of the image
};

}  // namespace gpu
}  // namespace bevstack
