#!/usr/bin/env bash
# usage: scripts/faults.sh [FOLDER]      build the small programs of a folder (cases/*.cpp, default ../shared/faults)
# against the installed package and run them: each prints a line and exits 0 when Whence is right.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-../shared/faults}
[[ -d $folder/cases ]] || { echo "faults: there is no $folder/cases; nothing is checked"; exit 0; }

scripts/build.sh release whence_archive
cmake --install build/release --prefix build/faults/prefix >/dev/null
cmake -S "$folder" -B build/faults/cases -G "Unix Makefiles" -DCMAKE_BUILD_TYPE=None \
  -DCMAKE_PREFIX_PATH="$PWD/build/faults/prefix" >/dev/null
cmake --build build/faults/cases -j "${WHENCE_JOBS:-$(nproc)}" -- -k >build/faults/build.log 2>&1 || true

right=0 wrong=()
for source in "$folder"/cases/*.cpp; do
  name=$(basename "$source" .cpp)
  program=build/faults/cases/$name
  if [[ ! -x $program ]]; then
    wrong+=("$name: does not compile (build/faults/build.log)")
  elif line=$(timeout 60 "$program" 2>&1); then
    right=$((right + 1))
  else
    wrong+=("$name: exit $?: $(tail -n 1 <<<"$line")")
  fi
done
(( ${#wrong[@]} )) && printf '%s\n' "${wrong[@]}"
echo "faults: $right of $((right + ${#wrong[@]})) programs right"
(( ${#wrong[@]} == 0 ))
