#!/usr/bin/env bash
# usage: ops_documented.sh [ROOT]
# Every function of the ops headers that <whence/whence.h> brings has a comment of its own: `///` on the line above its
# declaration, or `///<` behind it. Macros are refused there, so that a reader sees each function. Prints every offence
# as file:line and fails when there is one.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

# A statement at namespace depth that has a parenthesis is a function. Depth counts braces outside parentheses, so that
# `= {}` of a parameter opens nothing.
undocumented() {
  awk '
    FNR == 1 { depth = parens = 0; above = statement = "" }
    {
      line = $0
      code = line
      sub(/\/\/.*/, "", code)
      if (code ~ /^[ ]*#/) {
        if (code ~ /^[ ]*#[ ]*define/) offend(FNR, "a macro: write the functions out")
        code = ""
      }
      if (statement == "" && code ~ /[^ ]/) { first = FNR; documented = above ~ /^[ ]*\/\/\/([^<]|$)/ }
      if (line ~ /\/\/\/</) documented = 1
      for (i = 1; i <= length(code); ++i) {
        c = substr(code, i, 1)
        if (c == "(") ++parens
        if (c == ")") --parens
        if (depth == 1 && !(c == " " && statement == "")) statement = statement c
        if (parens == 0 && c == "{") { if (depth++ == 1) finish() }
        if (parens == 0 && c == "}" && --depth <= 1) statement = ""
        if (parens == 0 && c == ";" && depth == 1) finish()
      }
      above = line
    }
    function finish() {
      if (statement ~ /\(/ && statement !~ /^(struct|class|enum|using|namespace) / && !documented) {
        sub(/\(.*/, "", statement)
        offend(first, statement " has no comment of its own")
      }
      statement = ""
      documented = 0
    }
    function offend(line, what) { print FILENAME ":" line ": " what; bad = 1 }
    END { exit bad }' "$@"
}

# The check has to catch what it is for, and to leave the rest alone.
sample=$(mktemp)
trap 'rm -f "$sample"' EXIT
expect() {  # caught|fine, then declarations
  local got=fine
  printf '#pragma once\nnamespace whence {\n%s\n}  // namespace whence\n' "$2" >"$sample"
  undocumented "$sample" >/dev/null || got=caught
  [[ $got == "$1" ]] || { echo "self check: expected $1, was $got: $2"; exit 1; }
}
expect caught 'Var f(Arg x);'
expect caught $'/// f\nVar f(Arg x);\nVar g(Arg x);'
expect caught $'Var f(Arg x);  ///< f\nVar g(Arg x);'
expect caught $'// f\nVar f(Arg x);'
expect caught $'/// f\n\nVar f(Arg x);'
expect caught $'/// o\nstruct O {\n  int a = 0;  ///< a\n};\nVar f(Arg x, O o = {});'
expect caught 'inline Var f(Arg x) { return x; }'
expect caught $'template <class T>\nVar f(Arg x,\n      T t);'
expect caught '#define UNARY(NAME) Var NAME(Arg x);'
expect fine $'/// f\nVar f(Arg x, std::optional<Arg> bias = {},\n      O o = {});\nVar operator+(Arg a, Arg b);  ///< add'
expect fine $'/// f\ninline Var f(Arg x) { return g(x); }\nenum class E { a, b };\nstruct S {\n  int h() const { return 0; }\n};'

# scalar_row.h is for writing ops and is a macro by nature.
mapfile -t headers < <(sed -n 's/^#include "whence\/\(ops\/[^"]*\)".*/\1/p' include/whence/whence.h | grep -vx ops/scalar_row.h)
(( ${#headers[@]} )) || { echo "include/whence/whence.h includes no header of ops/"; exit 1; }
undocumented "${headers[@]}"
