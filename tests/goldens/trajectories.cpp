// train/*: ten steps of a small model through nn::TrainStep: loss and gradient norm of every step, the first gradient,
// the parameters after the first and the last step.
#include <algorithm>
#include <cmath>

#include "whence/nn/layers.h"
#include "whence/nn/train.h"
#include "whence/ops/conv.h"
#include "tests/goldens/models.h"

namespace whence::goldens {

namespace {

nn::OptimizerConfig optimiser(const Json& c) {
  auto real = [&](const char* key, double otherwise) {
    return c.contains(key) && c.at(key).is_number() ? c.at(key).get<double>() : otherwise;
  };
  if (c.value("amsgrad", false) || c.value("maximize", false)) throw OpsMissing("optimiser with amsgrad or maximize");
  if (c.value("optimizer", "AdamW") == "AdamW")
    return nn::AdamW{c.at("lr").get<double>(), c.at("betas").at(0).get<double>(), c.at("betas").at(1).get<double>(),
                     real("eps", 1e-8), real("weight_decay", 0.01)};
  if (c.at("optimizer") == "SGD")
    return nn::SGD{c.at("lr").get<double>(), real("momentum", 0), real("dampening", 0), real("weight_decay", 0),
                   c.value("nesterov", false)};
  throw OpsMissing("optimiser " + c.at("optimizer").get<std::string>());
}

// conv 3x3, batch norm, relu; the same with stride 2; mean over space; linear.
struct Cnn : nn::Module {
  Cnn(const File& file, DType dtype)
      : conv1(parameter("conv1.weight", file.data.entry("param.conv1.weight").shape, nn::Init::zeros())),
        bn1(*this, "bn1", conv1.shape()[0]),
        conv2(parameter("conv2.weight", file.data.entry("param.conv2.weight").shape, nn::Init::zeros())),
        bn2(*this, "bn2", conv2.shape()[0]),
        fc(*this, "fc", conv2.shape()[0], file.data.entry("param.fc.weight").shape[0]) {
    init(0, dtype);
    std::map<std::string, Tensor> state;
    for (nn::Parameter* p : states()) state[p->name()] = file.tensor("param." + p->name(), dtype);
    load_state_dict(state);
  }
  Var operator()(Var x) const {
    Graph& g = x.graph();
    x = relu(bn1(conv(x, conv1.in(g), {}, {.padding = {1}})));
    x = relu(bn2(conv(x, conv2.in(g), {}, {.stride = {2}, .padding = {1}})));
    return fc(mean(x, {2, 3}));
  }
  nn::Parameter& conv1;
  nn::BatchNorm bn1;
  nn::Parameter& conv2;
  nn::BatchNorm bn2;
  nn::Linear fc;
};

struct Trajectory {
  const File& file;
  DType dtype;
  Check& check;
  nn::Module& model;
  nn::TrainStep::Loss loss;
  Json config = file.json("config"), final_deviation = file.json("f32_final_abs_dev");
  std::map<std::string, Tensor> gradient = {};  // of step 0, as stored
  double largest_gradient = 0, moved = 0;       // `moved`: sum of the learning rates so far

  double tolerance(const std::string& key) const { return dtype == f64 ? 1e-6 : f32_tolerance(file, key, 1e-4); }

  // Adam makes full steps out of the rounding noise of a gradient that is exactly zero (key biases of attention, the
  // input gate's bias of an sLSTM): in f32 such elements may wander by the learning rate in every step, all others must
  // agree.
  void parameters(const std::string& prefix) {
    bool adam = config.value("optimizer", "AdamW") == "AdamW";
    for (const nn::Parameter* p : model.states()) {
      const std::string& name = p->name();
      std::string key = prefix + name;
      if (!file.has(key)) continue;
      Tensor want = file.tensor(key, f64), got = p->tensor().to(f64).contiguous_copy();
      double *x = got.data<double>(), *y = want.data<double>(), largest = 0;
      const double* g = gradient.contains(name) ? gradient.at(name).data<double>() : nullptr;
      for (int64_t i = 0; i < want.numel(); ++i) {
        largest = std::max(largest, std::fabs(y[i]));
        bool noise = dtype == f32 && adam && g && std::fabs(g[i]) <= 1e-6 * largest_gradient;
        if (noise && std::fabs(x[i] - y[i]) <= 2 * moved) x[i] = y[i];
      }
      double relative = tolerance("parameters"),
             documented = std::min(final_deviation.is_object() ? final_deviation.value(name, 0.0) : 0.0, 2e-5);
      check.compare(key, got, want,
                    dtype == f64 ? relative : std::max(relative, 10 * documented / std::max(largest, 1e-30)));
    }
  }

