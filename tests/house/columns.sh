#!/usr/bin/env bash
# Lines of C++ are at most 120 columns wide. Prints every longer one as file:line and fails when there is one.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"
export LC_ALL=C
find autograd bench dist examples lrp models nn ops tensor testing tests include \
  \( -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
  xargs -0 awk '{ n = $0; gsub(/[\200-\277]/, "", n) }  # count characters, not bytes
                length(n) > 120 { print FILENAME ":" FNR ": " length(n) " columns"; bad = 1 } END { exit bad }'
