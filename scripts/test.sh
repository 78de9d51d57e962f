#!/usr/bin/env bash
# usage: scripts/test.sh PRESET [long] [ctest options]      build and run the tests of a preset
set -euo pipefail
cd "$(dirname "$0")/.."

preset=$1
shift
select=(-LE long)
if [[ "${1:-}" == long ]]; then
  select=(-L long)
  shift
fi

targets=()
if [[ $preset == portable ]]; then  # what depends on the instruction set: kernels, and numbers beside stored ones
  targets=(test_op_suite test_goldens test_opinfo)
  select=(-R '^(op_suite|goldens|opinfo)$')
fi
scripts/build.sh "$preset" "${targets[@]}"

run=()
case "$preset" in
  asan)
    # Tests ask for more memory than there is, and look at the error.
    export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1:allocator_may_return_null=1}"
    export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}" ;;
  tsan)
    export TSAN_OPTIONS="${TSAN_OPTIONS:-second_deadlock_stack=1 allocator_may_return_null=1 die_after_fork=0}"
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-3}"  # odd and more than one: work never divides evenly
    # The thread sanitizer wants a fixed memory layout, which newer kernels randomise too widely.
    if setarch "$(uname -m)" -R true 2>/dev/null; then run=(setarch "$(uname -m)" -R); fi ;;
esac

rm -rf "build/$preset/test-reports"
rc=0
"${run[@]}" ctest --test-dir "build/$preset" --output-on-failure --no-tests=error "${select[@]}" "$@" || rc=$?

# ctest counts programs; say how many test cases they held.
shopt -s nullglob
reports=("build/$preset/test-reports/"*.xml)
if (( ${#reports[@]} )); then
  awk -v n="${#reports[@]}" '
    /<testsuites / {
      if (match($0, / tests="[0-9]+"/)) t += substr($0, RSTART + 8, RLENGTH - 9)
      if (match($0, / failures="[0-9]+"/)) f += substr($0, RSTART + 11, RLENGTH - 12)
    }
    /<testcase .*result="skipped"/ { s++ }
    END { printf "test cases: %d in %d programs, %d failed, %d skipped\n", t, n, f, s }' "${reports[@]}"
fi
exit "$rc"
