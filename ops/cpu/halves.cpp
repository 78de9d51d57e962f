#include "ops/cpu/halves.h"

namespace whence::cpu {

static bool half(DType t) { return t == bf16 || t == f16; }

void in_f32_or_f64(const KernelCall& call, KernelFn narrow, KernelFn wide) {
  DType precision = f32;
  bool halves = false, decided = false;
  for (std::span<const View> views : {call.out, call.in})
    for (const View& v : views) {
      halves |= half(v.dtype);
      if (is_float(v.dtype) && !decided) {
        precision = v.dtype;
        decided = true;
      }
    }
  if (!halves) return precision == f64 ? wide(call) : narrow(call);
  std::vector<Tensor> held;
  std::vector<View> in, out;
  auto widened = [&](const View& v) {
    if (!half(v.dtype)) return v;
    held.push_back(Tensor::empty(v.shape, f32));
    return held.back().view();
  };
  for (const View& v : call.in) {
    in.push_back(widened(v));
    if (half(v.dtype)) copy(v, in.back());
  }
  for (const View& v : call.out) out.push_back(widened(v));
  narrow({in, out, call.attrs, call.workspace, call.seed});
  for (size_t k = 0; k < out.size(); ++k)
    if (half(call.out[k].dtype)) copy(out[k], call.out[k]);
}

}  // namespace whence::cpu
