#!/usr/bin/env bash
# usage: tests/examples/pictures.sh MLP VIT     both picture examples on a small synthetic set in Fashion-MNIST's form
set -euo pipefail
mlp=$1 vit=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAIL: $*" >&2; exit 1; }

# Picture i is of class i % 10: a bright square whose place is the class, on noise.
make() {  # NAME COUNT
  LC_ALL=C awk -v n="$2" -v images="$work/$1-images-idx3-ubyte" -v labels="$work/$1-labels-idx1-ubyte" '
    function word(v, file) { printf "%c%c%c%c", int(v / 16777216) % 256, int(v / 65536) % 256, int(v / 256) % 256, v % 256 > file }
    BEGIN {
      srand(5)
      word(2051, images); word(n, images); word(28, images); word(28, images)
      word(2049, labels); word(n, labels)
      for (i = 0; i < n; ++i) {
        c = i % 10; top = int(c / 4) * 9; left = (c % 4) * 7
        for (y = 0; y < 28; ++y)
          for (x = 0; x < 28; ++x)
            printf "%c", (y >= top && y < top + 7 && x >= left && x < left + 7 ? 200 : 0) + int(rand() * 50) > images
        printf "%c", c > labels
      }
    }'
}
make train 2000
make t10k 100

(cd "$work" && "$mlp" "$work" > mlp.log 2>&1) || { cat "$work/mlp.log"; fail mlp; }
accuracy=$(grep -o 'test pictures: [0-9.]*' "$work/mlp.log" | grep -o '[0-9.]*$')
awk "BEGIN { exit !($accuracy >= 90) }" || fail "mlp: ten clear classes, but $accuracy %"
grep -q '<div class=pictures>' "$work/mlp.html" || fail "mlp: the page draws no picture"

for model in cnn vit; do
  "$vit" --data "$work" --model $model --epochs 6 --batch 20 --lr 5e-3 --dropout 0 --width 32 --layers 1 --patch 7 --explain 3 --out "$work/$model" > "$work/log" 2>&1 ||
    { cat "$work/log"; fail "$model"; }
  accuracy=$(grep -o "$model: [0-9.]* % of 100" "$work/log" | grep -o '[0-9.]* %' | tr -d ' %')
  awk "BEGIN { exit !($accuracy >= 70) }" || fail "$model: ten clear classes, but $accuracy %"
  for f in best.safetensors loss.svg metrics.jsonl picture2.png picture2.html; do [[ -s $work/$model/$f ]] || fail "$model left no $f"; done
  grep -q 'epoch_accuracy' "$work/$model/metrics.jsonl" || fail "$model: no accuracy in the metrics"
  # A finished run that is started again must not train again.
  before=$(wc -l < "$work/$model/metrics.jsonl")
  "$vit" --data "$work" --model $model --epochs 6 --batch 20 --lr 5e-3 --dropout 0 --width 32 --layers 1 --patch 7 --explain 3 --out "$work/$model" > "$work/log" 2>&1
  [[ $(wc -l < "$work/$model/metrics.jsonl") == "$before" ]] || fail "$model: a finished run was repeated"
done
"$vit" --data "$work/cnn" > "$work/log" 2>&1 && fail "a folder without pictures was accepted"
grep -q 'train-images-idx3-ubyte' "$work/log" || fail "the error does not name the missing file"
echo "pictures: mlp, cnn and vit learn, resume and explain"
