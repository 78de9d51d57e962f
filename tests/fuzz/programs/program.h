// A random program against the public interface, told as it goes.
#pragma once
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <deque>
#include <functional>
#include <string>
#include <tuple>
#include <typeinfo>
#include <utility>
#include <vector>

#include "whence/nn/data/random_stream.h"
#include "whence/ops/ctc.h"
#include "whence/ops/resize.h"
#include "whence/whence.h"

namespace programs {

using namespace whence;

/// What a child tells.
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
extern Report* report;  ///< shared with the parent, so that it outlives a crash
void fault(const std::string& what);

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
    else if constexpr (std::is_same_v<T, Ints> || std::is_same_v<T, Axes>) return axes();
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
  void add(const SignLogdet& d) { add(d.sign), add(d.logabsdet); }
  void add(const Eigenpairs& e) { add(e.values), add(e.vectors); }
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
  static constexpr int last_of(FftNorm) { return 2; }
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

/// A call of the public interface with arguments of the program's making.
using Step = std::function<void(Program&)>;
/// Every function of ops.h, composite.h, conv.h, ctc.h, fft.h, linalg.h and resize.h; then some with operands that
/// belong together.
const std::vector<std::pair<const char*, Step>>& steps();

}  // namespace programs
