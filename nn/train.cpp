#include "nn/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ops/ops.h"

namespace whence::nn {

struct TrainStep::Traced {
  struct Tensors {  // of the batch
    std::string name;
    TensorType type;
  };
  std::vector<Tensors> signature;
  bool updates;  // else it only adds to the accumulated gradients
  Graph graph;
  explicit Traced(const GraphOptions& options) : graph(options) {}
  Plan plan;
  std::vector<std::string> names;  // batch tensors that the graph reads
  bool fits(const Batch& batch, bool u) const {
    return u == updates && std::equal(signature.begin(), signature.end(), batch.tensors.begin(), batch.tensors.end(),
                                      [](const Tensors& a, const auto& b) {
                                        return a.name == b.first && a.type.dtype == b.second.dtype() &&
                                               a.type.shape == b.second.shape();
                                      });
  }
};

double StepResult::loss() const {
  step_->settle();
  return step_->loss_value_;
}

TrainStep::TrainStep(Module& model, OptimizerConfig optimizer, Loss loss, TrainOptions options)
    : model_((model.to(options.compile.device), model)),
      loss_(std::move(loss)),
      options_(std::move(options)),
      optimizer_(model, std::move(optimizer), options_.groups) {
  if (options_.accumulate < 1)
    throw ValueError("TrainStep: accumulate must be at least 1, got " + std::to_string(options_.accumulate));
  if (options_.ema_decay > 0) ema_ = std::make_unique<Ema>(model, options_.ema_decay);
  if (options_.accumulate == 1) return;
  int64_t n = 0;
  for (Parameter* p : model.parameters()) n += p->trainable() ? p->shape().numel() : 0;
  sum_ = Tensor::zeros({n}, model.flat().dtype()).to(model.flat().device());
}
TrainStep::~TrainStep() = default;

// The whole step on one graph. Whatever is assigned keeps its old value when loss or gradient norm are not finite, or
// when the batch holds what a kernel refuses.
TrainStep::Traced& TrainStep::trace(const Batch& batch, bool updates) {
  auto found = std::find_if(traced_.begin(), traced_.end(), [&](auto& t) { return t->fits(batch, updates); });
  if (found != traced_.end()) {
    traced_.splice(traced_.begin(), traced_, found);
    return *traced_.front();
  }
  auto fresh = std::make_unique<Traced>(options_.graph);
  fresh->updates = updates;
  for (auto& [name, t] : batch.tensors) fresh->signature.push_back({name, {t.shape(), t.dtype()}});
  Graph& g = fresh->graph;
  Var loss = loss_(g, batch);
  if (loss.numel() != 1) throw ShapeError("TrainStep: the loss must be a scalar, got " + loss.shape().str());
  loss = reshape(loss, {});
  Var gradients = pack(grad(loss, model_)), total = gradients;
  if (sum_.defined()) {
    State sum("accumulated", sum_);
    Var before = g.state(sum) * g.scalar("accumulated", gradients.dtype());  // 0 for the first batch of an update
    total = before + gradients * (1.0 / double(options_.accumulate));
    if (!updates) g.assign(sum, total);
  }
  Var norm = sqrt(sum_squares(total));
  if (updates) {
    Var used = total;
    if (options_.clip_norm > 0) used = total * cast(minimum(options_.clip_norm / (norm + 1e-6), 1.0), total.dtype());
    optimizer_.record(g, used);
    if (ema_) ema_->record(g);
  }
  g.guard_assigns(all_sound({loss, norm}));  // all that reads data comes before these two
  fresh->plan = compile({loss, norm, gradients}, options_.compile);
  for (auto& [name, id] : g.named_inputs())
    if (!g.attrs(g.producer(id)).flag("scalar")) fresh->names.push_back(name);
  traced_.push_front(std::move(fresh));
  if (traced_.size() > kMaxSignatures) traced_.pop_back();
  return *traced_.front();
}

double TrainStep::learning_rate() const { return optimizer_.base_lr() * options_.schedule(optimizer_.steps()); }

Plan& TrainStep::plan() {
  if (!last_) throw ValueError("TrainStep: no batch has run yet");
  return last_->plan;
}

StepResult TrainStep::operator()(const Batch& batch) {
  settle();
  const bool first = batches_ % options_.accumulate == 0, updates = (batches_ + 1) % options_.accumulate == 0;
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
  if (std::isfinite(loss_value_) && std::isfinite(norm_)) return;
  --batches_;
  if (last_->updates) optimizer_.advance(-1);
  const bool loss = !std::isfinite(loss_value_);
  throw NumericError(fmt::format("the {} is {} at step {}: {}", loss ? "loss" : "norm of the gradient",
                                 loss ? loss_value_ : norm_, optimizer_.steps(), last_->plan.diagnose(feeds_, run_)));
}

double TrainStep::gradient_norm() {
  settle();
  return norm_;
}

Tensor TrainStep::gradients() const { return results_.size() ? results_[2] : Tensor(); }

Tensor TrainStep::gradient(const Parameter& wanted) const {
  int64_t at = 0;
  for (const Parameter* p : model_.parameters()) {
    const int64_t end = p->trainable() ? at + p->shape().numel() : at;
    if (p == &wanted && end > at && results_.size()) return gradients().slice(0, at, end).reshaped(p->shape());
    at = end;
  }
  throw ValueError("TrainStep has no gradient of '" + wanted.name() + "'");
}

std::map<std::string, Tensor> TrainStep::state() {
  settle();
  std::map<std::string, Tensor> s;
  for (auto& [name, t] : model_.state_dict()) s["model." + name] = t;
  for (auto& [name, t] : optimizer_.state()) s["optimizer." + name] = t;
  if (ema_) s["ema"] = ema_->shadow();
  if (sum_.defined()) s["accumulated"] = sum_;
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
  std::string wrong;
  auto apart = [](const std::string& name) { return name.starts_with("optimizer."); };  // the optimiser checks its own
  for (auto& [name, t] : own)
    if (!apart(name) && (!state.contains(name) || !(state.at(name).shape() == t.shape())))
      wrong += "\n  " + name + " " + t.shape().str();
  for (auto& [name, t] : state)
    if (!apart(name) && !own.contains(name)) wrong += "\n  unexpected " + name;
  if (!wrong.empty()) throw ValueError("this training state does not fit:" + wrong);
  optimizer_.load_state(optimizer);
  model_.load_state_dict(model);
  if (ema_) ema_->shadow().copy_from(state.at("ema"));
  if (sum_.defined()) sum_.copy_from(state.at("accumulated"));
  batches_ = int64_t(state.at("batches").item());
}

}  // namespace whence::nn
