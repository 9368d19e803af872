// Vectors with the width of one register of the instruction set that the including file is compiled
// for.
//
// All code that the files of one instruction set include is in the namespace BEVSTACK_ISA, which
// they define. It uses neither torch nor the standard library: the linker would merge an inline
// function that two instruction sets share, and might keep the version that older machines cannot
// run.
#pragma once

#include <stdint.h>
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>  // inline or built-in functions only: nothing for the linker to merge
#endif

// All functions here are inlined, so the calling convention of vectors does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"

#define BEVSTACK_INLINE inline __attribute__((always_inline))
#define BEVSTACK_LAMBDA __attribute__((always_inline))

namespace bevstack {
namespace BEVSTACK_ISA {

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
#elif defined(__AVX2__)
constexpr int kRegisterBytes = 32;
#else
constexpr int kRegisterBytes = 16;
#endif

template <typename T>
struct IntegerOf;
template <>
struct IntegerOf<float> {
  using type = int32_t;
};
template <>
struct IntegerOf<double> {
  using type = int64_t;
};
// The integer of the same size: the type of comparison results and of indices.
template <typename T>
using Integer = typename IntegerOf<T>::type;

template <typename T>
struct UnsignedOf;
template <>
struct UnsignedOf<float> {
  using type = uint32_t;
};
template <>
struct UnsignedOf<double> {
  using type = uint64_t;
};
template <typename T>
using Unsigned = typename UnsignedOf<T>::type;

// At least four lanes, because a sample has four corners.
template <typename T>
constexpr int kLanes = kRegisterBytes / int(sizeof(T)) < 4 ? 4 : kRegisterBytes / int(sizeof(T));

template <typename T, int N>
struct VectorOf {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <typename T, int N = kLanes<T>>
using Vector = typename VectorOf<T, N>::type;

template <typename V, typename T>
BEVSTACK_INLINE V load(const T* from) {
  V vector;
  __builtin_memcpy(&vector, from, sizeof(V));
  return vector;
}

template <typename V, typename T>
BEVSTACK_INLINE void store(T* to, V vector) {
  __builtin_memcpy(to, &vector, sizeof(V));
}

template <typename V, typename T>
BEVSTACK_INLINE V broadcast(T number) {
  return number - V{};
}

template <typename T>
BEVSTACK_INLINE Vector<T> floor_of(const Vector<T>& numbers) {
#if defined(__AVX512F__)
  // Masked, with all lanes set: some compilers warn about undefined lanes of the plain form.
  constexpr int kDown = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
  if constexpr (sizeof(T) == 4) {
    return (Vector<T>)_mm512_maskz_roundscale_ps(0xffff, (__m512)numbers, kDown);
  } else {
    return (Vector<T>)_mm512_maskz_roundscale_pd(0xff, (__m512d)numbers, kDown);
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    return (Vector<T>)_mm256_floor_ps((__m256)numbers);
  } else {
    return (Vector<T>)_mm256_floor_pd((__m256d)numbers);
  }
#else
  using V = Vector<T>;
  using I = Vector<Integer<T>>;
  const V toward_zero = __builtin_convertvector(__builtin_convertvector(numbers, I), V);
  return toward_zero - ((numbers < toward_zero) ? V{} + T(1) : V{});
#endif
}

template <typename V, typename M>
BEVSTACK_INLINE V select(M mask, V yes, V no) {
  return mask ? yes : no;
}

// Lane i of the result is lane from(i) of a followed by b.
template <typename T, int N, typename From>
BEVSTACK_INLINE Vector<T, N> shuffle(Vector<T, N> a, Vector<T, N> b, From from) {
#if defined(__clang__)
  Vector<T, N> result;
  for (int i = 0; i < N; ++i) result[i] = from(i) < N ? a[from(i)] : b[from(i) - N];
  return result;
#else
  Vector<Integer<T>, N> lanes = {};
  for (int i = 0; i < N; ++i) lanes[i] = from(i);
  return __builtin_shuffle(a, b, lanes);
#endif
}

// Repeats four numbers in N lanes.
template <typename T, int N>
BEVSTACK_INLINE Vector<T, N> repeat_four(const T* from) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4 && N == 16) {
    return (Vector<T, N>)_mm512_maskz_broadcast_f32x4(0xffff, _mm_loadu_ps(from));
  } else if constexpr (sizeof(T) == 8 && N == 8) {
    return (Vector<T, N>)_mm512_maskz_broadcast_f64x4(0xff, _mm256_loadu_pd(from));
  }
#endif
#if defined(__AVX__)
  if constexpr (sizeof(T) == 4 && N == 8) {
    return (Vector<T, N>)_mm256_broadcast_ps((const __m128*)from);
  }
#endif
  if constexpr (N == 4) return load<Vector<T, N>>(from);
}

// Copies lane kWhich of each four lanes to all four.
template <typename T, int N, int kWhich>
BEVSTACK_INLINE Vector<T, N> spread(Vector<T, N> fours) {
  return shuffle<T, N>(fours, fours, [](int i) { return i / 4 * 4 + kWhich; });
}

// One step of summing the lanes of two vectors at once. In each run of 2 * step lanes, the first
// half of the result is the sum of the halves of a, the second that of the halves of b.
template <typename T, int N, int kStep>
BEVSTACK_INLINE Vector<T, N> fold(Vector<T, N> a, Vector<T, N> b) {
  const auto low = [](int i) { return (i & ~kStep) + (i & kStep ? N : 0); };
  const auto high = [](int i) { return (i | kStep) + (i & kStep ? N : 0); };
  return shuffle<T, N>(a, b, low) + shuffle<T, N>(a, b, high);
}

// Returns e^argument for an argument of at most 0, to about one unit in the last place; 0 if the
// result is not a normal number.
template <typename T>
BEVSTACK_INLINE Vector<T> exp_negative(const Vector<T>& argument) {
  using V = Vector<T>;
  using I = Vector<Integer<T>>;
  constexpr bool kSingle = sizeof(T) == 4;
  constexpr int kDegree = kSingle ? 7 : 13;
  constexpr int kMantissaBits = kSingle ? 23 : 52;
  constexpr T kSmallest = kSingle ? T(-87.3) : T(-708.3);
  constexpr T kLn2High = kSingle ? T(0.693359375) : T(6.93147180369123816490e-01);
  constexpr T kLn2Low = kSingle ? T(-2.12194440e-4) : T(1.90821492927058770002e-10);
  const V zero = {};
  const I tiny = argument < zero + kSmallest;
  V x = select(tiny, zero, argument);
  const I exponent = __builtin_convertvector(x * T(1.44269504088896340736) - T(0.5), I);
  const V whole = __builtin_convertvector(exponent, V);
  x = (x - whole * kLn2High) - whole * kLn2Low;
  V sum = zero + T(1);
  for (int k = kDegree; k > 0; --k) sum = sum * x * (T(1) / T(k)) + T(1);
  const I bits = (exponent + ((1 << (kSingle ? 7 : 10)) - 1)) << kMantissaBits;
  return select(tiny, zero, sum * (V)bits);
}

}  // namespace BEVSTACK_ISA
}  // namespace bevstack