  void run() {
    auto learning_rates = config.contains("lrs") && config.at("lrs").is_array()
                              ? config.at("lrs").get<std::vector<double>>()
                              : std::vector<double>();
    double base = config.at("lr").get<double>(),
           clip = config.contains("clip") && config.at("clip").is_number() ? config.at("clip").get<double>() : 0;
    auto rate = [&](int64_t step) {
      return learning_rates.empty() ? base : learning_rates[std::min(size_t(step), learning_rates.size() - 1)];
    };
    std::vector<nn::ParameterGroup> groups;
    if (config.contains("no_decay"))
      for (const Json& name : config.at("no_decay")) groups.push_back({name.get<std::string>(), 1, 0});
    else groups = nn::no_decay_on_vectors(model);

    std::vector<Batch> batches;
    for (const auto& e : file.data.entries()) {
      if (!e.name.starts_with("input.")) continue;
      std::string rest = e.name.substr(6);
      size_t dot = rest.find('.'), index = std::stoul(rest.substr(0, dot));
      if (batches.size() <= index) batches.resize(index + 1);
      batches[index].tensors[rest.substr(dot + 1)] = file.tensor(e.name, dtype);
    }
    for (const nn::Parameter* p : model.parameters())
      if (file.has("grad." + p->name())) {
        Tensor t = gradient[p->name()] = file.tensor("grad." + p->name(), f64);
        for (double v : t.to_vector<double>()) largest_gradient = std::max(largest_gradient, std::fabs(v));
      }

    nn::TrainStep step(model, optimiser(config), loss,
                       {.clip_norm = clip, .schedule = [&](int64_t s) { return rate(s) / base; }, .groups = groups});
    std::vector<double> losses, norms;
    int64_t steps = config.at("steps").get<int64_t>();
    for (int64_t s = 0; s < steps; ++s) {
      losses.push_back(step(batches[size_t(s) % batches.size()]));
      norms.push_back(step.gradient_norm());
      moved += rate(s);
      if (s > 0) continue;
      for (const nn::Parameter* p : model.parameters()) {
        if (!gradient.contains(p->name())) continue;
        check.compare("grad." + p->name(), step.gradient(*p), gradient.at(p->name()), tolerance("step0_grad"),
                      largest_gradient);
      }
      parameters("output.step1.");
    }
    parameters("output.final.");
    auto compare = [&](const char* key, const std::vector<double>& got) {
      std::string stored = std::string("output.") + key;
      if (file.has(stored))
        check.compare(stored, Tensor::from(got), file.tensor(stored, f64).reshaped({int64_t(got.size())}),
                      tolerance(key));
    };
    compare("losses", losses);
    compare("grad_norms", norms);
    compare("final_loss", {step(batches[0])});
  }
};

}  // namespace

void run_trajectory(const File& file, DType dtype, Check& check) {
  auto input = [](Graph& g, const Batch& b, const std::string& name) {
    return g.input(name, b[name].shape(), b[name].dtype());
  };
  if (file.has("param.conv1.weight")) {
    Cnn model(file, dtype);
    return Trajectory{
        file, dtype, check, model,
        [&](Graph& g, const Batch& b) { return cross_entropy(model(input(g, b, "x")), input(g, b, "y")); }}
        .run();
  }
  GoldenModel built = build_model(file, dtype);
  Trajectory{file, dtype, check, *built.module,
             [&](Graph& g, const Batch& b) {
               Var ids = input(g, b, "input_ids");
               return models::next_token_loss(built.run({.ids = ids}).logits, ids);
             }}
      .run();
}

}  // namespace whence::goldens
