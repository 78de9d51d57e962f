#!/usr/bin/env bash
# The main job on real data: a masked autoencoder learns 16S genes, a classifier is tuned on it, and single predictions
# are explained down to the nucleotide. `make demo` builds and calls this; extra arguments go to the program.
set -euo pipefail
cd "$(dirname "$0")/.."
data=/usr/share/microbiomeutil-data/RESOURCES/rRNA16S.gold.fasta
[ -r "$data" ] || { echo "demo: $data is missing; install the Debian package microbiomeutil-data" >&2; exit 1; }
# Barcodes begin at a primer: 341F (Klindworth et al. 2013), and 440 letters after it, are the V3-V4 region of sequencers.
exec ./build/release/examples/barcode demo --data "$data" --primer CCTACGGGNGGCWGCAG --length 440 --k 6 --layers 2 --out out/demo "$@"
