#!/usr/bin/env bash
# usage: include_order.sh [ROOT]
# Checks who may include whom:   tensor <- autograd <- ops <- {nn, lrp, dist} <- models <- examples
# and that public headers, the ones that are installed, stay free of private libraries and kernel headers.
# Prints every offence as file:line and fails when there is one.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

# nn stands on its own; lrp explains nn modules and dist trains them, so these two may look at nn, not at each other.
declare -A may=(
  [tensor]="tensor"
  [autograd]="tensor autograd"
  [ops]="tensor autograd ops"
  [nn]="tensor autograd ops nn"
  [lrp]="tensor autograd ops nn lrp"
  [dist]="tensor autograd ops nn dist"
  [models]="tensor autograd ops nn lrp dist models"
  [include]="tensor autograd ops nn lrp dist models testing"
  [testing]="tensor autograd ops testing"
  [examples]="tensor autograd ops nn lrp dist models examples"
)
folders="tensor autograd ops nn lrp dist models include testing examples"
present=()
for f in $folders; do [[ -d $f ]] && present+=("$f"); done

offences=0
offend() { echo "$1: $2"; offences=$((offences + 1)); }

is_kernel() { [[ $1 == ops/cpu/* || $1 == ops/cuda/* || ${1##*/} == *_kernel* ]]; }
is_inside() { [[ $1 == autograd/plan/* ]]; }  # the planner: no business of a public header, and not installed
is_public() { [[ $1 == *.h && $1 != examples/* && $1 != testing/* ]] && ! is_kernel "$1" && ! is_inside "$1"; }

scan() { grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"][^>"]+[>"]' "${present[@]}" \
           --include='*.h' --include='*.cpp' --include='*.cu' || true; }

while IFS=: read -r file line text; do
  [[ -n $file ]] || continue
  at="$file:$line"
  from=${file%%/*}
  [[ $text =~ ^[^\<\"]*[\<\"]([^\>\"]+)[\>\"] ]]
  header=${BASH_REMATCH[1]}
  [[ $header == *..* ]] && offend "$at" "\"$header\": name headers from whence/, not with .."
  if [[ $from != @(examples|include) && $header =~ ^whence/[a-z_]+\.h$ && $header != whence/version.h ]]; then
    offend "$at" "\"$header\": the library includes the headers it needs, not an umbrella"
    continue
  fi
  # A user's own tensor/tensor.h must not be found in the place of ours.
  if [[ " tensor autograd ops nn lrp dist models testing " == *" ${header%%/*} "* ]]; then
    offend "$at" "\"$header\": headers are named whence/$header"
  fi
  to=${header#whence/}
  to=${to%%/*}
  if [[ $header == */* && " $folders bench tests " == *" $to "* && " ${may[$from]} " != *" $to "* ]]; then
    offend "$at" "\"$header\": $from may include only: ${may[$from]}"
  fi
  if [[ $header == xsimd/* ]] && ! is_kernel "$file"; then
    offend "$at" "xsimd belongs to kernel files (ops/cpu/, or _kernel in the name)"
  fi
  if is_public "$file"; then
    case "$header" in
      xsimd/* | cblas.h | omp.h | fmt/* | nlohmann/* | zlib.h | png.h | CLI/* | gtest/* | benchmark/*)
        offend "$at" "<$header>: a public header may not need a private library" ;;
    esac
    if [[ $header == whence/ops/cpu/* || $header == whence/ops/cuda/* || ${header##*/} == *_kernel* ]]; then
      offend "$at" "\"$header\": a public header may not need a kernel header, which is not installed"
    fi
    [[ $header == whence/autograd/plan/* ]] && offend "$at" "\"$header\": a public header may not show the planner's inside"
  fi
done < <(scan)

while read -r file; do
  [[ -n $file ]] && offend "$file" "no #pragma once"
done < <(find "${present[@]}" -name '*.h' -print0 | xargs -0 -r grep -L '^#pragma once')

if (( offences )); then
  echo "include_order: $offences offences"
  exit 1
fi
echo "include_order: fine (${present[*]})"
