// The chosen instruction set as an operator, for Python.
#include <string>

#include <torch/library.h>

#include "common/levels.h"

TORCH_LIBRARY_FRAGMENT(bevstack, m) {
  m.def("cpu_instruction_set() -> str",
        []() -> std::string { return bevstack::instruction_set_name(); });
}
