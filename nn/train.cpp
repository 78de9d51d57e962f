#include "nn/train.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "tensor/parallel.h"

namespace whence::nn {

struct TrainStep::Traced {
  Graph graph;
  Plan plan;
  std::vector<std::string> names;  // batch tensors that the graph reads
  std::vector<Parameter*> moved;   // results after the loss: what update() asked for
};

TrainStep::TrainStep(Module& model, OptimizerConfig optimizer, Loss loss, TrainOptions options)
    : model_(model),
      loss_(std::move(loss)),
      options_(std::move(options)),
      optimizer_(model, optimizer, options_.groups) {
  if (options_.accumulate < 1)
    throw ValueError("TrainStep: accumulate must be at least 1, got " + std::to_string(options_.accumulate));
  Tensor flat = model.flat();
  gradients_ = Tensor::zeros(flat.shape(), flat.dtype());
  if (options_.accumulate > 1) sum_ = Tensor::zeros(flat.shape(), flat.dtype());
  if (options_.ema_decay > 0) ema_ = std::make_unique<Ema>(model, options_.ema_decay);
}
TrainStep::~TrainStep() = default;

TrainStep::Traced& TrainStep::trace(const Batch& batch) {
  std::string signature;
  for (auto& [name, t] : batch.tensors)
    signature += fmt::format("{} {} {};", name, name_of(t.dtype()), t.shape().str());
  auto& slot = traced_[signature];
  if (slot) return *slot;
  auto fresh = std::make_unique<Traced>();
  UpdateListener updates;
  Var loss = loss_(fresh->graph, batch);
  if (loss.numel() != 1) throw ShapeError("TrainStep: the loss must be a scalar, got " + loss.shape().str());
  CompileOptions compile_options = options_.compile;
  std::vector<Var> outputs{loss};
  for (auto& [p, value] : updates.heard) {
    outputs.push_back(value);
    fresh->moved.push_back(p);
  }
  std::vector<Var> d = grad(loss, model_);
  size_t i = 0;
  size_t item = size_of(gradients_.dtype());
  int64_t at = 0;
  for (Parameter* p : model_.parameters()) {
    if (p->trainable()) {
      outputs.push_back(d[i]);
      compile_options.bind.emplace_back(
          d[i++], Tensor::wrap(gradients_.buffer(), size_t(at) * item, p->shape(), gradients_.dtype()));
    }
    at += p->shape().numel();
  }
  fresh->plan = compile(outputs, compile_options);
  for (size_t n = 0; n < fresh->graph.node_count(); ++n) {
    const Node& node = fresh->graph.node(NodeId(n));
    if (node.op->name == "input") fresh->names.push_back(fresh->graph.attrs(node).text("name"));
  }
  slot = std::move(fresh);
  return *slot;
}

double TrainStep::learning_rate() const { return optimizer_.base_lr() * options_.schedule(optimizer_.steps()); }

Plan& TrainStep::plan() {
  if (!last_) throw ValueError("TrainStep: no batch has run yet");
  return last_->plan;
}

float TrainStep::operator()(const Batch& batch) {
  Traced& t = trace(batch);
  last_ = &t;
  Feeds feeds;
  for (const std::string& name : t.names) feeds.emplace_back(name, batch[name]);
  RunOptions run{.seed = mix64(options_.seed * 0x9e3779b97f4a7c15ull + uint64_t(batches_))};
  Results results = t.plan.run(feeds, run);
  double loss = results[0].item();
  if (!std::isfinite(loss))
    throw NumericError(
        fmt::format("the loss is {} at step {}: {}", loss, optimizer_.steps(), t.plan.diagnose(feeds, run)));
  for (size_t i = 0; i < t.moved.size(); ++i) t.moved[i]->tensor().copy_from(results[i + 1]);
  ++batches_;
  const Tensor* g = &gradients_;
  if (options_.accumulate > 1) {
    bool first = (batches_ - 1) % options_.accumulate == 0;
    double share = 1.0 / double(options_.accumulate);
    auto add = [&](auto zero) {
      using T = decltype(zero);
      T* s = sum_.data<T>();
      const T* x = gradients_.data<T>();
      T c = T(share);
      cpu::parallel_for(sum_.numel(), cpu::kGrain, [&](int64_t b, int64_t e) {
        for (int64_t i = b; i < e; ++i) s[i] = (first ? T(0) : s[i]) + c * x[i];
      });
    };
    if (sum_.dtype() == f64) add(double{});
    else add(float{});
    if (batches_ % options_.accumulate) return float(loss);
    g = &sum_;
  }
  norm_ = nn::gradient_norm(*g);
  optimizer_.step(*g, options_.schedule(optimizer_.steps()), clip_factor(norm_, options_.clip_norm));
  if (ema_) ema_->update();
  return float(loss);
}

std::map<std::string, Tensor> TrainStep::state() {
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
  batches_ = state.at("batches").data<int64_t>()[0];
}

}  // namespace whence::nn
