#!/usr/bin/env bash
# What is recorded, planned, learned and explained knows no kind of device and no thread library: only tensor/, the
# backends in ops/cpu (and ops/cuda) and the fake device do. Prints every offence as file:line and fails when there is one.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"
offences=$(grep -nE 'Device::Kind::[a-z]|#include <omp\.h>|#pragma omp|"whence/ops/(cpu|cuda)/' \
             -r autograd nn lrp models dist --include='*.h' --include='*.cpp' || true
           grep -nE 'Device::Kind::[a-z]|#include <omp\.h>|#pragma omp|"whence/ops/(cpu|cuda)/' ops/*.h ops/*.cpp || true)
[[ -z $offences ]] && exit 0
echo "$offences"
exit 1
