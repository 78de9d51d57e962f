#!/usr/bin/env bash
# usage: snippets_self_test.sh COMPILER      the extractor of documentation code keeps awkward characters, and refuses typos
set -euo pipefail
compiler=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

extract() {
  cat >"$work/extract.cmake" <<CMAKE
cmake_minimum_required(VERSION 3.25)
set(PROJECT_SOURCE_DIR "$work")
include("$root/cmake/WhenceSnippets.cmake")
whence_extract_snippets(out "$work/out" "$work/page.md")
message("made: \${out}")
CMAKE
  rm -rf "$work/out"
  cmake -P "$work/extract.cmake" >"$work/log" 2>&1
}
fail() { echo "$1"; cat "$work/log"; exit 1; }

cat >"$work/page.md" <<'PAGE'
```cpp
this one is not ours [ ;
```
```cpp whence-file first
#include <string>
struct A { int v[3] = {1, 2, 3}; };  // a; b [ \
still a comment
#define TWICE(x) \
  ((x) + (x))
```
Text, then the same program goes on.
```cpp whence-test first
A a;
EXPECT_EQ(a.v[1] + TWICE(1), 4);
std::string s = "@page@ ${work} \n;[]\\";
EXPECT_EQ(s.size(), 20u);
```
  ```cpp whence-build second
  #include <cstdlib>
  std::abort();
  ```
PAGE
extract || fail "a good page was refused"
[[ $(ls "$work/out" | wc -l) == 2 ]] || fail "expected two programs"
cd "$work"
"$compiler" -std=c++20 out/*.cpp -o snippets -lgtest_main -lgtest -lpthread >log 2>&1 || fail "the snippets do not compile"
./snippets >log 2>&1 || fail "the snippets do not pass"
grep -q 'tests.*1 test ran\|1 test from 1 test suite ran' log || fail "expected exactly one test"

printf '```cpp whence-test first\nint x = nowhere;\n```\n' >page.md
extract || fail "a page with a compile error is still a page"
"$compiler" -std=c++20 -fsyntax-only out/*.cpp >log 2>&1 && fail "an undeclared name compiled"
grep -q '^page.md:2:' log || fail "the error does not point at the line of the page"

printf '```cpp whence-test\nint x;\n```\n' >page.md
extract && fail "a fence without a name was taken"
printf '```cpp whence-tset first\nint x;\n```\n' >page.md
extract && fail "a misspelt fence was taken"
printf '```cpp whence-test first\nint x;\n' >page.md
extract && fail "an open fence was taken"
echo "snippets_self_test: fine"
