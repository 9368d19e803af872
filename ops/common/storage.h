// Reading and writing of numbers that are stored with fewer bits than the arithmetic uses.
#pragma once

#include "common/sampling.h"
#include "common/simd.h"

namespace bevstack {
namespace BEVSTACK_ISA {

template <int N>
using Bits16 = typename VectorOf<uint16_t, N>::type;
template <int N>
using Bits32 = typename VectorOf<uint32_t, N>::type;

template <int N>
BEVSTACK_INLINE Bits32<N> load_bits(const uint16_t* from) {
  Bits16<N> bits;
  __builtin_memcpy(&bits, from, sizeof bits);
  return __builtin_convertvector(bits, Bits32<N>);
}

template <int N>
BEVSTACK_INLINE void store_bits(uint16_t* to, Bits32<N> bits) {
  const Bits16<N> low = __builtin_convertvector(bits, Bits16<N>);
  __builtin_memcpy(to, &low, sizeof low);
}

template <int N>
BEVSTACK_INLINE Vector<float, N> widen(const BFloat16* from) {
  return (Vector<float, N>)(load_bits<N>(&from->bits) << 16);
}

// Rounds to nearest, ties to even; every NaN becomes the same NaN.
template <int N>
BEVSTACK_INLINE void narrow(BFloat16* to, Vector<float, N> numbers) {
  const Bits32<N> bits = (Bits32<N>)numbers;
  const Bits32<N> rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  store_bits<N>(&to->bits, numbers == numbers ? rounded : Bits32<N>{} + 0x7fc0);
}

#if defined(__AVX512F__) || defined(__F16C__)
template <int N>
BEVSTACK_INLINE Vector<float, N> widen(const Half* from) {
#if defined(__AVX512F__)
  if constexpr (N == 16) {
    return (Vector<float, N>)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i*)from));
  }
#endif
  if constexpr (N == 8) {
    return (Vector<float, N>)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from));
  } else if constexpr (N == 4) {
    return (Vector<float, N>)_mm_cvtph_ps(_mm_loadl_epi64((const __m128i*)from));
  }
}

template <int N>
BEVSTACK_INLINE void narrow(Half* to, Vector<float, N> numbers) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
#if defined(__AVX512F__)
  if constexpr (N == 16) {
    _mm256_storeu_si256((__m256i*)to, _mm512_maskz_cvtps_ph(0xffff, (__m512)numbers, kNearest));
  }
#endif
  if constexpr (N == 8) {
    _mm_storeu_si128((__m128i*)to, _mm256_cvtps_ph((__m256)numbers, kNearest));
  } else if constexpr (N == 4) {
    _mm_storel_epi64((__m128i*)to, _mm_cvtps_ph((__m128)numbers, kNearest));
  }
}
#else
// The biases of the exponents differ by 112; an exponent of all ones is kept.
template <int N>
BEVSTACK_INLINE Vector<float, N> widen(const Half* from) {
  const Bits32<N> bits = load_bits<N>(&from->bits);
  const Bits32<N> magnitude = (bits & 0x7fff) << 13;
  const Bits32<N> finite = (Bits32<N>)((Vector<float, N>)magnitude * 0x1p112f);
  const Bits32<N> chosen = magnitude < 0x0f800000 ? finite : magnitude | 0x7f800000;
  return (Vector<float, N>)(chosen | (bits & 0x8000) << 16);
}

template <int N>
BEVSTACK_INLINE void narrow(Half* to, Vector<float, N> numbers) {
  const Bits32<N> bits = (Bits32<N>)numbers;
  const Bits32<N> magnitude = bits & 0x7fffffff;
  // Below 2^-14 the last bit is worth 2^-24: adding 0.5 rounds at that bit and makes it the lowest.
  const Bits32<N> tiny = (Bits32<N>)((Vector<float, N>)magnitude + 0.5f) - 0x3f000000;
  const Bits32<N> usual = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  const Bits32<N> none = {};
  const Bits32<N> large = magnitude > 0x7f800000 ? none + 0x7e00 : none + 0x7c00;
  Bits32<N> chosen = magnitude < 0x38800000 ? tiny : usual;
  chosen = magnitude >= 0x477ff000 ? large : chosen;  // 65520 and above round to infinity
  store_bits<N>(&to->bits, chosen | (bits >> 16 & 0x8000));
}
#endif

