// Number types for storage and for arithmetic, and conversions between them.
//
// This and the other .cuh files also compile with a plain C++ compiler: the tests run their code on
// the CPU, one lane after the other.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include "common/tensors.h"

// BEVSTACK_DEVICE marks a part of the kernels that the tests also call on the CPU.
#if defined(__CUDACC__)
#define BEVSTACK_DEVICE __device__
#define BEVSTACK_UNROLL _Pragma("unroll")
#define BEVSTACK_NO_UNROLL _Pragma("unroll 1")
#else
#define BEVSTACK_DEVICE
#define BEVSTACK_UNROLL
#define BEVSTACK_NO_UNROLL
#endif

namespace bevstack {

namespace gpu {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// The type of the arithmetic: coordinates, weights, sums.
template <typename V>
struct ComputingOf {
  using type = float;
};
template <>
struct ComputingOf<double> {
  using type = double;
};
template <typename V>
using Computing = typename ComputingOf<V>::type;

BEVSTACK_DEVICE inline float float_of_bits(uint32_t bits) {
  float number;
  memcpy(&number, &bits, sizeof number);
  return number;
}

BEVSTACK_DEVICE inline uint32_t bits_of_float(float number) {
  uint32_t bits;
  memcpy(&bits, &number, sizeof bits);
  return bits;
}

BEVSTACK_DEVICE inline double widen(double number) { return number; }
BEVSTACK_DEVICE inline float widen(float number) { return number; }
BEVSTACK_DEVICE inline float widen(BFloat16 number) {
  return float_of_bits(uint32_t(number.bits) << 16);
}
BEVSTACK_DEVICE inline float widen(Half number) {
#if defined(__CUDACC__)
  __half_raw raw;
  raw.x = number.bits;
  return __half2float(__half(raw));
#else
  _Float16 half;
  memcpy(&half, &number.bits, sizeof half);
  return float(half);
#endif
}

// Rounds to the nearest number of a type, ties to even.
template <typename V>
struct Round {
  BEVSTACK_DEVICE static V from(Computing<V> number) { return number; }
};
template <>
struct Round<BFloat16> {
  BEVSTACK_DEVICE static BFloat16 from(float number) {
#if defined(__CUDACC__)
    return {static_cast<__nv_bfloat16_raw>(__float2bfloat16_rn(number)).x};
#else
    const uint32_t bits = bits_of_float(number);
    if (number != number) return {uint16_t((bits >> 16) | 0x40)};
    return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
#endif
  }
};
template <>
struct Round<Half> {
  BEVSTACK_DEVICE static Half from(float number) {
#if defined(__CUDACC__)
    return {static_cast<__half_raw>(__float2half_rn(number)).x};
#else
    const _Float16 half = _Float16(number);
    Half rounded;
    memcpy(&rounded.bits, &half, sizeof half);
    return rounded;
#endif
  }
};

// A product that the compiler does not fuse with a following addition.
template <typename T>
BEVSTACK_DEVICE inline T rounded_product(T a, T b) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == 4) {
    return __fmul_rn(a, b);
  } else {
    return __dmul_rn(a, b);
  }
#else
  volatile T product = a * b;
  return product;
#endif
}

BEVSTACK_DEVICE inline float floor_of(float number) { return floorf(number); }
BEVSTACK_DEVICE inline double floor_of(double number) { return floor(number); }
BEVSTACK_DEVICE inline float exp_of(float number) { return expf(number); }
BEVSTACK_DEVICE inline double exp_of(double number) { return exp(number); }
BEVSTACK_DEVICE inline float larger_of(float a, float b) { return fmaxf(a, b); }
BEVSTACK_DEVICE inline double larger_of(double a, double b) { return fmax(a, b); }

// Returns false for NaN and infinities.
template <typename T>
BEVSTACK_DEVICE inline bool is_finite(T number) {
  return number - number == T(0);
}

template <typename T, int N>
struct Numbers {
  T of[N];
};

