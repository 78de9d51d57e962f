// Kernels are compiled for one instruction set (WHENCE_ARCH). On a processor without it the first Graph says so, where
// the first kernel would end in SIGILL.
#include <string>

#include "whence/autograd/op.h"

namespace whence::cpu {

#if defined(__x86_64__)
[[maybe_unused]] static const bool checked = [] {
  std::string lacks;
  auto need = [&](bool has, const char* name) {
    if (!has) lacks += (lacks.empty() ? "" : ", ") + std::string(name);
  };
#ifdef __FMA__
  need(__builtin_cpu_supports("fma"), "FMA");
#endif
#ifdef __AVX2__
  need(__builtin_cpu_supports("avx2"), "AVX2");
#endif
#ifdef __AVX512F__
  need(__builtin_cpu_supports("avx512f"), "AVX-512F");
#endif
#ifdef __AVX512DQ__
  need(__builtin_cpu_supports("avx512dq"), "AVX-512DQ");
#endif
  if (!lacks.empty())
    report_defect("the library was built for a processor with " + lacks +
                  ", which this one lacks: build it with another WHENCE_ARCH (x86-64-v3, or empty for any)");
  return true;
}();
#endif

}  // namespace whence::cpu
