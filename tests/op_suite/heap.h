// The heap of this program (heap.cpp).
#pragma once
#include <cstdint>

/// False under sanitizers, which have their own heap.
bool heap_can_fail();
/// From now on n requests of this thread succeed, then all fail; negative: none fails.
void fail_heap_after(int64_t n);
