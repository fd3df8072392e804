#!/usr/bin/env bash
# Build every C module with the address and undefined-behaviour sanitisers, in an environment of its own, and run what
# uses them: the conformance kit and the tests of the C code. Any report ends the run with an error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

checkout=$PWD
folder=$checkout/build/sanitize
packages=$("$checkout/.venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$checkout/.venv/bin/python" -m venv --clear "$folder/venv"
python=$folder/venv/bin/python
# dependencies come from .venv; its editable install of this package does not, as its .pth file is not read
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' |
  { read -r site; echo "$packages" > "$site/dependencies.pth"; }
options=(-Db_sanitize=address,undefined -Db_lundef=false -Dbuildtype=debugoptimized)
PATH=$checkout/.venv/bin:$PATH "$python" -m pip install -q --no-deps --no-build-isolation \
  -Cbuild-dir="$folder/build" "${options[@]/#/-Csetup-args=}" .

mkdir -p "$folder/root"
ln -sfn "$checkout/tests" "$folder/root/tests"
compiler=${CC:-cc}
export LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:abort_on_error=1:print_stacktrace=1
export PYTHONPATH=$folder/root TEFLON_SANITIZED=1
cd "$folder/root"
for device in sim:rk3588 sim:a311d sim:imx8mp cpu; do
  "$python" -P -m pytest -q -n 2 -p no:cacheprovider -c "$checkout/pyproject.toml" --rootdir "$checkout" \
    --npu-device "$device" --pyargs teflon_common.conformance "$@" | tail -n 1
done
cd "$checkout"
"$python" -P -m pytest -q -n 2 -p no:cacheprovider drivers/common/tests/test_layout.py \
  drivers/etnaviv/tests/test_etnaviv_coefs.py drivers/etnaviv/tests/test_etnaviv_units.py \
  drivers/rocket/tests/test_rocket_units.py tests/ir/test_product.py "$@" | tail -n 3