// Reads N neighbouring numbers: either 16 bytes in one access, or one number.
template <int N, typename V>
BEVSTACK_DEVICE inline void load_channels(const V* from, Computing<V> (&to)[N]) {
  static_assert(N == 1 || N * sizeof(V) == 16, "one number or one 128-bit access");
#if defined(__CUDA_ARCH__)
  if constexpr (N == 1) {
    V one;
    if constexpr (sizeof(V) == 2) {
      one.bits = __ldg(&from->bits);
    } else {
      one = __ldg(from);
    }
    to[0] = widen(one);
  } else {
    const uint4 all = __ldg(reinterpret_cast<const uint4*>(from));
    const uint32_t words[4] = {all.x, all.y, all.z, all.w};
    BEVSTACK_UNROLL
    for (int i = 0; i < 4; ++i) {
      if constexpr (sizeof(V) == 4) {
        to[i] = __uint_as_float(words[i]);
      } else {
        to[2 * i] = widen(V{uint16_t(words[i] & 0xffff)});
        to[2 * i + 1] = widen(V{uint16_t(words[i] >> 16)});
      }
    }
  }
#else
  for (int i = 0; i < N; ++i) to[i] = widen(from[i]);
#endif
}

template <int N, typename V>
BEVSTACK_DEVICE inline void store_channels(V* to, const Computing<V> (&from)[N]) {
  static_assert(N == 1 || N * sizeof(V) == 16, "one number or one 128-bit access");
#if defined(__CUDA_ARCH__)
  if constexpr (N == 1) {
    *to = Round<V>::from(from[0]);
  } else {
    uint32_t words[4];
    BEVSTACK_UNROLL
    for (int i = 0; i < 4; ++i) {
      if constexpr (sizeof(V) == 4) {
        words[i] = __float_as_uint(from[i]);
      } else {
        words[i] = uint32_t(Round<V>::from(from[2 * i]).bits) |
                   uint32_t(Round<V>::from(from[2 * i + 1]).bits) << 16;
      }
    }
    *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
  }
#else
  for (int i = 0; i < N; ++i) to[i] = Round<V>::from(from[i]);
#endif
}

// Reads or writes pair (x, y) number `index` of an array in one access.
template <typename O>
BEVSTACK_DEVICE inline void load_pair(const O* from, int64_t index, O& x, O& y) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(O) == 2) {
    const uint32_t both = reinterpret_cast<const uint32_t*>(from)[index];
    x = O{uint16_t(both & 0xffff)};
    y = O{uint16_t(both >> 16)};
    return;
  } else if constexpr (sizeof(O) == 4) {
    const float2 pair = reinterpret_cast<const float2*>(from)[index];
    x = pair.x;
    y = pair.y;
    return;
  }
#endif
  x = from[2 * index];
  y = from[2 * index + 1];
}

template <typename O, typename T>
BEVSTACK_DEVICE inline void store_pair(O* to, int64_t index, T x, T y) {
  const O first = Round<O>::from(x), second = Round<O>::from(y);
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(O) == 2) {
    reinterpret_cast<uint32_t*>(to)[index] = uint32_t(first.bits) | uint32_t(second.bits) << 16;
    return;
  } else if constexpr (sizeof(O) == 4) {
    reinterpret_cast<float2*>(to)[index] = make_float2(first, second);
    return;
  }
#endif
  to[2 * index] = first;
  to[2 * index + 1] = second;
}

// Returns the address `units` * `size` numbers after `from`. It is computed in bytes with one
// instruction; otherwise the compiler adds the indices first and scales each sum again.
template <typename V>
BEVSTACK_DEVICE inline V* advance(V* from, int units, int size) {
  using Byte = std::conditional_t<std::is_const<V>::value, const char, char>;
  Byte* bytes = reinterpret_cast<Byte*>(from);
  return reinterpret_cast<V*>(bytes + int64_t(units) * (size * int64_t(sizeof(V))));
}

// Hides from the compiler how an address was computed, so that it keeps the address in a register.
template <typename V>
BEVSTACK_DEVICE inline V* as_it_is(V* address) {
#if defined(__CUDA_ARCH__)
  asm("" : "+l"(address));
#endif
  return address;
}

// Calls work with a null pointer of the storage type of offsets and factors. In kernels for any
// number of channels (kDepth 0) it is the type T of the arithmetic.
template <typename T, int kDepth, typename Work>
BEVSTACK_DEVICE inline void with_type(NumberType type, Work work) {
  if constexpr (kDepth == 0) {
    work(static_cast<T*>(nullptr));
  } else if (type == NumberType::float32) {
    work(static_cast<float*>(nullptr));
  } else if (type == NumberType::float16) {
    work(static_cast<Half*>(nullptr));
  } else {
    work(static_cast<BFloat16*>(nullptr));
  }
}

// Keeps the compiler from computing results that depend on a number early and holding them in
// registers.
BEVSTACK_DEVICE inline int right_here(int number) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+r"(number));
#endif
  return number;
}

}  // namespace gpu
}  // namespace bevstack
