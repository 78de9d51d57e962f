// hf/core/optim/*: parameters, a gradient per step, the parameters after every step and the state at the end.
#include <cmath>

#include "nn/optim.h"
#include "tests/goldens/runner.h"

namespace whence::goldens {

namespace {

struct Held : nn::Module {
  std::vector<nn::Parameter*> list;
  Held(const std::vector<std::pair<std::string, Tensor>>& tensors, DType dtype) {
    for (const auto& [name, t] : tensors) list.push_back(&parameter(name, t.shape(), nn::Init::zeros()));
    init(0, dtype);
    for (size_t i = 0; i < list.size(); ++i) list[i]->tensor().copy_from(tensors[i].second);
  }
};

nn::OptimizerConfig optimiser(const Json& c) {
  std::string name = c.at("optimizer").get<std::string>();
  auto real = [&](const char* key, double otherwise) { return c.contains(key) && c.at(key).is_number() ? c.at(key).get<double>() : otherwise; };
  auto beta = [&](size_t i, double otherwise) { return c.contains("betas") ? c.at("betas").at(i).get<double>() : otherwise; };
  auto on = [&](const char* key) { return c.contains(key) && c.at(key).is_boolean() && c.at(key).get<bool>(); };
  if (on("amsgrad") || on("maximize")) throw OpsMissing("optimiser " + name);
  if (name.starts_with("adamw")) return nn::AdamW{real("lr", 1e-3), beta(0, 0.9), beta(1, 0.999), real("eps", 1e-8), real("weight_decay", 0.01)};
  if (name == "adam" || name.starts_with("adam_")) return nn::Adam{real("lr", 1e-3), beta(0, 0.9), beta(1, 0.999), real("eps", 1e-8), real("weight_decay", 0)};
  if (name.starts_with("sgd")) return nn::SGD{real("lr", 0.01), real("momentum", 0), real("dampening", 0), real("weight_decay", 0), on("nesterov")};
  if (name.starts_with("lion")) return nn::Lion{real("lr", 1e-4), beta(0, 0.9), beta(1, 0.99), real("weight_decay", 0)};
  throw OpsMissing("optimiser " + name);
}

// "cosine_T20_min0.001", "warmup5_cosine20", "onecycle_linear_pct0.4", "onecycle_max1_20": {schedule, learning rate at factor 1}.
std::optional<std::pair<nn::Schedule, double>> schedule(const std::string& key, double base, int64_t steps) {
  auto after = [&](const char* word, double otherwise) {
    size_t at = key.find(word);
    return at == key.npos ? otherwise : std::atof(key.c_str() + at + std::string(word).size());
  };
  if (key.starts_with("cosine")) return {{nn::cosine_schedule(int64_t(after("_T", double(steps))), 0, after("_min", 0) / base), base}};
  if (key.starts_with("warmup")) return {{nn::cosine_schedule(int64_t(after("_cosine", double(steps))), int64_t(after("warmup", 0)), 0), base}};
  if (key.starts_with("onecycle_linear")) return {{nn::one_cycle(steps, after("_pct", 0.3), 25, 1e4, false), 0.5}};
  if (key.starts_with("onecycle_max")) return {{nn::one_cycle(steps, 0.3), after("_max", 1)}};
  return {};
}

void run_schedules(const File& file, DType dtype, Check& check) {
  Json c = file.json("config");
  double base = c.at("base_lr").get<double>();
  int64_t steps = c.at("steps").get<int64_t>();
  std::string absent;
  for (const auto& e : file.data.entries()) {
    if (!e.name.starts_with("output.")) continue;
    auto s = schedule(e.name.substr(7), base, steps);
    if (!s) {
      absent += " " + e.name.substr(7);
      continue;
    }
    std::vector<double> lr;
    for (int64_t k = 0; k < steps; ++k) lr.push_back(s->second * s->first(k));
    check.compare(e.name, Tensor::from(lr), file.tensor(e.name, f64), dtype == f64 ? 1e-12 : 1e-6);
  }
  if (!absent.empty() && !check.failed) throw OpsMissing("schedules" + absent + " (the others agree)");
}

}  // namespace

void run_optimiser(const File& file, DType dtype, Check& check) {
  if (file.meta("case") == "optim/schedules") return run_schedules(file, dtype, check);
  Json c = file.json("config");
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& e : file.data.entries())
    if (e.name.starts_with("param.")) tensors.emplace_back(e.name.substr(6), file.tensor(e.name, dtype));
  nn::OptimizerConfig config = optimiser(c);
  Held model(tensors, dtype);
  std::vector<nn::ParameterGroup> groups;
  if (c.contains("no_decay"))
    for (const Json& name : c.at("no_decay")) groups.push_back({name.get<std::string>(), 1, 0});
  nn::Optimizer opt(model, config, groups);
  double clip = c.contains("clip") && c.at("clip").is_number() ? c.at("clip").get<double>() : 0;
  auto tolerance = [&](const std::string& key) { return dtype == f64 ? 1e-12 : f32_tolerance(file, key, 1e-5); };
  std::vector<double> norms;
  int64_t steps = c.at("steps").get<int64_t>();
  for (int64_t k = 0; k < steps; ++k) {
    Tensor flat = Tensor::empty({model.flat().numel()}, dtype);
    for (size_t i = 0; i < tensors.size(); ++i) {
      int64_t at = model.offset(*model.list[i]);
      flat.slice(0, at, at + tensors[i].second.numel()).copy_from(file.tensor("input.grad." + std::to_string(k) + "." + tensors[i].first, dtype).reshaped({tensors[i].second.numel()}));
    }
    if (clip > 0) norms.push_back(nn::clip_by_norm(flat, clip));
    double factor = c.contains("lrs") && c.at("lrs").is_array() ? c.at("lrs").at(size_t(k)).get<double>() / opt.base_lr() : 1;
    opt.step(flat, factor);
    for (size_t i = 0; i < tensors.size(); ++i) {
      std::string key = "output.step" + std::to_string(k + 1) + "." + tensors[i].first;
      check.compare(key, model.list[i]->tensor(), file.tensor(key, f64), tolerance(key));
    }
  }
  if (file.has("output.grad_norm")) check.compare("output.grad_norm", Tensor::from(norms), file.tensor("output.grad_norm", f64), tolerance("output.grad_norm"));
  auto state = opt.state();
  for (const auto& e : file.data.entries()) {
    if (!e.name.starts_with("output.state.")) continue;
    std::string rest = e.name.substr(13);
    size_t dot = rest.find('.');
    std::string moment = rest.substr(0, dot), name = rest.substr(dot + 1);
    auto it = state.find(moment == "momentum_buffer" ? "exp_avg" : moment);
    if (it == state.end()) throw OpsMissing("optimiser state " + moment);
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (tensors[i].first != name) continue;
      int64_t at = model.offset(*model.list[i]);
      check.compare(e.name, it->second.slice(0, at, at + tensors[i].second.numel()).reshaped(tensors[i].second.shape()), file.tensor(e.name, f64), tolerance(e.name));
    }
  }
}

}  // namespace whence::goldens
