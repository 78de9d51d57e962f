#!/usr/bin/env bash
# usage: scripts/bench.sh [NAME] [options]      build and run all benchmarks, or one
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/build.sh release
shopt -s nullglob
programs=()
for f in build/release/bench/*; do
  [[ -f $f && -x $f ]] && programs+=("$f")
done
if (( $# )); then
  programs=("build/release/bench/$1")
  shift
fi
(( ${#programs[@]} )) || { echo "bench: there are no benchmarks yet"; exit 0; }
for p in "${programs[@]}"; do
  echo "== ${p##*/}"
  "$p" "$@"
done
