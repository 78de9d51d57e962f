#!/usr/bin/env bash
# usage: fuzz_covers_ops.sh [ROOT]
# Every function of the ops headers that <whence/whence.h> brings stands in the table of tests/fuzz/programs/ops.cpp.
# Prints those that do not and fails when there is one.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

missing=0
for header in ops composite conv ctc fft linalg resize scan; do
  for name in $(sed -nE 's/^(Var|TopK|Scanned|SignLogdet|Eigenpairs|std::vector<Var>) ([a-z0-9_]+)\(.*/\2/p' "ops/$header.h" | sort -u); do
    grep -qE "(OP|SOURCE)\($name\)|\"$name\"" tests/fuzz/programs/ops.cpp && continue
    echo "ops/$header.h: $name is not fuzzed"
    missing=1
  done
done
(( missing == 0 )) && echo "fuzz_covers_ops: fine"
exit $missing
