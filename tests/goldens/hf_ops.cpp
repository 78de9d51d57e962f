// Runs a case of op/* or ref/*: outputs, loss, and gradients of every tensor that has one.
#include "tests/goldens/hf_ops.h"

#include <cmath>

namespace whence::goldens {
namespace {

const Builder& find(const std::string& name) {
  const Builder* best = nullptr;
  size_t length = 0;
  for (const Table* t : {&elementwise_cases(), &shape_cases(), &layer_cases(), &convolution_cases(), &loss_cases(),
                         &algebra_cases(), &scan_cases(), &cell_cases()}) {
    if (auto it = t->find(name); it != t->end()) return it->second;
    for (const auto& [key, builder] : *t)
      if (key.ends_with('*') && key.size() > length && name.starts_with(key.substr(0, key.size() - 1)))
        best = &builder, length = key.size();
  }
  if (!best) throw OpsMissing(name);
  return *best;
}

}  // namespace

double f32_tolerance(const File& file, const std::string& key, double base) {
  Json dev = file.json("f32_rel_dev");
  double worst = 0;
  if (dev.is_object()) {
    if (dev.contains(key) && dev.at(key).is_number()) worst = dev.at(key).get<double>();
    else
      for (const auto& [name, v] : dev.items())
        if (v.is_number() && !dev.contains(key)) worst = std::max(worst, v.get<double>());
  }
  return std::max(base, 10 * worst);
}

void run_operator(const File& file, DType dtype, Check& check) {
  const std::string& which = file.meta("case");
  bool reference = which.starts_with("ref/");
  OpCase o{file, which.substr(which.find('/') + 1), dtype, file.json("config"), Graph(), {}, {}};
  Outputs out = find(o.name)(o);
  // The reference's derivative of hardsigmoid multiplies by one sixth in single precision.
  bool sixth = o.name == "unary/hardsigmoid";
  auto tolerance = [&](const std::string& key) {
    return dtype == f64 ? (sixth && key.starts_with("grad.") ? 1e-7
                           : reference                       ? 1e-10
                                                             : 1e-12)
                        : f32_tolerance(file, key, 1e-5);
  };
  struct Wanted {
    std::string key;
    Var v;
  };
  std::vector<Wanted> wanted;
  Var loss;
  for (const auto& e : file.data.entries()) {
    if (e.name.starts_with("output.")) {
      auto it = out.find(e.name.substr(7));
      if (it == out.end()) throw OpsMissing("output " + e.name.substr(7) + " of " + o.name);
      wanted.push_back({e.name, it->second});
    }
    if (e.name.starts_with("cot.")) {
      Var v = out.at(e.name.substr(4)),
          term = sum(v * o.g.constant(file.tensor(e.name, dtype).reshaped(v.shape()).contiguous_tensor()));
      loss = loss.defined() ? loss + term : term;
    }
  }
  if (loss.defined()) {
    std::vector<Var> wrt;
    std::vector<std::string> keys;
    for (const auto& e : file.data.entries()) {
      if (!e.name.starts_with("grad.")) continue;
      std::string name = e.name.substr(5), key = name.starts_with("input.") ? name : "param." + name;
      if (!o.values.count(key)) o(key.substr(6));
      wrt.push_back(o.values.at(key));
      keys.push_back(e.name);
    }
    if (file.has("loss")) wanted.push_back({"loss", loss});
    std::vector<Var> d = grad(loss, wrt);
    for (size_t i = 0; i < d.size(); ++i) wanted.push_back({keys[i], d[i]});
  }
  std::vector<Var> vars;
  for (const Wanted& w : wanted) vars.push_back(w.v);
  Feeds feeds;
  for (const auto& [name, t] : o.feeds) feeds.emplace_back(name, t);
  Results r = compile(vars).run(feeds);
  for (size_t i = 0; i < wanted.size(); ++i) {
    Tensor want = file.tensor(wanted[i].key, f64);
    // A loss is a sum of terms that may cancel: its scale is that of the terms.
    check.compare(wanted[i].key, r[i].shape() == want.shape() ? r[i] : r[i].reshaped(want.shape()), want,
                  tolerance(wanted[i].key), wanted[i].key == "loss" ? std::max(1.0, std::fabs(want.item())) : -1);
  }
}

}  // namespace whence::goldens
