#!/usr/bin/env bash
# Build the wheel from the committed files, compare its content with git, and run it in a fresh venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PATH="$root/.venv/bin:$PATH"

mkdir "$work/src"
git -c safe.directory="$root" archive HEAD | tar -x -C "$work/src"
python -m pip wheel -q --no-deps --no-build-isolation -w "$work/dist" "$work/src"
git -c safe.directory="$root" ls-tree -r --name-only HEAD | python ci/check_wheel.py "$work"/dist/*.whl

python -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q "$work"/dist/*.whl
cd "$work"
export PATH="$work/venv/bin:$PATH"
teflon devices
model=$(teflon models where digits_int8)
teflon check "$model" --device rk3588
teflon run "$model" --device cpu -o cpu.npz
teflon run "$model" --device sim:rk3588 -o npu.npz

# Install the example driver beside our wheel, and run it.
"$root/.venv/bin/python" -m pip wheel -q --no-deps --no-build-isolation -w "$work/theirs" "$work/src/examples/teflon-driver-minimal"
"$work/venv/bin/python" -m pip install -q --no-deps "$work"/theirs/*.whl
mkdir "$work/dev"
"$work/venv/bin/python" -m teflon_abacus.machine "$work/dev/abacus0" &
chip=$!
trap 'kill $chip; rm -rf "$work"' EXIT
for _ in $(seq 100); do [ -S "$work/dev/abacus0" ] && break; sleep 0.1; done
ABACUS_ROOT=$work teflon devices
ABACUS_ROOT=$work teflon run "$model" -o theirs.npz
TEFLON_DEVICE=cpu python - <<'END'
import ctypes, teflon
library = ctypes.PyDLL(teflon.delegate_path())
library.tflite_plugin_create_delegate.restype = ctypes.c_void_p
delegate = library.tflite_plugin_create_delegate(None, None, ctypes.c_size_t(0), None)
assert delegate, "libteflon.so makes no delegate"
library.tflite_plugin_destroy_delegate(ctypes.c_void_p(delegate))
END
echo "wheel: built, content as committed, runs"
