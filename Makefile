# The commands of the README. Needs python3, python3-venv, python3-dev, g++ and make; everything
# else goes into .venv. Without g++ all works too, on the operators' reference kernels.
#
#   make demo                                   the packaged weights, on a scene they never saw
#   make train-demo                             train on a small world and draw the result
#   make test | test-all                        the tests; with the long runs. These install the
#                                               packages of the tests too, the demos do not.
#   make test-ops TORCH=torch==2.11.0           operators and models on another torch
#   make test-numpy2                            everything with the newest numpy
#   make test-ros                               the node with programs of ROS, on Debian 12
#   make test-rerun                             recordings, with rerun's own reader
#   make test-mmdet3d                           as a model of mmdetection3d: docs/mmdet3d.md
#   PYTHON=python3.12 make demo                 another interpreter
#   make demo TORCH_INDEX=URL                   torch from another index, e.g. its small CPU build:
#                                               see https://pytorch.org/get-started/locally/

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
VENV ?= .venv
# Packages beside the base that `make install` and the tests take. All three are named, although dev
# holds the first two: pip reads an extra inside of an extra late, after it has downloaded packages
# that the devkit's numpy<2 then rules out.
EXTRAS ?= test,nuscenes,dev
OLDEST_TORCH = torch==2.11.0

# pip: Debian's 23.0 searches for minutes where a newer one does not. setuptools: below 82, as torch
# 2.11 demands; from 77 on, as pyproject.toml does.
BUILD_TOOLS = "pip>=25" "setuptools>=77.0.3,<82" wheel ninja

CORES := $(shell nproc 2>/dev/null || echo 2)
# The tests run in processes of one thread each: small tensors gain nothing from more threads, and
# processes that each start one thread a core slow each other down. Some need 4 GiB; so, few.
JOBS ?= $(shell [ $(CORES) -lt 4 ] && echo $(CORES) || echo 4)
TEST_PATHS ?= tests
PYTEST = OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n $(JOBS) --dist worksteal

BUILD_INPUTS := pyproject.toml setup.py $(shell find ops -type f 2>/dev/null)

.PHONY: install install-base demo train-demo test test-all lint pytest pytest-all test-ops test-numpy2 test-ros test-rerun \
  test-mmdet3d mmdet3d mmdet3d-packages clean FORCE
.DELETE_ON_ERROR:

install: $(VENV)/.installed-$(or $(EXTRAS),base)
install-base: $(VENV)/.installed-base

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Changes only when another torch is asked for, so that only then it is installed again.
$(VENV)/.torch-wanted: FORCE | $(VENV)/bin/python
	@echo '$(TORCH) $(TORCH_INDEX)' | cmp -s - $@ || echo '$(TORCH) $(TORCH_INDEX)' > $@

define TORCH_NOTE
Next, pip downloads $(TORCH) and its packages: about 3 GB on Linux, because the default build is
the one for NVIDIA GPUs. Without such a GPU, the CPU build of about 200 MB is enough. To take it,
stop here (Ctrl-C) and run the same command with TORCH_INDEX=URL. The selector on
https://pytorch.org/get-started/locally/ shows the URL after --index-url for Pip and CPU.
endef
export TORCH_NOTE

$(VENV)/.torch: $(VENV)/.torch-wanted
	$(if $(TORCH_INDEX),,@$(VENV)/bin/python -m pip install --dry-run --no-index --no-deps '$(TORCH)' \
	  > $(VENV)/.torch-offline 2>&1 || echo "$$TORCH_NOTE")
	$(VENV)/bin/python -m pip install --upgrade $(BUILD_TOOLS)
	$(VENV)/bin/python -m pip install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	@touch $@

# Editable, so that the tests see every change of a Python file; done again when a native source or
# the metadata changes. Without isolation, so that _C is built for the torch just installed; with
# .venv's ninja in sight, so that its files are compiled side by side. Kernels that do not compile are
# no error (BEVSTACK_BUILD_OPS=require makes them one), and pip shows nothing of a build that succeeds:
# doctor tells which operators have got no kernel, why, and what the compiler printed. Every set of
# extras includes the base, so that after `make test` the demos install nothing.
$(VENV)/.installed-%: $(VENV)/.torch $(BUILD_INPUTS)
	PATH="$(abspath $(VENV))/bin:$$PATH" $(VENV)/bin/python -m pip install --no-build-isolation \
	  -e '.$(if $(filter base,$*),,[$*])'
	$(if $(filter base,$*),,$(VENV)/bin/python -m pip install --no-deps $(VCD))
	$(VENV)/bin/bevstack doctor
	@touch $(VENV)/.installed-base $@

# Reader of exported OpenLABEL. Without its dependencies: the tests need none of them, and they take
# 536 MB.
VCD = vcd==6.0.3

# Waiting threads sleep: spinning ones take the processor from those that work.
THREADS = OMP_NUM_THREADS=$(CORES) OMP_WAIT_POLICY=passive

demo: install-base
	$(THREADS) $(VENV)/bin/bevstack demo --out out/demo

train-demo: install-base
	$(THREADS) $(VENV)/bin/bevstack train-demo --out out/train_demo

test: lint pytest
test-all: lint pytest-all

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

pytest: install
	$(PYTEST) -m "not slow" $(TEST_PATHS)

