#!/usr/bin/env bash
# usage: run.sh installed|subdirectory|shared SOURCE_DIR BUILD_DIR WORK_DIR GENERATOR
# Builds and runs the consumer project as a user would.
set -euo pipefail

mode=$1 source=$2 build=$3 work=$4 generator=$5
rm -rf "$work"
mkdir -p "$work"
consumer=$work/consumer
[[ $mode == subdirectory ]] && consumer=$work
configure=(cmake -S "$source/tests/consumer" -B "$consumer" -G "$generator" -DCMAKE_BUILD_TYPE=Release)
launcher=()
if command -v ccache >/dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi

case "$mode" in
  installed)
    cmake --install "$build" --prefix "$work/prefix" >"$work/install.log"
    "${configure[@]}" "-DCMAKE_PREFIX_PATH=$work/prefix"
    ;;
  shared)
    cmake -S "$source" -B "$work" -G "$generator" -DBUILD_SHARED_LIBS=ON -DWHENCE_BUILD_TESTS=OFF \
      -DWHENCE_BUILD_BENCH=OFF -DWHENCE_BUILD_EXAMPLES=OFF
    cmake --build "$work" -j "$(nproc)"
    cmake --install "$work" --prefix "$work/prefix" >"$work/install.log"
    "${configure[@]}" "-DCMAKE_PREFIX_PATH=$work/prefix"
    ;;
  subdirectory)
    # Same flags as the main build, so that ccache has the objects already; without ccache, the cheapest build.
    cheap=()
    (( ${#launcher[@]} )) || cheap=(-DCMAKE_CXX_FLAGS_RELEASE=-O0)
    "${configure[@]}" "-DCONSUMER_WHENCE_SOURCE=$source" "${launcher[@]}" "${cheap[@]}"
    ;;
  *) echo "run.sh: unknown mode $mode" >&2; exit 2 ;;
esac

cmake --build "$consumer" -j "$(nproc)"
# Every op that a source file registers has to be in the user's program, also those it never calls.
mapfile -t ops < <(grep -hoP '^REGISTER_OP\(\K[a-z]\w*' "$source"/ops/*.cpp | sort -u)
(( ${#ops[@]} )) || { echo "found no REGISTER_OP in ops/*.cpp" >&2; exit 1; }
"$consumer/consumer" "${ops[@]}"

if [[ "$mode" != subdirectory ]]; then
  # Nothing installed may name the place it was built in, and every public header is there.
  if grep -rlF -- "$source" "$work/prefix" --include='*.cmake' --include='*.h'; then
    echo "installed files above name the source folder" >&2
    exit 1
  fi
fi
