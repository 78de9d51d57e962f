#!/usr/bin/env bash
# usage: tests/examples/barcode.sh PROGRAM     the whole barcode job on a small synthetic set, and a look at its page
set -euo pipefail
barcode=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAIL: $*" >&2; exit 1; }

# Four families: a random template each, 12 members with a letter in 20 changed. Header fields: id|family|genus.
awk 'BEGIN {
  srand(7); split("A C G T", base, " ");
  for (f = 1; f <= 4; ++f) {
    t = ""; for (i = 0; i < 240; ++i) t = t base[int(rand() * 4) + 1];
    for (m = 1; m <= 12; ++m) {
      s = ""; for (i = 1; i <= 240; ++i) s = s (rand() < 0.05 ? base[int(rand() * 4) + 1] : substr(t, i, 1));
      printf ">seq%d_%d|family%d|genus%d_%d\n%s\n", f, m, f, f, m % 3, s;
    }
  }
}' > "$work/data.fasta"
data="--data $work/data.fasta --length 240"
small="--hidden 32 --layers 1 --heads 2 --dropout 0"

"$barcode" pretrain $data $small --epochs 2 --batch 8 --out "$work/pre" > "$work/log" 2>&1 || { cat "$work/log"; fail pretrain; }
[[ -s $work/pre/encoder.safetensors && -s $work/pre/loss.svg && -s $work/pre/metrics.jsonl ]] || fail "pretrain left no model, curve or metrics"
"$barcode" pretrain $data $small --objective mlm --epochs 1 --batch 8 --out "$work/mlm" >> "$work/log" 2>&1 || { cat "$work/log"; fail "pretrain --objective mlm"; }

# A finished run that is started again must not train again.
before=$(wc -l < "$work/pre/metrics.jsonl")
"$barcode" pretrain $data $small --epochs 2 --batch 8 --out "$work/pre" >> "$work/log" 2>&1
[[ $(wc -l < "$work/pre/metrics.jsonl") == "$before" ]] || fail "a finished run was repeated"

"$barcode" finetune $data --encoder "$work/pre/encoder.safetensors" --label field2 --epochs 12 --batch 8 --lr 5e-3 --dropout 0 --out "$work/fine" > "$work/fine.log" 2>&1 || { cat "$work/fine.log"; fail finetune; }
accuracy=$(grep -o 'test accuracy [0-9.]*' "$work/fine.log" | grep -o '[0-9.]*$')
awk "BEGIN { exit !($accuracy >= 75) }" || fail "four clear families, but test accuracy is $accuracy %"

# Products in bf16: slower on a CPU, and just as right.
"$barcode" finetune $data --encoder "$work/pre/encoder.safetensors" --precision bf16 --label field2 --epochs 12 --batch 8 --lr 5e-3 --dropout 0 --out "$work/fine16" > "$work/fine16.log" 2>&1 || { cat "$work/fine16.log"; fail "finetune --precision bf16"; }
accuracy=$(grep -o 'test accuracy [0-9.]*' "$work/fine16.log" | grep -o '[0-9.]*$')
awk "BEGIN { exit !($accuracy >= 75) }" || fail "in bf16 the test accuracy is $accuracy %"

# Overlapping words and the spectrum, wide beside deep; --validation leaves the test side alone.
"$barcode" pretrain $data $small --overlapping --spectrum 5 --label field2 --validation --epochs 2 --batch 8 --out "$work/pre5" > "$work/log" 2>&1 || { cat "$work/log"; fail "pretrain --overlapping --spectrum"; }
"$barcode" finetune $data --encoder "$work/pre5/encoder.safetensors" --label field2 --validation --epochs 12 --batch 8 --lr 5e-3 --dropout 0 --out "$work/validated" > "$work/log" 2>&1 || { cat "$work/log"; fail "finetune --validation"; }
grep -qE 'finetune: 3[0-9] training and [0-9] validation sequences' "$work/log" || { cat "$work/log"; fail "--validation does not split the training side"; }
"$barcode" finetune $data --encoder "$work/pre5/encoder.safetensors" --label field2 --memory --epochs 12 --batch 8 --lr 5e-3 --dropout 0 --out "$work/wide" > "$work/log" 2>&1 || { cat "$work/log"; fail "finetune with a spectrum"; }
accuracy=$(grep -o 'test accuracy [0-9.]*' "$work/log" | grep -o '[0-9.]*$')
awk "BEGIN { exit !($accuracy >= 90) }" || fail "wide and deep, but test accuracy is $accuracy %"

