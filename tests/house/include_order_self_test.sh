#!/usr/bin/env bash
# The checker has to catch each kind of offence, and to leave good code alone.
set -euo pipefail
check=$(cd "$(dirname "$0")" && pwd)/include_order.sh
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
failures=0

# expect caught|fine FILE LINE-OF-CODE
expect() {
  rm -rf "${root:?}"/*
  mkdir -p "$root/tensor" "$root/$(dirname "$2")"
  printf '#pragma once\n#include <vector>\n#include "whence/tensor/tensor.h"\n' >"$root/tensor/dtype.h"
  printf '#pragma once\n%s\n' "$3" >"$root/$2"
  local got=fine
  bash "$check" "$root" >/dev/null 2>&1 || got=caught
  if [[ $got != "$1" ]]; then
    echo "$2 with '$3': expected $1, was $got"
    failures=$((failures + 1))
  fi
}

expect caught tensor/a.h '#include "whence/autograd/graph.h"'
expect caught tensor/deep/a.cpp '  #  include "whence/ops/x.h"'
expect caught autograd/a.cpp '#include "whence/lrp/rules.h"'
expect caught autograd/a.cpp '#include <whence/lrp/rules.h>'
expect caught ops/a.cpp '#include "whence/nn/module.h"'
expect caught nn/a.h '#include "whence/models/mlp.h"'
expect caught nn/a.h '#include "whence/lrp/relevance.h"'
expect caught lrp/a.h '#include "whence/dist/comm.h"'
expect caught models/a.cpp '#include "examples/x.h"'
expect caught models/a.cpp '#include "tests/x.h"'
expect caught ops/a.cpp '#include "../tensor/tensor.h"'
expect caught ops/a.cpp '#include "tensor/tensor.h"'
expect caught ops/a.cpp '#include <whence/whence.h>'
expect caught ops/a.cpp '#include <xsimd/xsimd.hpp>'
expect caught tensor/a.h '#include <cblas.h>'
expect caught ops/a.h '#include "whence/ops/cpu/gemm.h"'
expect caught nn/a.h '#include "whence/autograd/plan/program.h"'
expect fine nn/a.cpp '#include "whence/autograd/plan/program.h"'
expect caught autograd/a.h '#include <fmt/format.h>'
expect fine autograd/a.cpp '#include <fmt/format.h>'
expect fine ops/a.cpp '#include "whence/autograd/op.h"'
expect fine ops/a.cpp '#include "whence/ops/cpu/gemm.h"'
expect fine ops/cpu/gemm.h '#include <xsimd/xsimd.hpp>'
expect fine ops/softmax_kernel.cpp '#include <xsimd/xsimd.hpp>'
expect fine lrp/a.h '#include "whence/nn/module.h"'
expect fine models/a.h '#include "whence/lrp/relevance.h"'
expect fine examples/a.cpp '#include <whence/whence.h>'
expect fine tensor/a.cpp '#include "whence/version.h"'
expect fine tensor/a.cpp '// #include "whence/ops/x.h"'

# A header without #pragma once.
rm -rf "${root:?}"/*
mkdir -p "$root/tensor"
echo 'int f();' >"$root/tensor/a.h"
if bash "$check" "$root" >/dev/null 2>&1; then
  echo "a header without #pragma once was not caught"
  failures=$((failures + 1))
fi

(( failures == 0 )) && echo "include_order_self_test: fine"
