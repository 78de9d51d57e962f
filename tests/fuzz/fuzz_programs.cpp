// Random programs against the public interface: every op, with operands, attributes, sweeps, plans and feeds that fit
// or do not fit. Each ends in a value or in an exception of tensor/error.h; anything else is a fault of the library and
// is told with the program.
// usage: fuzz_programs [programs] [first seed] [jobs]      (fuzz_programs 1 SEED repeats one program)
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <new>
#include <tuple>

#include "autograd/checkpoint.h"
#include "autograd/function.h"
#include "lrp/ledger.h"
#include "lrp/presets.h"
#include "lrp/seed.h"
#include "nn/data/random_stream.h"
#include "ops/composite.h"
#include "ops/conv.h"
#include "ops/ctc.h"
#include "ops/ops.h"
#include "ops/resize.h"
#include "tensor/parallel.h"

using namespace whence;

// ---- memory ends early ---------------------------------------------------------------------------------------------
// Absurd sizes must fail at once and alike in every build. Tensors ask for theirs with aligned_alloc, which the limit
// on the address space stops (under the address sanitizer, its own limit); all else comes through here.

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kLimitAddressSpace = false;  // the sanitizer needs it
extern "C" const char* __asan_default_options() {  // what libraries have from the sanitizer's new goes to delete below
  return "allocator_may_return_null=1:alloc_dealloc_mismatch=0:max_allocation_size_mb=2000:detect_leaks=0";
}
#else
constexpr bool kLimitAddressSpace = true;
#endif

