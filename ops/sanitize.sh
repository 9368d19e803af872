#!/bin/sh
# Builds the kernels with address and undefined-behaviour sanitizers into build/sanitized. Then runs
# the operators' tests on them with every instruction set of this machine. From the project's root:
#
#     PYTHON=.venv/bin/python sh ops/sanitize.sh
set -eu
python=${PYTHON:-python3}
out=$PWD/build/sanitized
mkdir -p "$out/bin"
# torch accepts the compiler as one word only, so a wrapper script named c++ adds the flags.
printf '#!/bin/sh\nexec g++ -fsanitize=address,undefined -fno-sanitize-recover=undefined "$@"\n' \
  > "$out/bin/c++"
chmod +x "$out/bin/c++"
PATH="$out/bin:$PATH" CXX=c++ BEVSTACK_BUILD_OPS=require "$python" setup.py -q build --build-base "$out"
for level in default avx2 avx512; do
  echo "instruction set: $level"
  ATEN_CPU_CAPABILITY=$level ASAN_OPTIONS=detect_leaks=0 \
    LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" \
    "$python" -m pytest -q -p no:cacheprovider -W error::RuntimeWarning \
    -o pythonpath="$(ls -d "$out"/lib*) ." -k "not compiles and not reference" \
    tests/ops/test_dcnv3.py tests/ops/test_dcnv3_in_torch.py tests/ops/test_half.py \
    tests/ops/test_ms_deform_attn.py tests/ops/test_ms_deform_attn_in_torch.py
done
