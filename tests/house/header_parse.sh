#!/usr/bin/env bash
# usage: header_parse.sh COMPILER ROOT [each]
# Prints how long <whence/whence.h> takes to parse (the aim is 0.3 s). With "each", compiles every public header on
# its own and fails when one leans on what somebody else included.
set -euo pipefail
compiler=$1 root=$2
cd "$root"
parse() { "$compiler" -std=c++20 -Wall -Wextra -fsyntax-only -Iinclude -x c++ - ; }

if [[ "${3:-}" == each ]]; then
  rc=0
  while read -r header; do
    parse <<<"#include \"whence/${header#include/whence/}\"" || { echo "$header does not compile on its own"; rc=1; }
  done < <(find tensor autograd ops nn lrp models dist include -name '*.h' \
             ! -path '*/cpu/*' ! -path '*/cuda/*' ! -name '*_kernel*' 2>/dev/null | sort)
  exit "$rc"
fi

# Time of the processor, not of the clock, so that a busy machine counts for less.
TIMEFORMAT=%3U
exec 3>&2
seconds=$( { time parse <<<'#include <whence/whence.h>' 2>&3 >&3; } 2>&1 )
ms=$(( 10#${seconds/./} ))
lines=$("$compiler" -std=c++20 -E -P -Iinclude -x c++ - <<<'#include <whence/whence.h>' | wc -l)
echo "whence/whence.h parses in $ms ms ($lines lines after the preprocessor; aim 300 ms)"