"$barcode" probe $data --encoder "$work/pre/encoder.safetensors" --label field2 --hold-out field3 > "$work/probe.log" 2>&1 || { cat "$work/probe.log"; fail probe; }
grep -q '5-mer counts *100.0 %' "$work/probe.log" || { cat "$work/probe.log"; fail "the k-mer baseline misses clear families"; }

# The same sequences behind leaders of any length and a primer with at most one letter off, and one without it: no change.
awk 'BEGIN { srand(3) } /^>/ { print; next } { lead = ""; for (n = int(rand() * 30); n > 0; --n) lead = lead "T"; print lead (NR % 4 ? "CCTACGGGTGGCAGCAG" : "CCTAAGGGTGGCAGCAG") $0 }
     END { s = ""; for (i = 0; i < 260; ++i) s = s "T"; print ">seq9|family1|genus9\n" s }' "$work/data.fasta" > "$work/primed.fasta"
"$barcode" pretrain --data "$work/primed.fasta" --primer CCTACGGGNGGCWGCAG --length 240 $small --epochs 2 --batch 8 --out "$work/primed" > "$work/log" 2>&1 || { cat "$work/log"; fail "pretrain --primer"; }
cmp "$work/pre/metrics.jsonl" "$work/primed/metrics.jsonl" || fail "--primer does not cut at the primer"

# Pages: of the deep classifier alone, and of the wide and deep one. Single letters are coloured, and their sum is the ledger's.
for kind in fine wide; do
  page=$work/why_$kind.html
  "$barcode" explain $data --model "$work/$kind/classifier.safetensors" --label field2 --count 2 --evaluate 4 --out "$page" > "$work/explain.log" 2>&1 || { cat "$work/explain.log"; fail "explain, $kind"; }
  for part in '<svg' 'Ledger' 'unexplained' 'gradient x input' 'encoder.layer.0' 'predicted'; do
    grep -q "$part" "$page" || fail "the page ($kind) lacks '$part'"
  done
  grep -qE 'src=|href=|@import|url\(' "$page" && fail "the page ($kind) refers to something outside"
  letters=$(grep -oE 'title="[ACGT] at [0-9]+: [+-][0-9.]+">[ACGT]<' "$page" | wc -l)
  (( letters == 480 )) || fail "the page ($kind) colours $letters letters of 480"
  for fact in 'largest unexplained share' 'largest share that reaches no letter'; do
    share=$(grep -o "<b>[^<]*</b><span>$fact" "$page" | grep -o '[0-9.]*' | head -1)
    awk "BEGIN { exit !($share <= 0.001) }" || fail "$fact ($kind): $share"
  done
done

# Bad input says what is wrong and leaves no page behind.
"$barcode" explain $data --model "$work/pre/encoder.safetensors" --label field2 --out "$work/no.html" > "$work/bad.log" 2>&1 && fail "an encoder was taken for a classifier"
[[ ! -e $work/no.html ]] || fail "a failed explain left a page"
"$barcode" finetune $data --label family > "$work/bad.log" 2>&1 && fail "an unknown label column was accepted"
grep -q "there is no label column 'family'; there are: field1, field2, field3" "$work/bad.log" || { cat "$work/bad.log"; fail "the error does not list the columns"; }

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [[ -n $browser ]]; then
  shot() { timeout 60 "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile" --window-size=1280,1500 --screenshot="$2" "$1" > /dev/null 2>&1; }
  echo '<html></html>' > "$work/empty.html"
  shot "file://$work/empty.html" "$work/empty.png" && shot "file://$work/why_wide.html" "$work/why.png" || fail "the browser could not draw the page"
  empty=$(stat -c %s "$work/empty.png") page=$(stat -c %s "$work/why.png")
  (( page > 10 * empty )) || fail "the page draws nothing: $page bytes against $empty of an empty one"
  echo "screenshot: $page bytes (empty page: $empty)"
else
  echo "screenshot: no browser here, not taken"
fi
echo "barcode example: accuracy $accuracy %, unexplained $share"
