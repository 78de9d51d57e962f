// stabilised_div.
#include <algorithm>

#include "whence/autograd/rules.h"
#include "whence/ops/cpu/stabilise.h"
#include "whence/ops/floats.h"
#include "whence/tensor/parallel.h"

namespace whence::cpu {
namespace {

using lrp::Stab;

// One group of elements that shares its scale: rows (relative), samples, or everything. A denominator of exactly zero
// (eps = 0, an empty sum) passes nothing on: what arrived is booked as held by the stabiliser.
// eps is rounded to T once, with its scale, as the row loop of fused groups does.
template <class T> void divide(const T* r, const T* z, T* out, int64_t n, Stab mode, double eps, T share) {
  if (mode == Stab::relative || mode == Stab::rms_tensor) eps *= std::max(1.0, root_mean_square(z, n));
  if (mode == Stab::rms_sample) eps *= root_mean_square(z, n);
  divide_stabilised(r, z, out, n,
                    mode == Stab::plain  ? StabForm::plain
                    : mode == Stab::clip ? StabForm::clip
                                         : StabForm::sign,
                    T(eps), share);
}

template <class T> void run(const KernelCall& call) {
  const View& R = call.in[0];
  const View& Z = call.in[1];
  Stab mode = Stab(call.attrs.integer("stab"));
  const double eps = call.attrs.real("eps");
  const T share = T(call.attrs.real("share"));
  int64_t n = Z.numel();
  if (n == 0 || R.numel() == 0) return;
  int64_t group = n;
  if (mode == Stab::relative) group = Z.shape.rank() > 1 ? Z.shape[-1] : 1;
  if (mode == Stab::rms_sample) group = Z.shape.rank() ? n / Z.shape[0] : 1;
  bool whole = mode == Stab::rms_tensor;
  if (!whole && mode != Stab::relative && mode != Stab::rms_sample)
    group = std::min<int64_t>(n, 4096);  // any cut will do
  const T *r = R.as<T>(), *z = Z.as<T>();
  T* out = call.out[0].as<T>();
  int64_t groups = (n + group - 1) / group, leads = R.numel() / n;
  parallel_for(groups * leads, std::max<int64_t>(1, kGrain / group), [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      int64_t lead = g / groups, at = g % groups * group;
      divide(r + lead * n + at, z + at, out + lead * n + at, std::min(group, n - at), mode, eps, share);
    }
  });
}

void kernel(const KernelCall& call) { by_float(call, run<float>, run<double>); }
REGISTER_KERNEL(cpu, stabilised_div) = {kernel, {.in_place = 0}};

}  // namespace
}  // namespace whence::cpu
