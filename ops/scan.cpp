// Loops whose body is a graph of its own.
#include "whence/ops/scan.h"

#include <fmt/format.h>

#include <map>
#include <mutex>
#include <set>

#include "whence/autograd/plan/ir.h"
#include "whence/autograd/sweep.h"
#include "whence/ops/composite.h"
#include "whence/ops/index.h"
#include "whence/ops/loop.h"

namespace whence {
namespace {

// ---- samples: bodies that are recorded for the dtype under test -----------------------------------------------------

using Values = std::vector<Var>;

// h [2, 3], x [4], W [3, 3]
BodyParts recurrent_sample(Graph& g, DType t) {
  Var h = g.input("h", {2, 3}, t), x = g.input("x", {2, 3}, t), w = g.input("w", {3, 3}, t);
  Var next = tanh(linear(h, w) + x);
  return {{h}, {x}, {w}, {next}, {next}};
}
// Two states, one of which the other reads; nothing shared.
BodyParts gated_sample(Graph& g, DType t) {
  Var c = g.input("c", {3}, t), h = g.input("h", {3}, t), a = g.input("a", {3}, t), b = g.input("b", {3}, t);
  Var c_next = sigmoid(a + h) * c + b, h_next = tanh(c_next);
  return {{c, h}, {a, b}, {}, {c_next, h_next}, {c_next * h_next}};
}
// No state: each step by itself.
BodyParts map_sample(Graph& g, DType t) {
  Var x = g.input("x", {2, 3}, t), w = g.input("w", {2, 3}, t);
  return {{}, {x}, {w}, {}, {linear(x, w)}};
}

std::shared_ptr<const Body> sample_body(const std::string& name, DType t) {
  static std::mutex mutex;
  static std::map<std::pair<std::string, DType>, std::shared_ptr<const Body>> bodies;
  static const std::map<std::string, BodyParts (*)(Graph&, DType)> recipes{
      {"recurrent", recurrent_sample}, {"gated", gated_sample}, {"map", map_sample}};
  std::lock_guard lock(mutex);
  std::shared_ptr<const Body>& body = bodies[{name, t}];
  if (body) return body;
  Graph g;
  body = std::make_shared<Body>(recipes.at(name)(g, t));
  return body;
}

Attrs sample_attrs(std::string body, int64_t steps, bool reverse = false) {
  return {{"sample", std::move(body)}, {"steps", steps}, {"reverse", reverse}};
}

// ---- the op -------------------------------------------------------------------------------------------------------

Shape step_of(Shape s) {
  if (s.rank()) s.erase(0);
  return s;
}

void infer_scan(InferCtx& infer) {
  LoopAttrs loop = LoopAttrs::of(infer.attrs, infer.in);
  const Body& body = *loop.body;
  if (infer.n() != int(body.inputs().size()))
    infer.value_error(fmt::format("its body has {} inputs, got {} operands", body.inputs().size(), infer.n()));
  for (int i = 0; i < infer.n(); ++i) {
    const Var& want = body.inputs()[size_t(i)];
    const bool per_step = i >= loop.carries() && i < loop.carries() + loop.per_step();
    const Shape s = per_step ? stacked(loop.steps, want.shape()) : want.shape();
    infer.need_shape(i, s);
    if (infer.dtype(i) != want.dtype())
      infer.dtype_error(fmt::format("{} must be {}, got {}", infer.op.operand_name(i), name_of(want.dtype()),
                                    name_of(infer.dtype(i))));
  }
  for (const Var& v : body.next()) infer.out(v.shape(), v.dtype());
  for (const Var& v : body.out()) infer.out(stacked(loop.steps, v.shape()), v.dtype());
  for (const Var& v : body.carries()) infer.out(stacked(loop.steps, v.shape()), v.dtype());
}

}  // namespace

REGISTER_OP(scan) = {
    .doc = "a body of its own run step by step: final states, stacked results, states at the steps' beginnings",
    .operands = {"operand..."},
    .infer = infer_scan,
    .vjp = sweep_loop,
    .relevance = sweep_loop,
    .samples =
        [] {
          SampleInput w{.shape = {3, 3}, .low = -0.6, .high = 0.6};
          auto of = [](Shape s) { return SampleInput{.shape = s}; };
          return std::vector<Sample>{{{of({2, 3}), of({4, 2, 3}), w}, sample_attrs("recurrent", 4), "recurrent"},
                                     {{of({2, 3}), of({3, 2, 3}), w}, sample_attrs("recurrent", 3, true), "reverse"},
                                     {{of({3}), of({3}), of({5, 3}), of({5, 3})}, sample_attrs("gated", 5), "gated"},
                                     {{of({3, 2, 3}), of({2, 3})}, sample_attrs("map", 3), "map"},
                                     {{of({2, 3}), of({1, 2, 3}), w}, sample_attrs("recurrent", 1), "one"},
                                     {{of({2, 3}), of({0, 2, 3}), w}, sample_attrs("recurrent", 0), "none"}};
        },
    .errors =
        [] {
          return std::vector<ErrorSample>{
              {{{{2, 3}, f32}, {{4, 2, 3}, f32}}, sample_attrs("recurrent", 4), "3 inputs, got 2 operands"},
              {{{{2, 3}, f32}, {{5, 2, 3}, f32}, {{3, 3}, f32}},
               sample_attrs("recurrent", 4),
               "must have shape [4, 2, 3], got [5, 2, 3]"},
              {{{{2, 3}, f32}, {{4, 2, 3}, f64}, {{3, 3}, f32}}, sample_attrs("recurrent", 4), "must be f32, got f64"}};
        },
    .traits = {.mixed_floats = true, .batched_sweep = true},
};

LoopAttrs LoopAttrs::of(const Attrs& attrs, std::span<const TensorType> in) {
  return {attrs.has("body") ? attrs.body("body") : sample_body(attrs.text("sample"), in[0].dtype),
          attrs.integer("steps"), attrs.flag("reverse")};
}

// ---- recording ----------------------------------------------------------------------------------------------------

namespace {

// Runs' seeds differ by small numbers, steps' by this much.
constexpr double kSeedsApart = double(0x9E3779B97F);

// Leaves that the body has found by itself become operands.
void lift_leaves(Graph& g, BodyParts& p, LoopOperands& o, int64_t steps, std::span<const NodeId> needed) {
  Graph& from = (p.next.empty() ? p.out : p.next)[0].graph();
  for (NodeId id : needed) {
    const Node& n = from.node(id);
    if (!n.op->traits.leaf) continue;
    const Attrs& a = from.attrs(n);
    const std::source_location at = from.location(n);
    Var inside = from.var(n.out_begin);
    if (n.op->name == "constant" && inside.numel() <= planner::kSmallConstant) continue;
    if (a.flag("scalar") && a.text("name") == "seed") {
      p.per_step.push_back(inside);
      o.per_step.push_back(g.seed() + arange(g, steps, i64, at) * kSeedsApart);
      continue;
    }
    p.shared.push_back(inside);
    if (n.op->name == "parameter") o.shared.push_back(g.parameter(a.text("name"), a.tensor("tensor"), at));
    else if (n.op->name == "constant") o.shared.push_back(g.constant(a.tensor("tensor"), at));
    else if (a.flag("scalar")) o.shared.push_back(g.scalar(a.text("name"), inside.dtype(), at));
    else
      o.shared.push_back(g.input(a.text("name"), inside.shape(), inside.dtype(), {.carries = a.flag("carries")}, at));
  }
}

// What depends on shared values alone is computed outside, once: a cast of a weight, say. Views cost nothing inside and
// stay there, but for transposes: outside they become row-major copies, which products need not pack at every step.
void hoist_invariants(Graph& g, BodyParts& p, LoopOperands& o, std::span<const NodeId> needed, const Values& wanted) {
  Graph& from = wanted[0].graph();
  enum Kind : char { varies, fixed, shared };
  std::vector<char> kind(from.value_count());
  for (const Var& v : p.shared) kind[v.id()] = shared;
  std::vector<ValueId> frontier;
  auto read = [&](ValueId v) {
    if (kind[v] == shared) frontier.push_back(v);
  };
  for (NodeId id : needed) {
    const Node& n = from.node(id);
    if (kind[n.out_begin] == shared || (n.op->traits.leaf && n.op->name != "constant")) continue;
    char k = n.op->traits.random || n.op->traits.effect ? char(varies) : char(fixed);
    for (ValueId v : from.inputs(n)) k = k == varies || kind[v] == varies ? char(varies) : std::max(k, kind[v]);
    std::fill_n(kind.begin() + n.out_begin, n.out_count, k);
    if (k == varies)
      for (ValueId v : from.inputs(n)) read(v);
  }
  for (const Var& v : wanted) read(v.id());
  Substitution outside;
  for (size_t i = 0; i < p.shared.size(); ++i) outside[p.shared[i].id()] = o.shared[i];
  for (ValueId v : frontier) {
    auto view = [&] { return from.producer(v).op->view && from.producer(v).op->name != "permute"; };
    while (!outside.contains(v) && view()) v = from.inputs(from.producer(v))[0];
    if (outside.contains(v)) continue;
    const Var inside = from.var(v);
    record_again(from, {&inside, 1}, outside, g);
    p.shared.push_back(inside);
    o.shared.push_back(outside.at(v));
  }
}

// Parts that nothing needs go, with their operands.
void drop_unused(std::vector<Var>& parts, std::vector<Var>& operands, const std::set<ValueId>& used) {
  size_t kept = 0;
  for (size_t i = 0; i < parts.size(); ++i)
    if (used.contains(parts[i].id())) {
      parts[kept] = parts[i];
      operands[kept++] = operands[i];
    }
  parts.resize(kept);
  operands.resize(kept);
}

}  // namespace

Looped record_loop(Graph& g, BodyParts p, LoopOperands o, int64_t steps, bool reverse, std::source_location where) {
  Values wanted = p.next;
  wanted.insert(wanted.end(), p.out.begin(), p.out.end());
  if (wanted.empty()) throw ValueError("[scan] the body gives nothing");
  const Graph& from = wanted[0].graph();
  auto needed = [&] {
    Substitution known;
    for (const Values* list : {&p.carries, &p.per_step, &p.shared})
      for (const Var& v : *list) known[v.id()] = v;
    return needed_nodes(from, wanted, known);
  };
  lift_leaves(g, p, o, steps, needed());
  hoist_invariants(g, p, o, needed(), wanted);
  std::set<ValueId> used;
  for (const Var& v : wanted) used.insert(v.id());
  for (NodeId id : needed())
    for (ValueId v : from.inputs(from.node(id))) used.insert(v);
  drop_unused(p.per_step, o.per_step, used);
  drop_unused(p.shared, o.shared, used);

  LoopAttrs loop{std::make_shared<Body>(p), steps, reverse};
  Values in = o.carries;
  in.insert(in.end(), o.per_step.begin(), o.per_step.end());
  in.insert(in.end(), o.shared.begin(), o.shared.end());
  Values results;
  if (in.empty()) throw ValueError("[scan] the body reads nothing");
  Var first = g.record(scan_op, in, loop.attrs(), where);
  for (size_t k = 0; k < p.next.size() + p.out.size(); ++k) results.push_back(g.var(first.id() + ValueId(k)));
  return {{results.begin(), results.begin() + std::ssize(p.next)},
          {results.begin() + std::ssize(p.next), results.end()}};
}

Scanned scan(const std::function<ScanNext(const ScanStep&)>& body, const Values& carries, const Values& per_step,
             const Values& shared, const ScanOptions& options, std::source_location where) {
  if (!body) throw ValueError("[scan] needs a body\n  recorded" + at_line(where));
  Values all = carries;
  all.insert(all.end(), per_step.begin(), per_step.end());
  all.insert(all.end(), shared.begin(), shared.end());
  Graph& g = graph_of("scan", all, where);
  LocationGuard at(g, where);
  auto fail = [&](const auto& error, const std::string& what) {
    throw std::decay_t<decltype(error)>("[scan] " + what + "\n  recorded" + at_line(where));
  };
  int64_t steps = options.steps;
  for (size_t i = 0; i < per_step.size(); ++i) {
    const Shape& s = per_step[i].shape();
    if (s.rank() == 0) fail(ShapeError(""), fmt::format("per_step {} has no axis of steps", i));
    if (i == 0 && steps < 0) steps = s[0];
    if (s[0] != steps) fail(ShapeError(""), fmt::format("per_step {} is {}, {} steps are wanted", i, s.str(), steps));
  }
  if (steps < 0) fail(ValueError(""), "nothing is given per step: say how many there are (ScanOptions::steps)");

  LoopOperands outside{carries, per_step, shared};
  Var alive;  // [T, B]
  if (options.lengths) {
    Var n = *options.lengths;
    if (n.rank() != 1) fail(ShapeError(""), "lengths must be [B], got " + n.shape().str());
    if (!is_integer(n.dtype()))
      fail(DTypeError(""), fmt::format("lengths must be integers, got {}", name_of(n.dtype())));
    alive = less(reshape(arange(g, steps), {steps, 1}), in_range(cast(n, i64), 0, steps + 1, "length"));
    outside.per_step.push_back(alive);
  }

  Graph inside(g.options());
  inside.inherit_scope(g);
  auto inputs = [&](const Values& values, const char* name, bool stacked) {
    Values made;
    for (const Var& v : values)
      made.push_back(inside.input(fmt::format("{} {} of scan", name, made.size()),
                                  stacked ? step_of(v.shape()) : v.shape(), v.dtype(), {.carries = false}, where));
    return made;
  };
  ScanStep step{inputs(carries, "carry", false), inputs(outside.per_step, "per step", true),
                inputs(shared, "shared", false)};
  BodyParts parts{step.carries, step.per_step, step.shared, {}, {}};
  Var lives;
  if (alive.defined()) {
    lives = step.per_step.back();
    step.per_step.pop_back();
  }
  ScanNext next = body(step);
  if (!inside.assigns().empty())
    fail(ValueError(""), "a body cannot assign a state: carry it, and assign what is left");
  if (next.carries.size() != carries.size())
    fail(ValueError(""), fmt::format("{} states are carried, the body gives {}", carries.size(), next.carries.size()));
  for (size_t k = 0; k < next.carries.size(); ++k) {
    inside.check_own(next.carries[k], fmt::format("[scan] the next value of state {}", k));
    const TensorType &want = inside.type(step.carries[k].id()), &got = inside.type(next.carries[k].id());
    const std::string what = fmt::format("state {} is {}, its next value {}", k, want.str(), got.str());
    if (!(want.shape == got.shape)) fail(ShapeError(""), what);
    if (want.dtype != got.dtype) fail(DTypeError(""), what);
  }
  for (size_t k = 0; k < next.out.size(); ++k)
    inside.check_own(next.out[k], fmt::format("[scan] out {} of the body", k));
  if (lives.defined()) {
    auto rows = [&](Var v, const char* what, size_t k) {  // lives as [B, 1, ..]
      if (v.rank() == 0 || v.size(0) != lives.size(0))
        fail(ShapeError(""),
             fmt::format("{} {} is {}, lengths are {} samples", what, k, v.shape().str(), lives.size(0)));
      Shape s(std::vector<int64_t>(size_t(v.rank()), 1));
      s[0] = lives.size(0);
      return reshape(lives, s);
    };
    for (size_t k = 0; k < next.carries.size(); ++k)
      next.carries[k] = whence::where(rows(next.carries[k], "state", k), next.carries[k], step.carries[k]);
    for (size_t k = 0; k < next.out.size(); ++k) {
      Var zero = broadcast_to(inside.constant(0.0, next.out[k].dtype()), next.out[k].shape());
      next.out[k] = whence::where(rows(next.out[k], "out", k), next.out[k], zero);
    }
  }
  parts.next = next.carries;
  parts.out = next.out;
  Looped r = record_loop(g, std::move(parts), std::move(outside), steps, options.reverse, where);
  return {std::move(r.carries), std::move(r.out)};
}

}  // namespace whence
