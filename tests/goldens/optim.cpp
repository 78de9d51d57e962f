// hf/core/optim/*: parameters, a gradient per step, the parameters after every step and the state at the end.
#include <cmath>

#include "whence/nn/optim.h"
#include "whence/nn/schedule.h"
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
  auto real = [&](const char* key, double otherwise) {
    return c.contains(key) && c.at(key).is_number() ? c.at(key).get<double>() : otherwise;
  };
  auto beta = [&](size_t i, double otherwise) {
    return c.contains("betas") ? c.at("betas").at(i).get<double>() : otherwise;
  };
  auto on = [&](const char* key) { return c.contains(key) && c.at(key).is_boolean() && c.at(key).get<bool>(); };
  if (on("maximize") || (on("decoupled_weight_decay") && !name.starts_with("adamw")))
    throw OpsMissing("optimiser " + name);
  auto is = [&](const char* kind) { return name == kind || name.starts_with(std::string(kind) + "_"); };
  double lr = real("lr", 0), decay = real("weight_decay", 0), b1 = beta(0, 0), b2 = beta(1, 0), eps = real("eps", 0),
         momentum = real("momentum", 0);
  if (is("adamw")) return nn::AdamW{lr, b1, b2, eps, decay, on("amsgrad")};
  if (is("adam")) return nn::Adam{lr, b1, b2, eps, decay, on("amsgrad")};
  if (is("nadam")) return nn::NAdam{lr, b1, b2, eps, decay, real("momentum_decay", 0)};
  if (is("radam")) return nn::RAdam{lr, b1, b2, eps, decay};
  if (is("adamax")) return nn::Adamax{lr, b1, b2, eps, decay};
  if (is("adagrad")) return nn::Adagrad{lr, real("lr_decay", 0), eps, decay, real("initial_accumulator_value", 0)};
  if (is("adadelta")) return nn::Adadelta{lr, real("rho", 0), eps, decay};
  if (is("rmsprop")) return nn::RMSprop{lr, real("alpha", 0), eps, decay, momentum, on("centered")};
  if (is("sgd")) return nn::SGD{lr, momentum, real("dampening", 0), decay, on("nesterov")};
  if (is("lion")) return nn::Lion{lr, b1, b2, decay};
  throw OpsMissing("optimiser " + name);
}

// "cosine_T20_min0.001", "multistep_4_9_gamma0.1", "onecycle_linear_pct0.4", ...: {schedule, learning rate at factor
// 1}.
std::optional<std::pair<nn::Schedule, double>> schedule(const std::string& key, double base, int64_t steps) {
  auto after = [&](const char* word, double otherwise) {
    size_t at = key.find(word);
    return at == key.npos ? otherwise : std::atof(key.c_str() + at + std::string(word).size());
  };
  if (key.starts_with("cosine"))
    return {{nn::cosine_schedule(int64_t(after("_T", double(steps))), 0, after("_min", 0) / base), base}};
  if (key.starts_with("warmup"))
    return {{nn::cosine_schedule(int64_t(after("_cosine", double(steps))), int64_t(after("warmup", 0)), 0), base}};
  if (key.starts_with("exponential")) return {{nn::exponential_schedule(after("exponential_", 1)), base}};
  if (key.starts_with("polynomial"))
    return {{nn::polynomial_schedule(int64_t(after("_", double(steps))), after("polynomial", 1)), base}};
  if (key.starts_with("step")) return {{nn::step_schedule(int64_t(after("step", 1)), after("_gamma", 0.1)), base}};
  if (key.starts_with("multistep")) {
    std::vector<int64_t> milestones;
    const char* at = key.c_str() + std::string("multistep").size();
    for (char* end = nullptr; *at == '_' && std::isdigit(at[1]); at = end)
      milestones.push_back(std::strtoll(at + 1, &end, 10));
    return {{nn::multistep_schedule(milestones, after("_gamma", 0.1)), base}};
  }
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
      flat.slice(0, at, at + tensors[i].second.numel())
          .copy_from(file.tensor("input.grad." + std::to_string(k) + "." + tensors[i].first, dtype)
                         .reshaped({tensors[i].second.numel()}));
    }
    norms.push_back(nn::gradient_norm(flat));
    double factor =
        c.contains("lrs") && c.at("lrs").is_array() ? c.at("lrs").at(size_t(k)).get<double>() / opt.base_lr() : 1;
    opt.step(flat, factor, nn::clip_factor(norms.back(), clip));
    for (size_t i = 0; i < tensors.size(); ++i) {
      std::string key = "output.step" + std::to_string(k + 1) + "." + tensors[i].first;
      check.compare(key, model.list[i]->tensor(), file.tensor(key, f64), tolerance(key));
    }
  }
  if (file.has("output.grad_norm"))
    check.compare("output.grad_norm", Tensor::from(norms), file.tensor("output.grad_norm", f64),
                  tolerance("output.grad_norm"));
  auto state = opt.state();
  for (const auto& e : file.data.entries()) {
    if (!e.name.starts_with("output.state.")) continue;
    std::string rest = e.name.substr(13);
    size_t dot = rest.find('.');
    std::string moment = rest.substr(0, dot), name = rest.substr(dot + 1);
    auto it = state.find(moment);
    if (it == state.end()) throw OpsMissing("optimiser state " + moment);
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (tensors[i].first != name) continue;
      int64_t at = model.offset(*model.list[i]);
      check.compare(e.name, it->second.slice(0, at, at + tensors[i].second.numel()).reshaped(tensors[i].second.shape()),
                    file.tensor(e.name, f64), tolerance(e.name));
    }
  }
}

}  // namespace whence::goldens