// Reads N numbers of any storage type as the type of the arithmetic.
template <typename T, int N, typename S>
BEVSTACK_INLINE Vector<T, N> read(const S* from) {
  if constexpr (sizeof(S) == sizeof(T)) {
    return load<Vector<T, N>>(from);
  } else {
    return widen<N>(from);
  }
}

template <typename T, int N, typename S>
BEVSTACK_INLINE void write(S* to, Vector<T, N> numbers) {
  if constexpr (sizeof(S) == sizeof(T)) {
    store(to, numbers);
  } else {
    narrow<N>(to, numbers);
  }
}

template <typename T, typename S>
BEVSTACK_INLINE T read_one(const S* from) {
  if constexpr (sizeof(S) == sizeof(T)) {
    return *from;
  } else {
    const S padded[4] = {*from, {}, {}, {}};
    return widen<4>(padded)[0];
  }
}

template <typename T, typename S>
BEVSTACK_INLINE void write_one(S* to, T number) {
  if constexpr (sizeof(S) == sizeof(T)) {
    *to = number;
  } else {
    S narrowed[4];
    narrow<4>(narrowed, Vector<T, 4>{number, 0, 0, 0});
    *to = narrowed[0];
  }
}

template <typename S>
void widen_all(const S* from, int64_t count, float* to) {
  constexpr int L = kLanes<float>;
  int64_t k = 0;
  for (; k + L <= count; k += L) store(to + k, widen<L>(from + k));
  for (; k < count; ++k) to[k] = read_one<float>(from + k);
}

template <typename S>
void narrow_all(const float* from, int64_t count, S* to) {
  constexpr int L = kLanes<float>;
  int64_t k = 0;
  for (; k + L <= count; k += L) narrow<L>(to + k, load<Vector<float>>(from + k));
  for (; k < count; ++k) write_one<float>(to + k, from[k]);
}

template <typename T>
const T* copy_points(const void* array, Storage storage, int64_t first, int64_t count, T* buffer) {
  if constexpr (sizeof(T) == 4) {
    if (storage == Storage::half) {
      widen_all(static_cast<const Half*>(array) + first, count, buffer);
      return buffer;
    }
    if (storage == Storage::bfloat16) {
      widen_all(static_cast<const BFloat16*>(array) + first, count, buffer);
      return buffer;
    }
  }
  __builtin_memcpy(buffer, static_cast<const T*>(array) + first, uint64_t(count) * sizeof(T));
  return buffer;
}

// Returns `count` numbers of an array over points, starting at number `first`, as T. The caller may
// read full registers: numbers of another type, or too near to the array's end, are copied to
// `buffer`.
template <typename T>
BEVSTACK_INLINE const T* points_of(const void* array, Storage storage, int64_t first, int64_t count,
                                   int64_t length, T* buffer) {
  if (storage == Storage::computing && first + count + 2 * kLanes<T> <= length) {
    return static_cast<const T*>(array) + first;
  }
  return copy_points(array, storage, first, count, buffer);
}

// Writes `count` numbers to an array over points, starting at number `first`, unless `numbers`
// already is that part of the array.
template <typename T>
void keep_points(const T* numbers, Storage storage, int64_t first, int64_t count, void* array) {
  if (storage == Storage::computing) {
    T* const to = static_cast<T*>(array) + first;
    if (numbers != to) __builtin_memcpy(to, numbers, uint64_t(count) * sizeof(T));
  }
  if constexpr (sizeof(T) == 4) {
    if (storage == Storage::half) narrow_all(numbers, count, static_cast<Half*>(array) + first);
    if (storage == Storage::bfloat16) {
      narrow_all(numbers, count, static_cast<BFloat16*>(array) + first);
    }
  }
}

}  // namespace BEVSTACK_ISA
}  // namespace bevstack
