#!/usr/bin/env bash
# usage: scripts/build.sh PRESET [TARGET...]      configure when needed, then build
# WHENCE_JOBS sets the number of parallel compilers (default: cores, and no more than one per 1.5 GB of memory).
set -euo pipefail
cd "$(dirname "$0")/.."

preset=$1
shift
jobs=${WHENCE_JOBS:-}
if [[ -z "$jobs" ]]; then
  jobs=$(nproc)
  by_memory=$(awk '/MemAvailable/ { n = int($2 / 1572864); print n < 1 ? 1 : n }' /proc/meminfo 2>/dev/null || echo "$jobs")
  (( by_memory < jobs )) && jobs=$by_memory
fi

# A cache folder that cannot be written must not stop the build.
if command -v ccache >/dev/null; then
  cache=$(ccache -k cache_dir 2>/dev/null || true)
  if [[ -n $cache ]] && ! { mkdir -p "$cache/tmp" && [[ -w "$cache/tmp" ]]; } 2>/dev/null; then export CCACHE_DISABLE=1; fi
fi

generator=()
if [[ ! -f build/$preset/CMakeCache.txt && -z "${CMAKE_GENERATOR:-}" ]] && command -v ninja >/dev/null; then
  generator=(-G Ninja)
fi
if [[ ! -f build/$preset/build.ninja && ! -f build/$preset/Makefile ]]; then
  cmake --preset "$preset" "${generator[@]}"
fi
targets=()
(( $# )) && targets=(--target "$@")
cmake --build "build/$preset" -j "$jobs" "${targets[@]}"