[[gnu::noinline]] void* operator new(size_t bytes) {
  void* p = bytes > size_t(1) << 28 ? nullptr : std::malloc(bytes ? bytes : 1);
  if (!p) throw std::bad_alloc();
  return p;
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace {

// ---- what a child tells
// ----------------------------------------------------------------------------------------------

struct Report {
  long seed = 0;
  long values = 0, errors = 0, runs = 0;  // steps that ended in either, plans that ran
  long faults = 0;
  size_t length = 0;
  char program[1 << 16];
  void say(const char* format, ...) __attribute__((format(printf, 2, 3))) {
    va_list args;
    va_start(args, format);
    int n = std::vsnprintf(program + length, sizeof program - length, format, args);
    va_end(args);
    length = std::min(length + size_t(std::max(n, 0)), sizeof program - 1);
  }
  void print() const {
    std::fprintf(stderr, "--- program %ld (repeat with: fuzz_programs 1 %ld)\n%.*s\n", seed, seed, int(length),
                 program);
  }
};
Report* report;  // shared with the parent, so that it outlives a crash

void fault(const std::string& what) {
  ++report->faults;
  std::fprintf(stderr, "FAULT: %s\n", what.c_str());
  report->print();
}

// ---- a program
// -------------------------------------------------------------------------------------------------------

constexpr int64_t kAbsurd[] = {
    INT64_MAX,           INT64_MIN,        INT64_MAX - 1,    INT64_MIN + 1,       int64_t(1) << 62,
    -(int64_t(1) << 62), int64_t(1) << 48, int64_t(1) << 33, -(int64_t(1) << 33), (int64_t(1) << 32) * 3 + 1,
    int64_t(1) << 50};
constexpr double kOddNumbers[] = {0,      -0.0, 1,   -1,           0.5,  3,   1e-8,     1e300,    -1e300,
                                  1e-320, 255,  256, 4294967296.0, 1e19, NAN, INFINITY, -INFINITY};

class Program {
 public:
  explicit Program(long seed)
      : random_(uint64_t(seed), 0x70726f67),
        graph_(chance(0.2) ? Graph::Mode::immediate : Graph::Mode::record),
        mixed_({.precision = mixed(chance(0.5) ? bf16 : f16)}),
        g(!graph_.immediate() && chance(0.2) ? mixed_ : graph_) {
    main_ = pick({f32, f32, f32, f64, f64, bf16, f16});
    say(g.immediate() ? "Graph g(immediate);" : &g == &mixed_ ? "Graph g({.precision = mixed});" : "Graph g;");
  }

  Graph& graph() { return g; }
  bool chance(double p) { return random_.chance(p); }
  int64_t below(int64_t n) { return random_.below(n); }
  template <class T> T pick(std::initializer_list<T> list) { return list.begin()[below(int64_t(list.size()))]; }
  void say(const char* text) { report->say("%s", text); }
  template <class... A> void say(const char* format, A... a) { report->say(format, a...); }

  void run();

  // ---- arguments, each told in the program's text

  int64_t integer(int64_t low = -3, int64_t high = 5) {
    int64_t v = chance(0.03) ? kAbsurd[below(std::ssize(kAbsurd))] : low + below(high - low + 1);
    if (g.immediate() && v > 1000) v = 7;  // a huge view is computed at once there
    say(" %ld", long(v));
    return v;
  }
  double number() {
    double v = chance(0.3) ? kOddNumbers[below(std::ssize(kOddNumbers))] : random_.uniform(-2, 2);
    say(" %g", v);
    return v;
  }
  DType dtype() {
    DType t = chance(0.5) ? main_ : DType(below(8));
    say(" %s", std::string(name_of(t)).c_str());
    return t;
  }
  Shape shape() {
    Shape s;
    if (!values_.empty() && chance(0.5)) s = values_[size_t(below(std::ssize(values_)))].shape();
    else
      for (int64_t n = below(5); n > 0; --n) s.push_back(below(5));
    for (int64_t edits = below(3); edits > 0 && chance(0.5); --edits) {
      int64_t extent = chance(0.1) ? kAbsurd[below(std::ssize(kAbsurd))] : below(8) - 1;
      if (g.immediate() && extent > 1000) extent = 7;
      if (s.rank() && chance(0.5)) s[int(below(s.rank()))] = extent;
      else if (s.rank() && chance(0.3)) s.erase(int(below(s.rank())));
      else if (s.rank() < Shape::kMaxRank) s.insert(int(below(s.rank() + 1)), extent);
    }
    say(" %s", s.str().c_str());
    return s;
  }
  Ints integers(int64_t low = -2, int64_t high = 4, int64_t most = 5) {
    Ints v;
    say(" {");
    for (int64_t n = below(most + 1); n > 0; --n) v.push_back(integer(low, high));
    say(" }");
    return v;
  }
  Ints axes() {
    Ints v;
    int rank = last_.defined() ? last_.rank() : 2;
    if (chance(0.2)) return integers();
    say(" {");
    for (int a = 0; a < rank; ++a)
      if (chance(0.5)) v.push_back(integer(a, a));
    say(" }");
    return v;
  }
  Tensor tensor(const Shape& s, DType t) {
    Tensor x = Tensor::empty(s, f64);
    double high = pick({1.0, 2.0, 3.0, 6.0}), low = is_float(t) || chance(0.1) ? -high : 0;
    for (int64_t i = 0; i < x.numel(); ++i)
      x.data<double>()[i] = chance(0.02) ? kOddNumbers[below(std::ssize(kOddNumbers))] : random_.uniform(low, high);
    return x.to(t);
  }
  // A new value of a graph: an input, a parameter, a constant.
  Var leaf(Graph& in, const Shape& s, DType t) {
    std::string name = "x" + std::to_string(feeds_.size());
    Var v;
    switch (below(4)) {
      case 0:
        held_.push_back(State(name, tensor(s, t)));
        v = in.state(held_.back());
        break;
      case 1: v = in.constant(tensor(s, t)); break;
      default: {
        Tensor value = tensor(s, t);
        v = in.input(name, value, {.carries = chance(0.8)});
        if (&in == &g) feeds_.emplace_back(name, value);
      }
    }
    return v;
  }
  Var made(const Shape& s, DType t) {
    Var v = leaf(g, s, t);
    say(" new v%zu %s %s", values_.size(), s.str().c_str(), std::string(name_of(t)).c_str());
    values_.push_back(v);
    return last_ = v;
  }
  Var made(const Shape& s) { return made(s, chance(0.9) ? main_ : DType(below(8))); }
  Var var() {
    if (chance(0.01)) {
      say(" none");
      return {};
    }
    if (chance(0.01)) {
      say(" foreign");
      return foreign_.defined() ? foreign_ : foreign_ = leaf(other_, {2, 3}, main_);
    }
    if (values_.empty()) return made({2, 3});
    size_t i = 0;
    for (int tries = 0; tries < 6; ++tries) {
      i = size_t(below(std::ssize(values_)));
      const Var& v = values_[i];
      if (!last_.defined() || (v.dtype() == last_.dtype() && (v.shape() == last_.shape() || chance(0.4)))) break;
    }
    say(" v%zu", i);
    return last_ = values_[i];
  }
  Arg arg() {
    if (chance(0.08)) return Arg(number());
    return Arg(var());
  }
  std::vector<Var> vars(int64_t most = 3) {
    std::vector<Var> list;
    say(" [");
    for (int64_t n = below(most + 1); n > 0; --n) list.push_back(var());
    say(" ]");
    return list;
  }

  template <class T> T make() {
    if constexpr (std::is_same_v<T, Arg>) return arg();
    else if constexpr (std::is_same_v<T, Var>) return var();
    else if constexpr (std::is_same_v<T, OptionalArg>) return chance(0.5) ? OptionalArg() : OptionalArg(arg());
    else if constexpr (std::is_same_v<T, bool>) return flag();
    else if constexpr (std::is_same_v<T, int64_t>) return integer();
    else if constexpr (std::is_same_v<T, double>) return number();
    else if constexpr (std::is_same_v<T, DType>) return dtype();
    else if constexpr (std::is_same_v<T, std::optional<DType>>)
      return chance(0.7) ? std::optional<DType>() : std::optional<DType>(dtype());
    else if constexpr (std::is_same_v<T, Shape>) return shape();
    else if constexpr (std::is_same_v<T, Ints>) return axes();
    else if constexpr (std::is_same_v<T, std::vector<Var>>) return vars();
    else if constexpr (std::is_same_v<T, std::vector<double>>) {
      std::vector<double> v;
      for (int64_t n = below(4); n > 0; --n) v.push_back(number());
      return v;
    } else if constexpr (std::is_same_v<T, std::source_location>) return std::source_location::current();
    else if constexpr (std::is_same_v<T, std::string>) {
      std::string s =
          pick<const char*>({"ij,jk->ik", "ij,ij->", "ii->i", "i...,...j->ij", "ij", "ij,ij", "abc,cd->abd", "->", "",
                             "i,->i", "ij,jk", "...", "zz->z", "i,j->ji", "ij->jij", "i.j", ",,"});
      say(" \"%s\"", s.c_str());
      return s;
    } else if constexpr (std::is_enum_v<T>) {
      int v = int(below(5));
      say(" %d", v);
      return T(std::min(v, last_of(T())));
    } else if constexpr (std::is_same_v<T, AttentionOptions>) {
      AttentionOptions o{.causal = flag(), .scale = chance(0.7) ? 0 : number()};
      if (chance(0.2)) o.mask = chance(0.7) ? made({2, 3}, boolean) : var();
      if (chance(0.2)) o.bias = var();
      return o;
    } else if constexpr (std::is_same_v<T, CrossEntropyOptions>)
      return {chance(0.5) ? -100 : integer(), chance(0.5) ? 0 : number(), make<Reduction>()};
    else if constexpr (std::is_same_v<T, CtcOptions>) return {integer(0, 2), flag(), make<Reduction>()};
    else if constexpr (std::is_same_v<T, ConvOptions>) {
      ConvOptions o;
      o.stride = lengths(1), o.padding = lengths(0), o.dilation = lengths(1);
      if (chance(0.3)) o.groups = integer(0, 2);
      if (chance(0.2)) o.output_padding = lengths(0);
      return o;
    } else if constexpr (std::is_same_v<T, PoolOptions>) {
      PoolOptions o;
      o.kernel = chance(0.9) ? Ints{integer(0, 3)} : integers();
      o.stride = lengths(1), o.padding = lengths(0), o.dilation = lengths(1);
      o.ceil = flag(), o.count_include_pad = flag();
      if (chance(0.1)) o.divisor = number();
      return o;
    } else if constexpr (std::is_same_v<T, Window>) {
      Window w{chance(0.9) ? Ints{integer(1, 3), integer(1, 3)} : integers()};
      if (chance(0.3)) w.stride = {integer(0, 3), integer(0, 3)};
      if (chance(0.3)) w.padding = {integer(0, 2), integer(0, 2)};
      if (chance(0.3)) w.dilation = {integer(0, 2), integer(0, 2)};
      return w;
    } else static_assert(!sizeof(T), "an argument that the fuzzer cannot make");
  }

  // ---- results

  void add(Var v) {
    if (!v.defined()) return fault("an undefined Var came out of an op");
    say(" -> v%zu %s", values_.size(), TensorType{v.shape(), v.dtype()}.str().c_str());
    values_.push_back(v);
  }
  void add(const std::vector<Var>& list) {
    for (const Var& v : list) add(v);
  }
  void add(const TopK& t) { add(t.values), add(t.indices); }
  void add(const Tensor& t) { (void)t.str(); }

 private:
  bool flag() {
    bool v = chance(0.5);
    say(v ? " true" : " false");
    return v;
  }
  static constexpr int last_of(PadMode) { return 3; }
  static constexpr int last_of(Reduction) { return 2; }
  static constexpr int last_of(Resize) { return 4; }
  Ints lengths(int64_t least) {  // of strides, pads, dilations
    if (chance(0.7)) return {};
    return chance(0.8) ? Ints{integer(least - 1, 3)} : integers(least - 1, 3, 3);
  }
  // f() ends in a value or in an error of the library.
  template <class F> bool attempt(F&& f) {
    try {
      f();
      ++report->values;
      say("\n");
      return true;
    } catch (const Error& e) {
      ++report->errors;
      say("\n    %.200s\n", e.what());
    } catch (const std::exception& e) {
      say("\n    %s: %s\n", typeid(e).name(), e.what());
      fault(std::string("an exception that is none of the library's: ") + typeid(e).name() + ": " + e.what());
    } catch (...) {
      fault("something that is no exception was thrown");
    }
    return false;
  }
  lrp::RuleSet rules();
  void sweep();
  void plan();
  void use(Plan& p, bool run);
  void tensors();
  bool huge(const Var& v) const {
    double n = 1;
    for (int64_t d : v.shape()) n *= double(d);
    return n > 1e5;
  }

  RandomStream random_;
  Graph graph_, mixed_, other_;
  Graph& g;
  DType main_;
  std::vector<Var> values_;
  std::vector<std::pair<std::string, Tensor>> feeds_;
  std::deque<State> held_;
  Var last_, foreign_;
};

// ---- the ops
// ---------------------------------------------------------------------------------------------------------

using Step = std::function<void(Program&)>;

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

// Every function of ops.h, composite.h, conv.h, ctc.h and resize.h; then some with operands that belong together.
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

// ---- sweeps
// ----------------------------------------------------------------------------------------------------------

lrp::RuleSet Program::rules() {
  switch (below(8)) {
    case 0: return lrp::epsilon(chance(0.7) ? 1e-6 : number());
    case 1: return lrp::cp();
    case 2: return lrp::dynamic();
    case 3: return lrp::mamba();
    case 4: return lrp::epsilon_plus();
    case 5: return lrp::epsilon_alpha2_beta1();
    case 6: {
      lrp::RuleSet set("random", {.stab = lrp::Stab(below(6))});
      for (int64_t n = 1 + below(3); n > 0; --n) {
        lrp::Rule rule{
            .variant = pick<const char*>({"", "identity", "detach", "gamma", "zplus", "alphabeta", "zbox", "flat",
                                          "wsquare", "abs", "pass", "first", "second", "sum", "uniform", "nonsense"})};
        rule.bias = flag(), rule.bias_abs = chance(0.2), rule.stab_of_double = chance(0.2);
        if (rule.variant == "zbox" && chance(0.8)) rule.low = tensor({}, main_), rule.high = tensor({}, main_);
        say(" %s", rule.variant.c_str());
        set.set(pick<const char*>({"*", "linear", "matmul", "a*", "*pool", "mul", "conv*", "softmax"}), rule);
      }
      return set;
    }
    default: return lrp::attn();
  }
}

void Program::sweep() {
  std::vector<Var> found;
  if (chance(0.5)) {
    say("grad");
    if (attempt([&] {
          Var y = var();
          if (chance(0.6)) y = sum(y);
          std::vector<Var> wrt = vars();
          found = grad(y, wrt, chance(0.8) ? Var() : var());
          add(found);
        }))
      return;
    return;
  }
  say("relevance");
  attempt([&] {
    lrp::RuleSet set = rules();
    Var y = var(), seed = chance(0.7) ? Var() : var();
    RelevanceOptions o;
    o.inline_fused = chance(0.2);
    if (chance(0.2)) {
      o.targets = integer(0, 3);
      if (chance(0.7) && o.targets > 0 && o.targets < 4 && y.defined() && y.rank() < 8) {
        Shape s = y.shape();
        s.insert(0, o.targets);
        seed = made(s, accumulate_dtype(y.dtype()));
      }
    }
    std::vector<Var> wrt = vars();
    if (chance(0.3)) {
      lrp::Ledger ledger(set);
      add(ledger.relevance(y, wrt, seed, o));
      if (chance(0.5)) add(ledger.outputs());
    } else {
      add(relevance(y, wrt, set, seed, o));
    }
  });
}

// ---- plans
// -----------------------------------------------------------------------------------------------------------

void Program::use(Plan& p, bool run) {
  Results results;
  const size_t right = chance(0.8) ? feeds_.size() : SIZE_MAX;
  Feeds feeds;
  for (auto& [name, t] : feeds_) feeds.emplace_back(name, t);
  if (right == SIZE_MAX) {
    switch (below(6)) {
      case 0: feeds.clear(); break;
      case 1: feeds.emplace_back("nobody", Tensor::zeros({2})); break;
      case 2:
        if (!feeds.empty()) feeds[size_t(below(std::ssize(feeds)))].second = Tensor();
        break;
      case 3:
        if (!feeds.empty()) feeds[size_t(below(std::ssize(feeds)))].second = tensor({3, 1}, dtype());
        break;
      case 4:
        for (auto& f : feeds)
          if (f.second.rank() == 2) f.second = f.second.transposed().contiguous_copy().transposed();
        break;
      default:
        if (!feeds.empty()) feeds.push_back(feeds[0]);
    }
    say("other feeds ");
  }
  RunOptions o{.seed = random_.bits()};
  if (chance(0.9)) o.scalars = {{"s", number()}};
  const int64_t times = run ? 1 + below(2) : 0;
  bool ran = false;
  for (int64_t i = 0; i < times; ++i) {
    say("run");
    ran = attempt([&] { p.run(feeds, o, results); });
    report->runs += ran;
  }
  if (ran && right != SIZE_MAX && chance(0.2)) {
    say("reference");
    attempt([&] {
      Results again = p.reference(feeds, o);
      if (again.size() != results.size()) fault("reference() has another number of results");
      if (!held_.empty()) return;  // states have moved
      for (size_t i = 0; i < again.size(); ++i)
        if (!bitwise_equal(again[i], results[i]) && max_abs_diff(again[i], results[i]) > 0)
          fault("result " + std::to_string(i) + " differs from the reference");
    });
  }
  if (chance(0.1)) attempt([&] { say("result"), add(results[size_t(below(4))]); });
  if (chance(0.05)) attempt([&] { say("result"), add(results[var()]); });
  if (chance(0.1)) attempt([&] { (void)p.report(), p.stats(), p.hash(); });
  if (run && chance(0.1)) attempt([&] { say("diagnose"), p.diagnose(feeds, o); });
}

void Program::plan() {
  CompileOptions o;
  o.fuse = chance(0.8), o.merge = chance(0.8), o.reuse_memory = chance(0.8), o.concurrent = chance(0.5);
  o.profile = chance(0.1), o.keep_for_extend = chance(0.3);
  if (chance(0.2)) o.memory_budget = pick<size_t>({1, 1000, 5000, 100000, SIZE_MAX});
  if (chance(0.01)) o.device = cuda();
  Plan p;
  std::vector<Var> outputs;
  say("compile");
  bool there = attempt([&] {
    if (chance(0.1)) {
      State s("state", tensor(shape(), dtype()));
      Var next = var();
      g.assign(s, next);
    }
    outputs = vars(4);
    if (outputs.empty() && !values_.empty()) outputs.push_back(values_.back());
    p = chance(0.5) ? compile(outputs, o) : compile({outputs}, o);
  });
  if (!there && chance(0.9)) return;
  bool absurd = false, written = false;
  for (const Var& v : values_) absurd |= huge(v);
  for (const Var& v : outputs)
    if (v.defined()) written |= double(v.numel()) * double(size_of(v.dtype())) > double(int64_t(1) << 32);
  const bool run = !absurd || written;  // else a view that nobody writes would be walked through
  use(p, run);
  if (chance(0.2)) {
    sweep();
    Plan more;
    say("extend");
    if (attempt([&] { more = p.extend({vars()}, o); })) use(more, run && !absurd);
  }
}

// ---- tensors
// ---------------------------------------------------------------------------------------------------------

void Program::tensors() {
  Tensor t;
  if (chance(0.95)) t = tensor({below(4), below(4), 2}, dtype());
  say("tensor");
  for (int64_t n = 1 + below(4); n > 0; --n)
    attempt([&] {
      switch (below(14)) {
        case 0: t = t.transposed(int(integer()), int(integer())); break;
        case 1: {
          Ints a = axes();
          t = t.permuted(Shape(a));
          break;
        }
        case 2: {
          int axis = int(integer());
          int64_t begin = integer(), end = integer();
          t = t.slice(axis, begin, end, integer(0, 3));
          break;
        }
        case 3: t = t.broadcast_to(shape()); break;
        case 4: t = t.reshaped(shape()); break;
        case 5: t = t.contiguous_copy(); break;
        case 6: t = t.to(dtype()); break;
        case 7:
          if (!t.defined() || t.numel() < 100000) t.fill(number());  // not a huge view
          break;
        case 8: (void)t.str(); break;
        case 9: (void)t.item(integer()); break;
        case 10: t = Tensor::zeros(shape(), dtype()); break;
        case 11: t.copy_from(tensor({2, 2}, dtype())); break;
        case 12: (void)t.to_vector<float>(); break;
        default: t = Tensor::from(std::vector<double>(size_t(below(9))), shape());
      }
    });
}

void Program::run() {
  for (int64_t n = 1 + below(3); n > 0; --n) {
    say("leaf");
    attempt([&] { made(chance(0.5) ? Shape{2, 3} : shape(), chance(0.7) ? main_ : dtype()); });
  }
  if (!g.immediate() && chance(0.1)) attempt([&] { add(g.scalar("s", dtype())); });
  for (int64_t n = 1 + below(10); n > 0; --n) {
    const auto& [name, step] = steps()[size_t(below(std::ssize(steps())))];
    last_ = Var();
    say(name);
    attempt([&, &step = step] { step(*this); });
    if (chance(0.15)) sweep();
  }
  if (chance(0.3)) sweep();
  if (!g.immediate()) plan();
  if (chance(0.05)) tensors();
  if (chance(0.02)) {
    say("function");
    attempt([&] {
      auto f = function([&](Var x) { return chance(0.9) ? softmax(x) : var(); });
      for (int64_t n = 1 + below(3); n > 0; --n) add(f(tensor({1 + below(3), 2}, main_)));
    });
  }
}

// ---- children
// --------------------------------------------------------------------------------------------------------

void on_alarm(int) {
  const char text[] = "FAULT: a program does not end\n";
  (void)!::write(2, text, sizeof text - 1);
  ::_exit(3);
}

// Runs programs until `end` or the first crash; returns the exit status of the child.
int child(long begin, long end, long step) {
  std::signal(SIGALRM, on_alarm);
  if (kLimitAddressSpace) {
    rlimit limit{size_t(3) << 30, size_t(3) << 30};
    ::setrlimit(RLIMIT_AS, &limit);
  }
  cpu::set_num_threads(1);
  for (long seed = begin; seed < end; seed += step) {
    report->seed = seed;
    report->length = 0;
    ::alarm(60);
    Program(seed).run();
  }
  return 0;
}

// One worker: children of a few thousand programs each, so that none grows for ever and a crash ends only one.
long worker(long begin, long end, long step) {
  long crashes = 0;
  for (long at = begin; at < end;) {
    const long until = std::min(end, at + 4000 * step);
    report->seed = -1;
    std::fflush(nullptr);
    pid_t pid = ::fork();
    if (pid == 0) {
      int status = child(at, until, step);
      std::fflush(nullptr);
      ::_exit(status);
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
      at = until;
      continue;
    }
    ++crashes;
    if (WIFSIGNALED(status)) std::fprintf(stderr, "FAULT: %s\n", ::strsignal(WTERMSIG(status)));
    else std::fprintf(stderr, "FAULT: the program ended with status %d\n", WEXITSTATUS(status));
    report->print();
    if (report->seed < 0) return crashes;
    at = report->seed + step;
  }
  return crashes;
}

}  // namespace

int main(int argc, char** argv) {
  const long programs = argc > 1 ? std::atol(argv[1]) : 3000, first = argc > 2 ? std::atol(argv[2]) : 1,
             jobs = argc > 3 ? std::max(1L, std::atol(argv[3])) : 1;
  auto* reports = static_cast<Report*>(
      ::mmap(nullptr, sizeof(Report) * size_t(jobs), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (reports == MAP_FAILED) return 2;
  report = reports;
  if (programs == 1) {
    std::setvbuf(stderr, nullptr, _IONBF, 0);
    long crashes = worker(first, first + 1, 1);
    report->print();
    return crashes + report->faults > 0;
  }
  std::vector<pid_t> workers;
  for (long j = 0; j < jobs; ++j) {
    std::fflush(nullptr);
    pid_t pid = ::fork();
    if (pid == 0) {
      report = reports + j;
      report->faults += worker(first + j, first + programs, jobs);
      ::_exit(0);
    }
    workers.push_back(pid);
  }
  for (pid_t pid : workers) ::waitpid(pid, nullptr, 0);
  Report sum;
  for (long j = 0; j < jobs; ++j) {
    sum.values += reports[j].values, sum.errors += reports[j].errors;
    sum.runs += reports[j].runs, sum.faults += reports[j].faults;
  }
  std::printf("%ld programs from seed %ld: %ld steps gave values, %ld errors, %ld runs; %ld faults\n", programs, first,
              sum.values, sum.errors, sum.runs, sum.faults);
  return sum.faults > 0;
}
