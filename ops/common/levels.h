// The instruction sets that the kernels are compiled for, and the choice at run time.
#pragma once

namespace bevstack {

enum class InstructionSet { baseline, avx2, avx512 };

InstructionSet instruction_set();
const char* instruction_set_name();

}  // namespace bevstack

// Calls bevstack::<level>::call, compiled for the instruction set of this machine.
#if defined(__x86_64__) || defined(_M_X64)
#define BEVSTACK_ON_THIS_MACHINE(call)                              \
  do {                                                              \
    switch (::bevstack::instruction_set()) {                        \
      case ::bevstack::InstructionSet::avx512:                      \
        ::bevstack::avx512::call;                                   \
        break;                                                      \
      case ::bevstack::InstructionSet::avx2:                        \
        ::bevstack::avx2::call;                                     \
        break;                                                      \
      default:                                                      \
        ::bevstack::baseline::call;                                 \
    }                                                               \
  } while (false)
#else
#define BEVSTACK_ON_THIS_MACHINE(call) ::bevstack::baseline::call
#endif
