#!/usr/bin/env bash
# A small GPT learns the King James Bible, writes a few lines and explains one word. `make gpt` builds and calls this;
# extra arguments go to its train (--text FILE for another text).
set -euo pipefail
cd "$(dirname "$0")/.."
gpt=./build/release/examples/gpt out=out/gpt text=out/gpt/text.txt
mkdir -p "$out"
if [[ " $* " != *" --text "* ]]; then
  command -v bible >/dev/null || { echo "gpt: no program 'bible'; install the Debian package bible-kjv, or give --text FILE" >&2; exit 1; }
  [[ -s $text ]] || { bible -f 'gen1:1-rev22:21' > "$text.part"; mv "$text.part" "$text"; }
  set -- --text "$text" "$@"
fi
"$gpt" train --out "$out" "$@"
"$gpt" generate --model "$out/model.safetensors" --prompt "And it came to pass" --length 120 --seed 1
"$gpt" explain --model "$out/model.safetensors" --prompt "In the beginning God created the heaven and the" --out "$out/why.html"