pytest-all: install
	$(PYTEST) $(TEST_PATHS)

# Another torch or numpy gets an environment and a copy of the sources of its own: the compiled
# extension lies beside the Python files and fits one torch only.
COPIED = $(wildcard bevstack configs weights ops tests tools visualize docs benchmarks data/*.py data/*.md *.md \
  LICENSE MANIFEST.in Makefile pyproject.toml setup.py .ci .gitignore .pre-commit-config.yaml)
SHARED = $(if $(BEVSTACK_SHARED),$(BEVSTACK_SHARED),$(CURDIR)/../shared)

define copy_sources
mkdir -p $(1)
find $(1) -type f ! -name '*.so' ! -path '*/.venv/*' -delete
tar -cf - --exclude='*.so' --exclude=_C.json --exclude=__pycache__ $(COPIED) | tar -xf - -C $(1)
endef

test-ops: OPS_TORCH = $(if $(filter file,$(origin TORCH)),$(OLDEST_TORCH),$(TORCH))
test-ops:
	$(call copy_sources,build/test-ops)
	BEVSTACK_SHARED='$(SHARED)' $(MAKE) -C build/test-ops pytest \
	  TORCH='$(OPS_TORCH)' EXTRAS=test TEST_PATHS='tests/ops tests/models'

# Programs of ROS by other authors, of apt and npm, and a network of its own for them: its only
# interface is the loopback, where DDS finds its peers by multicast.
ROS_PEERS = build/ros_peers
ROS_TESTS ?= tests/ros_peers
ROS_NETWORK = ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo

test-ros: install
	sh tests/ros_peers/install.sh $(ROS_PEERS) $(VENV)
	unshare --net --map-root-user sh -c '$(ROS_NETWORK) && exec env OMP_NUM_THREADS=1 \
	  BEVSTACK_ROS_PEERS=$(ROS_PEERS) $(VENV)/bin/python -m pytest -q $(ROS_TESTS)'

# The devkit pins numpy<2 though its metric runs with numpy 2: installed without its pins.
DEVKIT = nuscenes-devkit==1.2.0 descartes
DEVKIT_NEEDS = cachetools fire matplotlib parameterized Pillow pycocotools pyquaternion \
  scikit-learn shapely tqdm

test-numpy2:
	$(call copy_sources,build/test-numpy2)
	$(MAKE) -C build/test-numpy2 install EXTRAS=test
	build/test-numpy2/.venv/bin/python -m pip install --upgrade 'numpy>=2' $(DEVKIT_NEEDS)
	build/test-numpy2/.venv/bin/python -m pip install --no-deps $(DEVKIT)
	BEVSTACK_SHARED='$(SHARED)' $(MAKE) -C build/test-numpy2 pytest EXTRAS=test

# rerun needs numpy 2, which the devkit's pins exclude.
test-rerun:
	$(call copy_sources,build/test-rerun)
	BEVSTACK_SHARED='$(SHARED)' $(MAKE) -C build/test-rerun pytest EXTRAS=test,rerun \
	  TEST_PATHS='tests/viewer/test_rerun_file.py'

# mmdetection3d 1.x. mmcv 2.1 is compiled with its operators: about 22 minutes of processor time. The
# OpenMMLab packages come without their requirements, which hold opencv-python, open3d and notebooks:
# the list names those that are imported. Without a compiler or the time, all tests but one run with
# MMCV=mmcv-lite==2.1.0 MMCV_WITH_OPS=0, which compiles nothing.
MMDET3D = build/test-mmdet3d
MMDET3D_PACKAGES = mmengine==0.10.7 mmdet==3.3.0 mmdet3d==1.4.0 lyft-dataset-sdk==0.0.8
MMDET3D_NEEDS = addict termcolor yapf terminaltables pycocotools plyfile trimesh scikit-image \
  networkx tensorboard six 'pandas<3' 'numpy<2' 'pytest>=8.2'
MMDET3D_TESTS ?= tests/interop/mmdet3d
MMCV = mmcv==2.1.0
MMCV_WITH_OPS = 1
MMCV_JOBS ?= $(JOBS)

mmdet3d-packages:
	$(call copy_sources,$(MMDET3D))
	$(MAKE) -C $(MMDET3D) install EXTRAS=nuscenes
	$(MMDET3D)/.venv/bin/python -m pip install $(MMDET3D_NEEDS)
	$(MMDET3D)/.venv/bin/python -m pip install --no-deps $(MMDET3D_PACKAGES)

mmdet3d: mmdet3d-packages
	MMCV_WITH_OPS=$(MMCV_WITH_OPS) MAX_JOBS=$(MMCV_JOBS) PATH="$(abspath $(MMDET3D))/.venv/bin:$$PATH" \
	  $(MMDET3D)/.venv/bin/python -m pip install --no-build-isolation --no-deps $(MMCV)

test-mmdet3d: mmdet3d
	cd $(MMDET3D) && BEVSTACK_SHARED='$(SHARED)' OMP_NUM_THREADS=1 \
	  .venv/bin/python -m pytest -q $(MMDET3D_TESTS)

clean:
	rm -rf $(VENV) build dist out *.egg-info bevstack/*.so bevstack/_C.json .pytest_cache .mypy_cache .ruff_cache
