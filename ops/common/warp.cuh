// Thirty-two lanes in lockstep: a warp on the GPU, a loop on the CPU.
//
// A program for them is a sequence of phases. In `each` every lane does its part and then waits
// until all lanes can read the shared memory that the phase wrote; `each_alone` does not wait. A
// lane's value that outlives a phase is stored in Each<T>. A team is a power of two of neighbouring
// lanes; all teams of a warp have the same size.
#pragma once

#include "common/numbers.cuh"

namespace bevstack {
namespace gpu {

constexpr int kWarpLanes = 32;

#if defined(__CUDACC__)

struct DeviceWarp {
  template <typename T>
  struct Each {
    T own;
    __device__ T& operator[](int) { return own; }
  };

  __device__ static int lane() { return int(threadIdx.x) & (kWarpLanes - 1); }

  template <typename Work>
  __device__ void each(Work work) const {
    work(lane());
    __syncwarp();
  }
  template <typename Work>
  __device__ void each_alone(Work work) const {
    work(lane());
  }
  __device__ void wait() const { __syncwarp(); }

  // Replaces every lane's number by that of the lane whose index differs in bit `step`.
  template <typename T>
  __device__ void exchange(Each<T>& number, int step) const {
    number.own = __shfl_xor_sync(~0u, number.own, step);
  }
};

#else

struct HostWarp {
  bool backwards;  // run from the last lane to the first; results must not depend on it

  template <typename T>
  struct Each {
    T of[kWarpLanes];
    T& operator[](int lane) { return of[lane]; }
  };

  template <typename Work>
  void each(Work work) const {
    for (int k = 0; k < kWarpLanes; ++k) work(backwards ? kWarpLanes - 1 - k : k);
  }
  template <typename Work>
  void each_alone(Work work) const {
    each(work);
  }
  void wait() const {}
  template <typename T>
  void exchange(Each<T>& number, int step) const {
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      if ((lane & step) != 0) continue;
      const T swapped = number[lane];
      number[lane] = number[lane | step];
      number[lane | step] = swapped;
    }
  }
};

#endif

template <class Warp, typename T>
using Each = typename Warp::template Each<T>;

// Gives every lane the largest number of its team.
template <class Warp, class E>
BEVSTACK_DEVICE inline void team_largest(Warp warp, E& number, int lanes) {
  for (int step = 1; step < lanes; step *= 2) {
    E other = number;
    warp.exchange(other, step);
    warp.each_alone([&](int lane) { number[lane] = larger_of(number[lane], other[lane]); });
  }
}

// Gives every lane the sum over its team.
template <class Warp, class E>
BEVSTACK_DEVICE inline void team_sum(Warp warp, E& number, int lanes) {
  for (int step = 1; step < lanes; step *= 2) {
    E other = number;
    warp.exchange(other, step);
    warp.each_alone([&](int lane) { number[lane] += other[lane]; });
  }
}

// Sums three numbers over each team of at least two lanes. Calls write(lane, which, sum) once for
// each sum. The first exchanges halve the numbers that a lane holds: in a team of four, lanes 0, 2
// and 1 have one sum each after three exchanges instead of six.
template <class Warp, class E, typename Write>
BEVSTACK_DEVICE inline void team_sums(Warp warp, E (&n)[3], int lanes, Write write) {
  E sent, other;
  warp.each_alone([&](int lane) {
    const bool odd = lane & 1;
    sent[lane] = odd ? n[0][lane] : n[2][lane];
    other[lane] = odd ? n[1][lane] : 0;
  });
  warp.exchange(sent, 1);
  warp.exchange(other, 1);
  warp.each_alone([&](int lane) {  // even lanes continue with sums 0 and 1, odd ones with sum 2
    const bool odd = lane & 1;
    n[0][lane] = (odd ? n[2][lane] : n[0][lane]) + sent[lane];
    n[1][lane] = odd ? 0 : n[1][lane] + other[lane];
  });
  if (lanes == 2) {
    warp.each_alone([&](int lane) {
      write(lane, lane & 1 ? 2 : 0, n[0][lane]);
      if ((lane & 1) == 0) write(lane, 1, n[1][lane]);
    });
    return;
  }
  warp.each_alone([&](int lane) { sent[lane] = lane & 2 ? n[0][lane] : n[1][lane]; });
  warp.exchange(sent, 2);
  warp.each_alone([&](int lane) {
    n[0][lane] = (lane & 2 ? n[1][lane] : n[0][lane]) + sent[lane];
  });
  for (int step = 4; step < lanes; step *= 2) {
    sent = n[0];
    warp.exchange(sent, step);
    warp.each_alone([&](int lane) { n[0][lane] += sent[lane]; });
  }
  warp.each_alone([&](int lane) {
    const int place = lane & (lanes - 1);
    if (place < 3) write(lane, place == 0 ? 0 : 3 - place, n[0][lane]);
  });
}

}  // namespace gpu
}  // namespace bevstack
