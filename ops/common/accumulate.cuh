// Sums that many threads add to concurrently: the gradient to the values.
//
// FloatingSum adds in the order in which threads arrive, so the last bits differ between runs.
// FixedPointSum adds integers, whose sum does not depend on the order.
#pragma once

#include "common/numbers.cuh"

namespace bevstack {
namespace gpu {

template <typename T>
struct FloatingSum {
  T* sums;

  // The same sums, starting at `index`.
  BEVSTACK_DEVICE FloatingSum from(int64_t index) const { return {as_it_is(sums + index)}; }

  // Adds N numbers to the sums that start at index `units` * `size`.
  template <int N>
  BEVSTACK_DEVICE void add(int units, int size, const T (&numbers)[N]) const {
    T* to = advance(sums, units, size);
#if defined(__CUDA_ARCH__)
    if constexpr (sizeof(T) == 4 && N % 4 == 0) {
      BEVSTACK_UNROLL
      for (int i = 0; i < N; i += 4) add_four(to + i, numbers + i);
    } else {
      BEVSTACK_UNROLL
      for (int i = 0; i < N; ++i) add_one(to + i, numbers[i]);
    }
#else
    for (int i = 0; i < N; ++i) to[i] += numbers[i];
#endif
  }

#if defined(__CUDA_ARCH__)
 private:
  // Inline PTX: it states that the address is in global memory and that the old value is not
  // returned.
  __device__ static void add_one(float* to, float number) {
    asm volatile("red.relaxed.gpu.global.add.f32 [%0], %1;" ::"l"(__cvta_generic_to_global(to)),
                 "f"(number)
                 : "memory");
  }
  __device__ static void add_one(double* to, double number) {
    asm volatile("red.relaxed.gpu.global.add.f64 [%0], %1;" ::"l"(__cvta_generic_to_global(to)),
                 "d"(number)
                 : "memory");
  }
  __device__ static void add_four(T* to, const T* numbers) {
#if __CUDA_ARCH__ >= 900
    asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(
                     __cvta_generic_to_global(to)),
                 "f"(numbers[0]), "f"(numbers[1]), "f"(numbers[2]), "f"(numbers[3])
                 : "memory");
#else
    BEVSTACK_UNROLL
    for (int i = 0; i < 4; ++i) add_one(to + i, numbers[i]);
#endif
  }
#endif
};

// Returns the bits that a number may have so that a sum of 2^log2_count numbers is at most 2^60.
BEVSTACK_DEVICE inline int free_bits(const FixedPoint& fixed) {
  return 60 - fixed.log2_count;
}

// One unit of a sum is 2^-exponent.
BEVSTACK_DEVICE inline int exponent_of(const FixedPoint& fixed) {
  double bound;
  memcpy(&bound, fixed.bound, sizeof bound);
  if (bound == 0) return 0;
  const int exponent = free_bits(fixed) - 1 - ilogb(bound);
  return exponent > 1000 ? 1000 : exponent;
}

// Sums are even integers. A number that is not finite sets bit 0 for good: the sum is then NaN. For
// float64 a second integer sums the rounding remainders of the first.
template <typename T>
struct FixedPointSum {
  FixedPoint fixed;
  double scale;  // 2^exponent
  uint64_t* sums;

  BEVSTACK_DEVICE FixedPointSum from(int64_t index) const { return {fixed, scale, sums + index}; }

  template <int N>
  BEVSTACK_DEVICE void add(int units, int size, const T (&numbers)[N]) const {
    uint64_t* to = advance(sums, units, size);
    BEVSTACK_UNROLL
    for (int i = 0; i < N; ++i) add_one(to + i, numbers[i]);
  }

  BEVSTACK_DEVICE void add_one(uint64_t* sum, T number) const {
    if (!is_finite(number)) {
#if defined(__CUDA_ARCH__)
      atomicOr(reinterpret_cast<unsigned long long*>(sum), 1ull);
#else
      *sum |= 1;
#endif
      return;
    }
    const double scaled = double(number) * scale, whole = rint(scaled);
    add_integer(sum, whole);
    if constexpr (sizeof(T) == 8) {
      add_integer(sum + fixed.size, rint(ldexp(scaled - whole, free_bits(fixed))));
    }
  }

 private:
  BEVSTACK_DEVICE static void add_integer(uint64_t* sum, double whole) {
    const uint64_t number = uint64_t(int64_t(whole)) * 2;  // two's complement: sums may wrap
#if defined(__CUDA_ARCH__)
    atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(number));
#else
    *sum += number;
#endif
  }
};

// Makes the sum that a kernel adds to from the kernel's argument.
template <typename T>
BEVSTACK_DEVICE inline FloatingSum<T> begin_sum(const FloatingSum<T>& sum) {
  return sum;
}
template <typename T>
BEVSTACK_DEVICE inline FixedPointSum<T> begin_sum(const FixedPoint& fixed) {
  return {fixed, ldexp(1.0, exponent_of(fixed)), fixed.sums};
}

// Returns sum `index` as a number.
template <typename T>
BEVSTACK_DEVICE inline T read_sum(const FixedPoint& fixed, int64_t index) {
  const uint64_t bits = fixed.sums[index];
  if ((bits & 1) != 0) return T(NAN);
  double sum = double(int64_t(bits) / 2);
  if constexpr (sizeof(T) == 8) {
    sum += ldexp(double(int64_t(fixed.sums[index + fixed.size]) / 2), -free_bits(fixed));
  }
  return T(ldexp(sum, -exponent_of(fixed)));
}

// Raises a bound to a magnitude. The bits of positive numbers have the same order as the numbers.
BEVSTACK_DEVICE inline void raise_bound(uint64_t* bound, double magnitude) {
  uint64_t bits;
  memcpy(&bits, &magnitude, sizeof bits);
#if defined(__CUDA_ARCH__)
  atomicMax(reinterpret_cast<unsigned long long*>(bound), static_cast<unsigned long long>(bits));
#else
  if (bits > *bound) *bound = bits;
#endif
}

}  // namespace gpu
}  // namespace bevstack
