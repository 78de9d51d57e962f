#!/usr/bin/env bash
# usage: scripts/setup.sh [test|demo|gpt|format]
# Installs the Debian packages that are missing, and only these. Says nothing when all are there.
set -euo pipefail

[[ "${WHENCE_SETUP:-1}" == 0 ]] && exit 0

packages=(g++ cmake ninja-build ccache pkg-config libxsimd-dev libfmt-dev nlohmann-json3-dev
          zlib1g-dev libpng-dev libcli11-dev libgtest-dev libgmock-dev libbenchmark-dev)
# Wanted, but their absence only skips something.
optional=(libopenblas-dev)  # what the benches compare with
case "${1:-}" in
  demo) packages+=(microbiomeutil-data) ;;  # 16S rRNA reference sequences, the data of the demo
  gpt) packages+=(bible-kjv) ;;  # the King James Bible as text
  test) packages+=(microbiomeutil-data); optional+=(chromium python3-numpy) ;;  # screenshots of HTML reports; NPY beside NumPy
  format) packages=(clang-format) ;;
  "") ;;
  *) echo "usage: scripts/setup.sh [test|demo|gpt|format]" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null; then
  echo "setup: not a Debian system; these packages, or their like, have to be there: ${packages[*]}"
  exit 0
fi

installed() { [[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]; }
missing=() missing_optional=()
for p in "${packages[@]}"; do installed "$p" || missing+=("$p"); done
# An optional package that could not be had once is not asked for again until `make clean`: offline, asking is slow.
gave_up=$(cd "$(dirname "$0")/.." && pwd)/build/.setup-gave-up
for p in "${optional[@]}"; do
  if installed "$p"; then continue; fi
  if grep -qx "$p" "$gave_up" 2>/dev/null; then
    echo "setup: going on without $p, which could not be installed before; tests that need it are skipped"
  else
    missing_optional+=("$p")
  fi
done
(( ${#missing[@]} + ${#missing_optional[@]} )) || exit 0

as_root=()
if (( EUID != 0 )); then
  if ! command -v sudo >/dev/null; then
    (( ${#missing[@]} )) || { echo "setup: ${missing_optional[*]} not installed (needs root); going on without"; exit 0; }
    echo "setup: missing packages, and neither root nor sudo to install them. As root, run:" >&2
    echo "    apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
  [[ -t 0 ]] || as_root+=(-n)  # nobody there to type a password
fi

apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 \
    -o APT::Get::Assume-Yes=true "$@" </dev/null
}

echo "setup: installing ${missing[*]} ${missing_optional[*]}"
apt update || echo "setup: apt-get update failed; trying with the package lists that are there"
if (( ${#missing[@]} )) && ! apt install --no-install-recommends "${missing[@]}"; then
  echo "setup: could not install: ${missing[*]}" >&2
  echo "setup: see the message of apt-get above; network and package sources are the usual suspects" >&2
  exit 1
fi
for p in "${missing_optional[@]}"; do
  if ! apt install --no-install-recommends "$p"; then
    echo "setup: $p could not be installed; the tests that need it are skipped"
    mkdir -p "$(dirname "$gave_up")"
    echo "$p" >>"$gave_up"
  fi
done
