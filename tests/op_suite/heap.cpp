// Counts what each thread takes from the heap, for the suite's check that kernels take nothing, and makes the n-th
// request fail. malloc and its siblings are the way of everything, operator new and std::aligned_alloc included;
// sanitizers have their own.
#include "heap.h"

#include "whence/testing/op_suite.h"

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#include <cerrno>
#include <cstddef>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}

namespace {
thread_local int64_t allocations = 0, fail_at = -1;
bool fails() {
  ++allocations;
  return fail_at >= 0 && allocations > fail_at;
}
[[maybe_unused]] const bool counting = [] {
  whence::suite::heap_allocations = [] { return allocations; };
  return true;
}();
}  // namespace

bool heap_can_fail() { return true; }
void fail_heap_after(int64_t n) { fail_at = n < 0 ? -1 : allocations + n; }

extern "C" {
void* malloc(size_t n) { return fails() ? nullptr : __libc_malloc(n); }
void* calloc(size_t n, size_t size) { return fails() ? nullptr : __libc_calloc(n, size); }
void* realloc(void* p, size_t n) { return fails() ? nullptr : __libc_realloc(p, n); }
void* memalign(size_t alignment, size_t n) { return fails() ? nullptr : __libc_memalign(alignment, n); }
void* aligned_alloc(size_t alignment, size_t n) { return memalign(alignment, n); }
int posix_memalign(void** p, size_t alignment, size_t n) {
  *p = memalign(alignment, n);
  return *p ? 0 : ENOMEM;
}
}
#else
bool heap_can_fail() { return false; }
void fail_heap_after(int64_t) {}
#endif
