#!/usr/bin/env bash
# Mesa's newest packaged delegate on virtual boards: brings it and what runs it, then runs tests/upstream.
# Where no registry answers, it says so and succeeds; everything else that is missing or wrong fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1

tools=(qemu-aarch64 aarch64-linux-gnu-gcc)
packages=(qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
if ! command -v "${tools[@]}" >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  { timeout 120 apt-get -qq update && timeout 300 apt-get -qq -y install --no-install-recommends "${packages[@]}"; } \
    >/dev/null || echo "upstream: apt-get cannot install ${packages[*]}" >&2
fi

status=0
timeout 600 python -m tests.upstream.sysroot || status=$?
if [ "$status" = 3 ]; then
  echo "upstream: skipped, the reason stands above"
  exit 0
fi
[ "$status" = 0 ] || exit "$status"
TEFLON_REQUIRE_UPSTREAM=1 timeout 1500 python -P -m pytest -q -n 2 tests/upstream
