// What a program does beside calling ops: sweeps, plans, tensors, functions.
#include "tests/fuzz/programs/program.h"

#include "whence/autograd/function.h"
#include "whence/lrp/ledger.h"
#include "whence/lrp/presets.h"
#include "whence/lrp/seed.h"

namespace programs {

Report* report;

void fault(const std::string& what) {
  ++report->faults;
  std::fprintf(stderr, "FAULT: %s\n", what.c_str());
  report->print();
}

// ---- sweeps --------------------------------------------------------------------------------------------------------

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

// ---- plans ---------------------------------------------------------------------------------------------------------

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

// ---- tensors -------------------------------------------------------------------------------------------------------

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

}  // namespace programs
