#!/usr/bin/env bash
# usage: tests/examples/gpt.sh PROGRAM     a tiny GPT on a made-up text: trained, stopped, resumed, writing, explained
set -euo pipefail
gpt=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAIL: $*" >&2; exit 1; }
run() { "$gpt" "$@" > "$work/log" 2>&1 || { cat "$work/log"; fail "$1"; }; }
refused() {  # WHAT PATTERN ARGUMENTS..: the program ends with an error that says PATTERN
  local what=$1 pattern=$2; shift 2
  "$gpt" "$@" > "$work/log" 2>&1 && fail "$what was accepted"
  grep -q -- "$pattern" "$work/log" || { cat "$work/log"; fail "$what: the error does not say '$pattern'"; }
}

# Sentences whose end is told by their beginning.
awk 'BEGIN {
  srand(5); split("cat dog cow owl", who, " "); split("meows barks moos hoots", what, " ");
  for (i = 0; i < 1500; ++i) { n = int(rand() * 4) + 1; printf "the %s %s.\n", who[n], what[n] }
}' > "$work/text.txt"
small="--text $work/text.txt --context 32 --hidden 32 --layers 1 --heads 2 --batch 8 --lr 1e-2"

run train $small --tokens char --steps 300 --evaluate-every 100 --out "$work/char"
loss=$(grep -o 'train: validation loss [0-9.]*' "$work/log" | grep -o '[0-9.]*$')
awk "BEGIN { exit !($loss < 0.35) }" || fail "the text is nearly told by its rules, but the loss is $loss"
[[ -s $work/char/loss.svg && -s $work/char/metrics.jsonl ]] || fail "train left no curve or metrics"

"$gpt" generate --model "$work/char/model.safetensors" --prompt "the owl " --length 6 --temperature 0 > "$work/owl"
grep -qx 'the owl hoots.' "$work/owl" || fail "after 'the owl ' comes: $(cat "$work/owl")"
write() { "$gpt" generate --model "$work/char/model.safetensors" --length 200 --temperature 1 --top-k 20 --top-p 0.9 --seed "$1"; }
write 1 > "$work/text1"; write 1 > "$work/again"; write 2 > "$work/text2"  # longer than the context
(( $(wc -c < "$work/text1") >= 200 )) || fail "fewer characters than asked"
cmp "$work/text1" "$work/again" || fail "one seed, two texts"
cmp -s "$work/text1" "$work/text2" && fail "two seeds, one text"

# A run that is interrupted and started again ends with the same bits.
pieces="$small --tokens bpe --vocabulary 300 --steps 400 --evaluate-every 50"
run train $pieces --out "$work/whole"
"$gpt" train $pieces --out "$work/cut" > "$work/cut.log" 2>&1 &
pid=$!
for _ in $(seq 1 600); do
  [[ -f $work/cut/metrics.jsonl ]] && (( $(wc -l < "$work/cut/metrics.jsonl") > 70 )) && break
  sleep 0.05
done
kill -INT $pid
status=0; wait $pid || status=$?
(( status == 130 )) && grep -q 'train: stopped' "$work/cut.log" || { cat "$work/cut.log"; fail "an interrupted run ends with $status"; }
[[ -s $work/cut/model.safetensors ]] || fail "an interrupted run leaves no model"
(( $(wc -l < "$work/cut/metrics.jsonl") < 400 )) || fail "the run was not interrupted"
run train $pieces --out "$work/cut"
for file in model.safetensors metrics.jsonl; do
  cmp "$work/whole/$file" "$work/cut/$file" || fail "$file of an interrupted run is another"
done
refused "a folder of another run" 'holds a run of other options' train $pieces --seed 9 --out "$work/cut"

run explain --model "$work/whole/model.safetensors" --prompt "the cow" --out "$work/why.html"
for part in '<svg' 'gradient x input' 'unexplained' ' moos' 'the'; do
  grep -q -- "$part" "$work/why.html" || fail "the page lacks '$part'"
done
grep -qE 'src=|href=|@import|url\(' "$work/why.html" && fail "the page refers to something outside"
run explain --model "$work/char/model.safetensors" --prompt "the cow " --target "b" --out "$work/other.html"
grep -q "'b' with probability" "$work/log" || { cat "$work/log"; fail "--target was not explained"; }

printf 'too short' > "$work/short.txt"
refused "a short text" 'short.txt: the training part has 8 tokens' train --text "$work/short.txt" --tokens char --out "$work/none"
printf 'caf\xe9 au lait' > "$work/latin.txt"
refused "Latin-1" 'latin.txt: the text is no UTF-8 at byte 3' train --text "$work/latin.txt" --out "$work/none"
refused "an unknown character" "the character 'Z' at byte 0" generate --model "$work/char/model.safetensors" --prompt "Z"
refused "a curve" 'loss.svg' generate --model "$work/char/loss.svg"
"$gpt" --help | grep -q explain && "$gpt" train --help | grep -q -- --context || fail "--help"
echo "gpt example: validation loss $loss; a stopped run goes on bit for bit"
