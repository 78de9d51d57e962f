// The calls that programs are made of.
#include "whence/autograd/checkpoint.h"
#include "whence/ops/composite.h"
#include "whence/ops/conv.h"
#include "tests/fuzz/programs/program.h"

namespace programs {
namespace {

// Calls f with arguments made in order.
template <class R, class... A> Step of(R (*f)(A...)) {
  return [f](Program& p) {
    std::tuple<std::decay_t<A>...> args{p.make<std::decay_t<A>>()...};
    p.add(std::apply(f, args));
  };
}
// The same for sources, whose first parameter is the graph.
template <class R, class... A> Step source(R (*f)(Graph&, A...)) {
  return [f](Program& p) {
    std::tuple<std::decay_t<A>...> args{p.make<std::decay_t<A>>()...};
    p.add(std::apply([&](const auto&... a) { return f(p.graph(), a...); }, args));
  };
}

#define OP(NAME) \
  { #NAME, of(&whence::NAME) }
#define SOURCE(NAME) \
  { #NAME, source(&whence::NAME) }

}  // namespace

const std::vector<std::pair<const char*, Step>>& steps() {
  using Unary = Var (*)(Arg);
  using Shrink = Var (*)(Arg, double);
  static const std::vector<std::pair<const char*, Step>> list = {
      OP(add),
      OP(sub),
      OP(mul),
      OP(div),
      OP(maximum),
      OP(minimum),
      {"pow", of(static_cast<Var (*)(Arg, Arg)>(&whence::pow))},
      OP(neg),
      {"abs", of(static_cast<Unary>(&whence::abs))},
      OP(sign),
      {"exp", of(static_cast<Unary>(&whence::exp))},
      {"expm1", of(static_cast<Unary>(&whence::expm1))},
      {"log", of(static_cast<Unary>(&whence::log))},
      {"log1p", of(static_cast<Unary>(&whence::log1p))},
      {"sqrt", of(static_cast<Unary>(&whence::sqrt))},
      OP(rsqrt),
      OP(reciprocal),
      OP(square),
      {"sin", of(static_cast<Unary>(&whence::sin))},
      {"cos", of(static_cast<Unary>(&whence::cos))},
      {"tanh", of(static_cast<Unary>(&whence::tanh))},
      OP(sigmoid),
      {"erf", of(static_cast<Unary>(&whence::erf))},
      OP(relu),
      OP(leaky_relu),
      OP(gelu),
      OP(gelu_tanh),
      OP(silu),
      {"softplus", of(static_cast<Unary>(&whence::softplus))},
      OP(log_sigmoid),
      OP(clamp),
      {"floor", of(static_cast<Unary>(&whence::floor))},
      {"round", of(static_cast<Unary>(&whence::round))},
      OP(cast),
      OP(widened),
      OP(less),
      OP(less_equal),
      OP(greater),
      OP(greater_equal),
      OP(equal),
      OP(not_equal),
      OP(logical_and),
      OP(logical_or),
      OP(logical_not),
      OP(where),
      OP(sum),
      OP(mean),
      OP(max),
      OP(min),
      OP(argmax),
      OP(argmin),
      OP(logsumexp),
      OP(any),
      OP(all),
      OP(variance),
      OP(cumsum),
      OP(linear_scan),
      OP(reshape),
      OP(permute),
      OP(transpose),
      OP(squeeze),
      OP(unsqueeze),
      OP(broadcast_to),
      OP(sum_to),
      OP(concat),
      OP(stack),
      OP(split),
      OP(chunk),
      OP(slice),
      OP(select),
      OP(pad),
      OP(flip),
      OP(roll),
      OP(repeat),
      OP(repeat_interleave),
      OP(gather),
      OP(take_along_axis),
      OP(scatter_add),
      OP(embedding),
      OP(one_hot),
      OP(pick),
      OP(topk),
      OP(argsort),
      OP(matmul),
      OP(linear),
      OP(einsum),
      OP(causal_conv1d),
      OP(softmax),
      OP(log_softmax),
      OP(layer_norm),
      OP(rms_norm),
      OP(attention),
      OP(cross_entropy),
      OP(bce_with_logits),
      OP(mse_loss),
      OP(l1_loss),
      OP(huber_loss),
      OP(kl_divergence),
      OP(categorical),
      OP(pack),
      OP(all_sound),
      OP(sum_squares),
      OP(update_slice),
      OP(slice_at),
      SOURCE(uniform),
      SOURCE(normal),
      SOURCE(bernoulli),
      SOURCE(permutation),
      OP(dropout),
      SOURCE(arange),
      OP(stop_gradient),
      OP(stop_relevance),
      // composite.h
      {"atan", of(static_cast<Unary>(&whence::atan))},
      {"atan2", of(static_cast<Var (*)(Arg, Arg)>(&whence::atan2))},
      OP(logaddexp),
      OP(logit),
      {"softplus", of(static_cast<Shrink>(&whence::softplus))},
      OP(elu),
      OP(relu6),
      OP(hardsigmoid),
      OP(hardswish),
      OP(swish),
      OP(quick_gelu),
      OP(mish),
      OP(softsign),
      OP(softshrink),
      OP(softcap),
      OP(softmin),
      OP(prelu),
      OP(glu),
      OP(geglu),
      OP(swiglu),
      OP(masked_fill),
      SOURCE(full),
      OP(zeros_like),
      OP(ones_like),
      OP(prod),
      OP(standard_deviation),
      OP(norm1),
      OP(norm2),
      OP(l2_normalize),
      OP(cummax),
      OP(cumprod),
      OP(logcumsumexp),
      OP(diff),
      OP(bottomk),
      OP(sort),
      OP(segment_sum),
      OP(segment_mean),
      OP(index_add),
      OP(put_along_axis),
      OP(tril),
      OP(triu),
      OP(diagonal),
      OP(unfold),
      OP(im2col),
      OP(col2im),
      OP(pixel_shuffle),
      OP(pixel_unshuffle),
      // conv.h, ctc.h, resize.h
      OP(conv),
      OP(conv_transpose),
      OP(avg_pool),
      OP(adaptive_avg_pool),
      OP(max_pool),
      OP(adaptive_max_pool),
      OP(max_pool_indices),
      OP(adaptive_max_pool_indices),
      OP(max_unpool),
      OP(lp_pool),
      OP(ctc_loss),
      OP(resize),
      OP(resize_by),
      OP(grid_sample),
      // fft.h, linalg.h
      OP(fft),
      OP(ifft),
      OP(rfft),
      OP(irfft),
      OP(fft2),
      OP(ifft2),
      OP(rfft2),
      OP(irfft2),
      OP(cholesky),
      OP(solve),
      OP(solve_triangular),
      OP(inverse),
      OP(slogdet),
      OP(logdet),
      OP(eigh),
      OP(eigvalsh),
      // Operands that fit.
      {"matmul",
       [](Program& p) {
         Var a = p.made({2, 3, 4}), b = p.made({4, 5});
         p.add(matmul(a, b, p.make<std::optional<DType>>()));
       }},
      {"linear",
       [](Program& p) {
         Var a = p.made({2, 4}), b = p.made({3, 4}), c = p.made({3});
         p.add(linear(a, b, c));
       }},
      {"causal_conv1d",
       [](Program& p) {
         Var x = p.made({2, 5, 3}), w = p.made({3, 2});
         p.add(causal_conv1d(x, w));
       }},
      {"layer_norm",
       [](Program& p) {
         Var x = p.made({2, 3, 4}), w = p.made({4}), b = p.made({4});
         p.add(layer_norm(x, w, b, p.chance(0.8) ? 1e-5 : p.number()));
       }},
      {"rms_norm",
       [](Program& p) {
         Var x = p.made({2, 4}), w = p.made({4});
         p.add(rms_norm(x, w));
       }},
      {"attention",
       [](Program& p) {
         Var q = p.made({2, 4, 3, 4}), k = p.made({2, p.chance(0.5) ? 2 : 4, 3, 4}),
             v = p.chance(0.5) ? k : p.made({2, 4, 3, 2});
         p.add(attention(q, k, v, p.make<AttentionOptions>()));
       }},
      {"cross_entropy",
       [](Program& p) {
         Var x = p.made({4, 3}), t = p.made({4}, p.pick({i32, i64, u8}));
         p.add(cross_entropy(x, t, p.make<CrossEntropyOptions>()));
       }},
      {"embedding",
       [](Program& p) {
         Var i = p.made({2, 3}, i64), w = p.made({6, 2});
         p.add(embedding(i, w, p.integer(-1, 5)));
       }},
      {"gather",
       [](Program& p) {
         Var x = p.made({4, 3}), i = p.made({2}, i64);
         p.add(gather(x, i, p.integer(0, 1)));
       }},
      {"scatter_add",
       [](Program& p) {
         Var b = p.made({4, 3}), i = p.made({2, 3}, i64), s = p.made({2, 3});
         p.add(scatter_add(b, i, s, 0));
       }},
      {"segment_sum",
       [](Program& p) {
         Var x = p.made({4, 3}), i = p.made({4}, i32);
         p.add(segment_sum(x, i, 0, p.integer(0, 7)));
       }},
      {"linear_scan",
       [](Program& p) {
         Var a = p.made({2, 3}), b = p.made({2, 3});
         p.add(linear_scan(a, b, p.integer(0, 1), p.chance(0.5)));
       }},
      {"scan",
       [](Program& p) {
         Var x = p.made({4, 3}), h = p.made({3}), n = p.made({3}, i64);
         ScanOptions o{.reverse = p.chance(0.5)};
         if (p.chance(0.3)) o.lengths = n;
         auto body = [&](const ScanStep& s) {
           Var next = tanh(s.carries[0] * s.per_step[0]);
           return ScanNext{{p.chance(0.95) ? next : sum(next)}, {next + s.per_step[0]}};
         };
         Scanned r = scan(body, {h}, {x}, {}, o);
         p.add(p.chance(0.5) ? r.carries[0] : r.out[0]);
       }},
      {"update_slice",
       [](Program& p) {
         Var x = p.made({4, 3}), u = p.made({2, 3}), at = p.made({}, i64);
         p.add(update_slice(x, u, at, 0));
       }},
      {"conv",
       [](Program& p) {
         bool plane = p.chance(0.6);
         Var x = p.made(plane ? Shape{1, 2, 5, 5} : Shape{2, 2, 6}),
             w = p.made(plane ? Shape{4, 2, 3, 2} : Shape{4, 2, 2});
         p.add(conv(x, w, p.make<OptionalArg>(), p.make<ConvOptions>()));
       }},
      {"conv_transpose",
       [](Program& p) {
         Var x = p.made({1, 4, 3, 3}), w = p.made({4, 2, 3, 2});
         p.add(conv_transpose(x, w, {}, p.make<ConvOptions>()));
       }},
      {"max_pool",
       [](Program& p) {
         Var x = p.made({1, 2, 5, 5});
         p.add(max_pool(x, p.make<PoolOptions>()));
       }},
      {"avg_pool",
       [](Program& p) {
         Var x = p.made({1, 2, 5, 5});
         p.add(avg_pool(x, p.make<PoolOptions>()));
       }},
      {"adaptive_avg_pool",
       [](Program& p) {
         Var x = p.made({1, 2, 5, 5});
         p.add(adaptive_avg_pool(x, {p.integer(1, 7), p.integer(1, 7)}));
       }},
      {"resize",
       [](Program& p) {
         Var x = p.made({1, 2, 3, 4});
         p.add(resize(x, {p.integer(1, 7), p.integer(1, 7)}, p.make<Resize>(), p.chance(0.3)));
       }},
      {"grid_sample",
       [](Program& p) {
         Var x = p.made({1, 2, 3, 4}), at = p.made({1, 2, 2, 2});
         p.add(grid_sample(x, at, p.chance(0.5)));
       }},
      {"ctc_loss",
       [](Program& p) {
         Var x = p.made({4, 2, 3}), t = p.made({2, 2}, i64), n = p.made({2}, i64), m = p.made({2}, i64);
         p.add(ctc_loss(x, t, n, m, p.make<CtcOptions>()));
       }},
      {"fft",
       [](Program& p) {
         Var x = p.made({2, 5, 2});
         p.add(fft(x, p.integer(0, 9), p.integer(-2, 1), p.make<FftNorm>()));
       }},
      {"irfft",
       [](Program& p) {
         Var x = p.made({4, 3, 2});
         p.add(irfft(x, p.integer(0, 9), p.integer(-2, 1), p.make<FftNorm>()));
       }},
      {"rfft2",
       [](Program& p) {
         Var x = p.made({2, 4, 6});
         p.add(p.chance(0.5) ? irfft2(rfft2(x)) : rfft2(x, {}, p.make<FftNorm>()));
       }},
      {"cholesky",
       [](Program& p) {
         Var a = p.made({2, 3, 3});
         p.add(cholesky(a, p.chance(0.8) ? 9.0 : p.number()));
       }},
      {"solve",
       [](Program& p) {
         Var a = p.made({3, 3}), b = p.made(p.chance(0.5) ? Shape{2, 3, 2} : Shape{3, 1});
         p.add(p.chance(0.6) ? solve(a, b) : solve_triangular(a, b, p.chance(0.5)));
       }},
      {"eigh",
       [](Program& p) {
         Var a = p.made({2, 3, 3});
         if (p.chance(0.5)) p.add(eigh(a));
         else p.add(slogdet(a));
       }},
      {"im2col",
       [](Program& p) {
         Var x = p.made({1, 2, 5, 5});
         p.add(im2col(x, p.make<Window>()));
       }},
      {"col2im",
       [](Program& p) {
         Var x = p.made({1, 8, 16});
         p.add(col2im(x, p.integer(4, 6), p.integer(4, 6), p.make<Window>()));
       }},
      {"checkpoint",
       [](Program& p) {
         Var x = p.var();
         p.add(checkpoint([&](Var v) { return p.chance(0.9) ? tanh(v) * 2.0 : p.var(); }, x));
       }},
  };
  return list;
}

}  // namespace programs
