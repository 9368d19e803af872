#include "common/levels.h"

#include <cstdlib>
#include <cstring>

namespace bevstack {

namespace {

InstructionSet best_of_machine() {
#if defined(__x86_64__) || defined(_M_X64)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return InstructionSet::avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    return InstructionSet::avx2;
  }
#endif
  return InstructionSet::baseline;
}

InstructionSet choose() {
  const InstructionSet best = best_of_machine();
  // torch's kernels read the same variable, so that one setting applies to both.
  const char* asked = std::getenv("ATEN_CPU_CAPABILITY");
  if (asked == nullptr) return best;
  if (std::strcmp(asked, "default") == 0) return InstructionSet::baseline;
  if (std::strcmp(asked, "avx2") == 0 && best == InstructionSet::avx512) {
    return InstructionSet::avx2;
  }
  return best;
}

}  // namespace

InstructionSet instruction_set() {
  static const InstructionSet chosen = choose();
  return chosen;
}

const char* instruction_set_name() {
  switch (instruction_set()) {
    case InstructionSet::avx512:
      return "avx512";
    case InstructionSet::avx2:
      return "avx2";
    default:
      return "baseline";
  }
}

}  // namespace bevstack
