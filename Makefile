# The two commands a person needs; everything else is CMake (see CMakePresets.json).
BUILD := build/release

.PHONY: all test demo demo-vm setup build asan format tidy clean
all: build

setup:
	@scripts/setup

build: setup
	@cmake --preset release
	@cmake --build --preset release

test: build
	@ctest --preset release --output-on-failure

demo: build
	@scripts/demo $(BUILD)

demo-vm: build
	@scripts/vm-image $(BUILD)
	@scripts/demo-vm $(BUILD)

asan: setup
	@cmake --preset asan
	@cmake --build --preset asan
	@ctest --preset asan

format: setup
	@scripts/check-format --fix

tidy: build
	@scripts/check-tidy $(BUILD)

clean:
	rm -rf build
