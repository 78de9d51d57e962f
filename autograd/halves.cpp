#include "autograd/halves.h"

namespace whence::cpu {

static bool half(const View& v) { return v.dtype == bf16 || v.dtype == f16; }

void widened(const KernelCall& call, const std::function<void(const KernelCall&)>& kernel) {
  bool none = true;
  for (std::span<const View> views : {call.out, call.in})
    for (const View& v : views) none &= !half(v);
  if (none) return kernel(call);
  std::vector<Tensor> held;
  std::vector<View> in, out;
  auto wide = [&](const View& v) {
    if (!half(v)) return v;
    held.push_back(Tensor::empty(v.shape, f32));
    return held.back().view();
  };
  for (const View& v : call.in) {
    in.push_back(wide(v));
    if (half(v)) copy(v, in.back());
  }
  for (const View& v : call.out) out.push_back(wide(v));
  kernel({in, out, call.attrs, call.workspace, call.seed});
  for (size_t k = 0; k < out.size(); ++k)
    if (half(call.out[k])) copy(out[k], call.out[k]);
}

void in_f32_or_f64(const KernelCall& call, KernelFn narrow, KernelFn wide) {
  for (std::span<const View> views : {call.out, call.in})
    for (const View& v : views)
      if (is_float(v.dtype)) return v.dtype == f64 ? wide(call) : widened(call, narrow);
  narrow(call);
}

}  // namespace whence::cpu
