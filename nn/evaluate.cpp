#include "whence/nn/evaluate.h"

#include "whence/nn/batch_signature.h"

namespace whence::nn {

struct EvalStep::Traced {
  BatchSignature signature;
  Graph graph;
  Plan plan;
  std::vector<std::string> names, outputs;  // of what is fed and what is given
  explicit Traced(const GraphOptions& options) : graph(options) {}
};

EvalStep::EvalStep(Module& model, Fn fn, EvalOptions options)
    : model_(model), fn_(std::move(fn)), options_(std::move(options)) {
  if (!fn_) throw ValueError("EvalStep: the function is empty");
  model_.to(options_.compile.device);
}

EvalStep::Results EvalStep::operator()(const Batch& batch) {
  auto make = [&] {
    auto fresh = std::make_shared<Traced>(options_.graph);
    fresh->signature = BatchSignature(batch, "EvalStep");
    std::vector<Var> values;
    for (auto& [name, v] : fn_(fresh->graph, batch)) {
      fresh->graph.check_own(v, "EvalStep: '" + name + "'");
      fresh->outputs.push_back(name);
      values.push_back(v);
    }
    if (values.empty()) throw ValueError("EvalStep: the function gives nothing");
    fresh->plan = compile(values, options_.compile);
    fresh->names = fed_names(fresh->graph);
    return fresh;
  };
  const auto traced = traced_.get([&](const Traced& t) { return t.signature == batch; }, make);
  Feeds feeds;
  for (const std::string& name : traced->names) feeds.emplace_back(name, batch[name]);
  whence::Results out = traced->plan.run(feeds, {.seed = options_.seed});
  Results named;
  for (size_t k = 0; k < traced->outputs.size(); ++k) named[traced->outputs[k]] = out[k];
  return named;
}

EvalStep::Results EvalStep::over(DataLoader& loader) {
  std::map<std::string, std::vector<Tensor>> parts;
  std::map<std::string, double> sums;
  double samples = 0;
  for (Batch& batch : loader.epoch()) {
    const double count = double(batch.samples.size());
    samples += count;
    for (auto& [name, t] : (*this)(batch)) {
      if (t.rank() == 0) sums[name] += count * t.item();
      else parts[name].push_back(t.to(Device{}));
    }
  }
  Results all;
  for (auto& [name, sum] : sums) all[name] = Tensor::scalar(sum / samples, f64);
  for (auto& [name, list] : parts) {
    Shape shape = list[0].shape();
    shape[0] = 0;
    for (const Tensor& t : list) {
      Shape same = t.shape();
      same[0] = 0;
      Shape want = shape;
      want[0] = 0;
      if (!(same == want))
        throw ShapeError("EvalStep: '" + name + "' is " + list[0].shape().str() + " in one batch and " +
                         t.shape().str() + " in another");
      shape[0] += t.size(0);
    }
    Tensor whole = Tensor::empty(shape, list[0].dtype());
    for (int64_t at = 0; const Tensor& t : list) {
      whole.slice(0, at, at + t.size(0)).copy_from(t);
      at += t.size(0);
    }
    all[name] = whole;
  }
  return all;
}

DataLoader in_order(Dataset dataset, int64_t size) {
  return DataLoader(std::move(dataset), {.batch_size = size, .shuffle = false});
}

}  // namespace whence::nn
