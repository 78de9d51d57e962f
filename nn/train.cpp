#include "whence/nn/train.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "whence/nn/batch_signature.h"
#include "whence/ops/ops.h"

namespace whence::nn {

struct TrainStep::Traced {
  BatchSignature signature;
  bool updates;  // else it only adds to the accumulated gradients
  Graph graph;
  explicit Traced(GraphOptions options) : graph((options.training = true, options)) {}
  Plan plan;
  std::vector<std::string> names;    // batch tensors that the graph reads
  std::vector<std::string> outputs;  // beside the loss
};

Tensor StepResult::operator[](const std::string& name) const {
  step_->settle();
  return step_->output(name);
}

double StepResult::loss() const {
  step_->settle();
  return step_->loss_value_;
}

namespace {

void check(const TrainOptions& o, const TrainStep::Loss& loss) {
  if (!loss) throw ValueError("TrainStep: the loss is an empty function");
  if (!o.schedule) throw ValueError("TrainStep: the schedule is an empty function");
  if (o.accumulate < 1) throw ValueError(fmt::format("TrainStep: accumulate must be at least 1, got {}", o.accumulate));
  if (!(o.clip_norm >= 0))
    throw ValueError(fmt::format("TrainStep: clip_norm must not be negative, got {} (0: no clipping)", o.clip_norm));
  if (!(o.ema_decay >= 0 && o.ema_decay < 1))
    throw ValueError(fmt::format("TrainStep: ema_decay must be in [0, 1), got {} (0: no average)", o.ema_decay));
}

// What the loss has a gradient by.
std::vector<bool> reached_from(const Graph& g, Var loss) {
  std::vector<bool> reached(g.value_count());
  std::vector<ValueId> open{loss.id()};
  while (!open.empty()) {
    const ValueId v = open.back();
    open.pop_back();
    if (reached[v] || !is_float(g.type(v).dtype)) continue;
    reached[v] = true;
    const Node& n = g.producer(v);
    if (std::string_view(n.op->name) == "stop_gradient") continue;
    for (ValueId in : g.inputs(n)) open.push_back(in);
  }
  return reached;
}

}  // namespace

TrainStep::TrainStep(Module& model, OptimizerConfig optimizer, Loss loss, TrainOptions options)
    : model_((check(options, loss), model.to(options.compile.device), model)),
      loss_(std::move(loss)),
      options_(std::move(options)),
      optimizer_(model, std::move(optimizer), options_.groups) {
  if (options_.ema_decay > 0) ema_ = std::make_unique<Ema>(model, options_.ema_decay);
  follow();
}
TrainStep::~TrainStep() = default;

// Plans of another update go, with their memory, and accumulated gradients are packed anew.
void TrainStep::follow() {
  const int64_t version = optimizer_.follow();
  if (version == version_) return;
  traced_.clear();
  last_ = nullptr;
  results_ = Results();
  std::vector<const Parameter*> now;
  int64_t n = 0;
  for (const Parameter* p : model_.parameters())
    if (p->trainable()) {
      now.push_back(p);
      n += p->shape().numel();
    }
  gradients_ = Tensor::zeros({n}, model_.flat().dtype()).to(model_.flat().device());
  if (options_.accumulate > 1) {
    Tensor sum = Tensor::zeros({n}, model_.flat().dtype()).to(model_.flat().device());
    std::map<const Parameter*, int64_t> before;
    int64_t at = 0;
    for (const Parameter* p : trained_) {
      before[p] = at;
      at += p->shape().numel();
    }
    at = 0;
    for (const Parameter* p : now) {
      const int64_t size = p->shape().numel();
      if (auto b = before.find(p); b != before.end())
        sum.slice(0, at, at + size).copy_from(sum_.slice(0, b->second, b->second + size));
      at += size;
    }
    sum_ = sum;
  }
  trained_ = std::move(now);
  version_ = version;
}

TrainStep::Traced& TrainStep::trace(const Batch& batch, bool updates) {
  return *traced_.get([&](const Traced& t) { return t.updates == updates && t.signature == batch; },
                      [&] {
                        auto fresh = std::make_shared<Traced>(options_.graph);
                        fresh->updates = updates;
                        fresh->signature = BatchSignature(batch, "TrainStep");
                        record(*fresh, batch);
                        return fresh;
                      });
}

// The whole step on one graph. Whatever is assigned keeps its old value when loss, gradient norm or a running statistic
// are not finite, or when the batch holds what a kernel refuses.
void TrainStep::record(Traced& into, const Batch& batch) {
  Graph& g = into.graph;
  if (trained_.empty()) throw ValueError("TrainStep: no parameter of the model is trainable");
  StepOutputs outputs = loss_(g, batch);
  Var loss = outputs.loss;
  if (!loss.defined()) throw ValueError("TrainStep: the loss function returned an undefined Var");
  if (&loss.graph() != &g)
    throw ValueError("TrainStep: the loss is a value of another graph than the one it was given");
  if (loss.numel() != 1) throw ShapeError("TrainStep: the loss must be a scalar, got " + loss.shape().str());
  if (!is_float(loss.dtype()))
    throw DTypeError("TrainStep: the loss must be floating point to have a gradient, got " +
                     std::string(name_of(loss.dtype())) + " of " + g.describe(g.producer_id(loss.id())));
  const std::vector<bool> reached = reached_from(g, loss);
  auto reads = [&](const Parameter* p) { return p->in(g).id() < reached.size() && reached[p->in(g).id()]; };
  if (std::none_of(trained_.begin(), trained_.end(), reads))
    throw ValueError("TrainStep: the loss depends on no trainable parameter");
  loss = reshape(loss, {});
  std::vector<Var> sound{loss};
  const auto* home = static_cast<const std::byte*>(model_.flat().raw());
  for (auto& [leaf, next] : g.assigns()) {  // of the model's own buffers
    const auto* at = static_cast<const std::byte*>(g.attrs(g.producer(leaf)).tensor("tensor").raw());
    if (at >= home && at < home + model_.flat().nbytes()) sound.push_back(g.var(next));
  }
  Var gradients = pack(grad(loss, model_)), total = gradients;
  if (sum_.defined()) {
    State sum("accumulated", sum_);
    Var before = g.state(sum) * g.scalar("accumulated", gradients.dtype());  // 0 for the first batch of an update
    total = before + gradients * (1.0 / double(options_.accumulate));
    if (!into.updates) g.assign(sum, total);
  }
  Var norm = sqrt(sum_squares(total));
  sound.push_back(norm);
  if (into.updates) {
    Var used = total;
    if (options_.clip_norm > 0) used = total * cast(minimum(options_.clip_norm / (norm + 1e-6), 1.0), total.dtype());
    optimizer_.record(g, used);
    if (ema_) ema_->record(g);
  }
  Var all = all_sound(sound);  // all that reads data comes before
  g.guard_assigns(all);
  g.assign(State("gradients", gradients_), gradients);
  std::vector<Var> results{loss, norm, all};
  for (auto& [name, v] : outputs.more) {
    g.check_own(v, "the step's output '" + name + "'");
    into.outputs.push_back(name);
    results.push_back(v);
  }
  into.plan = compile(results, options_.compile);
  into.names = fed_names(g);
}

double TrainStep::learning_rate() const { return optimizer_.base_lr() * options_.schedule(optimizer_.steps()); }

Plan& TrainStep::plan() {
  if (!last_) throw ValueError("TrainStep: no batch has run yet");
  return last_->plan;
}

StepResult TrainStep::operator()(const Batch& batch) {
  settle();
  follow();
  const bool first = pending_ == 0, updates = pending_ + 1 == options_.accumulate;
  last_ = nullptr;
  Traced& t = trace(batch, updates);
  feeds_.clear();
  for (const std::string& name : t.names) feeds_.emplace_back(name, batch[name]);
  run_.seed = mix64(options_.seed * 0x9e3779b97f4a7c15ull + uint64_t(batches_));
  run_.scalars.clear();
  if (sum_.defined()) run_.scalars.emplace_back("accumulated", first ? 0.0 : 1.0);
  if (updates) optimizer_.numbers(options_.schedule(optimizer_.steps()), run_);
  t.plan.run(feeds_, run_, results_);
  last_ = &t;
  ++batches_;
  pending_ = updates ? 0 : pending_ + 1;
  if (updates) optimizer_.advance();
  settled_ = false;
  if (model_.flat().device().host()) settle();
  return StepResult(this);
}

// Reads what the last step left. A step that is not finite has changed nothing, so it does not count.
void TrainStep::settle() {
  if (settled_) return;
  settled_ = true;
  loss_value_ = results_[0].item();
  norm_ = results_[1].item();
  const bool sound = results_[2].item() != 0;
  if (sound) return;
  --batches_;
  pending_ = (last_->updates ? options_.accumulate : pending_) - 1;
  if (last_->updates) optimizer_.advance(-1);
  auto is = [](double x) { return std::isnan(x) ? " is NaN" : " is infinite"; };
  const std::string what = !std::isfinite(loss_value_) ? std::string("loss") + is(loss_value_)
                           : !std::isfinite(norm_)     ? std::string("norm of the gradient") + is(norm_)
                                                       : "next value of a buffer is not finite";
  throw NumericError(
      fmt::format("the {} at step {}: {}", what, optimizer_.steps(), last_->plan.diagnose(feeds_, run_)));
}

Tensor TrainStep::output(const std::string& name) const {
  const std::vector<std::string>& have = last_->outputs;
  const auto found = std::find(have.begin(), have.end(), name);
  if (found == have.end())
    throw ValueError(fmt::format("TrainStep: the step's function gave no output '{}' ({})", name,
                                 have.empty() ? "it gave the loss only" : fmt::format("{}", fmt::join(have, ", "))));
  return results_[size_t(3 + (found - have.begin()))];
}

double TrainStep::gradient_norm() {
  settle();
  return norm_;
}

Tensor TrainStep::gradients() const { return results_.size() ? gradients_.contiguous_copy() : Tensor(); }

Tensor TrainStep::gradient(const Parameter& wanted) const {
  int64_t at = 0;
  for (const Parameter* p : trained_) {
    const int64_t end = at + p->shape().numel();
    if (p == &wanted && results_.size()) return gradients_.slice(0, at, end).contiguous_copy().reshaped(p->shape());
    at = end;
  }
  throw ValueError("TrainStep has no gradient of '" + wanted.name() + "'");
}

std::map<std::string, Tensor> TrainStep::state() {
  settle();
  follow();
  std::map<std::string, Tensor> s;
  for (auto& [name, t] : model_.state_dict()) s["model." + name] = t;
  for (auto& [name, t] : optimizer_.state()) s["optimizer." + name] = t;
  if (ema_) s["ema"] = ema_->shadow();
  if (sum_.defined()) {
    s["accumulated"] = sum_;
    s["pending"] = Tensor::from<int64_t>({pending_, options_.accumulate});
  }
  s["batches"] = Tensor::from<int64_t>({batches_});
  return s;
}

void TrainStep::load_state(const std::map<std::string, Tensor>& state) {
  std::map<std::string, Tensor> model, optimizer;
  for (auto& [name, t] : state) {
    if (name.starts_with("model.")) model[name.substr(6)] = t;
    if (name.starts_with("optimizer.")) optimizer[name.substr(10)] = t;
  }
  auto own = this->state();
  if (!state.contains("pending")) own.erase("pending");  // version 0.1.0 wrote none
  std::string wrong;
  auto apart = [](const std::string& name) { return name.starts_with("optimizer."); };  // the optimiser checks its own
  for (auto& [name, t] : own)
    if (!apart(name) && (!state.contains(name) || !state.at(name).defined() || !(state.at(name).shape() == t.shape())))
      wrong += "\n  " + name + " " + t.shape().str();
  for (auto& [name, t] : state)
    if (!apart(name) && !own.contains(name)) wrong += "\n  unexpected " + name;
  if (!wrong.empty()) throw ValueError("this training state does not fit:" + wrong);
  const int64_t batches = count_in("batches", state.at("batches"));
  int64_t pending = batches % options_.accumulate;
  if (own.contains("pending")) {
    pending = count_in("pending", state.at("pending"), 0);
    const int64_t of = count_in("pending", state.at("pending"), 1);
    if (pending >= of || (pending > 0 && of != options_.accumulate))
      throw ValueError(
          fmt::format("this training state was saved after {} of {} batches of an update, here an update "
                      "takes {}",
                      pending, of, options_.accumulate));
  }
  optimizer_.load_state(optimizer);  // the last check: nothing has changed before, and nothing fails after
  model_.load_state_dict(model);
  if (ema_) ema_->shadow().copy_from(state.at("ema"));
  if (sum_.defined()) sum_.copy_from(state.at("accumulated"));
  batches_ = batches;
  pending_ = pending;
}

}  // namespace whence::nn
